"""What the stages decide: lessons, the dry run's words, batches, intervals, samples kept."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.common.errors import InputError
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.rewriter.protocol import OnText, Prompt, Sampling
from models.rewriter.tasks import MULTILINGUAL, TASKS
from training import pipeline
from training.data.rows import Row
from training.evaluation.slices import AVERAGE, gain_interval, slices
from training.rewards.ranking import Corpus
from training.rewards.scorer import Retriever, Scorer
from training.settings import TrainSettings
from training.stages import dry_run
from training.stages.grpo import by_task
from training.stages.sampling import NOTHING, Samples, sample_rewrites
from training.stages.warm_start import choose_sft_examples

GUITAR = Row(query="ギター", targets=("1F3B8",), language="ja")
HORSE = Row(query="caballo", targets=("1F40E",), language="es")


@pytest.fixture(scope="module")
def scorer(encoder: ClipEncoder, demo_index: ImageIndex) -> Scorer:
    return Scorer(Retriever(encoder, demo_index, Corpus.of(demo_index.vectors())))


def test_the_best_ranked_sample_is_the_lesson(scorer: Scorer) -> None:
    samples = {
        GUITAR: Samples(" drum", (" piano", " guitar", " a man", " guitar\n", "")),
        HORSE: Samples(" wall", (" a door", " window, door, wall, roof, street")),
    }
    (sft_example,) = choose_sft_examples(scorer, samples, worst_rank=5)
    assert (sft_example.row, sft_example.rewrite, sft_example.rank) == (GUITAR, "guitar", 1)


def test_of_equal_ranks_the_one_written_more_often_is_taken(scorer: Scorer) -> None:
    samples = {GUITAR: Samples(" the guitar", (" guitar", " the guitar"))}
    assert scorer.rank(["guitar", "the guitar"], [GUITAR.targets] * 2).rank.tolist() == [1, 1]
    assert choose_sft_examples(scorer, samples, worst_rank=5)[0].rewrite == "the guitar"


def test_a_rows_own_english_is_a_candidate_where_it_is_asked_for(scorer: Scorer) -> None:
    known = GUITAR.model_copy(update={"english": "guitar"})
    samples = {known: Samples(" wall", (" a door",))}
    assert choose_sft_examples(scorer, samples, 5, with_english=["composed"]) == []
    (sft_example,) = choose_sft_examples(scorer, samples, 5, with_english=["multilingual"])
    assert sft_example.rewrite == "guitar"
    better = {known: Samples(" guitar", ())}
    assert choose_sft_examples(scorer, better, 5, with_english=["multilingual"])[0].rank == 1
    (sft_example,) = choose_sft_examples(scorer, {known: NOTHING}, 5, with_english=["multilingual"])
    assert sft_example.rewrite == "guitar"


def test_the_dry_run_tells_what_there_is_to_win(scorer: Scorer) -> None:
    samples = {
        GUITAR: Samples(" wall", (" guitar", " wall")),
        HORSE: Samples(" wall", (" door", " horse")),
    }
    oracle = {"1F3B8": "guitar", "1F40E": "horse"}
    told = dry_run.report(scorer, samples, {"rank_log": 1.0}, oracle)
    assert "one greedy rewrite           0.000  0.000" in told
    assert "best of 2 samples by reward  1.000  1.000" in told
    assert "oracle: the English name     " in told
    assert "0% (they teach nothing)" in told
    assert told.splitlines()[-1].startswith("Train: the samples already hold +1.000")
    flat = {GUITAR: Samples(" guitar", (" guitar", " guitar"))}
    told = dry_run.report(scorer, flat, {"rank_log": 1.0}, {})
    assert "100% (they teach nothing)" in told
    assert "oracle" not in told
    assert "little to learn from" in told.splitlines()[-1]


def test_a_batch_holds_one_task() -> None:
    rows = [Row(query=str(n), targets=("x",), task="long" if n % 5 else "multilingual")
            for n in range(100)]  # fmt: skip
    mixed = by_task(rows, 8, seed=0)
    assert len(mixed) == 80 + 16  # ten batches of one task, two and a half of the other
    for start in range(0, len(mixed), 8):
        assert len({row.task for row in mixed[start : start + 8]}) == 1
    assert mixed != sorted(mixed, key=lambda row: int(row.query))
    assert mixed == by_task(rows, 8, seed=0)


def test_gains_are_averaged_over_languages_with_an_interval() -> None:
    rows = [
        Row(query="q", targets=("x",), language=language)
        for language in ("de",) * 90 + ("fr",) * 10
    ]
    before = np.full(100, 50.0)
    after = np.array([1.0] * 45 + [50.0] * 45 + [1.0] * 10)
    gain, low, high = gain_interval(rows, before, after)
    assert gain == pytest.approx(0.75)  # not .55: a language counts as much as another
    assert 0.65 < low < gain < high < 0.85
    told = {s.name: s for s in slices(rows, after)}
    assert told["de"].r_at_10 == 0.5
    assert told["de"].low < 0.5 < told["de"].high
    assert told["fr"].r_at_10 == told["fr"].low == told["fr"].high == 1
    assert told[AVERAGE].r_at_10 == pytest.approx(0.75)


class Counting:
    """A rewriter that counts what it is asked."""

    adapter = None
    sees_pictures = False

    def __init__(self, fails_after: int = 10**9) -> None:
        self.asked = 0
        self._fails_after = fails_after

    async def complete(
        self, prompt: Prompt, sampling: Sampling, on_text: OnText | None = None
    ) -> list[str]:
        self.asked += 1
        if self.asked > self._fails_after:
            raise RuntimeError("the power went out")
        return [f" {prompt.query} {n}" for n in range(sampling.n)]

    async def check(self) -> None: ...

    async def close(self) -> None: ...


async def test_samples_are_kept_and_drawn_once(tmp_path: Path) -> None:
    rows = [Row(query=f"q{n}", targets=("x",)) for n in range(200)]
    path = tmp_path / "samples.jsonl"
    with pytest.raises(RuntimeError):
        await sample_rewrites(lambda: Counting(300), TASKS, rows, 2, 1.0, path)
    kept = len(path.read_text().splitlines())
    assert 0 < kept < 200
    path.write_text(path.read_text() + '["cut o')
    second = Counting()
    samples = await sample_rewrites(lambda: second, TASKS, rows, 2, 1.0, path)
    assert second.asked == 2 * (200 - kept)
    assert samples[rows[7]][:2] == (" q7 0", (" q7 0", " q7 1"))
    third = Counting()
    assert await sample_rewrites(lambda: third, TASKS, rows, 2, 1.0, path) == samples
    assert third.asked == 0
    assert json.loads(path.read_text().splitlines()[0])[0].startswith(MULTILINGUAL.hash[:12])


async def test_sampling_ends_when_its_time_is_over(tmp_path: Path) -> None:
    rows = [Row(query=f"q{n}", targets=("x",)) for n in range(200)]
    path = tmp_path / "samples.jsonl"
    samples = await sample_rewrites(lambda: Counting(), TASKS, rows, 2, 1.0, path, minutes=1e-9)
    assert samples == {}


def test_work_of_other_settings_is_not_taken_for_this_runs(tmp_path: Path) -> None:
    """The taught adapter of rank 16 would be written with a card that says 8."""
    pipeline.keep_settings(TrainSettings(work=tmp_path, steps=0, lora_rank=16))
    pipeline.keep_settings(TrainSettings(work=tmp_path, steps=4, lora_rank=16))  # goes on from it
    with pytest.raises(InputError, match="another lora_rank: lora_rank was 16"):
        pipeline.keep_settings(TrainSettings(work=tmp_path, steps=0, lora_rank=8))
