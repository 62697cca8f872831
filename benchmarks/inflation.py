"""Score inflation: the shipped adapter's GRPO again, rewarded by similarity, rank and likelihood.

    python -m benchmarks.inflation START [--steps 40] [--docs]

The paper's preliminary finding (arXiv 2509.23370, section 3) is that rewarding similarity makes
every picture score higher while the right one ranks no better. START is the folder of the adapter
that GRPO started from. Each run has the settings of training/demo.yaml, but for the reward and for
KL, which would hide what a reward does. ``--docs`` writes the table to docs/inflation.md and the
plot next to it. Finished runs stay in the work folder, and one that was interrupted continues.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.pages import INFLATION, INFLATION_PLOT, ROOT, write_between
from models.common import paths
from models.common.progress import say
from models.rewriter.adapter import content_hash
from training.pipeline import open_run
from training.settings import TrainSettings
from training.stages.grpo import train_grpo

RECIPE = ROOT / "training" / "demo.yaml"
OBJECTIVES: dict[str, dict[str, Any]] = {
    "similarity": {"objective": "rank", "rewards": {"similarity": 1.0}},
    "rank_log": {"objective": "rank", "rewards": {"rank_log": 1.0}},
    "mixture": {"objective": "mixture"},
}
SHOWN = {
    "target": "mean similarity to the right picture",
    "random": "mean similarity to all others",
    "gap": "their gap",
    "r_at_10": "Recall@10 of one rewrite",
    "log_likelihood": "log-likelihood of the mixture",
}
Curve = dict[str, Any]


def settings_of(name: str, given: argparse.Namespace) -> TrainSettings:
    """The recipe with another reward."""
    start = content_hash(given.start)[:8]
    work = given.work / f"{start}-{name}-{given.steps}-{given.validated}"
    recipe = yaml.safe_load(RECIPE.read_text())
    changes = {
        "start_from": given.start,
        "warm_start": False,
        "warm_start_english": [],
        "beta": 0.0,
        "steps": given.steps,
        "average_weights_from": None,
        "patience": given.steps,
        "validation_queries": {"multilingual": given.validated, "long": 40, "composed": 40},
        "test_queries": {},
        "work": work,
        "out": work / "adapter",
        "resume": work.is_dir(),
    }
    return TrainSettings(**recipe | changes | OBJECTIVES[name])


def curve_of(name: str, given: argparse.Namespace) -> Curve:
    """The validation curve: read from the work folder if the run is finished, else trained now."""
    settings = settings_of(name, given)
    kept = settings.work_folder / "curve.json"
    if kept.is_file():
        found: Curve = json.loads(kept.read_text())
        return found
    say(f"{name}: {given.steps} steps")
    began = time.monotonic()
    monitor = train_grpo(open_run(settings), settings.start_from)
    last = monitor.steps[-1]
    found = {
        "curve": [seen.numbers() | {"step": seen.step} for seen in monitor.curve],
        "entropy": last["entropy"],
        "seconds": time.monotonic() - began,
    }
    kept.write_text(json.dumps(found, indent=1) + "\n")
    return found


def table(curves: dict[str, Curve]) -> str:
    """A Markdown table of the validation sample, before and after each run."""
    start = next(iter(curves.values()))["curve"][0]
    lines = [
        "| reward | to the right picture | to all others | gap | R@1 | R@10 | log-likelihood | "
        "entropy |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        _line("before", start, ""),
    ]
    for name, found in curves.items():
        lines.append(_line(f"`{name}`", found["curve"][-1], f"{found['entropy']:.2f}"))
    return "\n".join(lines)


def _line(name: str, seen: dict[str, float], entropy: str) -> str:
    return (
        f"| {name} | {seen['target']:.3f} | {seen['random']:.3f} | {seen['gap']:.3f} | "
        f"{seen['r_at_1']:.3f} | {seen['r_at_10']:.3f} | {seen['log_likelihood']:.3f} | "
        f"{entropy} |"
    )


def plot(curves: dict[str, Curve], path: Path) -> None:
    """One panel for each quantity, one line for each run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    *panels, legend = figure.subplots(2, 3).flat
    for axes, (key, title) in zip(panels, SHOWN.items(), strict=True):
        for number, (name, found) in enumerate(curves.items()):
            steps = [seen["step"] for seen in found["curve"]]
            values = [seen[key] for seen in found["curve"]]
            axes.plot(steps, values, marker="os^"[number % 3], label=name, ms=5)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel("GRPO steps")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    legend.axis("off")
    legend.legend(*axes.get_legend_handles_labels(), loc="center", title="rewarded by")
    figure.savefig(path, dpi=110)


def arguments() -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("start", type=Path, help="folder of the adapter that the runs start from")
    parser.add_argument("--steps", type=int, default=40, help="of each run; 40 by default")
    work = paths.cache_dir() / "inflation"
    parser.add_argument("--work", type=Path, default=work, help="folder that keeps finished runs")
    parser.add_argument(
        "--validated", type=int, default=130, help="names and keywords to validate on, of each"
    )
    parser.add_argument("--docs", action="store_true", help="write table and plot to docs/")
    parser.add_argument(
        "--rewards", nargs="*", default=list(OBJECTIVES), help=", ".join(OBJECTIVES)
    )
    return parser.parse_args()


def main() -> None:
    given = arguments()
    curves = {name: curve_of(name, given) for name in given.rewards}
    text = table(curves)
    print(text)
    if given.docs:
        plot(curves, INFLATION_PLOT)
        write_between(INFLATION, "inflation", text)


if __name__ == "__main__":
    main()
