"""`grape eval --fit-rerank`: the weight of a reranker's score, fitted on the split 'validation'.

It is the weight with the best MRR@10. Of those that a single query puts behind it, the one that is
served stays.
"""

from dataclasses import replace

from models.common.files import write_file
from models.rewriter.base_model import adapter_folder
from models.search.mixture import Mixture
from models.search.rerank import chosen
from training.evaluation.bench import Bench
from training.evaluation.gallery import Gallery
from training.evaluation.measured import Measured
from training.evaluation.mixture_fit import SPLIT, mixture_file, reciprocal_rank
from training.evaluation.run import evaluation_of
from training.evaluation.settings import EvalSettings
from training.evaluation.systems import SYSTEMS
from training.stages.sampling import Engine

WEIGHTS = (0.0, 0.1, 0.25, 0.35, 0.5, 0.75, 1.0, 1.5)
_SYSTEM = "auto+rerank"


def fit_rerank(settings: EvalSettings) -> str:
    """Fits the weight of what `rerank_by: auto` stands for.

    It is saved in the reranker's folder, or beside the mixture of the model that rewrites.

    Raises:
        InputError: there is no adapter, or a part cannot be used.
    """
    asked = settings.model_copy(update={"split": SPLIT, "systems": [_SYSTEM]})
    evaluation = evaluation_of(asked)
    retriever, served = evaluation.retriever, evaluation.fitted.mixture
    gallery = Gallery(retriever.encoder, retriever.index, asked.encoder_device)
    by = chosen("auto")
    with Engine() as engine:
        bench = Bench(
            asked, evaluation.rows, evaluation.base, evaluation.adapter, evaluation.fitted, engine,
            reranker=evaluation.reranker,
        )  # fmt: skip

        def measure(mixture: Mixture) -> Measured:
            own = replace(bench, fitted=bench.fitted._replace(mixture=mixture))
            return own.measured(SYSTEMS[_SYSTEM], gallery)

        found = {
            weight: float(reciprocal_rank(measure(_with(served, weight))).sum())
            for weight in sorted({*WEIGHTS, served.rerank[by]})
        }
    weight = best_weight(found, served.rerank[by])
    count = len(evaluation.rows)
    told = f"{settings.data}, split {SPLIT}: {count} queries"
    # A reranker's folder holds nothing but its own weight.
    kept = Mixture(fitted_on=told) if settings.rerank_adapter else served
    fitted = _with(kept, weight).model_copy(
        update={"encoder_weights_sha256": retriever.encoder.fingerprint.weights_sha256}
    )
    folder = settings.rerank_adapter
    folder = folder or adapter_folder(settings.adapter, settings.llm, settings.index)
    path = mixture_file(folder, settings.index)
    write_file(path, (fitted.model_dump_json(indent=2) + "\n").encode())
    means = ", ".join(f"{own:g}: {total / count:.3f}" for own, total in found.items())
    return (
        f"{path}: the weight of `{by}` is {weight:g}. MRR@10 on {count} queries of the validation "
        f"split, by weight: {means}."
    )


def best_weight(totals: dict[float, float], served: float) -> float:
    """The weight with the greatest sum of reciprocal ranks; the served one if it is as good."""
    most = max(totals.values())
    if totals[served] > most - 1:  # a query moves it by 1
        return served
    return max(totals, key=lambda weight: totals[weight])


def _with(mixture: Mixture, weight: float) -> Mixture:
    return mixture.model_copy(update={"rerank": {**mixture.rerank, chosen("auto"): weight}})
