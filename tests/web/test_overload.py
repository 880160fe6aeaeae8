"""Overload, against the service as a process: a thousand connections and a storm of logins at a real number of rounds, and
clients that stall in the middle of a request."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

from referral.app import create_app
from referral.auth.passwords import MAX_WAITING_PER_CORE
from referral.web import bodies, server
from tests.conftest import MakeConfig
from tests.support.people import API, PASSWORD
from tests.test_faults import Service

CONNECTIONS = 1_000
# The service gets two at most: what a storm is depends on how many there are.
CORES = sorted(os.sched_getaffinity(0))[:2]
# Two less than the default: what waits then waits a quarter as long, and still for seconds.
ROUNDS = "10"
LOGINS = 400
LOOK_UPS = 100
# What the service may grow by under all of it, in KiB: 1,000 connections and 128 passwords need less than 40 KiB each.
MORE_MEMORY = 80 * 1024


@pytest.fixture
def engine() -> str:
    return "sqlite"


@pytest.fixture
def files() -> Iterator[None]:
    """As many open files as the test's own ends of the connections are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard == resource.RLIM_INFINITY or hard > 2 * CONNECTIONS, f"this needs {2 * CONNECTIONS} open files: ulimit -Hn"
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def service(tmp_path: Path, database_url: str, files: None) -> Iterator[Service]:
    found = Service(tmp_path, database_url)
    # It begins with what many systems give, and must help itself to more.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def confine() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        os.sched_setaffinity(0, CORES)

    found.start(confine, REFERRAL_AUTH_BCRYPT_ROUNDS=ROUNDS)
    yield found
    if found.process and found.process.poll() is None:
        found.end(signal.SIGKILL)
    assert "Traceback" not in found.log.read_text()


def memory(service: Service) -> int:
    """The resident memory of the service in KiB."""
    assert service.process
    [line] = [
        line for line in Path(f"/proc/{service.process.pid}/status").read_text().splitlines() if line.startswith("VmRSS:")
    ]
    return int(line.split()[1])


async def connect(port: int, count: int) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    return await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(count)))


def port_of(service: Service) -> int:
    return int(service.address.rpartition(":")[2])


async def test_in_a_storm_of_logins_on_a_thousand_connections_look_ups_are_answered_and_memory_is_bounded(
    service: Service,
) -> None:
    async with ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=60)) as session:

        async def call(method: str, path: str, token: str = "", **options: Any) -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with session.request(method, f"{service.address}{path}", headers=headers, **options) as response:
                if response.status == 503:
                    assert int(response.headers["Retry-After"]) >= 1
                return response.status, await response.json(content_type=None)

        body = {"email": "alice@example.com", "password": PASSWORD, "username": "alice"}
        status, alice = await call("POST", f"{API}/auth/register", json=body)
        assert status == 201
        status, made = await call("POST", f"{API}/codes", alice["access_token"], json={"ttl_days": 1})
        assert status == 201
        before = memory(service)
        idle = await connect(port_of(service), CONNECTIONS)
        started = time.monotonic()

        async def sign_in() -> tuple[int, float]:
            form = {"grant_type": "password", "username": "alice", "password": PASSWORD}
            status, _ = await call("POST", f"{API}/auth/token", data=form)
            return status, time.monotonic() - started

        storm = [asyncio.create_task(sign_in()) for _ in range(LOGINS)]
        look_ups = []
        for _ in range(LOOK_UPS):
            asked = time.monotonic()
            status, _ = await call("GET", f"{API}/codes/{made['code']}")
            assert status == 200
            look_ups.append(time.monotonic() - asked)
        # While passwords still wait.
        assert not all(task.done() for task in storm)
        status, me = await call("GET", f"{API}/users/me", alice["access_token"])
        assert (status, me["username"]) == (200, "alice")
        peak = memory(service)
        results = await asyncio.gather(*storm)
        for _, writer in idle:
            writer.close()
        accepted = [seconds for status, seconds in results if status == 200]
        refused = [seconds for status, seconds in results if status == 503]
        print(f"logins: {len(accepted)} in {max(accepted):.1f} s, {len(refused)} refused in {max(refused):.1f} s")
        print(f"look-ups: {len(look_ups)}, the slowest in {max(look_ups) * 1000:.0f} ms")
        print(f"memory: {before} KiB before, {peak} KiB at the height")
        assert len(accepted) + len(refused) == LOGINS
        # No more than may wait, and what has gone through meanwhile.
        assert MAX_WAITING_PER_CORE * len(CORES) <= len(accepted) < LOGINS / 2
        # Who is refused hears it long before who waits gets through.
        assert max(refused) < max(accepted)
        assert peak - before < MORE_MEMORY
        assert (await call("GET", "/health/ready"))[0] == 200
    assert service.end() == 0


