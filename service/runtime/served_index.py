"""The index that is served, and how a new generation of it replaces it while the server runs."""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.client.wire import PartHealth
from models.common.errors import IndexDown
from models.retriever.address import IndexPlace, MilvusAddress
from models.retriever.manifest import MANIFEST
from models.retriever.open import manifest_of, reopened
from models.retriever.types import file_of
from service.retrieval import BatchedRetriever
from service.runtime.loading import at_pictures

if TYPE_CHECKING:
    from models.retriever.index import Index

log = logging.getLogger("grape")

LOOK_EVERY_S = 2.0
_SAMPLE = 16  # pictures whose files are looked for


class ServedIndex:
    """Watches an index folder, or a collection in Milvus.

    A new generation is opened and searched once beside the old one. Then new requests go to it;
    those in flight finish on the old one. One that cannot be opened changes nothing.

    Args:
        pictures: where the pictures are now, if not where the index was built from.
        switch: is given the retriever that answers from now on.
    """

    def __init__(
        self,
        place: IndexPlace,
        pictures: Path | None,
        retriever: BatchedRetriever,
        switch: Callable[[BatchedRetriever], None],
    ) -> None:
        self._place = place
        self._pictures = pictures
        self._retriever = retriever
        self._switch = switch
        # Looked at once even if nothing changes: it may have changed since it was opened.
        self._seen: object = None
        self.index = PartHealth(ready=True, reason="")
        self._loading = asyncio.Lock()
        self.pictures = _health(retriever.index)
        if not self.pictures.ready:
            log.warning(self.pictures.reason)

    async def watch(self) -> None:
        """Looks at the manifest until cancelled."""
        told = ""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                if not self.pictures.ready:  # their disk may be there by now
                    self.pictures = await asyncio.to_thread(_health, self._retriever.index)
                if await asyncio.to_thread(self._mark) != self._seen:
                    await self.refresh()
                    told = ""
                self.index = PartHealth(ready=True, reason="")
            except IndexDown as error:
                self.index = PartHealth(ready=False, reason=str(error))
                if self.index.reason != told:
                    log.warning("the index is down: %s", error)
                told = self.index.reason
            except Exception as error:  # such as no memory for a second index; it may do later
                if (sentence := str(error) or repr(error)) != told:
                    log.warning("the index that is served stays: %s", sentence)
                told = sentence

    async def refresh(self) -> bool:
        """Switches to the generation in the folder. False if it is served already.

        Raises:
            InputError: it cannot be opened. The old one stays.
        """
        async with self._loading:
            seen = await asyncio.to_thread(self._mark)
            found = await asyncio.to_thread(manifest_of, self._place)
            served = self._retriever.index.manifest
            moved = self._pictures is None and found.pictures != served.pictures
            if found.generation == served.generation and not moved:
                self._seen = seen
                return False
            index = await asyncio.to_thread(self._open)
            self.pictures = await asyncio.to_thread(_health, index)
            self._retriever = self._retriever.with_index(index)
            self._switch(self._retriever)
            self._seen = seen
            log.info("serving %d pictures, generation %s", len(index), index.manifest.generation)
            return True

    def _open(self) -> "Index":
        index = reopened(self._place, self._retriever.encoder)
        index.score(np.zeros((1, self._retriever.encoder.dim), np.float32))  # warms it up
        return at_pictures(index, self._pictures)

    def _mark(self) -> object:
        """Differs once the manifest has been replaced."""
        if isinstance(self._place, MilvusAddress):
            return manifest_of(self._place)
        try:
            status = os.stat(self._place / MANIFEST)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino


def _health(index: "Index") -> PartHealth:
    """Whether the pictures are where the index expects them, by a sample."""
    root = index.manifest.pictures
    if root is None or not len(index):
        return PartHealth(ready=True, reason="")
    files = filter(None, (file_of(item.record) for item in index.some(_SAMPLE)))
    paths = [Path(root) / file for file in files]
    if not paths or any(map(os.path.isfile, paths)):
        return PartHealth(ready=True, reason="")
    reason = f"the pictures are not in {root}: name where they are with --pictures"
    return PartHealth(ready=False, reason=reason)
