"""Bodies that no call reads: encoded ones, and those that are declared too large. Nothing of them is inflated or parsed, and
the connection ends with the answer, which the client gets to read."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.conftest import Client
from tests.support.people import API
from tests.support.service import serving
from tests.support.wire import raw

# What has a handler that reads bodies, one that does not, one that needs a token, a page's form, no handler, and no route.
TARGETS = [
    f"POST {API}/auth/register",
    f"POST {API}/codes",
    f"GET {API}/codes/8ZK4M2QA",
    f"DELETE {API}/users/me",
    "POST /account/verify",
    "GET /health/live",
    "GET /docs",
    "POST /health/live",
    "GET /nope",
]
ENCODINGS = ["gzip", "GZIP", "x-gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip", "rot13"]


@pytest.fixture
def engine() -> str:
    return "sqlite"


@pytest.mark.parametrize("target", TARGETS)
async def test_an_encoded_body_is_refused_wherever_it_is_sent(client: Client, target: str) -> None:
    body = gzip.compress(b'{"email": "x"}')
    for encoding in ENCODINGS:
        for length in (f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"):
            head = (
                f"{target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                f"Content-Encoding: {encoding}\r\n{length}\r\n\r\n"
            )
            sent = body if "Length" in length else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            answer = await raw(client, head.encode() + sent, closes=True)
            assert (answer.status, answer.problem) == (415, "unsupported-encoding"), (encoding, length)
            # RFC 9110 section 12.5.3
            assert answer.headers["Accept-Encoding"] == "identity"


async def test_what_says_that_it_is_not_encoded_is_taken(client: Client) -> None:
    for encoding in ("identity", "Identity ", ""):
        answer = await client.post(f"{API}/auth/register", json={"email": "x"}, headers={"Content-Encoding": encoding})
        assert answer.status == 422, encoding
    # Without a body there is nothing to decode.
    assert (await client.get("/health/live", headers={"Content-Encoding": "gzip"})).status == 200


@pytest.mark.parametrize("target", TARGETS)
async def test_a_body_that_is_declared_too_large_is_refused_before_it_comes(client: Client, target: str) -> None:
    for length in (64 * 1024 + 1, 10**9, 2**63):
        head = f"{target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}"
        answer = await raw(client, f"{head}\r\n\r\n", closes=True)
        assert (answer.status, answer.problem) == (413, "payload-too-large"), length


async def test_nobody_is_told_to_go_on_with_what_will_not_be_read(client: Client) -> None:
    expecting = f"POST {API}/auth/register HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: application/json\r\n"
    for headers, status in (("Content-Length: 70000", 413), ("Content-Encoding: gzip\r\nContent-Length: 20", 415)):
        assert (await raw(client, f"{expecting}{headers}\r\n\r\n", closes=True)).status == status


async def test_a_client_that_sends_everything_before_it_reads_gets_its_answer(client: Client) -> None:
    def upload() -> bytes:
        with socket.create_connection(("127.0.0.1", client.port), timeout=5) as connection:
            head = (
                f"POST {API}/codes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500000\r\n\r\n"
            )
            connection.sendall(head.encode())
            # The answer comes at once. If the socket were closed behind it, one of the next pieces would meet a reset.
            for _ in range(50):
                time.sleep(0.005)
                connection.sendall(b" " * 10_000)
            received = b""
            while piece := connection.recv(65_536):
                received += piece
            return received

    for answer in await asyncio.gather(*(asyncio.to_thread(upload) for _ in range(4))):
        assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_client_that_sends_without_end_is_cut_off(client: Client) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"GET /nope HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
    with suppress(ConnectionError):
        async with asyncio.timeout(8):
            while True:
                writer.write(b"400\r\n" + bytes(1024) + b"\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
    writer.close()


# Seconds in which another client has to get its answers, under a flood that stopped the service for as long as it went on.
PATIENCE = 20.0
LOOK_UPS = 200


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path, REFERRAL_LIMITS_ENABLED="false") as address:
        yield address


def flood(port: int, head: bytes, zeros: bytes, stopped: threading.Event) -> None:
    """Send requests with compressed zeros without pause, each until it is cut off."""
    while not stopped.is_set():
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(head)
            while not stopped.is_set():
                connection.sendall(zeros)
                # 200 KB/s a connection: less than anybody's line.
                stopped.wait(0.02)


@pytest.mark.parametrize("target", [b"GET /nope", b"POST /api/v1/auth/token", b"POST /api/v1/users/me/referrer"])
def test_others_are_answered_while_compressed_zeros_stream_in(service: str, target: bytes) -> None:
    port = int(service.rpartition(":")[2])
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = packer.compress(bytes(4_000_000)) + packer.flush(zlib.Z_SYNC_FLUSH)
    more = packer.compress(bytes(4_000_000)) + packer.flush(zlib.Z_SYNC_FLUSH)
    head = target + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(start), start)
    stopped = threading.Event()
    zeros = b"%x\r\n%b\r\n" % (len(more), more)
    attackers = [threading.Thread(target=flood, args=(port, head, zeros, stopped)) for _ in range(2)]
    for attacker in attackers:
        attacker.start()
    began = time.monotonic()
    try:
        for _ in range(LOOK_UPS):
            with urlopen(f"{service}/health/live", timeout=PATIENCE) as answer:
                assert answer.status == 200
            assert time.monotonic() - began < PATIENCE
    finally:
        stopped.set()
        for attacker in attackers:
            attacker.join()


@pytest.mark.parametrize("target", ["POST /nope", "GET /health/live", f"POST {API}/codes"])
async def test_chunks_that_no_call_reads_end_the_connection(client: Client, target: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(f"{target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n".encode())
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"\r\nConnection: close\r\n" in head
        # The answer, and then the end, although more is on its way.
        await reader.read()
    writer.close()


async def test_a_second_header_hides_no_encoding(client: Client) -> None:
    head = f"POST {API}/auth/register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    encodings = "Content-Encoding: identity\r\nContent-Encoding: gzip\r\n"
    answer = await raw(client, f"{head}{encodings}\r\n{{}}", closes=True)
    assert (answer.status, answer.problem) == (415, "unsupported-encoding")
