"""Migrations beside those who write: they hold nobody up, and an index build that was killed is made whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from referral.database import DatabaseUnavailable, is_postgres
from referral.database import migrate as module
from referral.database.migrate import MigrationError, break_lock, connect, migrate, read_migrations
from tests.support.rows import sql
from tests.support.servers import wait_until
from tests.support.service import ROOT
from tests.support.versions import EXPANDING, LAST, later_migrations

INDEXES = {
    "8002.indexes.sql": f"""-- depends: {LAST}
-- transactional: false
-- Users by their creation.
CREATE INDEX CONCURRENTLY users_by_creation ON users (created_at, id) WHERE erased_at IS NULL;

-- Nobody is created twice; for a test.
CREATE UNIQUE INDEX CONCURRENTLY users_once ON users (created_at, role);
""",
    "8002.indexes.rollback.sql": "DROP INDEX CONCURRENTLY users_once;\n\nDROP INDEX CONCURRENTLY users_by_creation;\n",
}
USER = "INSERT INTO users (id, role, created_at, external_id) VALUES ('{0}', 'user', {1}, '{0}')"
# What is there of the indexes, and whether it is of use.
STATE = """
SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relname IN ('users_by_creation', 'users_once') ORDER BY 1
"""
VALID = [("users_by_creation", True), ("users_once", True)]
# A start of a migration in a process that can be killed.
MIGRATE = """
import sys
from pathlib import Path
from referral.database import migrate as module

module.MIGRATIONS = Path(sys.argv[2])
module.migrate(sys.argv[1])
"""


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`later(INDEXES)`: from now on this process is a later version, which has these migrations more."""

    def become(*added: dict[str, str]) -> Path:
        folder = later_migrations(tmp_path / "later", *added)
        monkeypatch.setattr(module, "MIGRATIONS", folder)
        return folder

    return become


async def indexes(url: str) -> list[Any]:
    if is_postgres(url):
        return await sql(url, STATE)
    names = await sql(url, "SELECT name FROM sqlite_schema WHERE name IN ('users_by_creation', 'users_once') ORDER BY 1")
    return [(name, True) for (name,) in names]


async def test_indexes_go_up_down_and_up_over_rows(database_url: str, later: Callable[..., Path]) -> None:
    for number in range(20):
        await sql(database_url, USER.format(f"user-{number}", number))
    later(INDEXES)
    assert migrate(database_url) == ["8002.indexes"]
    for _ in range(2):
        assert await indexes(database_url) == VALID
        with connect(database_url) as backend:
            [step] = backend.to_rollback(read_migrations()).filter(lambda one: one.id == "8002.indexes")
            backend.rollback_one(step)
        assert await indexes(database_url) == []
        assert migrate(database_url) == ["8002.indexes"]


async def test_an_index_that_the_rows_forbid_is_told_and_leaves_nothing(
    database_url: str, later: Callable[..., Path]
) -> None:
    await sql(database_url, USER.format("one", 1))
    await sql(database_url, USER.format("two", 1))
    later(INDEXES)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match=r"users_once|users\.created_at"):
            migrate(database_url)
        # The one that could be built stays, and is taken as it is.
        assert await indexes(database_url) == VALID[:1]
        # An index that is not valid would refuse this one.
        await sql(database_url, USER.format("three", 1))
        await sql(database_url, "DELETE FROM users WHERE id = 'three'")
    await sql(database_url, "DELETE FROM users WHERE id = 'two'")
    assert migrate(database_url) == ["8002.indexes"]
    assert await indexes(database_url) == VALID


@pytest.mark.parametrize(
    "statement", ["CREATE INDEX plain ON users (role)", "DROP TABLE outbox", "UPDATE users SET role = ''"]
)
def test_what_is_no_index_build_needs_a_transaction(database_url: str, later: Callable[..., Path], statement: str) -> None:
    later({"8002.wrong.sql": f"-- depends: {LAST}\n-- transactional: false\n{statement};\n"})
    with pytest.raises(ValueError, match=r"8002\.wrong runs in no transaction, and may only build indexes concurrently"):
        migrate(database_url)
    with connect(database_url) as backend:
        assert len(backend.to_apply(read_migrations())) == 1


