"""Active codes in a real Redis, shared by two workers: what lies there, what ends it, and how Redis may fail."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import uvloop
from redis import asyncio as aioredis

from referral.cache.codes import CodeCache, Load
from referral.cache.invalidation import Invalidation, invalidating
from referral.cache.redis import epoch as redis_epoch
from referral.cache.redis.client import RedisClient
from referral.cache.redis.codes import RedisCodeCache
from referral.cache.redis.epoch import RedisInvalidation
from referral.clock import SECOND, now
from referral.database import Database, DatabaseUnavailable
from referral.database.opening import open_database
from referral.metrics import Metrics
from referral.queries import codes, locks, users
from referral.queries.codes import ActiveCode, CodeChange, find_active_code, find_active_code_by_email
from tests.cache.conftest import believed
from tests.conftest import Client, Eventually, MakeClient
from tests.support.databases import AtCommit
from tests.support.endings import EDITS, ENDINGS, Ending, changed, ended, look_up
from tests.support.patience import IMPATIENT, PATIENT, wait_for_redis
from tests.support.people import Person
from tests.support.servers import Proxy, RedisServer, free_port
from tests.support.smtp_server import Certificate

MakeCache = Callable[..., RedisCodeCache]

EMAIL = "alice@example.com"
# Seconds that nothing takes on a busy machine, and fewer than a patient client waits for a Redis that hangs.
AT_ONCE = 4.0
both_engines = pytest.mark.parametrize("engine", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """One dialect, unless marked `both_engines`: what depends on the database's notion of a commit."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis"), "--enable-debug-command", "yes") as server:
        yield server


@pytest.fixture
async def redis(shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisServer]:
    """An empty Redis, which is not taken for lost when the machine is slow; the same process for all tests that leave it
    alive, and as it was."""
    wait_for_redis(monkeypatch, PATIENT)
    async with aioredis.Redis.from_url(shared_redis.url) as inside:
        await inside.flushall()
    yield shared_redis
    shared_redis.resume()
    async with aioredis.Redis.from_url(shared_redis.url) as inside:
        await inside.replicaof("NO", "ONE")
        for name, value in {"maxmemory": "0", "maxmemory-policy": "noeviction", "min-replicas-to-write": "0"}.items():
            await inside.config_set(name, value)


