"""Proves that a collection in Milvus is whole, as ``check.py`` does of a folder."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from models.retriever.address import MilvusAddress
from models.retriever.check import Finding, files_there, vectors_anew
from models.retriever.image_index import ImageIndex
from models.retriever.manifest import IndexOptions
from models.retriever.milvus_index import MilvusIndex, manifest_at
from models.retriever.milvus_rows import Row, digest, item_of, together
from models.retriever.types import Encoder, file_of

_WHOLE_ROW = ["id", "number", "vector", "record", "stamp", "digest"]


def check_collection(
    address: MilvusAddress, open_encoder: Callable[[], Encoder], sample: int
) -> Iterator[Finding]:
    """Reads every row, then encodes a sample of the pictures anew.

    Raises:
        InputError: there is no such collection, or it is none of ours.
        IndexDown: Milvus does not answer.
    """
    manifest = manifest_at(address)
    index = MilvusIndex.open(address, manifest.encoder, strong=True)
    digests: list[str] = []
    wrong: list[str] = []
    files: dict[str | None, None] = {}
    kept: list[Row] = []
    for row in index.items.all_rows(_WHOLE_ROW):
        digests.append(row["digest"])
        if digest(row) != row["digest"]:
            wrong.append(row["id"])
        files[file_of(item_of(row).record)] = None
        place = random.randrange(len(digests))  # a sample of all rows, in one pass
        if len(kept) < sample:
            kept.append(row)
        elif place < sample:
            kept[place] = row
    shown = ", ".join(ascii(name)[1:-1] for name in wrong[:5])
    yield Finding(
        not wrong,
        f"{len(wrong):,} of {len(digests):,} rows are not what was written: {shown}; run "
        "`grape index build` again"
        if wrong
        else f"{len(digests):,} rows, each as it was written",
    )
    same = len(digests) == manifest.count and together(digests) == manifest.ids_sha256
    yield Finding(
        same,
        f"they are {'those' if same else 'not those'} of the manifest, which has "
        f"{manifest.count:,}" + ("" if same else "; run `grape index sync`"),
    )
    yield from files_there(manifest.pictures, files)
    if kept:
        some = ImageIndex.build(
            np.array([row["vector"] for row in kept], np.float32),
            [row["id"] for row in kept],
            [item_of(row).record for row in kept],
            manifest.encoder,
            IndexOptions(pictures=Path(manifest.pictures) if manifest.pictures else None),
        )
        yield from vectors_anew(some, open_encoder, sample)
