"""The drain: what is answered between SIGTERM and the end, by one process and by several workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from referral.web import drain
from tests.support.people import API
from tests.support.servers import free_port, listens, wait_until
from tests.support.service import is_ready, run_py, started

GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = b'{"token": "no token of this service"}'
POST = b"POST /api/v1/auth/revoke HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 37\r\n\r\n"

EVERY_NUMBER = pytest.mark.parametrize("workers", [1, 2])


class Service:
    """`run.py serve`, while it runs."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.stack = contextlib.ExitStack()

    def connect(self) -> HTTPConnection:
        """A connection that was used, and is kept alive."""
        found = HTTPConnection("127.0.0.1", self.port, timeout=10)
        self.stack.callback(found.close)
        assert ask(found) == 200
        assert not is_last(found)
        return found

    def raw(self, sent: bytes = b"") -> socket.socket:
        found = self.stack.enter_context(socket.create_connection(("127.0.0.1", self.port), 10))
        found.sendall(sent)
        return found

    def processes(self) -> list[int]:
        """The one that is started first, and its workers."""
        pid = self.process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """`serve(workers=2, drain=1)`: a service on SQLite, which must have ended in good order by itself when the test does."""
    with contextlib.ExitStack() as stack:

        def start(workers: int, **settings: Any) -> Service:
            port = free_port()
            environ = {
                "REFERRAL_SERVER_PORT": str(port),
                "REFERRAL_SERVER_WORKERS": str(workers),
                "REFERRAL_CACHE_URL": "none://",
                **{f"REFERRAL_SERVER_{name.upper()}": str(value) for name, value in settings.items()},
            }
            address = f"http://127.0.0.1:{port}"
            process = stack.enter_context(started(tmp_path, lambda: is_ready(address), environ, run_py(tmp_path)))
            service = Service(process, port)
            stack.enter_context(service.stack)
            wait_until(lambda: len(service.processes()) == (1 if workers == 1 else 1 + workers))
            return service

        yield start
        assert "Traceback" not in (tmp_path / "service.log").read_text()


def ask(connection: HTTPConnection, path: str = "/health/live") -> int:
    """The status of a GET, whose answer has been read. Nothing is sent a second time."""
    connection.request("GET", path)
    with connection.getresponse() as response:
        response.read()
        return response.status


def is_last(connection: HTTPConnection) -> bool:
    """Whether the latest answer ended the connection."""
    return connection.sock is None


def end_of(service: Service) -> int:
    return service.process.wait(30)


@EVERY_NUMBER
def test_sigterm_takes_the_readiness_first_and_the_connections_when_its_time_is_over(
    serve: Callable[..., Service], workers: int
) -> None:
    service = serve(workers, drain=2)
    kept = [service.connect() for _ in range(8)]
    began = time.monotonic()
    # As systemd does, to each process of a service.
    for pid in service.processes():
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_ready(f"http://127.0.0.1:{service.port}"))
    while time.monotonic() - began < 1.5:
        for connection in kept:
            assert ask(connection) == 200
            assert not is_last(connection), "all but the readiness is as it was"
            assert ask(connection, "/health/ready") == 503
            assert not is_last(connection)
        assert not is_ready(f"http://127.0.0.1:{service.port}")
        # A second one changes nothing.
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    while kept:
        for connection in kept:
            assert ask(connection) == 200
        kept = [connection for connection in kept if not is_last(connection)]
        time.sleep(0.02)
    assert time.monotonic() - began >= 2
    assert end_of(service) == 0


@EVERY_NUMBER
def test_a_connection_on_which_nothing_comes_is_closed_and_one_that_is_used_is_ended_by_its_answer(
    serve: Callable[..., Service], workers: int
) -> None:
    service = serve(workers)
    lazy = [service.connect() for _ in range(4)]
    time.sleep(drain.QUIET)
    used = [service.connect() for _ in range(8)]
    service.process.send_signal(signal.SIGTERM)
    for connection in lazy:
        assert connection.sock.recv(1) == b""
    # Longer ago than any answer of theirs.
    time.sleep(drain.QUIET / 3)
    for connection in used:
        assert ask(connection) == 200
        assert is_last(connection)
    assert end_of(service) == 0


@EVERY_NUMBER
def test_what_waits_in_the_queue_of_the_socket_is_answered(serve: Callable[..., Service], workers: int) -> None:
    service = serve(workers)
    pids = service.processes()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    clients = [service.raw(GET) for _ in range(100)]
    # The sockets close before a second has passed: without connections there is nothing to wait for.
    service.process.send_signal(signal.SIGTERM)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    for client in clients:
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert end_of(service) == 0


