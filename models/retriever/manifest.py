"""What an index and its encoder are, as JSON. Readable before anything heavy is imported."""

import hashlib
import json
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ValidationError

from models.common.errors import InputError
from models.retriever.address import IndexPlace

MANIFEST = "manifest.json"
FORMAT = 2


class EncoderFingerprint(BaseModel, frozen=True):
    """Identifies an encoder. An index opens only with the encoder that built it."""

    name: str
    pretrained: str | None
    weights_sha256: str
    preprocess_sha256: str
    tokenizer_sha256: str
    dim: int
    revision: str | None = None  # its commit on the hub, if it came from there
    quick_gelu: bool | None = None  # whether it computes with QuickGELU; None: not recorded

    def same_vectors(self, other: "EncoderFingerprint") -> bool:
        """Whether both encoders give the same vectors, whatever their names and folders."""
        free = {"name", "pretrained", "revision"}
        if None in (self.quick_gelu, other.quick_gelu):
            free.add("quick_gelu")
        return self.model_dump(exclude=free) == other.model_dump(exclude=free)

    def __str__(self) -> str:
        tag = f" ({self.pretrained})" if self.pretrained else ""
        at = f"@{self.revision[:12]}" if self.revision else ""
        how = ", QuickGELU" if self.quick_gelu else ""
        return f"{self.name}{tag}{at}, weights {self.weights_sha256[:12]}{how}"


class DataFile(BaseModel, frozen=True):
    """A file of an index. Its name holds the hash of its content, and it never changes."""

    name: str
    bytes: int
    sha256: str


class Scanned(BaseModel, frozen=True):
    """How the folder of pictures was looked through, which the next `sync` does again."""

    exclude: tuple[str, ...]
    metadata: str | None = None  # the table's file


class Effort(BaseModel, frozen=True):
    """How much of an approximate index a search looks at: more takes longer and finds more."""

    nprobe: int | None = None  # cells of an IVF index
    ef_search: int | None = None  # vectors in the queue of an HNSW graph


UNSAVED = DataFile(name="", bytes=0, sha256="")


class IndexManifest(BaseModel, frozen=True):
    """``manifest.json``: what the vectors are, and which files hold them.

    Saving replaces this file only. The files that it names carry the hash of their content, so a
    reader sees either the old index or the new one, each complete.
    """

    format: int
    encoder: EncoderFingerprint
    count: int
    metric: str
    factory: str
    effort: Effort | None = None  # of each search; None for what is searched exactly
    recall: float | None = None  # @10 at that effort, against an exact search
    ids_sha256: str  # of the ids in their order
    vectors: DataFile = UNSAVED  # FAISS
    items: DataFile = UNSAVED  # SQLite: ids, metadata and the pictures' files
    pictures: str | None  # folder that contains the image files; None if there are none
    credit: str | None = None  # shown with the images
    scanned: Scanned | None = None  # None if it was built from something else than a folder
    # Percentiles 0 to 100 of the best image's score for queries that the encoder understands. The
    # gate compares the score of a query with them. None if no such queries were given.
    known_scores: tuple[float, ...] | None = None
    known_from: Literal["queries", "captions"] | None = None  # where those queries come from

    @property
    def generation(self) -> str:
        """Eight hexadecimal digits that differ whenever pictures, metadata or scores do."""
        return hashlib.sha256(
            self.model_dump_json(exclude={"pictures", "scanned"}).encode()
        ).hexdigest()[:8]


class IndexOptions(NamedTuple):
    """How an index is stored, and where its images come from.

    Attributes:
        factory: FAISS factory string, for example ``Flat`` (exact), ``HNSW32``, ``IVF256,Flat``;
            ``auto`` chooses by the number of vectors.
        pictures: folder that the ``file`` of each metadata record is relative to.
        credit: attribution that the licence of the images asks for.
        scanned: how the folder was looked through.
    """

    factory: str = "Flat"
    pictures: Path | None = None
    credit: str | None = None
    scanned: Scanned | None = None


def new_manifest(
    encoder: EncoderFingerprint, count: int, ids_sha256: str, options: IndexOptions
) -> IndexManifest:
    """The manifest of an index that is not saved yet."""
    return IndexManifest(
        format=FORMAT,
        encoder=encoder,
        count=count,
        metric="inner_product",
        factory=options.factory,
        ids_sha256=ids_sha256,
        pictures=str(options.pictures.resolve()) if options.pictures else None,
        credit=options.credit,
        scanned=options.scanned,
    )


def read_manifest(folder: Path) -> IndexManifest:
    """Reads ``manifest.json`` of an index folder without opening the index.

    Raises:
        InputError: the folder has no index, or one that this version cannot read.
    """
    try:
        content = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"There is no index in {folder}: make one with "
            f"`grape index build PICTURES/ --out {folder}`."
        ) from error
    return parse_manifest(folder, content)


def parse_manifest(place: IndexPlace, content: bytes) -> IndexManifest:
    """A manifest from its JSON.

    Raises:
        InputError: it is none, or of a version that this one cannot read.
    """
    _require_format(place, content)
    try:
        return IndexManifest.model_validate_json(content)
    except ValidationError as error:
        raise InputError(
            f"The manifest of the index {place} is not one: build the index again."
        ) from error


def require_same(
    place: IndexPlace, built_with: EncoderFingerprint, given: EncoderFingerprint
) -> None:
    """Refuses an encoder that does not give the vectors of an index.

    Raises:
        InputError: it does not. The sentence says which is which.
    """
    if not built_with.same_vectors(given):
        raise InputError(
            f"The index {place} was built with the encoder {built_with} and cannot be "
            f"opened with {given}: start with the first one, or build the index again."
        )


def _require_format(place: IndexPlace, content: bytes) -> None:
    try:
        found = json.loads(content)["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return  # the caller says that it is no manifest
    if found != FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        remedy = "update grape" if newer else "build it again with `grape index build`"
        raise InputError(
            f"The index {place} has format {found}, but this version reads {FORMAT}: {remedy}."
        )
