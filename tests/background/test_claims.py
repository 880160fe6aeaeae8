"""Queues that several processes claim from at once: none waits for another one in a circle, and nothing is claimed twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from referral.database import Connection, Database
from referral.database.opening import open_database
from referral.queries import outbox, profiles
from tests.support.rows import sql

PROCESSES = 6
ITEMS = 240
BATCH = 7
ROUNDS = 4

Claim = Callable[[Connection, int, int, int], Awaitable[list[str]]]


async def claim_mail(conn: Connection, now: int, lease_until: int, batch_size: int) -> list[str]:
    return [mail.id for mail in await outbox.claim_mail(conn, now, lease_until, batch_size)]


async def claim_lookups(conn: Connection, now: int, lease_until: int, batch_size: int) -> list[str]:
    return [lookup.user_id for lookup in await profiles.claim_lookups(conn, now, lease_until, batch_size)]


QUEUES = [
    pytest.param("outbox", "id", claim_mail, id="mail"),
    pytest.param("profile_lookups", "user_id", claim_lookups, id="look-ups"),
]


@pytest.fixture
def engine() -> str:
    """SQLite has one writer at a time."""
    return "postgres"


@pytest.fixture
async def pools(database_url: str) -> AsyncIterator[list[Database]]:
    """As many processes have them: connections that share nothing but the database."""
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(PROCESSES):
            database = await open_database(database_url)
            stack.push_async_callback(database.close)
            opened.append(database)
        yield opened


async def fill(database_url: str) -> None:
    """As many users, each with a mail and a look-up that wait."""
    names = [f"'{number}'" for number in range(ITEMS)]
    for statement, row in (
        ("INSERT INTO users (id, external_id, role, created_at)", "({name}, {name}, 'user', 1)"),
        (
            "INSERT INTO outbox (id, user_id, kind, recipient, language, params, created_at, next_attempt_at)",
            "({name}, {name}, 'code', 'x', 'en', '{{}}', 1, 1)",
        ),
        ("INSERT INTO profile_lookups (user_id, created_at, next_attempt_at)", "({name}, 1, 1)"),
    ):
        await sql(database_url, f"{statement} VALUES {', '.join(row.format(name=name) for name in names)}")


@pytest.mark.parametrize(("table", "key", "claim"), QUEUES)
async def test_many_processes_claim_each_item_once_and_none_is_undone(
    pools: list[Database], database_url: str, table: str, key: str, claim: Claim
) -> None:
    await fill(database_url)
    order, claimed = random.Random(1), Counter[str]()

    async def work(database: Database, now: int) -> None:
        while True:
            async with database.transaction() as conn:
                found = await claim(conn, now, now + 1, BATCH)
                claimed.update(found)
                # A process that is slow to commit: the others come meanwhile.
                await asyncio.sleep(order.random() / 100)
            if not found:
                return

    for turn in range(1, ROUNDS + 1):
        # All are due at one time: which comes first is by their places in the table, which change.
        await sql(database_url, f"UPDATE {table} SET next_attempt_at = {turn} WHERE length({key}) < 3")
        await sql(database_url, f"UPDATE {table} SET next_attempt_at = {turn}")
        claimed.clear()
        await asyncio.gather(*(work(database, turn) for database in pools))
        assert claimed == {str(number): 1 for number in range(ITEMS)}
    found = await sql(database_url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert [row[0] for row in found] == [0]


@pytest.mark.parametrize(("table", "key", "claim"), QUEUES)
async def test_a_claim_waits_for_nobody_who_has_some_of_what_is_due(
    pools: list[Database], database_url: str, table: str, key: str, claim: Claim
) -> None:
    """Whoever waits while others wait for what they have may do so in a circle."""
    await fill(database_url)
    async with pools[0].transaction() as first, pools[1].transaction() as second:
        some = await claim(first, 2, 9, BATCH)
        async with asyncio.timeout(10):
            others = await claim(second, 2, 9, ITEMS)
        assert sorted(some + others) == sorted(str(number) for number in range(ITEMS))
