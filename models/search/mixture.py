"""The mixture of rewrites: every picture's probability, given all that a query may mean.

    p(picture | query) = sum over rewrites r of w(r) softmax over the corpus of (cosine(r, .) / tau)

A rewrite's weight w(r) is its probability, as the language model gives it, divided by the sum over
the rewrites that were found. What was typed, or a picture that the query starts from, may be one
more component. It is the marginalisation of Lewis et al., 2020 (Retrieval-Augmented Generation),
turned round: they sum over documents, we sum over rewrites.

Bounds: 0 <= p <= 1. Over the whole corpus the sum is 1. In a corpus of more than
:data:`models.retriever.search_effort.EXACT_UP_TO` pictures the softmax is taken over the best hits
of each component; what it does not reach counts 0 there.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from models.common.errors import InputError
from models.retriever.types import Scored, best_places
from models.search.gate import Kind
from models.search.options import ComparedBy
from models.search.searches import Search

MIXTURE_JSON = "mixture.json"
_TEMPERATURES = 2.0  # of the encoder, in tau without a fit; docs/decisions/search-and-gate.md

# Without a fit. What the encoder knows as typed loses little if half of the weight stays with it;
# what it cannot read has no part.
_TYPED: dict[Kind, float] = {
    "known": 0.5, "plain": 0.25, "other": 0.25, "long": 0.25, "foreign": 0.0, "script": 0.0,
}  # fmt: skip


# Without a fit, of a score beside log p(picture | query).
_RERANK: dict[ComparedBy, float] = {"likelihood": 0.5, "group": 0.5}

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class Mixture(BaseModel):
    """``mixture.json``, written by `grape eval --fit-mixture`; without it the defaults apply."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tau: float | None = Field(None, gt=0, description="None: twice the encoder's temperature")
    typed: dict[Kind, Share] = Field(_TYPED, description="weight of the query as typed")
    reference: Share = Field(0.05, description="... of a composed query's picture")
    change: Share = Field(0.2, description="... of the words that change it, in place of it")
    confident: Share = Field(0.5, description="score from which a first hit is likelier right")
    rerank: dict[ComparedBy, Weight] = Field(_RERANK, description="weight of a reranker's score")
    encoder_weights_sha256: str | None = None  # that it was fitted with
    fitted_on: str = ""

    @field_validator("typed")
    @classmethod
    def _with_every_kind(cls, typed: dict[Kind, float]) -> dict[Kind, float]:
        return _TYPED | typed

    @field_validator("rerank")
    @classmethod
    def _with_every_scorer(cls, rerank: dict[ComparedBy, float]) -> dict[ComparedBy, float]:
        return _RERANK | rerank

    @classmethod
    def in_folder(cls, folder: Path | None, encoder_weights_sha256: str) -> "Mixture":
        """The mixture that was fitted for an adapter, or for an index that is served without one.

        The default if there is none, or if it was fitted with another encoder.

        Args:
            folder: None for an index in Milvus, which holds no files.

        Raises:
            InputError: its file cannot be read.
        """
        if folder is None:
            return cls()
        path = folder / MIXTURE_JSON
        try:
            fitted = cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except (OSError, ValidationError) as error:
            raise InputError(
                f"{path} is not a fitted mixture: fit it again with `grape eval --fit-mixture`, or "
                "delete it."
            ) from error
        return fitted if fitted.encoder_weights_sha256 == encoder_weights_sha256 else cls()

    def temperature(self, encoder: float) -> float:
        """tau, given the encoder's own temperature."""
        return self.tau or _TEMPERATURES * encoder


class Component(NamedTuple):
    """One search of a mixture, and its share."""

    search: Search
    weight: float  # all of a mixture's weights sum to 1


class Mixed(NamedTuple):
    """A picture that a mixture found."""

    position: int  # in the index
    probability: float  # p(picture | query)
    cosine: float  # in the component that contributed most
    by: int  # the number of that component


def components(
    written: Sequence[Search], probabilities: Sequence[float | None], others: Sequence[Component]
) -> list[Component]:
    """The rewrites, weighted by their probabilities, and what else is searched with them.

    Args:
        written: one search for each rewrite.
        probabilities: of each rewrite; None counts like 1.
        others: their weights are shares of the whole; a search that repeats a rewrite joins it.
    """
    shares = np.array([1.0 if p is None else p for p in probabilities])
    shares = shares / shares.sum() if shares.sum() > 0 else np.full(len(written), 1 / len(written))
    left = 1 - sum(other.weight for other in others)
    mixture = [*zip(written, (shares * left).tolist(), strict=True), *others]
    weights: dict[int, float] = defaultdict(float)  # by identity: vectors cannot be compared
    for search, weight in mixture:
        weights[id(search)] += weight
    searches = {id(search): search for search, _ in mixture}
    return [Component(searches[key], weight) for key, weight in weights.items() if weight > 0]


def probabilities(cosines: npt.NDArray[np.float32], tau: float) -> npt.NDArray[np.float32]:
    """Softmax of cosines / tau over the last axis; -inf counts 0, also where nothing else is."""
    highest = cosines.max(axis=-1, keepdims=True)
    shifted = (cosines - np.maximum(highest, -1)) / np.float32(tau)  # -1 is the lowest cosine
    exponentials = np.exp(shifted, out=shifted)
    totals = exponentials.sum(axis=-1, keepdims=True)
    result: npt.NDArray[np.float32] = exponentials / np.where(totals > 0, totals, 1)
    return result


def mix(found: Sequence[Scored], weights: Sequence[float], tau: float, k: int) -> list[Mixed]:
    """The ``k`` most probable pictures, the most probable first.

    Equal ones stay in the order of the index.

    Args:
        found: what each component's search reached.
        weights: of the components; they sum to 1.
    """
    positions, cosines = _table(found)
    if not len(positions):
        return []
    given = probabilities(cosines, tau) * np.array(weights, np.float32)[:, None]
    total = given.sum(axis=0)
    places = best_places(total, k)
    by = given[:, places].argmax(axis=0)
    columns = (positions[places], total[places], cosines[by, places], by)
    return list(map(Mixed, *(column.tolist() for column in columns)))


def _table(
    found: Sequence[Scored],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The pictures that any search reached, and their cosines in each: -inf if not reached."""
    first = found[0].positions
    # Searches of one batch in a small index share the array.
    if all(one.positions is first or np.array_equal(one.positions, first) for one in found):
        return first, np.stack([scored.cosines for scored in found])
    positions = np.unique(np.concatenate([scored.positions for scored in found]))
    cosines = np.full((len(found), len(positions)), -np.inf, np.float32)
    for row, scored in zip(cosines, found, strict=True):
        row[np.searchsorted(positions, scored.positions)] = scored.cosines
    return positions, cosines
