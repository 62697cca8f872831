"""A real `grape serve` on a free port of the loopback address."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

GRAPE = Path(sys.executable).with_name("grape")


class Server:
    """Starts when created; :meth:`wait_until_ready` waits for the language model."""

    def __init__(self, log: Path, *flags: str) -> None:
        self.log = log
        with open(log, "w") as output:
            # Its own process group, so that an interrupt reaches only the server and its children.
            self.process = subprocess.Popen(
                [GRAPE, "serve", "--port", "0", *flags],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.url = self._address()
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def _address(self) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if match := re.search(r"http://[\d.]+:\d+", self.log.read_text()):
                return match[0]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"the server did not start:\n{self.log.read_text()}")

    def wait_until_ready(self, seconds: float = 240) -> float:
        """Waits for a 200 from /readyz; returns how many seconds it took."""
        return self.wait_for(lambda: self.client.get("/readyz").is_success, seconds)

    def wait_for(self, condition: Callable[[], object], seconds: float) -> float:
        started = time.monotonic()
        while not condition():
            assert self.process.poll() is None, f"the server ended:\n{self.log.read_text()}"
            assert time.monotonic() - started < seconds, self.client.get("/readyz").text
            time.sleep(0.1)
        return time.monotonic() - started

    def search(self, query: str, **wishes: object) -> dict[str, object]:
        response = self.client.post("/search", json={"query": query, **wishes})
        assert response.status_code == 200, response.text
        answer: dict[str, object] = response.json()
        return answer

    def engine(self) -> psutil.Process:
        """vLLM's process."""
        return next(child for child in self.children() if "EngineCore" in child.name())

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def interrupt(self) -> int:
        """What Ctrl-C in a terminal does; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def stop(self) -> None:
        """Stops the server, and whatever is left of its children."""
        family = []
        if self.process.poll() is None:
            family = self.children()
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for child in family:
            if child.is_running():
                child.kill()
        self.client.close()
