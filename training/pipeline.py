"""`grape train` from top to bottom: data, samples, warm start, GRPO, adapter, test."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.common.errors import InputError
from models.common.progress import say
from models.rewriter.adapter import open_adapter
from models.rewriter.merge import merge_adapter, merge_weights
from models.rewriter.tasks import TASKS, Task
from training.data.rows import Row, check_leakage, check_targets, choose, load_rows
from training.evaluation.slices import gain_interval, ranks_of, slices
from training.rewards.scorer import Scorer, load_retriever, searched
from training.settings import TrainSettings
from training.stages import dry_run
from training.stages.adapter_folder import Comparison, add_metrics, as_json, table, write_adapter
from training.stages.language_model import LanguageModel
from training.stages.processes import is_first, processes
from training.stages.sampling import NOTHING, Engine, Samples, joined
from training.stages.warm_start import choose_sft_examples, warm_start


def train(settings: TrainSettings) -> None:
    """Runs every stage; what a stage has finished is kept in the work folder for --resume.

    Raises:
        InputError: settings, data, index or base model cannot be used, or would be overwritten.
    """
    _check_folders(settings)
    rows = load_rows(settings.data)
    retriever = load_retriever(settings)
    check_targets(rows, retriever.index)
    check_leakage(rows)
    base = LanguageModel.named(settings.llm)
    scorer = Scorer(retriever)
    if settings.dry_run:
        print(what_there_is_to_win(settings, base, rows, scorer))
        return
    keep_settings(settings)
    tasks: dict[str, Task] = {
        name: TASKS[name].short if settings.prompt == "short" else TASKS[name]
        for name in settings.tasks
    }
    validation = choose(
        rows, "validation", settings.of_tasks(settings.validation_queries), settings.seed
    )
    if not validation:
        raise InputError(f"{settings.data} has no rows of the split 'validation' for these tasks.")

    start, taught = None, 0
    if settings.warm_start:
        _check_taught(settings)
        start, taught = _warm_start(settings, base, tasks, rows, scorer)

    trained, monitor = start, None
    if settings.steps:
        from training.stages.grpo import train_grpo

        pool = choose(rows, "train", dict.fromkeys(settings.tasks), settings.seed)
        monitor = train_grpo(settings, base, tasks, pool, validation, scorer, start)
        trained = settings.work_folder / "best"
        if not is_first():
            return
    assert trained, "settings refuse a run of neither"
    write_adapter(
        settings, base, tasks, trained, validation, retriever.index.manifest, monitor, taught
    )
    say(f"The adapter is in {settings.out}: `grape serve --adapter {settings.out}` serves it.")
    if any(row.split == "test" and row.task in settings.test_queries for row in rows):
        merged = settings.work_folder / "merged"
        compared = compare(settings, base, rows, scorer, merged)
        add_metrics(settings, base, monitor, taught, compared)
        (settings.work_folder / "test.json").write_text(as_json(compared))
        print(table(compared))
        print("\n".join(compared.notes))


def _warm_start(
    settings: TrainSettings,
    base: LanguageModel,
    tasks: Mapping[str, Task],
    rows: Sequence[Row],
    scorer: Scorer,
) -> tuple[Path, int]:
    """The taught adapter, and how many lessons it learnt.

    The frozen model draws the first round's samples, on the prompt with examples; what the rounds
    before have taught draws the next one's. Each round teaches the base model anew, from the
    samples of all rounds.
    """
    sampler, prompts = base, TASKS
    samples: dict[Row, Samples] = {}
    for number in range(1, settings.warm_start_rounds + 1):
        behind = "" if number == 1 else f"-{number}"
        folder = settings.work_folder / f"warm_start{behind}"
        # A run that is resumed while it teaches goes on with the lessons that it began with.
        minutes = 0 if folder.is_dir() else settings.warm_start_minutes
        seed = settings.seed + number - 1
        chosen = choose(rows, "train", settings.of_tasks(settings.warm_start_queries), seed)
        drawn = _sample(
            settings, sampler, chosen, f"samples{behind}", settings.samples, prompts, minutes
        )
        # A row that knows its English is a lesson before the model was asked.
        known = [row for row in chosen if row.english and row.task in settings.warm_start_english]
        samples = joined(samples, dict.fromkeys(known, NOTHING) | drawn)
        sft_examples = choose_sft_examples(
            scorer, samples, settings.warm_start_rank, settings.warm_start_english
        )
        say(
            f"Warm start: {len(sft_examples)} of {len(samples)} queries "
            "have a rewrite that ranks well"
        )
        start = warm_start(settings, base, tasks, sft_examples, folder)
        if number < settings.warm_start_rounds:
            merged = merge_weights(Path(base.path), start, start.with_name("merged"))
            sampler, prompts = LanguageModel(base.name, str(merged), base.on_gpu), dict(tasks)
    return start, len(sft_examples)


def what_there_is_to_win(
    settings: TrainSettings, base: LanguageModel, rows: Sequence[Row], scorer: Scorer
) -> str:
    """The dry run's report."""
    chosen = choose(
        rows, "train", dict.fromkeys(settings.tasks, settings.dry_run_queries), settings.seed
    )
    if not chosen:
        raise InputError(f"{settings.data} has no rows of the split 'train' for these tasks.")
    samples = _sample(settings, base, chosen, "samples", settings.samples)
    oracle = {row.targets[0]: row.english for row in chosen if row.english}
    return dry_run.report(scorer, samples, settings.rewards, oracle)


