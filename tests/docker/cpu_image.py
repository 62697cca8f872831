"""`make docker-test`: builds the CPU image, runs it under compose, tests what docs/deploy.md says.

Not part of CI: it needs a Docker engine (or root, to start one), 15 GB of disk and 15 minutes.
`--write` puts the output into docs/deploy.md. Everything that it creates is removed.
"""

import functools
import hashlib
import json
import os
import re
import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import yaml

from tests.docker.engine import ROOT, Engine, base_image
from tests.docker.image import IMAGE, build, check_image, copy_of_repository, package_sources
from tests.docker.monitoring import watched_by_prometheus
from tests.docker.report import run, say, timed
from tests.docker.training import check_training

QUERIES = {"ギター": "guitar", "caballo": "horse", "Elefant": "elephant"}
WORDS = ("Haus", "Baum", "Fisch", "Vogel", "Apfel", "Brot", "Uhr", "Schiff", "Stern", "Blume")
LIMIT_S = 30  # between SIGTERM and the end
KEY = secrets.token_hex(32)


class Stack:
    """The compose project in a copy of the repository, on the host's network: no bridge."""

    def __init__(self, docker: Engine, folder: Path) -> None:
        self.docker = docker
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"X-API-Key": KEY}, timeout=60
        )
        whole = yaml.safe_load((folder / "docker-compose.yml").read_text())
        grape, train = whole["services"]["grape"], whole["services"]["train"]
        del grape["ports"]
        for service in (grape, train):
            del service["build"]
            service |= {"image": IMAGE, "network_mode": "host"}
        grape["environment"] |= {"GRAPE_HOST": "127.0.0.1", "GRAPE_PORT": self.port}
        if certificates := os.environ.get("SSL_CERT_FILE"):  # the first start downloads
            grape["environment"]["SSL_CERT_FILE"] = "/certificates"
            grape["volumes"].append(f"{certificates}:/certificates:ro")
        parts = {"services": {"grape": grape, "train": train}, "volumes": whole["volumes"]}
        (folder / "docker-compose.yml").write_text(yaml.safe_dump(parts))
        hashed = hashlib.sha256(KEY.encode()).hexdigest()
        (folder / ".env").write_text(f"GRAPE_API_KEYS=sha256:{hashed}\nGRAPE_LOG_FORMAT=json\n")

    def up(self, what: str) -> None:
        with timed(what):
            self.docker.compose(self.folder, "up", "-d")
            while (health := self.inspect("State", "Health", "Status")) != "healthy":
                assert health == "starting", self.logs()
                assert self.inspect("State", "Status") == "running", self.logs()
                time.sleep(1)

    def down(self, *flags: str) -> None:
        self.docker.compose(self.folder, "down", *flags)

    @property
    def container(self) -> str:
        return self.docker.compose(self.folder, "ps", "-q", "grape").stdout.strip()

    def inspect(self, *path: str) -> object:
        found = json.loads(self.docker.docker("inspect", self.container))[0]
        return functools.reduce(lambda part, name: part[name], path, found)

    def inside(self, *command: str) -> str:
        return self.docker.docker("exec", self.container, *command, check=False)

    def logs(self) -> str:
        return self.docker.compose(self.folder, "logs", "--no-color").stdout

    def search(self, query: str, **wishes: object) -> dict[str, object]:
        answer = self.client.post("/search", json={"query": query, "k": 3, **wishes})
        assert answer.status_code == 200, answer.text
        found: dict[str, object] = answer.json()
        return found


def check_refusal(stack: Stack) -> None:
    done = stack.docker.compose(
        stack.folder, "run", "--rm", "-T", "-e", "GRAPE_API_KEYS=",
        "-e", "GRAPE_PUBLISHED_ON=0.0.0.0",
        "grape", check=False,
    )  # fmt: skip
    printed = done.stdout + done.stderr
    assert done.returncode == 2, printed
    error = next(line for line in printed.splitlines() if "no API key" in line)
    say(f"published on 0.0.0.0 without a key: exit code 2, {error!r}")


def check_searches(stack: Stack) -> None:
    assert httpx.post(f"{stack.client.base_url}/search", json={"query": "x"}).status_code == 401
    say("without the key: 401")
    for query, name in QUERIES.items():
        found = stack.search(query)
        first = found["hits"][0]["metadata"]["name"]  # type: ignore[index]
        assert first == name, found
        say(f"search {query}: {found['rewrite']['texts']} -> {first}")  # type: ignore[index]


