"""A large index beside plain FAISS: build, open, memory, time of a search, recall, filters.

    python -m benchmarks.index [--counts 10000 100000 1000000] [--write]

The vectors are made up: pictures around 20,000 centres, in 512 dimensions. Queries are pictures
with noise. Each side is measured in a process of its own, one after the other: GRAPE's index, and
plain FAISS with the same file. ``--write`` puts the table into docs/performance.md.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import psutil

from benchmarks.pages import PERFORMANCE, write_between
from models.retriever import faiss_index
from models.retriever.filters import parse_filter
from models.retriever.image_index import ImageIndex
from models.retriever.manifest import EncoderFingerprint, IndexOptions, read_manifest
from models.retriever.search_effort import use
from models.retriever.types import Vectors

DIM = 512
CENTRES = 20_000
SEARCHES = 300
BATCH = 32
K = 10
KEPT = 100  # one picture in so many passes the filter
FINGERPRINT = EncoderFingerprint(
    name="made-up", pretrained=None, weights_sha256="", preprocess_sha256="", tokenizer_sha256="",
    dim=DIM,
)  # fmt: skip
HEAD = (
    "| pictures | | build s | open s | resident MB | file MB | p50 ms | p95 ms | 32 at once, ms "
    "| recall@10 | with a 1 % filter, p50 ms |",
    "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
)


def pictures(count: int, dim: int = DIM) -> Vectors:
    """Unit vectors in clusters, float32 ``[count, dim]``."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CENTRES, dim), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    vectors = np.empty((count, dim), np.float32)
    for start in range(0, count, 100_000):
        size = min(100_000, count - start)
        noise = rng.standard_normal((size, dim), np.float32) / dim**0.5
        vectors[start : start + size] = centres[rng.integers(CENTRES, size=size)] + noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def queries(vectors: Vectors) -> Vectors:
    """Some of the pictures with noise a third as long as they are."""
    rng = np.random.default_rng(1)
    some = vectors[rng.choice(len(vectors), SEARCHES, replace=False)]
    noisy = some + rng.standard_normal(some.shape, np.float32) / (3 * DIM**0.5)
    return np.asarray(noisy / np.linalg.norm(noisy, axis=1, keepdims=True), np.float32)


def in_a_process(work: Callable[..., Any], *given: Any) -> Any:
    """The result of a function in a new process, whose memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, given)


def built(folder: Path, count: int) -> float:
    """Builds GRAPE's index, and the plain FAISS file of the same kind; seconds of the first."""
    vectors = pictures(count)
    ids = [f"{n}.jpg" for n in range(count)]
    records = [{"number": n % KEPT} for n in range(count)]
    started = time.perf_counter()
    index = ImageIndex.build(vectors, ids, records, FINGERPRINT, IndexOptions("auto"))
    index.save(folder / "index")
    seconds = time.perf_counter() - started
    np.save(folder / "queries.npy", queries(vectors))
    exact = faiss.IndexFlatIP(DIM)
    exact.add(vectors)
    np.save(folder / "right.npy", exact.search(np.load(folder / "queries.npy"), K)[1])
    return seconds


def measured(folder: Path, plain: bool) -> dict[str, float]:
    """Opens an index and searches it with one thread."""
    faiss.omp_set_num_threads(1)
    asked, right = np.load(folder / "queries.npy"), np.load(folder / "right.npy")
    manifest = read_manifest(folder / "index")
    before = psutil.Process().memory_info().rss
    started = time.perf_counter()
    if plain:
        store = faiss.read_index(str(folder / "index" / manifest.vectors.name))
        use(store, manifest.effort)
    else:
        index = ImageIndex.open(folder / "index", FINGERPRINT, mapped=True)
        store = index.faiss
    opened = time.perf_counter() - started

    def one(query: Vectors) -> Any:
        return store.search(query, K) if plain else faiss_index.search(store, query, K)

    for query in asked:
        one(query[None])
    times, found = [], []
    for query in asked:
        began = time.perf_counter()
        found.append(one(query[None])[1][0])
        times.append(1000 * (time.perf_counter() - began))
    began = time.perf_counter()
    for start in range(0, len(asked) - BATCH, BATCH):
        one(asked[start : start + BATCH])
    batches = 1000 * (time.perf_counter() - began) / (len(asked) // BATCH)
    result = {
        "open": opened, "p50": float(np.percentile(times, 50)),
        "p95": float(np.percentile(times, 95)), "batch": batches,
        "resident": (psutil.Process().memory_info().rss - before) / 1e6,
        "file": manifest.vectors.bytes / 1e6,
        "recall": float(np.mean([np.isin(a, b).mean() for a, b in zip(found, right, strict=True)])),
    }  # fmt: skip
    if not plain:
        filtered = index.select(parse_filter({"number": 7}))
        times = []
        for query in asked[:100]:
            began = time.perf_counter()
            faiss_index.search_selected(store, query[None], K, filtered)
            times.append(1000 * (time.perf_counter() - began))
        result["filtered"] = float(np.percentile(times, 50))
    return result


def line(count: int, name: str, build: float | None, found: dict[str, float]) -> str:
    seconds = "" if build is None else f"{build:.0f}"
    filtered = f"{found['filtered']:.2f}" if "filtered" in found else ""
    return (
        f"| {count:,} | {name} | {seconds} | {found['open']:.2f} | {found['resident']:.0f} "
        f"| {found['file']:.0f} | {found['p50']:.2f} | {found['p95']:.2f} | {found['batch']:.1f} "
        f"| {found['recall']:.3f} | {filtered} |"
    )


def table(counts: Sequence[int]) -> str:
    rows = [*HEAD]
    for count in counts:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            build = in_a_process(built, folder, count)
            ours = in_a_process(measured, folder, False)
            plain = in_a_process(measured, folder, True)
            manifest = json.loads((folder / "index" / "manifest.json").read_text())
            kind, effort = manifest["factory"], manifest["effort"]
            shown = f"{kind}, nprobe {effort['nprobe']}" if effort else kind
            rows.append(line(count, f"GRAPE: {shown}", build, ours))
            rows.append(line(count, "plain FAISS, read whole", None, plain))
            print("\n".join(rows[-2:]), flush=True)
    return "\n".join(rows)


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--write", action="store_true", help="write it to docs/performance.md")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(os.cpu_count())  # for building
    measured_table = table(arguments.counts)
    print(measured_table)
    if arguments.write:
        write_between(PERFORMANCE, "index", measured_table)


if __name__ == "__main__":
    main()
