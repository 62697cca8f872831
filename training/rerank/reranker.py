"""`grape train` with ``task: rerank``: candidates, training, adapter, test."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.common import paths
from models.common.errors import InputError
from models.common.progress import say
from models.rewriter.adapter import open_adapter
from models.rewriter.answers import read_rewrite
from models.rewriter.base_model import adapter_folder
from models.rewriter.merge import merge_adapter
from models.rewriter.tasks import RERANK_TASKS, TASKS, rerank_query
from models.search.compare import Tasks
from models.search.rerank import Comparison, comparison
from training.data.rows import Row
from training.data.splits import choose
from training.evaluation.statistics import estimate
from training.rerank.candidates import Listed, best_rank, candidates_of
from training.rerank.groups import in_groups, teacher_ratings
from training.rerank.likelihood import train_likelihood
from training.rewards.ranking import Floats
from training.stages.adapter_folder import HeldOutResult, Trained, add_test, write_adapter
from training.stages.dry_run import dry_run_rows
from training.stages.learning_curve import CANDIDATES_RATED
from training.stages.sampling import Engine, SamplingRequest
from training.stages.training_run import TrainingRun

Asked = Mapping[str, Sequence[str]]  # by task, what the canaries are taken from


class _Scorer(NamedTuple):
    """A model that compares."""

    path: str  # of the checkpoint
    tasks: Tasks
    name: str


def train_reranker(run: TrainingRun) -> str:
    """Runs every stage. The work folder keeps what a stage has finished.

    Returns:
        The result on held-out queries; Markdown.

    Raises:
        InputError: the data has no rows to learn from, or the model cannot be trained.
    """
    settings = run.settings
    rows = _training_rows(run)
    with Engine() as engine:
        listed = _candidates(run, engine, rows, _held_out(run))
        held_out = _candidates(run, engine, run.validation_rows(), set())
        tested = _candidates(run, engine, run.test_rows(), set())
    if not listed:
        raise InputError(f"{settings.data} has no rows of the split 'train' with captions.")
    say(f"{len(listed)} of {len(rows)} queries have candidates to be told apart.")
    if settings.rerank_by == "group":
        trained, asked = _by_group(run, listed, held_out)
    else:
        trained, asked = _by_likelihood(run, listed)
    write_adapter(run, trained, asked)
    say(
        f"The adapter is in {settings.out}: serve it with `grape serve --rerank-adapter "
        f"{settings.out}`."
    )
    return _test(run, trained, tested) if tested else ""


def _training_rows(run: TrainingRun) -> list[Row]:
    """A sample of every data set."""
    settings = run.settings
    counts = settings.of_tasks(settings.warm_start_queries)
    rows = choose(run.rows, "train", counts, settings.seed)
    for name, count in settings.rerank_data.items():
        counts = dict.fromkeys(settings.tasks, count)
        rows += choose(run.rerank_data[name], "train", counts, settings.seed)
    return list(dict.fromkeys(rows))


def _by_likelihood(run: TrainingRun, listed: Sequence[Listed]) -> tuple[Trained, Asked]:
    settings = run.settings
    folder = settings.work_folder / "likelihood"
    adapter = train_likelihood(settings, run.base, run.tasks, listed, folder)
    captions = [one.texts[0] for one in listed]
    return Trained(adapter, len(listed)), dict.fromkeys(run.tasks, captions)


def _by_group(
    run: TrainingRun, listed: Sequence[Listed], held_out: Sequence[Listed]
) -> tuple[Trained, Asked]:
    """SFT on the teacher's ratings and GRPO, or one of them."""
    from training.rerank.group_training import imitate, train_groups

    settings, (task,) = run.settings, run.tasks.values()
    # GRPO asks as many prompts for every query.
    full = [one for one in listed if len(one.texts) == settings.candidates]
    if not full:
        raise InputError(
            f"No query has {settings.candidates} candidates that say different things: lower "
            "--candidates."
        )
    rated = teacher_ratings(run.scorer.retriever, full)
    queries = [
        in_groups(task, one, settings.seed)._replace(teacher=ratings)
        for one, ratings in zip(full, rated, strict=True)
    ]
    start = settings.start_from
    start = open_adapter(start, run.base.revision).folder if start else None
    if settings.warm_start:
        start = imitate(settings, run.base, queries, settings.work_folder / "warm_start")
    shown = [
        rerank_query(one.row.query, [one.texts[n] for n in query.groups[0].places])
        for one, query in zip(full, queries, strict=True)
    ]
    asked = {str(task.name): shown}
    if not settings.steps:
        assert start, "the settings refuse a run without any stage"
        return Trained(start, len(queries)), asked
    checked = [in_groups(task, one, settings.seed) for one in held_out]
    monitor = train_groups(run, start, queries, checked, task)
    curve = monitor.learning_curve._replace(words=CANDIDATES_RATED)
    say(curve.gain())
    return Trained(settings.work_folder / "best", len(queries), curve), asked


