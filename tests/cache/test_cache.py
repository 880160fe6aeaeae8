"""Active codes in the process's own memory (`memory://`) and not kept at all (`none://`)."""

from __future__ import annotations

import asyncio

import pytest

from referral.cache.codes import CodeCache, Load, MemoryCodeCache, NoCodeCache
from referral.cache.epoch import Epoch
from referral.cache.invalidation import Invalidation, invalidating
from referral.clock import SECOND, now
from referral.database import Database, DatabaseUnavailable
from referral.metrics import Metrics
from referral.queries.codes import ActiveCode
from tests.conftest import MakeClient
from tests.support.databases import AtCommit
from tests.support.endings import EDITS, ENDINGS, Ending, changed, ended, look_up
from tests.support.people import Person

EMAIL = "alice@example.com"
START = now()


@pytest.fixture
def engine() -> str:
    # The caches of this file ask the database for nothing of their own but the epoch.
    return "sqlite"


def active(code: str = "ALICE1", username: str = "alice", ttl: int = 3_600 * SECOND, email: str = EMAIL) -> ActiveCode:
    return ActiveCode(code, START + ttl, "a-user", username, None, email)


def loading(found: ActiveCode | None) -> Load:
    async def load() -> ActiveCode | None:
        return found

    return load


async def never() -> ActiveCode | None:
    raise AssertionError("the database was asked")


async def find(cache: CodeCache, way: str, load: Load) -> ActiveCode | None:
    return await (cache.by_code("ALICE1", load) if way == "by_code" else cache.by_email(EMAIL, load))


async def change(cache: CodeCache, database: Database, *codes: str) -> None:
    """A whole change of these codes, as a handler makes it."""
    changes = Invalidation(cache)
    async with invalidating(database, changes):
        changes.add(*codes)


@pytest.mark.parametrize("url", ["memory://", "none://"])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_an_ended_code_is_not_found_any_more(make_client: MakeClient, ending: Ending, url: str) -> None:
    client = await make_client(cache_url=url)
    alice, bob = await Person.register(client, "alice"), await Person.register(client, "bob")
    code = await alice.make_code()
    assert [answer.body["code"] for answer in await look_up(bob, code, alice.email)] == [code, code]
    assert (await ending(alice, code, bob)).status < 300
    assert await ended(bob, code, alice.email)


@pytest.mark.parametrize("url", ["memory://", "none://"])
@pytest.mark.parametrize("edit", EDITS)
async def test_an_edited_code_is_shown_as_it_is_now(make_client: MakeClient, edit: Ending, url: str) -> None:
    client = await make_client(cache_url=url)
    alice, bob = await Person.register(client, "alice"), await Person.register(client, "bob")
    code = await alice.make_code()
    assert not await changed(bob, code, alice.email)
    assert (await edit(alice, code, bob)).status == 200
    assert await changed(bob, code, alice.email)


@pytest.mark.parametrize("url", ["memory://", "none://"])
async def test_no_cache_of_the_process_is_ever_out(make_client: MakeClient, url: str) -> None:
    somebody = Person(await make_client(cache_url=url), "")
    ready = await somebody.get("/health/ready")
    assert (ready.status, ready.body["checks"]["cache"]) == (200, "ok")


async def test_a_code_that_was_looked_up_or_made_is_found_without_the_database(database: Database) -> None:
    cache = MemoryCodeCache(Metrics(), Epoch(database))
    assert await cache.by_code("ALICE1", loading(active())) == active()
    assert await cache.by_code("ALICE1", never) == active()
    assert await cache.by_email(EMAIL, never) == active()
    other = MemoryCodeCache(Metrics(), Epoch(database))
    assert await other.by_email(EMAIL, loading(active())) == active()
    assert await other.by_email(EMAIL, never) == active()
    assert await other.by_code("ALICE1", never) == active()


async def test_what_is_not_found_is_asked_for_again(database: Database) -> None:
    cache = MemoryCodeCache(Metrics(), Epoch(database))
    assert await cache.by_code("ALICE1", loading(None)) is None
    assert await cache.by_code("ALICE1", loading(active())) == active()


async def test_an_entry_is_void_from_the_codes_own_end_on(database: Database) -> None:
    cache = MemoryCodeCache(Metrics(), Epoch(database))
    await cache.by_code("ALICE1", loading(active(ttl=now() - START + 30)))
    await asyncio.sleep(0.04)
    assert await cache.by_code("ALICE1", loading(None)) is None
    assert await cache.by_email(EMAIL, loading(None)) is None


async def test_an_email_leads_to_its_new_owners_code(database: Database) -> None:
    cache = MemoryCodeCache(Metrics(), Epoch(database))
    await cache.by_email(EMAIL, loading(active()))
    await cache.after_commit("a", {"ALICE1"}, told=True)
    assert await cache.by_email(EMAIL, loading(active("ALICE2"))) == active("ALICE2")
    assert await cache.by_email(EMAIL, never) == active("ALICE2")


