"""Sessions at hand: kept where the process is alone, never longer than they live, and never against an ending."""

import asyncio
import contextlib

import pytest

from referral.cache.epoch import Epoch
from referral.cache.invalidation import Invalidation, invalidating
from referral.cache.sessions import LocalSessionCache, SessionCache
from referral.clock import now
from referral.database import Database, DatabaseUnavailable
from referral.queries.sessions import LiveSession
from tests.conftest import Client, MakeClient
from tests.support.databases import AtCommit
from tests.support.people import Person

FAR = 2**60


@pytest.fixture
def engine() -> str:
    return "sqlite"


class Asked:
    """Stands for the database: what it has, and how often it was asked. A look-up waits while `held`."""

    def __init__(self, session: LiveSession | None) -> None:
        self.session = session
        self.times = 0
        self.held = asyncio.Event()
        self.held.set()
        self.begun = asyncio.Event()

    async def load(self) -> LiveSession | None:
        self.times += 1
        found = self.session
        self.begun.set()
        await self.held.wait()
        return found


async def found(sessions: SessionCache, asked: Asked) -> LiveSession | None:
    """What a request makes of the session "one"."""
    known, question = sessions.look("one", LiveSession)
    return known if known and question is None else await sessions.find("one", asked.load, question)


async def test_a_live_session_is_asked_for_once(database: Database) -> None:
    sessions, asked = LocalSessionCache(Epoch(database)), Asked(LiveSession("user", "user", "one", FAR))
    for _ in range(3):
        assert await found(sessions, asked) == asked.session
    assert asked.times == 1


async def test_where_there_are_other_workers_it_is_asked_for_each_time() -> None:
    sessions, asked = LocalSessionCache(None), Asked(LiveSession("user", "user", "one", FAR))
    for _ in range(3):
        assert await found(sessions, asked) == asked.session
    assert asked.times == 3


async def test_one_that_has_expired_is_asked_for_again(database: Database) -> None:
    sessions, asked = LocalSessionCache(Epoch(database)), Asked(LiveSession("user", "user", "one", now() + 50))
    await found(sessions, asked)
    await asyncio.sleep(0.06)
    asked.session = None
    assert await found(sessions, asked) is None


async def test_none_is_not_kept(database: Database) -> None:
    sessions, asked = LocalSessionCache(Epoch(database)), Asked(None)
    assert await found(sessions, asked) is None
    asked.session = LiveSession("user", "user", "one", FAR)
    assert await found(sessions, asked) == asked.session


@pytest.mark.parametrize("failing", [False, True], ids=["committed", "not known"])
async def test_one_that_was_ended_is_asked_for_anew(failing: bool, database: Database) -> None:
    async def lose_the_answer() -> None:
        if failing:
            raise DatabaseUnavailable("nobody knows whether it was committed")

    sessions, asked = LocalSessionCache(Epoch(database)), Asked(LiveSession("user", "user", "one", FAR))
    await found(sessions, asked)
    ended = Invalidation(sessions)
    with contextlib.suppress(DatabaseUnavailable):
        async with invalidating(AtCommit(database, lose_the_answer), ended):
            ended.add("one")
            asked.session = None
    assert await found(sessions, asked) is None


async def test_what_was_read_before_an_ending_is_not_kept_after_it(database: Database) -> None:
    sessions, asked = LocalSessionCache(Epoch(database)), Asked(LiveSession("user", "user", "one", FAR))
    asked.held.clear()
    reader = asyncio.create_task(found(sessions, asked))
    await asked.begun.wait()
    ended = Invalidation(sessions)
    async with invalidating(database, ended):
        ended.add("one")
        asked.session = None
    asked.held.set()
    # This request began before the end and may still be answered; the next one may not.
    assert await reader is not None
    assert await found(sessions, asked) is None


async def test_nothing_ended_leaves_the_others_at_hand(database: Database) -> None:
    sessions, asked = LocalSessionCache(Epoch(database)), Asked(LiveSession("user", "user", "one", FAR))
    await found(sessions, asked)
    async with invalidating(database, Invalidation(sessions)):
        pass
    ended = Invalidation(sessions)
    async with invalidating(database, ended):
        ended.add("another")
    await found(sessions, asked)
    assert asked.times == 1


async def end_in_every_way(client: Client, other: Client) -> None:
    """End sessions on one worker, and use their access tokens on another."""
    alice = await Person.register(client, "alice")

    async def signed_in() -> Person:
        person = Person(other, alice.email, password=alice.password)
        assert (await person.sign_in()).status == 200
        assert (await person.get("/users/me")).status == 200
        return person

    revoked = await signed_in()
    assert (await alice.post("/auth/revoke", {"token": revoked.tokens["refresh_token"]})).status == 200
    listed = await signed_in()
    sessions = (await listed.get("/auth/sessions")).body["items"]
    (current,) = (session["id"] for session in sessions if session["current"])
    assert (await alice.delete(f"/auth/sessions/{current}")).status == 204
    changed = await signed_in()
    # Whoever took a copy of the refresh token of the very session that changes the password.
    branch = Person(other, alice.email, password=alice.password)
    branch.tokens = (await alice.refresh()).body
    assert (await branch.get("/users/me")).status == 200
    new = "another long password"
    assert (
        await alice.post("/auth/password/change", {"current_password": alice.password, "new_password": new})
    ).status == 204
    for ended in (revoked, listed, changed, branch):
        assert (await ended.get("/users/me")).status == 401
    assert (await alice.get("/users/me")).status == 200
    alice.password = new
    erased = await signed_in()
    assert (await alice.delete("/users/me", {"password": new})).status == 204
    assert (await erased.get("/users/me")).status == 401
    assert (await alice.get("/users/me")).status == 401


async def test_every_way_of_ending_a_session_reaches_its_access_tokens(make_client: MakeClient) -> None:
    client = await make_client()
    await end_in_every_way(client, client)
