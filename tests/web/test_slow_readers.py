"""Clients that do not read their answer, or never ask: they are cut, and hold no stop up."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from referral.app import create_app
from referral.web import server
from referral.web.answers import PIECE
from tests.conftest import Eventually, MakeConfig
from tests.support.servers import free_port
from tests.support.service import is_ready, run_py, started

# Several are more than what the system buffers for a client that reads nothing.
BIG = b"GET /assets/redoc.standalone.js HTTP/1.1\r\nHost: x\r\n\r\n"
SMALL = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
# `run.py` with a shorter patience, in which nothing else differs.
HASTY = (
    "import sys; sys.argv[0] = {run!r}; sys.path.insert(0, {root!r})\n"
    "import referral.web.server as server\n"
    "server.SHUTDOWN_TIMEOUT, server.BREAK_OFF_TIMEOUT = 0.5, 0.5\n"
    "import run; sys.exit(run.main())"
)


@pytest.fixture
def engine() -> str:
    return "sqlite"


@pytest.fixture
async def runner(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[server.Runner]:
    """A service that waits for no reader longer than 0.4 s and stops within a second."""
    monkeypatch.setattr(server, "UNREAD_TIMEOUT", 0.4)
    monkeypatch.setattr(server, "LOOK_PAUSE", 0.1)
    monkeypatch.setattr(server, "BREAK_OFF_TIMEOUT", 0.3)
    monkeypatch.setattr(server, "SHUTDOWN_TIMEOUT", 0.3)
    found = server.Runner(create_app(make_config(server_keepalive="1")))
    await found.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    # The system takes little of an answer at a time: what nobody has read is still the service's to send.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    await web.SockSite(found, listener).start()
    yield found
    await found.cleanup()


def connect(port: int) -> socket.socket:
    """A connection whose client takes little at a time, and nothing unless it reads."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.connect(("127.0.0.1", port))
    client.setblocking(False)
    return client


async def read_slowly(client: socket.socket, seconds: float) -> None:
    """Read an answer to its end, and for so long in small pieces with pauses. Fails when it breaks off."""
    loop = asyncio.get_running_loop()
    received, began = 0, loop.time()
    whole = 0
    head = b""
    while not whole or received < whole:
        data = await loop.sock_recv(client, 16_384)
        assert data
        received += len(data)
        if not whole:
            head += data
            if b"\r\n\r\n" in head:
                start = head.partition(b"\r\n\r\n")[0].lower()
                whole = len(start) + 4 + int(start.partition(b"content-length: ")[2].split()[0])
        if loop.time() - began < seconds:
            await asyncio.sleep(0.05)
    assert received == whole


def connections(runner: server.Runner) -> int:
    assert runner.server is not None
    return len(runner.server.connections)


@pytest.mark.parametrize("closing", [False, True])
async def test_an_answer_that_nobody_reads_is_given_up(runner: server.Runner, eventually: Eventually, closing: bool) -> None:
    port, loop = runner.addresses[0][1], asyncio.get_running_loop()
    last = BIG.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") if closing else BIG
    stalled = [connect(port) for _ in range(20)]
    for client in stalled:
        await loop.sock_sendall(client, 4 * BIG + last)
    await eventually(lambda: connections(runner) == 20)
    await eventually(lambda: connections(runner) == 0)
    for client in stalled:
        client.close()


