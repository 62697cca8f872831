"""The report of an evaluation: a self-contained HTML page, its plots, and the numbers as JSON."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from models.common.files import write_file
from training.evaluation.report import plots
from training.evaluation.results import ALL, Comparison, Estimate, Results, System

_ALPHA = 0.05


@dataclass(frozen=True)
class Verdict:
    """Whether a difference is significant after Holm's correction; never shown by colour alone."""

    style: str  # CSS class
    sign: str
    word: str


BETTER = Verdict("better", "▲", "better")
WORSE = Verdict("worse", "▼", "worse")
OPEN = Verdict("open", "", "not significant")


def write_report(results: Results, folder: Path) -> None:
    """Writes ``results.json``, the plots as PNG, and last ``report.html``, which needs neither."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = plots.draw(results, *direct_and_rival(results))
    write_file(folder / "results.json", results.model_dump_json(indent=1).encode())
    for name in plots.NAMES:  # plots of an earlier report must not survive
        (folder / f"{name}.png").unlink(missing_ok=True)
    for plot in drawn:
        write_file(folder / f"{plot.name}.png", plot.light)
    write_file(folder / "report.html", page(results, drawn).encode())


def page(results: Results, drawn: list[plots.Plot]) -> str:
    """The page, with its styles and plots embedded."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # queries are untrusted text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "base64": lambda image: base64.b64encode(image).decode(),
        "count": lambda number: f"{number:,}",
        "number": number,
        "p": p_value,
        "short": short,
        "signed": signed,
        "verdict": verdict,
    }
    return environment.get_template("report.html").render(
        results=results,
        plots=drawn,
        other=direct_and_rival(results)[1],
        sentence=sentence(results),
        all=ALL,
        count=results.slices.get(ALL, len(results.queries)),
        metrics=list(dict.fromkeys(m for s in results.systems for m in s.metrics.get(ALL, {}))),
        best=_best(results),
        calibrated=[system for system in results.systems if system.calibration],
        against_direct={
            (system.name, one.slice): one
            for system in results.systems
            for one in system.comparisons
            if one.against == "direct"
        },
        comparisons=_by_slice(results),
    )


def sentence(results: Results) -> str:
    """The result in plain words, also if there is no gain or if it may be chance."""
    measured = [
        system for system in results.systems if plots.measured(results, system) and not system.bound
    ]
    if not measured:
        return f"No system was measured by {results.main_metric}."
    top = max(_value(results, system) for system in measured)
    leaders = [system for system in measured if _value(results, system) == top]
    best = next((system for system in leaders if system.name == "tuned"), leaders[0])
    count = results.slices.get(ALL, len(results.queries))
    queries = "the one query" if count == 1 else f"all {count:,} queries"
    at = f"{results.main_metric} over {queries}, {interval(best.metrics[ALL][results.main_metric])}"
    if len(measured) == 1:
        return f"{best.name} has {at}; no other system was measured."
    if len(leaders) > 1:
        said = f"{listed([system.name for system in leaders])} share the highest {at}"
    else:
        said = f"{best.name} has the highest {at}"
    if best.name == "direct":
        said += ": no rewriting finds more than the query as typed"
    elif standing := _standing(best):
        said += f": {best.name} is {standing}" if len(leaders) > 1 else f": {standing}"
    other = direct_and_rival(results)[1]
    if other and other not in leaders and (standing := _standing(other)):
        said += f"; {other.name} is {standing}"
    return f"{said}."


def _standing(system: System) -> str:
    """How a system compares with direct and with frozen, over all queries."""
    found: list[str] = []
    for one in system.comparisons:
        if one.slice == ALL and one.against != system.name:
            side = "above" if one.difference.value > 0 else "below"
            by = f"{abs(one.difference.value):.3f} {side}" if one.difference.value else "level with"
            of = "" if found else "95\u00a0% interval "
            doubt = one.difference.value and verdict(one) is OPEN
            chance = f"; may be chance, Holm p {p_value(one.p_holm, '= ')}" if doubt else ""
            low, high = signed(one.difference.low), signed(one.difference.high)
            found.append(f"{by} {one.against} ({of}{low} to {high}{chance})")
    return listed(found)


def direct_and_rival(results: Results) -> tuple[System | None, System | None]:
    """The direct search and the system that the plots compare it with: tuned, or else the best."""
    named = {system.name: system for system in results.systems}
    others = [s for s in results.systems if s.name != "direct" and not s.bound]
    best = max(others, key=lambda system: _value(results, system), default=None)
    return named.get("direct"), named.get("tuned", best)


def _value(results: Results, system: System) -> float:
    """The main metric over all queries, to sort by; -1 if it was not measured."""
    found = plots.measured(results, system)
    return found.value if found else -1.0


def verdict(one: Comparison | None) -> Verdict:
    """Whether and in which direction a difference is significant, after Holm's correction."""
    if one is None or not one.p_holm < _ALPHA or one.difference.value == 0:
        return OPEN
    return BETTER if one.difference.value > 0 else WORSE


def _best(results: Results) -> dict[str, float]:
    """The best value of each metric and slice, shown in bold, and the lowest median rank."""
    columns: dict[str, list[float]] = {}
    rivals = [system for system in results.systems if not system.bound]
    for system in rivals:
        for metric, estimate in system.metrics.get(ALL, {}).items():
            columns.setdefault(metric, []).append(estimate.value)
        for name, metrics in system.metrics.items():
            if found := metrics.get(results.main_metric):
                columns.setdefault(f"slice {name}", []).append(found.value)
    best = {name: max(values) for name, values in columns.items()}
    medians = [s.median_rank[ALL] for s in rivals if ALL in s.median_rank]
    return best | {"median": min(medians, default=math.nan)}


def _by_slice(results: Results) -> dict[str, list[tuple[str, Comparison]]]:
    """The comparisons by slice, in the order to show; the slice of all queries first."""
    found: dict[str, list[tuple[str, Comparison]]] = {ALL: [], **{n: [] for n in results.slices}}
    for system in results.systems:
        for one in sorted(system.comparisons, key=lambda one: one.against):
            found.setdefault(one.slice, []).append((system.name, one))
    return {name: rows for name, rows in found.items() if rows}


def number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def signed(value: float) -> str:
    """Three decimals with a typographic sign; zero has no sign."""
    text = f"{value:+.3f}".replace("-", "−")
    return text if float(f"{value:.3f}") else "0.000"


def short(value: float) -> str:
    """Three significant digits; zero is 0."""
    if value == 0 or math.isnan(value):
        return "0" if value == 0 else "–"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def p_value(value: float, equals: str = "") -> str:
    return "< 0.001" if value < 0.001 else f"{equals}{number(value)}"


def interval(one: Estimate) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def listed(words: Sequence[str]) -> str:
    """The words joined as in a sentence."""
    *first, last = words or [""]
    return f"{', '.join(first)} and {last}" if first else last
