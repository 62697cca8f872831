"""Training rows from marks: what people said is right for their queries.

The marks of a query and a picture are added up. A mark counts 1 for or against the picture, and one
that was only opened a quarter; of several marks in one search the last counts. What reaches a floor
is a target of the query. Queries that share a picture are in one split, directly or through others,
so that no picture of the test split is trained on.
"""

import importlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from models.client.marks import Mark, read_marks
from models.common.errors import InputError
from models.common.files import write_file
from models.retriever.address import IndexPlace
from models.retriever.open import items_at
from models.rewriter.tasks import choose_task
from models.search.composed import caption_of
from training.data.feedback_settings import FeedbackSettings
from training.data.rows import Row, same_query
from training.data.splits import split_of

_OPENED = 0.25

Weights = dict[str, dict[str, float]]  # of a query's pictures


def from_feedback(settings: FeedbackSettings) -> str:
    """Writes the rows; returns how many there are, and what was left out and why.

    Raises:
        InputError: no marks, no rows, or a hook or an index that cannot be used.
    """
    drop = _hook(settings.drop)
    if not settings.folder.is_dir():
        raise InputError(
            f"There is no folder {settings.folder}: `grape serve --feedback` makes one."
        )
    left: Counter[str] = Counter()
    marks = list(_readable(read_marks(settings.folder), left))
    if not marks:
        raise InputError(f"There are no marks in {settings.folder}.")
    weights, queries = _added_up(marks)
    english = _captions(settings.index)
    targets: dict[str, list[str]] = {}
    for key, pictures in weights.items():
        if drop(queries[key]):
            left["queries that look personal"] += 1
            continue
        if found := _targets(pictures, settings.least, english, left):
            targets[key] = found
    if not targets:
        raise InputError(
            f"No picture reaches --least {settings.least:g}: lower it, or collect more marks."
        )
    rows = _rows(targets, queries, english)
    lines = "".join(row.model_dump_json(exclude_defaults=True) + "\n" for row in rows)
    write_file(settings.out, lines.encode())
    splits = Counter(row.split for row in rows)
    told = ", ".join(f"{splits[name]} {name}" for name in ("train", "validation", "test"))
    without = "; ".join(f"{count} {what}" for what, count in sorted(left.items()))
    return f"{settings.out}: {len(rows)} rows ({told}) from {len(marks)} marks." + (
        f"\nLeft out: {without}." if without else ""
    )


def _hook(name: str) -> Callable[[str], bool]:
    if name == "none":
        return lambda query: False
    module, _, function = name.partition(":")
    try:
        found: Callable[[str], bool] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"--drop {name} is no MODULE:FUNCTION that can be imported.") from error
    return found


def _readable(marks: Iterable[Mark | None], left: Counter[str]) -> Iterable[Mark]:
    for mark in marks:
        if mark is None:
            left["lines that are no marks"] += 1
        else:
            yield mark


def _added_up(marks: Sequence[Mark]) -> tuple[Weights, dict[str, str]]:
    """What speaks for each picture, and each query as it was typed first."""
    weights: Weights = defaultdict(lambda: defaultdict(float))
    queries: dict[str, str] = {}
    for mark in _last_words(marks):
        key = same_query(mark.query)
        queries.setdefault(key, mark.query)
        worth = _OPENED if mark.kind == "opened" else 1.0
        weights[key][mark.id] += worth if mark.relevant else -worth
    return weights, queries


def _last_words(marks: Sequence[Mark]) -> Iterable[Mark]:
    """The marks, of those that one search was given for the same picture only the last."""
    last: dict[object, Mark] = {}
    for number, mark in enumerate(marks):
        search = mark.request_id or number
        last[search, same_query(mark.query), mark.id, mark.kind] = mark
    return last.values()


def _captions(index: IndexPlace | None) -> Mapping[str, str | None] | None:
    """The caption of each picture of an index, None for one without; None without an index."""
    if index is None:
        return None
    return {item.id: caption_of(item.record) for _, item in items_at(index).located()}


def _targets(
    pictures: Mapping[str, float],
    least: float,
    known: Mapping[str, str | None] | None,
    left: Counter[str],
) -> list[str]:
    """The pictures that are right, the surest first."""
    right = []
    for picture, weight in sorted(pictures.items(), key=lambda pair: -pair[1]):
        if weight < least:
            left[f"pictures below {least:g}"] += 1
        elif known is not None and picture not in known:
            left["pictures that the index does not hold"] += 1
        else:
            right.append(picture)
    return right


def _rows(
    targets: Mapping[str, Sequence[str]],
    queries: Mapping[str, str],
    english: Mapping[str, str | None] | None,
) -> list[Row]:
    rows = []
    for key, together in zip(targets, _first_pictures(list(targets.values())), strict=True):
        own = targets[key]
        query = queries[key]
        rows.append(
            Row(
                query=query,
                targets=tuple(own),
                task=choose_task(query).name,
                split=split_of(together),
                english=english.get(own[0]) if english else None,
            )
        )
    return rows


def _first_pictures(targets: Sequence[Sequence[str]]) -> list[str]:
    """For each query, one picture that stands for all that it is connected with."""
    pictures = sorted({picture for own in targets for picture in own})
    place = {picture: number for number, picture in enumerate(pictures)}
    pairs = [(row, place[picture]) for row, own in enumerate(targets) for picture in own]
    queries, found = np.array(pairs).T
    size = len(targets) + len(pictures)
    links = coo_array((np.ones(len(pairs)), (queries, found + len(targets))), (size, size))
    _, component = connected_components(links, directed=False)
    first: dict[int, str] = {}
    for picture, number in zip(pictures, component[len(targets) :].tolist(), strict=True):
        first.setdefault(number, picture)
    return [first[number] for number in component[: len(targets)].tolist()]
