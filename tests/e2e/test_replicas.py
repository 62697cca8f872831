"""Two servers behind nginx with one Milvus, one Redis and one language model; one is killed."""

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from PIL import Image

from grape import run
from tests.support.app import COLOURS
from tests.support.grape_server import Server
from tests.support.milvus_server import RunningMilvus, free_port, new_address

CONFIG = Path(__file__).parent.parent.parent / "deploy" / "nginx" / "grape.conf"
QUERIES = ("a red square", "ein rotes Bild", "un carré bleu", "a green square")
CLIENTS = 8

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("nginx"), reason="Debian's package nginx-light has nginx"),
    pytest.mark.skipif(not shutil.which("redis-server"), reason="Debian's package redis-server"),
]


class Replicas(NamedTuple):
    url: str  # of nginx
    servers: list[Server]


@pytest.fixture(scope="module")
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """What is started; ended by its process id, the last first."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in reversed(started):
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture(scope="module")
def replicas(
    milvus: RunningMilvus,
    processes: list[subprocess.Popen[bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Replicas]:
    folder = tmp_path_factory.mktemp("replicas")
    for name in COLOURS:
        (folder / "pictures").mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), name).save(folder / "pictures" / f"{name}.png")
        (folder / "pictures" / f"{name}.txt").write_text(f"a {name} square")
    index = new_address(milvus)
    assert run(["index", "build", str(folder / "pictures"), "--out", index]) == 0
    ports = {name: free_port() for name in ("redis", "llm", "nginx")}
    commands = [
        [
            "redis-server",
            "--bind",
            "127.0.0.1",
            "--port",
            str(ports["redis"]),
            "--save",
            "",
            "--dir",
            str(folder),
        ],
        [sys.executable, "-m", "tests.support.llm_endpoint", str(ports["llm"])],
    ]
    processes += [
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, cwd=None if "-m" in command else folder
        )
        for command in commands
    ]
    flags = [
        "--index", index, "--llm", "stand-in",
        "--llm-endpoint", f"http://127.0.0.1:{ports['llm']}/v1",
        "--redis-url", f"redis://127.0.0.1:{ports['redis']}/0", "--rewrite-cache", "0",
    ]  # fmt: skip
    servers = [Server(folder / f"log-{number}", *flags) for number in (1, 2)]
    try:
        for server in servers:
            server.wait_until_ready()
        processes.append(start_nginx(folder, ports["nginx"], servers))
        url = f"http://127.0.0.1:{ports['nginx']}"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{url}/readyz")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield Replicas(url, servers)
    finally:
        for server in servers:
            server.stop()


def start_nginx(folder: Path, port: int, servers: list[Server]) -> subprocess.Popen[bytes]:
    """nginx with the configuration that the repository holds; the addresses alone are others."""
    text = CONFIG.read_text().replace("listen 8080", f"listen 127.0.0.1:{port}")
    for number, server in enumerate(servers, start=1):
        text = text.replace(f"grape-{number}:8000", server.url.removeprefix("http://"))
    (folder / "grape.conf").write_text(text)
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}include {folder}/grape.conf;\n}}\n"
    )
    return subprocess.Popen(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")])


class Load:
    """Clients that ask one query after the other, and remember every answer."""

    def __init__(self, url: str) -> None:
        self.answers: list[tuple[float, int, str]] = []
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(url, number)) for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, url: str, number: int) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not self._ended.is_set():
                query = QUERIES[(number + len(self.answers)) % len(QUERIES)]
                try:
                    answer = client.post("/search", json={"query": query, "k": 3})
                    first = answer.json()["hits"][0]["id"] if answer.is_success else answer.text
                    self.answers.append((time.monotonic(), answer.status_code, f"{query}: {first}"))
                except httpx.TransportError as error:
                    self.answers.append((time.monotonic(), 0, f"{query}: {error!r}"))

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def test_a_server_that_is_killed_under_load_costs_no_answer(replicas: Replicas) -> None:
    load = Load(replicas.url)
    try:
        time.sleep(4)
        killed = time.monotonic()
        victim = replicas.servers[0]
        children = victim.children()
        victim.process.send_signal(signal.SIGKILL)
        victim.process.wait(10)
        for child in children:  # its picture workers, which nobody else ends
            if child.is_running():
                child.kill()
        time.sleep(6)
    finally:
        load.stop()
    before = [one for one in load.answers if one[0] < killed]
    after = [one for one in load.answers if one[0] >= killed]
    assert len(before) > CLIENTS
    assert len(after) > CLIENTS
    assert [one for one in load.answers if one[1] != 200] == []
    # Both servers gave the same answers, and the one that is left goes on giving them.
    first = {text.partition(": ")[0]: text for _, _, text in before}
    assert {text for _, _, text in load.answers} == set(first.values())
    assert first["ein rotes Bild"].endswith("red.png")
    assert httpx.get(f"{replicas.url}/readyz").status_code == 200


def test_the_replicas_share_rewrites_and_see_one_index(replicas: Replicas) -> None:
    survivor = replicas.servers[1]
    metrics = survivor.client.get("/metrics").text
    found = re.search(r'grape_rewrite_cache_total\{source="redis"\} (\d+)', metrics)
    assert found
    assert int(found[1]) > 0
    assert survivor.client.get("/info").json()["index"]["count"] == len(COLOURS)


def test_what_changes_something_is_never_sent_twice(replicas: Replicas) -> None:
    assert httpx.post(f"{replicas.url}/admin/index").status_code == 404
