"""The order of GRPO's queries."""

from collections import Counter
from collections.abc import Sequence

import pytest

from models.common.errors import InputError
from training.data.rows import Row
from training.stages.grpo_queries import Plan, steps_of_queries

ROWS = [
    Row(query=str(n), targets=("x",), task="long" if n % 5 else "multilingual") for n in range(100)
]
OTHERS = [Row(query=f"other {n}", targets=("x",)) for n in range(5)]


def test_a_step_asks_one_task() -> None:
    rows = steps_of_queries({"demo": ROWS}, Plan({"demo": 1}, size=8, steps=24, seed=0))
    steps = [rows[start : start + 8] for start in range(0, len(rows), 8)]
    assert len(steps) == 24
    assert all(len({row.task for row in step}) == 1 for step in steps)
    # A passage has ten batches of one task and two of the other: what is left over is left out.
    assert Counter(row.query for row in rows[: 12 * 8]).most_common(1)[0][1] == 1
    assert Counter(step[0].task for step in steps) == {"long": 20, "multilingual": 4}


def test_more_steps_begin_with_the_same_queries() -> None:
    some, more = (
        steps_of_queries({"a": ROWS, "b": OTHERS}, Plan({"a": 1, "b": 1}, 8, steps, seed=3))
        for steps in (10, 25)
    )
    assert more[: len(some)] == some
    assert some != steps_of_queries({"a": ROWS, "b": OTHERS}, Plan({"a": 1, "b": 1}, 8, 10, seed=4))


def test_each_data_set_has_its_share_of_the_steps() -> None:
    rows = steps_of_queries({"a": ROWS, "b": OTHERS}, Plan({"a": 3, "b": 1}, 4, steps=400, seed=0))
    others = sum(row.query.startswith("other") for row in rows) / len(rows)
    assert 0.2 < others < 0.3


def test_a_data_set_smaller_than_a_step_is_asked_again() -> None:
    rows = steps_of_queries(
        {"b": OTHERS, "none": []}, Plan({"b": 1, "none": 9}, 8, steps=2, seed=0)
    )
    assert len(rows) == 16
    assert {row.query for row in rows} <= {row.query for row in OTHERS}


def test_rows_that_are_not_kept_are_never_asked() -> None:
    given: list[str] = []

    def keep(rows: Sequence[Row]) -> list[Row]:
        given.extend(row.query for row in rows)
        return [row for row in rows if int(row.query) % 3 == 0]

    rows = steps_of_queries({"demo": ROWS}, Plan({"demo": 1}, size=8, steps=3, seed=0), keep)
    assert len(rows) == 24
    assert all(int(row.query) % 3 == 0 for row in rows)
    for start in range(0, 24, 8):
        assert len({row.task for row in rows[start : start + 8]}) == 1
    assert len(given) < 24 * 6  # no more than the steps need


def test_too_few_rows_that_are_kept_are_one_sentence() -> None:
    with pytest.raises(InputError, match="difficulty_draws leaves fewer than one query in 50"):
        steps_of_queries({"demo": ROWS}, Plan({"demo": 1}, 8, 1, seed=0), lambda _: [])
