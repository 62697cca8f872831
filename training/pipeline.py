"""`grape train`, from data to adapter: data, warm start, GRPO, adapter, test."""

import json
from pathlib import Path

from models.common.errors import InputError
from models.common.progress import say
from models.rewriter.adapter import open_adapter
from models.rewriter.tasks import LIKELIHOOD, LIKELIHOOD_LONG, RERANK, TASKS, Task, in_style
from models.search.gate import Gate
from models.search.mixture import Mixture
from training.data.rows import Row
from training.data.sources import load_rows
from training.data.splits import check_leakage, check_targets
from training.evaluation.measured import Fitted
from training.evaluation.queries import card_slices
from training.evaluation.report.tables import adapter_summary
from training.evaluation.results import ALL, Results
from training.evaluation.run import Evaluation, measure
from training.evaluation.settings import EvalSettings
from training.rewards.scorer import Scorer, load_retriever
from training.settings import TrainSettings
from training.stages import dry_run
from training.stages.adapter_folder import HeldOutResult, Trained, add_test, write_adapter
from training.stages.expected_cost import expected_cost
from training.stages.language_model import LanguageModel
from training.stages.processes import is_first
from training.stages.sampling import Engine, SamplingRequest
from training.stages.training_run import TrainingRun
from training.stages.warm_start import warm_start


def train(settings: TrainSettings) -> None:
    """Runs every stage. The work folder keeps what a stage has finished, for --resume.

    Raises:
        InputError: settings, data, index or base model cannot be used, or would be overwritten.
    """
    _check_folders(settings)
    run = open_run(settings)
    if not settings.dry_run:
        keep_settings(settings)
    if settings.task == "rerank":
        from training.rerank import reranker

        print(reranker.possible_gain(run) if settings.dry_run else reranker.train_reranker(run))
        return
    if settings.dry_run:
        print(possible_gain(run))
        return
    if not run.validation_rows():
        raise InputError(f"{settings.data} has no rows of the split 'validation' for these tasks.")
    trained = run_stages(run)
    if not is_first():
        return
    if trained.curve.validations:
        say(trained.curve.gain())
    write_adapter(run, trained)
    say(f"The adapter is in {settings.out}: serve it with `grape serve --adapter {settings.out}`.")
    if rows := run.test_rows():
        print(test_adapter(run, trained, rows))


def open_run(settings: TrainSettings) -> TrainingRun:
    """Opens the data, the index and the base model, and checks that they fit together."""
    rows = load_rows(settings.data)
    grpo_data = {name: load_rows(name) for name in settings.grpo_data}
    rerank_data = {name: load_rows(name) for name in settings.rerank_data}
    retriever = load_retriever(settings)
    base = LanguageModel.named(settings.llm)
    scorer = Scorer(retriever)
    chat = None
    if settings.task == "rewrite":
        start = settings.start_from and open_adapter(settings.start_from, base.revision)
        chat = base.chat(settings.prompt_style, start or None)
    tasks = in_style(tasks_of(settings), chat)
    run = TrainingRun(settings, base, tasks, rows, scorer, grpo_data, rerank_data, chat)
    check_targets(run.all_rows(), retriever.index)
    check_leakage(run.all_rows())
    return run


def tasks_of(settings: TrainSettings) -> dict[str, Task]:
    """What the adapter is trained for, with the prompts that it is trained on."""
    if settings.task == "rewrite":
        tasks = [TASKS[name] for name in settings.tasks]
    elif settings.rerank_by == "group":
        tasks = [RERANK]
    else:
        tasks = [LIKELIHOOD_LONG if name == "long" else LIKELIHOOD for name in settings.tasks]
    short = settings.prompt == "short"
    return {task.name: task.short if short else task for task in tasks}


