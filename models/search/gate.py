"""The gate: whether a query is rewritten under `rewrite: auto`.

What is too long, in another script or in another language is always rewritten. Otherwise it asks
two questions. Are the words plain English? And does the best picture for the query as typed
score as well as for queries that the encoder knows? The index's manifest has those scores.
"""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.common.errors import InputError
from models.retriever.types import TextLength
from models.rewriter.tasks import LONG, choose_task
from models.search.long_text import sentences_of
from models.search.normalise import has_words
from models.search.plain_english import in_latin_script, read_words

GATE_JSON = "gate.json"
_MOST_SENTENCES = 2  # of a caption, which an encoder was trained on
NO_WORDS = "it has no letters or digits"


class Gate(BaseModel):
    """``gate.json``, written by `grape eval --fit-gate`; without it the defaults apply.

    The thresholds are shares of the known queries: of those whose best picture scores no higher
    than this query's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plain: float = Field(default=0.05, ge=0, le=1)  # plain English is kept from this share on
    other: float = Field(default=0.5, ge=0, le=1)  # anything else, such as "Hotel" or a name
    # A description, such as an English sentence. The known queries are often names, and then a
    # high score may mean nothing. None: as the words say.
    description: float | None = Field(default=None, ge=0, le=1)
    fitted_on: str = ""

    @classmethod
    def for_adapter(cls, adapter: Path) -> "Gate":
        """The gate that was fitted for an adapter, otherwise the default.

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


# Why a query is rewritten; "known": it need not be.
Kind = Literal["long", "script", "foreign", "plain", "other", "known"]


class Decision(NamedTuple):
    """Whether to rewrite, and why."""

    rewrite: bool
    reason: str  # in words for the user
    kind: Kind


class GateInput(NamedTuple):
    """What is known of a query before the language model runs."""

    length: TextLength
    best_score: float | None  # of the pictures for the query as typed; None in an empty index
    known_scores: Sequence[float] | None  # the index's; see IndexManifest


class GateSignals(NamedTuple):
    """What the input means; only the gate's thresholds are missing for a decision."""

    must_rewrite: Kind | None  # the reason, if nothing else counts
    plain: bool
    share: float | None  # of the known queries whose best picture scores no higher
    description: bool = False


def read_signals(query: str, gate_input: GateInput) -> GateSignals:
    """Takes microseconds a word once the word lists are loaded."""
    description = choose_task(query).name == LONG.name
    runs_on = description and _sentences(query) > _MOST_SENTENCES
    if gate_input.length.truncated or runs_on:
        return GateSignals("long", False, None)
    if not in_latin_script(query):
        return GateSignals("script", False, None)
    words = read_words(query)
    if words.foreign:  # the score of such a word means nothing: "Geschenk" is near the cheese
        return GateSignals("foreign", False, None)
    share = None
    if gate_input.best_score is not None and gate_input.known_scores:
        share = bisect_right(gate_input.known_scores, gate_input.best_score) / len(
            gate_input.known_scores
        )
    return GateSignals(None, words.english, share, description)


def decide(query: str, gate_input: GateInput, gate: Gate) -> Decision:
    """Decides for one query."""
    if not has_words(query):
        return Decision(False, NO_WORDS, "known")
    must, plain, share, description = read_signals(query, gate_input)
    if must:
        return Decision(True, _reason(must, query, gate_input), must)
    language = "plain English" if plain else "not plain English"
    if share is None:  # the words alone
        return Decision(not plain, language, "known" if plain else "other")
    kind: Kind = "plain" if plain else "other"
    scores = f"the best picture scores {gate_input.best_score:.2f}"
    if description and gate.description is not None:
        rewrite = share < gate.description
        return Decision(rewrite, f"a description: {scores}", kind if rewrite else "known")
    rewrite = share < (gate.plain if plain else gate.other)
    joined = "but" if rewrite is plain else "and"
    knows = "does not know it" if rewrite else "knows it"
    return Decision(
        rewrite,
        f"{language}, {joined} the encoder {knows}: {scores}",
        kind if rewrite else "known",
    )


def _sentences(query: str) -> int:
    """Only those of three words or more: "Mr." and "a dog..." end no sentence."""
    return sum(len(sentence.split()) > 2 for sentence in sentences_of(query))


def _reason(must_rewrite: Kind, query: str, gate_input: GateInput) -> str:
    if must_rewrite == "long" and not gate_input.length.truncated:
        return f"a text of {_sentences(query)} sentences"
    if must_rewrite == "long":
        return f"longer than the {gate_input.length.limit} tokens that the encoder reads"
    return "not in Latin script" if must_rewrite == "script" else "words of another language"


def warm_up() -> None:
    """Loads the word lists, which takes a second, so that the first search need not wait."""
    read_words("words to warm up with")
