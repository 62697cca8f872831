"""The order of GRPO's queries: each step asks one task, and data sets have shares of steps."""

import random
from collections.abc import Iterator, Mapping, Sequence

from training.data.rows import Row


def steps_of_queries(
    rows: Mapping[str, Sequence[Row]], shares: Mapping[str, float], size: int, steps: int, seed: int
) -> list[Row]:
    """Training rows in random batches of ``size``, one for each step.

    A step is padded to its longest prompt: one description among names made it four times as long.
    More steps begin with the same batches as fewer, so that a finished run can be continued.

    Args:
        rows: training rows of each data set; data sets without rows are left out.
        shares: relative number of the steps, by data set.
    """
    rng = random.Random(seed)
    batches = {name: _batches(rows[name], size, rng.randrange(2**32)) for name in shares
               if rows[name]}  # fmt: skip
    names = list(batches)
    order = rng.choices(names, [shares[name] for name in names], k=steps)
    return [row for name in order for row in next(batches[name])]


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
