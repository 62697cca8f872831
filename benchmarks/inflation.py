"""Score inflation: the same budget of GRPO with six rewards, and with KL.

    python -m benchmarks.inflation [--steps 12] [--docs]

The paper's preliminary finding (arXiv 2509.23370, section 3) is that rewarding similarity makes
every picture score higher while the right one ranks no better. Each run starts from the shipped
adapter, sees the same queries in the same order, and is judged on the same validation sample.
``--docs`` writes table and plot into docs/. Finished runs are kept in the cache folder.
"""

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.demo import write_between
from models.common import paths
from models.common.progress import say
from models.rewriter.adapter import content_hash, open_adapter
from training.data.sources import load_rows
from training.rewards.scorer import Scorer, load_retriever
from training.settings import TrainSettings
from training.stages.grpo import train_grpo
from training.stages.language_model import LanguageModel
from training.stages.training_run import TrainingRun

DOCS = Path(__file__).parent.parent / "docs"
SHOWN = {
    "target": "mean similarity to the right picture",
    "random": "mean similarity to all others",
    "gap": "their gap",
    "r_at_10": "Recall@10",
}


class Run(NamedTuple):
    """One reward, with nothing beside it, and the weight of KL."""

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


def settings_of(
    run: Run, steps: int, validated: int, work: Path, learning_rate: float
) -> TrainSettings:
    """Names alone: their prompts are short, so that a step takes seconds on a CPU."""
    start = content_hash(paths.ADAPTER)[:8]
    folder = work / f"{start}-{run.reward}-{run.beta:g}-{steps}-{validated}-{learning_rate:g}"
    return TrainSettings(
        work=folder,
        tasks=["multilingual"],
        rewards={run.reward: 1.0},
        beta=run.beta,
        steps=steps,
        prompts_per_step=6,
        group_size=8,
        micro_batch=48,
        learning_rate=learning_rate,
        validation_queries={"multilingual": validated},
        validation_every=4,
        patience=steps,
        save_every=steps,
    )


def curve_of(
    run: Run, steps: int, validated: int, work: Path, learning_rate: float
) -> dict[str, Any]:
    """The validation curve, trained now or before."""
    settings = settings_of(run, steps, validated, work, learning_rate)
    kept = settings.work_folder / "curve.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    shutil.rmtree(settings.work_folder, ignore_errors=True)
    say(f"{run.name}: {steps} steps")
    base = LanguageModel.named(settings.llm)
    adapter = open_adapter(paths.ADAPTER, base.revision)
    rows = load_rows(settings.data)
    began = time.monotonic()
    # A name's rewrite has three or four tokens; each one more costs the whole vocabulary.
    tasks = {name: replace(task, max_tokens=12) for name, task in adapter.tasks.items()}
    scorer = Scorer(load_retriever(settings))
    monitor = train_grpo(TrainingRun(settings, base, tasks, rows, scorer), adapter.folder)
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
    """Markdown: the validation sample before and after."""
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
    """One panel for each quantity, one line for each reward."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    work = paths.cache_dir() / "inflation"
    parser.add_argument("--work", type=Path, default=work, help="keeps what is finished")
    parser.add_argument("--validated", type=int, default=156, help="queries that judge")
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--docs", action="store_true", help="write table and plot into docs/")
    parser.add_argument("--rewards", nargs="*", help="only these; all without")
    arguments = parser.parse_args()
    runs = [run for run in RUNS if not arguments.rewards or run.reward in arguments.rewards]
    curves = {
        run.name: curve_of(
            run, arguments.steps, arguments.validated, arguments.work, arguments.learning_rate
        )
        for run in runs
    }
    text = table(curves)
    print(text)
    if arguments.docs:
        plot(curves, DOCS / "inflation.png")
        write_between(DOCS / "inflation.md", "inflation", text)


if __name__ == "__main__":
    main()
