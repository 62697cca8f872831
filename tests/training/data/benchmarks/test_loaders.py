"""The benchmarks' loaders, each on a small folder in its data set's official layout."""

from pathlib import Path

import pytest

from models.common.errors import InputError
from models.retriever.pictures import read_picture
from tests.support import benchmark_folders as fixtures
from tests.support.benchmark_folders import MODULES, WRITERS, refusal, small
from training.data.benchmarks import LOADERS, flickr30k_cn, load, xm3600
from training.data.benchmarks.files import Counts
from training.evaluation.run import evaluate
from training.evaluation.settings import EvalSettings


def test_every_benchmark_has_its_test_rows_and_pictures_that_open(tmp_path: Path) -> None:
    assert WRITERS.keys() == LOADERS.keys()
    for name in LOADERS:
        benchmark = small(name, tmp_path / name)
        assert benchmark.rows
        assert {row.split for row in benchmark.rows} == {"test"}
        assert {t for row in benchmark.rows for t in row.targets} <= benchmark.pictures.keys()
        assert all(read_picture(path).size == (4, 3) for path in benchmark.pictures.values())
        assert f"{len(benchmark.pictures)} pictures, {len(benchmark.rows)} quer" in benchmark.about


def test_flickr30k_cn_loses_its_part_of_speech_tags(tmp_path: Path) -> None:
    benchmark = small("flickr30k-cn", tmp_path)
    first, orange, dog = benchmark.rows
    assert first.query == "一个戴着Bud Light帽子的男人，"
    assert (first.targets, first.language) == (("1007129816",), "zh")
    assert (orange.query, orange.task) == ("一只橙色的帽子", "multilingual")
    assert dog.targets == ("1009434119",)
    assert set(benchmark.pictures) == {"1007129816", "1009434119"}  # not of the other splits


def test_flickr30k_cn_as_chinese_clip_packs_it(tmp_path: Path) -> None:
    fixtures.chinese_clip(tmp_path)
    benchmark = load("flickr30k-cn", tmp_path, check_counts=False)
    assert [row.query for row in benchmark.rows] == ["一只黑白的狗", "户外"]
    assert benchmark.rows[1].targets == ("1009434119", "1007129816")
    unpacked = benchmark.pictures["1009434119"]
    assert unpacked == tmp_path / "test_imgs/1009434119.jpg"
    assert read_picture(unpacked).size == (4, 3)
    unpacked.write_bytes(b"kept")
    load("flickr30k-cn", tmp_path, check_counts=False)
    assert unpacked.read_bytes() == b"kept"  # unpacked once


def test_cvlue_one_query_for_the_same_caption_of_two_pictures(tmp_path: Path) -> None:
    benchmark = small("cvlue", tmp_path)
    panda, cow = benchmark.pictures
    assert {row.query: row.targets for row in benchmark.rows} == {
        "四只熊猫在地上玩耍": (panda,),
        "户外的动物": (panda, cow),
        "草地上站着三头牛": (cow,),
    }
    assert {row.language for row in benchmark.rows} == {"zh"}


@pytest.mark.parametrize("test_file", ["test_gold/IC/IC_test_gold.json", "IC/gold.json"])
def test_cvlue_by_the_other_names_and_places(test_file: str, tmp_path: Path) -> None:
    fixtures.cvlue(tmp_path)
    (tmp_path / test_file).parent.mkdir(parents=True)
    (tmp_path / fixtures.CVLUE_TEST).rename(tmp_path / test_file)
    (tmp_path / "pics/images").rename(tmp_path / "images")
    (tmp_path / "pics").rmdir()
    assert len(load("cvlue", tmp_path, check_counts=False).rows) == 3


def test_xm3600_every_caption_of_36_languages(tmp_path: Path) -> None:
    benchmark = small("xm3600", tmp_path)
    assert len(benchmark.rows) == 2 * (35 * 2 + 1)
    assert len({row.language for row in benchmark.rows}) == 36
    row = next(row for row in benchmark.rows if row.query == "quz 74f94963ee1e135d 1")
    assert (row.language, row.targets) == ("quz", ("74f94963ee1e135d",))
    assert [r.language for r in benchmark.rows].count("bn") == 2


