"""What every program is given: one encoder, one index, one list of queries, the same pictures.

The encoder has random weights, which cost what trained ones do. It is a ViT-B-32 that looks at 256
pixels, the only shape that rclip takes; its text tower is that of every ViT-B-32.
"""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
import torch
from PIL import Image

from benchmarks import index
from benchmarks.index_build import draw, random_encoder
from benchmarks.peers.environments import PeerError
from models.retriever.image_index import ImageIndex
from models.retriever.types import Vectors

MODEL = "ViT-B-32-256"
COUNT = 10_000  # vectors in the index
K = 10
SAME = 0.999  # cosine of two vectors of one text or picture
SAME_HITS = 0.95  # of the nearest pictures; two that are equally near may change places
CHECKED_TEXTS, CHECKED_PICTURES = 20, 10
COLOURS = [
    "red", "blue", "green", "yellow", "white", "black", "brown", "grey", "orange", "pink",
    "silver", "wooden", "old", "small", "large", "broken",
]  # fmt: skip
THINGS = [
    "fox", "dog", "cat", "horse", "bird", "fish", "boat", "train", "car", "bicycle", "house",
    "church", "bridge", "tower", "lamp", "chair", "clock", "book", "bottle", "hat", "shoe", "tree",
    "flower", "leaf",
]  # fmt: skip
PLACES = [
    "at night", "in the snow", "in the rain", "under a tree", "on a table", "by the sea",
    "in a kitchen", "on a roof", "in the fog", "behind a fence", "in front of a shop",
    "at a station", "in a garden", "on a hill", "in an old photo", "seen from above",
    "beside a river", "in the desert", "at a market", "in a museum",
]  # fmt: skip


class Shared:
    """All of it, in one folder."""

    def __init__(self, folder: Path, count: int = COUNT) -> None:
        torch.manual_seed(0)
        self.folder = folder
        self.encoder = random_encoder(folder / "encoder", MODEL)
        self.weights = folder / "encoder" / "open_clip_model.safetensors"
        self.vectors = index.pictures(count)
        ids = [str(number) for number in range(count)]
        self.captions = [f"picture {number}" for number in range(count)]
        records = [{"caption": caption} for caption in self.captions]
        built = ImageIndex.build(self.vectors, ids, records, self.encoder.fingerprint)
        built.save(folder / "index")
        self.index = folder / "index"
        self.faiss = faiss.IndexFlatIP(self.vectors.shape[1])
        self.faiss.add(self.vectors)
        self.faiss_file = folder / "image.index"
        faiss.write_index(self.faiss, str(self.faiss_file))
        words = itertools.product(COLOURS, THINGS, PLACES)
        texts = [f"a {colour} {thing} {place}" for colour, thing, place in words]
        order = np.random.default_rng(0).permutation(len(texts))
        self._queries = itertools.cycle([texts[number] for number in order])

    def queries(self, count: int) -> list[str]:
        """The next ones, so that no program has seen a query before."""
        return list(itertools.islice(self._queries, count))

    def pictures(self, count: int) -> Path:
        """A folder with so many JPEGs; a smaller one has the first of a larger one."""
        folder = self.folder / f"pictures-{count}"
        if not folder.is_dir():
            draw(folder, count)
        return folder

    def first_pictures(self, count: int, of: int) -> Path:
        """A folder with the first of those, without a copy."""
        folder = self.folder / f"first-{count}"
        if not folder.is_dir():
            folder.mkdir()
            for file in sorted(self.pictures(of).iterdir())[:count]:
                os.link(file, folder / file.name)
        return folder

    def require_same_texts(self, name: str, texts: Sequence[str], theirs: Vectors) -> None:
        """Compares a program's vectors of texts with GRAPE's.

        Raises:
            PeerError: they differ.
        """
        _require_same(f"{name}'s vectors of texts", self.encoder.encode_texts(texts), theirs)

    def require_same_pictures(self, name: str, files: Sequence[Path], theirs: Vectors) -> None:
        """Likewise, of picture files.

        Raises:
            PeerError: they differ.
        """
        opened = [Image.open(file).convert("RGB") for file in files]
        own = self.encoder.encode_images(opened)
        _require_same(f"{name}'s vectors of pictures", own, theirs)

    def require_same_hits(
        self, name: str, texts: Sequence[str], found: Sequence[Sequence[str]]
    ) -> None:
        """Compares what a program finds with the exact answer.

        Raises:
            PeerError: it finds something else.
        """
        _, right = self.faiss.search(self.encoder.encode_texts(texts), K)
        share = np.mean(
            [np.isin(a, np.array(b, int)).mean() for a, b in zip(right, found, strict=True)]
        )
        if share < SAME_HITS:
            raise PeerError(f"{name} finds {share:.0%} of the {K} nearest pictures, not all.")


def _require_same(what: str, own: Vectors, theirs: Vectors) -> None:
    theirs = np.asarray(theirs, np.float32)
    theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    cosines = (own * theirs).sum(axis=1)
    if cosines.min() < SAME:
        raise PeerError(f"{what} are not GRAPE's: the least cosine is {cosines.min():.4f}.")
