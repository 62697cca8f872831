"""The engine dies, the server is interrupted or killed. Last, because it breaks the shared
server.
"""

import signal
import time
from pathlib import Path

import psutil

from tests.support.grape_server import Server


def test_an_engine_that_dies_degrades_searches_and_comes_back(server: Server) -> None:
    query = "ein sehr alter Leuchtturm"  # nobody has asked for it before
    expected = server.search(query, rewrite="never")["hits"]
    server.search("caballo")
    logged = len(server.log.read_text())
    server.engine().kill()
    seconds = server.wait_for(lambda: server.client.get("/readyz").status_code == 503, 5)
    assert seconds < 5
    readiness = server.client.get("/readyz").json()
    assert not readiness["rewriter"]["ready"]
    assert readiness["rewriter"]["reason"]
    assert readiness["encoder"]["ready"]
    assert server.client.get("/livez").status_code == 200
    assert server.search("caballo")["rewrite"]["status"] == "rewritten"  # type: ignore[index]
    degraded = server.search(query)
    assert degraded["degraded"] is True
    assert degraded["rewrite"]["status"] == "fallback"  # type: ignore[index]
    assert degraded["hits"] == expected
    server.wait_until_ready()
    assert "engine has died" in server.log.read_text()[logged:]
    assert "Traceback" not in server.log.read_text()[logged:]
    assert server.search(query)["rewrite"]["status"] == "rewritten"  # type: ignore[index]


def test_ctrl_c_ends_every_process(server: Server) -> None:
    family = [*server.children(), psutil.Process(server.process.pid)]
    assert len(family) >= 2
    assert server.interrupt() in (0, 130)
    _, alive = psutil.wait_procs(family[:-1], timeout=15)
    assert alive == []


def test_ctrl_c_while_loading_ends_every_process(tmp_path: Path) -> None:
    server = Server(tmp_path / "log")
    try:
        server.wait_for(lambda: any("EngineCore" in c.name() for c in server.children()), 120)
        family = server.children()
        assert server.interrupt() in (0, 130)
        _, alive = psutil.wait_procs(family, timeout=15)
        assert alive == []
    finally:
        server.stop()


def test_a_killed_server_leaves_no_engine_behind(tmp_path: Path) -> None:
    server = Server(tmp_path / "log")
    try:
        server.wait_for(lambda: any("EngineCore" in c.name() for c in server.children()), 120)
        time.sleep(2)
        family = server.children()
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(10)
        _, alive = psutil.wait_procs(family, timeout=30)
        assert alive == []
    finally:
        server.stop()
