"""rclip: a command that indexes the pictures of the folder that it is called in, then searches."""

import sqlite3
import sys
from pathlib import Path

import numpy as np
from open_clip.tokenizer import default_bpe

from benchmarks.peers.environments import environment
from benchmarks.peers.indexing import Builder
from benchmarks.peers.programs import seconds_of
from benchmarks.peers.shared import CHECKED_TEXTS, Shared
from models.retriever.types import Vectors

NAME = "rclip"
MODEL_FOLDER = "ViT-B-32-256-datacomp_s34b_b86k"  # where it looks, whatever the weights are
QUERY = "a red fox"
TEXT_VECTORS = """
import sys
import numpy
from rclip.model import Model
numpy.save(sys.argv[1], Model().compute_text_features(sys.argv[2:]))
"""


class Rclip(Builder):
    """Its index is one database. It has no command without a search, which takes milliseconds."""

    name = NAME

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.environment = environment(NAME, with_torch=False)
        self.models = shared.folder / "onnx"
        if not self.models.is_dir():
            _write_onnx(shared.weights.parent, self.models)
        self._require_same_texts()

    def seconds(self, pictures: Path, out: Path) -> float:
        self._lay_out(out)
        command = [self.environment.program("rclip"), QUERY]
        return seconds_of(command, {"RCLIP_DATADIR": str(out)}, pictures)

    def vectors(self, out: Path) -> Vectors:
        with sqlite3.connect(out / "db.sqlite3") as database:
            rows = database.execute("SELECT vector FROM images ORDER BY filepath").fetchall()
        return np.stack([np.frombuffer(vector, np.float32) for (vector,) in rows])

    def _lay_out(self, out: Path) -> None:
        """Its folder, with the files that it would fetch."""
        (out / "tokenizer").mkdir(parents=True)
        (out / "tokenizer" / "bpe_simple_vocab_16e6.txt.gz").symlink_to(default_bpe())
        (out / MODEL_FOLDER).symlink_to(self.models)

    def _require_same_texts(self) -> None:
        texts = self.shared.queries(CHECKED_TEXTS)
        out = self.shared.folder / "rclip-texts"
        self._lay_out(out)
        command = [self.environment.python, "-c", TEXT_VECTORS, out / "vectors.npy", *texts]
        seconds_of(command, {"RCLIP_DATADIR": str(out)})
        self.shared.require_same_texts(NAME, texts, np.load(out / "vectors.npy"))


def _write_onnx(encoder: Path, folder: Path) -> None:
    """With the `onnx` package, which has an environment of its own too."""
    folder.mkdir()
    packages = environment("onnx", with_torch=False).packages
    command = [sys.executable, "-m", "benchmarks.peers.onnx_format", encoder, folder]
    seconds_of(command, {"PYTHONPATH": str(packages)})