def check_confinement(stack: Stack) -> None:
    assert stack.inside("id", "-u") == "10001"
    processes = stack.docker.docker("top", stack.container, "-eo", "uid,pid,comm").splitlines()[1:]
    assert {line.split()[0] for line in processes} == {"10001"}, processes
    assert processes[0].split()[2] == "tini", processes
    for folder in ("/grape", "/etc", "/usr", "/pictures"):
        assert "Read-only file system" in stack.inside("touch", f"{folder}/x"), folder
    assert stack.inside("touch", "/data/x", "/tmp/x") == ""
    status = stack.inside("cat", "/proc/1/status")
    assert re.search(r"CapEff:\s0+$", status, re.M), status
    assert re.search(r"NoNewPrivs:\s1$", status, re.M), status
    say(f"{len(processes)} processes under tini, all of user 10001, no capabilities; "
        "only /data and /tmp can be written")  # fmt: skip


def measure(stack: Stack) -> None:
    # Proportional set size: a page that several processes share is divided among them.
    script = "awk '/^Pss:/ {sum += $2} END {print sum}' /proc/[0-9]*/smaps_rollup 2>/dev/null"
    kib = int(stack.inside("sh", "-c", script).split()[-1])
    say(f"memory of all processes after {len(QUERIES)} searches: {kib / 2**20:.1f} GiB")
    for mode, queries in (
        ("never", [f"a picture of {number}" for number in range(40)]),
        ("always", [f"{word} im Regen" for word in WORDS]),
    ):
        taken = []
        for query in queries:
            started = time.perf_counter()
            stack.search(query, rewrite=mode)
            taken.append((time.perf_counter() - started) * 1000)
        taken.sort()
        say(f"search, rewrite {mode}: median {taken[len(taken) // 2]:.0f} ms, "
            f"slowest {taken[-1]:.0f} ms, one at a time")  # fmt: skip


def check_sigterm(stack: Stack) -> None:
    top = stack.docker.docker("top", stack.container, "-eo", "pid").splitlines()[1:]
    container = stack.container
    with ThreadPoolExecutor(len(WORDS)) as pool:
        asked = [pool.submit(stack.search, f"ein {word}", rewrite="always") for word in WORDS]
        time.sleep(0.3)
        under_way = sum(not one.done() for one in asked)
        started = time.monotonic()
        stack.docker.docker("stop", "--time", LIMIT_S, container)
        took = time.monotonic() - started
        answered = [one.result()["rewrite"]["status"] for one in asked]  # type: ignore[index]
    assert under_way, "all were answered before the signal"
    assert set(answered) == {"rewritten"}, answered
    assert took < LIMIT_S, took
    code = json.loads(stack.docker.docker("inspect", container))[0]["State"]["ExitCode"]
    assert code == 0, (code, stack.logs())
    left = [pid for pid in top if Path(f"/proc/{pid.strip()}").exists()]
    assert not left, left
    say(f"SIGTERM with {under_way} searches under way: all {len(answered)} answered, "
        f"{len(top)} processes ended after {took:.1f} s, exit code 0")  # fmt: skip


def check_volume(stack: Stack) -> None:
    stack.down()
    stack.up("down, and up again until healthy")
    assert "Fetching" not in stack.logs()
    assert stack.inside("ls", "/data/x") == "/data/x"
    check_searches(stack)
    say("the volume survived; nothing was fetched again")


def everything(docker: Engine, work: Path) -> None:
    folder = work / work.name  # also the compose project's name, which must be unique
    copy_of_repository(folder)
    say(f"engine: Docker {docker.docker('version', '--format', '{{.Server.Version}}')}, "
        f"{docker.docker('info', '--format', '{{.Driver}}')}")  # fmt: skip
    with timed("base image"):
        base = base_image(docker, work)
    with package_sources(work) as secret_files:
        with timed(f"build of the cpu target on {base}"):
            build(docker, folder, base, secret_files)
        with open(folder / "service" / "__init__.py", "a") as changed:
            changed.write("# a change\n")
        with timed("build after a change of the code"):
            build(docker, folder, base, secret_files)
    check_image(docker, base)
    stack = Stack(docker, folder)
    try:
        check_refusal(stack)
        stack.up("first start, from an empty volume until healthy")
        for line in stack.logs().splitlines():
            if "Fetching" in line or "Converting" in line or "Drawing" in line:
                say(f"  its log: {line.partition('|')[2].strip()}")
        check_searches(stack)
        check_confinement(stack)
        measure(stack)
        watched_by_prometheus(work, ROOT / "deploy" / "prometheus", stack.port, KEY, say)
        check_sigterm(stack)
        check_volume(stack)
        check_training(stack)
    finally:
        stack.down("--volumes")
        docker.docker("image", "rm", "--force", IMAGE)


if __name__ == "__main__":
    run("docker-test", everything)
