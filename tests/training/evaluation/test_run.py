"""The evaluation's parts against plain computations, and the command on the real gallery."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytrec_eval
from PIL import Image

from models.common import paths
from models.common.errors import InputError
from models.retriever.build import build_index
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from tests.support.grape_server import GRAPE
from training.data.rows import Row
from training.evaluation.metrics import per_query, scored
from training.evaluation.queries import card_slices, described, slices_of
from training.evaluation.report.trec import write_all
from training.evaluation.results import ALL, MEAN_OF_LANGUAGES, Results
from training.evaluation.run import evaluate
from training.evaluation.settings import EvalSettings
from training.evaluation.statistics import Slice, compare, estimate, paired_p
from training.evaluation.systems import SYSTEMS, tasks_of


def test_metrics_are_trec_evals() -> None:
    rng = np.random.default_rng(0)
    top = [rng.permutation(50)[:20].tolist() for _ in range(40)]
    targets = [rng.choice(50, rng.integers(1, 4), replace=False).tolist() for _ in top]
    ours = per_query(top, targets)
    qrels = {str(q): {str(t): 1 for t in wanted} for q, wanted in enumerate(targets)}
    run = {str(q): scored(found) for q, found in enumerate(top)}
    judge = pytrec_eval.RelevanceEvaluator(qrels, {"success.1,5,10", "ndcg_cut.10"})
    for query, values in judge.evaluate(run).items():
        for ours_name, trec in (
            ("R@1", "success_1"), ("R@5", "success_5"), ("R@10", "success_10"),
            ("nDCG@10", "ndcg_cut_10"),
        ):  # fmt: skip
            assert ours[ours_name][int(query)] == pytest.approx(values[trec])
    first = [min((p for p, d in enumerate(found, 1) if d in wanted), default=99)
             for found, wanted in zip(top, targets, strict=True)]  # fmt: skip
    assert ours["MRR@10"].tolist() == pytest.approx([1 / p if p <= 10 else 0 for p in first])


def test_trec_files_are_read_by_the_library(tmp_path: Path) -> None:
    import ir_measures

    write_all(tmp_path, [["red fox.png"], ["b"]], {"direct": [["a", "red fox.png"], ["b", "a"]]})
    read: Any = ir_measures
    qrels = list(read.read_trec_qrels(str(tmp_path / "qrels.txt")))
    run = list(read.read_trec_run(str(tmp_path / "direct.run")))
    assert ir_measures.calc_aggregate([ir_measures.RR @ 10], qrels, run) == {
        ir_measures.RR @ 10: 0.75
    }


def test_the_interval_holds_what_it_should() -> None:
    """The intervals of about 95 % of 200 samples contain the known mean."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        found = estimate((rng.random(150) < 0.3).astype(float))
        inside += found.low <= 0.3 <= found.high
    assert 180 <= inside <= 198


def test_the_randomisation_test_is_exact_where_it_can_be() -> None:
    assert paired_p(np.array([1.0, 1, 1, 1, 0, 0])) == pytest.approx(2 / 16)
    assert paired_p(np.zeros(9)) == 1.0
    assert paired_p(np.array([1.0, -1, 1, -1])) == 1.0
    assert paired_p(np.ones(40)) < 0.001
    # Differences of unequal size are permuted; nearly equal ones give nearly the same p.
    signals = np.array([1.0] * 14 + [-1.0] * 6)
    nearly = signals * np.linspace(0.999, 1.001, 20)
    assert paired_p(nearly) == pytest.approx(paired_p(signals), abs=0.02)


def test_holm_corrects_over_the_slices() -> None:
    ours, theirs = np.array([1.0] * 8 + [0.0] * 8), np.zeros(16)
    parts = {ALL: range(16), "a": range(8), "b": range(8, 16)}
    slices = {name: Slice.of(positions) for name, positions in parts.items()}
    found = {c.slice: c for c in compare("direct", slices, ours, theirs)}
    assert found["a"].wins == 8
    assert found["b"].p_holm == 1.0
    assert found["a"].p == pytest.approx(2 / 2**8)
    assert found["a"].p_holm == pytest.approx(3 * 2 / 2**8)


