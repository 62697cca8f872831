"""Builds the images from a copy of the repository and inspects them."""

import contextlib
import functools
import http.server
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

from tests.docker.engine import ROOT, Engine
from tests.docker.report import say

IMAGE = "grape:docker-test"
CACHES = ("/root/.cache", "/root/.local", "/var/lib/apt/lists/*", "/var/cache/apt/*")


def copy_of_repository(folder: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)


def build(
    docker: Engine, folder: Path, base: str, secret_files: list[str], target: str = "cpu"
) -> None:
    docker.docker(
        "build", "--network", "host", "--build-arg", f"BASE={base}", *secret_files,
        "--target", target, "--tag", IMAGE, folder,
    )  # fmt: skip


@contextlib.contextmanager
def package_sources(work: Path) -> Iterator[list[str]]:
    """This machine's package sources, as build secrets: indexes, proxies, certificates.

    A folder of wheels is served on the loopback address during the build.
    """
    source = re.compile(r"(PIP|UV)_\w*(INDEX|TIMEOUT)\w*|\w+_proxy", re.I)
    variables = {name: value for name, value in os.environ.items() if source.fullmatch(name)}
    flags = []
    if certificates := os.environ.get("SSL_CERT_FILE"):
        flags += ["--secret", f"id=ca,src={certificates}"]
        variables |= {"SSL_CERT_FILE": "/run/secrets/ca", "PIP_CERT": "/run/secrets/ca"}
    folder = os.environ.get("PIP_FIND_LINKS")
    if folder and "://" not in folder:
        handler = functools.partial(_Quiet, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        folder = f"http://127.0.0.1:{server.server_port}/"
    if folder:
        variables["PIP_FIND_LINKS"] = folder
    file = work / "build.env"
    file.write_text("".join(f"{name}='{value}'\n" for name, value in variables.items()))
    yield [*flags, "--secret", f"id=environment,src={file}"]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def in_image(docker: Engine, script: str) -> str:
    """What a shell prints in a container of the image, without a network."""
    return docker.docker("run", "--rm", "--network", "none", "--user", "0",
                         "--entrypoint", "sh", IMAGE, "-c", script)  # fmt: skip


def check_image(docker: Engine, base: str, compilers: Collection[str] = ()) -> None:
    """Reports the image's size; it must hold no caches and no compilers except ``compilers``."""
    size, of_base = (
        int(docker.docker("image", "inspect", "--format", "{{.Size}}", name)) / 1e9
        for name in (IMAGE, base)
    )
    say(f"image: {size:.2f} GB, of which {of_base:.2f} GB are the base image")
    there = in_image(
        docker, "for c in cc gcc g++ clang rustc go nvcc; do command -v $c; done; true"
    )
    found = {Path(path).name for path in there.split()}
    assert found == set(compilers), found
    caches = in_image(docker, f"ls -d {' '.join(CACHES)} 2>/dev/null; true")
    assert not caches, caches
    say(f"image: {'no compilers' if not found else ', '.join(sorted(found))}, no caches")
