"""infinity-emb: a server of vectors. The client searches FAISS with them, in its own process."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import faiss
import httpx
import numpy as np
from safetensors.torch import load_file

from benchmarks.peers import hf_format
from benchmarks.peers.environments import environment
from benchmarks.peers.programs import Ask, Asked, free_port, running
from benchmarks.peers.shared import CHECKED_PICTURES, CHECKED_TEXTS, MODEL, K, Shared
from models.retriever.types import Vectors

NAME = "infinity"


@contextmanager
def served(shared: Shared) -> Iterator[Asked]:
    """`infinity_emb v2` with the encoder as transformers reads it.

    Raises:
        PeerError: its vectors differ from GRAPE's.
    """
    checkpoint = shared.folder / "transformers"
    if not checkpoint.is_dir():
        hf_format.write(checkpoint, MODEL, load_file(shared.weights))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        environment(NAME).program("infinity_emb"), "v2", "--model-id", checkpoint,
        "--served-model-name", "clip", "--device", "cpu", "--engine", "torch",
        "--no-bettertransformer", "--host", "127.0.0.1", "--port", port,
    ]  # fmt: skip
    with running(command, f"{url}/health", shared.folder / "infinity.log"):
        _require_same(shared, url)
        faiss.omp_set_num_threads(1)  # more would take the server's cores
        yield Asked(NAME, url, _searching(shared.faiss))


def _searching(index: faiss.Index) -> Ask:
    async def ask(session: aiohttp.ClientSession, text: str) -> list[str]:
        body = {"model": "clip", "input": [text], "encoding_format": "base64"}
        async with session.post("/embeddings", json=body) as response:
            response.raise_for_status()
            vectors = _vectors(await response.json())
        _, found = index.search(vectors, K)
        return [str(number) for number in found[0]]

    return ask


def _require_same(shared: Shared, url: str) -> None:
    texts = shared.queries(CHECKED_TEXTS)
    shared.require_same_texts(NAME, texts, _embedded(url, texts, "text"))
    folder = shared.pictures(CHECKED_PICTURES)
    files = sorted(folder.iterdir())
    pictures = [base64.b64encode(file.read_bytes()).decode() for file in files]
    addresses = [f"data:image/jpeg;base64,{picture}" for picture in pictures]
    shared.require_same_pictures(NAME, files, _embedded(url, addresses, "image"))


def _embedded(url: str, inputs: list[str], modality: str) -> Vectors:
    body = {"model": "clip", "input": inputs, "encoding_format": "base64", "modality": modality}
    response = httpx.post(f"{url}/embeddings", json=body, timeout=120)
    response.raise_for_status()
    return _vectors(response.json())


def _vectors(answer: dict[str, Any]) -> Vectors:
    """base64 is the fastest of the formats that it offers."""
    read = [np.frombuffer(base64.b64decode(row["embedding"]), np.float32) for row in answer["data"]]
    return np.stack(read)
