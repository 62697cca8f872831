"""Resolves pyproject.toml into requirements/cpu.txt and requirements/cuda.txt: `make lock`.

Both files are in pip's requirements format, with hashes, and are installed with ``--no-deps``. So
every install is the same, and what vLLM requires but never imports here stays out (DROPPED). A pin
that exists is kept: to upgrade a package, delete its entry from both files first.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Plus cpu or cuda.
EXTRAS = ("serve", "demo", "train", "text", "terminal", "mteb", "mcp", "redis", "milvus", "ray")
GROUP = "dev"

# torchaudio and torchcodec have no CPU build on PyPI, and there they break `import transformers`.
# triton is 1 GB that a machine without a GPU never loads. The rest are FastAPI's cloud tools.
DROPPED = {
    "cpu": ["torchaudio", "torchcodec", "triton", "sentry-sdk", "fastapi-cloud-cli", "fastapi-cli"],
    "cuda": ["torchaudio", "torchcodec", "sentry-sdk", "fastapi-cloud-cli", "fastapi-cli"],
}

# Wheels of PyTorch's own CPU index, which the resolver may be unable to reach. torch for 3.11 was
# hashed from the file; the other hashes are those that several public lock files agree on.
CPU_INDEX_HASHES = {
    "torch": [
        "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",  # cp311
        "4ca4a9394b0c771238a4f73590fdbbc4debad85ed0fa63d026ae1b085da7d6e2",  # cp312
        "3fbf9c9d1f3c10c2d59d04aca426dee9ccc6ceb32d255c61e93acc3b4f75fae6",  # cp313
    ],
    "torchvision": [
        "1dad604dfc0177ecebe0891bd9701fe2c62ec3f7819a247be541b3fb6effee99",  # cp311
        "b545d46f4d2f9d30381281cf22874bfe1d32a8a7b0ee8396fccde89f30c6a9d9",  # cp312
        "c6373ec4c2f922e89f45ac91889404d312ba29a31f205b0ad9a725a3894ca246",  # cp313
    ],
}


def lock(engine: str, find_links: list[str]) -> None:
    out = ROOT / "requirements" / f"{engine}.txt"
    command = ["uv", "pip", "compile", "pyproject.toml", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet", "-o", str(out)]
    command += [part for extra in (*EXTRAS, engine) for part in ("--extra", extra)]
    command += ["--group", GROUP]
    command += [part for name in DROPPED[engine] for part in ("--no-emit-package", name)]
    if engine == "cpu":  # a CPU wheel must not get into the CUDA lock
        command += [part for place in find_links for part in ("--find-links", place)]
    subprocess.run(command, cwd=ROOT, check=True)
    text = out.read_text()
    # The resolver adds a comment on what it left out, and may name the places it searched.
    text = "".join(
        line for line in text.splitlines(keepends=True) if not line.startswith(("#", "--"))
    )
    if engine == "cpu":
        for name, hashes in CPU_INDEX_HASHES.items():
            text = add_hashes(text, name, hashes)
    assert "://" not in text, "a lock file must not record download addresses"
    out.write_text(f"# Made by `make lock` from pyproject.toml; install with --no-deps.\n{text}")


def add_hashes(text: str, name: str, hashes: list[str]) -> str:
    """Adds those hashes that the entry of ``name`` lacks."""
    entry = re.search(rf"^{name}==\S+(?: \\\n    --hash=sha256:\w+)*", text, re.MULTILINE)
    assert entry, f"{name} is not in the lock"
    missing = [f" \\\n    --hash=sha256:{value}" for value in hashes if value not in entry[0]]
    return text[: entry.end()] + "".join(missing) + text[entry.end() :]


if __name__ == "__main__":
    (ROOT / "requirements").mkdir(exist_ok=True)
    for engine_name in DROPPED:
        lock(engine_name, sys.argv[1:])
