"""The benchmarks run, on little data. Whether their numbers hold, only a quiet machine can tell."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import evaluate


def run(module: str, *flags: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *flags],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_ranking() -> None:
    assert "plain matrix product" in run(
        "rank", "--images", "20000", "--dim", "64", "--texts", "32"
    )


@pytest.mark.slow
def test_inflation(tmp_path: Path) -> None:
    """One step of GRPO with the real model and the shipped adapter."""
    flags = ["--steps", "1", "--rewards", "similarity", "--validated", "12"]
    printed = run("inflation", *flags, "--work", str(tmp_path))
    before, after = (
        line for line in printed.splitlines() if line.startswith(("| before", "| `sim"))
    )
    assert before.split("|")[2:] != after.split("|")[2:]


def test_evaluating_without_a_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", "--queries", "60"])
    evaluate.main()
    assert "60 queries, 1,625 pictures" in capsys.readouterr().out