@pytest.mark.heavy
def test_xm3600_by_name_is_mtebs_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixtures.xm3600_hub(tmp_path / "hub", ("de", "ja"))
    monkeypatch.setattr(xm3600, "HUB", str(tmp_path / "hub"))
    monkeypatch.setattr(xm3600, "COUNTS", Counts(pictures=2, queries=8))
    settings = EvalSettings(
        data="xm3600", languages=["ja"], systems=["direct"], work=tmp_path / "work"
    )
    results = evaluate(settings)
    assert [query.query for query in results.queries] == [
        f"ja {key} {number}"
        for key in ("d89a4889331ce042", "74f94963ee1e135d")
        for number in (0, 1)
    ]
    assert results.corpus_size == 2
    kept = tmp_path / "work/xm3600/images/d89a4889331ce042.jpg"
    assert kept.read_bytes() == fixtures.picture_bytes("JPEG")


def test_xm3600_by_name_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no language 'xx'; it has ar bn"):
        xm3600.load_hub(tmp_path, ["xx"])
    monkeypatch.setattr(xm3600, "HUB", str(tmp_path / "none"))
    with pytest.raises(InputError, match=f"--folder; {xm3600.PAGE} has them"):
        xm3600.load_hub(tmp_path, ["de"])
    fixtures.xm3600_hub(tmp_path / "hub", ("de",))
    monkeypatch.setattr(xm3600, "HUB", str(tmp_path / "hub"))
    with pytest.raises(InputError, match="expected 3,600 pictures, found 2"):
        xm3600.load_hub(tmp_path, ["de"])


def test_wikipedia_is_long_text_whatever_its_length(tmp_path: Path) -> None:
    benchmark = small("wikipedia", tmp_path)
    art, war = benchmark.rows
    assert art.query == 'Rembrandt & his pupils painted "it".'
    assert (war.query, war.task, war.targets) == ("The battle.", "long", ("bbbb",))
    assert benchmark.pictures["bbbb"] == tmp_path / "images/warfare/bbbb.jpg"
    assert {row.language for row in benchmark.rows} == {"en"}


def test_cirr_reference_and_group(tmp_path: Path) -> None:
    benchmark = small("cirr", tmp_path)
    (row,) = benchmark.rows
    assert row.query == "show three bottles of soft drink"
    assert row.reference == "dev-4-0-img0"
    assert row.targets == ("dev-2-0-img0",)
    assert row.group == tuple(f"dev-{number}-0-img0" for number in (0, 1, 2, 3, 5))
    assert len(benchmark.pictures) == 7  # the one outside the group too
    with pytest.raises(ValueError, match="frozen"):
        row.reference = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", LOADERS)
