"""The searches that a query leads to, and the vectors that they are made with."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from models.retriever.types import Vectors
from models.search.options import Fusion

Part = str | Vectors  # a text, or a picture's unit vector, float32 [dim]


class Search(NamedTuple):
    """One search in the index, made with the mean vector of its parts."""

    name: str  # what a hit says that it was found by
    parts: tuple[Part, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(part for part in self.parts if isinstance(part, str))


class EncodesTexts(Protocol):
    """An encoder, as far as queries go."""

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32 ``[n, dim]``."""


def search_vectors(groups: Sequence[Sequence[Part]], encoder: EncodesTexts) -> Vectors:
    """The vector of each search: the mean of its parts' vectors, at unit length again.

    Args:
        groups: the parts of each search, none of them empty. All texts are encoded in one batch.

    Returns:
        float32 ``[len(groups), dim]``.
    """
    parts = [part for group in groups for part in group]
    texts = [part for part in parts if isinstance(part, str)]
    vectors = encoder.encode_texts(texts)
    if len(texts) < len(parts):
        encoded = iter(vectors)
        vectors = np.stack([next(encoded) if isinstance(p, str) else p for p in parts])
    if len(parts) == len(groups):
        return vectors
    starts = np.cumsum([0, *map(len, groups[:-1])])
    sums = np.add.reduceat(vectors, starts, axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    single = np.array([len(group) == 1 for group in groups]).reshape(-1, 1)
    unit: Vectors = np.where(single, sums, sums / np.maximum(lengths, 1e-12))
    return unit


def searches_for(
    fusion: Fusion,
    typed: Search,
    rewrites: Sequence[tuple[str, ...]],
    alternate: Search | None = None,
) -> list[Search]:
    """The searches that a fusion makes; those of a mixture have weights, see ``mixture.py``.

    ``rewrite`` searches with each rewrite, ``original`` with what was typed, ``rrf`` with that and
    each rewrite, ``mean`` once with the mean of all. ``interleave`` searches with each rewrite and
    with the alternate.

    Args:
        rewrites: each of one text, or of several that are searched with one mean vector.
        alternate: what ``interleave`` takes in turns with the rewrites; by default what was typed.
    """
    if fusion == "original" or not rewrites:
        return [typed]
    if fusion == "mean":
        distinct = tuple(dict.fromkeys(text for rewrite in rewrites for text in rewrite))
        parts: tuple[Part, ...] = tuple(text for text in distinct if text not in typed.texts)
        return [Search("mean", (*typed.parts, *parts))]
    found = rewrite_searches(typed, rewrites)
    if fusion == "rrf":
        return [typed, *(search for search in found if search is not typed)]
    if fusion == "interleave":
        last = alternate or typed
        return found if any(search is last for search in found) else [*found, last]
    return found


def rewrite_searches(typed: Search, rewrites: Sequence[tuple[str, ...]]) -> list[Search]:
    """One search for each rewrite; one that repeats what was typed is that search.

    It is called by the place of its first text among all texts, as the answer lists them.
    """
    texts = list(dict.fromkeys(text for rewrite in rewrites for text in rewrite))
    return [
        typed
        if _same_text(typed, rewrite)
        else Search(f"rewrite {texts.index(rewrite[0]) + 1}", rewrite)
        for rewrite in rewrites
    ]


def _same_text(typed: Search, rewrite: tuple[str, ...]) -> bool:
    """Whether a rewrite is what was typed, without a picture."""
    return len(typed.parts) == len(rewrite) and typed.texts == rewrite
