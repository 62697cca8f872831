"""Building an index from image files."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from models.common.errors import InputError
from models.retriever.image_index import ImageIndex, IndexOptions
from models.retriever.picture_worker import read_all
from models.retriever.pictures import find_pictures
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
    asked: deque[str] = deque()

    def files() -> Iterator[Path]:
        for picture_id in track(pictures):
            asked.append(picture_id)
            yield pictures[picture_id]

    for found in read_all(files()):
        picture_id = asked.popleft()
        if not isinstance(found, Image.Image):
            skipped.append((ascii(picture_id)[1:-1], str(found)))
        elif not _is_utf8(picture_id):
            skipped.append((ascii(picture_id)[1:-1], "its name is not valid UTF-8"))
        else:
            ids.append(picture_id)
            yield found


def _is_utf8(picture_id: str) -> bool:
    """Whether an id can be stored and requested."""
    try:
        picture_id.encode()
    except UnicodeEncodeError:
        return False
    return True
