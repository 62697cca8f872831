"""Raw HTTP on a socket: requests for another protocol, malformed ones and slow ones."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from models.client.wire import ErrorBody, ErrorType
from service.api import protocol
from tests.support.loopback import listening

BODY = b'{"query": "ein rotes Bild", "k": 1}'
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"


@pytest.fixture
async def port(client: httpx.AsyncClient) -> AsyncIterator[int]:
    async with listening(client) as url:
        yield int(url.rpartition(":")[2])


def post(headers: bytes = b"", body: bytes = BODY) -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    head = b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head + length + headers + b"\r\n" + body


async def answer(port: int, *parts: bytes) -> tuple[int, bytes]:
    """Sends the parts one by one; returns the first answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        return await _read(reader)
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head.split()[1]), await reader.readexactly(length)


def refusal(answered: tuple[int, bytes], status: int) -> str:
    assert answered[0] == status, answered
    body = ErrorBody.model_validate_json(answered[1])
    assert body.error_type in (ErrorType.VALIDATION, ErrorType.TOO_LARGE)
    assert body.request_id
    return body.error


async def test_an_upgrade_is_ignored_and_the_body_kept(port: int) -> None:
    whole = post(H2C)
    expected = json.loads((await answer(port, post()))[1])["hits"]
    cut = len(whole) - len(BODY)
    chunked = b"Transfer-Encoding: chunked\r\n" + H2C
    in_chunks = post(chunked).replace(b"Content-Length: %d\r\n" % len(BODY), b"")
    in_chunks = in_chunks.removesuffix(BODY) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    for parts in (
        [whole],
        [whole[:50], whole[50:cut], whole[cut : cut + 5], whole[cut + 5 :]],
        [bytes([byte]) for byte in whole],
        [in_chunks],
        [post(b"Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\n")],
        [post(H2C, b""), b""],
    ):
        status, body = await answer(port, *parts)
        if b"Content-Length: 0" in parts[0]:
            assert status == 422
            continue
        assert status == 200, body
        assert json.loads(body)["hits"] == expected


async def test_an_upgraded_connection_goes_on(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(H2C) + post() + post(H2C))  # pipelined
    for _ in range(3):
        assert (await _read(reader))[0] == 200
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + H2C + b"\r\n")
    assert (await _read(reader))[0] == 200
    writer.close()


async def test_malformed_requests_have_the_one_shape(port: int) -> None:
    length = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: %s\r\n\r\n"
    for malformed in (
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n",
        length % (b"9" * 5000),
        length % (b"0" * 5000),
        post(b"Content-Length: 1\r\n"),
        post(b"Transfer-Encoding: chunked\r\n"),
        b"GET http://[/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ):
        refusal(await answer(port, malformed), 400)


async def test_heads_are_bounded(port: int) -> None:
    endless = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: "
    refusal(await answer(port, endless, *[b"x" * 20_000] * 5), 431)


async def test_slow_heads_and_bodies_are_ended(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)
    monkeypatch.setattr(protocol, "BODY_S", 0.2)
    assert "in time" in refusal(await answer(port, b"GET /livez HTTP/1.1\r\nHost: "), 408)
    whole = post()
    refusal(await answer(port, whole[:-5]), 408)
    monkeypatch.setattr(protocol, "BODY_BYTES_PER_S", 100)
    started = time.monotonic()
    refusal(await answer(port, whole[:-5]), 408)
    assert time.monotonic() - started > 0.45  # 30 bytes have 0.3 s more
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(2):
        assert await reader.read() == b""  # nothing was asked, so nothing is answered
    writer.close()


async def test_what_is_slow_is_not_the_search(
    port: int, client: httpx.AsyncClient, rewriter: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.1)
    monkeypatch.setattr(protocol, "BODY_S", 0.1)
    monkeypatch.setattr(rewriter, "delay", 0.5)
    body = b'{"query": "ein rotes Bild", "rewrite": "always", "k": 1}'
    status, _ = await answer(port, post(body=body), b"\r\n")
    assert status == 200
