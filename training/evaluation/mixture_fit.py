"""`grape eval --fit-mixture`: tau and the weights of a mixture, fitted on the split 'validation'.

tau is the one with the greatest likelihood, the mean of log p(right pictures | query): p is then as
good as a probability can be. The weight of the query as typed is chosen for each kind of query by
R@10, which it changes most; the likelihood decides between equal ones.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from models.common import paths
from models.common.files import write_file
from models.rewriter.base_model import adapter_folder
from models.search.gate import Kind
from models.search.mixture import MIXTURE_JSON, Mixture
from training.evaluation.bench import Bench, Fitted, Measured
from training.evaluation.gallery import Gallery
from training.evaluation.queries import asked_rows
from training.evaluation.run import Evaluation, evaluation_of
from training.evaluation.settings import EvalSettings
from training.evaluation.systems import SYSTEMS
from training.rewards.ranking import Floats
from training.stages.sampling import Engine

SPLIT = "validation"
TAUS = (0.01, 0.0133, 0.02, 0.0266, 0.035, 0.05, 0.07, 0.1)
WEIGHTS = (0.0, 0.1, 0.25, 0.5)
_ENOUGH = 20  # queries of a kind; with fewer the default stays
_LEAST = 1e-12  # probability, so that one lost picture does not decide

Measure = Callable[[Mixture], Measured]


def fit_mixture(settings: EvalSettings) -> str:
    """Fits a mixture to the index, the encoder and the adapter, and saves it.

    It is saved in the adapter's folder; without an adapter, in the index's.

    Raises:
        InputError: there are no queries to fit on, or a part cannot be used.
    """
    asked = settings.model_copy(update={"split": SPLIT, "systems": ["always"]})
    rows, _ = asked_rows(asked)
    evaluation = evaluation_of(asked, rows)
    retriever = evaluation.retriever
    gallery = Gallery(retriever.encoder, retriever.index, asked.encoder_device)
    with Engine() as engine:
        measure = _measure(evaluation, gallery, engine)
        kinds = _kinds(evaluation, gallery, engine)
        fitted = best_mixture(measure, kinds)
        before, after = measure(Mixture()), measure(fitted)
    encoder = retriever.encoder.fingerprint.weights_sha256
    fitted = fitted.model_copy(
        update={
            "encoder_weights_sha256": encoder,
            "fitted_on": f"{asked.data}, split {SPLIT}: {len(rows)} queries in a gallery of "
            f"{len(retriever.index):,} pictures",
        }
    )
    path = _folder(asked) / MIXTURE_JSON
    write_file(path, (fitted.model_dump_json(indent=2) + "\n").encode())
    return (
        f"{path}: tau {fitted.tau:g}. On the validation split, R@10 of rewriting every query is "
        f"{_recall(after).mean():.3f} (without the fit {_recall(before).mean():.3f}), and the mean "
        f"log probability of the right picture {_likelihood(after).mean():.3f} "
        f"({_likelihood(before).mean():.3f})."
    )


def best_mixture(measure: Measure, kinds: Sequence[Kind]) -> Mixture:
    """The best tau, then the best weight of the query as typed for each kind of query.

    Args:
        measure: what a mixture finds for each query.
        kinds: of each query.
    """
    by_tau = {tau: measure(Mixture(tau=tau)) for tau in TAUS}
    tau = max(by_tau, key=lambda tau: _likelihood(by_tau[tau]).mean())
    default = Mixture(tau=tau)
    by_weight = {
        weight: measure(default.model_copy(update={"typed": dict.fromkeys(get_args(Kind), weight)}))
        for weight in WEIGHTS
    }
    typed = dict(default.typed)
    for kind in get_args(Kind):
        own = np.array([other == kind for other in kinds])
        if own.sum() < _ENOUGH:
            continue
        scores = {
            weight: (_recall(found)[own].mean().round(4), _likelihood(found)[own].mean())
            for weight, found in by_weight.items()
        }
        typed[kind] = max(scores, key=scores.__getitem__)
    return default.model_copy(update={"typed": typed})


def _measure(evaluation: Evaluation, gallery: Gallery, engine: Engine) -> Measure:
    def measure(mixture: Mixture) -> Measured:
        return _bench(evaluation, mixture, engine).measured(SYSTEMS["always"], gallery)

    return measure


def _bench(evaluation: Evaluation, mixture: Mixture, engine: Engine) -> Bench:
    return Bench(
        evaluation.settings,
        evaluation.rows,
        evaluation.base,
        evaluation.adapter,
        Fitted(evaluation.fitted.gate, mixture),
        engine,
    )


def _kinds(evaluation: Evaluation, gallery: Gallery, engine: Engine) -> list[Kind]:
    return [decision.kind for decision in _bench(evaluation, Mixture(), engine).decisions(gallery)]


def _recall(found: Measured) -> Floats:
    return (np.array(found.ranks) <= 10).astype(float)


def _likelihood(found: Measured) -> Floats:
    """log p(right pictures | query) of each query."""
    known = [probability or 0.0 for probability in found.target_probability]
    likelihood: Floats = np.log(np.maximum(np.array(known), _LEAST))
    return likelihood


def _folder(settings: EvalSettings) -> Path:
    folder = adapter_folder(settings.adapter, settings.llm, settings.index)
    return folder or settings.index or paths.index_dir()