async def test_the_least_recently_used_code_makes_room(database: Database) -> None:
    cache = MemoryCodeCache(Metrics(), Epoch(database), entries=2)
    for code in ("ALICE1", "BOB001"):
        await cache.by_code(code, loading(active(code, email=f"{code}@example.com")))
    await cache.by_code("ALICE1", never)
    await cache.by_code("CAROL1", loading(active("CAROL1", email="carol@example.com")))
    assert await cache.by_code("ALICE1", never) == active("ALICE1", email="ALICE1@example.com")
    assert await cache.by_code("BOB001", loading(None)) is None


@pytest.mark.parametrize("way", ["by_code", "by_email"])
async def test_a_reader_that_fetched_the_row_before_a_delete_does_not_put_it_back_after_it(
    database: Database, way: str
) -> None:
    cache = MemoryCodeCache(Metrics(), Epoch(database))
    fetched, go_on = asyncio.Event(), asyncio.Event()

    async def slow_load() -> ActiveCode | None:
        former = active()
        fetched.set()
        await go_on.wait()
        return former

    # 1. A reader misses and has read the row ...
    reader = asyncio.create_task(find(cache, way, slow_load))
    await fetched.wait()
    # 2. ... when a whole DELETE passes by, answer included ...
    await change(cache, database, "ALICE1")
    # 3. ... and now the reader goes on. Its own answer may be the former one: it began before the DELETE was answered.
    go_on.set()
    assert await reader == active()
    # 4. Whoever comes now sees that the code has ended.
    assert await cache.by_code("ALICE1", loading(None)) is None
    assert await cache.by_email(EMAIL, loading(None)) is None


async def test_a_change_is_seen_to_when_its_request_is_cancelled_in_the_commit(database: Database) -> None:
    cache = MemoryCodeCache(Metrics(), Epoch(database))
    await cache.by_code("ALICE1", loading(active()))
    committing = asyncio.Event()

    async def stall() -> None:
        committing.set()
        await asyncio.sleep(60)

    async def request() -> None:
        changes = Invalidation(cache)
        async with invalidating(AtCommit(database, stall), changes):
            changes.add("ALICE1")

    task = asyncio.create_task(request())
    await committing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await cache.by_code("ALICE1", loading(None)) is None


async def test_hits_and_misses_are_counted(database: Database) -> None:
    metrics = Metrics()
    cache = MemoryCodeCache(metrics, Epoch(database))
    for load in (loading(None), loading(active()), never, never):
        await cache.by_code("ALICE1", load)
    assert await cache.by_email(EMAIL, never)
    text = metrics.text().decode()
    assert 'referral_cache_lookups_total{result="hit"} 3.0' in text
    assert 'referral_cache_lookups_total{result="miss"} 2.0' in text


async def test_no_cache_asks_the_database_each_time(database: Database) -> None:
    cache = NoCodeCache()
    for username in ("alice", "alicia"):
        found = active(username=username)
        assert await cache.by_code("ALICE1", loading(found)) is found
        assert await cache.by_email(EMAIL, loading(found)) is found
    await change(cache, database, "ALICE1")


class Untold(NoCodeCache):
    """Cannot tell the other workers."""

    def __init__(self) -> None:
        self.changes: list[str] = []

    async def after_commit(self, change: str, keys: set[str], *, told: bool) -> None:
        self.changes.append(change)
        raise DatabaseUnavailable("gone")


async def test_a_cancellation_is_no_failure_though_the_others_could_not_be_told(database: Database) -> None:
    async def be_cancelled() -> None:
        raise asyncio.CancelledError

    async def change(where: Database) -> None:
        changes = Invalidation(Untold())
        async with invalidating(where, changes):
            changes.add("ALICE1")

    with pytest.raises(DatabaseUnavailable):
        await change(database)
    with pytest.raises(asyncio.CancelledError):
        await change(AtCommit(database, be_cancelled))


async def test_of_several_caches_each_is_told_though_the_first_fails(database: Database) -> None:
    first, second = Untold(), Untold()
    changes = [Invalidation(cache) for cache in (first, NoCodeCache(), second)]
    for one in changes:
        one.add("ALICE1")

    async def change() -> None:
        async with invalidating(database, *changes):
            pass

    with pytest.raises(DatabaseUnavailable, match="gone"):
        await change()
    assert len(first.changes) == len(second.changes) == 1


async def test_what_was_never_committed_invalidates_nothing(database: Database) -> None:
    cache = MemoryCodeCache(Metrics(), Epoch(database))
    await cache.by_code("ALICE1", loading(active()))

    async def fail() -> None:
        changes = Invalidation(cache)
        async with invalidating(database, changes):
            changes.add("ALICE1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await cache.by_code("ALICE1", never) == active()


async def test_what_a_commit_without_an_answer_may_change_later_is_not_kept(database: Database) -> None:
    cache = MemoryCodeCache(Metrics(), Epoch(database))
    await cache.by_code("ALICE1", loading(active()))

    async def lose_the_answer() -> None:
        raise DatabaseUnavailable("lost")

    async def request() -> None:
        changes = Invalidation(cache)
        async with invalidating(AtCommit(database, lose_the_answer), changes):
            changes.add("ALICE1")

    with pytest.raises(DatabaseUnavailable):
        await request()
    # The commit has not taken place yet, and does so now.
    assert await cache.by_code("ALICE1", loading(active())) == active()
    assert await cache.by_code("ALICE1", loading(None)) is None
