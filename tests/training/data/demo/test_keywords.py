"""The demo's keywords: no split knows another one's, and none is a name."""

from models.demo.gallery import LANGUAGES
from training.data.demo.composed import all_rows
from training.data.demo.keywords import keyword_rows
from training.data.demo.names_and_descriptions import gallery
from training.data.rows import same_query
from training.data.sources import DEMO_KEYWORDS, load_rows
from training.data.splits import check_leakage, split_of


def test_rows_cover_every_split_and_language() -> None:
    rows = load_rows(DEMO_KEYWORDS)
    assert {row.split for row in rows} == {"train", "validation", "test"}
    assert {row.language for row in rows} == set(LANGUAGES)
    assert len(rows) == len({(row.language, same_query(row.query)) for row in rows}) > 30_000
    assert any(len(row.targets) > 1 for row in rows)


def test_nothing_leaks_among_the_splits_or_from_the_other_data() -> None:
    rows = keyword_rows()
    assert all(split_of(target) == row.split for row in rows for target in row.targets)
    check_leakage([*all_rows(), *rows])


def test_no_keyword_is_a_name() -> None:
    names = {same_query(name) for record in gallery() for name in record["names"].values()}
    assert names.isdisjoint(same_query(row.query) for row in keyword_rows())
