"""Another Redis takes the place of the believed one, and the former comes back: which one counts, and from when on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import asyncio as aioredis

from referral.cache.epoch import EPOCH_WAIT, Epoch
from referral.cache.invalidation import Invalidation, invalidating
from referral.cache.redis import epoch as module
from referral.cache.redis.client import FOLLOW_INTERVAL, RedisClient, Reply
from referral.cache.redis.codes import RedisCodeCache
from referral.cache.redis.epoch import RedisInvalidation
from referral.database import Database
from referral.metrics import Metrics
from referral.queries import cache_epoch
from tests.cache.conftest import believed
from tests.cache.test_redis import active, cached_code, hits, is_ok, is_void, loading, never
from tests.conftest import Eventually, MakeClient
from tests.support.endings import ended
from tests.support.people import Person
from tests.support.servers import PostgresServer, Proxy, RedisServer
from tests.support.standby import Standby

MakeCache = Callable[[RedisServer], RedisCodeCache]


@pytest.fixture
def other_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A second Redis, which shares nothing with the first until it is told to follow it."""
    with RedisServer(tmp_path, "--repl-diskless-sync-delay", "0") as server:
        yield server


@pytest.fixture
async def proxy(redis: RedisServer) -> AsyncIterator[Proxy]:
    """The one address of whichever Redis is master."""
    async with Proxy(redis.port) as between:
        yield between


@pytest.fixture
async def cache_of(redis: RedisServer, database: Database) -> AsyncIterator[MakeCache]:
    """`cache_of(server)`: what a worker that reaches this Redis knows. The first one is believed."""
    async with contextlib.AsyncExitStack() as stack:

        def make(server: RedisServer) -> RedisCodeCache:
            invalidation = RedisInvalidation(RedisClient(server.url, Metrics()), database)
            stack.push_async_callback(invalidation.close)
            return RedisCodeCache(Metrics(), invalidation)

        await believed(redis, database)
        yield make


async def lead_to(proxy: Proxy, server: RedisServer) -> None:
    await proxy.cut()
    proxy.target = server.port
    await proxy.mend()


async def command(server: RedisServer, *words: str) -> Any:
    client: Any
    async with aioredis.Redis.from_url(server.url, decode_responses=True) as client:
        return await client.execute_command(*words)


async def follow(replica: RedisServer, master: RedisServer) -> None:
    """Make one a replica of the other that has all of it."""
    await command(replica, "REPLICAOF", "127.0.0.1", str(master.port))
    async with asyncio.timeout(20):
        while (await command(replica, "ROLE"))[3] != "connected":
            await asyncio.sleep(0.01)
    assert await command(master, "WAIT", "1", "10000") == 1


async def test_what_ended_while_another_redis_was_master_stays_ended_when_the_former_comes_back(
    make_client: MakeClient, proxy: Proxy, redis: RedisServer, other_redis: RedisServer, eventually: Eventually
) -> None:
    url = f"redis://127.0.0.1:{proxy.port}/0"
    clients = [await make_client(cache_url=url, codes_public_lookup="true") for _ in range(2)]
    alice = await Person.register(clients[0], "alice")
    code = await cached_code(alice)
    elsewhere = Person(clients[1], alice.email, tokens=alice.tokens)
    assert (await elsewhere.get("/users/me")).status == 200
    for client in clients:
        assert await hits(client, code)
    # 1. The other one has all that the first one has, and takes over: the first knows nothing of it.
    await follow(other_redis, redis)
    await command(other_redis, "REPLICAOF", "NO", "ONE")
    await lead_to(proxy, other_redis)
    for client in clients:
        await eventually(lambda client=client: is_ok(client), 5)
    # 2. The code and the session end ...
    assert (await alice.delete("/codes/current")).status == 204
    assert (await alice.call("POST", "/auth/revoke", data={"token": alice.tokens["refresh_token"]})).status == 200
    # 3. ... and the first one is master again, with the entry and the word of before.
    await lead_to(proxy, redis)
    assert await command(redis, "EXISTS", f"referral:code:{code}") == 1
    for _ in range(5):
        for client in clients:
            assert await ended(Person(client, ""), code, alice.email)
            assert (await Person(client, "", tokens=alice.tokens).get("/users/me")).problem == "unauthorized"
        await asyncio.sleep(EPOCH_WAIT / 2)
    for client in clients:
        await eventually(lambda client=client: is_ok(client), 5)
        assert await ended(Person(client, ""), code, alice.email)
    kept = await cached_code(await Person.register(clients[0], "bob"))
    for client in clients:
        await eventually(lambda client=client: hits(client, kept), 5)


