"""What is read and locked in one statement is what is there once the lock is held, not what was there before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from referral.database import Database
from referral.queries import product_users, referrals, rules, sessions
from referral.queries.referrals import Owner
from referral.queries.sessions import LiveSession, Origin
from tests.database.test_database import WORLD, execute
from tests.support.rows import sql

# While a session is looked up: what somebody else has done when the user's lock is free, and what is found then.
CHANGES = [
    ("DELETE FROM sessions WHERE id = 'session'", None),
    ("DELETE FROM sessions WHERE user_id = 'alice'", None),
    (
        "UPDATE sessions SET generation = 7, kept_refresh = 'kept' WHERE id = 'session'",
        {"generation": 7, "kept_refresh": "kept"},
    ),
    ("UPDATE sessions SET expires_at = 1 WHERE id = 'session'", None),
    ("UPDATE users SET role = 'admin' WHERE id = 'alice'", {"role": "admin"}),
    ("UPDATE users SET username = 'other', username_key = 'other' WHERE id = 'alice'", {}),
    (
        "UPDATE users SET suspended_at = 5, suspended_reason = 'why' WHERE id = 'alice'; "
        "UPDATE sessions SET generation = 7 WHERE id = 'session'",
        None,
    ),
    ("SELECT 1", {}),
]


@pytest.fixture
def engine() -> str:
    """SQLite has no locks of rows."""
    return "postgres"


async def meanwhile(other: Any, change: str, ask: Callable[[], Awaitable[Any]]) -> Any:
    """What `ask` finds that waits for the user's lock, which somebody holds who makes the change."""
    transaction = other.transaction()
    await transaction.start()
    await other.execute("SELECT id FROM users WHERE id = 'alice' FOR NO KEY UPDATE")
    asking = asyncio.ensure_future(ask())
    done, _ = await asyncio.wait([asking], timeout=0.2)
    assert not done, "it waits for whoever has the user"
    await other.execute(change)
    await transaction.commit()
    return await asking


@pytest.mark.parametrize(("change", "expected"), CHANGES)
async def test_a_session_that_is_held_is_as_whoever_had_the_user_has_left_it(
    database: Database, database_url: str, other: Any, change: str, expected: dict[str, Any] | None
) -> None:
    await execute(database, *WORLD, "UPDATE sessions SET expires_at = 1000 WHERE id = 'session'")
    before = {"user_id": "alice", "role": "user", "session_id": "session", "expires_at": 1000}

    async def ask() -> tuple[LiveSession | None, bool]:
        async with database.transaction() as conn:
            found = await sessions.hold_live_session(conn, "session", 10)
            free = "SELECT id FROM users WHERE id = 'alice' FOR NO KEY UPDATE SKIP LOCKED"
            return found, await sql(database_url, free) == []

    found, is_locked = await meanwhile(other, change, ask)
    assert is_locked or found is None
    assert found == (None if expected is None else LiveSession(**{**before, **expected}))


async def test_a_session_that_ends_while_it_is_held_ends_afterwards(database: Database, other: Any) -> None:
    await execute(database, *WORLD, "UPDATE sessions SET expires_at = 1000 WHERE id = 'session'")
    async with database.transaction() as conn:
        assert await sessions.hold_live_session(conn, "session", 10) is not None
        ending = asyncio.ensure_future(other.execute("DELETE FROM sessions WHERE id = 'session'"))
        done, _ = await asyncio.wait([ending], timeout=0.2)
        assert not done
    assert await ending == "DELETE 1"


