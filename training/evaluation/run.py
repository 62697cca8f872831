"""`grape eval` from top to bottom: queries, systems, metrics, statistics, results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from models.common import paths
from models.common.errors import InputError
from models.common.progress import say
from models.retriever.address import folder_of
from models.rewriter.adapter import Adapter, open_adapter
from models.rewriter.base_model import adapter_folder
from models.search.gate import Gate
from models.search.mixture import Mixture
from training.data.rows import Row
from training.data.splits import check_targets
from training.evaluation.bench import Bench
from training.evaluation.cross_encoder import PairModel
from training.evaluation.gallery import Gallery
from training.evaluation.measured import Fitted, Measured
from training.evaluation.metrics import MAIN
from training.evaluation.queries import (
    SliceNames,
    asked_rows,
    benchmark_index,
    described,
    eval_slices,
    index_of,
    pictures_of,
    slices_of,
)
from training.evaluation.report import trec
from training.evaluation.results import Query, Results
from training.evaluation.settings import EvalSettings
from training.evaluation.summarise import (
    gate_note,
    metrics_of,
    notes,
    system,
    versions,
    worst_losses,
)
from training.evaluation.systems import SYSTEMS, SystemSpec
from training.rewards.scorer import Retriever, load_retriever
from training.stages.language_model import LanguageModel
from training.stages.sampling import Engine


@dataclass(frozen=True)
class Evaluation:
    """The queries, and everything that the systems are made of."""

    settings: EvalSettings
    rows: Sequence[Row]
    retriever: Retriever
    base: LanguageModel | None  # None if no system needs a language model
    adapter: Adapter | None
    fitted: Fitted
    pair_model: PairModel | None = None
    reranker: Adapter | None = None  # that compares; None: the system's own model does


class _Entry(NamedTuple):
    """A measured system."""

    spec: SystemSpec
    gallery: Gallery
    found: Measured


def evaluate(settings: EvalSettings) -> Results:
    """Measures the systems of the settings; what was measured before is read from the work folder.

    Raises:
        InputError: data, index, model or adapter cannot be used.
    """
    return measure(evaluation_of(settings))


def evaluation_of(settings: EvalSettings) -> Evaluation:
    """Loads the queries, and everything that the systems are made of.

    Raises:
        InputError: data, index, model or adapter cannot be used.
    """
    rows, benchmark = asked_rows(settings)
    _check_references(settings.systems, rows)
    pair_model = _pair_model(settings)
    if benchmark and not settings.index:
        settings.index = index_of(settings, benchmark)
    retriever = load_retriever(settings)
    check_targets(rows, retriever.index)
    needs_model = any(SYSTEMS[name].model in ("frozen", "tuned") for name in settings.systems)
    base = LanguageModel.named(settings.llm) if needs_model else None
    adapter = _adapter(settings, base)
    reranker = None
    if base and settings.rerank_adapter:
        reranker = open_adapter(settings.rerank_adapter, base.revision)
    fitted = _fitted(settings, retriever)
    return Evaluation(settings, rows, retriever, base, adapter, fitted, pair_model, reranker)


def measure(evaluation: Evaluation, slice_names: SliceNames = eval_slices) -> Results:
    """Measures every system on the rows that were chosen, and puts the results together.

    Args:
        slice_names: the slices that a row is in, given what the gate decides.
    """
    settings, rows, retriever = evaluation.settings, evaluation.rows, evaluation.retriever
    gallery = Gallery(retriever.encoder, retriever.index, settings.encoder_device)
    with Engine() as engine:
        bench = Bench(
            settings, rows, evaluation.base, evaluation.adapter, evaluation.fitted, engine,
            evaluation.pair_model, evaluation.reranker,
        )  # fmt: skip
        entries = _systems(bench, gallery)
    entries |= _other_encoders(bench, gallery)
    queries = [
        described(row, rewritten, slice_names)
        for row, rewritten in zip(rows, bench.gated(gallery), strict=True)
    ]
    if settings.trec:
        runs = {name: _ids(entry) for name, entry in entries.items()}
        trec.write_all(settings.trec, [row.targets for row in rows], runs)
    return _results(evaluation, entries, queries)


def _systems(bench: Bench, gallery: Gallery) -> dict[str, _Entry]:
    specs = {name: SYSTEMS[name] for name in bench.settings.systems}
    found: dict[str, Measured] = {}
    # By model, so that each is loaded once; the results keep the order of the settings.
    by_model = sorted(specs.items(), key=lambda item: (item[1].model, item[1].frozen_judge))
    for name, spec in by_model:
        say(f"{name}: {spec.about}")
        found[name] = bench.measured(spec, gallery)
    return {name: _Entry(spec, gallery, found[name]) for name, spec in specs.items()}


def _other_encoders(bench: Bench, gallery: Gallery) -> dict[str, _Entry]:
    """The query as typed, searched by each of the other encoders."""
    entries = {}
    for name, where in bench.settings.encoders.items():
        say(f"{name}: the query as typed, by {where}")
        other = _other_gallery(bench.settings, bench.rows, where, gallery)
        spec = SystemSpec(f"the query as typed, by {other.encoder.fingerprint.name}")
        entries[name] = _Entry(spec, other, bench.measured(SYSTEMS["direct"], other))
    return entries


def _other_gallery(
    settings: EvalSettings, rows: Sequence[Row], where: str, gallery: Gallery
) -> Gallery:
    """The index in a folder, or an index of the same pictures by the encoder of that name."""
    folder = Path(where)
    if not folder.is_dir():
        # Behind a repository's name it is a revision.
        model, _, tag = (where, "", "") if ":" in where else where.partition("@")
        named = settings.model_copy(update={"encoder": model, "pretrained": tag or None})
        folder = benchmark_index(named, *pictures_of(gallery.index))
    other = load_retriever(settings.model_copy(update={"index": folder}))
    check_targets(rows, other.index)
    return Gallery(other.encoder, other.index, settings.encoder_device)


def _results(
    evaluation: Evaluation, entries: Mapping[str, _Entry], queries: Sequence[Query]
) -> Results:
    settings, rows, index = evaluation.settings, evaluation.rows, evaluation.retriever.index
    slices = slices_of(queries)
    measured = {name: entry.found for name, entry in entries.items()}
    metrics = {
        name: metrics_of(entry.found, entry.gallery.positions(rows))
        for name, entry in entries.items()
    }
    return Results(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        title=f"{settings.data}, split {settings.split}",
        about=f"{len(rows)} queries in a gallery of {len(index):,} pictures",
        main_metric=MAIN,
        corpus=(settings.index or paths.index_dir()).name,
        corpus_size=len(index),
        encoder=evaluation.retriever.encoder.fingerprint.name.rsplit("/", 1)[-1],
        llm=evaluation.base.name if evaluation.base else "none",
        adapter=evaluation.adapter.name if evaluation.adapter else None,
        seed=settings.seed,
        versions=versions(),
        slices={name: len(part.positions) for name, part in slices.items()},
        queries=list(queries),
        systems=[
            system(entry.spec, entry.found, name, metrics, slices)
            for name, entry in entries.items()
        ],
        worst=worst_losses(queries, measured),
        notes=[*notes(rows, settings), *gate_note(queries, measured)],
    )


def _check_references(systems: Sequence[str], rows: Sequence[Row]) -> None:
    needy = [name for name in systems if SYSTEMS[name].by != "text"]
    if needy and not all(row.reference for row in rows):
        raise InputError(
            f"The system {needy[0]!r} needs queries with a reference picture, like CIRR's: leave "
            "the system out with --systems."
        )


def _pair_model(settings: EvalSettings) -> PairModel | None:
    needy = [name for name in settings.systems if SYSTEMS[name].rerank == "cross-encoder"]
    if not needy:
        return None
    if settings.cross_encoder is None:
        raise InputError(
            f"The system {needy[0]!r} needs a model: name it with --cross-encoder, or leave the "
            "system out with --systems."
        )
    return PairModel(settings.cross_encoder, settings.encoder_device)


def _fitted(settings: EvalSettings, retriever: Retriever) -> Fitted:
    """What is served with the adapter, whether or not a system with it is compared."""
    folder = adapter_folder(settings.adapter, settings.llm, settings.index)
    encoder = retriever.encoder.fingerprint.weights_sha256
    mixture = Mixture.in_folder(folder or folder_of(settings.index or paths.index_dir()), encoder)
    if settings.rerank_adapter:
        own = Mixture.in_folder(settings.rerank_adapter, encoder)
        mixture = mixture.model_copy(update={"rerank": own.rerank})
    return Fitted(Gate.for_adapter(folder) if folder else Gate(), mixture)


def _adapter(settings: EvalSettings, base: LanguageModel | None) -> Adapter | None:
    tuned = [name for name in settings.systems if SYSTEMS[name].model == "tuned"]
    if not tuned or base is None:
        return None
    folder = adapter_folder(settings.adapter, settings.llm, settings.index)
    if folder is None:
        raise InputError(
            f"The system {tuned[0]!r} needs an adapter: name its folder with --adapter, or leave "
            "the system out with --systems."
        )
    return open_adapter(folder, base.revision)


def _ids(entry: _Entry) -> list[list[str]]:
    ids = entry.gallery.index.ids
    return [[ids[position] for position in positions] for positions in entry.found.top]
