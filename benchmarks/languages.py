"""Recall@10 of picture names in 13 languages, searched as they are and rewritten.

    python -m benchmarks.languages --queries 150 [--readme]

Real parts: the demo's index, encoder, language model in vLLM, prompt and parser; every name is
rewritten (``rewrite: always``). The pictures asked for are drawn once, with a fixed seed, for all
languages. ``--readme`` writes the table into README.md.
"""

import argparse
import asyncio
import random
import re
import time
from pathlib import Path

import numpy as np

from models.demo import paths
from models.demo.gallery import LANGUAGES
from models.encoder import ClipEncoder
from models.index import ImageIndex
from models.progress import say
from models.rewriter import Rewriter, Sampling
from models.rewriter_vllm import VLLMOptions, VLLMRewriter
from models.tasks import MULTILINGUAL, Task, parse_rewrite

SEED = 0
K = 10
README = Path(__file__).parent.parent / "README.md"


async def rewrite_all(rewriter: Rewriter, task: Task, queries: list[str]) -> list[str]:
    """One greedy rewrite of each query; the query itself where the model wrote nothing usable."""
    answers = await asyncio.gather(*(rewriter.complete(task, q, Sampling()) for q in queries))
    return [parse_rewrite(a[0]) or q for a, q in zip(answers, queries, strict=True)]


def recall_at_k(encoder: ClipEncoder, index: ImageIndex, texts: list[str], ids: list[str]) -> float:
    """Share of texts whose picture is among the first ten; nothing is rounded in its favour."""
    found = index.search(encoder.encode_texts(texts), K)
    wanted = [index.position(picture_id) for picture_id in ids]
    return float(
        np.mean([any(h.position == w for h in hits) for hits, w in zip(found, wanted, strict=True)])
    )


def sample(index: ImageIndex, count: int) -> list[int]:
    """Positions of the pictures to ask for."""
    return random.Random(SEED).sample(range(len(index)), count)


async def measure(
    rewriter: Rewriter, encoder: ClipEncoder, index: ImageIndex, count: int, task: Task,
    languages: list[str],
) -> dict[str, tuple[float, float]]:  # fmt: skip
    """Recall@10 of each language, direct and rewritten."""
    chosen = sample(index, count)
    ids = [index.ids[position] for position in chosen]
    results = {}
    for language in languages:
        names = [index.metadata[position]["names"][language] for position in chosen]
        started = time.monotonic()
        rewrites = await rewrite_all(rewriter, task, names)
        rate = count / (time.monotonic() - started)
        direct = recall_at_k(encoder, index, names, ids)
        rewritten = recall_at_k(encoder, index, rewrites, ids)
        results[language] = (direct, rewritten)
        say(f"{LANGUAGES[language]:11} {direct:.2f} -> {rewritten:.2f}  ({rate:.0f} rewrites/s)")
    return results


def table(results: dict[str, tuple[float, float]], count: int) -> str:
    """Markdown, with English and the mean of the others apart."""
    lines = ["| language | queries | R@10 direct | R@10 rewritten |", "|---|---:|---:|---:|"]
    for language, (direct, rewritten) in results.items():
        if language != "en":
            lines.append(f"| {LANGUAGES[language]} | {count} | {direct:.2f} | {rewritten:.2f} |")
    others = [pair for language, pair in results.items() if language != "en"]
    direct, rewritten = np.mean(others, axis=0)
    lines.append(f"| **mean of {len(others)}** | | **{direct:.2f}** | **{rewritten:.2f}** |")
    if "en" in results:
        direct, rewritten = results["en"]
        lines.append(f"| English, `always` | {count} | {direct:.2f} | {rewritten:.2f} |")
    return "\n".join(lines)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=150)
    parser.add_argument("--llm", default=paths.DEFAULT_LLM)
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    arguments = parser.parse_args()
    encoder = ClipEncoder(paths.ENCODER)
    index = ImageIndex.open(paths.index_dir(), encoder.fingerprint)
    rewriter = VLLMRewriter(VLLMOptions(str(paths.checkpoint_dir(arguments.llm))))
    languages = [*(language for language in LANGUAGES if language != "en"), "en"]
    results = await measure(rewriter, encoder, index, arguments.queries, MULTILINGUAL, languages)
    await rewriter.close()
    text = table(results, arguments.queries)
    print(text)
    if arguments.readme:
        marked = re.compile(r"(<!-- languages -->\n).*?(\n<!-- /languages -->)", re.DOTALL)
        README.write_text(marked.sub(lambda m: m[1] + text + m[2], README.read_text()))


if __name__ == "__main__":
    asyncio.run(main())
