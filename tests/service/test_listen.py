"""The sockets that the server listens on."""

import socket

import pytest

from models.common.errors import GrapeError, InputError
from service.listen import listen
from service.settings import Settings


def test_a_free_port_is_bound_once() -> None:
    (bound,) = listen(Settings(host="localhost", port=0))
    with bound:
        host, port = bound.getsockname()[:2]
        assert host in ("127.0.0.1", "::1")
        assert port > 0


def test_a_taken_port_is_one_sentence_and_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(GrapeError, match=f"Port {port} of 127.0.0.1 is taken") as refused:
            listen(Settings(port=port))
        assert not isinstance(refused.value, InputError)
    listen(Settings(port=port))[0].close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_another_machine(host: str) -> None:
    key = "a-key-of-these-tests-0123456789"
    with pytest.raises(InputError, match="not an address of this machine"):
        listen(Settings(host=host, api_keys=key))
