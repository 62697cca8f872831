"""The order of GRPO's queries: each step asks one task, and data sets have shares of steps."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from models.common.errors import InputError
from training.data.rows import Row

_TOO_MANY = 50  # steps' worth of queries for one step; to go on would take hours
Keep = Callable[[Sequence[Row]], list[Row]]  # the rows that are asked, of those given


class Plan(NamedTuple):
    """How many steps ask how many queries of which data sets."""

    shares: Mapping[str, float]  # relative number of the steps, by data set
    size: int  # queries in a step
    steps: int
    seed: int


def steps_of_queries(
    rows: Mapping[str, Sequence[Row]], plan: Plan, keep: Keep | None = None
) -> list[Row]:
    """Training rows in random batches of ``plan.size``, one for each step.

    A step is padded to its longest prompt: one description among names made it four times as long.
    More steps begin with the same batches as fewer, so that a finished run can be continued.

    Args:
        rows: training rows of each data set; data sets without rows are left out.
        keep: leaves some of the rows out; it is given no more of them than the steps need.

    Raises:
        InputError: too few rows of a data set are kept.
    """
    rng = random.Random(plan.seed)
    batches: dict[str, Iterator[list[Row]]] = {}
    for name in plan.shares:
        if rows[name]:
            every = _batches(rows[name], plan.size, rng.randrange(2**32))
            batches[name] = _kept(every, plan.size, keep) if keep else every
    names = list(batches)
    order = rng.choices(names, [plan.shares[name] for name in names], k=plan.steps)
    return [row for name in order for row in next(batches[name])]


def _kept(batches: Iterator[list[Row]], size: int, keep: Keep) -> Iterator[list[Row]]:
    """Batches of the rows that are kept."""
    waiting: defaultdict[str, list[Row]] = defaultdict(list)  # by task
    seen = 0
    for batch in batches:
        kept = waiting[batch[0].task]
        kept += keep(batch)
        seen += len(batch)
        if len(kept) >= size:
            yield kept[:size]
            del kept[:size]
            seen = 0
        elif seen >= _TOO_MANY * size:
            raise InputError(
                f"difficulty_draws leaves fewer than one query in {_TOO_MANY}: raise good_rank if "
                "their rewrites are never good, lower it if they always are, or draw more."
            )


def _batches(rows: Sequence[Row], size: int, seed: int) -> Iterator[list[Row]]:
    """Batches without end; each passage through the rows has another order."""
    rng = random.Random(seed)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.task, []).append(row)
    while True:
        batches = []
        for group in groups.values():
            rng.shuffle(group)
            batches += [group[start : start + size] for start in range(0, len(group), size)]
        whole = [batch for batch in batches if len(batch) == size]
        rng.shuffle(whole)
        # A small data set fills a batch with rows that it asks again.
        yield from whole or [rng.choices(batch, k=size) for batch in batches]
