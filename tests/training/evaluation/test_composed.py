"""Queries about a reference picture: left out of every ranking, the group ranked on its own."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import grape
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.pictures import read_picture
from models.retriever.types import Vectors
from models.search.fusion import Fusing
from tests.support.benchmark_folders import CIRR_CAPTIONS, write
from tests.support.vectors import unit_vectors
from training.data.benchmarks import cirr, load
from training.data.benchmarks.files import Counts
from training.evaluation.results import ALL, Results
from training.evaluation.retrieval import Question, retrieve
from training.rewards.ranking import TIE, Corpus

SYSTEMS = ["direct", "image", "image+text"]
SUBSET = {"R_subset@1": 1, "R_subset@2": 2, "R_subset@3": 3}
GROUP = ["guitar", "violin", "trumpet", "saxophone", "drum", "banana"]
OTHERS = ["elephant", "horse", "cat", "dog", "pizza", "bicycle", "snowman", "rocket"]
# Reference, target, caption: each names its target but for the last, which names the reference.
PAIRS = [
    ("guitar", "trumpet", "trumpet"),
    ("banana", "violin", "violin"),
    ("drum", "banana", "banana"),
    ("guitar", "violin", "guitar"),
]


def rank_among(scores: Vectors, targets: Sequence[int], others: Sequence[int]) -> int:
    """Word for word what is meant: ties count against."""
    best = max(scores[target] for target in targets)
    return 1 + sum(bool(scores[place] >= best - TIE) for place in set(others) - set(targets))


def plain_scores(pictures: Vectors, group: Vectors, out: set[int]) -> Vectors:
    """Of every picture for one query; those left out take no part."""
    cosines = pictures.astype(float) @ group.T
    if len(group) == 1:
        single: Vectors = cosines[:, 0]
        return single
    fused: Vectors = cosines.max(1) - 10  # what is in no list comes behind those that are
    for column in cosines.T:
        listed = [p for p in np.argsort(-column, kind="stable") if p not in out]
        for place, picture in enumerate(listed[:100], 1):
            # The steps are far smaller than what is a tie of cosines.
            fused[picture] = max(fused[picture], 0) + 1e6 / (60 + place)
    return fused


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(3, 130), st.integers(1, 2))
def test_ranks_lists_and_groups_are_those_of_a_plain_computation(
    seed: int, size: int, searches: int
) -> None:
    rng = np.random.default_rng(seed)
    pictures = unit_vectors(size, seed)
    if searches == 1:  # the same picture several times: ties; in a list their order is open
        pictures = pictures[rng.integers(0, size, size)]
    queries = np.split(unit_vectors(4 * searches, seed + 1), 4)
    targets, left_out, groups = [], [], []
    for _ in queries:
        drawn = rng.permutation(size).tolist()
        count = int(rng.integers(1, min(3, size - 1) + 1))
        targets.append(drawn[:count])
        left_out.append(drawn[count : count + int(rng.integers(0, 2))])
        groups.append([drawn[0], *drawn[count + 1 : count + 5]])
    questions = [
        Question(vectors, Fusing("rrf", 0.05), right, out, group)
        for vectors, right, out, group in zip(queries, targets, left_out, groups, strict=True)
    ]
    found = retrieve(Corpus.of(pictures), questions)
    assert found.subset_ranks is not None
    for q, (right, out, group) in enumerate(zip(targets, left_out, groups, strict=True)):
        scores = plain_scores(pictures, queries[q], set(out))
        there = sorted(set(range(size)) - set(out))
        assert found.ranks[q] == rank_among(scores, right, there)
        assert found.subset_ranks[q] == rank_among(scores, right, group)
        top = found.top[q]
        assert not set(top) & set(out)
        assert len(top) == len(set(top)) == min(100, len(there))
        places = [place for place, picture in enumerate(top, 1) if picture in right]
        assert places[:1] == ([found.ranks[q]] if found.ranks[q] <= 100 else [])


def test_a_picture_left_out_counts_as_if_it_were_not_there() -> None:
    """All that a ranking tells, the softmax and the mean of the others too."""
    pictures, texts = unit_vectors(40, 3), unit_vectors(6, 4)
    targets = [[p, p + 8] if p % 2 else [p] for p in range(1, 7)]
    whole = Corpus.of(pictures).rank(texts, targets, [[0]] * 6)
    fewer = Corpus.of(pictures[1:]).rank(texts, [[p - 1 for p in right] for right in targets])
    for name in set(whole._fields) - {"corpus_size"}:
        one, other = getattr(whole, name), getattr(fewer, name)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, err_msg=name)
    untouched = Corpus.of(pictures).rank(texts, targets)
    assert (untouched.random != whole.random).all()


def test_equal_scores_count_against_in_the_group_too() -> None:
    corpus = Corpus.of(np.repeat(unit_vectors(1), 9, axis=0))
    for searches in (1, 2):
        query = np.repeat(unit_vectors(1), searches, axis=0)
        found = retrieve(corpus, [Question(query, Fusing("rrf", 0.05), [3], [0], [1, 2, 3, 4, 5])])
        assert found.ranks.tolist() == [8]
        assert found.subset_ranks == [5]


@pytest.fixture(scope="module")
def drawings(demo_index: ImageIndex) -> dict[str, Path]:
    folder = Path(demo_index.manifest.pictures or "")
    return {item["name"]: folder / item["file"] for item in demo_index.metadata}


@pytest.fixture
def folder(drawings: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIRR's official layout, with drawings that the demo's encoder knows."""
    folder = tmp_path / "cirr"
    write_pairs(folder, PAIRS)
    split = {identity(name): f"./dev/{identity(name)}.png" for name in GROUP + OTHERS}
    write(folder, "image_splits/split.rc2.val.json", json.dumps(split))
    (folder / "img_raw/dev").mkdir(parents=True)
    for name in GROUP + OTHERS:
        read_picture(drawings[name], 224).save(folder / f"img_raw/dev/{identity(name)}.png")
    monkeypatch.setattr(cirr, "COUNTS", Counts(len(split), len(PAIRS)))
    return folder