@pytest.mark.parametrize(
    ("change", "begins"),
    [
        ("UPDATE users SET password_hash = 'other' WHERE id = 'alice'", False),
        ("UPDATE users SET suspended_at = 5, suspended_reason = 'why' WHERE id = 'alice'", False),
        ("UPDATE users SET username = 'other', username_key = 'other' WHERE id = 'alice'", True),
    ],
)
async def test_no_session_begins_by_a_password_that_is_being_changed(
    database: Database, other: Any, change: str, begins: bool
) -> None:
    await execute(database, *WORLD, "UPDATE users SET password_hash = 'known' WHERE id = 'alice'")

    async def ask() -> bool:
        async with database.transaction() as conn:
            return await sessions.insert_session(conn, "new", "alice", "known", 10, 1000, Origin(None, None))

    assert await meanwhile(other, change, ask) is begins
    assert len(await other.fetch("SELECT id FROM sessions WHERE id = 'new'")) == begins


async def find_rules(database: Database) -> list[tuple[str, int]]:
    async with database.transaction() as conn:
        return [(rule.id, rule.version) for rule in await rules.hold_rules_met(conn, "purchase", "bob")]


async def test_rules_are_met_as_whoever_changes_them_has_left_them(database: Database, other: Any) -> None:
    await execute(database, *WORLD)
    # Once without waiting: what is prepared by then is planned anew.
    before = await find_rules(database)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("LOCK TABLE rules IN EXCLUSIVE MODE")
    asking = [asyncio.ensure_future(find_rules(database)) for _ in range(2)]
    done, _ = await asyncio.wait(asking, timeout=0.2)
    assert not done
    await other.execute(
        "INSERT INTO rules (id, version, on_type, side, created_at) VALUES ('x', 1, 'purchase', 'referrer', 1)"
    )
    await other.execute("INSERT INTO rule_versions (rule_id, version, created_at, definition) VALUES ('x', 1, 1, '{}')")
    await transaction.commit()
    for found in await asyncio.gather(*asking):
        assert sorted(found) == sorted([*before, ("x", 1)])


async def test_rules_that_were_met_stay_until_the_end_and_keep_nobody_else_out(database: Database, other: Any) -> None:
    await execute(database, *WORLD)
    async with database.transaction() as conn:
        await rules.hold_rules_met(conn, "purchase", "bob")
        assert await asyncio.wait_for(find_rules(database), 4) is not None
        changing = asyncio.ensure_future(other.execute("BEGIN; LOCK TABLE rules IN EXCLUSIVE MODE; COMMIT"))
        done, _ = await asyncio.wait([changing], timeout=0.2)
        assert not done
    await changing


RENAMED = "UPDATE users SET converted_count = 7, name = 'A', name_key = 'a' WHERE id = 'alice'"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("SELECT 1", Owner("alice", "alice", None, 0)),
        (RENAMED, Owner("alice", "alice", "A", 7)),
        ("UPDATE users SET suspended_at = 5, suspended_reason = 'why' WHERE id = 'alice'", None),
    ],
)
async def test_a_referrer_is_as_whoever_had_them_has_left_them(
    database: Database, other: Any, change: str, expected: Owner | None
) -> None:
    await execute(database, *WORLD)

    async def ask() -> Owner | None:
        async with database.transaction() as conn:
            return await referrals.insert_first_referral(conn, "carol", "alice", "ALICES-1", 5, "code")

    assert await meanwhile(other, change, ask) == expected
    assert len(await other.fetch("SELECT user_id FROM referrals WHERE user_id = 'carol'")) == (expected is not None)


async def test_the_rules_are_held_before_the_user_of_an_event_is_locked(database: Database, other: Any) -> None:
    await execute(database, *WORLD)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("LOCK TABLE rules IN EXCLUSIVE MODE")

    async def ask() -> str | None:
        async with database.transaction() as conn:
            return await product_users.lock_user_by_external_id(conn, "42")

    asking = asyncio.ensure_future(ask())
    done, _ = await asyncio.wait([asking], timeout=0.2)
    assert not done
    # Whoever waits for the rules has not got the user.
    assert await other.fetchval("SELECT id FROM users WHERE id = 'named' FOR NO KEY UPDATE SKIP LOCKED") == "named"
    await transaction.commit()
    assert await asking == "named"