async def test_two_workers_that_reach_different_redises_see_each_others_changes_at_once(
    make_client: MakeClient, redis: RedisServer, other_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that the belief goes to and fro all the time.
    monkeypatch.setattr(module, "BELIEF_PAUSE", 0.05)
    clients = [await make_client(cache_url=server.url, codes_public_lookup="true") for server in (redis, other_redis)]
    people = [await Person.register(client, f"person{number}") for number, client in enumerate(clients)]
    for attempt in range(12):
        mine, other = attempt % 2, 1 - attempt % 2
        code, reader = await people[mine].make_code(), Person(clients[other], "")
        for _ in range(attempt):
            assert not await ended(reader, code, people[mine].email)
            assert not await ended(people[mine], code, people[mine].email)
            await asyncio.sleep(0.02)
        assert (await people[mine].delete("/codes/current")).status == 204
        for _ in range(3):
            assert await ended(reader, code, people[mine].email)
            assert await ended(people[mine], code, people[mine].email)


async def test_a_replica_that_lost_writes_shows_nothing_of_what_it_kept(
    make_client: MakeClient, proxy: Proxy, redis: RedisServer, other_redis: RedisServer, eventually: Eventually
) -> None:
    client = await make_client(cache_url=f"redis://127.0.0.1:{proxy.port}/0", codes_public_lookup="true")
    alice = await Person.register(client, "alice")
    code = await cached_code(alice)
    assert await hits(client, code)
    await follow(other_redis, redis)
    # From here on nothing reaches the replica.
    await command(other_redis, "REPLICAOF", "NO", "ONE")
    assert (await alice.delete("/codes/current")).status == 204
    redis.kill()
    await lead_to(proxy, other_redis)
    assert await command(other_redis, "EXISTS", f"referral:code:{code}") == 1
    for _ in range(3):
        assert await ended(alice, code, alice.email)
    await eventually(lambda: is_ok(client), 5)
    assert await ended(alice, code, alice.email)


async def test_a_master_that_became_a_replica_answers_nobody(
    make_client: MakeClient, redis: RedisServer, other_redis: RedisServer
) -> None:
    """Its connections stay, and it would go on answering reads, with what it gets from its master."""
    mine = await make_client(cache_url=redis.url, codes_public_lookup="true")
    alice = await Person.register(mine, "alice")
    code = await cached_code(alice)
    assert await hits(mine, code)
    stale = await command(redis, "GET", f"referral:code:{code}")
    await command(other_redis, "SET", f"referral:code:{code}", stale)
    assert (await alice.delete("/codes/current")).status == 204
    await follow(redis, other_redis)
    assert await command(redis, "GET", f"referral:code:{code}") == stale
    for _ in range(3):
        assert await ended(alice, code, alice.email)


async def test_a_master_that_was_a_replica_in_between_is_another(
    make_client: MakeClient, redis: RedisServer, other_redis: RedisServer, eventually: Eventually
) -> None:
    """Neither its run id nor the connection tells: nobody asked while it was a replica."""
    mine = await make_client(cache_url=redis.url, codes_public_lookup="true")
    alice = await Person.register(mine, "alice")
    code = await cached_code(alice)
    entries = {name: await command(redis, "GET", name) for name in await command(redis, "KEYS", "referral:*:*")}
    for name, stale in entries.items():
        await command(other_redis, "SET", name, stale)
    assert (await alice.delete("/codes/current")).status == 204
    await follow(redis, other_redis)
    await command(redis, "REPLICAOF", "NO", "ONE")
    assert await command(redis, "GET", f"referral:code:{code}") == entries[f"referral:code:{code}"]
    await asyncio.sleep(FOLLOW_INTERVAL + 0.3)
    assert await ended(alice, code, alice.email)
    await eventually(lambda: is_ok(mine), 5)
    assert await ended(alice, code, alice.email)


async def test_one_that_is_restarted_is_another(
    cache_of: MakeCache, redis: RedisServer, database: Database, eventually: Eventually
) -> None:
    cache = cache_of(redis)
    await cache.by_code("ALICE1", loading(active()))
    before = await Epoch(database).fresh()
    entry = await command(redis, "GET", "referral:code:ALICE1")
    redis.kill()
    redis.start()
    await command(redis, "SET", "referral:code:ALICE1", entry)
    await is_void(cache)
    await eventually(cache.healthy, 5)
    await is_void(cache)
    after = await Epoch(database).fresh()
    assert after.epoch > before.epoch
    assert after.redis != before.redis


@pytest.mark.parametrize("engine", ["sqlite", "postgres"], indirect=True)
async def test_a_change_that_told_the_former_one_is_committed_before_another_is_believed(
    cache_of: MakeCache, database: Database, redis: RedisServer, other_redis: RedisServer, engine: str
) -> None:
    mine, other = cache_of(redis), cache_of(other_redis)
    row: list[Any] = [active()]

    async def load() -> Any:
        return row[0]

    changes = Invalidation(mine)
    async with invalidating(database, changes):
        changes.add("ALICE1")
        committing = asyncio.Event()
        # What is behind this runs after the cache was told, as the commit does.
        changes.before_commit = _then(changes.before_commit, committing)  # type: ignore[method-assign, assignment]
        taking_over = asyncio.create_task(_when(committing, other))
    row[0] = None
    reply = await taking_over
    assert (await Epoch(database).fresh()).redis == reply.run_id
    # Whatever was filled while the former row could still be read is void by now.
    for cache in (mine, other):
        assert await cache.by_code("ALICE1", load) is None


def _then(before_commit: Callable[..., Awaitable[None]], committing: asyncio.Event) -> Callable[..., Awaitable[None]]:
    async def call(conn: Any) -> None:
        await before_commit(conn)
        held = await cache_epoch.find_epoch(conn)
        committing.set()
        # The other one tries to be believed meanwhile, and cannot.
        await asyncio.sleep(3 * EPOCH_WAIT)
        assert await cache_epoch.find_epoch(conn) == held

    return call


async def _when(committing: asyncio.Event, cache: RedisCodeCache) -> Reply:
    await committing.wait()
    reply = await cache._redis.ask("PING")
    assert reply
    await cache._invalidation._have_believed(reply.run_id)
    return reply


async def test_while_one_takes_anothers_place_none_is_believed_and_changes_make_all_void(
    cache_of: MakeCache, database: Database, redis: RedisServer, other_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = cache_of(redis), cache_of(other_redis)
    await mine.by_code("ALICE1", loading(active()))
    assert await mine.by_code("ALICE1", never)
    epoch = Epoch(database)
    halfway, go_on = asyncio.Event(), asyncio.Event()
    # Nobody else takes over meanwhile.
    monkeypatch.setattr(RedisInvalidation, "_meet", lambda invalidation: None)
    sleep = asyncio.sleep

    async def stop_halfway(seconds: float) -> None:
        if seconds == EPOCH_WAIT and asyncio.current_task() is taking_over:
            halfway.set()
            await go_on.wait()
        await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", stop_halfway)
    reply = await other._redis.ask("PING")
    assert reply
    taking_over = asyncio.create_task(other._invalidation._have_believed(reply.run_id))
    await halfway.wait()
    between = await epoch.fresh()
    assert str(between.redis).startswith(f"next {reply.run_id} ")
    # A lease of the former epoch has ended before another one can be believed.
    await sleep(EPOCH_WAIT)
    for cache in (mine, other):
        assert await cache.by_code("ALICE1", loading(None)) is None
        changes = Invalidation(cache)
        async with invalidating(database, changes):
            changes.add("ALICE1")
    assert (await epoch.fresh()).epoch == between.epoch + 2
    go_on.set()
    await taking_over
    assert (await epoch.fresh()).redis == reply.run_id
    await other.by_code("ALICE1", loading(active()))
    assert await other.by_code("ALICE1", never)


async def test_of_two_that_take_over_at_once_one_is_believed(
    cache_of: MakeCache, database: Database, redis: RedisServer, other_redis: RedisServer, tmp_path_factory: Any
) -> None:
    with RedisServer(tmp_path_factory.mktemp("third")) as third:
        takers = [cache_of(server) for server in (other_redis, third, other_redis, third)]
        replies = [await cache._redis.ask("PING") for cache in takers]
        await asyncio.gather(
            *(
                cache._invalidation._have_believed(reply.run_id)
                for cache, reply in zip(takers, replies, strict=True)
                if reply is not None
            )
        )
        believed_one = (await Epoch(database).fresh()).redis
        assert believed_one in {reply.run_id for reply in replies if reply}


async def test_a_worker_killed_half_way_leaves_nobody_believed_until_the_next_one_comes(
    cache_of: MakeCache, database: Database, redis: RedisServer, other_redis: RedisServer, eventually: Eventually
) -> None:
    other = cache_of(other_redis)
    reply = await other._redis.ask("PING")
    assert reply
    taking_over = asyncio.create_task(other._invalidation._have_believed(reply.run_id))
    async with asyncio.timeout(5):
        while not str((await Epoch(database).fresh()).redis).startswith("next "):
            await asyncio.sleep(0)
    taking_over.cancel()
    await asyncio.wait([taking_over])
    next_one = cache_of(other_redis)
    await is_void(next_one)
    await eventually(next_one.healthy, 5)
    assert (await Epoch(database).fresh()).redis == reply.run_id


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.parametrize("cache", ["redis", "memory://"])
async def test_nothing_is_cached_of_commits_that_postgresql_lost_in_its_fail_over(
    make_client: MakeClient,
    redis: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
    eventually: Eventually,
    cache: str,
    engine: str,
) -> None:
    """The standby is asynchronous, and gets nothing any more when the code is made and the session opened."""
    with PostgresServer(tmp_path_factory.mktemp("primary")) as primary:
        await asyncio.to_thread(primary.make_database, "own")
        with Standby(tmp_path_factory.mktemp("standby"), primary) as standby:
            hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
            client = await make_client(
                database_url=f"postgresql://referral@{hosts}/own",
                cache_url=redis.url if cache == "redis" else cache,
                codes_public_lookup="true",
            )
            alice = await Person.register(client, "alice")
            kept = await cached_code(alice)
            await eventually(lambda: _has(standby, kept))
            standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
            standby.execute("SELECT pg_reload_conf()")
            await eventually(lambda: not standby.streams())
            bob = await Person.register(client, "bob")
            lost = await cached_code(bob)
            assert (await bob.get("/users/me")).status == 200
            before = alice.tokens
            await alice.sign_in()
            assert (await alice.get("/users/me")).status == 200
            await asyncio.to_thread(primary.kill)
            await asyncio.to_thread(standby.promote)
            await eventually(lambda: _is_found(client, kept), 10)
            assert await ended(Person(client, ""), lost, bob.email)
            for tokens in (bob.tokens, alice.tokens):
                assert (await Person(client, "", tokens=tokens).get("/users/me")).problem == "unauthorized"
            assert (await Person(client, "", tokens=before).get("/users/me")).status == 200


def _has(standby: Standby, code: str) -> bool:
    with standby.connect("own") as connection:
        return connection.execute("SELECT FROM codes WHERE code = %s", [code]).fetchone() is not None


async def _is_found(client: Any, code: str) -> bool:
    return (await Person(client, "").get(f"/codes/{code}")).status == 200


async def test_another_database_server_makes_all_void_though_the_epoch_is_the_same(
    cache_of: MakeCache, database: Database, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have lost the very commits that the cache knows of."""
    cache = cache_of(redis)
    await cache.by_code("ALICE1", loading(active()))
    assert await cache.by_code("ALICE1", never)
    find = cache_epoch.find_epoch

    async def of_another(conn: Any) -> Any:
        return replace(await find(conn), server="another")

    monkeypatch.setattr(cache_epoch, "find_epoch", of_another)
    await asyncio.sleep(EPOCH_WAIT)
    await is_void(cache)
