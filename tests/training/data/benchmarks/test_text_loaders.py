"""The loaders of BRIGHT and R2MED, on small folders in their official layouts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from models.common.errors import InputError
from tests.support import text_benchmark_folders as fixtures
from tests.support.benchmark_folders import edit, refusal
from tests.support.text_benchmark_folders import (
    BIOLOGY,
    BLANK,
    EXAMPLES,
    HEAT,
    INSECTS,
    QUESTION,
    QUOTED,
    TEXTS,
)
from tests.support.text_corpus import minilm
from training.data.benchmarks import TEXT_LOADERS, bright, load, r2med
from training.data.benchmarks.files import Counts
from training.data.rows import Row
from training.evaluation.results import ALL
from training.evaluation.run import evaluate
from training.evaluation.settings import EvalSettings

WRITERS: dict[str, Callable[[Path], None]] = {
    "bright-biology": fixtures.bright,
    "r2med-biology": fixtures.r2med,
}


@pytest.mark.parametrize("name", WRITERS)
def test_documents_questions_and_what_is_right(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path)
    benchmark = load(name, tmp_path, check_counts=False)
    assert benchmark.texts == TEXTS  # as they are
    assert benchmark.pictures == {}
    question, warmth = benchmark.rows
    assert question.query == " ".join(QUESTION.split())
    assert (question.targets, warmth.targets) == ((INSECTS,), (HEAT, INSECTS))
    assert (question.task, warmth.task) == ("long", "multilingual")
    assert {(row.language, row.split) for row in benchmark.rows} == {("en", "test")}
    assert "iology: 4 documents, 2 queries. The authors report nDCG@10." in benchmark.about


def test_bright_leaves_out_what_it_excludes(tmp_path: Path) -> None:
    fixtures.bright(tmp_path)
    question, warmth = load("bright-biology", tmp_path, check_counts=False).rows
    assert question.excluded == (QUOTED,)  # the other one is not in the corpus
    assert warmth.excluded == ()
    # Rows of other data are written, and hashed, as before.
    assert "excluded" not in warmth.model_dump_json()
    assert Row.model_validate_json(question.model_dump_json()) == question


def test_every_part_has_a_name(tmp_path: Path) -> None:
    assert len(TEXT_LOADERS) == len(bright.COUNTS) + len(r2med.COUNTS) == 20
    assert {"bright-earth-science", "bright-theoremqa-theorems", "r2med-medqa-diag"} <= set(
        TEXT_LOADERS
    )
    assert "no documents/earth_science-*.parquet" in refusal("BRIGHT-Earth-Science", tmp_path)
    assert "no MedQA-Diag/corpus.jsonl" in refusal("r2med-MedQA-Diag", tmp_path)
    assert "did you mean bright-biology" in refusal("bright-biologie", tmp_path)


def test_counts_are_those_that_are_published() -> None:
    assert sum(counts.queries or 0 for counts in r2med.COUNTS.values()) == 876
    assert sum(counts.queries or 0 for counts in bright.COUNTS.values()) == 1384
    assert bright.COUNTS["biology"] == r2med.COUNTS["Biology"] == Counts(57_359, 103)


@pytest.mark.parametrize(("name", "module", "part"), [
    ("bright-biology", bright, "biology"), ("r2med-biology", r2med, "Biology"),
])  # fmt: skip
def test_counts_of_the_whole_corpus(
    name: str, module: object, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS[name](tmp_path)
    said = refusal(name, tmp_path, check_counts=True)
    assert "expected 57,359 documents and 103 queries, found 4 and 2" in said
    monkeypatch.setitem(getattr(module, "COUNTS"), part, Counts(4, 2))  # noqa: B009
    assert len(load(name, tmp_path).rows) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gold_ids": [QUOTED]}, f"row 1: entry: Value error, '{QUOTED}' is both"),
        ({"gold_ids": []}, "row 1: gold_ids: List should have at least 1 item"),
        ({"gold_ids": ["nothing"]}, "asks for 'nothing', which is not a document of the split"),
        ({"query": " "}, "row 1: query: String should have at least 1 character"),
        ({"excluded_ids": None}, "row 1: excluded_ids: Input should be a valid list"),
    ],
)
def test_a_broken_row_of_bright_is_named(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    fixtures.bright(tmp_path, [EXAMPLES[0] | change])
    assert said in refusal("bright-biology", tmp_path)


def test_a_broken_file_of_bright_is_named(tmp_path: Path) -> None:
    fixtures.bright(tmp_path, [{"id": "0", "query": QUESTION, "gold_ids": [INSECTS]}])
    assert f"{BIOLOGY}, row 1: excluded_ids: Field required" in refusal("bright-biology", tmp_path)
    (tmp_path / BIOLOGY).write_bytes(b"PAR2")
    assert f"{BIOLOGY}, whole file: not Parquet" in refusal("bright-biology", tmp_path)
    (tmp_path / BIOLOGY).unlink()
    said = refusal("bright-biology", tmp_path)
    assert "no examples/biology-*.parquet" in said
    assert f"{bright.PAGE} says where" in said


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("corpus", '"text"', '"content"', "line 1: text: Field required"),
        ("corpus", '{"id"', '{"id', "line 1: not JSON"),
        ("query", '"id": "1"', '"id": "2"', "query '2': no document is right"),
        ("qrels", f'"{HEAT}"', '"nothing"', "asks for 'nothing', which is not a document"),
        ("qrels", '"score": 2', '"score": "much"', "line 3: score: Input should be a valid int"),
    ],
)
def test_a_broken_line_of_r2med_is_named(
    file: str, old: str, new: str, said: str, tmp_path: Path
) -> None:
    fixtures.r2med(tmp_path)
    edit(tmp_path, f"Biology/{file}.jsonl", old, new)
    assert said in refusal("r2med-biology", tmp_path)


@pytest.mark.heavy
@pytest.mark.parametrize("name", WRITERS)
def test_a_corpus_is_evaluated_from_its_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From official files to numbers: texts indexed once, what is excluded left out."""
    WRITERS[name](tmp_path / "data")
    benchmark = load(name, tmp_path / "data", check_counts=False)
    monkeypatch.setattr("training.data.benchmarks.load", lambda *_: benchmark)
    settings = EvalSettings(
        data=name, folder=tmp_path / "data", encoder=minilm(), systems=["direct"],
        work=tmp_path / "work", trec=tmp_path / "trec",
    )  # fmt: skip
    results = evaluate(settings)
    assert results.corpus_size == 4
    lines = (tmp_path / "trec/direct.run").read_text().splitlines()
    found = [line.split()[2] for line in lines if line.split()[0] == "0"]
    excludes = name.startswith("bright")
    # The text that quotes the question is nearest to it.
    assert found[:2] == ([INSECTS, HEAT] if excludes else [QUOTED, INSECTS])
    assert len(found) == (3 if excludes else 4)
    (direct,) = results.systems
    assert direct.ranks == [1 if excludes else 2, 1]
    assert direct.metrics[ALL]["nDCG@10"].value > 0.7
    assert any("excludes" in note for note in results.notes) == excludes
    assert evaluate(settings).systems == results.systems
    assert BLANK in benchmark.texts


def test_a_corpus_of_texts_needs_an_encoder_of_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixtures.r2med(tmp_path)
    monkeypatch.setitem(r2med.COUNTS, "Biology", Counts(4, 2))
    settings = EvalSettings(
        data="r2med-biology", folder=tmp_path, systems=["direct"], work=tmp_path / "work"
    )
    with pytest.raises(InputError, match="--encoder sentence-transformers:FOLDER_OR_NAME"):
        evaluate(settings)
