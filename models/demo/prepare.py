"""`grape demo prepare`: everything that the embedded default needs, made once."""

import shutil
from pathlib import Path

from filelock import FileLock

from models.common.paths import (
    ADAPTER,
    DEFAULT_LLM,
    ENCODER,
    checkpoint_dir,
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
from models.rewriter.adapter import checkpoint_revision, merge_adapter, open_adapter

_RENDER_PIXELS = 128  # drawings are compared at this size; the encoder sees 64


def prepare(llm: str) -> None:
    """Prepares the language model and the gallery. Every finished part is kept; run again, it is
    ready at once."""
    demo_dir().mkdir(parents=True, exist_ok=True)
    with FileLock(demo_dir() / "prepare.lock"):
        prepare_llm(llm)
        if not (index_dir() / MANIFEST).is_file():
            _prepare_gallery()
        if llm == DEFAULT_LLM:
            _merge_adapter()
    say(f"The demo is ready in {demo_dir()}.")


def _prepare_gallery() -> None:
    from models.retriever.clip_encoder import ClipEncoder
    from models.retriever.image_index import ImageIndex

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
    index = ImageIndex.build(
        vectors,
        ids,
        metadata,
        encoder.fingerprint,
        pictures=pictures_dir(),
        credit=ATTRIBUTION,
    )
    index.learn_known_scores(encoder.encode_texts([picture.names["en"] for picture in pictures]))
    index.save(index_dir())


def _merge_adapter() -> None:
    """What a CPU serves, made now rather than at the first start; a GPU attaches the adapter."""
    import torch

    if torch.cuda.is_available():
        return
    base = checkpoint_dir(DEFAULT_LLM)
    adapter = open_adapter(ADAPTER, checkpoint_revision(base))
    merge_adapter(base, adapter, merged_dir())


def _write_drawings(drawings: dict[str, bytes]) -> None:
    folder = pictures_dir()
    beside = folder.with_name(".pictures.unfinished")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for picture_id, svg in drawings.items():
        (beside / f"{picture_id}.svg").write_bytes(svg)
    (beside / "LICENSE").write_text(ATTRIBUTION + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    Path(beside).rename(folder)
