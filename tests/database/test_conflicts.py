"""Transactions of PostgreSQL that are in each other's way: workers of one queue, and requests that are given up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from referral.database import Connection, ConnectionLost, Database, DatabaseUnavailable, TransactionConflict
from referral.database.opening import open_database
from referral.queries import outbox, profiles, users
from tests.conftest import Client
from tests.support.people import Person
from tests.support.rows import user


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
    ("error", "detail"),
    [
        (TransactionConflict("another one was first"), "Too many requests change the same at once."),
        (ConnectionLost("connection lost"), "The database cannot be used at the moment."),
        (DatabaseUnavailable("no answer"), "The database cannot be used at the moment."),
    ],
)
async def test_a_request_that_is_given_up_says_what_it_was_given_up_for(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, detail: str
) -> None:
    async def fail(*_: Any) -> None:
        raise error

    alice = await Person.register(client, "alice")
    monkeypatch.setattr(users, "update_username", fail)
    answer = await alice.patch("/users/me", {"username": "alicia"})
    assert (answer.problem, answer.body["detail"]) == ("unavailable", detail)
    assert answer.headers["Retry-After"]