def test_slices_of_a_query() -> None:
    rows = [
        Row(query="guitar", targets=("a",), language="en"),
        Row(query="eine alte Gitarre an der Wand", targets=("a",), language="de"),
    ]
    queries = [described(rows[0], False), described(rows[1], True)]
    assert {name: part.positions for name, part in slices_of(queries).items()} == {
        ALL: [0, 1],
        "other languages": [1],
        "short plain English": [0],
        "1-2 words": [0],
        "6 words and more": [1],
        "gate kept": [0],
        "gate rewritten": [1],
        "language de": [1],
        "language en": [0],
        "task multilingual": [0, 1],
    }


def test_gains_are_averaged_over_languages_with_an_interval() -> None:
    languages = ("de",) * 90 + ("fr",) * 10 + ("en",) * 5 + ("und",)
    rows = [Row(query="q", targets=("x",), language=language) for language in languages]
    rows.append(Row(query="q", targets=("x",), language="de", task="long"))
    slices = slices_of([described(row, True, card_slices) for row in rows[:105]])
    assert list(slices) == [ALL, MEAN_OF_LANGUAGES, "de", "en", "fr"]
    before, after = np.zeros(105), np.array([1.0] * 45 + [0.0] * 45 + [1.0] * 10 + [1.0] * 5)
    found = {c.slice: c for c in compare("frozen", slices, after, before)}
    gain = found[MEAN_OF_LANGUAGES].difference
    assert gain.value == pytest.approx(0.75)  # not .55: every language weighs the same
    assert 0.65 < gain.low < gain.value < gain.high < 0.85
    assert (found[MEAN_OF_LANGUAGES].queries, found[MEAN_OF_LANGUAGES].wins) == (100, 55)
    assert found[MEAN_OF_LANGUAGES].p < 0.001
    assert found["de"].difference.value == 0.5
    assert found["de"].difference.low < 0.5 < found["de"].difference.high
    assert found["fr"].difference == found["en"].difference == estimate(np.ones(2))
    # A language with one query counts too; another task's queries are not of a language.
    more = slices_of([described(row, True, card_slices) for row in rows])
    assert more[MEAN_OF_LANGUAGES].strata[-1] == (105,)
    assert more["long"].positions == [106]
    assert estimate(*more[MEAN_OF_LANGUAGES].values(np.append(after, [0, 1]))).value == 0.5
    alone = slices_of([described(row, True, card_slices) for row in rows[:90]])
    assert list(alone) == [ALL, "de"]


def test_a_weighted_randomisation_test_weighs_strata_alike() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.normal(0.5, 1, 20), rng.normal(0, 1, 400)
    repeated = np.repeat(small, 20)  # the same weight, but twenty times as many queries
    assert paired_p(small, large) > paired_p(repeated, large)
    assert paired_p(small) == paired_p(small * 20)


def test_every_system_has_its_own_prompt() -> None:
    prompts = {
        name: tasks_of(spec.prompt, None)["multilingual"].prompt("q")
        for name, spec in SYSTEMS.items()
        if spec.model == "frozen" and spec.finds == "one" and spec.by == "text"
    }
    assert len(set(prompts.values())) == len(prompts) == 3