@pytest.fixture
def impatient(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """`impatient()`, before Redis hangs: from now on nobody waits for it longer than in service."""
    return lambda: wait_for_redis(monkeypatch, IMPATIENT)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """`own_redis("--requirepass", ...)`: a started Redis of the test's own, that may be killed."""
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> RedisServer:
            return stack.enter_context(RedisServer(tmp_path, *options))

        yield start


@pytest.fixture
def worker(make_client: MakeClient, redis: RedisServer) -> Callable[..., Awaitable[Client]]:
    """`await worker()`: one more application on the test's database and Redis."""

    async def make(url: str | None = None, **settings: str) -> Client:
        return await make_client(cache_url=url or redis.url, codes_public_lookup="true", **settings)

    return make


@pytest.fixture
async def workers(worker: Callable[..., Awaitable[Client]]) -> tuple[Client, Client]:
    return await worker(), await worker()


@pytest.fixture
async def make_cache(redis: RedisServer, database: Database) -> AsyncIterator[MakeCache]:
    """`make_cache()`: a worker's cache alone, for what must be held still in the middle."""
    async with contextlib.AsyncExitStack() as stack:

        def make(url: str | None = None, metrics: Metrics | None = None) -> RedisCodeCache:
            metrics = metrics or Metrics()
            invalidation = RedisInvalidation(RedisClient(url or redis.url, metrics), database)
            stack.push_async_callback(invalidation.close)
            return RedisCodeCache(metrics, invalidation)

        await believed(redis, database)
        yield make


async def lookups(client: Client) -> dict[str, int]:
    """The worker's count of hits, misses and failures."""
    async with client.get("/metrics") as response:
        text = await response.text()
    lines = [line for line in text.splitlines() if line.startswith("referral_cache_lookups_total{")]
    return {line.split('"')[1]: int(float(line.split()[-1])) for line in lines}


async def ready(client: Client) -> tuple[int, str, str]:
    answer = await Person(client, "").get("/health/ready")
    return answer.status, answer.body["status"], answer.body["checks"]["cache"]


OK, DEGRADED = (200, "ok", "ok"), (200, "degraded", "unavailable")


async def is_ok(client: Client) -> bool:
    return await ready(client) == OK


async def hits(client: Client, code: str) -> bool:
    """Whether a look-up of the code is answered from Redis."""
    before = (await lookups(client))["hit"]
    assert (await Person(client, "").get(f"/codes/{code}")).status == 200
    return (await lookups(client))["hit"] == before + 1


def active(username: str = "alice", code: str = "ALICE1", ttl: int = 3_600 * SECOND) -> ActiveCode:
    return ActiveCode(code, START + ttl, "a-user", username, "Alice", EMAIL)


START = now()


def loading(found: ActiveCode | None) -> Load:
    async def load() -> ActiveCode | None:
        return found

    return load


async def never() -> ActiveCode | None:
    raise AssertionError("the database was asked")


async def change(cache: CodeCache, database: Database, *texts: str) -> None:
    """A whole change of these codes, as a handler makes it."""
    changes = Invalidation(cache)
    async with invalidating(database, changes):
        changes.add(*texts)


# What lies in Redis


async def test_a_code_is_in_redis_by_text_and_by_email_and_never_beyond_its_own_end(
    workers: tuple[Client, Client], inside: Any
) -> None:
    alice, bob = await Person.register(workers[0], "alice"), await Person.register(workers[0], "bob")
    await cached_code(alice, code="LONG-LIVED")
    soon = datetime.fromtimestamp(now() // SECOND + 100, UTC)
    await cached_code(bob, code="SHORT-LIVED", expires_at=soon.isoformat())
    texts, emails = await inside.keys("referral:code:*"), await inside.keys("referral:email:*")
    assert sorted(texts) == ["referral:code:LONG-LIVED", "referral:code:SHORT-LIVED"]
    assert len(emails) == 2
    ends = {name: await inside.pexpiretime(name) for name in (*texts, *emails)}
    assert ends["referral:code:SHORT-LIVED"] == soon.timestamp() * SECOND
    assert now() < ends["referral:code:LONG-LIVED"] <= now() + 600 * SECOND
    assert sorted(ends.values()) == sorted(list({*ends.values()}) * 2)
    for code, owner in (("LONG-LIVED", alice), ("SHORT-LIVED", bob)):
        assert [answer.body["code"] for answer in await look_up(Person(workers[1], ""), code, owner.email)] == [code, code]
    assert await lookups(workers[1]) == {"hit": 4, "miss": 0, "failure": 0}


async def test_what_one_worker_looked_up_the_other_finds_in_redis(workers: tuple[Client, Client], inside: Any) -> None:
    alice = await Person.register(workers[0], "alice")
    code = await alice.make_code()
    for way in (f"/codes/{code}", f"/codes/by-email?email={alice.email}"):
        await inside.flushall()
        before = [await lookups(worker) for worker in workers]
        answers = [await Person(worker, "").get(way) for worker in workers]
        after = [await lookups(worker) for worker in workers]
        assert answers[0].status == 200
        assert answers[0].body == answers[1].body
        assert [after[0]["miss"] - before[0]["miss"], after[0]["hit"] - before[0]["hit"]] == [1, 0]
        assert [after[1]["miss"] - before[1]["miss"], after[1]["hit"] - before[1]["hit"]] == [0, 1]


async def test_a_code_in_redis_by_its_text_only_is_soon_there_by_its_email_too(
    workers: tuple[Client, Client], inside: Any
) -> None:
    alice = await Person.register(workers[0], "alice")
    code = await cached_code(alice)
    await inside.delete(*await inside.keys("referral:email:*"))
    somebody = Person(workers[1], "")
    for _ in range(2):
        assert [answer.status for answer in await look_up(somebody, code, alice.email)] == [200, 200]
    assert await lookups(workers[1]) == {"hit": 3, "miss": 1, "failure": 0}


async def test_no_email_is_readable_in_redis(workers: tuple[Client, Client], inside: Any) -> None:
    alice = await Person.register(workers[0], "alice")
    code = await alice.make_code()
    assert not await ended(alice, code, alice.email)
    names = set(await inside.keys("*")) - {"referral:probe"}
    assert len(names) == 3  # the code, its e-mail, and the word of the sessions
    for name in names:
        assert alice.email.partition("@")[2] not in name + await inside.get(name)


async def test_a_hit_is_one_round_trip(redis: RedisServer, make_cache: MakeCache) -> None:
    async with Proxy(redis.port) as proxy:
        cache = make_cache(f"redis://127.0.0.1:{proxy.port}/0")
        await cache.by_code("ALICE1", loading(active()))
        before = proxy.requests
        for _ in range(5):
            assert await cache.by_code("ALICE1", never)
            assert await cache.by_email(EMAIL, never)
        assert proxy.requests == before + 10


async def test_a_look_up_asks_redis_once_for_the_caller_the_limit_and_the_code(
    make_client: MakeClient, redis: RedisServer
) -> None:
    async with Proxy(redis.port) as proxy:
        client = await make_client(
            cache_url=f"redis://127.0.0.1:{proxy.port}/0", codes_public_lookup="true", limits_enabled="true"
        )
        alice, stranger = await Person.register(client, "alice"), Person(client, "")
        code = await alice.make_code()
        for path in (f"/codes/{code}", f"/codes/by-email?email={alice.email}"):
            for person in (alice, stranger):
                assert (await person.get(path)).status == 200
                before = proxy.requests
                assert (await person.get(path)).body["code"] == code
                assert proxy.requests == before + 1, path


@both_engines
@pytest.mark.parametrize("ending", ENDINGS)
async def test_what_ends_a_code_ends_it_in_redis_and_on_both_workers(
    workers: tuple[Client, Client], inside: Any, ending: Ending
) -> None:
    alice, bob = await Person.register(workers[0], "alice"), await Person.register(workers[0], "bob")
    code = await alice.make_code()
    readers = [Person(worker, "") for worker in workers]
    for reader in readers:
        assert not await ended(reader, code, alice.email)
    assert (await ending(alice, code, bob)).status < 300
    assert await inside.get(f"referral:code:{code}") is None
    for reader in readers:
        assert await ended(reader, code, alice.email)


@both_engines
@pytest.mark.parametrize("edit", EDITS)
async def test_what_changes_a_code_shows_at_once_on_both_workers(workers: tuple[Client, Client], edit: Ending) -> None:
    alice, bob = await Person.register(workers[0], "alice"), await Person.register(workers[0], "bob")
    code = await alice.make_code()
    readers = [Person(worker, "") for worker in workers]
    for reader in readers:
        assert not await changed(reader, code, alice.email)
    assert (await edit(alice, code, bob)).status == 200
    for reader in readers:
        assert await changed(reader, code, alice.email)
    assert await hits(workers[1], code)


async def test_a_new_username_is_told_for_an_expired_code_too_which_may_just_be_prolonged(
    workers: tuple[Client, Client], inside: Any
) -> None:
    alice = await Person.register(workers[0], "alice")
    # Half a second from now at least: a code that is made later than it ends is refused.
    soon = (now() + SECOND // 2) // SECOND + 1
    code = await alice.make_code(expires_at=datetime.fromtimestamp(soon, UTC).isoformat())
    await asyncio.sleep(soon + 0.01 - time.time())
    # As if somebody had looked the code up between the prolongation by another request and this request's commit.
    await inside.set(f"referral:code:{code}", "former")
    assert (await alice.patch("/users/me", {"username": "alicia"})).status == 200
    assert await inside.exists(f"referral:code:{code}") == 0


async def test_registration_does_not_believe_redis(workers: tuple[Client, Client], inside: Any) -> None:
    alice = await Person.register(workers[0], "alice")
    code = await cached_code(alice)
    entry = await inside.get(f"referral:code:{code}")
    assert (await alice.delete("/codes/current")).status == 204
    await inside.set(f"referral:code:{code}", entry)
    newcomer = Person(workers[1], "newcomer@example.com")
    # The entry is a good forgery: a look-up does believe it.
    assert (await newcomer.get(f"/codes/{code}")).status == 200
    body = {"email": newcomer.email, "password": newcomer.password, "referral_code": code}
    refused = await newcomer.post("/auth/register", body)
    assert (refused.problem, refused.body["reason"]) == ("referral-code-invalid", "revoked")
    refused = await (await Person.register(workers[1], "bob")).post("/users/me/referrer", {"code": code})
    assert (refused.problem, refused.body["reason"]) == ("referral-code-invalid", "revoked")


async def test_another_emails_key_in_redis_leads_nobody_astray(workers: tuple[Client, Client], inside: Any) -> None:
    alice, bob = await Person.register(workers[0], "alice"), await Person.register(workers[0], "bob")
    await cached_code(alice, code="ALICE1")
    (own,) = await inside.keys("referral:email:*")
    await bob.make_code(code="BOB001")
    await inside.set(own, "BOB001")
    for worker in workers:
        answer = await Person(worker, "").get("/codes/by-email", params={"email": alice.email})
        assert answer.body["code"] == "ALICE1"


# Races, step by step


async def find(cache: CodeCache, way: str, load: Load) -> ActiveCode | None:
    return await (cache.by_code("ALICE1", load) if way == "by_code" else cache.by_email(EMAIL, load))


async def cached_code(person: Person, **members: Any) -> str:
    """Make a code and look it up, so that Redis has it by its text and by its owner's e-mail."""
    code = await person.make_code(**members)
    assert not await ended(person, code, person.email)
    return code


async def is_void(*caches: CodeCache) -> None:
    """Nobody shows the former state: each look-up asks the database, where there is nothing."""
    for cache in caches:
        assert await cache.by_code("ALICE1", loading(None)) is None
        assert await cache.by_email(EMAIL, loading(None)) is None


class Held:
    """A load that has read the former row and then pauses, at its last call of `calls`."""

    def __init__(self, calls: int = 1) -> None:
        self.calls = calls
        self.fetched, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> ActiveCode | None:
        self.calls -= 1
        if self.calls == 0:
            self.fetched.set()
            await self.go_on.wait()
        return active()


@pytest.mark.parametrize("way", ["by_code", "by_email"])
async def test_a_reader_that_fetched_the_row_before_a_delete_does_not_put_it_back_after_it(
    make_cache: MakeCache, database: Database, inside: Any, way: str
) -> None:
    mine, other = make_cache(), make_cache()
    # By e-mail, the first load only tells which code it is; what is filled is read by the second.
    load = Held(calls=1 if way == "by_code" else 2)
    # 1. A reader misses, has taken the lease and read the row ...
    reader = asyncio.create_task(find(mine, way, load))
    await load.fetched.wait()
    assert (await inside.get("referral:code:ALICE1")).startswith("?")
    # 2. ... when a whole DELETE passes by on the other worker, answer included ...
    await change(other, database, "ALICE1")
    # 3. ... and now the reader goes on. Its own answer may be the former one: it began before the DELETE was answered.
    load.go_on.set()
    assert await reader == active()
    # 4. It has not put the former one back.
    assert await inside.exists("referral:code:ALICE1") == 0
    await is_void(mine, other)


@pytest.mark.parametrize("way", ["by_code", "by_email"])
async def test_a_reader_in_the_midst_of_a_change_does_not_fill_the_former_state(
    make_cache: MakeCache, database: Database, way: str
) -> None:
    mine, other = make_cache(), make_cache()
    # 1. The change has told Redis, and has not committed yet ...
    changes = Invalidation(other)
    changes.add("ALICE1")
    async with database.transaction() as conn:
        await changes.before_commit(conn)
        # 2. ... when a reader misses and still reads the former row.
        assert await find(mine, way, loading(active())) == active()
    # 3. The change is answered.
    await changes.after_commit()
    await is_void(mine, other)


async def test_of_two_changes_at_once_the_first_to_end_does_not_unprotect_the_second(
    make_cache: MakeCache, database: Database
) -> None:
    mine, other, third = make_cache(), make_cache(), make_cache()
    async with database.transaction() as conn:
        assert await mine.before_commit(conn, "a", {"ALICE1"})
        assert await other.before_commit(conn, "b", {"ALICE1"})
    await mine.after_commit("a", {"ALICE1"}, told=True)
    assert await third.by_code("ALICE1", loading(active())) == active()
    # The second one's worker is killed here, between its commit and the end of its request: nothing more is said to Redis.
    await is_void(mine, third)


@pytest.mark.parametrize("way", ["by_code", "by_email"])
async def test_a_worker_that_is_killed_after_its_commit_leaves_no_former_state_behind(
    make_cache: MakeCache, database: Database, inside: Any, way: str
) -> None:
    mine, other = make_cache(), make_cache()
    assert await find(mine, way, loading(active())) == active()
    async with database.transaction() as conn:
        assert await other.before_commit(conn, "b", {"ALICE1"})
        assert await find(mine, way, loading(active())) == active()
    # Killed: `after_commit` is never called.
    await is_void(mine)
    # The tombstone has an end, and then the code is cached again.
    assert 0 < await inside.pttl("referral:code:ALICE1") <= 60 * SECOND


async def test_a_commit_without_an_answer_leaves_the_tombstone_for_as_long_as_it_may_take_place(
    make_cache: MakeCache, database: Database, inside: Any
) -> None:
    mine, other = make_cache(), make_cache()
    await mine.by_code("ALICE1", loading(active()))

    async def lose_the_answer() -> None:
        raise DatabaseUnavailable("lost")

    async def request() -> None:
        changes = Invalidation(other)
        async with invalidating(AtCommit(database, lose_the_answer), changes):
            changes.add("ALICE1")

    with pytest.raises(DatabaseUnavailable):
        await request()
    assert await mine.by_code("ALICE1", loading(active())) == active()
    await is_void(mine, other)
    assert 0 < await inside.pttl("referral:code:ALICE1") <= 60 * SECOND


async def test_a_reader_that_is_killed_leaves_a_lease_that_ends(make_cache: MakeCache, inside: Any) -> None:
    load = Held()
    reader = asyncio.create_task(make_cache().by_code("ALICE1", load))
    await load.fetched.wait()
    assert 0 < await inside.pttl("referral:code:ALICE1") <= 15 * SECOND
    reader.cancel()
    await asyncio.wait([reader])


async def test_readers_at_once_fill_once(make_cache: MakeCache, inside: Any) -> None:
    mine, other = make_cache(), make_cache()
    load = Held()
    first = asyncio.create_task(mine.by_code("ALICE1", load))
    await load.fetched.wait()
    lease = await inside.get("referral:code:ALICE1")
    assert await other.by_code("ALICE1", loading(active())) == active()
    assert await inside.get("referral:code:ALICE1") == lease
    load.go_on.set()
    await first
    assert await other.by_code("ALICE1", never)


async def test_a_good_entry_is_kept_while_its_email_is_looked_up(make_cache: MakeCache, inside: Any) -> None:
    cache, load = make_cache(), Held(calls=2)
    await cache.by_code("ALICE1", loading(active()))
    entry = await inside.get("referral:code:ALICE1")
    await inside.delete(*await inside.keys("referral:email:*"))
    reader = asyncio.create_task(cache.by_email(EMAIL, load))
    await load.fetched.wait()
    assert await inside.get("referral:code:ALICE1") == entry
    load.go_on.set()
    await reader
    assert await cache.by_email(EMAIL, never) == active()


@pytest.mark.parametrize("loss", ["flushed", "evicted"])
async def test_a_lease_that_is_lost_is_not_filled_on(make_cache: MakeCache, inside: Any, loss: str) -> None:
    cache, load = make_cache(), Held()
    reader = asyncio.create_task(cache.by_code("ALICE1", load))
    await load.fetched.wait()
    await (inside.flushall() if loss == "flushed" else inside.delete("referral:code:ALICE1"))
    load.go_on.set()
    await reader
    await is_void(cache)


async def test_a_tombstone_that_is_lost_does_not_let_the_former_state_survive(
    make_cache: MakeCache, database: Database, inside: Any
) -> None:
    mine, other = make_cache(), make_cache()
    changes = Invalidation(other)
    changes.add("ALICE1")
    async with database.transaction() as conn:
        await changes.before_commit(conn)
        await inside.flushall()
        assert await mine.by_code("ALICE1", loading(active())) == active()
    await changes.after_commit()
    await is_void(mine, other)


# Outages

Fault = tuple[Callable[[RedisServer, Any], Awaitable[Any]], Callable[[RedisServer, Any], Awaitable[Any]]]


async def _hang(redis: RedisServer, inside: Any) -> None:
    redis.hang()


async def _resume(redis: RedisServer, inside: Any) -> None:
    redis.resume()


async def _fill_up(redis: RedisServer, inside: Any) -> None:
    await inside.config_set("maxmemory", "1")


async def _empty_out(redis: RedisServer, inside: Any) -> None:
    await inside.config_set("maxmemory", "0")


async def _make_read_only(redis: RedisServer, inside: Any) -> None:
    await inside.replicaof("127.0.0.1", free_port())


async def _make_writable(redis: RedisServer, inside: Any) -> None:
    await inside.replicaof("NO", "ONE")


async def _ask_for_replicas(redis: RedisServer, inside: Any) -> None:
    await inside.config_set("min-replicas-to-write", "1")


async def _ask_for_no_replicas(redis: RedisServer, inside: Any) -> None:
    await inside.config_set("min-replicas-to-write", "0")


FAULTS: dict[str, Fault] = {
    "hanging": (_hang, _resume),
    "full": (_fill_up, _empty_out),
    "read-only": (_make_read_only, _make_writable),
    "without its replicas": (_ask_for_replicas, _ask_for_no_replicas),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_end_while_redis_fails_holds_during_the_fault_and_after_it(
    workers: tuple[Client, Client],
    redis: RedisServer,
    inside: Any,
    eventually: Eventually,
    impatient: Callable[[], None],
    fault: str,
) -> None:
    begin, end = FAULTS[fault]
    alice = await Person.register(workers[0], "alice")
    bob = await Person.register(workers[1], "bob")
    code, kept = await cached_code(alice), await cached_code(bob)
    readers = [Person(worker, "") for worker in workers]
    entry = await inside.get(f"referral:code:{code}")
    impatient()
    await begin(redis, inside)
    started = time.monotonic()
    assert (await alice.delete("/codes/current")).status == 204
    for reader in readers:
        assert await ended(reader, code, alice.email)
        assert (await reader.get(f"/codes/{kept}")).status == 200
    assert time.monotonic() - started < AT_ONCE
    assert await ready(workers[0]) == DEGRADED
    assert (await lookups(workers[0]))["failure"] >= 1
    await end(redis, inside)
    # The former entry may lie there still; at the latest now it does.
    await inside.set(f"referral:code:{code}", entry)
    for _ in range(3):
        for reader in readers:
            assert await ended(reader, code, alice.email)
    for worker in workers:
        await eventually(lambda worker=worker: hits(worker, kept), 5)
        assert await ready(worker) == OK
        assert await ended(Person(worker, ""), code, alice.email)


async def test_a_redis_that_is_restarted_from_an_old_snapshot_shows_nothing_of_it(
    worker: Callable[..., Awaitable[Client]], own_redis: Callable[..., RedisServer], eventually: Eventually
) -> None:
    redis = own_redis()
    workers = [await worker(redis.url), await worker(redis.url)]
    alice = await Person.register(workers[0], "alice")
    code = await cached_code(alice)
    async with aioredis.Redis.from_url(redis.url) as inside:
        # 1. The entry is in the snapshot ...
        await inside.save()
    # 2. ... the code is ended while Redis is well ...
    assert (await alice.delete("/codes/current")).status == 204
    # 3. ... and the restarted Redis has the entry, of the very epoch that still holds.
    redis.kill()
    assert await ended(alice, code, alice.email)
    assert await ready(workers[0]) == DEGRADED
    redis.start()
    kept = await (await Person.register(workers[1], "bob")).make_code()
    for client in workers:
        await eventually(lambda client=client: hits(client, kept), 5)
    async with aioredis.Redis.from_url(redis.url) as inside:
        assert await inside.get(f"referral:code:{code}")
    for client in workers:
        assert await ended(Person(client, ""), code, alice.email)


async def test_an_end_while_redis_is_gone_holds_when_it_comes_back_from_a_snapshot(
    worker: Callable[..., Awaitable[Client]], own_redis: Callable[..., RedisServer], eventually: Eventually
) -> None:
    redis = own_redis()
    workers = [await worker(redis.url), await worker(redis.url)]
    alice = await Person.register(workers[0], "alice")
    code = await cached_code(alice)
    async with aioredis.Redis.from_url(redis.url) as inside:
        await inside.save()
    redis.kill()
    started = time.monotonic()
    assert (await alice.delete("/codes/current")).status == 204
    assert time.monotonic() - started < AT_ONCE
    redis.start()
    for client in workers:
        for _ in range(3):
            assert await ended(Person(client, ""), code, alice.email)
        await eventually(lambda client=client: is_ok(client), 5)
        assert await ended(Person(client, ""), code, alice.email)


async def test_a_service_that_starts_without_redis_uses_it_once_it_is_there(
    worker: Callable[..., Awaitable[Client]], own_redis: Callable[..., RedisServer], eventually: Eventually
) -> None:
    redis = own_redis()
    redis.kill()
    client = await worker(redis.url)
    assert await ready(client) == DEGRADED
    code = await (await Person.register(client, "alice")).make_code()
    redis.start()
    await eventually(lambda: hits(client, code), 5)


@both_engines
async def test_an_end_on_a_worker_that_lost_redis_is_seen_on_the_other_that_still_reaches_it(
    worker: Callable[..., Awaitable[Client]], redis: RedisServer, inside: Any, eventually: Eventually
) -> None:
    async with Proxy(redis.port) as proxy:
        lonely, other = await worker(f"redis://127.0.0.1:{proxy.port}/0"), await worker()
        alice, reader = await Person.register(lonely, "alice"), Person(other, "")

        async def keep_reading() -> None:
            # So that the other worker's knowledge of the epoch is always fresh, and its entries are trusted.
            while True:
                await reader.get(f"/codes/{code}")

        for attempt in range(4):
            await proxy.mend()
            await eventually(lambda: is_ok(lonely), 5)
            code = await alice.make_code()
            await eventually(lambda code=code: hits(other, code), 5)
            reading = asyncio.create_task(keep_reading())
            await proxy.cut()
            if attempt % 2:
                # The worker may have noticed the loss already, or notice it by the change.
                assert await ready(lonely) == DEGRADED
            assert (await alice.delete("/codes/current")).status == 204
            assert await ended(reader, code, alice.email)
            assert await ended(alice, code, alice.email)
            assert await ready(other) == OK
            reading.cancel()
            await asyncio.wait([reading])


@both_engines
async def test_redis_that_goes_away_between_tombstone_and_commit_comes_back_without_a_former_state(
    make_cache: MakeCache,
    database: Database,
    redis: RedisServer,
    inside: Any,
    eventually: Eventually,
) -> None:
    async with Proxy(redis.port) as proxy:
        lonely, other = make_cache(f"redis://127.0.0.1:{proxy.port}/0"), make_cache()
        changes = Invalidation(lonely)
        changes.add("ALICE1")
        async with database.transaction() as conn:
            await changes.before_commit(conn)
        await proxy.cut()
        # The tombstone is lost, and somebody fills what they read before the commit.
        await inside.flushall()
        assert await other.by_code("ALICE1", loading(active())) == active()
        await changes.after_commit()
        await is_void(other, lonely)
        await proxy.mend()
        await eventually(lonely.healthy, 5)
        await is_void(lonely)


@both_engines
async def test_the_end_of_a_session_is_seen_on_every_worker_though_redis_hangs(
    workers: tuple[Client, Client], redis: RedisServer, impatient: Callable[[], None]
) -> None:
    alice = await Person.register(workers[0], "alice")
    elsewhere = Person(workers[1], alice.email, tokens=alice.tokens)
    assert (await elsewhere.get("/users/me")).status == 200
    impatient()
    redis.hang()
    form = {"token": alice.tokens["refresh_token"]}
    assert (await alice.call("POST", "/auth/revoke", data=form)).status == 200
    assert (await elsewhere.get("/users/me")).problem == "unauthorized"


# The breaker


async def test_while_redis_hangs_only_the_first_look_up_waits_for_it(
    make_cache: MakeCache, redis: RedisServer, impatient: Callable[[], None]
) -> None:
    metrics = Metrics()
    cache = make_cache(metrics=metrics)
    await cache.by_code("ALICE1", loading(active()))
    impatient()
    redis.hang()
    for _ in range(20):
        assert await cache.by_code("ALICE1", loading(active())) == active()
        assert await cache.by_email(EMAIL, loading(active())) == active()
    assert 'referral_cache_lookups_total{result="failure"} 1.0' in metrics.text().decode()


async def test_look_ups_at_once_wait_for_one_outage_only(
    make_cache: MakeCache, redis: RedisServer, impatient: Callable[[], None]
) -> None:
    metrics = Metrics()
    cache = make_cache(metrics=metrics)
    impatient()
    redis.hang()
    found = await asyncio.gather(*(cache.by_code("ALICE1", loading(active())) for _ in range(200)))
    assert found == [active()] * 200
    assert _failures(metrics) == 1


async def test_many_look_ups_at_once_are_no_outage(make_cache: MakeCache) -> None:
    metrics = Metrics()
    cache = make_cache(metrics=metrics)
    found = await asyncio.gather(*(cache.by_code("ALICE1", loading(active())) for _ in range(300)))
    assert [one and one.code for one in found] == ["ALICE1"] * 300
    assert _failures(metrics) == 0


def _failures(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("referral_cache_lookups_total", {"result": "failure"}) or 0.0


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_busy_event_loop_is_not_taken_for_an_outage(
    shared_redis: RedisServer, database_url: str, run: Callable[..., None]
) -> None:
    """On the loop that serves, too: the two differ in whether timers or sockets come first."""
    metrics = Metrics()

    async def look_up_while_busy() -> None:
        database = await open_database(database_url)
        invalidation = RedisInvalidation(RedisClient(shared_redis.url, metrics), database)
        await invalidation.start()
        cache = RedisCodeCache(metrics, invalidation)
        await cache.by_code("BUSY01", loading(active(code="BUSY01")))
        asking = asyncio.create_task(cache.by_code("BUSY01", never))
        while not asking.done():
            await asyncio.sleep(0)
            time.sleep(0.1)
        assert await asking
        await invalidation.close()
        await database.close()

    run(look_up_while_busy())
    assert _failures(metrics) == 0


async def test_a_server_that_is_no_redis_is_an_outage_and_nothing_worse(
    worker: Callable[..., Awaitable[Client]], redis: RedisServer, eventually: Eventually
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # What Redis would have answered to INFO, were it one that says who it is; then nonsense.
        with contextlib.suppress(OSError):
            for words in itertools.chain([b":1\r\n"], itertools.repeat(b"HTTP/1.1 400 Bad Request\r\n\r\n")):
                if not await reader.read(1_000):
                    break
                writer.write(words)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as nonsense, Proxy(redis.port) as proxy:
        proxy.target = nonsense.sockets[0].getsockname()[1]
        client = await worker(f"redis://127.0.0.1:{proxy.port}/0")
        alice = await Person.register(client, "alice")
        code = await cached_code(alice)
        assert not await ended(alice, code, alice.email)
        assert await ready(client) == DEGRADED
        # Long enough for the breaker to have asked more than once.
        await asyncio.sleep(0.6)
        proxy.target = redis.port
        await eventually(lambda: hits(client, code), 5)


async def test_a_cache_that_is_closed_during_an_outage_leaves_nothing_behind(database: Database) -> None:
    before = asyncio.all_tasks()
    invalidation = RedisInvalidation(RedisClient(f"redis://127.0.0.1:{free_port()}/0", Metrics()), database)
    cache = RedisCodeCache(Metrics(), invalidation)
    assert await cache.by_code("ALICE1", loading(active())) == active()
    assert asyncio.all_tasks() != before
    await invalidation.close()
    assert asyncio.all_tasks() == before


async def test_a_redis_that_evicts_is_used_and_shows_nothing_former(workers: tuple[Client, Client], inside: Any) -> None:
    alice = await Person.register(workers[0], "alice")
    await inside.config_set("maxmemory-policy", "allkeys-lru")
    await inside.config_set("maxmemory", str((await inside.info("memory"))["used_memory"] + 500_000))
    for _ in range(5):
        code = await cached_code(alice)
        assert await hits(workers[1], code)
        for number in range(100):
            await inside.set(f"junk:{number}", "x" * 20_000)
        assert (await inside.info("stats"))["evicted_keys"] > 0
        assert not await ended(Person(workers[1], ""), code, alice.email)
        assert (await alice.delete("/codes/current")).status == 204
        assert await ended(Person(workers[1], ""), code, alice.email)
    assert await ready(workers[0]) == OK


# Where it is


async def test_a_redis_with_a_password_is_used_and_the_password_is_in_no_log(
    worker: Callable[..., Awaitable[Client]], own_redis: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    secret = "p@ss/w:rd ?#"
    redis = own_redis("--requirepass", secret)
    right = await worker(f"redis://:{quote(secret, safe='')}@127.0.0.1:{redis.port}/1")
    code = await cached_code(await Person.register(right, "alice"))
    assert await hits(right, code)
    assert await ready(right) == OK
    wrong = await worker(f"redis://default:a-wrong-secret@127.0.0.1:{redis.port}/1")
    assert (await Person(wrong, "").get(f"/codes/{code}")).status == 200
    assert await ready(wrong) == DEGRADED
    assert "Redis is out" in caplog.text
    for word in (secret, quote(secret, safe=""), "a-wrong-secret"):
        assert word not in caplog.text


async def test_a_redis_behind_tls_is_used_if_its_certificate_is_good(
    worker: Callable[..., Awaitable[Client]],
    own_redis: Callable[..., RedisServer],
    tmp_path: Path,
    eventually: Eventually,
) -> None:
    certificate = Certificate.make(tmp_path)
    port = free_port()
    redis = own_redis(
        *("--tls-port", str(port), "--tls-auth-clients", "no"),
        *("--tls-cert-file", str(certificate.file), "--tls-key-file", str(certificate.key)),
    )
    trusting = await worker(f"rediss://127.0.0.1:{port}/0?ca={certificate.file}", limits_enabled="true")
    code = await cached_code(await Person.register(trusting, "alice"))
    # The handshake of the first connection may take a busy machine too long.
    await eventually(lambda: hits(trusting, code), 5)

    async def counted() -> object:
        assert (await Person(trusting, "").get("/codes/UNKNOWN1")).status == 404
        async with aioredis.from_url(redis.url) as inside:
            return await inside.keys("referral:limit*")

    await eventually(counted, 10)
    assert await ready(await worker(f"rediss://127.0.0.1:{port}/0")) == DEGRADED


# Everything at once


@pytest.mark.parametrize(("engine", "seed"), [("sqlite", 1), ("postgres", 2)], indirect=["engine"])
async def test_no_look_up_shows_what_was_before_an_answered_change_whatever_happens(
    database: Database,
    redis: RedisServer,
    inside: Any,
    make_cache: MakeCache,
    impatient: Callable[[], None],
    own_redis: Callable[..., RedisServer],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    """Two workers look up, edit, end and make codes at random, while Redis fails in random ways, another one takes its place
    for one of the workers or both, and comes back; every look-up is held against what had been answered when it began."""
    impatient()
    monkeypatch.setattr(redis_epoch, "BELIEF_PAUSE", 0.05)
    other = own_redis("--repl-diskless-sync-delay", "0")
    async with Proxy(redis.port) as proxy:
        metrics = Metrics()
        caches = [make_cache(f"redis://127.0.0.1:{proxy.port}/0", metrics), make_cache(metrics=metrics)]
        model = await Model.make(database, caches, seed)
        async with asyncio.TaskGroup() as tasks:
            for number in range(6):
                tasks.create_task(model.read(number))
            for number in range(2):
                tasks.create_task(model.write(number))
            tasks.create_task(model.break_things(redis, inside, proxy))
            tasks.create_task(model.switch(redis, other, proxy))
    # Not that nothing happened.
    assert min(model.reads, model.changes, model.breaks, model.switches) > 5
    metrics.write()
    for result in ("hit", "miss", "failure"):
        assert metrics.registry.get_sample_value("referral_cache_lookups_total", {"result": result})


class Model:
    """What has been answered: by the text of a code its expiry, which only grows, or its end."""

    SECONDS = 3.0
    PEOPLE = 3
    ENDED = 2**62

    def __init__(self, database: Database, caches: list[RedisCodeCache], seed: int) -> None:
        self.database, self.caches, self.seed = database, caches, seed
        self.answered: dict[str, int] = {}
        self.current: dict[int, str] = {}
        self.numbers = itertools.count(1)
        self.over = time.monotonic() + self.SECONDS
        self.reads = self.changes = self.breaks = self.switches = 0

    @classmethod
    async def make(cls, database: Database, caches: list[RedisCodeCache], seed: int) -> Model:
        model = cls(database, caches, seed)
        async with database.transaction() as conn:
            for number in range(cls.PEOPLE):
                email = f"{number}@example.com"
                user = users.NewUser(f"user-{number}", email, email, None, None, "-", "user", START)
                await users.insert_user(conn, user)
        return model

    def generator(self, role: str) -> random.Random:
        return random.Random(f"{self.seed} {role}")

    async def read(self, number: int) -> None:
        choose, cache = self.generator(f"reader {number}"), self.caches[number % 2]
        while time.monotonic() < self.over:
            person = choose.randrange(self.PEOPLE)
            text, email = self.current.get(person, "NONE"), f"{person}@example.com"
            pause = choose.choice((0, 0, 0.001, 0.005))

            async def load(text: str = text, email: str | None = None, pause: float = pause) -> ActiveCode | None:
                async with self.database.reader() as conn:
                    found = await (
                        find_active_code_by_email(conn, email, now(), limited=False)
                        if email
                        else find_active_code(conn, text, now(), limited=False)
                    )
                await asyncio.sleep(pause)
                return found

            known = dict(self.answered)
            if choose.random() < 0.5:
                found = await cache.by_code(text, load)
            else:
                found = await cache.by_email(email, lambda load=load, email=email: load(email=email))  # type: ignore[misc]
            if found:
                assert found.expires_at >= known.get(found.code, 0), f"seed {self.seed}: {found.code} as it was before"
            self.reads += 1
            await asyncio.sleep(0)

    async def write(self, number: int) -> None:
        choose = self.generator(f"writer {number}")
        while time.monotonic() < self.over:
            person, cache = choose.randrange(self.PEOPLE), choose.choice(self.caches)
            user_id, action = f"user-{person}", choose.choice(("edit", "edit", "end", "replace"))
            done: dict[str, int] = {}
            changes = Invalidation(cache)
            async with invalidating(self.database, changes) as conn:
                # Under the lock: what commits later has the greater number.
                await locks.lock_user(conn, user_id)
                version = START + 3_600 * SECOND + next(self.numbers)
                if action == "edit":
                    code = await codes.update_current_code(conn, user_id, now(), CodeChange(version, False, None))
                    if code:
                        done[code.code] = version
                else:
                    ended = await codes.revoke_current_code(conn, user_id, now())
                    if ended:
                        done[ended.code] = self.ENDED
                changes.add(*done)
                if action == "replace":
                    text = f"CODE{version % 100_000:05}"
                    assert await codes.insert_code(conn, text, user_id, now(), version, None)
                    done[text] = version
                    self.current[person] = text
            for text, version in done.items():
                self.answered[text] = max(version, self.answered.get(text, 0))
            self.changes += bool(done)
            await asyncio.sleep(choose.choice((0, 0.001, 0.02)))

    async def break_things(self, redis: RedisServer, inside: Any, proxy: Proxy) -> None:
        choose = self.generator("breaker")
        while time.monotonic() < self.over:
            fault = choose.choice(("hang", "flush", "evict", "evict", "cut", "fill"))
            if fault == "hang":
                redis.hang()
            elif fault == "flush":
                await inside.flushall()
            elif fault == "evict":
                for name in await inside.keys("referral:*"):
                    if choose.random() < 0.5:
                        await inside.delete(name)
            elif fault == "cut":
                await proxy.cut()
            else:
                await inside.config_set("maxmemory", "1")
            await asyncio.sleep(choose.uniform(0, 0.15))
            redis.resume()
            await inside.config_set("maxmemory", "0")
            await proxy.mend()
            self.breaks += 1
            await asyncio.sleep(choose.uniform(0, 0.1))

    async def switch(self, redis: RedisServer, other: RedisServer, proxy: Proxy) -> None:
        """Lead the worker behind the proxy to the other Redis and back; now and then the other one has all of the first
        before it takes over, as a replica has."""
        choose, port = self.generator("switcher"), str(redis.port)
        there: Any
        async with aioredis.Redis.from_url(other.url) as there:
            while time.monotonic() < self.over:
                if choose.random() < 0.5:
                    await there.execute_command("REPLICAOF", "127.0.0.1", port)
                    await asyncio.sleep(choose.uniform(0.02, 0.2))
                    await there.execute_command("REPLICAOF", "NO", "ONE")
                for server in (other, redis):
                    proxy.target = server.port
                    await proxy.cut()
                    await proxy.mend()
                    self.switches += 1
                    await asyncio.sleep(choose.uniform(0, 0.3))
