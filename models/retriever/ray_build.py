"""Encoding shards on every node of a Ray cluster.

A worker reads a shard, decodes and encodes its pictures, and writes a part: a file beside the new
index that has the shard's vectors and items. A part is whole or not there. So a worker that is
killed costs one shard, which Ray gives to another; and a build that was killed goes on with the
shards that have no part. At the end the parts are put together in the order of the shards, which
gives the index of a build without Ray.
"""

import io
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.common.errors import GrapeError, InputError
from models.common.files import write_file
from models.retriever.build import Encoded, encode_packed
from models.retriever.folder import LeftOut
from models.retriever.item_store import Item
from models.retriever.manifest import EncoderFingerprint
from models.retriever.open import EncoderOptions, open_encoder
from models.retriever.shards import read_shards

_PLAN = "plan.json"


class Cluster(NamedTuple):
    """Where the work is done.

    Attributes:
        address: of a Ray cluster; ``auto`` for the one that this machine is part of.
        options: how each worker opens the encoder.
        cpus: of one worker.
    """

    address: str
    options: EncoderOptions
    cpus: float = 1.0


class Part(NamedTuple):
    """What became of a shard."""

    encoded: Encoded
    left_out: list[LeftOut]


def encode_shards(
    shards: Sequence[Path], work: Path, encoder: EncoderFingerprint, cluster: Cluster
) -> Iterator[int]:
    """Writes the parts that are missing, and yields how many pictures each new one has.

    Args:
        shards: where every node finds them.
        work: a folder that every node shares.

    Raises:
        InputError: no such cluster, or a shard that cannot be read.
        GrapeError: a worker failed.
    """
    _require_plan(work, shards, encoder)
    missing = [n for n in range(len(shards)) if not _file(work, n).is_file()]
    if not missing:
        return
    ray = _connected(cluster.address)
    try:
        rows = [{"number": n, "shard": str(shards[n].resolve())} for n in missing]
        # All at once: Ray adds workers slowly, and a shard is long work.
        workers = int(ray.cluster_resources().get("CPU", 1) // cluster.cpus)
        devices = {"num_gpus": 1} if cluster.options.device.startswith("cuda") else {}
        encoded = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,
            fn_constructor_args=(str(work.resolve()), cluster.options, encoder.model_dump()),
            compute=ray.data.ActorPoolStrategy(size=max(min(workers, len(rows)), 1)),
            num_cpus=cluster.cpus,
            **devices,
        )
        for row in encoded.iter_rows():
            if row["error"]:
                raise InputError(row["error"])
            yield int(row["pictures"])
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise GrapeError(
            f"Ray gave up ({reason[:200]}); run the command again: it goes on where it stopped."
        ) from error
    finally:
        ray.shutdown()


def merged(shards: Sequence[Path], work: Path) -> tuple[Encoded, list[LeftOut]]:
    """All parts in the order of their shards."""
    items: list[Item] = []
    vectors: list[Any] = []
    skipped: list[tuple[str, str]] = []
    left_out: list[LeftOut] = []
    for part in parts(shards, work):
        items += part.encoded.items
        vectors.append(part.encoded.vectors)
        skipped += part.encoded.skipped
        left_out += part.left_out
    return Encoded(items, np.concatenate(vectors), skipped), left_out


def parts(shards: Sequence[Path], work: Path) -> Iterator[Part]:
    """The parts one after the other, in the order of their shards."""
    for number in range(len(shards)):
        yield _read(_file(work, number))


def forget(work: Path) -> None:
    """Removes the parts of an index that has been written."""
    shutil.rmtree(work, ignore_errors=True)


class _Worker:
    """Encodes shards in a process of Ray's; the encoder is opened once."""

    def __init__(self, work: str, options: EncoderOptions, fingerprint: dict[str, Any]) -> None:
        self._work = Path(work)
        self._encoder = open_encoder(options)
        self._same = self._encoder.fingerprint.same_vectors(EncoderFingerprint(**fingerprint))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if not self._same:
            told = f"A node of the Ray cluster has another encoder: {self._encoder.fingerprint}."
            return {"error": told, "pictures": 0}
        left_out: list[LeftOut] = []
        try:
            encoded = encode_packed(read_shards([Path(row["shard"])], left_out), self._encoder)
        except InputError as error:
            return {"error": str(error), "pictures": 0}
        _write(_file(self._work, row["number"]), Part(encoded, left_out))
        return {"error": "", "pictures": len(encoded.items)}


def _connected(address: str) -> Any:
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(
            "--ray needs the package ray: install grape with its extra `ray`."
        ) from error
    library: Any = ray
    try:
        library.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"There is no Ray cluster at {address}: start one with `ray start --head`, and name "
            "its address."
        ) from error
    library.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return library


def _require_plan(work: Path, shards: Sequence[Path], encoder: EncoderFingerprint) -> None:
    """Parts of other shards, or of another encoder, are not taken for those of this build."""
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in shards]
    plan = json.dumps({"shards": states, "encoder": encoder.model_dump()}, sort_keys=True)
    work.mkdir(parents=True, exist_ok=True)
    kept = work / _PLAN
    if kept.is_file() and kept.read_text() != plan:
        raise InputError(
            f"{work} has parts of other shards or of another encoder: delete it to begin anew."
        )
    write_file(kept, plan.encode())


def _file(work: Path, number: int) -> Path:
    return work / f"part-{number:06}.npz"


def _write(path: Path, part: Part) -> None:
    items = [[item.id, item.record] for item in part.encoded.items]
    told = {
        "items": items,
        "skipped": part.encoded.skipped,
        "left_out": part.left_out,
    }
    content = io.BytesIO()
    text = np.frombuffer(json.dumps(told).encode(), np.uint8)
    np.savez(content, vectors=part.encoded.vectors, told=text)
    write_file(path, content.getvalue())


def _read(path: Path) -> Part:
    with np.load(path, allow_pickle=False) as content:
        vectors, told = content["vectors"], json.loads(content["told"].tobytes())
    items = [Item(name, record) for name, record in told["items"]]
    skipped = [(name, reason) for name, reason in told["skipped"]]
    return Part(Encoded(items, vectors, skipped), [LeftOut(*one) for one in told["left_out"]])
