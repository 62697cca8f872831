"""`grape eval` without a language model, against encoding the queries and one matrix product.

    python -m benchmarks.evaluate [--queries 5000]

Both load the encoder and the index first, which is told apart. A run of a few queries goes before:
what it imports, and the word lists, are loaded once however many queries there are.
"""

import argparse
import tempfile
import time
from pathlib import Path

from training.evaluation.queries import asked_rows
from training.evaluation.run import evaluate
from training.evaluation.settings import EvalSettings
from training.rewards.scorer import load_retriever


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=5000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        rows, _ = asked_rows(EvalSettings())
        data = Path(work) / "rows.jsonl"
        lines = [row.model_dump_json(exclude_none=True) for row in rows[: arguments.queries]]
        data.write_text("\n".join(lines), encoding="utf-8")
        settings = EvalSettings(data=str(data), systems=["direct"], work=Path(work) / "kept")

        few = settings.model_copy(update={"limit": 2, "work": Path(work) / "few"})
        warming = time.perf_counter()
        evaluate(few)
        began = time.perf_counter()
        retriever = load_retriever(settings)
        loaded = time.perf_counter()
        queries = [row.query for row in rows[: arguments.queries]]
        scores = retriever.encoder.encode_texts(queries) @ retriever.index.vectors().T
        floor = time.perf_counter()
        evaluate(settings)
        done = time.perf_counter()
    loading, work_time = loaded - began, floor - loaded
    run = done - floor
    print(f"a few queries before {began - warming:.1f} s")
    print(f"{scores.shape[0]:,} queries, {scores.shape[1]:,} pictures; loading {loading:.1f} s")
    print(f"encoding and one product {work_time:.2f} s; the run without loading "
          f"{run - loading:.2f} s: {(run - loading) / work_time:.2f} times")  # fmt: skip
    print(f"with loading: {run:.2f} s against {loading + work_time:.2f} s: "
          f"{run / (loading + work_time):.2f} times")  # fmt: skip


if __name__ == "__main__":
    main()
