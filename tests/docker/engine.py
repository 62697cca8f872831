"""A Docker engine for tests: the running one, else one that is started and stopped by the test."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent.parent
OFFICIAL_BASE = "python:3.11-slim-bookworm"
STAND_IN = "grape-stand-in-base"
PACKAGES = "python3,python3-venv,ca-certificates"


class Engine:
    """The commands `docker` and `docker compose`, connected to one engine."""

    def __init__(self, docker: str, environment: dict[str, str]) -> None:
        self._docker = docker
        self._environment = {**os.environ, **environment, "DOCKER_BUILDKIT": "1"}
        plugin = self._run(docker, "compose", "version", check=False).returncode == 0
        self._compose = [docker, "compose"] if plugin else ["docker-compose"]

    def docker(self, *arguments: object, check: bool = True) -> str:
        """What `docker` prints; both streams if it fails."""
        done = self._run(self._docker, *arguments, check=check)
        return done.stdout.strip() if not done.returncode else done.stdout + done.stderr

    def compose(
        self, folder: Path, *arguments: object, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return self._run(*self._compose, *arguments, check=check, folder=folder)

    def _run(
        self, *command: object, check: bool, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False,
            env=self._environment, cwd=folder,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{command} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        return done


@contextlib.contextmanager
def engine(work: Path) -> Iterator[Engine]:
    """The engine that runs here; otherwise a dockerd that keeps all its files in ``work``."""
    # Debian's client has BuildKit built in; others may lack the plugin for it.
    docker = next(filter(None, map(shutil.which, ("/usr/bin/docker", "docker"))), None)
    if docker is None or not shutil.which("debootstrap"):
        fail("Docker is missing: on Debian, `apt install docker.io docker-compose debootstrap`.")
    running = subprocess.run([docker, "info"], capture_output=True, check=False)
    if running.returncode == 0:
        yield Engine(docker, {})
        return
    dockerd = shutil.which("dockerd") or shutil.which("/usr/sbin/dockerd")
    if dockerd is None or os.geteuid() != 0:
        fail("No Docker engine is running: start one, or run this as root to let it start its own.")
    socket = f"unix://{work}/docker.sock"
    # No bridge and no firewall rules: the machine's network stays untouched.
    command = [dockerd, "--iptables=false", "--bridge=none", "--host", socket,
               "--data-root", f"{work}/root", "--exec-root", f"{work}/exec",
               "--pidfile", f"{work}/docker.pid"]  # fmt: skip
    with open(work / "dockerd.log", "w") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        started = Engine(docker, {"DOCKER_HOST": socket})
        for _ in range(120):
            if "Server Version" in started.docker("info", check=False):
                break
            assert daemon.poll() is None, (work / "dockerd.log").read_text()[-2000:]
            time.sleep(0.5)
        yield started
    finally:
        daemon.terminate()
        daemon.wait(60)
        for namespace in (work / "exec" / "netns").glob("*"):  # dockerd leaves its mounts behind
            subprocess.run(["umount", str(namespace)], check=False)


def base_image(engine: Engine, work: Path) -> str:
    """Python's official image if it is here already, else a Debian built with debootstrap."""
    for name in (OFFICIAL_BASE, STAND_IN):
        if engine.docker("images", "--quiet", name):
            return name
    folder = work / "base"
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for cache in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(folder / cache)
    packed = work / "base.tar"
    subprocess.run(["tar", "-C", str(folder), "-cf", str(packed), "."], check=True)
    engine.docker("import", packed, STAND_IN)
    shutil.rmtree(folder)
    packed.unlink()
    return STAND_IN


def fail(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    raise SystemExit(2)
