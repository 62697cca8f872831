"""The demo's composed queries: a reference picture and an instruction to change it.

    python -m training.data.demo.composed composed.jsonl

Pairs are found by rule: two pictures of the gallery whose names differ in one attribute (colour,
gender, direction, hour, expression, activity, ...) become each other's reference and target. The
instructions are in ``changes.yaml``, written by hand for this project in up to five languages. The
data is split by picture: a row is in the split of its target, and rows of training or validation
whose reference is in the test split are dropped.
"""

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from training.data.demo.names_and_descriptions import demo_rows, gallery
from training.data.rows import Row, Split
from training.data.splits import split_of

CHANGES = Path(__file__).parent / "changes.yaml"
_MOST = 6  # changes of one kind for each reference
_MOST_ACTIVITIES = 3  # without this limit there would be about 1,200 of them

Phrases = Mapping[str, str]  # the instruction by language


class Change(NamedTuple):
    """A reference, the pictures it may be changed to, and the instruction; pictures by name."""

    kind: str
    reference: str
    targets: tuple[str, ...]  # any of them is right
    instruction: Phrases


def composed_rows() -> list[Row]:
    """Rows for pairs of pictures that differ in one attribute, in a fixed order.

    Raises:
        InputError: the demo is not prepared.
    """
    ids = _ids_by_name()
    return _rows(_changes(_written(), ids), ids)


def removal_rows() -> list[Row]:
    """Rows that ask for the reference without one of its things, or smiling, in every language.

    Raises:
        InputError: the demo is not prepared.
    """
    ids, written = _ids_by_name(), _written()
    changes = [*_of_removals(written["removals"], ids), *_of_smiles(written["smiles"], ids)]
    known = {row.asked.casefold() for row in composed_rows()}
    return [row for row in _rows(changes, ids) if row.asked.casefold() not in known]


def all_rows() -> list[Row]:
    """Training data of one adapter for all tasks: names, plain English names, composed queries."""
    return demo_rows(plain_english=True) + composed_rows() + removal_rows()


def _rows(changes: Iterable[Change], ids: Mapping[str, str]) -> list[Row]:
    captions = {record["id"]: str(record["name"]) for record in gallery()}
    # Two names of one drawing are not a change.
    distinct = (change for change in changes if ids[change.reference] != ids[change.targets[0]])
    rows = [row for change in _thinned(distinct) for row in _rows_of(change, ids, captions)]
    return _distinct(rows)


def _rows_of(change: Change, ids: Mapping[str, str], captions: Mapping[str, str]) -> Iterator[Row]:
    """One row for each language in training; elsewhere one language, chosen by a hash.

    The targets are those in the row's own split. Yields nothing if a row of training or validation
    would have a reference of the test split.
    """
    reference = ids[change.reference]
    right = [ids[name] for name in change.targets]
    reference_split = split_of(reference)
    split = reference_split if reference_split in map(split_of, right) else split_of(right[0])
    if split != "test" and reference_split == "test":
        return
    targets = [target for target in right if split_of(target) == split]
    languages = sorted(change.instruction)
    number = _number(f"{change.reference} {change.targets[0]}")
    chosen = languages[number % len(languages)]
    for language in languages if split == "train" else [chosen]:
        named = targets[_number(change.instruction[language]) % len(targets)]
        yield Row(
            query=change.instruction[language], targets=tuple(targets), task="composed",
            language=language, split=split, english=captions[named], reference=reference,
            caption=captions[reference],
        )  # fmt: skip


def _written() -> dict[str, Any]:
    """The content of ``changes.yaml``."""
    written: dict[str, Any] = yaml.safe_load(CHANGES.read_text(encoding="utf-8"))
    return written


def _changes(written: Mapping[str, Any], ids: Mapping[str, str]) -> Iterator[Change]:
    for kind, table in written["kinds"].items():
        for family in table["families"]:
            yield from _of_family(kind, family, table["options"], ids)
    for reference, instruction, target in written["pairs"]:
        if reference in ids and target in ids:
            yield Change("other", reference, (target,), {"en": instruction})
    yield from _of_people(written["people"], ids)


