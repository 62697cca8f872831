"""Rounds of sampling that go on only for queries whose rewrites teach nothing yet.

Reinforce-Ada (arXiv 2510.04996; its abstract and its authors' README were read, and no code taken):
draw for all queries of a step, drop those with good and bad answers, draw again for the others;
learn from groups of a fixed size that hold both kinds, against a baseline from all that was drawn.
A rewrite is good if it ranks a right picture within ``good_rank``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from training.stages.decoding import Answer

Asked = Sequence[dict[str, Any]]  # what the trainer knows of each rewrite: its query and targets
Groups = Sequence[Sequence[Answer]]


class Judged(NamedTuple):
    """What is known of rewrites before they are learnt from."""

    good: Sequence[bool]
    values: Sequence[float]  # what the objective takes the mean of


Judge = Callable[[Sequence[str], Asked], Judged]  # of completions


class Adaptive(NamedTuple):
    """How often to draw, and who says what is good."""

    rounds: int
    judge: Judge


@dataclass
class Drawn:
    """All rewrites that were drawn for a query."""

    answers: list[Answer] = field(default_factory=list)
    good: list[bool] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """Whether there are good and bad ones."""
        return any(self.good) and not all(self.good)

    @property
    def mean(self) -> float:
        """Of the values."""
        return sum(self.values) / len(self.values)

    def balanced(self, count: int) -> list[Answer]:
        """``count`` of them: half good and half bad, or as near to that as was drawn."""
        return [self.answers[place] for place in balanced(self.good, count)]


def balanced(good: Sequence[bool], count: int) -> list[int]:
    """``count`` places, half of them good, the earliest first; with too few of a kind, all of it.

    Args:
        good: at least ``count`` flags, in the order in which the rewrites were drawn.
    """
    kinds = [[place for place, flag in enumerate(good) if flag == kind] for kind in (True, False)]
    scarce, plenty = sorted(kinds, key=len)
    taken = scarce[: count // 2]
    return sorted([*taken, *plenty[: count - len(taken)]])


def draw_in_rounds(
    queries: int,
    rounds: int,
    draw: Callable[[Sequence[int]], Groups],
    judge: Callable[[Sequence[int], Groups], Judged],
) -> list[Drawn]:
    """Draws for each query until it is settled, at most so many rounds.

    Args:
        draw: a group for each of these queries, by number.
        judge: of the rewrites of these groups, one after another.
    """
    pools = [Drawn() for _ in range(queries)]
    for _ in range(rounds):
        left = [number for number, pool in enumerate(pools) if not pool.settled]
        if not left:
            break
        groups = draw(left)
        good, values = judge(left, groups)
        start = 0
        for number, group in zip(left, groups, strict=True):
            end = start + len(group)
            pools[number].answers += group
            pools[number].good += good[start:end]
            pools[number].values += values[start:end]
            start = end
    return pools
