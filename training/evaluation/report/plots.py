"""The report's plots, for light and for dark pages, without any untrusted text.

Systems differ by colour and by marker; the colours are distinguishable with colour blindness.
"""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from training.evaluation.results import ALL, Estimate, Results, System

Painter = Callable[[Figure, "Theme"], None]
NAMES = ("languages", "cost", "ranks", "similarity", "reliability")  # file names
_LANGUAGE = "language "  # prefix of the slices of a language
_WIDTH, _DPI = 6.4, 160
_MARKERS = "osD^vPX*<>"


@dataclass(frozen=True)
class Theme:
    """Colours of one scheme, the same as the page's."""

    ground: str
    ink: str
    quiet: str
    line: str
    band: str
    better: str
    worse: str
    preferred: dict[str, str]  # by system
    others: tuple[str, ...]

    def of(self, results: Results) -> Iterator[tuple[System, str, str]]:
        """Each system with its colour and marker, which are the same in all plots."""
        others = iter(self.others * len(results.systems))
        for number, system in enumerate(results.systems):
            colour = self.preferred.get(system.name) or next(others)
            yield system, colour, _MARKERS[number % len(_MARKERS)]


LIGHT = Theme(
    "#ffffff", "#211a26", "#6a6071", "#d9d2de", "#f6f2f9", "#005a9c", "#c04a00",
    {"direct": "#2f2836", "frozen": "#d97a00", "tuned": "#7b3fa0"},
    ("#2e9e79", "#2b2bee", "#761c0a", "#9d71f4", "#d92644", "#0a6476"),
)  # fmt: skip
DARK = Theme(
    "#211c26", "#f0ebf3", "#aaa0b1", "#4a4052", "#2a2430", "#6cbcf5", "#ff9a52",
    {"direct": "#efe9f3", "frozen": "#f0a030", "tuned": "#c79ae2"},
    ("#1b986e", "#cd2bee", "#89f59b", "#9e792e", "#ec13a4", "#b3f471"),
)  # fmt: skip


@dataclass(frozen=True)
class Plot:
    """One plot as PNG for light and for dark pages, with its text alternative."""

    name: str
    title: str
    alt: str
    light: bytes
    dark: bytes


def draw(results: Results, direct: System | None, other: System | None) -> list[Plot]:
    """The plots for which there are numbers; two of them compare ``other`` with ``direct``."""
    pair = direct, other
    found = _languages(results), _cost(results), _ranks(results, *pair), _similarity(*pair)
    return [plot for plot in (*found, _reliability(results)) if plot]


def measured(results: Results, system: System, name: str = ALL) -> Estimate | None:
    """The main metric on one slice."""
    return system.metrics.get(name, {}).get(results.main_metric)


def _languages(results: Results) -> Plot | None:
    slices = [name for name in results.slices if name.startswith(_LANGUAGE)]
    systems, metric = results.systems, results.main_metric
    if not slices or not systems:
        return None

    def paint(figure: Figure, theme: Theme) -> None:
        axes = _dress(figure.add_subplot(), theme)
        for row in range(0, len(slices), 2):
            axes.axhspan(row - 0.5, row + 0.5, color=theme.band, zorder=0)
        for number, (system, colour, marker) in enumerate(theme.of(results)):
            shift = (number - (len(systems) - 1) / 2) * 0.8 / len(systems)
            found = [measured(results, system, name) for name in slices]
            points = [(one, row + shift) for row, one in enumerate(found) if one]
            for one, y in points:
                axes.plot([one.low, one.high], [y, y], color=colour, lw=1.4, alpha=0.7)
            values, rows = [one.value for one, _ in points], [y for _, y in points]
            axes.plot(values, rows, marker, color=colour, ms=4.5, label=system.name)
        axes.set_yticks(range(len(slices)), [name[len(_LANGUAGE) :] for name in slices])
        axes.set_ylim(len(slices) - 0.5, -0.5)  # the first slice on top
        axes.set_xlabel(f"{metric}, with 95 % interval")
        axes.grid(axis="y", visible=False)
        _legend(figure, axes, theme)

    found = {s.name: [e.value for n in slices if (e := measured(results, s, n))] for s in systems}
    ranges = (f"{name} {min(some):.3f} to {max(some):.3f}" for name, some in found.items() if some)
    return _plot(
        "languages", f"{metric} by language",
        f"Points with interval bars for {len(slices)} languages: {', '.join(ranges)}.",
        paint, 1.1 + len(slices) * max(0.3, 0.1 + 0.075 * len(systems)),
    )  # fmt: skip


