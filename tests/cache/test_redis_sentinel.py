"""A master that real Sentinels replace: the client ends on the right one by itself, and nobody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hiredis import pack_command
from redis import asyncio as aioredis
from redis.exceptions import RedisError

from referral.cache.redis.client import RedisClient
from referral.cache.redis.connecting import Connector
from referral.config.redis_url import parse_redis_url
from referral.metrics import Metrics
from tests.conftest import Eventually, MakeClient
from tests.support.people import Person
from tests.support.sentinel import RedisSentinel, Watched
from tests.support.servers import RedisServer, free_port
from tests.support.smtp_server import Certificate

MakeRedis = Callable[..., RedisClient]

# Seconds for a command, more than in service: the machine may be busy.
TIMEOUT = 0.25
# More than anybody has to wait on a busy machine, and less than a connection to a server that hangs takes.
AT_ONCE, CONNECT_TIMEOUT = 2.4, 2.5
# Seconds in which a client is on the new master after the Sentinels have made it that: what is documented, and twice that.
FOLLOWED = 10.0


@pytest.fixture
def engine() -> str:
    return "sqlite"


@pytest.fixture
def sentinel() -> Iterator[RedisSentinel]:
    with RedisSentinel() as redis:
        yield redis
        # pytest shows it when the test failed.
        print(redis.logs())


@pytest.fixture
async def make_redis() -> AsyncIterator[MakeRedis]:
    """`make_redis(url)`: a client."""
    async with contextlib.AsyncExitStack() as stack:

        def make(url: str) -> RedisClient:
            client = RedisClient(url, Metrics(), TIMEOUT, CONNECT_TIMEOUT)
            stack.push_async_callback(client.close)
            return client

        yield make


async def leads_to(client: RedisClient, server: Watched) -> bool:
    reply = await client.ask("GET", "referral:any")
    return reply is not None and (await asyncio.to_thread(server.run_id)).startswith(reply.run_id[:20])


@contextlib.asynccontextmanager
async def asked_all_the_time(ask: Callable[[], Awaitable[object]]) -> AsyncIterator[list[float]]:
    """Asks again and again meanwhile; how long each answer took. Raises whatever asking raises."""
    took: list[float] = []

    async def keep_asking() -> None:
        while True:
            began = time.monotonic()
            await ask()
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.002)

    asking = asyncio.create_task(keep_asking())
    try:
        yield took
    finally:
        asking.cancel()
        await asyncio.wait([asking])
        if not asking.cancelled():
            asking.result()


async def replaced(sentinel: RedisSentinel, how: str) -> tuple[Watched, Watched]:
    """The former master and the new one."""
    former = await asyncio.to_thread(sentinel.master)
    if how == "told":
        return former, await asyncio.to_thread(sentinel.fail_over)
    (former.kill if how == "killed" else former.hang)()
    return former, await asyncio.to_thread(sentinel.replaced, former)


@pytest.mark.parametrize("how", ["killed", "hung", "told"])
async def test_a_client_follows_to_the_new_master_and_stays_there_when_the_former_one_is_back(
    sentinel: RedisSentinel, make_redis: MakeRedis, eventually: Eventually, how: str
) -> None:
    client = make_redis(sentinel.url)
    assert await eventually(lambda: leads_to(client, sentinel.servers[0]))
    async with asked_all_the_time(lambda: client.ask("GET", "referral:any")) as took:
        former, master = await replaced(sentinel, how)
        await eventually(lambda: leads_to(client, master), FOLLOWED)
        # It believes for a while that it is the master.
        if how == "hung":
            former.resume()
        elif how == "killed":
            await asyncio.to_thread(former.start)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert await leads_to(client, master)
            await asyncio.sleep(0.1)
    assert len(took) > 100
    assert max(took) < AT_ONCE


async def test_a_service_goes_on_while_the_master_is_replaced(
    sentinel: RedisSentinel, make_client: MakeClient, eventually: Eventually
) -> None:
    service = await make_client(cache_url=sentinel.url, cache_timeout="0.25", codes_public_lookup="true")
    alice = await Person.register(service, "alice")
    code = await alice.make_code()

    async def use() -> None:
        for answer in (await alice.get(f"/codes/{code}"), await alice.get("/users/me")):
            assert answer.status == 200

    async with asked_all_the_time(use) as took:
        _, master = await replaced(sentinel, "killed")
        async with aioredis.Redis.from_url(master.url) as inside:
            # Anew: of what the replica had, nothing counts.
            await eventually(lambda: _is_ready(service), FOLLOWED)
            await inside.flushall()
            await eventually(lambda: inside.get(f"referral:code:{code}"), FOLLOWED)
    assert max(took) < AT_ONCE


async def _is_ready(service: Any) -> bool:
    return bool((await Person(service, "").get("/health/ready")).body["status"] == "ok")


@pytest.mark.parametrize("loss", ["gone", "hung"])
@pytest.mark.parametrize("lost", [1, 2])
async def test_sentinels_that_do_not_answer_cost_little(sentinel: RedisSentinel, lost: int, loss: str) -> None:
    connector = Connector(parse_redis_url(sentinel.url))
    for one in sentinel.sentinels[:lost]:
        (one.kill if loss == "gone" else one.hang)()
    for _ in range(3):
        # A connection to each Sentinel is kept: those that are lost meanwhile are found out, too.
        async with asyncio.timeout(AT_ONCE):
            connection = await connector.connect()
        assert (await asyncio.to_thread(sentinel.servers[0].run_id)).startswith(connection.run_id[:20])
        await connection.disconnect()
    for one in sentinel.sentinels:
        one.kill()
    with pytest.raises(RedisError, match="no Sentinel names a master"):
        await connector.connect()
    await connector.close()


async def test_sentinels_that_are_all_back_are_asked_again(
    sentinel: RedisSentinel, make_redis: MakeRedis, eventually: Eventually
) -> None:
    client = make_redis(sentinel.url)
    for one in (*sentinel.sentinels, sentinel.servers[0]):
        one.kill()
    assert await client.ask("GET", "referral:any") is None
    for one in (*sentinel.servers[:1], *sentinel.sentinels):
        await asyncio.to_thread(one.start)
    await eventually(lambda: leads_to(client, sentinel.servers[0]), FOLLOWED)


@contextlib.asynccontextmanager
async def sentinel_that_says(port: int, epoch: int) -> AsyncIterator[int]:
    """The port of a Sentinel that is cut off from all others, and names this server."""

    # In the protocol of Redis, a list of texts is written as a command is.
    lists: tuple[tuple[Any, ...], ...] = (
        ("127.0.0.1", str(port)),
        ("name", "referral", "config-epoch", str(epoch)),
    )
    answer = b"".join(map(pack_command, lists))
    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError):
            while await reader.read(1_000):
                writer.write(answer)

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        for writer in writers:
            writer.transport.abort()


async def test_of_several_answers_that_of_the_latest_fail_over_counts(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
    with RedisServer(tmp_path / "1") as former, RedisServer(tmp_path / "2") as master:
        async with (
            sentinel_that_says(former.port, 3) as one,
            sentinel_that_says(master.port, 4) as two,
            sentinel_that_says(former.port, 3) as three,
        ):
            # Two of three that answer are a majority: here the one that knows is always among them.
            for ports in ((one, two, free_port()), (two, free_port(), three)):
                hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
                connector = Connector(parse_redis_url(f"redis+sentinel://{hosts}/referral"))
                connection = await connector.connect()
                assert connection.port == master.port
                await connection.disconnect()
                await connector.close()


async def test_a_replica_is_not_taken_for_the_master(
    sentinel: RedisSentinel, make_redis: MakeRedis, caplog: pytest.LogCaptureFixture
) -> None:
    replica = sentinel.servers[1]
    async with sentinel_that_says(replica.port, 9) as port:
        for url in (f"redis+sentinel://127.0.0.1:{port}/referral/0", replica.url):
            client = make_redis(url)
            assert await client.ask("GET", "referral:any") is None
            assert client.trouble == "cache.url leads to a replica, which shows changes late"
    assert "which shows changes late" in caplog.text


@pytest.mark.parametrize("name", ["another", "referral"])
async def test_a_name_that_no_sentinel_knows_is_logged_and_the_service_goes_on(
    sentinel: RedisSentinel, make_redis: MakeRedis, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    client = make_redis(sentinel.url.replace("/referral/", f"/{name}/"))
    await client.open()
    assert client.is_out == (name == "another")
    assert ("no Sentinel names a master: No such master with that name" in caplog.text) == client.is_out


async def test_through_tls_with_certificates_and_passwords_of_both(
    tmp_path: Path, make_redis: MakeRedis, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "p@ss/w:rd ?#"
    with RedisSentinel(1, certificate=Certificate.make(tmp_path), password=secret) as sentinel:
        client = make_redis(sentinel.url)
        assert await eventually(lambda: leads_to(client, sentinel.servers[0]))
        _, master = await replaced(sentinel, "killed")
        await eventually(lambda: leads_to(client, master), FOLLOWED)
        # Each password is of use: without that of the Sentinels, or with another one of Redis, nothing is reached.
        for part in ("sentinel_password=", "referral:"):
            wrong = make_redis(sentinel.url.replace(part, f"{part}wrong"))
            await wrong.open()
            assert wrong.is_out
        assert wrong.trouble == "cache.url leads to a Redis that refuses its user and password, or wants some"
    assert secret not in caplog.text


async def test_a_client_that_is_closed_while_it_follows_leaves_nothing_behind(sentinel: RedisSentinel) -> None:
    before = asyncio.all_tasks()
    client = RedisClient(sentinel.url, Metrics(), TIMEOUT, CONNECT_TIMEOUT)
    await client.open()
    assert asyncio.all_tasks() != before
    await client.close()
    assert asyncio.all_tasks() == before
