"""Statements that share a round trip to PostgreSQL: which may, and that they do what they do one by one."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from referral.database import Database
from referral.database.joining import joinable, joined
from referral.database.statements import Statement, load_statements
from referral.queries import audit, users
from tests.database.test_database import WORLD, execute
from tests.database.test_statements import deferred_statements
from tests.support.rows import sql
from tests.support.trips import Trips, count_in

NOTES = "INSERT INTO notes (id) VALUES ($1)"


@pytest.fixture
def engine() -> str:
    return "postgres"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (NOTES, "INSERT INTO others (id) VALUES ($1) RETURNING id", True),
        (NOTES, "SELECT id FROM others WHERE id = $1 FOR NO KEY UPDATE OF others", True),
        (NOTES, "UPDATE others SET id = $1 -- as in notes", True),
        ("UPDATE notes SET id = $1", "UPDATE others SET id = 'notes'", True),
        # What the first one changes, the second one would see as it was, or the other way round.
        (NOTES, "SELECT id FROM notes", False),
        (NOTES, "UPDATE others SET id = (SELECT n.id FROM notes n)", False),
        (NOTES, "UPDATE notes SET id = $1", False),
        ("UPDATE others SET id = (SELECT n.id FROM notes n)", NOTES, False),
        ("UPDATE notes SET id = $1", "UPDATE notes SET name = $1", False),
        # Rows beside each other; but none that is changed where it is there already.
        (NOTES, NOTES, True),
        (NOTES, "INSERT INTO notes (id) VALUES ($1) ON CONFLICT (id) DO NOTHING", True),
        (NOTES, "INSERT INTO notes (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET id = $1", False),
        (NOTES, "INSERT INTO notes (id) SELECT id FROM others", False),
        # Whose rows are wanted, and what is no query.
        ("UPDATE notes SET id = $1 RETURNING id", "SELECT id FROM others", False),
        (NOTES, "LOCK TABLE others IN ROW SHARE MODE", False),
        (NOTES, "WITH due AS (SELECT id FROM others) SELECT id FROM due", False),
    ],
)
def test_statements_share_a_round_trip_that_have_nothing_to_do_with_each_other(
    first: str, second: str, expected: bool
) -> None:
    returned = ("id",) if "RETURNING" in first else ()
    assert joinable(Statement(first, ("id",), returned), Statement(f"-- a comment\n{second};", ())) is expected


def test_parameters_keep_their_places() -> None:
    one = Statement("UPDATE a SET b = $2 WHERE c = $1", ("c", "b"))
    two = Statement("INSERT INTO d (e) VALUES ($1) -- why\n;", ("e",))
    three = Statement("SELECT f FROM g WHERE h = $1 AND i = $2;", ("h", "i"), ("f",))
    assert joined((one, two, three)) == Statement(
        "WITH joined_0 AS (\nUPDATE a SET b = $2 WHERE c = $1\n), joined_1 AS (\nINSERT INTO d (e) VALUES ($3) -- why\n\n)\n"
        "SELECT f FROM g WHERE h = $4 AND i = $5",
        ("0.c", "0.b", "1.e", "2.h", "2.i"),
        ("f",),
    )


async def test_postgresql_takes_whatever_is_deferred_before_whatever_it_can_be_joined_with(database_url: str) -> None:
    statements = load_statements("postgres")
    deferred = [statements[name] for name in sorted(set(deferred_statements())) if not statements[name].columns]
    assert len(deferred) > 5
    connection, count = await asyncpg.connect(database_url), 0
    for statement in statements.values():
        together: list[Statement] = []
        for other in deferred:
            if all(joinable(former, other) for former in together) and joinable(other, statement):
                together.append(other)
        if together:
            prepared = await connection.prepare(joined((*together, statement)).sql)
            assert tuple(attribute.name for attribute in prepared.get_attributes()) == statement.columns
            count += 1
    await connection.close()
    assert count > 200


async def test_what_is_joined_does_all_that_it_does_one_by_one(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await execute(database, *WORLD)
    trips = Trips()
    count_in(trips, monkeypatch)
    trips.begin()

    def event(name: str) -> audit.Event:
        return audit.Event(name, 1, "signed-in", "alice", "alice", None, None, None, "{}")

    conn: Any
    async with database.transaction() as conn:
        await audit.insert_event(conn, event("one"))
        await audit.insert_event(conn, event("two"))
        await users.increment_code_count(conn, "alice")
        # Together with this one, which sees nothing of what is deferred; and this one for itself.
        assert await conn.values("find_session_of_refresh_token", str, token_hash="token") == ["session"]
        await users.increment_code_count(conn, "alice")
        await users.increment_code_count(conn, "alice")
    assert len(trips.database) == 1 + 1 + 2 + 1
    found = await sql(database_url, "SELECT code_count FROM users WHERE id = 'alice'")
    assert [row[0] for row in found] == [3]
    found = await sql(database_url, "SELECT id FROM audit_events WHERE id IN ('one', 'two') ORDER BY id")
    assert [row[0] for row in found] == ["one", "two"]
