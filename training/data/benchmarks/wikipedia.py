"""Wikipedia: sections of featured articles as long English queries, each with one picture.

The paper calls its data set for long text "Wikipedia". As far as we could read it, it does not say
which data set that is, nor which split, gallery or text. We read the one of that name in
cross-modal retrieval (Rasiwasia et al., "A New Approach to Cross-Modal Multimedia Retrieval", ACM
Multimedia 2010): 2,866 sections of at least 70 words (median 200), from the ten largest categories.
WIT, AToMiC and WikiDO come from Wikipedia too, so numbers from here cannot be compared with the
paper's R@1 of 47.8 until that is known.

The folder is ``wikipedia_dataset`` of the archive from http://www.svcl.ucsd.edu/projects/crossmodal/.
The page itself was not available to us; the layout is the one that public code reads::

    testset_txt_img_cat.list  a line for each document: text id, picture id, category from 1; tabs
    texts/<text id>.xml       <document> ... <text>the section</text> ... </document>
    images/<category>/<picture id>.jpg

The test split has 693 documents (2,173 more to train on). The gallery is the pictures of the test
split. We do not know the page's terms; the texts are Wikipedia's.
"""

import re
from html import unescape
from pathlib import Path

from training.data.benchmarks.benchmark import Benchmark
from training.data.benchmarks.files import Counts, Source
from training.data.rows import Row

COUNTS = Counts(pictures=693, queries=693)
PAGE = "http://www.svcl.ucsd.edu/projects/crossmodal/"

_DOCUMENTS = "testset_txt_img_cat.list"
_CATEGORIES = (
    "art", "biology", "geography", "history", "literature", "media", "music", "royalty", "sport",
    "warfare",
)  # fmt: skip
_LINE = re.compile(r"(\S+)\t(\S+)\t(\d+)")
_TEXT = re.compile(r"<text>(.*?)</text>", re.DOTALL)
_PAPER = (
    "The paper does not say whether this is its 'Wikipedia', nor on which split and gallery its "
    "R@1 of 47.8 was measured."
)


def load(folder: Path, check_counts: bool = True) -> Benchmark:
    """Reads the test split; the task of every query is ``long``, whatever its length."""
    source = Source("Wikipedia", folder, PAGE)
    files = {}
    rows = []
    for number, line in source.lines(_DOCUMENTS):
        match = _LINE.fullmatch(line)
        if match is None or not 1 <= int(match[3]) <= len(_CATEGORIES):
            source.refuse(
                _DOCUMENTS,
                f"line {number}",
                f"a text's id, a picture's and a category from 1 to {len(_CATEGORIES)} were "
                "expected, separated by tabs",
            )
        text, picture, category = match.groups()
        files[picture] = f"images/{_CATEGORIES[int(category) - 1]}/{picture}.jpg"
        query = _section(source, f"texts/{text}.xml")
        rows.append(Row(query=query, targets=(picture,), task="long", language="en", split="test"))
    return source.benchmark(
        source.pictures(files), rows, "test split", _PAPER, COUNTS if check_counts else None
    )


def _section(source: Source, relative: str) -> str:
    """The text of a document.

    Without an XML parser: public code for this data set uses one that recovers from errors, so some
    of its files are not well-formed.
    """
    document = source.bytes(relative).decode("utf-8", errors="replace")
    words = unescape(" ".join(_TEXT.findall(document))).split()
    if not words:
        source.refuse(relative, "line 1", "no words between <text> and </text>")
    return " ".join(words)
