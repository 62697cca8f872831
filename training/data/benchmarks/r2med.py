"""R2MED: medical questions and cases whose answer takes reasoning, over texts; eight data sets.

Li et al., 2025, R2MED: A Benchmark for Reasoning-Driven Medical Retrieval. The folder is
``dataset`` as https://github.com/R2MED/R2MED describes it, with a folder for each data set. The
files are those of R2MED/<data set> on the hub, under CC BY 4.0::

    <data set>/query.jsonl   {"id": "0", "text": "...", and more}
    <data set>/corpus.jsonl  {"id": "insects_attracted_to_light/Phototaxis_3.txt", "text": "..."}
    <data set>/qrels.jsonl   {"q_id": "0", "p_id": "insects_...", "score": 1}

The README calls the last one ``qrels.txt``; the authors' programs read ``qrels.jsonl``, which is
what the hub has. Documents with a score above 0 are right, all of them equally.

The README counts queries and documents. The authors report nDCG@10. Biology's documents are those
of BRIGHT's domain; no document is excluded here.
"""

from pathlib import Path

from pydantic import BaseModel

from models.rewriter.tasks import choose_task
from training.data.benchmarks.benchmark import Benchmark
from training.data.benchmarks.files import Counts, Id, Source, Text
from training.data.rows import Row

PAGE = "https://github.com/R2MED/R2MED"
COUNTS = {
    "Biology": Counts(57_359, 103),
    "Bioinformatics": Counts(47_473, 77),
    "Medical-Sciences": Counts(34_810, 88),
    "MedXpertQA-Exam": Counts(61_379, 97),
    "MedQA-Diag": Counts(56_250, 118),
    "PMC-Treatment": Counts(28_954, 150),
    "PMC-Clinical": Counts(60_406, 114),
    "IIYi-Clinical": Counts(10_449, 129),
}

_PAPER = "The authors report nDCG@10."


class _Document(BaseModel):
    id: Id
    text: str  # may be blank


class _Query(BaseModel):
    id: Id
    text: Text


class _Judged(BaseModel):
    q_id: Id
    p_id: Id
    score: int


def load(name: str, folder: Path, check_counts: bool = True) -> Benchmark:
    """Reads a data set.

    Args:
        name: a key of :data:`COUNTS`.
    """
    source = Source("R2MED", folder, PAGE)
    documents = source.json_lines(f"{name}/corpus.jsonl", _Document)
    texts = {document.id: document.text for document in documents}
    right: dict[str, dict[str, None]] = {}
    for judged in source.json_lines(f"{name}/qrels.jsonl", _Judged):
        if judged.score > 0:
            right.setdefault(judged.q_id, {})[judged.p_id] = None
    rows = []
    for query in source.json_lines(f"{name}/query.jsonl", _Query):
        if query.id not in right:
            source.refuse(f"{name}/qrels.jsonl", f"query {query.id!r}", "no document is right")
        rows.append(_row(query.text, tuple(right[query.id])))
    counts = COUNTS[name] if check_counts else None
    return source.text_benchmark(texts, rows, name, _PAPER, counts)


def _row(query: str, documents: tuple[str, ...]) -> Row:
    task = choose_task(query).name
    return Row(query=query, targets=documents, task=task, language="en", split="test")