def possible_gain(run: TrainingRun) -> str:
    """The report of --dry-run: how often the frozen model finds the right caption already."""
    with Engine() as engine:
        listed = _candidates(run, engine, dry_run_rows(run), set())
        ranks = _ranks(run, engine, _frozen(run), listed)
    first = float(np.mean(ranks == 1))
    return (
        f"{len(listed)} training queries, {run.settings.candidates} candidates each at most: the "
        f"frozen model finds the right caption most likely for {first:.0%} of them, and among the "
        f"first ten for {np.mean(ranks <= 10):.0%}. Training can gain {1 - first:.0%} at most."
    )


def _frozen(run: TrainingRun) -> _Scorer:
    return _Scorer(run.base.path, RERANK_TASKS, "frozen")


def _held_out(run: TrainingRun) -> set[str]:
    """Pictures of held-out rows alone: training must not learn what they are not called."""
    targets = {
        learnt: {t for row in run.rows if (row.split == "train") == learnt for t in row.targets}
        for learnt in (True, False)
    }
    return targets[False] - targets[True]


def _candidates(
    run: TrainingRun, engine: Engine, rows: Sequence[Row], left_out: set[str]
) -> list[Listed]:
    """What the search finds for each row: its greedy rewrite, the query, and its own English."""
    settings = run.settings
    model, tasks = run.base.path, TASKS
    if folder := adapter_folder(settings.candidates_from, settings.llm, settings.index):
        rewriter = open_adapter(folder, run.base.revision)
        model = str(merge_adapter(Path(model), rewriter, paths.merged_dir()))
        tasks = {**TASKS, **rewriter.tasks}
    file = settings.work_folder / "rewrites.jsonl"
    sampled = engine.samples(model, SamplingRequest(tasks, rows, 0, 0.0, file))
    rewrites = {row: [text for text in [read_rewrite(sampled[row].greedy)] if text] for row in rows}
    return candidates_of(run.scorer.retriever, rewrites, settings.candidates, left_out)


def _test(run: TrainingRun, trained: Trained, listed: Sequence[Listed]) -> str:
    """Adds the result on held-out pictures to the adapter folder; returns its summary."""
    adapter = open_adapter(run.settings.out, run.base.revision)
    merged = merge_adapter(Path(run.base.path), adapter, paths.merged_dir())
    tuned = _Scorer(str(merged), {**RERANK_TASKS, **adapter.tasks}, "tuned")
    with Engine() as engine:
        before, after = (_ranks(run, engine, scorer, listed) for scorer in (_frozen(run), tuned))
    summary = "\n".join(_summary(listed, before, after))
    add_test(run, trained, HeldOutResult(_means(before), _means(after), summary))
    return summary


def _ranks(run: TrainingRun, engine: Engine, scorer: _Scorer, listed: Sequence[Listed]) -> Floats:
    """The rank of the best right caption among each row's candidates."""
    asked = [_comparison(run, one) for one in listed]
    file = run.settings.work_folder / f"scores-{scorer.name}.jsonl"
    found = engine.scores(scorer.path, asked, file, scorer.tasks)
    values = [[-np.inf if v is None else v for v in scores.values] for scores in found]
    pairs = zip(values, listed, strict=True)
    return np.array([best_rank(np.array(own), len(one.grades)) for own, one in pairs], float)


def _comparison(run: TrainingRun, listed: Listed) -> Comparison:
    asked = comparison(run.settings.rerank_by, listed.row.query, listed.texts)
    assert asked, "a row has two candidates at least"
    return asked


def _summary(listed: Sequence[Listed], before: Floats, after: Floats) -> list[str]:
    """A table by task: R@1 and MRR among the candidates, and the gain."""
    lines = [
        "A right caption is always one of the candidates; the model's scores alone order them.",
        "",
        "| | queries | frozen model: R@1 | MRR | adapter: R@1 | MRR | R@1 gained |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for task in dict.fromkeys(one.row.task for one in listed):
        rows = [n for n, one in enumerate(listed) if one.row.task == task]
        cells = [
            f"{number:.3f}"
            for ranks in (before[rows], after[rows])
            for number in (np.mean(ranks == 1), np.mean(1 / ranks))
        ]
        gain = estimate((after[rows] == 1).astype(float) - (before[rows] == 1))
        shown = f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        lines.append(f"| {task} | {len(rows)} | {' | '.join(cells)} | {shown} |")
    return lines


def _means(ranks: Floats) -> dict[str, float]:
    return {
        "R@1 among candidates": round(float(np.mean(ranks == 1)), 4),
        "MRR among candidates": round(float(np.mean(1 / ranks)), 4),
    }
