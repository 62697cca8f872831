"""Leaves out queries that are too easy or too hard to learn from, before GRPO begins.

A group whose rewrites are all good or all bad has next to nothing to compare. How a query fares is
measured once, with draws from the adapter that GRPO starts from: most queries are asked once in a
run, so that statistics of earlier steps would know few of them.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from models.common.progress import say
from training.data.rows import Row
from training.stages.adaptive import Judge

Draw = Callable[[Sequence[Row]], Sequence[Sequence[str]]]  # rewrites of each query


class DifficultyFilter:
    """Keeps the queries of which some rewrites are good and some are not.

    Args:
        draw: rewrites from the policy before GRPO.
        judge: says which of them are good.
        file: JSON lines with the share of good rewrites of each query that was drawn for; an
            interrupted run reads them instead of drawing again.
    """

    def __init__(self, draw: Draw, judge: Judge, file: Path) -> None:
        self._draw = draw
        self._judge = judge
        self._file = file
        self._shares: dict[str, float] = {}
        if file.is_file():
            lines = file.read_text().splitlines(keepends=True)
            # A kill may have cut the last line.
            pairs = [json.loads(line) for line in lines if line.endswith("\n")]
            file.write_text("".join(line for line in lines if line.endswith("\n")))
            self._shares = dict(pairs)

    def __call__(self, rows: Sequence[Row]) -> list[Row]:
        """Those of the rows that are kept, in their order."""
        new = [row for row in dict.fromkeys(rows) if _key(row) not in self._shares]
        if new:
            self._measure(new)
        return [row for row in rows if 0 < self._shares[_key(row)] < 1]

    def tell(self) -> None:
        """Prints how many queries were left out, and why."""
        shares = list(self._shares.values())
        easy, hard = (sum(share == end for share in shares) for end in (1, 0))
        say(
            f"Difficulty: of {len(shares)} queries {easy} are left out because all of their "
            f"rewrites are good, and {hard} because none is."
        )

    def _measure(self, rows: Sequence[Row]) -> None:
        groups = self._draw(rows)
        asked = [
            {"query": row.query, "targets": list(row.targets)}
            for row, group in zip(rows, groups, strict=True)
            for _ in group
        ]
        good = iter(self._judge([text for group in groups for text in group], asked).good)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a") as lines:
            for row, group in zip(rows, groups, strict=True):
                share = sum(next(good) for _ in group) / len(group)
                self._shares[_key(row)] = share
                lines.write(json.dumps([_key(row), share]) + "\n")


def _key(row: Row) -> str:
    return json.dumps([row.task, row.asked, row.targets], ensure_ascii=False)
