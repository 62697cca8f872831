"""The tables of docs/results.md that compare many systems, each the output of `grape eval`.

    python -m benchmarks.tables [NAME ...] [--write]

Without names every table is measured. ``--write`` puts them into the page. An interrupted run
continues where it stopped.
"""

import argparse
from typing import NamedTuple

import yaml

from benchmarks.pages import DOCS, RESULTS, write_between
from models.common import paths
from training.data.demo.unseen import UNSEEN_LANGUAGES
from training.evaluation.queries import OTHER_LANGUAGES, SHORT_ENGLISH
from training.evaluation.report.tables import by_slice, calibrations, comparisons, overall
from training.evaluation.results import ALL, Results
from training.evaluation.run import evaluate
from training.evaluation.settings import EvalSettings

FROM_A_PICTURE = [
    "direct", "image", "image+text", "frozen", "frozen+image", "tuned", "tuned+image", "auto",
    "oracle",
]  # fmt: skip
LANGUAGES = [f"language {code}" for code in ("de", "en", "es", "fr", "zh")]
UNSEEN = ["direct", "frozen", "frozen-always", "tuned", "auto", "oracle"]
LONG = ["direct", "parts", "frozen", "tuned", "auto", "oracle"]
# The settings that docs/evaluation.md shows.
SHOWN = yaml.safe_load((DOCS / "evaluation.md").read_text().split("```yaml\n")[1].split("```")[0])


class Table(NamedTuple):
    """One command, and what of its output is shown."""

    data: str
    systems: list[str]
    slices: list[str]
    limit: int | None = None


TABLES = {
    "composed": Table("demo-composed", FROM_A_PICTURE, LANGUAGES),
    "removals": Table("demo-removals", FROM_A_PICTURE, []),
    "eval": Table(
        SHOWN["data"],
        SHOWN["systems"],
        [ALL, OTHER_LANGUAGES, SHORT_ENGLISH, "gate kept", "gate rewritten", "task long"],
        SHOWN["limit"],
    ),
    "long": Table("demo-long", LONG, []),
    "unseen": Table(
        "demo-unseen", UNSEEN, [f"language {code}" for code in UNSEEN_LANGUAGES], limit=60
    ),
}  # fmt: skip


def measured(table: Table) -> Results:
    """Runs the command in this process."""
    work = paths.cache_dir() / "eval"
    return evaluate(
        EvalSettings(data=table.data, systems=table.systems, limit=table.limit, work=work)
    )


def as_markdown(results: Results, slices: list[str]) -> str:
    """What the page shows of the output."""
    parts = [f"{results.title}: {results.about}", overall(results)]
    if slices:
        parts.append(by_slice(results, slices))
    lines = [f"- {line}" for part in comparisons(results) for line in part.splitlines()]
    return "\n\n".join([*parts, "\n".join(lines), *calibrations(results), *results.notes])


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(TABLES), help=", ".join(TABLES))
    parser.add_argument("--write", action="store_true", help="write the tables into docs/")
    arguments = parser.parse_args()
    for name in arguments.names:
        text = as_markdown(measured(TABLES[name]), TABLES[name].slices)
        print(text, "\n", flush=True)
        if arguments.write:
            write_between(RESULTS, name, text)


if __name__ == "__main__":
    main()
