"""The engine is killed again and again: what does each death cost the server that outlives it?

    python -m benchmarks.deaths [--deaths N] [--write]

A query is rewritten before each kill, and `/livez` is asked every 20 ms. ``--write`` puts the table
into docs/reliability.md. Takes about eight minutes.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import httpx
import psutil

from benchmarks.pages import DOCS, write_between
from tests.support.grape_server import Server
from tests.support.taught_adapters import LLM

PAGE = DOCS / "reliability.md"
DEATHS = 20
FIRST = 5  # deaths that may still fill caches and pools
EVERY_S = 0.02


class Livez(threading.Thread):
    """Asks `/livez` until it is told to stop, and keeps the slowest answer."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._stop_asking = threading.Event()
        self._failure: httpx.HTTPError | None = None
        self.worst_ms = 0.0

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._stop_asking.wait(EVERY_S):
                began = time.perf_counter()
                try:
                    client.get("/livez").raise_for_status()
                except httpx.HTTPError as error:
                    self._failure = error
                    return
                self.worst_ms = max(self.worst_ms, (time.perf_counter() - began) * 1000)

    def stop(self) -> float:
        """The slowest answer in milliseconds."""
        self._stop_asking.set()
        self.join()
        if self._failure:
            raise self._failure
        return self.worst_ms


def measure(deaths: int) -> list[str]:
    """The lines of the table."""
    server = Server(Path(tempfile.mkdtemp()) / "log", "--llm", LLM)
    memory, back_s, livez_ms = [], [], []
    try:
        server.wait_until_ready()
        process = psutil.Process(server.process.pid)
        for number in range(deaths):
            server.search(f"Wort {number}", rewrite="always")
            memory.append(process.memory_info().rss / 2**20)
            livez = Livez(server.url)
            livez.start()
            time.sleep(0.2)
            server.engine().kill()
            server.wait_for(lambda: server.client.get("/readyz").status_code == 503, 10)
            back_s.append(server.wait_until_ready())
            livez_ms.append(livez.stop())
            print(f"{number + 1}/{deaths}: {memory[-1]:.0f} MiB, {livez_ms[-1]:.0f} ms", flush=True)
        server.search("Wort", rewrite="always")
        memory.append(process.memory_info().rss / 2**20)
    finally:
        server.stop()
    first = min(FIRST, deaths - 1)
    early = (memory[first] - memory[0]) / first
    late = (memory[-1] - memory[first]) / (deaths - first)
    rows = {
        "deaths": str(deaths),
        f"growth of the server, first {first} deaths": f"{early:.1f} MiB each",
        f"growth of the server, after {first}": f"{late:.1f} MiB each",
        "worst `/livez`, median of the deaths": f"{median(livez_ms):.0f} ms",
        "worst `/livez` of all": f"{max(livez_ms):.0f} ms",
        "until the engine is back, median": f"{median(back_s):.0f} s",
    }
    return ["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows.items())]


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--deaths", type=int, default=DEATHS, help=f"{DEATHS} by default")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    arguments = parser.parse_args()
    if arguments.deaths < 2:
        parser.error("--deaths must be at least 2")
    lines = measure(arguments.deaths)
    print("\n".join(lines))
    if arguments.write:
        write_between(PAGE, "deaths", "\n".join(lines))


if __name__ == "__main__":
    main()
