"""The warm start: SFT on the model's own best-ranked rewrites (rejection sampling).

The model writes rewrites on the prompt with examples. For each query, the rewrite that ranks the
right picture best is kept, and SFT teaches the model to write it on the short prompt. GRPO then
starts from a model whose answers already have the right shape, at a tenth of the prompt's cost.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.common.errors import GrapeError, InputError
from models.common.progress import say
from models.rewriter.merge import merge_weights
from models.rewriter.tasks import Task
from training.data.rows import Row
from training.data.splits import choose
from training.rewards.rewards import is_well_formed
from training.rewards.scorer import Scorer
from training.settings import TrainSettings
from training.stages.language_model import LanguageModel
from training.stages.processes import processes
from training.stages.sampling import NO_SAMPLES, Engine, Samples, SamplingRequest, merged
from training.stages.sft import fine_tune
from training.stages.training_run import TrainingRun


class SFTExample(NamedTuple):
    """A query with the rewrite that SFT teaches."""

    row: Row
    rewrite: str
    rank: int


class WarmStart(NamedTuple):
    """What the warm start leaves."""

    adapter: Path  # folder of the PEFT adapter
    sft_examples: int


def warm_start(run: TrainingRun) -> WarmStart:
    """Samples, chooses and fine-tunes, in one or more rounds; continues an interrupted run.

    The frozen model writes the samples of the first round, the model fine-tuned so far those of the
    next. Each round fine-tunes the base model from scratch, on the samples of all rounds.

    Raises:
        InputError: several processes would do it at once.
        GrapeError: no rewrite ranks well enough to learn from.
    """
    settings, base = run.settings, run.base
    _check_one_process(settings)
    sampler: LanguageModel = base
    prompts: Mapping[str, Task] = run.with_examples
    samples: dict[Row, Samples] = {}
    for number in range(1, settings.warm_start_rounds + 1):
        samples = merged(samples, _round_samples(run, number, sampler, prompts))
        examples = choose_sft_examples(
            run.scorer, samples, settings.warm_start_rank, settings.warm_start_english
        )
        say(f"Warm start: {len(examples)} of {len(samples)} queries have a rewrite that ranks well")
        if not examples:
            raise GrapeError(
                "No sampled rewrite ranks well enough to learn from: raise --warm-start-rank or "
                "--samples, or look at `grape train --dry-run`."
            )
        texts = [_taught(run.tasks[example.row.task], example) for example in examples]
        adapter = fine_tune(settings, base, texts, _folder(settings, number))
        if number < settings.warm_start_rounds:
            checkpoint = merge_weights(Path(base.path), adapter, adapter.with_name("merged"))
            sampler = LanguageModel(base.name, str(checkpoint), base.on_gpu)
            prompts = run.tasks
    return WarmStart(adapter, len(examples))


def _taught(task: Task, example: SFTExample) -> tuple[str, str]:
    return task.prompt(example.row.asked), task.written(example.rewrite)


def _round_samples(
    run: TrainingRun, number: int, sampler: LanguageModel, prompts: Mapping[str, Task]
) -> dict[Row, Samples]:
    """The samples of one round."""
    settings = run.settings
    counts, seed = settings.of_tasks(settings.warm_start_queries), settings.seed + number - 1
    rows = choose(run.rows, "train", counts, seed)
    # A run that is resumed during SFT continues with the examples that it began with.
    began = _folder(settings, number).is_dir()
    request = SamplingRequest(
        tasks=prompts,
        rows=rows,
        count=settings.samples,
        temperature=settings.sample_temperature,
        path=run.samples_file(f"samples{_suffix(number)}", sampler),
        minutes=0 if began else settings.warm_start_minutes,
    )
    with Engine() as engine:
        sampled = engine.samples(sampler.path, request)
    # A row whose English query is a candidate can be an example without any samples.
    known = [row for row in rows if row.english and row.task in settings.warm_start_english]
    return dict.fromkeys(known, NO_SAMPLES) | sampled


def choose_sft_examples(
    scorer: Scorer,
    samples: Mapping[Row, Samples],
    worst_rank: int,
    with_english: Collection[str] = (),
) -> list[SFTExample]:
    """The best-ranked rewrite of each query; queries without a good rewrite are left out.

    Of rewrites with the same rank the most frequent one is taken, then the shortest: a lucky guess
    for one query does not teach the model anything about the next.

    Args:
        worst_rank: a rewrite that ranks lower is not used.
        with_english: tasks in which a row's own ``english`` is a candidate too; a model that has
            never written a right answer cannot learn from its own.
    """
    rows = list(samples)
    texts: list[str] = []
    owners: list[int] = []
    votes: list[int] = []
    for number, (row, sample) in enumerate(samples.items()):
        for text, count in _candidates(row, sample, with_english).items():
            texts.append(text)
            owners.append(number)
            votes.append(count)
    ranks = scorer.rank(texts, [rows[number].targets for number in owners]).rank
    lengths = np.array([len(text) for text in texts])
    order = np.lexsort([lengths, -np.array(votes), ranks, np.array(owners)])
    examples: dict[int, SFTExample] = {}
    for place in order.tolist():
        owner = owners[place]
        if owner not in examples and ranks[place] <= worst_rank:
            examples[owner] = SFTExample(rows[owner], texts[place], int(ranks[place]))
    return list(examples.values())


def _candidates(row: Row, samples: Samples, with_english: Collection[str]) -> dict[str, int]:
    """The well-formed rewrites of a query, with how often each was written."""
    english = (row.english,) if row.english and row.task in with_english else ()
    written = (samples.greedy, *samples.drawn, *english)
    return dict(Counter(text.strip() for text in written if is_well_formed(text)))


def _check_one_process(settings: TrainSettings) -> None:
    """Several processes would overwrite each other's samples and checkpoints."""
    finished = _folder(settings, settings.warm_start_rounds) / "adapter"
    if processes() > 1 and not finished.is_dir():
        raise InputError(
            "The warm start runs in one process: first `grape train --config ... --steps 0 --out "
            f"WARM --work {settings.work_folder}`, then this command with --resume."
        )


def _folder(settings: TrainSettings, number: int) -> Path:
    return settings.work_folder / f"warm_start{_suffix(number)}"


def _suffix(number: int) -> str:
    return "" if number == 1 else f"-{number}"
