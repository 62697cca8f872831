"""The house: which way imports run, and that nothing heavy is loaded before it is needed."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {"models": {"service", "training"}, "service": {"training"}, "training": {"service"}}
HEAVY = {"torch", "vllm", "open_clip", "faiss", "transformers", "fastapi", "numpy", "pydantic"}


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    names |= {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_run_one_way(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        assert not imported(path) & FORBIDDEN[package], path


def test_help_answers_in_under_a_second_and_imports_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-c"]
    probe = "from grape import run; run(['--help'])"
    started = time.perf_counter()
    done = subprocess.run([*command, probe], capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 1
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert not loaded & HEAVY
    assert done.stdout.startswith("usage: grape")


def test_the_service_listens_before_it_loads_a_model() -> None:
    probe = "import sys, service.api.app; print(sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    for heavy in ("torch", "vllm", "open_clip", "faiss", "transformers"):
        assert f"'{heavy}'" not in done.stdout


def test_files_stay_readable() -> None:
    for package in (*FORBIDDEN, "tests", "benchmarks", "tools"):
        for path in (ROOT / package).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 320, path


def test_lock_files_name_no_address() -> None:
    for lock in (ROOT / "requirements").iterdir():
        assert "://" not in lock.read_text()