@pytest.mark.parametrize("path", ["/assets/page.css", "/assets/redoc.standalone.js", "/openapi.json", "/metrics"])
async def test_whoever_hangs_up_is_no_error(
    runner: server.Runner, eventually: Eventually, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    loop, request = asyncio.get_running_loop(), f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    for number in range(20):
        client = connect(runner.addresses[0][1])
        if number % 2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await loop.sock_sendall(client, request * (1 + number % 3))
        client.close()
        await asyncio.sleep(0.005)
    await eventually(lambda: connections(runner) == 0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("path", ["/assets/redoc.standalone.js", "/openapi.json"])
async def test_whoever_reads_slowly_holds_a_piece_of_an_answer_and_not_all_of_it(
    runner: server.Runner, eventually: Eventually, path: str
) -> None:
    port, loop = runner.addresses[0][1], asyncio.get_running_loop()
    slow = [connect(port) for _ in range(20)]
    for client in slow:
        await loop.sock_sendall(client, 10 * f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def waiting() -> list[int]:
        assert runner.server is not None
        wires = [connection.transport for connection in runner.server.connections]
        return [wire.get_write_buffer_size() for wire in wires if wire is not None]

    await eventually(lambda: len([size for size in waiting() if size]) == 20)
    assert max(waiting()) <= 2 * PIECE
    for client in slow:
        client.close()


async def test_whoever_reads_slowly_but_reads_gets_everything(runner: server.Runner) -> None:
    port, loop = runner.addresses[0][1], asyncio.get_running_loop()
    client = connect(port)
    await loop.sock_sendall(client, BIG)
    # For several times as long as a reader may pause.
    await read_slowly(client, 2)
    client.close()


async def test_a_connection_on_which_nothing_is_ever_sent_is_idle(runner: server.Runner) -> None:
    port, loop = runner.addresses[0][1], asyncio.get_running_loop()
    silent = [connect(port) for _ in range(20)]
    assert [await asyncio.wait_for(loop.sock_recv(client, 1), 20) for client in silent] == [b""] * 20
    for client in silent:
        client.close()


async def test_a_stop_waits_for_an_answer_that_is_being_read_and_not_for_one_that_is_not(
    runner: server.Runner, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SHUTDOWN_TIMEOUT", 2.5)
    port, loop = runner.addresses[0][1], asyncio.get_running_loop()
    stalled, reader = [connect(port) for _ in range(5)], connect(port)
    for client in stalled:
        await loop.sock_sendall(client, 5 * BIG)
    await loop.sock_sendall(reader, BIG)
    await eventually(lambda: connections(runner) == 6)
    reading = asyncio.create_task(read_slowly(reader, 1))
    began = loop.time()
    await runner.cleanup()
    # Each phase has its own end: three times their sum is far less than the two minutes that clients could take before.
    assert loop.time() - began < 10
    await reading
    for client in (*stalled, reader):
        client.close()


@contextlib.contextmanager
def hasty(folder: Path, **environ: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    program = HASTY.format(run=run_py(folder)[1], root=str(folder))
    settings = {"REFERRAL_SERVER_PORT": str(port), "REFERRAL_CACHE_URL": "none://", **environ}
    command = [sys.executable, "-c", program]
    with started(folder, lambda: is_ready(f"http://127.0.0.1:{port}"), settings, command) as process:
        yield process, port


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_ends_the_service_whatever_clients_do(tmp_path: Path, workers: str) -> None:
    with hasty(tmp_path, REFERRAL_SERVER_WORKERS=workers) as (process, port):
        clients = []
        for sent in (BIG, BIG[:-20], SMALL, b"", BIG * 20, SMALL + BIG + SMALL):
            client = connect(port)
            client.sendall(sent)
            clients.append(client)
        body = (
            b"POST /api/v1/auth/revoke HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
        )
        clients.append(connect(port))
        clients[-1].sendall(body)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        for client in clients:
            client.close()
    assert "Traceback" not in (tmp_path / "service.log").read_text()


def test_the_patience_of_a_stop_is_less_than_half_a_minute() -> None:
    from referral.background.mailer import STOP_GRACE
    from referral.web.drain import EMPTYING, HANDSHAKE, QUIET
    from referral.workers import GRACEFUL_TIMEOUT

    assert QUIET + HANDSHAKE + EMPTYING < server.SHUTDOWN_TIMEOUT
    longest = server.SHUTDOWN_TIMEOUT + server.BREAK_OFF_TIMEOUT + STOP_GRACE
    assert longest < GRACEFUL_TIMEOUT <= 30
