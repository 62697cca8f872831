"""How rewrites are best found and mixed: R@10 by their number, on the demo's validation split.

    python -m benchmarks.mixture_ways [--write]

The second table says whether the best hits of each rewrite are enough, as in a large index. With
``--write`` both go into docs/mixture.md. An interrupted run continues where it stopped.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.pages import MIXTURE, write_between
from models.common import paths
from models.retriever.types import Scored, best_places
from models.search.mixture import mix
from training.evaluation.gallery import Gallery
from training.evaluation.queries import OTHER_LANGUAGES
from training.evaluation.results import Results
from training.evaluation.run import Evaluation, evaluate, evaluation_of
from training.evaluation.settings import EvalSettings

COUNTS = (4, 8, 16)
WAYS = {
    "mixture": "mixture of the most probable",
    "drawn-mixture": "mixture of drawn ones",
    "n-best-rrf": "drawn ones by reciprocal rank",
}
SLICES = {OTHER_LANGUAGES: "names", "task long": "descriptions"}
DEPTHS = (100, 300, 1000)  # hits of each rewrite; the gallery has 1,625 pictures


def with_systems(asked: EvalSettings, systems: Sequence[str], n: int) -> EvalSettings:
    """The same queries, for other systems that find ``n`` rewrites."""
    return asked.model_copy(update={"systems": list(systems), "n": n})


def ways(asked: EvalSettings) -> Iterator[str]:
    """The lines of the table: R@10 (R@1)."""
    one = evaluate(with_systems(asked, ["tuned"], 1))
    found = {n: evaluate(with_systems(asked, list(WAYS), n)) for n in COUNTS}
    heads = [f"{words}, n = {n}" for words in SLICES.values() for n in COUNTS]
    yield f"| | {' | '.join(heads)} |"
    yield "|---|" + "---:|" * len(heads)
    greedy = [recalls(one, "tuned", name) for name in SLICES for _ in COUNTS]
    yield f"| one greedy rewrite | {' | '.join(greedy)} |"
    for system, words in WAYS.items():
        cells = [recalls(found[n], system, name) for name in SLICES for n in COUNTS]
        yield f"| {words} | {' | '.join(cells)} |"


def recalls(results: Results, name: str, where: str) -> str:
    """R@10 (R@1) of a system."""
    (system,) = (system for system in results.systems if system.name == name)
    metrics = system.metrics[where]
    return f"{metrics['R@10'].value:.3f} ({metrics['R@1'].value:.3f})"


def depths(evaluation: Evaluation, texts: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of the table: R@10 by the hits that each rewrite reaches, and what changes in p.

    Args:
        texts: the rewrites of each row, which have equal weights here.
    """
    retriever = evaluation.retriever
    gallery = Gallery(retriever.encoder, retriever.index, "cpu")
    tau = evaluation.fitted.mixture.temperature(retriever.encoder.temperature)
    pictures = retriever.index.vectors()
    everywhere = np.arange(len(pictures))
    hits: dict[int, list[bool]] = {most: [] for most in (*DEPTHS, len(pictures))}
    top: dict[int, list[float]] = {most: [] for most in hits}
    gallery.encode_texts([text for own in texts for text in own])
    for row, own in zip(evaluation.rows, texts, strict=True):
        targets = set(gallery.places(row.targets))
        whole = gallery.encode_texts(own) @ pictures.T
        for most in hits:
            places = [np.sort(best_places(cosines, most)) for cosines in whole]
            scored = [
                Scored(everywhere[best], cosines[best])
                for best, cosines in zip(places, whole, strict=True)
            ]
            found = mix(scored, [1 / len(own)] * len(own), tau, 10)
            hits[most].append(not targets.isdisjoint(hit.position for hit in found))
            top[most].append(found[0].probability)
    yield "| hits of each rewrite | R@10 | mean p of the first hit |"
    yield "|---|---:|---:|"
    for most, right in hits.items():
        name = "all" if most == len(pictures) else f"{most:,}"
        yield f"| {name} | {np.mean(right):.3f} | {np.mean(top[most]):.3f} |"


def rewrites(results: Results, name: str) -> list[tuple[str, ...]]:
    """What a system searched for each query."""
    (system,) = (system for system in results.systems if system.name == name)
    return [tuple(texts) for texts in system.texts]


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=30, help="queries of each language and task")
    parser.add_argument("--work", type=Path, default=paths.cache_dir() / "mixture-ways")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/")
    arguments = parser.parse_args()
    asked = EvalSettings(split="validation", limit=arguments.limit, work=arguments.work)
    compared = "\n".join(ways(asked))
    print(compared, flush=True)
    eight = with_systems(asked, ["mixture"], 8)
    cut = "\n".join(depths(evaluation_of(eight), rewrites(evaluate(eight), "mixture")))
    print(cut)
    if arguments.write:
        write_between(MIXTURE, "ways", compared)
        write_between(MIXTURE, "depth", cut)


if __name__ == "__main__":
    main()
