"""CIRR: a reference picture, and an English text that says how the target differs from it.

The files are those of the data set's repository, https://github.com/Cuberick-Orion/CIRR, branch
``cirr_dataset``, release rc2; its README describes them. We read the validation split, because the
targets of the test split are not published::

    captions/cap.rc2.val.json        a list of {"pairid", "reference", "target_hard",
                                     "target_soft", "caption", "img_set": {"id", "members", ...}}
    image_splits/split.rc2.val.json  picture id to its path below img_raw/
    img_raw/dev/...png               the pictures, from NLVR2

There are 4,181 queries (the README corrects the paper's 4,184) and a gallery of the split's 2,297
pictures, counted in the published files. ``target_hard`` is the only right picture; ``target_soft``
grades others for training. ``img_set.members`` are six pictures; subset recall ranks the five other
than the reference. The usual evaluation removes the reference from the ranking first.

The paper reports R@1 of 35.7 on CIRR. As far as we could read it, it does not say which split and
gallery that is, and it reports no subset recall. CIRR's annotations are under the MIT licence, the
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
_PAPER = "The paper does not say on which split and gallery its R@1 of 35.7 was measured."


class _Set(BaseModel):
    members: Annotated[list[Text], Field(min_length=2)]


class _Pair(BaseModel):
    reference: Text
    target_hard: Text
    caption: Text
    img_set: _Set

    @model_validator(mode="after")
    def _in_its_set(self) -> Self:
        """The reference is left out of the ranking, so it cannot be the target."""
        others = {*self.img_set.members} - {self.reference}
        if self.target_hard not in others or self.reference not in self.img_set.members:
            raise ValueError("img_set.members must hold the reference and, besides it, the target")
        return self


class _Split(BaseModel):
    """The file is the mapping itself; with a name it can be validated like any record."""

    pictures: dict[str, Text]


def load(folder: Path, check_counts: bool = True) -> Benchmark:
    """Reads the validation split; its rows have a reference picture.

    CIRR has no captions, so the task of a row is chosen by its text alone.
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
