"""What an index and its encoder are, as JSON. Readable before anything heavy is imported."""

from pathlib import Path

from pydantic import BaseModel, ValidationError

from models.common.errors import InputError

MANIFEST = "manifest.json"
FORMAT = 1


class EncoderFingerprint(BaseModel, frozen=True):
    """Identifies an encoder. An index opens only with the encoder that built it."""

    name: str
    pretrained: str | None
    weights_sha256: str
    preprocess_sha256: str
    tokenizer_sha256: str
    dim: int

    def same_vectors(self, other: "EncoderFingerprint") -> bool:
        """Whether both encoders give the same vectors, whatever their names and folders."""
        return self.model_copy(update={"name": other.name, "pretrained": other.pretrained}) == other

    def __str__(self) -> str:
        tag = f" ({self.pretrained})" if self.pretrained else ""
        return f"{self.name}{tag}, weights {self.weights_sha256[:12]}"


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
    ids_sha256: str
    vectors_file: str
    items_file: str
    pictures: str | None  # folder that contains the image files; None if there are none
    credit: str | None = None  # shown with the images
    # Percentiles 0 to 100 of the best image's score for queries that the encoder understands. The
    # gate compares the score of a query with them. None if no such queries were given.
    known_scores: tuple[float, ...] | None = None


def read_manifest(folder: Path) -> IndexManifest:
    """Reads ``manifest.json`` of an index folder without opening the index.

    Raises:
        InputError: the folder has no index, or one that this version cannot read.
    """
    try:
        manifest = IndexManifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"There is no index in {folder}: make one with "
            f"`grape index build PICTURES/ --out {folder}`."
        ) from error
    except ValidationError as error:
        raise InputError(
            f"{folder / MANIFEST} is not an index manifest: build the index again."
        ) from error
    if manifest.format != FORMAT:
        raise InputError(
            f"The index {folder} has format {manifest.format}, but this version reads {FORMAT}: "
            "build it again, or update grape."
        )
    return manifest
