"""The program starts without heavy imports; the lock names no address.

The order of imports is checked by `make lint`: import-linter's contracts are in pyproject.toml.
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "vllm", "open_clip", "faiss", "transformers", "fastapi", "numpy", "pydantic"}


@pytest.mark.parametrize(("flag", "begins"), [("--help", "usage: grape"), ("--version", "grape ")])
def test_the_program_answers_in_under_a_second_and_imports_nothing_heavy(
    flag: str, begins: str
) -> None:
    command = [sys.executable, "-X", "importtime", "-c", f"from grape import run; run(['{flag}'])"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 1
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert not loaded & HEAVY
    assert done.stdout.startswith(begins)


def test_the_service_listens_before_it_loads_a_model() -> None:
    probe = "import sys, service.api.app; print(sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    for heavy in ("torch", "vllm", "open_clip", "faiss", "transformers"):
        assert f"'{heavy}'" not in done.stdout


def test_lock_files_name_no_address() -> None:
    for lock in (ROOT / "requirements").iterdir():
        assert "://" not in lock.read_text()