def test_counts_of_the_whole_split(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = small(name, tmp_path)
    expected, page = MODULES[name].COUNTS, MODULES[name].PAGE
    sentence = refusal(name, tmp_path, check_counts=True)
    assert f"expected {expected.pictures:,} pictures" in sentence
    assert f"found {len(benchmark.pictures)}" in sentence
    assert page in sentence

    right = Counts(len(benchmark.pictures), expected.queries and len(benchmark.rows))
    monkeypatch.setattr(MODULES[name], "COUNTS", right)
    assert load(name, tmp_path).rows == benchmark.rows
    if expected.queries is not None:
        monkeypatch.setattr(MODULES[name], "COUNTS", Counts(right.pictures, 99))
        assert "and 99 queries" in refusal(name, tmp_path, check_counts=True)


def test_counts_are_those_that_the_data_sets_give() -> None:
    assert {name: (m.COUNTS.pictures, m.COUNTS.queries) for name, m in MODULES.items()} == {
        "flickr30k-cn": (1000, 5000),
        "cvlue": (8973, None),
        "xm3600": (3600, 261375),
        "wikipedia": (693, 693),
        "cirr": (2297, 4181),
    }


@pytest.mark.parametrize(("name", "relative"), fixtures.FILES)
def test_a_missing_file_and_where_it_is_available(name: str, relative: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    (tmp_path / relative).unlink()
    sentence = refusal(name, tmp_path)
    assert f" no {relative}:" in sentence
    assert f"{MODULES[name].PAGE} says where" in sentence
    assert "licence" in sentence


@pytest.mark.parametrize("name", LOADERS)
def test_a_missing_picture(name: str, tmp_path: Path) -> None:
    benchmark = small(name, tmp_path)
    path = list(benchmark.pictures.values())[-1]
    path.unlink()
    sentence = refusal(name, tmp_path)
    assert f"1 of {len(benchmark.pictures)} pictures" in sentence
    assert str(path.relative_to(tmp_path)) in sentence
    page = flickr30k_cn.PICTURES_PAGE if name == "flickr30k-cn" else MODULES[name].PAGE
    assert page in sentence


@pytest.mark.parametrize(("name", "relative", "old", "new", "said"), fixtures.BROKEN)
def test_a_broken_line_is_named(
    name: str, relative: str, old: str, new: str, said: str, tmp_path: Path
) -> None:
    WRITERS[name](tmp_path)
    fixtures.edit(tmp_path, relative, old, new)
    assert f"{relative}, {said}" in refusal(name, tmp_path)


def test_broken_lines_of_chinese_clip(tmp_path: Path) -> None:
    fixtures.chinese_clip(tmp_path)
    fixtures.edit(tmp_path, "test_imgs.tsv", "\n1007129816\t", "\n1007129816\tA")
    assert "test_imgs.tsv, line 2: not base64" in refusal("flickr30k-cn", tmp_path)
    fixtures.edit(tmp_path, "test_imgs.tsv", "1009434119\t", "1009434119 ")
    assert "test_imgs.tsv, line 1: a picture's id" in refusal("flickr30k-cn", tmp_path)
    fixtures.edit(tmp_path, "test_texts.jsonl", "[1009434119]", "[]")
    assert "test_texts.jsonl, line 1: image_ids" in refusal("flickr30k-cn", tmp_path)


@pytest.mark.parametrize(
    ("name", "relative"), [("xm3600", "captions.jsonl"), ("cirr", fixtures.CIRR_CAPTIONS)]
)
def test_a_file_that_is_not_utf_8(name: str, relative: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    path = tmp_path / relative
    path.write_bytes(path.read_bytes().replace(b'"', b'"\xff', 1))
    assert "not UTF-8" in refusal(name, tmp_path)


def test_a_target_outside_the_gallery(tmp_path: Path) -> None:
    fixtures.cirr(tmp_path)
    fixtures.edit(tmp_path, fixtures.CIRR_CAPTIONS, '"dev-0-0-img0"', '"dev-9-0-img0"')
    assert "'dev-9-0-img0', which is not a picture of the split" in refusal("cirr", tmp_path)


def test_an_unknown_name_gives_the_nearest(tmp_path: Path) -> None:
    assert "did you mean flickr30k-cn?" in refusal("flickr30k", tmp_path)
    assert "did you mean cirr?" in refusal("cir", tmp_path)
    assert "there are flickr30k-cn, cvlue, xm3600, wikipedia, cirr, bri" in refusal("zzz", tmp_path)
    assert "cirr.zip is not a folder" in refusal("CIRR", tmp_path / "cirr.zip")


@pytest.mark.heavy
@pytest.mark.parametrize("name", LOADERS)
def test_every_benchmark_is_evaluated_from_its_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From official files to numbers: pictures indexed once, all queries asked."""
    benchmark = small(name, tmp_path / "data")
    monkeypatch.setattr("training.data.benchmarks.load", lambda *_: benchmark)
    settings = EvalSettings(
        data=name, folder=tmp_path / "data", systems=["direct"], work=tmp_path / "work"
    )
    results = evaluate(settings)
    assert results.corpus_size == len(benchmark.pictures)
    assert len(results.queries) == len(benchmark.rows)
    # Every gallery here has fewer than ten pictures.
    assert results.systems[0].metrics["all"]["R@10"].value == 1
    assert evaluate(settings).systems == results.systems
