"""`grape index build --ray`: shards are encoded on every node of a Ray cluster."""

from pathlib import Path
from typing import TYPE_CHECKING

from models.common.errors import InputError
from models.common.progress import say, track
from models.retriever.address import MilvusAddress
from models.retriever.manifest import IndexOptions, new_manifest
from models.retriever.ray_build import Cluster, encode_shards, forget, merged, parts
from models.retriever.shards import shards_of
from models.search.known_scores import learn
from service.index_build import IndexBuild, tell_left_out

if TYPE_CHECKING:  # heavy
    from models.retriever.folder import LeftOut
    from models.retriever.types import Encoder


def build_with_ray(command: IndexBuild) -> None:
    """Encodes what is not encoded yet, and writes the index.

    Raises:
        InputError: the source is no folder of shards, or there is no cluster.
        GrapeError: a worker failed.
    """
    shards = shards_of(command.source)
    if not shards:
        raise InputError("--ray reads Parquet files and tar shards: name a folder of them.")
    assert command.ray is not None
    work = Path(f"{command.out.name}.parts")
    if not isinstance(command.out, MilvusAddress):
        work = command.out.with_name(work.name)
    encoder = command.new_encoder()
    cluster = Cluster(command.ray, command._options())
    encoded = encode_shards(shards, work, encoder.fingerprint, cluster)
    for _ in track(encoded, "Encoding shards"):
        pass
    folder = command.source if command.source.is_dir() else command.source.parent
    if isinstance(command.out, MilvusAddress):
        count, skipped, left_out = _into_milvus(command, shards, work, encoder)
    else:
        count, skipped, left_out = _into_folder(command, shards, work, encoder)
    tell_left_out(command.out, left_out, skipped)
    forget(work)
    say(f"{folder}: {len(shards)} shards.")
    print(f"{command.out}: {count} pictures indexed, {len(skipped)} skipped.")


Done = tuple[int, list[tuple[str, str]], "list[LeftOut]"]


def _into_folder(command: IndexBuild, shards: list[Path], work: Path, encoder: "Encoder") -> Done:
    from models.retriever.build import index_of
    from models.retriever.change import save, writing

    with writing(command.out):
        encoded, left_out = merged(shards, work)
        folder = shards[0].parent
        index, report = index_of(encoded, encoder.fingerprint, command.faiss_factory, folder)
        learn(index, lambda: encoder, command.known())
        save(index, command.out)
    return report.indexed, report.skipped, left_out


def _into_milvus(command: IndexBuild, shards: list[Path], work: Path, encoder: "Encoder") -> Done:
    """Part by part: nothing but one of them is in memory."""
    from models.retriever.milvus_write import building

    assert isinstance(command.out, MilvusAddress)
    skipped: list[tuple[str, str]] = []
    left_out: list[LeftOut] = []
    with building(command.out, encoder.dim) as new:
        for part in parts(shards, work):
            new.write(zip(part.encoded.items, part.encoded.vectors, strict=True))
            skipped += part.encoded.skipped
            left_out += part.left_out
        options = IndexOptions(command.factory, shards[0].parent)
        index = new.finished(new_manifest(encoder.fingerprint, 0, "", options), command.factory)
        learn(index, lambda: encoder, command.known())
        new.publish(index)
    return len(index), [*skipped, *new.skipped], left_out