def _of_family(
    kind: str, family: str, options: Mapping[str, Phrases], ids: Mapping[str, str]
) -> Iterator[Change]:
    """``family`` is a name with ``{}`` as the placeholder of the option."""
    members = {option: " ".join(family.format(option).split()) for option in options}
    members = {option: name for option, name in members.items() if name in ids}
    for before in members.values():
        for option, after in members.items():
            if options[option]:
                yield Change(kind, before, (after,), options[option])


def _of_people(genders: Mapping[str, Phrases], ids: Mapping[str, str]) -> Iterator[Change]:
    """The same activity by another gender, and another activity by the same person."""
    doing = sorted(
        {match[1] for name in ids if (match := re.fullmatch(r"woman (.+)", name))}
        & {match[1] for name in ids if (match := re.fullmatch(r"man (.+)", name))}
    )
    for activity in doing:
        for before in genders:
            for after, phrases in genders.items():
                reference, target = f"{before} {activity}", f"{after} {activity}"
                if {reference, target} <= ids.keys() and phrases:
                    yield Change("gender", reference, (target,), phrases)
    for gender in genders:
        able = [activity for activity in doing if f"{gender} {activity}" in ids]
        for before in able:
            for after in able:
                if before != after:
                    instruction = {"en": _instead(after)}
                    target = f"{gender} {after}"
                    yield Change("activity", f"{gender} {before}", (target,), instruction)


def _of_removals(written: Mapping[str, Any], ids: Mapping[str, str]) -> Iterator[Change]:
    """The reference without a thing that is visible in it, in every language."""
    for reference, thing, right in written["pictures"]:
        targets = tuple(name for name in right if name in ids)
        if reference not in ids or not targets:
            continue
        for language, phrase in written["phrases"].items():
            word = thing if language == "en" else written["things"][thing][language]
            yield Change("removal", reference, targets, {language: phrase.format(word)})


def _of_smiles(written: Mapping[str, Any], ids: Mapping[str, str]) -> Iterator[Change]:
    for family in written["families"]:
        targets = tuple(name for name in family["to"] if name in ids)
        for reference in family["from"]:
            if reference not in ids or not targets:
                continue
            for language, phrases in written["phrases"].items():
                phrase = phrases[_number(f"{reference} {language}") % len(phrases)]
                yield Change("smile", reference, targets, {language: phrase})


def _instead(activity: str) -> str:
    """``swimming`` -> ``swimming instead``; ``judge`` -> ``as a judge``; ``in tuxedo`` stays."""
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


def _thinned(changes: Iterable[Change]) -> Iterator[Change]:
    """At most a few changes of each kind for each reference, chosen by a hash of the names."""
    groups: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        groups.setdefault((change.kind, change.reference), []).append(change)
    for group in groups.values():
        most = _MOST_ACTIVITIES if group[0].kind == "activity" else _MOST
        shuffled = sorted(group, key=lambda change: _number(f"{change.targets[0]} {change.kind}"))
        yield from shuffled[:most]


def _distinct(rows: Sequence[Row]) -> list[Row]:
    """Each query once; one that occurs in several splits stays in test, or else in validation."""
    order: tuple[Split, ...] = ("test", "validation", "train")
    kept: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: order.index(row.split)):
        kept.setdefault(row.asked.casefold(), row)
    return list(kept.values())


@cache
def _ids_by_name() -> dict[str, str]:
    """Ids by name and by alias; a picture's aliases are the names of identical drawings."""
    records = list(gallery())
    aliases = {
        alias: record["id"]
        for record in records
        for alias in record.get("aliases", [])
        if re.match(r"(man|woman) ", alias)
    }
    return aliases | {str(record["name"]): str(record["id"]) for record in records}


def _number(text: str) -> int:
    """A pseudo-random number that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m training.data.demo.composed OUT.jsonl")
    lines = "".join(row.model_dump_json() + "\n" for row in composed_rows() + removal_rows())
    Path(sys.argv[1]).write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
