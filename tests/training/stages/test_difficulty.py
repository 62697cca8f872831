"""The difficulty filter: what it keeps, and that it draws for a query once."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from training.data.rows import Row
from training.stages.adaptive import Asked, Judged
from training.stages.difficulty import DifficultyFilter

ROWS = [Row(query=name, targets=("x",)) for name in ("easy", "fair", "hard")]
REWRITES = {"easy": ["x", "x"], "fair": ["x", "y"], "hard": ["y", "y"]}


def judge(completions: Sequence[str], asked: Asked) -> Judged:
    """Good is what equals the target."""
    good = [text in row["targets"] for text, row in zip(completions, asked, strict=True)]
    return Judged(good, [float(flag) for flag in good])


def test_only_what_is_neither_always_nor_never_right_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn: list[str] = []

    def draw(rows: Sequence[Row]) -> list[list[str]]:
        drawn.extend(row.query for row in rows)
        return [REWRITES[row.query] for row in rows]

    file = tmp_path / "work" / "difficulty.jsonl"
    keep = DifficultyFilter(draw, judge, file)
    assert [row.query for row in keep([*ROWS, ROWS[1]])] == ["fair", "fair"]
    keep.tell()
    assert "of 3 queries 1 are left out because all" in capsys.readouterr().err
    # An interrupted run: the last line is cut, and only its query is drawn for again.
    file.write_text(file.read_text()[:-5])
    again = DifficultyFilter(draw, judge, file)
    assert [row.query for row in again(ROWS)] == ["fair"]
    assert drawn == ["easy", "fair", "hard", "hard"]
    assert DifficultyFilter(draw, judge, file)(ROWS) == [ROWS[1]]
    assert drawn[-1] == "hard"
    assert len(drawn) == 4
