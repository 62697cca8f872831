"""Encoding and searching for all requests: what waits is done together, in a thread of its own."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cachetools import LRUCache
from threadpoolctl import threadpool_limits

from models.retriever.manifest import Effort
from models.retriever.types import Encoder, Scored, Vectors
from models.search.searches import Part, search_vectors

if TYPE_CHECKING:  # both are heavy to import, and the pages must not wait for them
    from PIL.Image import Image

    from models.retriever.facets import Facet
    from models.retriever.filters import Filter
    from models.retriever.index import Chosen, Index

Result = TypeVar("Result")

MAX_BATCH = 256  # texts
_FILTERS = 64  # whose pictures are remembered; a bit for each picture


class Retrieved(NamedTuple):
    """What each search reached, and how long its batch took."""

    found: list[Scored]
    encode_ms: float
    search_ms: float


class _Job(NamedTuple):
    searched: "Index"
    groups: Sequence[Sequence[Part]]  # one search for each group, with the mean of its parts
    chosen: "Chosen | None"
    effort: Effort | None
    done: asyncio.Future[Retrieved]


class BatchedRetriever:
    """The frozen encoder and one index, batched over requests.

    While one batch is computed the next one gathers, so batches grow with the load and a lone query
    waits for nobody.
    """

    def __init__(self, encoder: Encoder, index: "Index", worker: "_Worker | None" = None) -> None:
        self.encoder = encoder
        self.index = index
        self._worker = worker or _Worker(encoder)
        self._selections: LRUCache[str, Chosen] = LRUCache(_FILTERS)
        self._facets: asyncio.Task[list[Facet]] | None = None

    def with_index(self, index: "Index") -> "BatchedRetriever":
        """The same encoder, thread and batches with another index."""
        return BatchedRetriever(self.encoder, index, self._worker)

    async def retrieve(
        self,
        groups: Sequence[Sequence[Part]],
        chosen: "Chosen | None" = None,
        effort: Effort | None = None,
    ) -> Retrieved:
        """Searches once for each group of texts and pictures, with the mean of their vectors.

        Args:
            chosen: the only pictures that may be found; None for all of them.
            effort: how much of a large index to look at; None for the index's own.
        """
        done: asyncio.Future[Retrieved] = asyncio.get_running_loop().create_future()
        self._worker.add(_Job(self.index, groups, chosen, effort, done))
        return await done

    async def look_up(self, call: Callable[..., Result], *given: Any) -> Result:
        """What a method of the index says; other requests go on while a distant one answers."""
        return await asyncio.to_thread(call, *given) if self.index.distant else call(*given)

    async def select(self, wanted: "Filter") -> "Chosen":
        """The pictures for which a filter is true.

        Raises:
            FilterError: the index has no such field.
        """
        chosen = self._selections.get(wanted.text)
        if chosen is None:
            chosen = await asyncio.to_thread(self.index.select, wanted)
            self._selections[wanted.text] = chosen
        return chosen

    async def facets(self) -> "list[Facet]":
        """What the index can be filtered by; read once, however many ask at the same time."""
        if self._facets is None or (self._facets.done() and self._facets.exception()):
            self._facets = asyncio.create_task(asyncio.to_thread(self.index.facets))
        return await asyncio.shield(self._facets)

    async def picture_vector(self, picture: "Image") -> Vectors:
        """The unit vector of an RGB picture: float32 ``[dim]``."""
        return await self._worker.picture_vector(picture)

    @property
    def waiting(self) -> int:
        """Searches that the next batch will hold."""
        return self._worker.waiting

    def close(self) -> None:
        """Ends the thread, also for the retrievers that share it."""
        self._worker.close()


class _Worker:
    """The thread in which texts are encoded and indexes searched, batch by batch."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._thread = ThreadPoolExecutor(1, "retriever", self._use_few_cores)
        self._waiting: list[_Job] = []
        self._working = False

    def add(self, job: _Job) -> None:
        self._waiting.append(job)
        if not self._working:
            self._working = True
            self._submit()

    async def picture_vector(self, picture: "Image") -> Vectors:
        loop = asyncio.get_running_loop()
        encode = self._encoder.encode_images
        vectors: Vectors = await loop.run_in_executor(self._thread, encode, [picture])
        return vectors.reshape(-1)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _use_few_cores(self) -> None:
        """Leaves the cores to the language model.

        OpenBLAS's second thread saves .2 ms of a search, and then waits for work at full speed for
        100 ms, which was a third of the time of the next query's rewrites.
        """
        self._encoder.set_text_threads()
        threadpool_limits(1, user_api="blas")

    def _submit(self) -> None:
        batch = self._take_batch()
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._thread, self._compute, batch)
        work.add_done_callback(lambda finished: self._deliver(batch, finished))

    def _take_batch(self) -> list[_Job]:
        texts = 0
        for count, job in enumerate(self._waiting):
            texts += sum(map(len, job.groups))
            if texts > MAX_BATCH and count:
                batch, self._waiting = self._waiting[:count], self._waiting[count:]
                return batch
        batch, self._waiting = self._waiting, []
        return batch

    def _deliver(self, batch: list[_Job], finished: asyncio.Future[list[Retrieved]]) -> None:
        if self._waiting:
            self._submit()  # before the answers are written: the thread need not wait for that
        else:
            self._working = False
        error = finished.exception()
        for position, job in enumerate(batch):
            if job.done.done():
                continue  # its request was cancelled
            if error:
                job.done.set_exception(error)
            else:
                job.done.set_result(finished.result()[position])

    def _compute(self, batch: list[_Job]) -> list[Retrieved]:
        started = time.perf_counter()
        groups = [group for job in batch for group in job.groups]
        vectors = search_vectors(groups, self._encoder)
        encoded = time.perf_counter()
        found = _search(batch, vectors)
        searched = time.perf_counter()
        timings = ((encoded - started) * 1000, (searched - encoded) * 1000)
        results = []
        for job in batch:
            own, found = found[: len(job.groups)], found[len(job.groups) :]
            results.append(Retrieved(own, *timings))
        return results


def _search(batch: list[_Job], vectors: Vectors) -> list[Scored]:
    """What each search reached. Jobs differ in their index only while one replaces another."""
    found: dict[int, Scored] = {}
    indexes = [job.searched for job in batch for _ in job.groups]
    chosen = [job.chosen for job in batch for _ in job.groups]
    efforts = [job.effort for job in batch for _ in job.groups]
    for index in dict.fromkeys(indexes):
        rows = [row for row, own in enumerate(indexes) if own is index]
        own = vectors if len(rows) == len(vectors) else vectors[rows]
        scored = index.score(
            own, chosen=[chosen[row] for row in rows], effort=[efforts[row] for row in rows]
        )
        found |= zip(rows, scored, strict=True)
    return [found[row] for row in range(len(vectors))]
