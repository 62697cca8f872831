"""`grape eval --fit-mixture`: tau and the weights of a mixture, fitted on the split 'validation'.

tau is the one with the greatest likelihood, the mean of log p(right pictures | query): p is then as
good as a probability can be. A weight is the one with the best MRR@10; of those that a single query
puts behind it, the one that is served, or else the likeliest. R@10 would not do: a weight often
changes it by no more than a query or two, while R@1 falls. The query as typed has a weight for each
kind of query; a picture to be changed has one, and so have the words that change it. A weight for
which there are too few queries stays as it is served. `confident` is the lowest score from which at
least half of the first hits are right, if half of the queries have no picture in the gallery: each
query counts twice, with its right pictures and without.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from models.common import paths
from models.common.errors import InputError
from models.common.files import write_file
from models.retriever.address import IndexPlace, folder_of
from models.rewriter.base_model import adapter_folder
from models.search.gate import Kind
from models.search.mixture import MIXTURE_JSON, Mixture
from training.evaluation.bench import Bench
from training.evaluation.gallery import Gallery
from training.evaluation.measured import Fitted, Measured
from training.evaluation.run import Evaluation, evaluation_of
from training.evaluation.settings import EvalSettings
from training.evaluation.systems import SYSTEMS
from training.rewards.ranking import Floats
from training.stages.sampling import Engine

SPLIT = "validation"
TAUS = (0.01, 0.0133, 0.02, 0.0266, 0.035, 0.05, 0.07, 0.1)
# Weights of the query as typed: at most half, as a rewrite that was asked for should count.
TYPED = (0.0, 0.1, 0.25, 0.5)
# Of a picture, and of the words that change it. Why no more for these: docs/decisions.
CHANGE = {"reference": (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5), "change": (0.0, 0.05, 0.1, 0.2)}
_ENOUGH = 20  # queries of a kind; with fewer its weight stays
_LEAST = 1e-12  # probability, so that one lost picture does not decide

Measure = Callable[[Mixture], Measured]
Flags = npt.NDArray[np.bool_]


def fit_mixture(settings: EvalSettings) -> str:
    """Fits a mixture to the index, the encoder and the adapter, and saves it.

    It is saved in the adapter's folder; without an adapter, in the index's. All queries are
    rewritten, also those that the gate would keep.

    Raises:
        InputError: there are too few queries to fit on, or a part cannot be used.
    """
    adapter = adapter_folder(settings.adapter, settings.llm, settings.index)
    served_as = "always" if adapter else "frozen-always"
    asked = settings.model_copy(update={"split": SPLIT, "systems": [served_as]})
    evaluation = evaluation_of(asked)
    retriever, served = evaluation.retriever, evaluation.fitted.mixture
    gallery = Gallery(retriever.encoder, retriever.index, asked.encoder_device)
    with Engine() as engine:

        def measure(mixture: Mixture) -> Measured:
            return _bench(evaluation, mixture, engine).measured(SYSTEMS[served_as], gallery)

        kinds = _kinds(evaluation, gallery, engine)
        fitted = best_mixture(measure, kinds, served)
        before, after = measure(served), measure(fitted)
    data = f"{asked.data}, split {SPLIT}: {len(kinds)} queries in a gallery of "
    data += f"{len(retriever.index):,} pictures"
    fitted = fitted.model_copy(
        update={
            "encoder_weights_sha256": retriever.encoder.fingerprint.weights_sha256,
            "fitted_on": _fitted_on(data, kinds, served),
        }
    )
    path = mixture_file(adapter, settings.index)
    write_file(path, (fitted.model_dump_json(indent=2) + "\n").encode())
    tau = fitted.temperature(retriever.encoder.temperature)
    return (
        f"{path}: tau {tau:.3g}. On the validation split, R@10 of rewriting every query is "
        f"{_recall(after).mean():.3f} (before the fit {_recall(before).mean():.3f}), and the mean "
        f"log probability of the right picture {_likelihood(after).mean():.3f} "
        f"({_likelihood(before).mean():.3f})."
    )


def mixture_file(folder: Path | None, index: IndexPlace | None) -> Path:
    """Where a fitted mixture is kept: with the adapter, or else with the index.

    Raises:
        InputError: there is no adapter, and the index is in Milvus.
    """
    kept_in = folder or folder_of(index or paths.index_dir())
    if kept_in is None:
        raise InputError("An index in Milvus keeps no mixture: name the --adapter that it is for.")
    return kept_in / MIXTURE_JSON


def best_mixture(measure: Measure, kinds: Sequence[Kind | None], served: Mixture) -> Mixture:
    """The best tau, then the best weights.

    Args:
        measure: what a mixture finds for each query.
        kinds: of each query; None for a picture to be changed.
        served: the mixture that is served now.

    Raises:
        InputError: there are too few queries.
    """
    changes = np.array([kind is None for kind in kinds])
    if max(changes.sum(), (~changes).sum()) < _ENOUGH:
        raise InputError(f"Fitting a mixture needs at least {_ENOUGH} queries; there are fewer.")
    fitted = served
    if (~changes).sum() >= _ENOUGH:
        fitted = _with_typed(measure, kinds, _with_tau(measure, ~changes, fitted))
        confident = _confident_from(measure(fitted), ~changes)
        fitted = fitted.model_copy(update={"confident": confident})
    if changes.sum() >= _ENOUGH:
        for part in CHANGE:
            fitted = _with_change(measure, changes, fitted, part)
    return fitted


def _with_tau(measure: Measure, own: Flags, served: Mixture) -> Mixture:
    taus = [served.model_copy(update={"tau": tau}) for tau in TAUS]
    return max(taus, key=lambda mixture: _likelihood(measure(mixture))[own].mean())


def _with_typed(measure: Measure, kinds: Sequence[Kind | None], mixture: Mixture) -> Mixture:
    # The weight of one kind does not matter to another: all are tried at once.
    found = {
        weight: measure(mixture.model_copy(update={"typed": dict.fromkeys(get_args(Kind), weight)}))
        for weight in {*TYPED, *mixture.typed.values()}
    }
    typed = dict(mixture.typed)
    for kind in get_args(Kind):
        own = np.array([other == kind for other in kinds])
        if own.sum() >= _ENOUGH:
            typed[kind] = _best_weight(found, own, typed[kind])
    return mixture.model_copy(update={"typed": typed})


def _with_change(measure: Measure, changes: Flags, mixture: Mixture, part: str) -> Mixture:
    served = getattr(mixture, part)
    found = {w: measure(mixture.model_copy(update={part: w})) for w in {*CHANGE[part], served}}
    # A query is searched with the picture or with the words; the weight of the other is idle.
    ends = [_likelihood(found[weight]) for weight in (CHANGE[part][0], CHANGE[part][-1])]
    own = changes & (ends[0] != ends[1])
    if own.sum() < _ENOUGH:
        return mixture
    return mixture.model_copy(update={part: _best_weight(found, own, served)})


def _confident_from(found: Measured, own: Flags) -> float:
    """The lowest score from which at least half of some queries' first hits are right."""
    with_pictures = np.array(found.first_probability, float)[own]
    without = np.array(found.first_without, float)[own]
    scores = np.concatenate([with_pictures, without])
    right = np.concatenate([(np.array(found.ranks) == 1)[own], np.zeros(len(without), bool)])
    falling = np.argsort(-scores)
    so_far = np.cumsum(right[falling]) / np.arange(1, len(scores) + 1)
    enough = np.flatnonzero(so_far >= 0.5)
    return round(float(scores[falling[enough[-1]]]), 4) if len(enough) else 1.0


