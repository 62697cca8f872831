"""What the stages decide: SFT examples, the dry run's advice, batches, and samples kept."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from models.common.errors import InputError
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.rewriter.likelihood import Continuation
from models.rewriter.protocol import (
    Completion,
    Completions,
    OnText,
    Prompt,
    Rewriter,
    Sampling,
    WrittenTokens,
)
from models.rewriter.tasks import MULTILINGUAL, TASKS
from tests.support.completions import completions
from training import pipeline
from training.data.rows import Row
from training.rewards.ranking import Corpus
from training.rewards.scorer import Retriever, Scorer
from training.settings import TrainSettings
from training.stages import dry_run
from training.stages.sampling import NO_SAMPLES, Samples, SamplingRequest, sample_rewrites
from training.stages.warm_start import choose_sft_examples

GUITAR = Row(query="ギター", targets=("1F3B8",), language="ja")
HORSE = Row(query="caballo", targets=("1F40E",), language="es")


@pytest.fixture(scope="module")
def scorer(encoder: ClipEncoder, demo_index: ImageIndex) -> Scorer:
    return Scorer(Retriever(encoder, demo_index, Corpus.of(demo_index.vectors())))


def test_the_best_ranked_sample_is_the_example(scorer: Scorer) -> None:
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
    (sft_example,) = choose_sft_examples(
        scorer, {known: NO_SAMPLES}, 5, with_english=["multilingual"]
    )
    assert sft_example.rewrite == "guitar"


def test_the_dry_run_reports_the_possible_gain(scorer: Scorer) -> None:
    samples = {
        GUITAR.model_copy(update={"english": "guitar"}): Samples(" wall", (" guitar", " wall")),
        HORSE.model_copy(update={"english": "horse"}): Samples(" wall", (" door", " horse")),
    }
    report = dry_run.report(scorer, samples, {"rank_log": 1.0})
    assert "one greedy rewrite           0.000  0.000" in report
    assert "best of 2 samples by reward  1.000  1.000" in report
    assert "oracle: the English name     1.000  1.000" in report
    assert "0% (they teach nothing)" in report
    assert report.splitlines()[-1].startswith("Train: the best sample is +1.000")
    flat = {GUITAR: Samples(" guitar", (" guitar", " guitar"))}
    report = dry_run.report(scorer, flat, {"rank_log": 1.0})
    assert "100% (they teach nothing)" in report
    assert "oracle" not in report
    assert "there is little to learn" in report.splitlines()[-1]


class Counting:
    """A rewriter that counts its prompts."""

    adapter = None
    sees_pictures = False

    def __init__(self, fails_after: int = 10**9, answers: Completions | None = None) -> None:
        self.asked: list[Sampling] = []
        self._fails_after = fails_after
        self._answers = answers

    async def complete(
        self,
        prompt: Prompt,
        sampling: Sampling,
        on_text: OnText | None = None,
        within_s: float | None = None,
    ) -> Completions:
        self.asked.append(sampling)
        if len(self.asked) > self._fails_after:
            raise RuntimeError("the power went out")
        return self._answers or completions(*(f" {prompt.query} {n}" for n in range(sampling.n)))

    async def log_likelihoods(self, asked: Continuation) -> list[float]:
        raise NotImplementedError

    async def written_tokens(self, prompts: Sequence[Prompt]) -> list[WrittenTokens]:
        raise NotImplementedError

    async def check(self) -> None: ...

    async def close(self) -> None: ...


async def test_samples_are_kept_and_drawn_once(tmp_path: Path) -> None:
    rows = [Row(query=f"q{n}", targets=("x",)) for n in range(200)]
    path = tmp_path / "samples.jsonl"
    request = SamplingRequest(TASKS, rows, 2, 1.0, path)
    with pytest.raises(RuntimeError):
        await sample_rewrites(lambda: Counting(300), request)
    kept = len(path.read_text().splitlines())
    assert 0 < kept < 200
    path.write_text(path.read_text() + '["cut o')
    second = Counting()
    samples = await sample_rewrites(lambda: second, request)
    assert len(second.asked) == 2 * (200 - kept)
    assert samples[rows[7]][:2] == (" q7 0", (" q7 0", " q7 1"))
    third = Counting()
    assert await sample_rewrites(lambda: third, request) == samples
    assert third.asked == []
    assert json.loads(path.read_text().splitlines()[0])[0].startswith(MULTILINGUAL.hash[:12])


async def test_the_most_probable_answers_are_kept_with_their_probabilities(tmp_path: Path) -> None:
    sure = Completions([Completion(" guitar", 0.5), Completion(" drum", 0.25)])
    path = tmp_path / "samples.jsonl"
    request = SamplingRequest(TASKS, [GUITAR], 3, 0.0, path, coverage=0.7)
    first, second = Counting(answers=sure), Counting(answers=sure)
    samples = await sample_rewrites(lambda: first, request)
    assert await sample_rewrites(lambda: second, request) == samples
    assert (first.asked, second.asked) == ([Sampling(3, 0.0, 0.7)], [])
    assert samples[GUITAR].greedy == " guitar"
    assert samples[GUITAR].best == tuple(sure.answers)


async def test_sampling_ends_when_its_time_is_over(tmp_path: Path) -> None:
    rows = [Row(query=f"q{n}", targets=("x",)) for n in range(200)]
    path = tmp_path / "samples.jsonl"
    request = SamplingRequest(TASKS, rows, 2, 1.0, path, minutes=1e-9)
    samples = await sample_rewrites(lambda: Counting(), request)
    assert samples == {}


async def test_without_any_time_no_model_is_started(tmp_path: Path) -> None:
    def start() -> Rewriter:
        raise AssertionError("it was started")

    request = SamplingRequest(TASKS, [GUITAR], 2, 1.0, tmp_path / "none.jsonl", minutes=0)
    assert await sample_rewrites(start, request) == {}
    assert TrainSettings(warm_start_minutes=0).warm_start_minutes == 0


def test_work_of_other_settings_is_not_taken_for_this_runs(tmp_path: Path) -> None:
    """The adapter of rank 16 would get a model card that says 8."""
    pipeline.keep_settings(TrainSettings(work=tmp_path, steps=0, lora_rank=16))
    pipeline.keep_settings(TrainSettings(work=tmp_path, steps=4, lora_rank=16))  # continues
    with pytest.raises(InputError, match="another lora_rank: lora_rank was 16"):
        pipeline.keep_settings(TrainSettings(work=tmp_path, steps=0, lora_rank=8))
