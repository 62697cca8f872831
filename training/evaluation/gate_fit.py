"""`grape eval --fit-gate`: the scores above which `rewrite: auto` keeps a query as typed."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.common import paths
from models.common.errors import InputError
from models.search.gate import GATE_JSON, Gate, GateSignals, read_signals
from training.evaluation.gallery import Gallery
from training.evaluation.queries import SHORT_ENGLISH
from training.evaluation.results import Results
from training.evaluation.run import evaluation_of, measure
from training.evaluation.settings import EvalSettings

SPLIT = "validation"
_PLAIN = np.linspace(0, 0.3, 31)
_OTHER = np.linspace(0, 1, 41)
_FEWEST = 20  # descriptions from which their threshold is fitted
_SKIPPED = 0.9  # minimum share of plain English that skips the language model
_REWRITES_ALL = Gate(plain=1, other=1)

Flags = npt.NDArray[np.bool_]


class Labelled(NamedTuple):
    """The queries as the fit sees them; one entry for each."""

    signals: list[GateSignals]
    english: Flags  # plain English names, which the encoder was trained on
    direct: Flags  # whether the right picture is among the first ten as typed
    rewritten: Flags  # the same if the query is rewritten


class GateScore(NamedTuple):
    """How a gate performs; plain English and all other queries weigh the same."""

    hits: float  # mean of R@10 on plain English and R@10 on all others
    skipped: float  # share of plain English that is searched as typed
    english: float  # R@10 on plain English
    english_direct: float
    gain: float  # in R@10 on all others, if everything is rewritten
    kept: float  # of that gain


def fit_gate(settings: EvalSettings) -> str:
    """Finds the best gate on the validation split and saves it.

    Every query is measured as it is served if the gate keeps it, and if the gate has it rewritten.

    Raises:
        InputError: the index has no known scores, or the split has one kind of queries only.
    """
    asked = settings.model_copy(update={"split": SPLIT, "systems": ["direct", "auto"]})
    evaluation = evaluation_of(asked)
    retriever = evaluation.retriever
    if not retriever.index.manifest.known_scores:
        raise InputError("The index has no scores of known queries: build it with --known-queries.")
    if len({row.language == "en" and row.task == "multilingual" for row in evaluation.rows}) < 2:
        raise InputError(
            f"Fitting a gate needs plain English and other queries; the split {SPLIT!r} has only "
            "one kind."
        )
    all_rewritten = evaluation.fitted._replace(gate=_REWRITES_ALL)
    results = measure(replace(evaluation, fitted=all_rewritten))
    gallery = Gallery(retriever.encoder, retriever.index, asked.encoder_device)
    labelled = _labelled(results, gallery)
    fitted, score = best_gate(labelled)
    fitted = fitted.model_copy(update={"fitted_on": f"{results.title}: {results.about}"})
    path = _folder(settings) / GATE_JSON
    path.write_text(fitted.model_dump_json(indent=2) + "\n")
    return _sentence(path, fitted, score)


def _sentence(path: Path, gate: Gate, score: GateScore) -> str:
    kept = "there is no gain on other queries to keep"
    if score.gain > 0:
        share = score.kept / score.gain
        kept = f"{share:.1%} of the gain on other queries ({score.gain:+.3f}) is kept"
    described = "" if gate.description is None else f", descriptions at {gate.description:.1%}"
    return (
        f"{path}: plain English is kept as typed if it scores at least as high as {gate.plain:.1%} "
        f"of the known queries, other queries at {gate.other:.1%}{described}. On the validation "
        "split, "
        f"{score.skipped:.1%} of plain English skips the language model, its R@10 is "
        f"{score.english:.3f} (as typed {score.english_direct:.3f}), and {kept}."
    )


def best_gate(labelled: Labelled) -> tuple[Gate, GateScore]:
    """The gate with the most hits; among equals, the one that uses the model least.

    Gates that send too much plain English to the model are excluded, unless all do.
    """
    description = best_description(labelled)
    gates = [
        Gate(plain=round(float(p), 3), other=round(float(o), 3), description=description)
        for p in _PLAIN
        for o in _OTHER
    ]
    scored = [(gate, gate_score(labelled, gate)) for gate in gates]
    allowed = [pair for pair in scored if pair[1].skipped >= _SKIPPED] or scored
    return max(allowed, key=lambda pair: (pair[1].hits, pair[1].skipped, -pair[0].other))


def best_description(labelled: Labelled) -> float | None:
    """The threshold with the most hits among descriptions; among equals, the lowest one.

    None if there are too few of them. No other query depends on it.
    """
    described = np.array(
        [sign.description and sign.must_rewrite is None for sign in labelled.signals]
    )
    if described.sum() < _FEWEST:
        return None
    share = np.array([sign.share for sign in labelled.signals], dtype=float)
    hits = [
        np.where(share < least, labelled.rewritten, labelled.direct)[described].sum()
        for least in _OTHER
    ]
    return round(float(_OTHER[np.argmax(hits)]), 3)


def gate_score(labelled: Labelled, gate: Gate) -> GateScore:
    """How the gate would perform on these queries."""
    rewritten = _rewritten(labelled.signals, gate)
    hit = np.where(rewritten, labelled.rewritten, labelled.direct)
    english, other = labelled.english, ~labelled.english
    return GateScore(
        hits=float(hit[english].mean() + hit[other].mean()) / 2,
        skipped=float(1 - rewritten[english].mean()),
        english=float(hit[english].mean()),
        english_direct=float(labelled.direct[english].mean()),
        gain=float(labelled.rewritten[other].mean() - labelled.direct[other].mean()),
        kept=float(hit[other].mean() - labelled.direct[other].mean()),
    )


def _rewritten(signals: list[GateSignals], gate: Gate) -> Flags:
    """Whether each query is rewritten; a test checks that this is what ``decide`` does."""
    must = np.array([sign.must_rewrite is not None for sign in signals])
    plain = np.array([sign.plain for sign in signals])
    share = np.array([sign.share for sign in signals], dtype=float)
    least = np.where(plain, gate.plain, gate.other)
    if gate.description is not None:
        described = np.array([sign.description for sign in signals])
        least = np.where(described, gate.description, least)
    low: Flags = share < least
    return must | low


def _labelled(results: Results, gallery: Gallery) -> Labelled:
    queries = [query.query for query in results.queries]
    ranks = {system.name: np.array(system.ranks) for system in results.systems}
    return Labelled(
        signals=[
            read_signals(query, gate_input)
            for query, gate_input in zip(queries, gallery.gate_inputs(queries), strict=True)
        ],
        english=np.array([SHORT_ENGLISH in query.slices for query in results.queries]),
        direct=ranks["direct"] <= 10,
        rewritten=ranks["auto"] <= 10,
    )


def _folder(settings: EvalSettings) -> Path:
    return paths.ADAPTER if settings.adapter == "auto" else Path(settings.adapter)
