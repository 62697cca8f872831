from collections.abc import Iterator

import pytest

from tests.support.grape_server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The demo as `make demo` serves it: real vLLM, encoder, FAISS and HTTP."""
    started = Server(tmp_path_factory.mktemp("server") / "log")
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.stop()
