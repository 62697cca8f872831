"""The data card: how many rows there are, what was left out and why, and samples of both."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from training.data.captions.checks import LeftOut
from training.data.captions.finding import Found
from training.data.captions.settings import CaptionSettings
from training.data.rows import Row, Split

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_SAMPLES = 3  # rows of each kind, and queries of each reason
_SETTINGS = ("see", "names", "descriptions", "changes", "temperature", "rewrites", "worst_rank",
             "limit", "field", "seed")  # fmt: skip


class Made(NamedTuple):
    """What the command has made, and of what."""

    rows: Sequence[tuple[Row, Found]]
    left_out: Sequence[LeftOut]
    captions: int  # that were written about
    without: int  # pictures without a caption
    seen: int  # captions that the model wrote, looking at the picture
    lost: int  # captions that do not find their picture

    def summary(self) -> str:
        """In one line."""
        splits = Counter(row.split for row, _ in self.rows)
        told = ", ".join(f"{splits[name]:,} {name}" for name in SPLITS)
        return (
            f"{len(self.rows):,} rows ({told}) about {self.captions:,} captions; "
            f"{len(self.left_out):,} queries left out"
        )


def card(made: Made, settings: CaptionSettings, index: str) -> str:
    """The card in Markdown."""
    return "\n".join(
        [
            f"# {settings.out.name}",
            "",
            f"Training rows that `grape data from-captions` wrote: {made.summary()}.",
            "",
            *_origin(made, settings, index),
            "",
            "## Rows",
            "",
            *_counts(made),
            "",
            "## Left out",
            "",
            *_reasons(made, settings),
            "",
            "## Samples",
            "",
            *_samples(made, settings.seed),
            "",
        ]
    )


def _origin(made: Made, settings: CaptionSettings, index: str) -> Iterator[str]:
    where = f" at {settings.llm_endpoint}" if settings.llm_endpoint else ""
    given = ", ".join(
        f"{name} {value}"
        for name in _SETTINGS
        if (value := getattr(settings, name)) is not None and value is not False
    )
    yield f"- **Index**: {index}"
    yield f"- **Written and rewritten by**: {settings.llm}{where}"
    yield f"- **Languages**: {', '.join(settings.languages)}"
    yield f"- **Settings**: {given}"
    yield (
        f"- **Captions**: {made.captions:,} written about; {made.seen:,} are the model's own, "
        f"{made.without:,} pictures have none, and {made.lost:,} captions do not find their picture"
    )
    yield (
        "- **Nobody has read them.** A row is a model's words, checked by the same model and the "
        "frozen retriever. Read the samples below before you train."
    )


def _counts(made: Made) -> Iterator[str]:
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row, _ in made.rows:
        counts[row.task, row.language][row.split] += 1
    yield "| task | language | train | validation | test |"
    yield "|---|---|---:|---:|---:|"
    for (task, language), own in sorted(counts.items()):
        cells = " | ".join(str(own[name]) for name in SPLITS)
        yield f"| {task} | {language} | {cells} |"


def _reasons(made: Made, settings: CaptionSettings) -> Iterator[str]:
    rng = random.Random(settings.seed)
    by_reason: dict[str, list[LeftOut]] = defaultdict(list)
    for out in made.left_out:
        by_reason[out.reason].append(out)
    yield "| why | queries | such as |"
    yield "|---|---:|---|"
    for reason, some in sorted(by_reason.items(), key=lambda pair: -len(pair[1])):
        shown = [
            f"{_cell(out.written.query)} ({out.written.draft.language}) for "
            f"{_cell(out.written.draft.target.caption)}"
            for out in rng.sample(some, min(_SAMPLES, len(some)))
            if out.written.query
        ]
        yield f"| {reason} | {len(some)} | {'; '.join(shown)} |"


def _samples(made: Made, seed: int) -> Iterator[str]:
    rng = random.Random(seed)
    kinds: dict[tuple[str, str], list[tuple[Row, Found]]] = defaultdict(list)
    for row, found in made.rows:
        kinds[row.task, row.language].append((row, found))
    yield "| task | language | query | caption | best rewrite | rank |"
    yield "|---|---|---|---|---|---:|"
    for (task, language), some in sorted(kinds.items()):
        for row, found in rng.sample(some, min(_SAMPLES, len(some))):
            cells = (_cell(row.asked), _cell(row.english or ""), _cell(found.rewrite))
            yield f"| {task} | {language} | {' | '.join(cells)} | {found.rank:.0f} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