def _cost(results: Results) -> Plot | None:
    known = [(s, one) for s in results.systems if (one := measured(results, s))]
    paid = [system.cost.llm_seconds for system, _ in known if system.cost.llm_seconds > 0]
    if not known:
        return None

    def paint(figure: Figure, theme: Theme) -> None:
        axes = _dress(figure.add_subplot(), theme)
        for system, colour, marker in theme.of(results):
            if one := measured(results, system):
                x = system.cost.llm_seconds
                axes.plot([x, x], [one.low, one.high], color=colour, lw=1.6, alpha=0.7)
                axes.plot(x, one.value, marker, color=colour, ms=8, label=system.name)
        if paid:  # logarithmic down to the cheapest system, linear from there to 0
            least = 10 ** np.floor(np.log10(min(paid)))
            axes.set_xscale("symlog", linthresh=least, linscale=0.4)
            axes.set_xlim(-0.25 * least, max(paid) * 2.5)
            axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        axes.set(xlabel="seconds of the language model per query", ylabel=results.main_metric)
        _legend(figure, axes, theme)

    each = (f"{s.name} {e.value:.3f} at {s.cost.llm_seconds:.2g} s" for s, e in known)
    return _plot(
        "cost", f"{results.main_metric} against cost",
        f"{results.main_metric} against seconds per query: {', '.join(each)}.",
        paint, 4.2,
    )  # fmt: skip


def _ranks(results: Results, direct: System | None, other: System | None) -> Plot | None:
    if not direct or not other or not direct.ranks:
        return None
    both = np.column_stack([direct.ranks, other.ranks])
    (before, after), counts = (part.T for part in np.unique(both, axis=0, return_counts=True))
    top, size = max(int(both.max()), 10) * 1.4, 12 + 400 / len(both)
    groups = {"better": after < before, "same": after == before, "worse": after > before}
    labels = {name: f"{name}: {counts[which].sum():,}" for name, which in groups.items()}

    def paint(figure: Figure, theme: Theme) -> None:
        axes = _dress(figure.add_subplot(), theme)
        axes.set(xscale="log", yscale="log", xlim=(0.75, top), ylim=(0.75, top), aspect="equal")
        axes.plot([0.75, top], [0.75, top], color=theme.quiet, lw=1)
        for limit in re.findall(r"@(\d+)$", results.main_metric):
            for line in (axes.axhline, axes.axvline):
                line(int(limit) + 0.5, color=theme.quiet, lw=1, ls=":")
        marks = zip(groups.items(), (theme.better, theme.quiet, theme.worse), "vo^", strict=True)
        for (name, which), colour, marker in marks:
            axes.scatter(
                before[which], after[which], s=size * np.sqrt(counts[which]), c=colour, alpha=0.6,
                marker=marker, linewidths=0, label=labels[name],
            )  # fmt: skip
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda x, _: f"{x:,.0f}")
            axis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="rank by direct", ylabel=f"rank by {other.name}")
        _legend(figure, axes, theme, markerscale=5 / np.sqrt(size))

    return _plot(
        "ranks", f"Rank of the best target: direct and {other.name}",
        f"Scatter of rank by direct against rank by {other.name}, both logarithmic, "
        f"{len(both):,} queries. {', '.join(labels.values())}.",
        paint, 6.2,
    )  # fmt: skip


