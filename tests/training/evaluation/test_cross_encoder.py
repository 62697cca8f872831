"""Reranking by a cross-encoder: a real one, which is tiny and has random weights."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import grape
from models.common.errors import InputError
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.rewriter.protocol import Completion
from models.search.gate import Gate
from models.search.mixture import Mixture
from models.search.rerank import Comparison
from tests.support.app import COLOURS
from tests.support.tiny_cross_encoder import tiny_cross_encoder
from training.data.rows import Row
from training.evaluation.bench import Bench
from training.evaluation.costs import Paid
from training.evaluation.cross_encoder import PairModel
from training.evaluation.gallery import Gallery
from training.evaluation.measured import Fitted
from training.evaluation.settings import EvalSettings
from training.evaluation.systems import SYSTEMS, SystemSpec
from training.stages.sampling import Engine, Samples

LONG = "red green blue " * 9  # is cut

pytestmark = pytest.mark.heavy  # imports sentence-transformers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_cross_encoder(tmp_path_factory.mktemp("cross-encoder"))


def plain_logits(folder: Path, query: str, texts: Sequence[str]) -> list[float]:
    """Pair by pair, with transformers alone."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return [
            float(model(**tokenizer(query, text, truncation=True, return_tensors="pt")).logits)
            for text in texts
        ]


def test_scores_are_logits_and_tokens_are_those_that_are_read(folder: Path, tmp_path: Path) -> None:
    texts = ["a red square", "black", LONG]
    asked = Comparison("cross-encoder", "likelihood", "ein rotes Bild", texts)
    ((values, tokens, seconds),) = PairModel(str(folder)).scores([asked], tmp_path / "pairs.jsonl")
    assert values == pytest.approx(plain_logits(folder, asked.query, texts), abs=1e-5)
    assert len(set(values)) == 3
    # Two kinds of marks, [CLS] and twice [SEP]; the last pair is cut.
    assert tokens == (3 + 3 + 3) + (3 + 3 + 1) + 16
    assert seconds >= 0


def test_scores_are_kept_and_the_model_is_not_loaded_for_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "work" / "pairs.jsonl"
    asked = [Comparison("cross-encoder", "likelihood", q, ["red", "blue"]) for q in "abca"]
    found = PairModel(str(folder)).scores(asked, path)
    assert found[0] == found[3] != found[1]
    with open(path, "a") as file:
        file.write('\n["torn')
    monkeypatch.setattr(PairModel, "_model", property(lambda _: pytest.fail("it was loaded")))
    assert PairModel(str(folder)).scores(asked, path) == found


@pytest.mark.parametrize(
    ("labels", "head", "said"),
    [(3, True, "gives 3 scores for a pair"), (1, False, "without a head that scores pairs")],
)
def test_what_is_no_reranker_is_refused(labels: int, head: bool, said: str, tmp_path: Path) -> None:
    model = PairModel(str(tiny_cross_encoder(tmp_path / "model", labels, head)))
    asked = Comparison("cross-encoder", "likelihood", "a", ["red", "blue"])
    with pytest.raises(InputError, match=said):
        model.scores([asked], tmp_path / "pairs.jsonl")
    assert not (tmp_path / "pairs.jsonl").exists()


def test_no_such_model_and_no_package_are_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"'/no/such' cannot be found.*--cross-encoder"):
        PairModel("/no/such")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match="install the extra 'text'"):
        PairModel(str(folder))


def test_the_system_needs_the_name_of_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"query": "guitar", "targets": ["1F3B8"], "split": "test", "language": "en"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    flags = ["--data", str(tmp_path / "rows.jsonl"), "--systems", '["auto+cross-encoder"]']
    assert grape.run(["eval", *flags, "--work", str(tmp_path / "work")]) == 2
    assert "'auto+cross-encoder' needs a model: name it with --cross" in capsys.readouterr().err


def test_the_order_is_the_models_alone(
    folder: Path,
    small_index: Path,
    encoder: ClipEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def samples(self: Bench, spec: SystemSpec, rows: list[Row]) -> dict[Row, Samples]:
        return {
            row: Samples("a red square", (), 0.5, (Completion("a red square"),)) for row in rows
        }

    monkeypatch.setattr(Bench, "_samples", samples)
    monkeypatch.setattr(Bench, "_count", lambda _, texts: len(texts))
    rows = [
        Row(query="ein rotes Bild", targets=("blue.png",)),
        Row(query="?", targets=("red.png",)),
    ]
    index = ImageIndex.open(small_index, encoder.fingerprint)
    with Engine() as engine:
        bench = Bench(
            EvalSettings(work=tmp_path), rows, None, None, Fitted(Gate(), Mixture()), engine,
            PairModel(str(folder)),
        )  # fmt: skip
        monkeypatch.setattr(Bench, "_paid", lambda *_: Paid(1, 10, 4, 0.5))
        found = bench._measure(SYSTEMS["auto+cross-encoder"], Gallery(encoder, index, "cpu"))
    logits = dict(zip(COLOURS, plain_logits(folder, "ein rotes Bild", COLOURS), strict=True))
    best = sorted(COLOURS, key=lambda colour: -logits[colour])
    assert [index.ids[place] for place in found.top[0]] == [f"{colour}.png" for colour in best]
    assert found.ranks[0] == 1 + best.index("blue")
    assert found.first_probability == [None, None]
    # The second query has no letters and is not reranked.
    assert found.cost.prompts == (1 + 5) / 2
    assert found.cost.prompt_tokens == (10 + 5 * (3 + 3 + 1)) / 2
    assert found.cost.written_tokens == 2
    assert found.cost.llm_seconds >= 0.25
