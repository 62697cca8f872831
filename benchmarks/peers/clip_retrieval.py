"""clip-retrieval: `clip-back` beside `/search`, and `inference` beside `index build`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import numpy as np
import pandas as pd

from benchmarks.peers.environments import environment
from benchmarks.peers.indexing import Builder
from benchmarks.peers.programs import Asked, free_port, running, seconds_of
from benchmarks.peers.shared import CHECKED_TEXTS, MODEL, K, Shared
from models.retriever.types import Vectors

NAME = "clip-retrieval"
# In its favour: the next batch is read while one is computed, by one process for each core.
BATCH, READERS = 64, 2
# It listens on every address, and has no option for that.
ON_LOOPBACK = """
import flask
run = flask.Flask.run
flask.Flask.run = lambda app, host, **given: run(app, host="127.0.0.1", **given)
from clip_retrieval.cli import main
main()
"""


@contextmanager
def served(shared: Shared) -> Iterator[Asked]:
    """`clip-retrieval back` with the index as FAISS wrote it.

    Raises:
        PeerError: its vectors differ from GRAPE's.
    """
    _require_same_texts(shared)
    folder = shared.folder / "clip-back"
    (folder / "metadata").mkdir(parents=True, exist_ok=True)
    (folder / "image.index").unlink(missing_ok=True)
    (folder / "image.index").symlink_to(shared.faiss_file)
    pd.DataFrame({"caption": shared.captions}).to_parquet(folder / "metadata" / "0.parquet")
    indexes = shared.folder / "clip-back.json"
    indexes.write_text(json.dumps({"pictures": str(folder)}))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        environment(NAME).python, "-c", ON_LOOPBACK, "back", "--indices_paths", indexes,
        "--port", port, "--clip_model", _model(shared), "--use_jit", "False",
        "--enable_mclip_option", "False", "--provide_aesthetic_embeddings", "False",
    ]  # fmt: skip
    with running(command, f"{url}/indices-list", shared.folder / "clip-back.log"):
        yield Asked(NAME, url, _ask)


async def _ask(session: aiohttp.ClientSession, text: str) -> list[str]:
    body = {"text": text, "modality": "image", "num_images": K, "indice_name": "pictures"}
    async with session.post("/knn-service", json=body) as response:
        response.raise_for_status()
        return [str(hit["id"]) for hit in await response.json()]


class Inference(Builder):
    """`clip-retrieval inference` on a folder of pictures."""

    name = NAME

    def seconds(self, pictures: Path, out: Path) -> float:
        return seconds_of(_inference(self.shared, pictures, out, "image"))

    def vectors(self, out: Path) -> Vectors:
        return np.asarray(np.load(out / "img_emb" / "img_emb_0.npy"), np.float32)


def _require_same_texts(shared: Shared) -> None:
    """`clip-back` shows no vectors. `inference` loads the encoder with the same function."""
    texts = shared.queries(CHECKED_TEXTS)
    folder, out = shared.folder / "clip-texts", shared.folder / "clip-text-vectors"
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{number:03}.txt").write_text(text)
    seconds_of(_inference(shared, folder, out, "text"))
    shared.require_same_texts(NAME, texts, np.load(out / "text_emb" / "text_emb_0.npy"))


def _inference(shared: Shared, folder: Path, out: Path, what: str) -> list[object]:
    return [
        environment(NAME).program("clip-retrieval"), "inference", "--input_dataset", folder,
        "--output_folder", out, "--clip_model", _model(shared), "--use_jit", "False",
        "--enable_image", what == "image", "--enable_text", what == "text",
        "--batch_size", BATCH, "--num_prepro_workers", READERS,
    ]  # fmt: skip


def _model(shared: Shared) -> str:
    """open_clip's name, and behind a slash the weights: here a file."""
    return f"open_clip:{MODEL}/{shared.weights.resolve()}"
