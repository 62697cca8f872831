"""BRIGHT: questions whose answer takes reasoning, over texts, in twelve domains.

Su et al., 2025, BRIGHT: A Realistic and Challenging Benchmark for Reasoning-Intensive Retrieval.
The files are those of the data set xlangai/BRIGHT on the hub, under CC BY 4.0. Each domain is a
benchmark of its own, with its own corpus::

    examples/<domain>-00000-of-00001.parquet   id, query, gold_ids, excluded_ids, and more
    documents/<domain>-00000-of-00001.parquet  id, content

The columns are those that the authors' ``run.py`` reads (https://github.com/xlang-ai/BRIGHT). As it
does, we leave ``excluded_ids`` out of the ranking of their query; ``["N/A"]`` means none. All
``gold_ids`` are equally right. ``long_documents`` and the queries that other models have rewritten
(``gpt4_reason`` and others) are not read.

The queries are counted on the data set's card. TheoremQA's theorems and questions were 78 and 206
at first; since they were corrected they are 76 and 194. The documents are those that ir_datasets'
own tests count. The authors report nDCG@10.
"""

from collections.abc import Container
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from models.rewriter.tasks import choose_task
from training.data.benchmarks.benchmark import Benchmark
from training.data.benchmarks.files import Counts, Id, Source, Text
from training.data.rows import Row

PAGE = "https://github.com/xlang-ai/BRIGHT"
COUNTS = {
    "biology": Counts(57_359, 103),
    "earth_science": Counts(121_249, 116),
    "economics": Counts(50_220, 103),
    "psychology": Counts(52_835, 101),
    "robotics": Counts(61_961, 101),
    "stackoverflow": Counts(107_081, 117),
    "sustainable_living": Counts(60_792, 108),
    "leetcode": Counts(413_932, 142),
    "pony": Counts(7_894, 112),
    "aops": Counts(188_002, 111),
    "theoremqa_theorems": Counts(23_839, 76),
    "theoremqa_questions": Counts(188_002, 194),
}

_PAPER = "The authors report nDCG@10."


class _Document(BaseModel):
    id: Id
    content: str  # may be blank


class _Example(BaseModel):
    query: Text
    gold_ids: Annotated[list[Id], Field(min_length=1)]
    excluded_ids: list[Id]

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if both := {*self.gold_ids} & {*self.excluded_ids}:
            raise ValueError(f"{min(both)!r} is both a gold id and an excluded one")
        return self


def load(domain: str, folder: Path, check_counts: bool = True) -> Benchmark:
    """Reads a domain.

    Args:
        domain: a key of :data:`COUNTS`.
    """
    source = Source("BRIGHT", folder, PAGE)
    documents = source.parquet(f"documents/{domain}-*.parquet", _Document)
    texts = {document.id: document.content for document in documents}
    rows = [
        _row(example, texts.keys())
        for example in source.parquet(f"examples/{domain}-*.parquet", _Example)
    ]
    counts = COUNTS[domain] if check_counts else None
    return source.text_benchmark(texts, rows, domain, _PAPER, counts)


def _row(example: _Example, known: Container[str]) -> Row:
    return Row(
        query=example.query,
        targets=tuple(dict.fromkeys(example.gold_ids)),
        task=choose_task(example.query).name,
        language="en",
        split="test",
        # "N/A" is no document.
        excluded=tuple(own for own in dict.fromkeys(example.excluded_ids) if own in known),
    )
