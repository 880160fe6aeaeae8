"""What is read and locked in one statement is what is there once the lock is held, not what was there before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from referral.database import Database
from referral.queries import sessions
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


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


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
