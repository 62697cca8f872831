"""What rewriting gains on the demo: names in 13 languages, English names, English descriptions.

    python -m benchmarks.languages [--readme]

Real parts throughout. Asked for are pictures of the test split, which were no target in training:
searched as typed, rewritten by the model as it is with examples in the prompt, and by the shipped
adapter. ``--readme`` writes the table into README.md. Rewrites are kept in the cache folder; an
interrupted run goes on.
"""

import argparse
import re
from pathlib import Path

import numpy as np

from models.demo import paths
from models.demo.gallery import LANGUAGES
from models.gate import decide
from training.data import Row, choose, load_rows
from training.demo_data import english_names, split_of
from training.evaluation.slices import AVERAGE, Slice, paired_interval, ranks_of, slice_of
from training.language_model import LanguageModel
from training.pipeline import compare, greedy_rewrites
from training.scoring import Scorer, load_retriever
from training.settings import TrainSettings

README = Path(__file__).parent.parent / "README.md"
SETTINGS = TrainSettings(out=paths.ADAPTER, work=paths.cache_dir() / "languages")


def table(scorer: Scorer) -> str:
    """Markdown: Recall@10 with 95 % bootstrap intervals over queries."""
    base = LanguageModel.named(SETTINGS.llm)
    compared = compare(SETTINGS, base, load_rows("demo"), scorer, paths.merged_dir())
    lines = [
        "| | queries | as typed | frozen LLM, examples | shipped adapter |",
        "|---|---:|---:|---:|---:|",
    ]
    for direct, frozen, tuned in zip(compared.direct, compared.frozen, compared.tuned, strict=True):
        name = LANGUAGES.get(direct.name, direct.name)
        if direct.name == "en":
            continue  # short descriptions, too few to tell
        if direct.name == AVERAGE:
            name = f"**{name}**"
        if direct.name == "long":
            name = "English descriptions"
        lines.append(f"| {name} | {direct.queries} | {cells(direct, frozen, tuned)} |")
    return "\n".join([*lines, *english(scorer, base), "", *compared.notes])


def cells(*slices: Slice) -> str:
    return " | ".join(f"{s.r_at_10:.2f} [{s.low:.2f}, {s.high:.2f}]" for s in slices)


def english(scorer: Scorer, base: LanguageModel) -> list[str]:
    """English names of the test split: everything rewritten, and as the gate decides."""
    rows = [
        Row(query=name, targets=(picture,), language="en", split="test")
        for picture, name in english_names().items()
        if split_of(picture) == "test"
    ]
    queries = [row.query for row in rows]
    frozen = greedy_rewrites(SETTINGS, base, rows)
    tuned = greedy_rewrites(SETTINGS, base, rows, paths.merged_dir())
    encoder = scorer.retriever.encoder
    kept = [not decide(query, encoder.text_length(query)).rewrite for query in queries]
    ranks = [ranks_of(scorer, texts, rows) for texts in (queries, frozen, tuned)]
    always = [slice_of("en", r) for r in ranks]
    auto = [slice_of("en", np.where(kept, ranks[0], r)) for r in ranks]
    low, high = paired_interval(ranks[0], np.where(kept, ranks[0], ranks[2]))
    return [
        f"| English names, `always` | {len(rows)} | {cells(*always)} |",
        f"| English names, `auto` | {len(rows)} | {cells(*auto)} |",
        f"| ... of which `auto` changes R@10 by | | | | {low:+.3f} to {high:+.3f} |",
    ]


def sample(language: str, count: int) -> list[Row]:
    """Names of one language in the test split; what a quick check asks for."""
    rows = [row for row in load_rows("demo") if row.language == language]
    return choose(rows, "test", {"multilingual": count}, SETTINGS.seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    arguments = parser.parse_args()
    text = table(Scorer(load_retriever(SETTINGS)))
    print(text)
    if arguments.readme:
        marked = re.compile(r"(<!-- languages -->\n).*?(\n<!-- /languages -->)", re.DOTALL)
        README.write_text(marked.sub(lambda m: m[1] + text + m[2], README.read_text()))


if __name__ == "__main__":
    main()
