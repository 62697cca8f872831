"""Encoding and searching for all requests: what waits is done together, in a thread of its own."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from threadpoolctl import threadpool_limits

from models.retriever.types import Encoder, Scored, Vectors
from models.search.searches import Part, search_vectors

if TYPE_CHECKING:  # both are heavy to import, and the pages must not wait for them
    from PIL.Image import Image

    from models.retriever.image_index import ImageIndex

MAX_BATCH = 256  # texts


class Retrieved(NamedTuple):
    """What each search reached, and how long its batch took."""

    found: list[Scored]
    encode_ms: float
    search_ms: float


class _Job(NamedTuple):
    groups: Sequence[Sequence[Part]]  # one search for each group, with the mean of its parts
    done: asyncio.Future[Retrieved]


class BatchedRetriever:
    """The frozen encoder and the index, batched over requests.

    While one batch is computed the next one gathers, so batches grow with the load and a lone query
    waits for nobody.
    """

    def __init__(self, encoder: Encoder, index: "ImageIndex") -> None:
        self.encoder = encoder
        self.index = index
        self._thread = ThreadPoolExecutor(1, "retriever", self._use_few_cores)
        self._waiting: list[_Job] = []
        self._working = False

    async def retrieve(self, groups: Sequence[Sequence[Part]]) -> Retrieved:
        """Searches once for each group of texts and pictures, with the mean of their vectors."""
        done: asyncio.Future[Retrieved] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Job(groups, done))
        if not self._working:
            self._working = True
            self._submit()
        return await done

    async def picture_vector(self, picture: "Image") -> Vectors:
        """The unit vector of an RGB picture: float32 ``[dim]``."""
        loop = asyncio.get_running_loop()
        encode = self.encoder.encode_images
        vectors: Vectors = await loop.run_in_executor(self._thread, encode, [picture])
        return vectors.reshape(-1)

    @property
    def waiting(self) -> int:
        """Searches that the next batch will hold."""
        return len(self._waiting)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _use_few_cores(self) -> None:
        """Leaves the cores to the language model.

        OpenBLAS's second thread saves .2 ms of a search, and then waits for work at full speed for
        100 ms, which was a third of the time of the next query's rewrites.
        """
        self.encoder.set_text_threads()
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
        vectors = search_vectors(groups, self.encoder)
        encoded = time.perf_counter()
        found = self.index.score(vectors)
        searched = time.perf_counter()
        timings = ((encoded - started) * 1000, (searched - encoded) * 1000)
        results = []
        for job in batch:
            own, found = found[: len(job.groups)], found[len(job.groups) :]
            results.append(Retrieved(own, *timings))
        return results
