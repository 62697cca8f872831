"""A real Milvus for the tests: the standalone server of the package `milvus`, and Milvus Lite."""

import importlib
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.retriever.address import MilvusAddress

_PARTS = (
    "rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode",
)  # fmt: skip


class RunningMilvus:
    """What answers at an address."""

    def __init__(self, where: str, server: Any = None) -> None:
        self._where = where
        self._server = server  # kept: it ends its process when nobody does

    @property
    def process(self) -> Any:
        """Of the server; Milvus Lite is in ours."""
        if self._server is None:
            pytest.skip("the server is not ours to stop")
        return self._server.server_proc

    def address(self, collection: str) -> str:
        return f"milvus://{self._where}/{collection}"


def new_address(running: RunningMilvus) -> MilvusAddress:
    """Of a collection that is not there yet."""
    return MilvusAddress(running.address(f"test_{secrets.token_hex(4)}x"))


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(folder: Path) -> RunningMilvus:
    """Starts a server that keeps all it has in a folder. It takes about 15 s."""
    milvus: Any = importlib.import_module("milvus")  # in the lock: its absence is a failure
    port, etcd, peer = free_port(), free_port(), free_port()
    server = milvus.MilvusServer(data_dir=str(folder), proxy_port=port, etcd_port=etcd)
    # Its etcd would take two ports that every other server takes too.
    urls = {"client": f"http://127.0.0.1:{etcd}", "peer": f"http://127.0.0.1:{peer}"}
    lines = [f"listen-{kind}-urls: {url}" for kind, url in urls.items()]
    lines += [f"advertise-client-urls: {urls['client']}"]
    lines += [f"initial-advertise-peer-urls: {urls['peer']}"]
    lines += [f"initial-cluster: default={urls['peer']}"]
    (folder / "etcd.yaml").write_text("\n".join(lines) + "\n")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("ETCD_CONFIG_PATH", str(folder / "etcd.yaml"))
    for part in _PARTS:
        server.config.set(f"{part}.ip", "127.0.0.1")
    try:
        server.start()
    finally:
        monkeypatch.undo()
    return RunningMilvus(f"127.0.0.1:{port}", server)


def stop(running: RunningMilvus) -> None:
    """Ends the server by its process id, at once: nobody needs what it has."""
    running.process.kill()
    running.process.wait()


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMilvus]:
    """A server for all tests of a run; each takes collections of its own.

    GRAPE_TEST_MILVUS may name one that runs already, as HOST:PORT.
    """
    if where := os.environ.get("GRAPE_TEST_MILVUS"):
        yield RunningMilvus(where)
        return
    running = start(tmp_path_factory.mktemp("milvus"))
    yield running
    stop(running)


@pytest.fixture(scope="session")
def milvus_lite(tmp_path_factory: pytest.TempPathFactory) -> RunningMilvus:
    return RunningMilvus(f"{tmp_path_factory.mktemp('lite')}/lite.db")


@pytest.fixture(
    scope="module", params=["milvus", pytest.param("milvus_lite", marks=pytest.mark.slow)],
    ids=["server", "lite"],
)  # fmt: skip
def server_first(request: pytest.FixtureRequest) -> RunningMilvus:
    """The server, and Milvus Lite where there is time for both."""
    found: RunningMilvus = request.getfixturevalue(request.param)
    return found
