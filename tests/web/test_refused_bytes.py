"""What is no HTTP is refused once: nothing that follows it is parsed, and nothing of it is kept."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress

import pytest
from aiohttp.http_exceptions import HttpProcessingError

from referral.auth.passwords import PASSWORDS
from tests.conftest import Client

# Each is refused by the parser. All are longer than what it reads at once.
MUCH = 4_000_000
NOISE = {
    "zeros": b"\0" * MUCH,
    "lines": b"no request\r\n" * (MUCH // 12),
    "a line": b"x" * MUCH,
    "TLS": b"\x16\x03\x01" + b"a" * MUCH,
    "an upgrade": b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    + b"\0" * MUCH,
    "heads": b"GET / HTTP/1.1\r\nHost: x\r\nno header\r\n\r\n" * (MUCH // 38),
}


@pytest.fixture
def engine() -> str:
    return "sqlite"


def refusals() -> list[HttpProcessingError]:
    return [found for found in gc.get_objects() if isinstance(found, HttpProcessingError)]


async def send(client: Client, *parts: bytes) -> bytes:
    """What is answered to the parts, until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    try:
        for part in parts:
            with suppress(ConnectionError):
                writer.write(part)
                await writer.drain()
            # The parser forgets a request that it reads together with what it refuses.
            await asyncio.sleep(0.05)
        answered = bytearray()
        with suppress(ConnectionError):
            while part := await reader.read(65_536):
                answered += part
        return bytes(answered)
    finally:
        writer.close()


@pytest.mark.parametrize("noise", NOISE)
async def test_nothing_is_kept_of_what_is_no_http(client: Client, noise: str) -> None:
    gc.collect()
    before = len(refusals())
    gc.disable()
    try:
        for _ in range(3):
            assert len(await send(client, NOISE[noise])) < 2_000, "what was sent is not told back"
        found = refusals()
        assert len(found) <= before + 3
        assert sum(len(repr(vars(error))) + len(repr(error.args)) for error in found) < 10_000
    finally:
        gc.enable()


async def test_nor_of_what_follows_a_request_that_takes_its_time(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = asyncio.Event()

    async def check(*arguments: object) -> bool:
        await go_on.wait()
        return False

    assert client.app
    monkeypatch.setattr(client.app[PASSWORDS], "check", check)
    body = b"grant_type=password&username=alice&password=wrong"
    head = b"POST /api/v1/auth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    gc.collect()
    before = len(refusals())
    gc.disable()
    try:
        asked = asyncio.create_task(send(client, head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body), b"\0" * MUCH))
        await asyncio.sleep(0.3)
        assert len(refusals()) <= before + 1
        go_on.set()
        answered = await asked
    finally:
        gc.enable()
    # The request is answered, and then once what came after it.
    assert answered.count(b"invalid_grant") == 1
    assert answered.count(b"does not follow HTTP") == 1


async def test_a_body_that_becomes_malformed_is_refused_at_once(client: Client) -> None:
    head = b"POST /api/v1/auth/token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    async with asyncio.timeout(5):
        answered = await send(client, head + b"Content-Type: application/json\r\n\r\n3\r\n{}x\r\n", b"no size\r\n")
    assert answered.startswith(b"HTTP/1.1 400 ")
