"""What an index and its encoder are, as text: to be read before anything heavy is imported."""

from pathlib import Path

from pydantic import BaseModel, ValidationError

from models.common.errors import InputError

MANIFEST = "manifest.json"
FORMAT = 1


class EncoderFingerprint(BaseModel, frozen=True):
    """What makes two encoders the same; an index opens only with the one that it was built with."""

    name: str
    pretrained: str | None
    weights_sha256: str
    preprocess_sha256: str
    tokenizer_sha256: str
    dim: int

    def same_vectors(self, other: "EncoderFingerprint") -> bool:
        """Whether both give the same vectors, whatever they are called and wherever they lie."""
        return self.model_copy(update={"name": other.name, "pretrained": other.pretrained}) == other

    def __str__(self) -> str:
        tag = f" ({self.pretrained})" if self.pretrained else ""
        return f"{self.name}{tag}, weights {self.weights_sha256[:12]}"


class IndexManifest(BaseModel, frozen=True):
    """``manifest.json``: what the vectors are, and which files hold them.

    It is the one file that is replaced; the files it names carry their content's hash, so that a
    reader sees the old index or the new one, whole.
    """

    format: int
    encoder: EncoderFingerprint
    count: int
    metric: str
    factory: str
    ids_sha256: str
    vectors_file: str
    items_file: str
    pictures: str | None  # folder that the items' files lie in; None for vectors alone
    credit: str | None = None  # to be shown beside the pictures
    # Percentiles 0 to 100 of the best picture's score for queries that the encoder knows: what the
    # gate compares a query's own with. None where no such queries were given.
    known_scores: tuple[float, ...] | None = None


def read_manifest(folder: Path) -> IndexManifest:
    """Reads ``manifest.json`` of an index folder without opening the index.

    Raises:
        InputError: no index there, or not one that this version reads.
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
            f"{folder / MANIFEST} is not an index manifest: build it again."
        ) from error
    if manifest.format != FORMAT:
        raise InputError(
            f"The index {folder} has format {manifest.format} and this version reads {FORMAT}: "
            "build it again, or update grape."
        )
    return manifest
