"""The scores of queries that the encoder understands, which the gate compares a query's with."""

from collections.abc import Callable, Sequence

from models.retriever.index import Index
from models.retriever.types import Encoder
from models.search.composed import caption_of
from models.search.normalise import normalise
from models.search.plain_english import in_latin_script, read_words

MOST_CAPTIONS = 2_000  # more change the percentiles by less than the gate can tell


def learn(
    index: Index, open_encoder: Callable[[], Encoder], queries: Sequence[str] | None = None
) -> None:
    """Measures the known scores anew, before the index is saved.

    Args:
        open_encoder: called only if there are queries.
        queries: what the encoder understands. None takes those that the index remembers, or else
            the English captions of its pictures, if there are any.
    """
    remembered = index.items.known_queries
    known_from = "queries"
    if queries is not None:
        texts = [normalise(query) or query for query in queries]
    elif remembered and index.manifest.known_from != "captions":
        texts = remembered
    else:
        texts, known_from = captions(index), "captions"
    index.items.remember_queries(texts if known_from == "queries" else [])
    found = {"known_scores": None, "known_from": known_from if texts else None}
    index.manifest = index.manifest.model_copy(update=found)
    if texts:
        index.learn_known_scores(open_encoder().encode_texts(texts))


def captions(index: Index) -> list[str]:
    """English captions of pictures, from all over the index; none of another language."""
    found = (caption_of(item.record) for item in index.some(MOST_CAPTIONS))
    texts = dict.fromkeys(normalise(caption) for caption in found if caption)
    return [text for text in texts if text and _is_english(text)]


def _is_english(text: str) -> bool:
    return in_latin_script(text) and read_words(text).english