def eval_command(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [str(GRAPE), "eval", *flags]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.mark.heavy
def test_the_command_compares_and_keeps_what_it_measured(tmp_path: Path) -> None:
    flags = ["--systems", '["direct","oracle"]', "--limit", "20", "--work", str(tmp_path / "work")]
    flags += ["--report", str(tmp_path / "report"), "--trec", str(tmp_path / "trec")]
    first = eval_command(*flags)
    assert first.returncode == 0, first.stderr
    results = Results.model_validate_json((tmp_path / "report" / "results.json").read_bytes())
    direct, oracle = results.systems
    english = "short plain English"
    assert direct.metrics[english]["R@10"].value > 0.9  # a short description is among them
    assert oracle.metrics[ALL]["R@10"].value > 0.95
    assert direct.metrics["language zh"]["R@10"].value < 0.1
    versus = next(c for c in oracle.comparisons if c.slice == ALL)
    assert versus.wins > 10 * versus.losses
    assert versus.p_holm < 0.01
    assert (tmp_path / "trec" / "oracle.run").is_file()
    kept = sorted((tmp_path / "work").iterdir())
    assert len(kept) == 2
    stamps = [path.stat().st_mtime_ns for path in kept]
    again = eval_command(*flags)
    assert [path.stat().st_mtime_ns for path in kept] == stamps
    assert again.stdout == first.stdout


def test_another_encoder_is_searched_in_its_own_index(
    demo_index: ImageIndex, tmp_path: Path
) -> None:
    """The same vectors in another order give the same results."""
    places = list(reversed(range(len(demo_index))))
    other = ImageIndex.build(
        demo_index.vectors()[places], [demo_index.ids[p] for p in places],
        [demo_index.metadata[p] for p in places], demo_index.manifest.encoder,
    )  # fmt: skip
    other.save(tmp_path / "other")
    settings = EvalSettings(
        systems=["direct"], encoders={"other": str(tmp_path / "other")}, limit=10,
        work=tmp_path / "work", trec=tmp_path / "trec",
    )  # fmt: skip
    direct, again = evaluate(settings).systems
    assert again.ranks == direct.ranks
    assert again.metrics == direct.metrics
    one, two = ((tmp_path / "trec" / f"{name}.run").read_text() for name in ("direct", "other"))
    assert one.replace(" direct\n", "\n") == two.replace(" other\n", "\n")


def test_another_encoder_by_its_name_indexes_the_same_pictures(
    encoder: ClipEncoder, tmp_path: Path
) -> None:
    pictures = {}
    for colour in ("red", "green", "blue"):
        pictures[colour] = tmp_path / "pictures" / f"{colour}.png"
        pictures[colour].parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), colour).save(pictures[colour])
    index, _ = build_index(pictures, tmp_path / "pictures", encoder)
    index.save(tmp_path / "index")
    rows = [{"query": f"a {name} square", "targets": [name], "split": "test"} for name in pictures]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = EvalSettings(
        data=str(tmp_path / "rows.jsonl"), index=tmp_path / "index", systems=["direct"],
        encoders={"same": paths.ENCODER}, work=tmp_path / "work",
    )  # fmt: skip
    direct, same = evaluate(settings).systems
    assert same.ranks == direct.ranks
    assert same.target_similarity == pytest.approx(direct.target_similarity)
    unnamed = EvalSettings(data="demo", systems=["direct"], encoders={"none": "no-such-model"},
                           limit=1, work=tmp_path / "work")  # fmt: skip
    with pytest.raises(InputError, match="no-such-model"):
        evaluate(unnamed)


@pytest.mark.heavy
def test_ranks_of_the_command_are_the_services(tmp_path: Path) -> None:
    """`grape search` shows the picture at the rank that the evaluation reports."""
    rows = [{"query": "guitar", "targets": ["1F3B8"], "split": "test", "language": "en"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = eval_command(
        "--data", str(tmp_path / "rows.jsonl"), "--systems", '["direct"]',
        "--work", str(tmp_path / "work"), "--report", str(tmp_path / "report"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = Results.model_validate_json((tmp_path / "report" / "results.json").read_bytes())
    shown = subprocess.run(
        [GRAPE, "search", "guitar", "-k", "5", "--json", "--rewrite", "never"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    hits = [hit["id"] for hit in json.loads(shown.stdout)["hits"]]
    assert results.systems[0].ranks == [hits.index("1F3B8") + 1]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--systems", '["tund"]'], "there is no system 'tund'; did you mean tuned"),
        (["--systems", '["tuned"]', "--adapter", "none"], "needs an adapter"),
        (["--split", "nothing"], "has no rows of the split 'nothing'"),
        (["--data", "/no/such.jsonl"], "There is no data file"),
        (["--data", "flickr30k", "--folder", "/no/such"], "flickr30k-cn"),
    ],
)
def test_what_cannot_be_evaluated_is_one_sentence(
    flags: list[str], sentence: str, tmp_path: Path
) -> None:
    done = eval_command(*flags, "--work", str(tmp_path))
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