def possible_gain(run: TrainingRun) -> str:
    """The report of --dry-run: how much better the best of several samples is than one rewrite.

    It also says what a step of GRPO will cost on this machine.
    """
    rows = dry_run.dry_run_rows(run)
    count, temperature = run.settings.samples, run.settings.sample_temperature
    file = run.samples_file("samples", run.base)
    request = SamplingRequest(run.with_examples, rows, count, temperature, file)
    with Engine() as engine:
        samples = engine.samples(run.base.path, request)
    gain = dry_run.report(run.scorer, samples, run.settings.rewards)
    return "\n".join(filter(None, [gain, expected_cost(run, samples)]))


def run_stages(run: TrainingRun) -> Trained:
    """The warm start and GRPO, or one of them."""
    start = warm_start(run) if run.settings.warm_start else None
    examples = start.sft_examples if start else 0
    if run.settings.steps:
        from training.stages.grpo import train_grpo

        monitor = train_grpo(run, start.adapter if start else _started_from(run))
        return Trained(run.settings.work_folder / "best", examples, monitor.learning_curve)
    assert start, "the settings refuse a run without any stage"
    return Trained(start.adapter, examples)


def _started_from(run: TrainingRun) -> Path | None:
    """The adapter of ``start_from``, which GRPO continues from without a warm start."""
    folder = run.settings.start_from
    return open_adapter(folder, run.base.revision).folder if folder else None


def test_adapter(run: TrainingRun, trained: Trained, rows: list[Row]) -> str:
    """Adds the result on held-out pictures to the adapter folder; returns its summary."""
    results = evaluate_adapter(run, rows)
    file = run.settings.work_folder / "test.json"
    file.write_text(results.model_dump_json(indent=1) + "\n")
    summary = adapter_summary(results)
    before, after = (_recall(results, name) for name in ("frozen", "tuned"))
    add_test(run, trained, HeldOutResult(before, after, summary))
    return summary


def evaluate_adapter(run: TrainingRun, rows: list[Row]) -> Results:
    """`grape eval` of the new adapter on test rows: direct, frozen and tuned."""
    settings = EvalSettings.of_new_adapter(run.settings)
    # As in the reward, the reference of a composed query stays in the ranking.
    ranked = [row.model_copy(update={"reference": None}) for row in rows]
    adapter = open_adapter(run.settings.out, run.base.revision)
    evaluation = Evaluation(
        settings, ranked, run.scorer.retriever, run.base, adapter, Fitted(Gate(), Mixture())
    )
    return measure(evaluation, card_slices)


def _recall(results: Results, name: str) -> dict[str, float]:
    """R@10 of a system by slice, with the names of grape.json."""
    (system,) = (system for system in results.systems if system.name == name)
    metric = results.main_metric
    return {
        f"{part} {metric}": round(system.metrics[part][metric].value, 4)
        for part in results.slices
        if part != ALL
    }


def _check_folders(settings: TrainSettings) -> None:
    if settings.dry_run:
        return
    if settings.out.is_dir() and any(settings.out.iterdir()):
        raise InputError(f"{settings.out} is not empty: name another folder with --out.")
    if (settings.work_folder / "grpo").is_dir() and not settings.resume:
        raise InputError(
            f"{settings.work_folder} holds an unfinished run: continue it with --resume, or "
            "remove it."
        )


def keep_settings(settings: TrainSettings) -> None:
    """Writes the settings into the work folder.

    Raises:
        InputError: the folder's work was begun with other settings.
    """
    path = settings.work_folder / "settings.json"
    free = {"config", "debug", "plan", "plan_as_json", "resume", "dry_run", "dry_run_queries",
            "out", "work", "steps", "patience", "test_queries"}  # fmt: skip
    now = {k: v for k, v in settings.model_dump(mode="json").items() if k not in free}
    if path.is_file():
        before = json.loads(path.read_text())
        # A setting that is newer than the folder had its default.
        changed = sorted(k for k in now if before.get(k, _default(k)) != now[k])
        if changed:
            raise InputError(
                f"{settings.work_folder} was begun with another {', '.join(changed)}: "
                f"{changed[0]} was {before.get(changed[0])!r}. Name another folder with --work."
            )
    if is_first():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(now, indent=2) + "\n")


def _default(name: str) -> object:
    return TrainSettings.model_fields[name].default
