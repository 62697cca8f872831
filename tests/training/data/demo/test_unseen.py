"""The demo's unseen languages: test pictures alone, and no name that other data has."""

from models.demo.gallery import LANGUAGES
from training.data.demo.keywords import known_names
from training.data.demo.unseen import UNSEEN_LANGUAGES
from training.data.rows import same_query
from training.data.sources import DEMO_UNSEEN, load_rows
from training.data.splits import split_of


def test_rows_are_names_of_test_pictures_in_every_unseen_language() -> None:
    rows = load_rows(DEMO_UNSEEN)
    assert {row.language for row in rows} == set(UNSEEN_LANGUAGES)
    assert {row.split for row in rows} == {"test"}
    assert all(split_of(target) == "test" for row in rows for target in row.targets)
    assert len(rows) == len({(row.language, row.targets) for row in rows}) > 4_000


def test_no_language_and_no_name_is_known_from_training() -> None:
    assert set(LANGUAGES).isdisjoint(UNSEEN_LANGUAGES)
    assert known_names().isdisjoint(same_query(row.query) for row in load_rows(DEMO_UNSEEN))
