"""`grape eval` without a language model, against encoding the queries and one matrix product.

    python -m benchmarks.evaluate [--queries 5000]

Both first load the encoder and the index; that time is printed separately. A run of a few queries
goes before: its imports and word lists are loaded once, however many queries follow.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from training.data.rows import Row
from training.evaluation.queries import asked_rows
from training.evaluation.run import evaluate
from training.evaluation.settings import EvalSettings
from training.rewards.scorer import load_retriever


class Times(NamedTuple):
    """Seconds of each part, and the size of the work."""

    warm_up: float
    loading: float
    floor: float  # encoding and one matrix product, without loading
    run: float  # `grape eval`, with loading
    queries: int
    pictures: int


def measured(rows: list[Row], folder: Path) -> Times:
    data = folder / "rows.jsonl"
    lines = [row.model_dump_json(exclude_none=True) for row in rows]
    data.write_text("\n".join(lines), encoding="utf-8")
    few = EvalSettings(data=str(data), systems=["direct"], limit=2, work=folder / "few")
    settings = EvalSettings(data=str(data), systems=["direct"], work=folder / "kept")

    began = time.perf_counter()
    evaluate(few)
    warmed_up = time.perf_counter()
    retriever = load_retriever(settings)
    loaded = time.perf_counter()
    vectors = retriever.encoder.encode_texts([row.query for row in rows])
    scores = vectors @ retriever.index.vectors().T
    multiplied = time.perf_counter()
    evaluate(settings)
    done = time.perf_counter()
    return Times(
        warm_up=warmed_up - began,
        loading=loaded - warmed_up,
        floor=multiplied - loaded,
        run=done - multiplied,
        queries=scores.shape[0],
        pictures=scores.shape[1],
    )


def report(times: Times) -> str:
    without = times.run - times.loading
    floor_with = times.loading + times.floor
    return "\n".join(
        [
            f"warm-up {times.warm_up:.1f} s, loading {times.loading:.1f} s",
            f"{times.queries:,} queries, {times.pictures:,} pictures",
            f"without loading: run {without:.2f} s, encoding and one product {times.floor:.2f} s: "
            f"{without / times.floor:.2f} times as long",
            f"with loading: run {times.run:.2f} s, encoding and one product {floor_with:.2f} s: "
            f"{times.run / floor_with:.2f} times as long",
        ]
    )


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=5000, help="how many queries")
    arguments = parser.parse_args()
    rows, _ = asked_rows(EvalSettings())
    with tempfile.TemporaryDirectory() as folder:
        print(report(measured(list(rows[: arguments.queries]), Path(folder))))


if __name__ == "__main__":
    main()
