"""Scores of texts for a query, by the language model that rewrites."""

from collections.abc import Sequence
from typing import NamedTuple

from cachetools import LRUCache

from models.rewriter.likelihood import TURNED
from models.rewriter.protocol import Rewriter
from models.rewriter.tasks import RERANK, Task
from models.search.compare import compared
from models.search.rerank import Comparison
from service.monitoring.metrics import Cause


class Compared(NamedTuple):
    """The scores of a comparison's texts, or the reason why there are none."""

    scores: Sequence[float | None]  # in the order of the texts; empty if there are none
    reason: str = ""  # why there are none
    cause: Cause | None = None  # the reason as a label, for metrics
    adapter: str | None = None  # that gave them
    groups: int = 0  # that they were compared in


class _Key(NamedTuple):
    """What scores depend on besides the model and its adapter, of which a scorer has one."""

    by: str
    prompt: str  # hash
    query: str
    texts: tuple[str, ...]
    passes: int


class Scorer:
    """Asks one language model, and remembers what it said."""

    def __init__(self, size: int, rating: Task = RERANK) -> None:
        """Creates an empty memory.

        Args:
            size: comparisons that are kept; the least recently used are dropped.
            rating: the task of a group, as the adapter was trained on it.
        """
        self._kept: LRUCache[_Key, list[float | None]] = LRUCache(max(size, 1))
        self._size = size
        self._rating = rating

    def kept(self, asked: Comparison) -> list[float | None] | None:
        """The scores of an earlier comparison."""
        return self._kept.get(self._key(asked))

    async def scores(self, rewriter: Rewriter, asked: Comparison) -> list[float | None]:
        """A score for each text.

        Raises:
            RewriteFailed: there are none.
        """
        found = await compared(rewriter, asked, self._rating)
        if self._size:
            self._kept[self._key(asked)] = found
        return found

    def _key(self, asked: Comparison) -> _Key:
        task = self._rating if asked.by == "group" else TURNED[asked.task]
        return _Key(asked.by, task.hash, asked.query, tuple(asked.texts), asked.passes)
