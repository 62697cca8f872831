"""Scores of texts for a query, by the language model that rewrites."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from cachetools import LRUCache

from models.rewriter.protocol import RewriteFailed, Rewriter
from models.rewriter.tasks import RERANK_TASKS
from models.search.compare import Tasks, compared
from models.search.options import CANDIDATES
from models.search.rerank import Comparison
from service.monitoring.metrics import Cause

_MOST_TEXTS = 1000  # of one query, whose scores are kept
_Hash = bytes  # of a text, which may be long


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
    group: tuple[_Hash, ...]  # that a text is rated among; by likelihood each text is alone
    passes: int


class Scorer:
    """Asks one language model, and remembers what it said."""

    def __init__(self, size: int, tasks: Tasks = RERANK_TASKS) -> None:
        """Creates an empty memory.

        Args:
            size: queries whose scores are kept, with the default number of candidates; the least
                recently used are dropped.
            tasks: with the prompts that the adapter was trained on.
        """
        most = max(size * CANDIDATES, _MOST_TEXTS)  # texts
        self._kept: LRUCache[_Key, dict[_Hash, float | None]] = LRUCache(most, getsizeof=len)
        self._size = size
        self._tasks = tasks

    def kept(self, asked: Comparison) -> list[float | None] | None:
        """The scores, if all of them are from earlier comparisons."""
        known = self._kept.get(self._key(asked), {})
        names = [_hash(text) for text in asked.texts]
        if any(name not in known for name in names):
            return None
        return [known[name] for name in names]

    async def scores(self, rewriter: Rewriter, asked: Comparison) -> list[float | None]:
        """A score for each text. Only those without a score are asked for.

        Raises:
            RewriteFailed: there are none.
        """
        key = self._key(asked)
        known = dict(self._kept.get(key, {}))
        left = asked._replace(texts=[text for text in asked.texts if _hash(text) not in known])
        found = await compared(rewriter, left, self._tasks)
        if len(found) != len(left.texts):
            raise RewriteFailed(f"{len(found)} scores for {len(left.texts)} texts")
        new = {_hash(text): score for text, score in zip(left.texts, found, strict=True)}
        known |= new
        if self._size:
            # Documents of one query are without number.
            self._kept[key] = known if len(known) <= _MOST_TEXTS else new
        return [known[_hash(text)] for text in asked.texts]

    def _key(self, asked: Comparison) -> _Key:
        prompt = self._tasks[asked.task].hash
        if asked.by == "likelihood":
            return _Key(asked.by, prompt, asked.query, (), 1)
        return _Key(asked.by, prompt, asked.query, tuple(map(_hash, asked.texts)), asked.passes)


def _hash(text: str) -> _Hash:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
