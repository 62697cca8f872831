"""XM3600 (Crossmodal-3600): pictures from all over the world, with captions in 36 languages.

The files are those of https://google.github.io/crossmodal-3600, unpacked::

    captions.jsonl        one per picture: {"image/key": "d89a4889331ce042", "image/locale": ...,
                          "ar": {"caption": [...], "caption/tokenized": [...], ...}, "bn": ...}
    images/<key>.jpg      the pictures, from images.tgz

The keys are those that the loaders of CLIP_benchmark and big_vision read. There are 3,600 pictures
and 261,375 captions (the XM3600 paper, arXiv 2205.12522): about two for each picture and language,
fewer in Maori and Bengali. There is one split. Every caption is a query with one right picture.
Some evaluations, for example CLIP_benchmark's, use only the first caption of each language.

A row's language is the data set's code. ``fil`` (Filipino) and ``quz`` (Cusco Quechua) have three
letters, because ISO 639-1 has no codes for them.

The paper reports R@1 of 58.4 on XM3600. As far as we could read it, it does not say over which
languages that is averaged, nor whether the gallery is all 3,600 pictures or a held-out part. The
captions are under CC BY 4.0, each picture under its own licence.

The authors have no copy on the hub. We read the copy of mteb's maintainers, which is used by their
task XM3600T2IRetrieval; its columns are those that the task reads.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, model_validator

from models.common.errors import InputError
from models.common.files import write_file
from models.common.progress import say
from models.rewriter.tasks import choose_task
from training.data.benchmarks.benchmark import Benchmark
from training.data.benchmarks.files import Counts, Source, Text
from training.data.rows import Row

COUNTS = Counts(pictures=3_600, queries=261_375)
PAGE = "https://google.github.io/crossmodal-3600"
HUB = "mteb/xm3600"
HUB_REVISION = "536cd45bbfe53de9b08c0483bb4a76a4bd3673fa"  # mteb's own

_CODES = (
    "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw "
    "te th tr uk vi zh"
)
LANGUAGES = tuple(_CODES.split())

_CAPTIONS = "captions.jsonl"
_PAPER = "The paper does not say on which languages and gallery its R@1 of 58.4 was measured."


class _Captions(BaseModel):
    caption: list[Text]


class _Picture(BaseModel):
    key: Text = Field(alias="image/key")
    languages: dict[str, _Captions]

    @model_validator(mode="before")
    @classmethod
    def _gather_languages(cls, line: Any) -> Any:
        """The languages are keys of the line itself; a missing one is refused."""
        if not isinstance(line, dict):
            return line
        return {**line, "languages": {language: line.get(language) for language in LANGUAGES}}


def load(folder: Path, check_counts: bool = True) -> Benchmark:
    """Reads all languages; a picture's id is its key."""
    source = Source("XM3600", folder, PAGE)
    files = {}
    rows = []
    for picture in source.json_lines(_CAPTIONS, _Picture):
        files[picture.key] = f"images/{picture.key}.jpg"
        for language, captions in picture.languages.items():
            rows += [_row(caption, picture.key, language) for caption in captions.caption]
    return source.benchmark(
        source.pictures(files), rows, "all 36 languages", _PAPER, COUNTS if check_counts else None
    )


def load_hub(folder: Path, languages: Sequence[str] = (), check_counts: bool = True) -> Benchmark:
    """Reads the copy on the hub, which has a split for each language.

    Args:
        folder: keeps the pictures as files.
        languages: all 36 if empty.

    Raises:
        InputError: the hub cannot be reached, or its data are not what was expected.
    """
    chosen = tuple(languages) or LANGUAGES
    if unknown := sorted(set(chosen) - set(LANGUAGES)):
        raise InputError(f"XM3600 has no language {unknown[0]!r}; it has {_CODES}.")
    source = Source("XM3600", folder, PAGE)
    files: dict[str, str] = {}
    rows = []
    for language in chosen:
        for record in _hub_records(language):
            picture = source.record(HUB, language, record, _HubPicture)
            files[picture.image_id] = _kept(folder, picture)
            rows += [_row(text, picture.image_id, language) for text in picture.captions]
    counts = Counts(COUNTS.pictures, COUNTS.queries if len(chosen) == len(LANGUAGES) else None)
    return source.benchmark(
        source.pictures(files), rows, " ".join(chosen), _PAPER, counts if check_counts else None
    )


class _Image(BaseModel):
    bytes: bytes


class _HubPicture(BaseModel):
    image_id: Text
    captions: list[Text]
    image: _Image


def _hub_records(language: str) -> Any:
    import datasets

    say(f"{HUB}, split {language}, from the hub or its cache")
    try:
        table = datasets.load_dataset(HUB, split=language, revision=HUB_REVISION)
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise InputError(
            f"{HUB} cannot be fetched from the hub ({str(error).splitlines()[0]}): name the folder "
            f"of the official files with --folder; {PAGE} has them."
        ) from error
    return table.cast_column("image", datasets.Image(decode=False))


def _kept(folder: Path, picture: _HubPicture) -> str:
    """The path of the picture's file in the folder; the file is written if it is missing."""
    relative = f"images/{picture.image_id}.jpg"
    path = folder / relative
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, picture.image.bytes, durable=False)
    return relative


def _row(caption: str, picture: str, language: str) -> Row:
    task = choose_task(caption).name
    return Row(query=caption, targets=(picture,), task=task, language=language, split="test")
