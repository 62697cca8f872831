"""CVLUE, image retrieval: pictures of everyday life in China, each with five Chinese captions.

https://github.com/WangYuxuan93/CVLUE describes the data, which are available on request under
CC BY-NC-ND 4.0. The repository shows the format (``test_example/IC/gold.json``,
``evaluation/eval_itr.py``) and three names of the test file; we read the first one that exists::

    new_dataset/IC/new_test.json    the baselines' configuration
    test_gold/IC/IC_test_gold.json  the evaluation's default
    IC/gold.json                    the example
    pics/images/...                 the pictures; images/... without pics/ works too

The test file is a list of ``{"image": "images/val/A/1-panda/A-1-34.png", "caption": [five]}``. The
released archive was not available to us, so its folders may have other names.

The test split has 8,973 pictures (the CVLUE paper, arXiv 2407.01081, table 2; 17,920 to train on,
3,116 to validate on). No source counts the captions, so their number is not checked. As in the
official evaluation, identical captions are one query with several right pictures; with five
captions for each picture, there are at most 44,865 queries.

The paper reports R@1 of 15.3 on CVLUE. As far as we could read it, it does not say which split and
gallery that is.
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from models.rewriter.tasks import choose_task
from training.data.benchmarks.benchmark import Benchmark
from training.data.benchmarks.files import Counts, Source, Text
from training.data.rows import Row

COUNTS = Counts(pictures=8_973, queries=None)
PAGE = "https://github.com/WangYuxuan93/CVLUE"

_TEST_FILES = ("new_dataset/IC/new_test.json", "test_gold/IC/IC_test_gold.json", "IC/gold.json")
_PICTURES = "pics"
_PAPER = "The paper does not say on which split and gallery its R@1 of 15.3 was measured."


class _Picture(BaseModel):
    image: Text
    caption: Annotated[list[Text], Field(min_length=1)]


def load(folder: Path, check_counts: bool = True) -> Benchmark:
    """Reads the test split; a picture's id is its path in the test file."""
    source = Source("CVLUE", folder, PAGE)
    test_file = next(filter(source.has, _TEST_FILES), _TEST_FILES[0])
    right: dict[str, dict[str, None]] = {}  # caption to its pictures, in the file's order
    files = {}
    below = f"{_PICTURES}/" if (folder / _PICTURES).is_dir() else ""
    for picture in source.json_list(test_file, _Picture):
        files[picture.image] = below + picture.image
        for caption in picture.caption:
            right.setdefault(caption, {})[picture.image] = None
    rows = [_row(caption, tuple(pictures)) for caption, pictures in right.items()]
    return source.benchmark(
        source.pictures(files), rows, "test split", _PAPER, COUNTS if check_counts else None
    )


def _row(caption: str, pictures: tuple[str, ...]) -> Row:
    task = choose_task(caption).name
    return Row(query=caption, targets=pictures, task=task, language="zh", split="test")
