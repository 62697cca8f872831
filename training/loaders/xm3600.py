"""XM3600 (Crossmodal-3600): pictures from all over the world, captions in 36 languages.

The files are those of https://google.github.io/crossmodal-3600, unpacked::

    captions.jsonl        a line a picture: {"image/key": "d89a4889331ce042", "image/locale": ...,
                          "ar": {"caption": [...], "caption/tokenized": [...], ...}, "bn": ...}
    images/<key>.jpg      the pictures, from images.tgz

The keys are those that the loaders of CLIP_benchmark and big_vision read. 3,600 pictures and
261,375 captions (the XM3600 paper, arXiv 2205.12522): about two in each language, fewer in Maori
and in Bengali. There is one split. Every caption is a query with one right picture. Some
evaluations, CLIP_benchmark's for one, ask the first caption of each language alone.

A row's language is the data set's code. ``fil`` (Filipino) and ``quz`` (Cusco Quechua) are of three
letters, for ISO 639-1 has none for them.

The paper's R@1 of 58.4 is on XM3600; it leaves open, as far as it could be read, which languages
that is a mean of, and whether the gallery is all 3,600 pictures or a part that was kept for
testing. The captions are under CC BY 4.0, each picture under its own licence. Copies on the hub are
by others than the makers and lag behind, so none is read.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, model_validator

from models.tasks import choose_task
from training.data import Row
from training.loaders.benchmark import Benchmark
from training.loaders.files import Counts, Source, Text

COUNTS = Counts(pictures=3_600, queries=261_375)
PAGE = "https://google.github.io/crossmodal-3600"

_CODES = (
    "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw "
    "te th tr uk vi zh"
)
LANGUAGES = tuple(_CODES.split())

_CAPTIONS = "captions.jsonl"
_PAPER = "The paper leaves open which languages and gallery its R@1 of 58.4 is on."


class _Captions(BaseModel):
    caption: list[Text]


class _Picture(BaseModel):
    key: Text = Field(alias="image/key")
    languages: dict[str, _Captions]

    @model_validator(mode="before")
    @classmethod
    def _gather_languages(cls, line: Any) -> Any:
        """The languages are keys of the line itself; one that is missing is refused."""
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


def _row(caption: str, picture: str, language: str) -> Row:
    task = choose_task(caption).name
    return Row(query=caption, targets=(picture,), task=task, language=language, split="test")
