"""`python -m tools.gpu_check`: says that there is no GPU, and its checks run on tiny models."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import gpu_check


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.gpu_check", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.skipif(gpu_check.has_gpu(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so() -> None:
    done = run()
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("There is no GPU that PyTorch can use here: run this where")
    assert done.stderr.count("\n") == 1


def test_what_is_missing_or_late_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "find_spec", lambda name: None)
    assert "vLLM is not installed" in gpu_check._section("adapters", tmp_path, 600, smoke=True)
    assert "the time was over" in gpu_check._section("encoder", tmp_path, 1, smoke=True)
    monkeypatch.undo()
    assert "only a GPU does this" in gpu_check._section("switching", tmp_path, 600, smoke=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("encoder", r"\| ViT-B-32 \| bf16 \| \d+ \| \d+ \| (1\.0000|0\.99\d\d) \|"),
        ("adapters", r"\| tiny \| rank 4, (merged|attached) \| [\d.]+ \| \d+% \|"),
        ("grpo", r"\| tiny \| 4 \| [\d.]+ \| [\d.]+ GiB \|"),
        ("serving", r"\| /search always \| 2 \| [\d.]+ \| \d+ ms \| \d+ ms \|"),
    ],
)
def test_the_checks_run_on_tiny_models(tmp_path: Path, name: str, row: str) -> None:
    out = tmp_path / "report.md"
    done = run("--cpu-smoke", "--only", name, "--out", str(out))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert re.search(row, out.read_text()), out.read_text()
