"""The one way to open an encoder and an index, for serving, training and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from models.common import hub, paths
from models.common.errors import InputError
from models.retriever.address import IndexPlace, MilvusAddress
from models.retriever.manifest import (
    EncoderFingerprint,
    IndexManifest,
    read_manifest,
    require_same,
)
from models.retriever.text_encoder import FILES as TEXT_FILES
from models.retriever.text_encoder import PREFIX, TextEncoder
from models.retriever.types import Encoder

if TYPE_CHECKING:
    from models.retriever.image_index import ImageIndex
    from models.retriever.index import Index, Items


_DEMO_ENCODER = paths.ENCODER_DIR.parts[-3:]  # models/demo/encoder


class EncoderOptions(NamedTuple):
    """Which encoder to open, and how it computes.

    Attributes:
        name: an open_clip model, ``hf-hub:org/repo``, ``local-dir:/folder``, or
            ``sentence-transformers:`` followed by a folder or a hub name. None means the encoder
            that built the index, or the demo's own if there is no index.
        pretrained: open_clip's tag of the weights, for a plain model name. The names on the hub and
            the tag may end in ``@REVISION``.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        precision: dtype of an open_clip model's matrix products.
    """

    name: str | None = None
    pretrained: str | None = None
    device: str = "cpu"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"


def open_encoder(options: EncoderOptions) -> Encoder:
    """Loads a frozen encoder.

    Raises:
        InputError: the model, its weights or a package are not available.
    """
    name = options.name or paths.ENCODER
    if name.startswith(PREFIX):
        return TextEncoder(name, options.device)
    from models.retriever.clip_encoder import ClipEncoder

    return ClipEncoder(name, options.pretrained, options.device, options.precision)


def manifest_of(place: IndexPlace) -> IndexManifest:
    """The manifest of an index, without opening it.

    Raises:
        InputError: no index there, or one that this version cannot read.
        IndexDown: Milvus does not answer.
    """
    if isinstance(place, MilvusAddress):
        from models.retriever.milvus_index import manifest_at

        return manifest_at(place)
    return read_manifest(place)


def open_index(place: IndexPlace | None, options: EncoderOptions) -> tuple[Encoder, Index]:
    """Opens an index and loads its encoder.

    Args:
        place: index folder, or a collection in Milvus. None means the demo gallery.
        options: its name, if any, must be an encoder that gives the vectors of the index.

    Raises:
        InputError: no index there, no such encoder, or one that does not fit the index.
        IndexDown: Milvus does not answer.
    """
    place = place or paths.index_dir()
    encoder = _load_encoder(place, options)
    return encoder, reopened(place, encoder)


def reopened(place: IndexPlace, encoder: Encoder) -> Index:
    """An index as it is now.

    Raises:
        InputError: no index there, or one that another encoder built.
        IndexDown: Milvus does not answer.
    """
    if isinstance(place, MilvusAddress):
        from models.retriever.milvus_index import MilvusIndex

        return MilvusIndex.open(place, encoder.fingerprint)
    from models.retriever.image_index import ImageIndex

    return ImageIndex.open(place, encoder.fingerprint, mapped=True)


def open_whole(place: IndexPlace | None, options: EncoderOptions) -> tuple[Encoder, ImageIndex]:
    """The same in this process, with every vector; of a collection in Milvus it is a copy.

    Raises:
        InputError: as :func:`open_index`.
        IndexDown: likewise.
    """
    place = place or paths.index_dir()
    encoder = _load_encoder(place, options)
    if isinstance(place, MilvusAddress):
        from models.retriever.milvus_index import MilvusIndex

        return encoder, MilvusIndex.open(place, encoder.fingerprint).local()
    from models.retriever.image_index import ImageIndex

    return encoder, ImageIndex.open(place, encoder.fingerprint, mapped=True)


def items_at(place: IndexPlace) -> Items:
    """Ids and metadata of an index, without its encoder and its vectors.

    Raises:
        InputError: no index there.
        IndexDown: Milvus does not answer.
    """
    manifest = manifest_of(place)
    if isinstance(place, MilvusAddress):
        from models.retriever.milvus_index import MilvusIndex

        return MilvusIndex.open(place, manifest.encoder).items
    from models.retriever.item_store import ItemStore

    return ItemStore.open(place / manifest.items.name)


def encoder_of(place: IndexPlace, options: EncoderOptions) -> Encoder:
    """Loads the encoder of an index.

    Raises:
        InputError: no index there, no such encoder, or one that does not fit the index.
    """
    encoder = _load_encoder(place, options)
    require_same(place, manifest_of(place).encoder, encoder.fingerprint)
    return encoder


def _load_encoder(place: IndexPlace, options: EncoderOptions) -> Encoder:
    built_with = manifest_of(place).encoder  # fails before anything heavy is imported
    if options.name is None:
        is_gallery = place == paths.index_dir()
        name, tag = where_it_was(built_with)
        options = options._replace(name=paths.ENCODER if is_gallery else name, pretrained=tag)
    return open_encoder(options)


def look_up_encoder(name: str, pretrained: str | None) -> hub.Lookup:
    """Where an encoder is, its size, and what would be downloaded. Fetches and loads nothing.

    Raises:
        InputError: no such model, tag or repository.
        GrapeError: it must be downloaded, and the hub cannot be reached.
    """
    if name.startswith(PREFIX):
        where = name.removeprefix(PREFIX)
        if Path(where).is_dir():
            return _in_folder(Path(where))
        return hub.look_up(hub.parse(where), TEXT_FILES)
    if name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:"))
        if not (folder / "open_clip_config.json").is_file():
            raise InputError(f"{folder} has no open_clip_config.json: name the encoder's folder.")
        return _in_folder(folder)
    from models.retriever.encoder_files import repositories

    found = [hub.look_up(*asked) for asked in repositories(name, pretrained)]
    if not found:  # the weights are a file
        return hub.Lookup(Path(str(pretrained)), Path(str(pretrained)).stat().st_size, 0)
    download = sum(one.download for one in found)
    here = found[0].folder if not download else None
    return hub.Lookup(here, sum(one.bytes for one in found), download)


def _in_folder(folder: Path) -> hub.Lookup:
    files = [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".bin")]
    return hub.Lookup(folder, sum(path.stat().st_size for path in files), 0)


def where_it_was(built_with: EncoderFingerprint) -> tuple[str, str | None]:
    """Name and tag of the encoder of an index, at the revision that built it."""
    name, tag = where_it_is_now(built_with.name), built_with.pretrained
    if not (revision := built_with.revision):
        return name, tag
    return (name, f"{tag}@{revision}") if tag else (f"{name}@{revision}", None)


def where_it_is_now(encoder: str) -> str:
    """The demo's own encoder is part of every clone: that of the one that built an index may be
    gone. The fingerprint still decides whether it fits.
    """
    folder = Path(encoder.removeprefix("local-dir:"))
    is_demo = folder.parts[-len(_DEMO_ENCODER) :] == _DEMO_ENCODER
    return paths.ENCODER if is_demo and not folder.is_dir() else encoder
