"""Score inflation: the same GRPO budget with six rewards, and with KL.

    python -m benchmarks.inflation [--steps 12] [--docs]

The paper's preliminary finding (arXiv 2509.23370, section 3) is that rewarding similarity makes
every picture score higher while the right one ranks no better. Each run starts from the shipped
adapter, sees the same queries in the same order, and is validated on the same sample. ``--docs``
writes the table to docs/inflation.md and the plot next to it. Finished runs stay in the cache
folder.
"""

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.pages import INFLATION, INFLATION_PLOT, write_between
from models.common import paths
from models.common.progress import say
from models.rewriter.adapter import content_hash, open_adapter
from training.data.sources import load_rows
from training.rewards.scorer import Scorer, load_retriever
from training.settings import TrainSettings
from training.stages.grpo import train_grpo
from training.stages.language_model import LanguageModel
from training.stages.training_run import TrainingRun

SHOWN = {
    "target": "mean similarity to the right picture",
    "random": "mean similarity to all others",
    "gap": "their gap",
    "r_at_10": "Recall@10",
}


class Run(NamedTuple):
    """One reward on its own, and the weight of the KL term."""

    reward: str
    beta: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.reward}, beta {self.beta:g}" if self.beta else self.reward


RUNS = [
    Run("similarity"),
    Run("rank_log"),
    Run("rank_linear"),
    Run("reciprocal"),
    Run("margin"),
    Run("contrastive"),
    Run("rank_log", 0.1),
]


class Budget(NamedTuple):
    """What all runs share."""

    steps: int
    validated: int  # queries in the validation sample
    learning_rate: float
    work: Path


def settings_of(run: Run, budget: Budget) -> TrainSettings:
    """Names only: their prompts are short, so that a step takes seconds on a CPU."""
    start = content_hash(paths.ADAPTER)[:8]
    steps, validated, rate = budget.steps, budget.validated, budget.learning_rate
    return TrainSettings(
        work=budget.work / f"{start}-{run.reward}-{run.beta:g}-{steps}-{validated}-{rate:g}",
        tasks=["multilingual"],
        objective="rank",
        rewards={run.reward: 1.0},
        rank_among="all",
        scale_advantages="group",
        learning_rate_schedule="constant",
        beta=run.beta,
        steps=steps,
        prompts_per_step=6,
        group_size=8,
        micro_batch=48,
        learning_rate=rate,
        validation_queries={"multilingual": validated},
        validation_every=4,
        patience=steps,
        save_every=steps,
    )


def curve_of(run: Run, budget: Budget) -> dict[str, Any]:
    """The validation curve: read from the work folder if the run is finished, else trained now."""
    settings = settings_of(run, budget)
    kept = settings.work_folder / "curve.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    shutil.rmtree(settings.work_folder, ignore_errors=True)
    say(f"{run.name}: {budget.steps} steps")
    base = LanguageModel.named(settings.llm)
    adapter = open_adapter(paths.ADAPTER, base.revision)
    rows = load_rows(settings.data)
    settings = settings.model_copy(
        update={"tasks": ["multilingual"], "validation_queries": {"multilingual": budget.validated}}
    )
    began = time.monotonic()
    # A name's rewrite has three or four tokens; each further one costs a whole vocabulary.
    tasks = {name: replace(task, max_tokens=12) for name, task in adapter.tasks.items()}
    training_run = TrainingRun(settings, base, tasks, rows, Scorer(load_retriever(settings)))
    monitor = train_grpo(training_run, adapter.folder)
    shares = [step["reward_time_share"] for step in monitor.steps]
    found = {
        "curve": [seen._asdict() for seen in monitor.curve],
        "words": monitor.steps[-1]["completions/mean_length"],
        "seconds": time.monotonic() - began,
        "reward_time_share": sum(shares) / len(shares),
    }
    kept.write_text(json.dumps(found, indent=1) + "\n")
    return found


def table(curves: dict[str, dict[str, Any]]) -> str:
    """A Markdown table of the validation sample, before and after each run."""
    start = next(iter(curves.values()))["curve"][0]
    lines = [
        "| reward | R@1 | R@10 | mean rank | to the right picture | to all others | gap | tokens |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        _line("before", start, ""),
    ]
    for name, found in curves.items():
        lines.append(_line(f"`{name}`", found["curve"][-1], f"{found['words']:.1f}"))
    return "\n".join(lines)


def _line(name: str, seen: dict[str, float], words: str) -> str:
    return (
        f"| {name} | {seen['r_at_1']:.3f} | {seen['r_at_10']:.3f} | {seen['mean_rank']:.0f} | "
        f"{seen['target']:.3f} | {seen['random']:.3f} | {seen['gap']:.3f} | {words} |"
    )


def plot(curves: dict[str, dict[str, Any]], path: Path) -> None:
    """One panel for each quantity, one line for each run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(2, 2).flat
    for axes, (key, title) in zip(panels, SHOWN.items(), strict=True):
        for number, (name, found) in enumerate(curves.items()):
            steps = [seen["step"] for seen in found["curve"]]
            values = [seen[key] for seen in found["curve"]]
            style = "--" if "beta" in name else "-"
            axes.plot(steps, values, style, marker="os^Dv*Px"[number % 8], label=name, ms=5)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel("GRPO steps")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=110)


def arguments() -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    work = paths.cache_dir() / "inflation"
    parser.add_argument("--work", type=Path, default=work, help="folder that keeps finished runs")
    parser.add_argument("--validated", type=int, default=156, help="size of the validation sample")
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--docs", action="store_true", help="write table and plot to docs/")
    parser.add_argument("--rewards", nargs="*", help="only these rewards; all by default")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    budget = Budget(given.steps, given.validated, given.learning_rate, given.work)
    runs = [run for run in RUNS if not given.rewards or run.reward in given.rewards]
    curves = {run.name: curve_of(run, budget) for run in runs}
    text = table(curves)
    print(text)
    if given.docs:
        plot(curves, INFLATION_PLOT)
        write_between(INFLATION, "inflation", text)


if __name__ == "__main__":
    main()
