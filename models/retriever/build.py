"""Building an index from image files."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from models.common.errors import InputError
from models.retriever.image_index import ImageIndex, IndexOptions
from models.retriever.pictures import PictureError, find_pictures, read_picture
from models.retriever.types import Encoder, Metadata


@dataclass
class BuildReport:
    """How many files were indexed; ``skipped`` pairs a file with the reason."""

    indexed: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)


def build_from_folder(
    folder: Path,
    encoder: Encoder,
    factory: str = "Flat",
    track: Callable[[Iterable[str]], Iterable[str]] = lambda ids: ids,
) -> tuple[ImageIndex, BuildReport]:
    """Encodes every image below a folder. The id of an image is its path in the folder.

    Args:
        factory: FAISS factory string.
        track: wraps the ids to show progress.

    Raises:
        InputError: nothing to index, or an invalid factory string.
    """
    pictures = {path.relative_to(folder).as_posix(): path for path in find_pictures(folder)}
    return build_index(pictures, folder, encoder, factory, track)


def build_index(
    pictures: Mapping[str, Path],
    folder: Path,
    encoder: Encoder,
    factory: str = "Flat",
    track: Callable[[Iterable[str]], Iterable[str]] = lambda ids: ids,
) -> tuple[ImageIndex, BuildReport]:
    """Encodes images that already have ids; otherwise like :func:`build_from_folder`.

    Args:
        pictures: id to file, below ``folder``.
    """
    report = BuildReport()
    ids: list[str] = []
    vectors = encoder.encode_images(_readable(pictures, track, ids, report.skipped))
    report.indexed = len(ids)
    if not ids:
        first, reason = report.skipped[0]
        raise InputError(
            f"None of the {len(report.skipped)} pictures in {folder} could be read; the first: "
            f"{first}: {reason}."
        )
    records: list[Metadata] = [{"file": pictures[i].relative_to(folder).as_posix()} for i in ids]
    options = IndexOptions(factory, folder)
    return ImageIndex.build(vectors, ids, records, encoder.fingerprint, options), report


def _readable(
    pictures: Mapping[str, Path],
    track: Callable[[Iterable[str]], Iterable[str]],
    ids: list[str],
    skipped: list[tuple[str, str]],
) -> Iterator[Image.Image]:
    """Yields the images that can be read, and notes their ids; the others go to ``skipped``."""
    for picture_id in track(pictures):
        try:
            image = read_picture(pictures[picture_id])
            picture_id.encode()  # an id that is not UTF-8 can be neither stored nor requested
        except (PictureError, OSError) as error:
            skipped.append((ascii(picture_id)[1:-1], str(error)))
            continue
        except UnicodeEncodeError:
            skipped.append((ascii(picture_id)[1:-1], "its name is not valid UTF-8"))
            continue
        ids.append(picture_id)
        yield image
