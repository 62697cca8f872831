"""An environment for each peer, with the versions that its requirements file pins.

torch is not installed again: a folder of links to this project's torch and torchvision is put at
the end of the peer's path. Everything else comes from its own file, and is found first.
"""

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from models.common import paths, torchvision_shim

HERE = Path(__file__).parent
LINKED = ("torch", "torchvision")
TOLD = 2000  # last characters of pip's output in an error
_SHIM = "grape_torchvision_shim"


class PeerError(Exception):
    """A peer cannot be measured; the sentence says why."""


class Environment(NamedTuple):
    """A virtual environment."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.program("python")

    @property
    def packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"

    def program(self, name: str) -> Path:
        return self.folder / "bin" / name


def environment(name: str, with_torch: bool = True) -> Environment:
    """The peer's environment, made unless it is there with the same requirements.

    Raises:
        PeerError: pip could not install it.
    """
    requirements = HERE / f"requirements-{name}.txt"
    folder = paths.cache_dir() / "peers" / name
    stamp = folder / "made-of"
    made_of = _made_of(requirements, with_torch)
    made = Environment(folder)
    if stamp.is_file() and stamp.read_text() == made_of:
        return made
    print(f"Installing {name} into {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run(name, sys.executable, "-m", "venv", folder)
    if with_torch:
        _link_torch(made)
    # The file names every package, so that pip has nothing to resolve.
    _run(name, made.python, "-m", "pip", "install", "--quiet", "--no-deps", "-r", requirements)
    stamp.write_text(made_of)
    return made


def _made_of(requirements: Path, with_torch: bool) -> str:
    parts = [requirements.read_bytes(), sys.version.encode()]
    if with_torch:
        parts += [f"{name}=={importlib.metadata.version(name)}".encode() for name in LINKED]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _link_torch(made: Environment) -> None:
    """Only these two, so that no other package of the project hides a missing one."""
    links = made.folder / "linked"
    links.mkdir()
    for name in LINKED:
        distribution = importlib.metadata.distribution(name)
        site = Path(str(distribution.locate_file("")))
        for entry in {file.parts[0] for file in distribution.files or ()} - {".."}:
            (links / entry).symlink_to(site / entry)
    (links / f"{_SHIM}.py").symlink_to(torchvision_shim.__file__)
    (made.packages / "zz_linked.pth").write_text(f"{links}\nimport {_SHIM}; {_SHIM}.install()\n")


def _run(name: str, *command: object) -> None:
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if ran.returncode:
        raise PeerError(
            f"{name} could not be installed: {command[0]} ended with {ran.returncode}.\n"
            f"{ran.stderr[-TOLD:]}"
        )
