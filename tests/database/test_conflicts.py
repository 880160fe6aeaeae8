"""Transactions of PostgreSQL that are in each other's way: workers of one queue, and requests that are given up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from referral.database import (
    Connection,
    ConnectionLost,
    Database,
    DatabaseUnavailable,
    TransactionConflict,
    postgres,
    retries,
)
from referral.database.opening import open_database
from referral.database.retries import Retries
from referral.queries import outbox, profiles, users
from tests.conftest import Client, MakeClient
from tests.support.people import Person
from tests.support.rows import sql, user


@pytest.fixture
def engine() -> str:
    return "postgres"


@pytest.mark.parametrize("queue", ["outbox", "profile_lookups"])
async def test_what_another_worker_is_about_to_claim_is_skipped(database_url: str, queue: str) -> None:
    databases = [await open_database(database_url) for _ in range(2)]
    async with databases[0].transaction() as conn:
        for number in range(60):
            await users.insert_user(conn, user(f"person{number}"))
            await outbox.insert_mail(conn, f"{number}", "code", f"person{number}", "x@example.com", "en", 1)
            await profiles.insert_lookup(conn, f"person{number}", 1)

    async def claim(conn: Connection, most: int) -> set[str]:
        if queue == "outbox":
            return {mail.id for mail in await outbox.claim_mail(conn, 2, 10, most)}
        return {lookup.user_id for lookup in await profiles.claim_lookups(conn, 2, 10, most)}

    async with databases[0].transaction() as conn:
        first = await claim(conn, 10)
        # Without waiting for the first, whose transaction is still open.
        async with databases[1].transaction() as second_conn:
            second = await claim(second_conn, 10)
    assert len(first) == len(second) == 10
    assert not first & second

    async def work_off(database: Database) -> list[str]:
        async with database.transaction() as conn:
            return list(await claim(conn, 7))

    claimed = await asyncio.gather(*(work_off(databases[number % 2]) for number in range(12)))
    rest = [item for batch in claimed for item in batch]
    assert len(rest) == len(set(rest)) == 40
    for database in databases:
        await database.close()


@pytest.mark.parametrize(
    ("error", "problem", "detail"),
    [
        (
            TransactionConflict("another one was first"),
            "conflict",
            "Others change the same at once, again and again. Nothing was done.",
        ),
        (ConnectionLost("connection lost"), "unavailable", "The database cannot be used at the moment."),
        (DatabaseUnavailable("no answer"), "unavailable", "The database cannot be used at the moment."),
    ],
)
async def test_a_request_that_is_given_up_says_what_it_was_given_up_for(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, problem: str, detail: str
) -> None:
    async def fail(*_: Any) -> None:
        raise error

    alice = await Person.register(client, "alice")
    monkeypatch.setattr(users, "update_username", fail)
    answer = await alice.patch("/users/me", {"username": "alicia"})
    assert (answer.status, answer.problem, answer.body["detail"]) == (503, problem, detail)
    assert answer.headers["Retry-After"]


class TestSerializable:
    """Roles whose default is SERIALIZABLE, and engines that have no other level."""

    @pytest.fixture
    def serializable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """PostgreSQL as such an engine: whatever level is asked for, transactions are serializable."""
        monkeypatch.setattr(postgres, "BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE")

    async def test_a_storm_on_one_referrer_ends_well(self, client: Client, serializable: None) -> None:
        alice = await Person.register(client, "alice")
        code = await alice.make_code()
        people = [await Person.register(client, f"person{number}") for number in range(24)]

        async def comes(person: Person) -> None:
            # As a client does that is told to.
            while (answer := await person.post("/users/me/referrer", {"code": code})).status == 503:
                assert answer.problem == "conflict", answer.body
                await asyncio.sleep(float(answer.headers["Retry-After"]))
            assert answer.status == 201, answer.body

        await asyncio.gather(*map(comes, people))
        assert (await alice.me())["referral_count"] == len(people)

    async def test_a_default_of_the_role_changes_nothing(self, database_url: str, make_client: MakeClient) -> None:
        await sql(database_url, "CREATE ROLE careful LOGIN SUPERUSER")
        await sql(database_url, "ALTER ROLE careful SET default_transaction_isolation = serializable")
        client = await make_client(database_url=database_url.replace("referral@", "careful@"))
        alice = await Person.register(client, "alice")
        code = await alice.make_code()
        people = [await Person.register(client, f"person{number}") for number in range(12)]
        answers = await asyncio.gather(*(person.post("/users/me/referrer", {"code": code}) for person in people))
        assert {answer.status for answer in answers} == {201}
        await client.close()
        await sql(database_url, "DROP ROLE careful")

    async def test_what_is_undone_a_few_times_is_made_in_the_end(
        self, client: Client, undoing: Callable[[int], Awaitable[None]]
    ) -> None:
        alice = await Person.register(client, "alice")
        await undoing(6)
        assert (await alice.patch("/users/me", {"username": "alicia"})).status == 200

    async def test_what_is_undone_each_time_is_given_up_within_seconds(
        self, client: Client, undoing: Callable[[int], Awaitable[None]], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        alice = await Person.register(client, "alice")
        await undoing(1_000_000)
        began = time.monotonic()
        answer = await alice.patch("/users/me", {"username": "alicia"})
        assert time.monotonic() - began < retries.RETRY_FOR + 2
        assert (answer.status, answer.problem) == (503, "conflict")
        assert answer.headers["Retry-After"]
        assert "attempt 6" in caplog.text
        assert (await alice.me())["username"] == "alice"

    @pytest.fixture
    def undoing(self, database_url: str) -> Callable[[int], Awaitable[None]]:
        """`await undoing(3)`: PostgreSQL undoes the next so many changes of users."""

        async def undo(times: int) -> None:
            # Sequences count on, whatever is undone.
            await sql(database_url, "CREATE SEQUENCE undone")
            await sql(
                database_url,
                "CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF nextval('undone') <= {times} THEN RAISE EXCEPTION 'undone' USING ERRCODE = '40001'; END IF; "
                "RETURN NEW; END $$",
            )
            await sql(database_url, "CREATE TRIGGER undo BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION undo()")

        return undo


async def test_pauses_grow_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    now = 100.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        pauses.append(seconds)
        now += seconds

    monkeypatch.setattr("referral.database.retries.asyncio.sleep", sleep)
    monkeypatch.setattr("referral.database.retries.time.monotonic", lambda: now)
    monkeypatch.setattr("referral.database.retries.random.uniform", lambda low, high: high)
    again = Retries()
    while await again.pause():
        assert again.attempt == len(pauses) + 1
    assert pauses == pytest.approx([0.04, 0.08, 0.16, 0.32, 0.64, 1.0])
    assert again.attempt == 7
