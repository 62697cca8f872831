"""Small corpora of texts in the official layouts of BRIGHT and R2MED."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from tests.support.benchmark_folders import jsonl, write

INSECTS = "insects_attracted_to_light/Phototaxis_3.txt"
HEAT = "insects_attracted_to_light/Heat_0.txt"
QUOTED = "insects_attracted_to_light/Question_0.txt"
BLANK = "insects_attracted_to_light/Blank_0.txt"
TEXTS = {
    INSECTS: "Phototaxis: moths and other insects fly towards a lamp.",
    HEAT: "\nInfrared radiation warms a body.",
    QUOTED: "Why are insects attracted to light?",
    BLANK: " \n",
}
QUESTION = "Why are insects attracted to light?\nAt night they fly to a lamp."
WARMTH = "Which radiation warms a body?"
BIOLOGY = "examples/biology-00000-of-00001.parquet"
DOCUMENTS = "documents/biology-00000-of-00001.parquet"
EXAMPLES: list[dict[str, Any]] = [
    {
        "query": QUESTION, "reasoning": "...", "id": "0", "excluded_ids": [QUOTED, "elsewhere"],
        "gold_ids_long": [], "gold_ids": [INSECTS, INSECTS], "gold_answer": "...",
    },
    {
        "query": WARMTH, "reasoning": "...", "id": "1", "excluded_ids": ["N/A"],
        "gold_ids_long": [], "gold_ids": [HEAT, INSECTS], "gold_answer": "...",
    },
]  # fmt: skip


def bright(folder: Path, examples: Sequence[dict[str, Any]] = EXAMPLES) -> None:
    """The domain biology; its documents are in two files, as those of a large one may be."""
    table(folder / BIOLOGY, examples)
    records = [{"id": name, "content": text} for name, text in TEXTS.items()]
    table(folder / "documents/biology-00000-of-00002.parquet", records[:3])
    table(folder / "documents/biology-00001-of-00002.parquet", records[3:])
    table(folder / "documents/pony-00000-of-00001.parquet", [{"id": "p", "content": "pony"}])


def r2med(folder: Path) -> None:
    """The data set Biology; ids are texts or numbers."""
    queries: list[dict[str, Any]] = [
        {"id": 0, "text": QUESTION, "answer": "..."},
        {"id": "1", "text": WARMTH},
    ]
    write(folder, "Biology/query.jsonl", jsonl(queries))
    corpus = [{"id": name, "text": text} for name, text in TEXTS.items()]
    write(folder, "Biology/corpus.jsonl", jsonl(corpus))
    judged = [("0", INSECTS, 1), ("0", BLANK, 0), ("1", HEAT, 2), ("1", INSECTS, 1)]
    records = [{"q_id": query, "p_id": text, "score": score} for query, text, score in judged]
    write(folder, "Biology/qrels.jsonl", jsonl(records))


def table(path: Path, records: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(records)), path)