def identity(name: str) -> str:
    return f"dev-{(GROUP + OTHERS).index(name)}-0-img0"


def write_pairs(folder: Path, pairs: list[tuple[str, str, str]]) -> None:
    entries = [
        {
            "pairid": number,
            "reference": identity(reference),
            "target_hard": identity(target),
            "target_soft": {identity(target): 1.0},
            "caption": caption,
            "img_set": {
                "id": 1,
                "members": [identity(name) for name in GROUP],
                "reference_rank": 1,
                "target_rank": 2,
            },
        }
        for number, (reference, target, caption) in enumerate(pairs)
    ]
    write(folder, CIRR_CAPTIONS, json.dumps(entries))


def run_eval(folder: Path, out: Path) -> Results:
    code = grape.run(
        ["eval", "--data", "cirr", "--folder", str(folder), "--systems", json.dumps(SYSTEMS),
         "--work", str(folder.parent / "work"), "--report", str(out), "--trec", str(out / "trec")]
    )  # fmt: skip
    assert code == 0
    return Results.model_validate_json((out / "results.json").read_bytes())


def plain_vectors(encoder: ClipEncoder, work: Path) -> dict[str, Vectors]:
    """Of the pictures, as the run's own index holds them."""
    (folder,) = work.glob("index-cirr-*")
    index = ImageIndex.open(folder, encoder.fingerprint)
    return dict(zip(index.ids, index.vectors(), strict=True))


def run_lists(path: Path) -> list[list[str]]:
    lists: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        query, _, picture, *_ = line.split()
        lists.setdefault(query, []).append(picture)
    return [lists[str(number)] for number in range(len(lists))]


