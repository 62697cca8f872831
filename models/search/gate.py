"""The gate: whether a query is rewritten under `rewrite: auto`.

It asks two things: are the words plain English, and does the best picture for the query as typed
score as the encoder's known queries do? Those scores lie in the index's manifest.
"""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.common.errors import InputError
from models.retriever.types import TextLength
from models.search.plain_english import in_latin_script, read_words

GATE_JSON = "gate.json"


class Gate(BaseModel):
    """``gate.json``, fitted by `grape eval --fit-gate`; the defaults hold until then.

    Both are shares of the known queries: those whose best picture scores lower than this query's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plain: float = Field(default=0.05, ge=0, le=1)  # plain English is kept from here on
    other: float = Field(default=0.5, ge=0, le=1)  # anything else, such as "Hotel" or a name
    fitted_on: str = ""

    @classmethod
    def beside(cls, adapter: Path) -> "Gate":
        """The gate that was fitted for an adapter, else the default.

        Raises:
            InputError: its file cannot be read.
        """
        path = adapter / GATE_JSON
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except (OSError, ValidationError) as error:
            raise InputError(
                f"{path} is not a fitted gate: fit it again with `grape eval --fit-gate`, or "
                "delete it."
            ) from error


class Decision(NamedTuple):
    """Whether to rewrite, and why, for the person who asked."""

    rewrite: bool
    reason: str


class GateInput(NamedTuple):
    """What is known of a query before any language model is asked."""

    length: TextLength
    best_score: float | None  # of the pictures for the query as typed; None in an empty index
    known_scores: Sequence[float] | None  # the index's; see IndexManifest


class GateSignals(NamedTuple):
    """What a look says; the gate's thresholds are all that is missing for a decision."""

    must_rewrite: str | None  # why, where nothing else counts
    plain: bool
    share: float | None  # of the known queries whose best picture scores no higher


def read_signals(query: str, gate_input: GateInput) -> GateSignals:
    """Costs microseconds a word after the word lists are loaded."""
    if gate_input.length.truncated:
        limit = gate_input.length.limit
        return GateSignals(f"longer than the {limit} tokens that the encoder reads", False, None)
    if not in_latin_script(query):
        return GateSignals("not in Latin script", False, None)
    words = read_words(query)
    if words.foreign:  # what such a word scores says nothing: "Geschenk" is near the cheese
        return GateSignals("words of another language", False, None)
    share = None
    if gate_input.best_score is not None and gate_input.known_scores:
        share = bisect_right(gate_input.known_scores, gate_input.best_score) / len(
            gate_input.known_scores
        )
    return GateSignals(None, words.english, share)


def decide(query: str, gate_input: GateInput, gate: Gate) -> Decision:
    """Decides for one query."""
    must, plain, share = read_signals(query, gate_input)
    if must:
        return Decision(True, must)
    language = "plain English" if plain else "not plain English"
    if share is None:  # the words alone
        return Decision(not plain, language)
    rewrite = share < (gate.plain if plain else gate.other)
    joined = "but" if rewrite is plain else "and"
    knows = "does not know it" if rewrite else "knows it"
    return Decision(
        rewrite,
        f"{language}, {joined} the encoder {knows}: "
        f"the best picture scores {gate_input.best_score:.2f}",
    )


def warm_up() -> None:
    """Loads the word lists (a second), so that the first search does not wait for them."""
    read_words("words to warm up with")
