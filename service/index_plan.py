"""`grape index build --plan`: what would be read, loaded and written, and whether it fits."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from models.common import paths
from models.common.findings import (
    GIB,
    SPARE_DISK,
    Finding,
    disk,
    gpu_findings,
    looked_at,
    machine,
    memory,
    versions,
)

if TYPE_CHECKING:
    from models.retriever.address import IndexPlace
    from models.retriever.open import EncoderOptions

_PROCESS_GIB = 2.0  # of the process besides the encoder, measured of the demo's server
_ITEM = 8192  # bytes of a picture at most: a vector of 1,024 numbers, and its metadata


def plan_of_build(source: Path, out: "IndexPlace", options: "EncoderOptions") -> Iterator[Finding]:
    """Looks at source, encoder, memory and disk. Loads and fetches nothing."""
    from models.retriever.open import look_up_encoder

    yield versions()
    yield machine()
    yield from gpu_findings()
    counted: list[int] = []
    yield looked_at("source", partial(_source, source, counted))
    name = options.name or paths.ENCODER
    found = []

    def encoder() -> str:
        found.append(look_up_encoder(name, options.pretrained))
        return f"{name}{f' ({options.pretrained})' if options.pretrained else ''}, {found[0]}"

    yield looked_at("encoder", encoder)
    weights = sum(one.bytes for one in found) / GIB
    written = sum(counted) * _ITEM
    parts = {"process and encoder": _PROCESS_GIB + weights, "vectors": written / GIB}
    yield looked_at("memory", lambda: memory(parts, "name a smaller --encoder."))
    if isinstance(out, Path):  # and no collection of a server
        yield disk("disk", out, max(written, SPARE_DISK), "--out")
    if download := sum(one.download for one in found):
        from huggingface_hub import constants

        yield disk("disk of the hub", Path(constants.HF_HUB_CACHE), download, "HF_HOME")


def _source(source: Path, counted: list[int]) -> str:
    """What the source is, as far as that is known without reading it."""
    from models.retriever.folder import scan
    from models.retriever.hub_pictures import is_dataset

    if is_dataset(str(source)):
        return f"the data set {source}, which is read as it arrives"
    if source.is_file():
        return f"the file {source}, {source.stat().st_size / GIB:.1f} GiB"
    found = scan(source)
    counted.append(len(found.pictures))
    return f"{len(found.pictures):,} pictures in {source}"