def test_cirr_from_its_folder_to_the_report(
    folder: Path, tmp_path: Path, encoder: ClipEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    results = run_eval(folder, tmp_path / "out")
    assert [system.name for system in results.systems] == SYSTEMS
    vectors = plain_vectors(encoder, tmp_path / "work")
    rows = load("cirr", folder).rows
    for system in results.systems:
        listed = run_lists(tmp_path / "out/trec" / f"{system.name}.run")
        assert system.subset_ranks is not None
        for place, (row, found) in enumerate(zip(rows, listed, strict=True)):
            assert row.reference
            text, looks = encoder.encode_texts([row.query])[0], vectors[row.reference]
            asked = {"direct": text, "image": looks, "image+text": text + looks}[system.name]
            scores = {name: float(vector @ asked) for name, vector in vectors.items()}
            order = sorted(scores.keys() - {row.reference}, key=lambda name: -scores[name])
            target = row.targets[0]
            assert found == order  # all pictures but the reference
            assert system.ranks[place] == order.index(target) + 1
            of_group = [name for name in order if name in row.group]
            assert len(of_group) == 5
            assert system.subset_ranks[place] == of_group.index(target) + 1
        for metric, k in SUBSET.items():
            share = np.mean([rank <= k for rank in system.subset_ranks])
            estimate = system.metrics[ALL][metric]
            assert estimate.value == pytest.approx(share)
            assert estimate.low <= estimate.value <= estimate.high
    direct, image, both = results.systems
    # What names its target finds it, and the picture that the last query names is out of the way.
    assert direct.ranks[:3] == [1, 1, 1]
    assert direct.texts == [(caption,) for _, _, caption in PAIRS]
    assert image.texts == [(f"image {identity(reference)}",) for reference, _, _ in PAIRS]
    assert both.texts[0] == (f"image {identity('guitar')}", "trumpet")
    assert [query.reference for query in results.queries] == [identity(pair[0]) for pair in PAIRS]
    printed, page = capsys.readouterr().out, (tmp_path / "out/report.html").read_text()
    for shown in (printed, page):
        assert all(name in shown for name in SUBSET)
        assert "left out of every ranking" in shown
    cells = direct.metrics[ALL]["R_subset@1"]
    assert f"{cells.value:.3f} [{cells.low:.3f}, {cells.high:.3f}]" in printed


def test_another_reference_is_measured_anew(folder: Path, tmp_path: Path) -> None:
    before = run_eval(folder, tmp_path / "out")
    assert run_eval(folder, tmp_path / "again").systems == before.systems
    write_pairs(folder, [("saxophone", target, caption) for _, target, caption in PAIRS])
    after = run_eval(folder, tmp_path / "other")
    # No longer left out, the guitar is what the last query's words find first.
    assert before.systems[0].ranks[3] < after.systems[0].ranks[3]
    assert run_lists(tmp_path / "other/trec/direct.run")[3][0] == identity("guitar")
    assert before.systems[1].ranks != after.systems[1].ranks


def test_other_vectors_under_the_same_ids_are_measured_anew(
    demo_index: ImageIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"query": "guitar", "targets": ["1F3B8"], "split": "test", "language": "en"}]
    write(tmp_path, "rows.jsonl", json.dumps(rows[0]))
    ranks = []
    for name, vectors in (("one", demo_index.vectors()), ("two", demo_index.vectors()[::-1])):
        ImageIndex.build(
            np.ascontiguousarray(vectors), demo_index.ids, demo_index.metadata,
            demo_index.manifest.encoder,
        ).save(tmp_path / name)  # fmt: skip
        flags = ["--data", str(tmp_path / "rows.jsonl"), "--index", str(tmp_path / name)]
        flags += ["--work", str(tmp_path / "work"), "--report", str(tmp_path / "report")]
        assert grape.run(["eval", *flags, "--systems", '["direct"]']) == 0
        written = (tmp_path / "report/results.json").read_text()
        ranks += Results.model_validate_json(written).systems[0].ranks
    assert ranks[0] == 1 < ranks[1]
    # Data without references have nothing of theirs in any output.
    page = (tmp_path / "report/report.html").read_text()
    for shown in (written, page, capsys.readouterr().out):
        assert not any(word in shown for word in ("ubset", '"reference"', "left out"))


@pytest.mark.heavy
@pytest.mark.parametrize("system", ["image", "image+text"])
def test_a_picture_is_searched_with_only_where_there_is_one(
    system: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = grape.run(["eval", "--systems", json.dumps([system]), "--work", str(tmp_path)])
    said = capsys.readouterr().err
    assert code == 2
    assert said.count("\n") == 1
    assert f"The system '{system}' needs queries with a reference picture" in said
    assert not list(tmp_path.iterdir())