class TestPostgres:
    """What waits for whom, and what a kill leaves."""

    @pytest.fixture
    def engine(self) -> str:
        return "postgres"

    @pytest.fixture
    def holder(self, database_url: str) -> Iterator[psycopg.Connection]:
        """A connection in a transaction that has written a user, and has not ended."""
        with psycopg.connect(database_url) as held:
            held.execute(USER.format("held", 1).encode())
            yield held

    @contextmanager
    def migrating(self, url: str) -> Iterator[threading.Thread]:
        """A thread that migrates; it has, when the block is left."""
        failed: list[BaseException] = []

        def work() -> None:
            try:
                migrate(url)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        yield thread
        thread.join(60)
        assert not thread.is_alive()
        if failed:
            raise failed[0]

    @pytest.fixture
    def ask(self, database_url: str) -> Iterator[Callable[[str], list[Any]]]:
        with psycopg.connect(database_url, autocommit=True) as other:
            # Whoever is held up for so long is held up for as long as the test's transaction lasts.
            other.execute("SET lock_timeout = '5s'")

            def rows(statement: str) -> list[Any]:
                cursor = other.execute(statement.encode())
                return cursor.fetchall() if cursor.description else []

            yield rows

    def test_an_index_is_built_while_others_write(
        self, database_url: str, later: Callable[..., Path], holder: psycopg.Connection, ask: Callable[[str], list[Any]]
    ) -> None:
        later(INDEXES)
        with self.migrating(database_url) as thread:
            # It waits for the transaction before it, and everybody else writes.
            wait_until(lambda: ask(STATE) == [("users_by_creation", False)])
            for number in range(2, 20):
                ask(USER.format(f"user-{number}", number))
                ask(f"UPDATE users SET role = 'admin' WHERE id = 'user-{number}'")
                ask(f"DELETE FROM users WHERE id = 'user-{number - 3}'")
            assert thread.is_alive()
            holder.commit()
        assert ask(STATE) == VALID

    def test_a_change_of_a_table_in_use_lets_others_pass_and_comes_in_the_end(
        self, database_url: str, later: Callable[..., Path], holder: psycopg.Connection, ask: Callable[[str], list[Any]]
    ) -> None:
        later(EXPANDING)
        waits = "SELECT 1 FROM pg_locks WHERE relation = 'users'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted"
        with self.migrating(database_url) as thread:
            for number in range(2, 6):
                wait_until(lambda: ask(waits) == [(1,)])
                ask(USER.format(f"user-{number}", number))
            assert thread.is_alive()
            holder.commit()
        assert ask("SELECT nickname FROM users WHERE id = 'held'") == [(None,)]

    def test_a_transaction_that_does_not_end_is_told(
        self, database_url: str, later: Callable[..., Path], holder: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        later(EXPANDING)
        monkeypatch.setattr(module, "LOCK_PATIENCE", 0.5)
        with pytest.raises(MigrationError, match="a transaction has held a table for "):
            migrate(database_url)
        holder.rollback()
        assert migrate(database_url) == ["8001.things"]

    @pytest.mark.parametrize("server_goes_on", [True, False])
    def test_a_build_that_was_killed_is_made_whole(
        self,
        database_url: str,
        later: Callable[..., Path],
        holder: psycopg.Connection,
        ask: Callable[[str], list[Any]],
        server_goes_on: bool,
    ) -> None:
        folder = later(INDEXES)
        building = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND state = 'active'"
        process = subprocess.Popen([sys.executable, "-c", MIGRATE, database_url, str(folder)], cwd=ROOT)
        wait_until(lambda: ask(STATE) == [("users_by_creation", False)])
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        # The server does not look whether its client is still there.
        [(pid,)] = ask(building)
        if not server_goes_on:
            ask(f"SELECT pg_terminate_backend({pid})")
            wait_until(lambda: ask(building) == [])
        assert ask(STATE) == [("users_by_creation", False)]
        number = "SELECT oid FROM pg_class WHERE relname = 'users_by_creation'"
        before = ask(number)
        break_lock(database_url)
        with self.migrating(database_url):
            wait_until(lambda: ask("SELECT count(*) FROM yoyo_lock") == [(1,)])
            # Long enough to drop what it should wait for.
            time.sleep(0.5)
            holder.commit()
        assert ask(STATE) == VALID
        # What the server finished is kept, and not built again.
        assert (ask(number) == before) == server_goes_on
        assert ask("SELECT count(*) FROM _yoyo_migration WHERE migration_id = '8002.indexes'") == [(1,)]
        assert migrate(database_url) == []
        assert ask("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
