"""The results as Markdown: for a terminal, a README or a model card."""

from collections.abc import Collection

from training.evaluation.results import (
    ALL,
    MEAN_OF_LANGUAGES,
    Against,
    Comparison,
    Estimate,
    Results,
    System,
)


def as_text(results: Results) -> str:
    """All metrics over all queries, the main metric by slice, comparisons, calibration, notes."""
    parts = [f"{results.title}: {results.about}", overall(results), by_slice(results)]
    parts += [*comparisons(results), *calibrations(results)]
    return "\n\n".join([*parts, "\n".join(results.notes)])


def overall(results: Results) -> str:
    """A row for each system: metrics over all queries, and cost."""
    names = list(results.systems[0].metrics[ALL])
    lines = [
        f"| | {' | '.join(names)} | median rank | prompts | tokens read | tokens written | LLM s "
        "| searches |",
        "|---|" + "---:|" * (len(names) + 6),
    ]
    for system in results.systems:
        cells = [_cell(system.metrics[ALL][name]) for name in names]
        cost = system.cost
        cells += [f"{system.median_rank[ALL]:.0f}", f"{cost.prompts:.1f}"]
        cells += [f"{cost.prompt_tokens:.1f}", f"{cost.written_tokens:.1f}"]
        cells += [f"{cost.llm_seconds:.3f}", f"{cost.searches:.1f}"]
        lines.append(f"| {system.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def by_slice(results: Results, names: Collection[str] | None = None) -> str:
    """A row for each slice: the main metric of each system. An asterisk marks a significant
    difference from direct, after Holm's correction.

    Args:
        names: the slices to show; all by default.
    """
    systems = results.systems
    lines = [
        f"| {results.main_metric} | queries | {' | '.join(s.name for s in systems)} |",
        "|---|" + "---:|" * (len(systems) + 1),
    ]
    for name, count in results.slices.items():
        if names and name not in names:
            continue
        cells = [
            _cell(system.metrics[name][results.main_metric]) + _mark(system, name)
            for system in systems
        ]
        lines.append(f"| {name} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def comparisons(results: Results) -> list[str]:
    """One line for each system minus direct and minus frozen, over all queries."""
    sentences = []
    for system in results.systems:
        for c in system.comparisons:
            if c.slice == ALL:
                d = c.difference
                sentences.append(
                    f"{system.name} minus {c.against}: {d.value:+.3f} {results.main_metric} "
                    f"[{d.low:+.3f}, {d.high:+.3f}], p {c.p:.2g}, Holm {c.p_holm:.2g}; "
                    f"{c.wins} wins, {c.ties} ties, {c.losses} losses"
                )
    return ["\n".join(sentences)] if sentences else []


def calibrations(results: Results) -> list[str]:
    """A row for each system whose scores are probabilities; see :class:`Calibration`."""
    lines = [
        "| first hit | calibration error | mean score | right | confident | right if confident |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for system in results.systems:
        if found := system.calibration:
            sure = found.right_if_confident
            cells = [found.error, found.score, found.right, found.confident]
            numbers = [*(f"{cell:.3f}" for cell in cells), "" if sure is None else f"{sure:.3f}"]
            lines.append(f"| {system.name} | {' | '.join(numbers)} |")
    return ["\n".join(lines), warnings_of(results)] if len(lines) > 2 else []


def warnings_of(results: Results) -> str:
    """A row for each system: `confident: false` as a warning; see :class:`NothingFound`."""
    lines = [
        "| nothing found | warned, if the picture is missing | warned rightly | right if confident "
        "| confident if right |",
        "|---|---:|---:|---:|---:|",
    ]
    for system in results.systems:
        if system.calibration:
            found = system.calibration.nothing_found
            cells = [found.recall, found.precision, found.right_if_confident, found.kept]
            numbers = ["" if cell is None else f"{cell:.3f}" for cell in cells]
            lines.append(f"| {system.name} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def adapter_summary(results: Results) -> str:
    """The test of a new adapter: the main metric by slice, and the gain over the frozen model."""
    name = MEAN_OF_LANGUAGES if MEAN_OF_LANGUAGES in results.slices else ALL
    gain = _comparison(results, "tuned", "frozen", name).difference
    return (
        f"{by_slice(results)}\n\n"
        "`*` differs from direct after Holm's correction (p < 0.05).\n\n"
        f"Tuned minus frozen, {'all queries' if name == ALL else name}: {gain.value:+.3f} "
        f"{results.main_metric}, 95 % interval {gain.low:+.3f} to {gain.high:+.3f} "
        "(paired bootstrap over queries)."
    )


def _comparison(results: Results, name: str, against: Against, slice_name: str) -> Comparison:
    (found,) = (
        c
        for system in results.systems
        for c in system.comparisons
        if system.name == name and c.against == against and c.slice == slice_name
    )
    return found


def _cell(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _mark(system: System, slice_name: str) -> str:
    differs = any(
        c.against == "direct" and c.slice == slice_name and c.p_holm < 0.05
        for c in system.comparisons
    )
    return " *" if differs else ""
