"""`grape demo prepare`: makes everything that the embedded default needs, once."""

from filelock import FileLock

from models.common.files import new_folder, remove_leftovers
from models.common.paths import (
    ADAPTER,
    DEFAULT_LLM,
    ENCODER,
    demo_dir,
    index_dir,
    merged_dir,
    pictures_dir,
)
from models.common.progress import say, track
from models.demo.gallery import ATTRIBUTION, distinct_pictures
from models.demo.llm import prepare_llm
from models.retriever.manifest import MANIFEST
from models.retriever.types import Metadata
from models.rewriter.adapter import open_adapter
from models.rewriter.base_model import checkpoint_revision, find_checkpoint
from models.rewriter.merge import merge_adapter

_RENDER_PIXELS = 128  # for comparing drawings; the encoder sees 64


def prepare(llm: str) -> None:
    """Prepares the language model and the gallery. Skips the parts that are finished.

    Raises:
        GrapeError: a download failed.
    """
    demo_dir().mkdir(parents=True, exist_ok=True)
    with FileLock(demo_dir() / "prepare.lock"):
        prepare_llm(llm)
        prepare_gallery()
        if llm == DEFAULT_LLM:
            _merge_adapter()
    say(f"The demo is ready in {demo_dir()}.")


def prepare_gallery() -> None:
    """Draws and indexes the gallery, unless that has been done. Needs no network."""
    if (index_dir() / MANIFEST).is_file():
        return
    from models.retriever.clip_encoder import ClipEncoder
    from models.retriever.image_index import ImageIndex
    from models.retriever.manifest import IndexOptions

    say("Drawing the gallery")
    pictures, drawings = distinct_pictures(_RENDER_PIXELS)
    _write_drawings({picture.id: picture.svg() for picture in pictures})
    encoder = ClipEncoder(ENCODER)
    vectors = encoder.encode_images(track(drawings, "Encoding pictures"))
    metadata: list[Metadata] = [
        {
            "file": f"{picture.id}.svg",
            "name": picture.names["en"],
            "emoji": picture.emoji,
            "names": picture.names,
            "aliases": list(picture.aliases),
        }
        for picture in pictures
    ]
    ids = [picture.id for picture in pictures]
    options = IndexOptions(pictures=pictures_dir(), credit=ATTRIBUTION)
    index = ImageIndex.build(vectors, ids, metadata, encoder.fingerprint, options)
    index.learn_known_scores(encoder.encode_texts([picture.names["en"] for picture in pictures]))
    index.save(index_dir())


def _merge_adapter() -> None:
    """Merges now and not at the first start. A GPU attaches the adapter and needs no merge."""
    import torch

    if torch.cuda.is_available():
        return
    base = find_checkpoint(DEFAULT_LLM)
    adapter = open_adapter(ADAPTER, checkpoint_revision(base))
    merge_adapter(base, adapter, merged_dir())


def _write_drawings(drawings: dict[str, bytes]) -> None:
    remove_leftovers(pictures_dir())
    with new_folder(pictures_dir(), replace=True) as folder:
        for picture_id, svg in drawings.items():
            (folder / f"{picture_id}.svg").write_bytes(svg)
        (folder / "LICENSE").write_text(ATTRIBUTION + "\n")
