"""`grape index build --ray`: shards are encoded on every node of a Ray cluster."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from models.common.progress import track
from models.retriever.address import IndexPlace, MilvusAddress
from models.retriever.manifest import IndexOptions, new_manifest
from models.retriever.open import EncoderOptions
from models.retriever.ray_build import Cluster, encode_shards, forget, merged, parts
from models.search.known_scores import learn

if TYPE_CHECKING:  # heavy
    from models.retriever.folder import LeftOut
    from models.retriever.types import Encoder

__all__ = ["Sharded", "encode", "forget", "parts_folder", "put_together"]


class Sharded(NamedTuple):
    """Shards, and where their parts are until the index is written."""

    shards: list[Path]
    work: Path
    encoder: "Encoder"


class Done(NamedTuple):
    """What became of the pictures."""

    indexed: int
    skipped: list[tuple[str, str]]
    left_out: "list[LeftOut]"


def parts_folder(out: IndexPlace) -> Path:
    """Beside the index folder; for a collection in this folder."""
    name = f"{out.name}.parts"
    return Path(name) if isinstance(out, MilvusAddress) else out.with_name(name)


def encode(sharded: Sharded, address: str, options: EncoderOptions) -> None:
    """Encodes what is not encoded yet.

    Raises:
        InputError: there is no cluster, or a shard that cannot be read.
        GrapeError: a worker failed.
    """
    fingerprint = sharded.encoder.fingerprint
    counts = encode_shards(sharded.shards, sharded.work, fingerprint, Cluster(address, options))
    for _ in track(counts, "Encoding shards"):
        pass


def put_together(sharded: Sharded, out: IndexPlace, factory: str, known: list[str] | None) -> Done:
    """Makes one index of the parts.

    Raises:
        InputError: two pictures have the same id, or there are none.
    """
    if isinstance(out, MilvusAddress):
        return _into_milvus(sharded, out, factory, known)
    from models.retriever.build import index_of

    encoded, left_out = merged(sharded.shards, sharded.work)
    folder, encoder = sharded.shards[0].parent, sharded.encoder
    index, report = index_of(encoded, encoder.fingerprint, factory, folder)
    learn(index, lambda: encoder, known)
    index.save(out)
    return Done(report.indexed, report.skipped, left_out)


def _into_milvus(
    sharded: Sharded, out: MilvusAddress, factory: str, known: list[str] | None
) -> Done:
    """Part by part: no more than one of them is in memory."""
    from models.retriever.milvus_write import building

    skipped: list[tuple[str, str]] = []
    left_out: list[LeftOut] = []
    encoder = sharded.encoder
    with building(out, encoder.dim) as new:
        for part in parts(sharded.shards, sharded.work):
            new.write(zip(part.encoded.items, part.encoded.vectors, strict=True))
            skipped += part.encoded.skipped
            left_out += part.left_out
        options = IndexOptions(factory, sharded.shards[0].parent)
        index = new.finished(new_manifest(encoder.fingerprint, 0, "", options), factory)
        learn(index, lambda: encoder, known)
        new.publish(index)
    return Done(len(index), [*skipped, *new.skipped], left_out)
