"""`grape eval --fit-gate`: from which scores on `rewrite: auto` leaves a query as it is."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.common import paths
from models.common.errors import InputError
from models.retriever.manifest import read_manifest
from models.search.gate import GATE_JSON, Gate, GateSignals, read_signals
from training.evaluation.gallery import Gallery
from training.evaluation.queries import SHORT_ENGLISH, asked_rows
from training.evaluation.results import Results
from training.evaluation.run import evaluate
from training.evaluation.settings import EvalSettings
from training.rewards.scorer import load_retriever

SPLIT = "validation"
_PLAIN = np.linspace(0, 0.3, 31)
_OTHER = np.linspace(0, 1, 41)
_SKIPPED = 0.9  # least share of plain English that must not wait for a language model

Flags = npt.NDArray[np.bool_]


class Labelled(NamedTuple):
    """What the fit sees of the queries; one entry for each."""

    signals: list[GateSignals]
    english: Flags  # plain English names, which the encoder was made for
    direct: Flags  # whether the right picture is among the first ten as typed
    tuned: Flags  # the same for the rewrite


class GateScore(NamedTuple):
    """What a gate does to queries of which half are plain English."""

    hits: float  # mean of R@10 on plain English and on all else
    skipped: float  # share of plain English that is searched as typed
    english: float  # R@10 on plain English
    english_direct: float
    gain: float  # of R@10 on all else, when everything is rewritten
    kept: float  # of that gain


def fit_gate(settings: EvalSettings) -> str:
    """Measures ``direct`` and ``tuned`` on the validation split and saves the best gate.

    Raises:
        InputError: the queries or the index do not say what a gate needs.
    """
    asked = settings.model_copy(update={"split": SPLIT, "systems": ["direct", "tuned"]})
    if not read_manifest(asked.index or paths.index_dir()).known_scores:
        raise InputError(
            "The index does not know how known queries score: build it with --known-queries."
        )
    rows, _ = asked_rows(asked)
    if len({row.language == "en" and row.task == "multilingual" for row in rows}) < 2:
        raise InputError(
            f"A gate is fitted on plain English and on other queries; the split {SPLIT!r} has "
            "one kind only."
        )
    results = evaluate(asked)
    retriever = load_retriever(asked)
    gallery = Gallery(retriever.encoder, retriever.index, asked.encoder_device)
    labelled = _labelled(results, gallery)
    fitted, score = best_gate(labelled)
    fitted = fitted.model_copy(update={"fitted_on": f"{results.title}: {results.about}"})
    path = _folder(settings) / GATE_JSON
    path.write_text(fitted.model_dump_json(indent=2) + "\n")
    kept = "there is no gain on all else to keep"
    if score.gain > 0:
        kept = f"{score.kept / score.gain:.1%} of the gain on all else ({score.gain:+.3f}) is kept"
    return (
        f"{path}: plain English is kept from {fitted.plain:.2f} of the known queries on, anything "
        f"else from {fitted.other:.3f}. On the validation split {score.skipped:.1%} of plain "
        f"English skips the language model, its R@10 is {score.english:.3f} (as typed "
        f"{score.english_direct:.3f}), and {kept}."
    )


def best_gate(labelled: Labelled) -> tuple[Gate, GateScore]:
    """The gate with the most hits; of equal ones that which asks the model least.

    Both halves of the hits weigh the same. Gates that let too little plain English through are
    left out, unless there is no other.
    """
    gates = [
        Gate(plain=round(float(p), 3), other=round(float(o), 3)) for p in _PLAIN for o in _OTHER
    ]
    scored = [(gate, gate_score(labelled, gate)) for gate in gates]
    allowed = [pair for pair in scored if pair[1].skipped >= _SKIPPED] or scored
    return max(allowed, key=lambda pair: (pair[1].hits, pair[1].skipped, -pair[0].other))


def gate_score(labelled: Labelled, gate: Gate) -> GateScore:
    """What the gate would do on these queries."""
    rewritten = _rewritten(labelled.signals, gate)
    hit = np.where(rewritten, labelled.tuned, labelled.direct)
    english, other = labelled.english, ~labelled.english
    return GateScore(
        hits=float(hit[english].mean() + hit[other].mean()) / 2,
        skipped=float(1 - rewritten[english].mean()),
        english=float(hit[english].mean()),
        english_direct=float(labelled.direct[english].mean()),
        gain=float(labelled.tuned[other].mean() - labelled.direct[other].mean()),
        kept=float(hit[other].mean() - labelled.direct[other].mean()),
    )


def _rewritten(signals: list[GateSignals], gate: Gate) -> Flags:
    """As :func:`models.search.gate.decide` does, which a test holds it to."""
    must = np.array([sign.must_rewrite is not None for sign in signals])
    plain = np.array([sign.plain for sign in signals])
    share = np.array([sign.share for sign in signals], dtype=float)
    low: Flags = share < np.where(plain, gate.plain, gate.other)
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
        tuned=ranks["tuned"] <= 10,
    )


def _folder(settings: EvalSettings) -> Path:
    return paths.ADAPTER if settings.adapter == "auto" else Path(settings.adapter)
