"""Sessions that workers keep while Redis says that none has ended: never one that has, whatever becomes of Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis import asyncio as aioredis

from referral.cache.invalidation import Invalidation, invalidating
from referral.cache.redis import epoch as redis_changes
from referral.cache.redis.client import RedisClient
from referral.cache.redis.epoch import RedisInvalidation
from referral.cache.redis.sessions import GENERATION, RedisSessionCache
from referral.clock import now
from referral.database import Database
from referral.metrics import Metrics
from referral.queries.sessions import LiveSession
from tests.cache.conftest import believed
from tests.cache.test_live_sessions import FAR, Asked, end_in_every_way, found
from tests.conftest import MakeClient
from tests.support.patience import IMPATIENT, wait_for_redis
from tests.support.people import Person
from tests.support.servers import RedisServer

SESSION = LiveSession("user", "user", "one", FAR)
MakeSessions = Callable[[], RedisSessionCache]


@pytest.fixture
async def make_sessions(redis: RedisServer, database: Database) -> AsyncIterator[MakeSessions]:
    """`make_sessions()`: what one worker knows."""
    async with contextlib.AsyncExitStack() as stack:

        def make() -> RedisSessionCache:
            invalidation = RedisInvalidation(RedisClient(redis.url, Metrics()), database)
            stack.push_async_callback(invalidation.close)
            return RedisSessionCache(invalidation)

        await believed(redis, database)
        yield make


async def end(sessions: RedisSessionCache, asked: Asked, database: Database) -> None:
    ended = Invalidation(sessions)
    async with invalidating(database, ended):
        ended.add("one")
        asked.session = None


async def test_the_database_is_asked_once_while_no_session_ends(make_sessions: MakeSessions) -> None:
    sessions, asked = make_sessions(), Asked(SESSION)
    for _ in range(5):
        assert await found(sessions, asked) == SESSION
    assert asked.times == 1


async def test_an_end_on_one_worker_is_known_on_the_others(make_sessions: MakeSessions, database: Database) -> None:
    mine, other, asked = make_sessions(), make_sessions(), Asked(SESSION)
    assert await found(mine, asked) == await found(other, asked) == SESSION
    await end(other, asked, database)
    assert await found(mine, asked) is None
    assert await found(other, asked) is None


async def test_while_a_session_ends_the_database_is_asked_and_nothing_is_kept(
    make_sessions: MakeSessions, database: Database
) -> None:
    mine, other, asked = make_sessions(), make_sessions(), Asked(SESSION)
    await found(mine, asked)
    ended = Invalidation(other)
    ended.add("one")
    async with database.transaction() as conn:
        await ended.before_commit(conn)
        assert await found(mine, asked) == SESSION
        assert await found(mine, asked) == SESSION
        assert asked.times == 3
        asked.session = None
    await ended.after_commit()
    assert await found(mine, asked) is None


async def test_a_reader_that_asked_before_the_end_keeps_nothing_for_after_it(
    make_sessions: MakeSessions, database: Database
) -> None:
    mine, other, asked = make_sessions(), make_sessions(), Asked(SESSION)
    # 1. A request asks for the word, then the database, which is slow with its answer.
    asked.held.clear()
    reader = asyncio.create_task(found(mine, asked))
    await asked.begun.wait()
    # 2. The session ends elsewhere.
    await end(other, asked, database)
    # 3. The request gets the former state, which was true when it asked ...
    asked.held.set()
    assert await reader == SESSION
    # 4. ... and the next one does not believe it.
    assert await found(mine, asked) is None


async def test_of_two_ends_at_once_the_first_to_be_over_does_not_unprotect_the_second(
    make_sessions: MakeSessions, database: Database
) -> None:
    mine, other, third, asked = make_sessions(), make_sessions(), make_sessions(), Asked(SESSION)
    await found(third, asked)
    async with database.transaction() as conn:
        assert await mine.before_commit(conn, "a", {"one"})
        assert await other.before_commit(conn, "b", {"two"})
    await mine.after_commit("a", {"one"}, told=True)
    await found(third, asked)
    asked.session = None
    assert await found(third, asked) is None
    await other.after_commit("b", {"two"}, told=True)


async def test_a_worker_that_is_killed_after_its_commit_leaves_nobody_signed_in(
    make_sessions: MakeSessions, database: Database, inside: Any
) -> None:
    mine, other, asked = make_sessions(), make_sessions(), Asked(SESSION)
    await found(mine, asked)
    async with database.transaction() as conn:
        assert await other.before_commit(conn, "b", {"one"})
        asked.session = None
    # Killed: `after_commit` is never called.
    assert await found(mine, asked) is None
    assert 0 < await inside.pttl(GENERATION) <= 60_000
    # What it left behind ends by itself, and with it every former word.
    await inside.delete(GENERATION)
    assert await found(mine, asked) is None


async def test_what_a_killed_worker_left_is_not_prolonged_by_others(
    make_sessions: MakeSessions, database: Database, inside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_changes, "TOMBSTONE_TTL", 300)
    killed, other, asked = make_sessions(), make_sessions(), Asked(SESSION)
    async with database.transaction() as conn:
        assert await killed.before_commit(conn, "a", {"one"})
    monkeypatch.setattr(redis_changes, "TOMBSTONE_TTL", 60_000)
    ended = Invalidation(other)
    ended.add("two")
    async with database.transaction() as conn:
        await ended.before_commit(conn)
        await asyncio.sleep(0.4)
    await ended.after_commit()
    assert await inside.get(GENERATION) is None
    await found(other, asked)
    assert await found(other, asked) == SESSION
    assert asked.times == 1


async def test_an_end_that_redis_was_not_told_of_in_time_leaves_other_tombstones_alone(
    make_sessions: MakeSessions, database: Database, inside: Any
) -> None:
    mine, other = make_sessions(), make_sessions()
    async with database.transaction() as conn:
        assert await mine.before_commit(conn, "a", {"one"})
    await other.after_commit("b", {"two"}, told=False)
    assert (await inside.get(GENERATION)).startswith("-")
    await mine.after_commit("a", {"one"}, told=True)
    assert await inside.get(GENERATION) is None


@pytest.mark.parametrize("loss", ["flushed", "evicted"])
async def test_a_word_that_is_lost_is_not_made_again(make_sessions: MakeSessions, inside: Any, loss: str) -> None:
    mine, asked = make_sessions(), Asked(SESSION)
    await found(mine, asked)
    asked.session = None
    assert await found(mine, asked) == SESSION
    await (inside.flushall() if loss == "flushed" else inside.delete(GENERATION))
    assert await found(mine, asked) is None


async def test_an_end_while_redis_is_gone_holds_when_it_comes_back_with_the_former_word(
    make_sessions: MakeSessions, database: Database, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other, asked = make_sessions(), make_sessions(), Asked(SESSION)
    await found(mine, asked)
    # Hung, not killed: the same process comes back, with the word that mine knows. Nobody waits long for it meanwhile.
    wait_for_redis(monkeypatch, IMPATIENT)
    redis.hang()
    await end(other, asked, database)
    assert await found(mine, asked) is None
    redis.resume()
    async with asyncio.timeout(10):
        while not await mine._invalidation.healthy():
            await asyncio.sleep(0.05)
    assert await found(mine, asked) is None


async def test_a_redis_that_is_another_process_is_not_believed(
    make_sessions: MakeSessions, redis: RedisServer, inside: Any
) -> None:
    mine, asked = make_sessions(), Asked(SESSION)
    await found(mine, asked)
    asked.session = None
    word = await inside.get(GENERATION)
    redis.kill()
    redis.start()
    # As from an old snapshot.
    async with aioredis.Redis.from_url(redis.url) as again:
        await again.set(GENERATION, word)
    async with asyncio.timeout(10):
        while not await mine._invalidation.healthy():
            await asyncio.sleep(0.05)
    assert await found(mine, asked) is None


async def test_nobody_waits_for_a_client_that_is_closed(redis: RedisServer) -> None:
    client = RedisClient(redis.url, Metrics())
    redis.hang()
    question = client.ask("GET", GENERATION)
    await asyncio.sleep(0)
    await client.close()
    async with asyncio.timeout(5):
        assert await question is None
        assert await client.ask("GET", GENERATION) is None


async def test_without_redis_the_database_is_asked_each_time(make_sessions: MakeSessions, redis: RedisServer) -> None:
    mine, asked = make_sessions(), Asked(SESSION)
    redis.kill()
    for _ in range(3):
        assert await found(mine, asked) == SESSION
    assert asked.times == 3


async def test_one_that_has_expired_is_asked_for_again(make_sessions: MakeSessions) -> None:
    mine, asked = make_sessions(), Asked(LiveSession("user", "user", "one", now() + 300))
    await found(mine, asked)
    await asyncio.sleep(0.35)
    asked.session = None
    assert await found(mine, asked) is None


async def test_an_ended_token_is_counted_as_its_owners_once_at_most(
    make_client: MakeClient, redis: RedisServer, inside: Any
) -> None:
    client = await make_client(cache_url=redis.url, limits_enabled="true")
    alice = await Person.register(client, "alice")
    assert (await alice.get("/users/me")).status == 200
    assert (await alice.post("/auth/revoke", {"token": alice.tokens["refresh_token"]})).status == 200
    [mine] = await inside.keys("referral:limit:*request_by_user*")
    before = int(await inside.get(mine))
    for _ in range(5):
        assert (await alice.get("/users/me")).status == 401
    assert int(await inside.get(mine)) <= before + 1
    [address] = await inside.keys("referral:limit:*request_by_address*")
    assert int(await inside.get(address)) >= 5


async def test_every_way_of_ending_a_session_reaches_its_access_tokens_on_the_other_worker(
    make_client: MakeClient, redis: RedisServer
) -> None:
    await end_in_every_way(await make_client(cache_url=redis.url), await make_client(cache_url=redis.url))