def _best_weight(found: Mapping[float, Measured], own: Flags, served: float) -> float:
    """A weight whose MRR@10, of some of the queries, is as good as the best."""
    sums = {weight: reciprocal_rank(measured)[own].sum() for weight, measured in found.items()}
    most = max(sums.values())
    good = [weight for weight, total in sums.items() if total > most - 1]  # a query moves it by 1
    if served in good:
        return served
    return max(good, key=lambda weight: _likelihood(found[weight])[own].mean())


def _bench(evaluation: Evaluation, mixture: Mixture, engine: Engine) -> Bench:
    return Bench(
        evaluation.settings,
        evaluation.rows,
        evaluation.base,
        evaluation.adapter,
        Fitted(evaluation.fitted.gate, mixture),
        engine,
    )


def _kinds(evaluation: Evaluation, gallery: Gallery, engine: Engine) -> list[Kind | None]:
    decisions = _bench(evaluation, Mixture(), engine).decisions(gallery)
    return [
        None if row.task == "composed" else decision.kind
        for row, decision in zip(evaluation.rows, decisions, strict=True)
    ]


def _fitted_on(data: str, kinds: Sequence[Kind | None], served: Mixture) -> str:
    """The data, and that of an earlier fit of which a part stays."""
    texts_and_changes = None in kinds and len(set(kinds)) > 1
    earlier = [] if texts_and_changes else served.fitted_on.split("; ")
    return "; ".join(filter(None, dict.fromkeys([*earlier, data])))


def _recall(found: Measured) -> Floats:
    return (np.array(found.ranks) <= 10).astype(float)


def reciprocal_rank(found: Measured) -> Floats:
    """Of each query's right picture, 0 beyond the tenth rank."""
    ranks = np.array(found.ranks)
    reciprocal: Floats = np.where(ranks <= 10, 1 / ranks, 0.0)
    return reciprocal


def _likelihood(found: Measured) -> Floats:
    """log p(right pictures | query) of each query."""
    known = [probability or 0.0 for probability in found.target_probability]
    likelihood: Floats = np.log(np.maximum(np.array(known), _LEAST))
    return likelihood
