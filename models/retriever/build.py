"""Building an index from a folder of pictures."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from models.common.errors import InputError
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.pictures import PictureError, find_pictures, read_picture
from models.retriever.types import Metadata


@dataclass
class BuildReport:
    """What became of the files; ``skipped`` pairs a file with the reason."""

    indexed: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)


def build_from_folder(
    folder: Path,
    encoder: ClipEncoder,
    factory: str = "Flat",
    metadata_of: Callable[[str], Metadata] = lambda picture_id: {},
    track: Callable[[Iterable[str]], Iterable[str]] = lambda ids: ids,
) -> tuple[ImageIndex, BuildReport]:
    """Encodes every picture below a folder; its id is its path in the folder.

    Args:
        metadata_of: further metadata of a picture, by id.
        track: wraps the ids to show progress.

    Raises:
        InputError: nothing to index, or an unusable factory string.
    """
    pictures = {path.relative_to(folder).as_posix(): path for path in find_pictures(folder)}
    return build_index(pictures, folder, encoder, factory, metadata_of, track)


def build_index(
    pictures: Mapping[str, Path],
    folder: Path,
    encoder: ClipEncoder,
    factory: str = "Flat",
    metadata_of: Callable[[str], Metadata] = lambda picture_id: {},
    track: Callable[[Iterable[str]], Iterable[str]] = lambda ids: ids,
) -> tuple[ImageIndex, BuildReport]:
    """Encodes pictures that have ids already; otherwise as :func:`build_from_folder`.

    Args:
        pictures: id to file, below ``folder``.
    """
    report = BuildReport()
    ids: list[str] = []

    def opened() -> Iterator[Image.Image]:
        for picture_id in track(pictures):
            try:
                image = read_picture(pictures[picture_id])
                picture_id.encode()  # what is not UTF-8 could be neither stored nor asked for
            except (PictureError, OSError) as error:
                report.skipped.append((ascii(picture_id)[1:-1], str(error)))
                continue
            except UnicodeEncodeError:
                report.skipped.append((ascii(picture_id)[1:-1], "its name is not valid UTF-8"))
                continue
            ids.append(picture_id)
            yield image

    vectors = encoder.encode_images(opened())
    report.indexed = len(ids)
    if not ids:
        raise InputError(
            f"None of the {len(report.skipped)} pictures in {folder} could be read; the first: "
            f"{report.skipped[0][0]}: {report.skipped[0][1]}."
        )
    metadata = [{"file": pictures[i].relative_to(folder).as_posix(), **metadata_of(i)} for i in ids]
    index = ImageIndex.build(vectors, ids, metadata, encoder.fingerprint, factory, folder)
    return index, report
