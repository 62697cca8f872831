"""The results as Markdown tables, for a terminal and for a README."""

from collections.abc import Collection

from training.evaluation.results import ALL, Estimate, Results, System


def as_text(results: Results) -> str:
    """All metrics over all queries, the main one by slice, and the comparisons over all queries."""
    parts = [f"{results.title}: {results.about}", overall(results), by_slice(results)]
    return "\n\n".join([*parts, *comparisons(results), "\n".join(results.notes)])


def overall(results: Results) -> str:
    """Systems by metrics, with cost."""
    names = list(results.systems[0].metrics[ALL])
    lines = [
        f"| | {' | '.join(names)} | median rank | tokens written | LLM s | searches |",
        "|---|" + "---:|" * (len(names) + 4),
    ]
    for system in results.systems:
        cells = [_cell(system.metrics[ALL][name]) for name in names]
        cells += [f"{system.median_rank[ALL]:.0f}", f"{system.cost.written_tokens:.1f}"]
        cells += [f"{system.cost.llm_seconds:.3f}", f"{system.cost.searches:.1f}"]
        lines.append(f"| {system.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def by_slice(results: Results, names: Collection[str] | None = None) -> str:
    """The main metric of each slice, or of those named; * marks a difference from direct after
    Holm's correction.
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
    """A sentence for each system against direct and frozen, over all queries."""
    sentences = []
    for system in results.systems:
        for c in system.comparisons:
            if c.slice == ALL:
                d = c.difference
                sentences.append(
                    f"{system.name} less {c.against}: {d.value:+.3f} {results.main_metric} "
                    f"[{d.low:+.3f}, {d.high:+.3f}], p {c.p:.2g}, Holm {c.p_holm:.2g}; "
                    f"{c.wins} wins, {c.ties} ties, {c.losses} losses"
                )
    return ["\n".join(sentences)] if sentences else []


def _cell(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _mark(system: System, slice_name: str) -> str:
    differs = any(
        c.against == "direct" and c.slice == slice_name and c.p_holm < 0.05
        for c in system.comparisons
    )
    return " *" if differs else ""