@EVERY_NUMBER
def test_a_body_that_is_on_its_way_is_waited_for(serve: Callable[..., Service], workers: int) -> None:
    service = serve(workers)
    clients = [service.raw(POST) for _ in range(4)]
    time.sleep(0.1)
    service.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not listens(service.port), 10)
    for client in clients:
        client.sendall(BODY)
        answer = client.recv(4000)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert b"\r\nConnection: close\r\n" in answer
    assert end_of(service) == 0


def test_whoever_connects_while_the_queue_is_emptied_is_refused_and_has_sent_nothing(serve: Callable[..., Service]) -> None:
    service = serve(1)
    slow = service.raw(POST)
    service.process.send_signal(signal.SIGTERM)
    refused = 0
    while refused < 10:
        try:
            client = service.raw()
        except ConnectionRefusedError:
            refused += 1
            continue
        client.sendall(GET)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 "), "whoever is let in is answered"
    slow.sendall(BODY)
    assert slow.recv(4000).startswith(b"HTTP/1.1 200 ")
    assert end_of(service) == 0


class Greeting(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.WriteTransport, transport).write(b"served")


def test_a_socket_whose_queue_was_emptied_resets_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "HANDSHAKE", 0)
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)

    async def close_under_load() -> list[bytes]:
        server = await asyncio.get_running_loop().create_server(Greeting, sock=listener, backlog=100)
        clients = [socket.create_connection(address) for _ in range(100)]
        await drain.empty_queue(server.sockets[0].fileno())
        server.close()
        return await asyncio.to_thread(read, clients)

    def read(clients: list[socket.socket]) -> list[bytes]:
        found = []
        for client in clients:
            with client:
                client.settimeout(10)
                found.append(client.recv(100))
        return found

    address = listener.getsockname()
    # The loop of the service, which accepts one at a time.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(close_under_load()) == 100 * [b"served"]
        runner.run(asyncio.sleep(0.1))


def key_of(folder: Path) -> str:
    """A service key that may read."""
    command = [*run_py(folder), "keys", "create", "reader", "--scope", "read"]
    made = subprocess.run(command, cwd=folder, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True)
    return made.stdout.split()[-1]


@EVERY_NUMBER
def test_whoever_waits_for_changes_is_answered_when_connections_end(
    serve: Callable[..., Service], tmp_path: Path, workers: int
) -> None:
    service = serve(workers)
    head = f"GET {API}/changes?after=0&wait=30 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key_of(tmp_path)}\r\n\r\n"
    waiting = [service.raw(head.encode()) for _ in range(4)]
    time.sleep(0.3)
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    for client in waiting:
        answer = client.recv(4000)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert b"\r\nConnection: close\r\n" in answer
    assert time.monotonic() - began < 10
    assert end_of(service) == 0


@EVERY_NUMBER
def test_ctrl_c_waits_for_no_proxy(serve: Callable[..., Service], workers: int) -> None:
    service = serve(workers, drain=300)
    service.connect()
    # As a terminal does.
    for pid in service.processes():
        os.kill(pid, signal.SIGINT)
    assert end_of(service) == 0


@pytest.mark.parametrize(("workers", "status"), [(1, 130), (2, 0)])
def test_ctrl_c_ends_the_leaving(serve: Callable[..., Service], workers: int, status: int) -> None:
    service = serve(workers, drain=300)
    service.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not is_ready(f"http://127.0.0.1:{service.port}"))
    service.process.send_signal(signal.SIGINT)
    assert end_of(service) == status


def test_workers_that_are_replaced_do_not_leave_and_sigterm_is_heard_meanwhile(serve: Callable[..., Service]) -> None:
    service = serve(2, drain=1)
    address = f"http://127.0.0.1:{service.port}"
    # They hold the workers that are replaced up, and with them the master.
    slow = [service.raw(POST) for _ in range(8)]
    time.sleep(0.3)
    service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(service.processes()) == 5)
    end = time.monotonic() + 3 * drain.QUIET
    while time.monotonic() < end:
        assert is_ready(address)
        time.sleep(0.05)
    service.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not is_ready(address), 10)
    wait_until(lambda: not listens(service.port), 10)
    for client in slow:
        client.sendall(BODY)
        assert client.recv(4000).startswith(b"HTTP/1.1 200 ")
    assert end_of(service) == 0


def test_an_idle_connection_is_kept_for_as_long_as_the_setting_says(serve: Callable[..., Service]) -> None:
    service = serve(1, keepalive=1)
    used, silent = service.connect(), service.raw()
    began = time.monotonic()
    assert used.sock.recv(1) == silent.recv(1) == b""
    assert 0.5 < time.monotonic() - began < 10
    service.process.terminate()
    assert end_of(service) == 0