# Clients that stall

GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
async def port(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Of a service that waits for no head and no body longer than 0.4 s."""
    monkeypatch.setattr(server, "HEAD_TIMEOUT", 0.4)
    monkeypatch.setattr(bodies, "BODY_TIMEOUT", 0.4)
    runner = server.Runner(create_app(make_config()))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def answered(reader: asyncio.StreamReader) -> bytes:
    """The head of the next answer; its body is read, too."""
    head = await reader.readuntil(b"\r\n\r\n")
    [length] = [int(line.partition(b":")[2]) for line in head.splitlines() if line.lower().startswith(b"content-length:")]
    await reader.readexactly(length)
    return head


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What still came before the connection was closed."""
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionResetError:
        return b""


async def test_heads_that_stall_are_cut_while_others_are_answered(port: int) -> None:
    stalled = await connect(port, 200)
    for number, (_, writer) in enumerate(stalled):
        # In the middle of the first line, after it, and before the last one.
        writer.write(GET[: (7, 27, len(GET))[number % 3]])
    reader, writer = (await connect(port, 1))[0]
    writer.write(GET + b"\r\n")
    assert (await answered(reader)).startswith(b"HTTP/1.1 200")
    assert await asyncio.gather(*(closed(reader) for reader, _ in stalled)) == [b""] * 200
    # It has been idle for longer than a head may take.
    writer.write(GET + b"\r\n")
    assert (await answered(reader)).startswith(b"HTTP/1.1 200")
    for _, each in (*stalled, (reader, writer)):
        each.close()


async def test_a_head_that_comes_by_the_byte_is_cut_and_so_is_the_second_one_on_a_connection(port: int) -> None:
    (reader, writer), (again, second) = await connect(port, 2)
    second.write(GET + b"\r\n")
    assert (await answered(again)).startswith(b"HTTP/1.1 200")
    second.write(GET)
    ends = asyncio.gather(closed(reader), closed(again))
    for position in range(len(GET)):
        if ends.done():
            break
        with contextlib.suppress(ConnectionError):
            writer.write(GET[position : position + 1])
            await writer.drain()
        await asyncio.sleep(0.05)
    assert position < len(GET) - 1
    assert set(await ends) == {b""}
    writer.close()
    second.close()


async def test_a_head_in_two_parts_within_the_time_is_answered_and_nothing_is_cut_afterwards(port: int) -> None:
    [(reader, writer)] = await connect(port, 1)
    for _ in range(3):
        writer.write(GET)
        await asyncio.sleep(0.2)
        writer.write(b"\r\n")
        assert (await answered(reader)).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_bodies_that_stall_are_answered_with_408_while_others_are_served(port: int) -> None:
    head = (
        f"POST {API}/auth/register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    ).encode()
    stalled = await connect(port, 200)
    for _, writer in stalled:
        writer.write(head)
    [(reader, writer)] = await connect(port, 1)
    writer.write(GET + b"\r\n")
    assert (await answered(reader)).startswith(b"HTTP/1.1 200")
    answers = await asyncio.gather(*(answered(reader) for reader, _ in stalled))
    assert {answer.split()[1] for answer in answers} == {b"408"}
    for _, each in (*stalled, (reader, writer)):
        each.close()