def _similarity(*systems: System | None) -> Plot | None:
    """Both distributions are shown: scores that rise for all pictures alike improve no ranking."""
    parts = [
        (s.name, np.array(s.target_similarity), np.array(s.random_similarity))
        for s in systems if s and s.target_similarity and s.random_similarity
    ]  # fmt: skip
    if not parts:
        return None
    means = [
        f"{name}: to the target {target.mean():.3f}, to random {random.mean():.3f}, "
        f"gap {target.mean() - random.mean():.3f}" for name, target, random in parts
    ]  # fmt: skip
    values = np.concatenate([part for _, *both in parts for part in both])
    bins = np.linspace(values.min() - 0.01, values.max() + 0.01, 49)

    def paint(figure: Figure, theme: Theme) -> None:
        rows = figure.subplots(len(parts), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, title, (_, target, random) in zip(rows, means, parts, strict=True):
            _dress(axes, theme)
            for kind, part, colour, hatch in (
                ("to random pictures", random, theme.worse, "////"),
                ("to the target", target, theme.better, ""),
            ):
                axes.hist(
                    part, bins, weights=np.full(len(part), 1 / len(part)), histtype="stepfilled",
                    facecolor=(colour, 0.25), edgecolor=colour, hatch=hatch, label=kind,
                )  # fmt: skip
                axes.axvline(part.mean(), color=colour, lw=2.2, ls="--")
            axes.set_title(title, loc="left", color=theme.ink, fontsize=10)
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        rows[-1].set_xlabel("cosine similarity of query and picture")
        figure.supylabel("share of the queries", color=theme.ink, fontsize=10)
        _legend(figure, rows[0], theme)

    return _plot(
        "similarity", "Similarity to the target and to random pictures",
        f"Histograms of cosine similarity. Means: {'; '.join(means)}.",
        paint, 1.4 + 1.9 * len(parts),
    )  # fmt: skip


def _reliability(results: Results) -> Plot | None:
    known = {s.name: s.calibration for s in results.systems if s.calibration}
    if not known:
        return None

    def paint(figure: Figure, theme: Theme) -> None:
        axes = _dress(figure.add_subplot(), theme)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        axes.plot([0, 1], [0, 1], color=theme.quiet, lw=1)
        for system, colour, marker in theme.of(results):
            if found := known.get(system.name):
                scores, right = zip(*((one.score, one.right) for one in found.bins), strict=True)
                shares = np.array([one.queries for one in found.bins]) / len(system.ranks)
                axes.plot(scores, right, color=colour, lw=1.2, alpha=0.6)
                axes.scatter(scores, right, s=12 + 200 * shares, c=colour, marker=marker,
                             linewidths=0, label=system.name)  # fmt: skip
        axes.set(xlabel="score of the first hit, mean of a bin", ylabel="share that is right")
        _legend(figure, axes, theme)

    each = (f"{name} {found.error:.3f}" for name, found in known.items())
    return _plot(
        "reliability", "Reliability of the score",
        "Reliability diagram in ten bins: share of first hits that are right against their score. "
        f"Expected calibration error: {', '.join(each)}.",
        paint, 6.4,
    )  # fmt: skip


def _plot(name: str, title: str, alt: str, paint: Painter, height: float) -> Plot:
    images = []
    for theme in (LIGHT, DARK):
        figure = Figure((_WIDTH, height), _DPI, facecolor=theme.ground, layout="constrained")
        paint(figure, theme)
        image = io.BytesIO()
        figure.savefig(image, format="png")
        images.append(image.getvalue())
    return Plot(name, title, alt, *images)


def _dress(axes: Axes, theme: Theme) -> Axes:
    axes.set(facecolor=theme.ground, axisbelow=True)
    axes.tick_params(which="both", colors=theme.quiet, labelcolor=theme.ink, labelsize=10)
    axes.grid(color=theme.line, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.quiet)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=theme.ink, fontsize=10)
    return axes


def _legend(figure: Figure, axes: Axes, theme: Theme, markerscale: float = 1) -> None:
    marks, labels = axes.get_legend_handles_labels()
    figure.legend(
        marks, labels, loc="outside upper left", ncols=min(len(labels), 4), frameon=False,
        labelcolor=theme.ink, fontsize=10, handletextpad=0.4, columnspacing=1.2,
        markerscale=markerscale,
    )  # fmt: skip
