"""CIRR: a reference picture, and English words that say how the target differs from it.

The files are those of the data set's repository, https://github.com/Cuberick-Orion/CIRR, branch
``cirr_dataset``, release rc2; its README describes them. The validation split is read, for the
test split's targets are not published::

    captions/cap.rc2.val.json        a list of {"pairid", "reference", "target_hard",
                                     "target_soft", "caption", "img_set": {"id", "members", ...}}
    image_splits/split.rc2.val.json  picture id to its path below img_raw/
    img_raw/dev/...png               the pictures, from NLVR2

4,181 queries (the README corrects the paper's 4,184) in a gallery of the split's 2,297 pictures,
counted in the published files. ``target_hard`` is the one right picture: ``target_soft`` grades
others for training. ``img_set.members`` are six pictures; the five beside the reference are what
the subset's recall ranks. The usual evaluation takes the reference out of the ranking first.

The paper's R@1 of 35.7 is on CIRR; it leaves open, as far as it could be read, which split and
gallery that is, and it gives no recall on the subset. CIRR's annotations are under MIT, the
pictures under NLVR2's terms.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from models.rewriter.tasks import choose_task
from training.data.benchmarks.benchmark import Benchmark
from training.data.benchmarks.files import Counts, Source, Text
from training.data.rows import Row

COUNTS = Counts(pictures=2_297, queries=4_181)
PAGE = "https://github.com/Cuberick-Orion/CIRR"

_CAPTIONS = "captions/cap.rc2.val.json"
_SPLIT = "image_splits/split.rc2.val.json"
_PICTURES = "img_raw"
_PAPER = "The paper leaves open which split and gallery its R@1 of 35.7 is on."


class _Set(BaseModel):
    members: Annotated[list[Text], Field(min_length=2)]


class _Pair(BaseModel):
    reference: Text
    target_hard: Text
    caption: Text
    img_set: _Set

    @model_validator(mode="after")
    def _in_its_set(self) -> Self:
        """The reference is left out of the ranking, so it cannot be what is looked for."""
        beside = {*self.img_set.members} - {self.reference}
        if self.target_hard not in beside or self.reference not in self.img_set.members:
            raise ValueError("img_set.members must hold the reference and another one, the target")
        return self


class _Split(BaseModel):
    """The file is the mapping itself; here it has a name, to be checked like any record."""

    pictures: dict[str, Text]


def load(folder: Path, check_counts: bool = True) -> Benchmark:
    """Reads the validation split; its rows refer to a picture.

    CIRR has no captions, so a row's task is chosen for its words alone.
    """
    source = Source("CIRR", folder, PAGE)
    rows = [_row(pair) for pair in source.json_list(_CAPTIONS, _Pair)]
    split = source.record(_SPLIT, "line 1", {"pictures": source.json(_SPLIT)}, _Split)
    files = {picture: str(Path(_PICTURES, path)) for picture, path in split.pictures.items()}
    return source.benchmark(
        source.pictures(files), rows, "val split, rc2", _PAPER, COUNTS if check_counts else None
    )


def _row(pair: _Pair) -> Row:
    return Row(
        query=pair.caption,
        targets=(pair.target_hard,),
        task=choose_task(pair.caption).name,
        language="en",
        split="test",
        reference=pair.reference,
        group=tuple(member for member in pair.img_set.members if member != pair.reference),
    )
