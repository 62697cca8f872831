"""Creates .venv and installs the lock file into it: `make install`. Needs only Python 3.11 to 3.13.

A second run takes a second: .venv holds a hash of the lock, pyproject.toml and this file, and
nothing is installed while they stay the same. With --image it installs what a container needs to
serve and train: no development tools, and not GRAPE itself, which gets its own layer.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "grape-installed"
PYTHON = VENV / "bin" / "python"

# In an image this line is installed before GRAPE is, so `models` may not exist yet.
SHIM = "import importlib.util as u; u.find_spec('models') and __import__('models')"
EXTRAS_NOT_IN_IMAGES = ("text", "terminal", "mteb", "ray")
GROUPS_NOT_IN_IMAGES = ("test", "lint")


def main() -> None:
    if not (3, 11) <= sys.version_info < (3, 14):
        fail(
            f"GRAPE needs Python 3.11, 3.12 or 3.13 and this is {sys.version.split()[0]}: "
            "install one of them, or point to it: `make install PYTHON=/path/to/python3.11`."
        )
    image = "--image" in sys.argv
    engine = os.environ.get("GRAPE_ENGINE") or ("cuda" if has_nvidia_gpu() else "cpu")
    lock = ROOT / "requirements" / f"{engine}.txt"
    if not lock.is_file():
        fail(f"GRAPE_ENGINE must be cpu or cuda, not {engine!r}.")
    current = fingerprint(lock)
    if STAMP.is_file() and STAMP.read_text() == current and PYTHON.exists():
        return
    print(f"Installing the {engine} packages into .venv; the first time this downloads about "
          f"{'1 GB' if engine == 'cpu' else '5 GB'}.", flush=True)  # fmt: skip
    make_venv()
    uv = install_uv()
    install_lock(uv, for_images(lock) if image else lock, engine)
    if not image:
        run(uv, "pip", "install", "--quiet", "--python", PYTHON, "--no-deps",
            "--no-build-isolation", "--editable", ROOT)  # fmt: skip
    # Every Python process here, vLLM's subprocesses included, must be able to import torchvision.
    (site_packages() / "zz_grape_torchvision.pth").write_text(f"{SHIM}\n")
    STAMP.write_text(current)


def has_nvidia_gpu() -> bool:
    if not shutil.which("nvidia-smi"):
        return False
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return "GPU" in listing.stdout


def fingerprint(lock: Path) -> str:
    parts = [lock.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), Path(__file__).read_bytes()]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()
    return f"{lock.name} {sys.version_info[:2]} {digest}"


def make_venv() -> None:
    if PYTHON.exists() and STAMP.is_file():
        return  # uv updates our own environment to the new lock
    if VENV.exists():
        shutil.rmtree(VENV)
    try:
        run(sys.executable, "-m", "venv", VENV)
    except subprocess.CalledProcessError:
        fail("Python's venv module does not work here: on Debian and Ubuntu, install it with "
             "`apt install python3-venv`.")  # fmt: skip
    STAMP.write_text("unfinished")


def install_uv() -> Path:
    """uv installs the rest: it checks the same hashes as pip, ten times faster."""
    uv = VENV / "bin" / "uv"
    lines = (ROOT / "requirements" / "cpu.txt").read_text().split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith("uv=="))
    end = next(i for i in range(start, len(lines)) if not lines[i].endswith("\\"))
    pinned = VENV / "uv-requirement.txt"
    pinned.write_text("\n".join(lines[start : end + 1]) + "\n")
    run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--require-hashes", "-r", pinned)  # fmt: skip
    return uv


def for_images(lock: Path) -> Path:
    """The lock without the packages that only development, text corpora and mteb ask for."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras, groups = pyproject["project"]["optional-dependencies"], pyproject["dependency-groups"]
    unwanted = {
        re.split(r"[\[=<>]", requirement)[0].lower().replace("_", "-")
        for requirement in (
            *(name for extra in EXTRAS_NOT_IN_IMAGES for name in extras[extra]),
            *(name for group in GROUPS_NOT_IN_IMAGES for name in groups[group]),
        )
    }
    blocks = re.split(r"\n(?=[a-z])", lock.read_text())
    kept = [block for block in blocks if block.split("==")[0] not in unwanted]
    shorter = VENV / lock.name
    shorter.write_text("\n".join(kept) + "\n")
    return shorter


def install_lock(uv: Path, lock: Path, engine: str) -> None:
    """Installs the lock; the CPU build of torch is not on PyPI, so its source is chosen here.

    It comes from a find-links folder of pip's if one holds it, else from PyTorch's own CPU index.
    """
    command = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", PYTHON]
    command += ["--no-deps", "--require-hashes", "-r", lock]
    attempts: list[list[str]] = [[]]
    if engine == "cpu":
        folders = find_links()
        holds_torch = any(
            "://" in folder or list(Path(folder).glob("torch-*cpu*.whl")) for folder in folders
        )
        from_folders = [part for folder in folders for part in ("--find-links", folder)]
        from_index = ["--torch-backend", "cpu"]
        attempts = [from_folders, from_index] if holds_torch else [from_index]
    if not any(succeeds(*command, *attempt) for attempt in attempts):
        fail(
            "Some locked packages could not be installed; the lines above name them. The CPU build "
            "of torch 2.13.0 comes from PyTorch's own index or from a folder in PIP_FIND_LINKS."
        )


def find_links() -> list[str]:
    """Pip's find-links, from its variable and its configuration: folders or pages of wheels."""
    command = [PYTHON, "-m", "pip", "config", "get", "global.find-links"]
    configured = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False
    )
    return f"{os.environ.get('PIP_FIND_LINKS', '')} {configured.stdout}".split()


def site_packages() -> Path:
    # Debian's own Python has a different default scheme.
    return Path(sysconfig.get_path("purelib", scheme="venv", vars={"base": str(VENV)}))


def run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT)


def succeeds(*command: object) -> bool:
    return subprocess.run([str(part) for part in command], check=False, cwd=ROOT).returncode == 0


def fail(sentence: str) -> None:
    print(sentence, file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