def compare(
    settings: TrainSettings,
    base: LanguageModel,
    rows: Sequence[Row],
    scorer: Scorer,
    merged: Path,
) -> Comparison:
    """Direct, frozen with examples, and tuned, on the test split, rewritten as they are served.

    Args:
        merged: folder that keeps the checkpoint with the adapter merged into it.
    """
    tested = choose(rows, "test", settings.of_tasks(settings.test_queries), settings.seed)
    queries = [row.query for row in tested]
    direct = ranks_of(scorer, queries, tested)
    frozen = ranks_of(scorer, greedy_rewrites(settings, base, tested), tested)
    tuned = ranks_of(scorer, greedy_rewrites(settings, base, tested, merged), tested)
    gain, low, high = gain_interval(tested, frozen, tuned)
    return Comparison(
        direct=slices(tested, direct),
        frozen=slices(tested, frozen),
        tuned=slices(tested, tuned),
        notes=[
            f"Tuned over frozen, mean of languages: {gain:+.3f} R@10, 95 % interval "
            f"{low:+.3f} to {high:+.3f} (paired bootstrap over queries)."
        ],
    )


def greedy_rewrites(
    settings: TrainSettings, base: LanguageModel, rows: Sequence[Row], merged: Path | None = None
) -> list[str]:
    """What would be searched for each row: by the frozen model, or with the adapter in ``out``.

    Args:
        merged: folder for the merged checkpoint; None asks the frozen model, with examples.
    """
    if merged is None:
        samples = _sample(settings, base, rows, "frozen", 0)
    else:
        adapter = open_adapter(settings.out, base.revision)
        checkpoint = merge_adapter(Path(base.path), adapter, merged)
        tuned = LanguageModel(base.name, str(checkpoint), base.on_gpu)
        samples = _sample(settings, tuned, rows, adapter.name, 0, adapter.tasks)
    return searched([samples[row].greedy for row in rows], [row.query for row in rows])


def _sample(
    settings: TrainSettings,
    base: LanguageModel,
    rows: Sequence[Row],
    file: str,
    count: int,
    tasks: Mapping[str, Task] = TASKS,
    minutes: float | None = None,
) -> dict[Row, Samples]:
    """Samples, kept in the work folder for this model and temperature."""
    temperature = settings.sample_temperature
    how = f"at-{temperature:g}" if count else "greedy"
    path = settings.work_folder / f"{file}-{base.revision[:12]}-{how}.jsonl"
    with Engine() as engine:
        return engine.samples(base.path, tasks, rows, count, temperature, path, minutes)


def _check_folders(settings: TrainSettings) -> None:
    if settings.dry_run:
        return
    if settings.out.is_dir() and any(settings.out.iterdir()):
        raise InputError(f"{settings.out} is not empty: name another folder with --out.")
    if (settings.work_folder / "grpo").is_dir() and not settings.resume:
        raise InputError(
            f"{settings.work_folder} holds an unfinished run: go on with --resume, or remove it."
        )


def _check_taught(settings: TrainSettings) -> None:
    """One process samples and teaches; several would write over each other."""
    behind = f"-{settings.warm_start_rounds}" if settings.warm_start_rounds > 1 else ""
    if processes() > 1 and not (settings.work_folder / f"warm_start{behind}" / "adapter").is_dir():
        raise InputError(
            "The warm start runs in one process: first `grape train --config ... --steps 0 --out "
            f"WARM --work {settings.work_folder}`, then this command with --resume."
        )


def keep_settings(settings: TrainSettings) -> None:
    """Writes the settings, and refuses to go on with others than the folder's work began with."""
    path = settings.work_folder / "settings.json"
    free = {"config", "debug", "resume", "dry_run", "dry_run_queries", "out", "work", "steps",
            "patience", "test_queries"}  # fmt: skip
    now = {k: v for k, v in settings.model_dump(mode="json").items() if k not in free}
    if path.is_file():
        before = json.loads(path.read_text())
        changed = sorted(k for k in now if before.get(k) != now[k])
        if changed:
            raise InputError(
                f"{settings.work_folder} was begun with another {', '.join(changed)}: "
                f"{changed[0]} was {before.get(changed[0])!r}. Name another folder with --work."
            )
    if is_first():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(now, indent=2) + "\n")
