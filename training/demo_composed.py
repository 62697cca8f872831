"""The demo's composed queries: a picture, and what is to be different about it.

    python -m training.demo_composed composed.jsonl

Made by rule: pictures of the gallery whose names differ in one thing (colour, gender, direction,
hour, expression, activity, ...) are asked for from each other, with the instructions of
``demo_changes.yaml``, written by hand for this project in up to five languages. Split by picture:
a row is in its target's split, and one of training or validation that starts from a picture of the
test split is left out.
"""

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from training.data import Row, Split
from training.demo_data import demo_rows, gallery, split_of

CHANGES = Path(__file__).parent / "demo_changes.yaml"
_MOST = 6  # rows of one kind that start from the same picture
_MOST_ACTIVITIES = 3  # there are twelve hundred otherwise

Phrases = Mapping[str, str]  # the instruction in each language that has it


class Change(NamedTuple):
    """One picture asked for from another; both by name."""

    kind: str
    reference: str
    target: str
    instruction: Phrases


def composed_rows() -> list[Row]:
    """All rows, in a fixed order.

    Raises:
        InputError: the demo is not prepared.
    """
    ids = _ids_by_name()
    captions = {record["id"]: str(record["name"]) for record in gallery()}
    rows = []
    # Two names of pictures that are drawn alike are no change.
    apart = (change for change in _changes(ids) if ids[change.reference] != ids[change.target])
    for change in _thinned(apart):
        reference, target = ids[change.reference], ids[change.target]
        split = split_of(target)
        if split != "test" and split_of(reference) == "test":
            continue
        rows.append(_row(change, reference, target, captions, split))
    return _distinct(rows)


def all_rows() -> list[Row]:
    """What one adapter of all tasks is taught: names, plain English ones too, and these."""
    return demo_rows(plain_english=True) + composed_rows()


def _row(
    change: Change, reference: str, target: str, captions: Mapping[str, str], split: Split
) -> Row:
    languages = sorted(change.instruction)
    language = languages[_number(f"{change.reference} {change.target}") % len(languages)]
    return Row(
        query=change.instruction[language], targets=(target,), task="composed",
        language=language, split=split, english=captions[target], reference=reference,
        caption=captions[reference],
    )  # fmt: skip


def _changes(ids: Mapping[str, str]) -> Iterator[Change]:
    written = yaml.safe_load(CHANGES.read_text(encoding="utf-8"))
    for kind, table in written["kinds"].items():
        for family in table["families"]:
            yield from _of_family(kind, family, table["options"], ids)
    for reference, instruction, target in written["pairs"]:
        if reference in ids and target in ids:
            yield Change("other", reference, target, {"en": instruction})
    yield from _of_people(written["people"], ids)


def _of_family(
    kind: str, family: str, options: Mapping[str, Phrases], ids: Mapping[str, str]
) -> Iterator[Change]:
    """``family`` is a name with ``{}`` where the option stands."""
    members = {option: " ".join(family.format(option).split()) for option in options}
    members = {option: name for option, name in members.items() if name in ids}
    for before in members.values():
        for option, after in members.items():
            if options[option]:
                yield Change(kind, before, after, options[option])


def _of_people(genders: Mapping[str, Phrases], ids: Mapping[str, str]) -> Iterator[Change]:
    """Another gender doing the same, and the same doing something else."""
    doing = sorted(
        {match[1] for name in ids if (match := re.fullmatch(r"woman (.+)", name))}
        & {match[1] for name in ids if (match := re.fullmatch(r"man (.+)", name))}
    )
    for activity in doing:
        for before in genders:
            for after, phrases in genders.items():
                reference, target = f"{before} {activity}", f"{after} {activity}"
                if {reference, target} <= ids.keys() and phrases:
                    yield Change("gender", reference, target, phrases)
    for gender in genders:
        able = [activity for activity in doing if f"{gender} {activity}" in ids]
        for before in able:
            for after in able:
                if before != after:
                    instruction = {"en": _instead(after)}
                    yield Change("activity", f"{gender} {before}", f"{gender} {after}", instruction)


def _instead(activity: str) -> str:
    """``swimming`` -> ``swimming instead``; ``judge`` -> ``as a judge``; ``in tuxedo`` as it is."""
    first = activity.split()[0]
    if first.endswith("ing"):
        return f"{activity} instead"
    if first in ("in", "with", "without"):
        return activity
    if first in ("red", "curly", "white", "blond", "beard"):
        return f"with {activity}"
    if first == "bald":
        return activity
    return f"as {'an' if first[0] in 'aeiou' else 'a'} {activity}"


def _thinned(changes: Iterator[Change]) -> Iterator[Change]:
    """A few of each kind from each picture; which ones is drawn by a hash of the names."""
    groups: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        groups.setdefault((change.kind, change.reference), []).append(change)
    for group in groups.values():
        most = _MOST_ACTIVITIES if group[0].kind == "activity" else _MOST
        drawn = sorted(group, key=lambda change: _number(f"{change.target} {change.kind}"))
        yield from drawn[:most]


def _distinct(rows: Sequence[Row]) -> list[Row]:
    """Each question once, and none of the test split's in another."""
    order: tuple[Split, ...] = ("test", "validation", "train")
    kept: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: order.index(row.split)):
        kept.setdefault(row.asked.casefold(), row)
    return list(kept.values())


@cache
def _ids_by_name() -> dict[str, str]:
    """Names first; pictures that are drawn alike have one id and the others' names as aliases."""
    records = list(gallery())
    aliases = {
        alias: record["id"]
        for record in records
        for alias in record.get("aliases", [])
        if re.match(r"(man|woman) ", alias)
    }
    return aliases | {str(record["name"]): str(record["id"]) for record in records}


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m training.demo_composed OUT.jsonl")
    lines = "".join(row.model_dump_json() + "\n" for row in composed_rows())
    Path(sys.argv[1]).write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
