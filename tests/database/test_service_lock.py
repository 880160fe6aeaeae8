"""Who may serve from a database at once: one service that caches in its own memory, or several others."""

from __future__ import annotations

import os
import re
import signal
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from referral.database import is_postgres, sqlite_path
from referral.database.service_lock import LOCK, ServiceRunning, service_lock
from tests.conftest import Command
from tests.support.commands import Service, refusal, run_command, serve
from tests.support.servers import PostgresServer, SpareDatabases, wait_until

HELD = f"SELECT l.pid FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.classid = {LOCK}"
PUBLIC = zlib.crc32(b"public")
HOLDER = r"pid (\d+) on \S+ since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def refused(database_url: str, holder: Service, cache: str = "memory://", workers: int = 1) -> None:
    settings = {"REFERRAL_CACHE_URL": cache, "REFERRAL_SERVER_WORKERS": str(workers)}
    line = refusal(run_command(stdin=b"", REFERRAL_DATABASE_URL=database_url, **settings))
    subject = "the PostgreSQL database" if is_postgres(database_url) else str(sqlite_path(database_url))
    found = re.fullmatch(
        rf"{re.escape(subject)}: a service runs on it already \({HOLDER}\); with cache.url = memory:// nobody else may "
        r"serve from the same database\. Stop the other one, or let all of them share redis:// or use none://",
        line,
    )
    assert found, line
    assert int(found[1]) == holder.process.pid


def test_a_second_service_is_refused_while_one_caches_in_its_memory_and_starts_once_that_was_killed(
    database_url: str,
) -> None:
    with serve(REFERRAL_DATABASE_URL=database_url) as first:
        refused(database_url, first)
        refused(database_url, first, "none://")
        refused(database_url, first, "none://", workers=2)
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
        with serve(REFERRAL_DATABASE_URL=database_url) as second:
            refused(database_url, second)
            assert second.end() == 0
        with serve(REFERRAL_DATABASE_URL=database_url, REFERRAL_CACHE_URL="none://") as third:
            assert third.end() == 0


def test_services_that_cache_nothing_of_their_own_serve_side_by_side_and_keep_a_memory_cache_out(database_url: str) -> None:
    shared = {"REFERRAL_DATABASE_URL": database_url, "REFERRAL_CACHE_URL": "none://"}
    with serve(**shared) as first, serve(**shared, REFERRAL_SERVER_WORKERS="2") as second:
        assert first.register("alice")[0] == 201
        assert second.sign_in("alice")[0] == 200
        line = refusal(run_command(REFERRAL_DATABASE_URL=database_url))
        assert re.search(rf"a service runs on it already \({HOLDER}\)", line)
        # The lock is the master's: a worker that goes leaves it.
        pid = second.process.pid
        worker = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        assert first.end() == 0
        os.kill(worker, signal.SIGQUIT)
        wait_until(lambda: not Path(f"/proc/{worker}").exists())
        assert "a service runs on it already" in refusal(run_command(REFERRAL_DATABASE_URL=database_url))
        assert second.end() == 0
    with serve(REFERRAL_DATABASE_URL=database_url) as third:
        assert third.end() == 0


async def test_commands_work_beside_a_service(database_url: str, tmp_path: Path, command: Command) -> None:
    with serve(REFERRAL_DATABASE_URL=database_url) as service:
        assert service.register("alice")[0] == 201
        calls = [["migrate"], ["admins", "list"], ["sessions", "end", "alice@example.com"], ["outbox"], ["audit"]]
        if not is_postgres(database_url):
            calls.append(["backup", str(tmp_path / "copy.db")])
        for arguments in calls:
            # The service is another process: a command in this one is kept out by the same locks as one of its own.
            await command(*arguments)


def test_a_start_that_is_refused_has_migrated_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    with service_lock(url, alone=True):
        assert "a service runs on it already" in refusal(run_command(REFERRAL_DATABASE_URL=url))
        assert not (tmp_path / "new.db").exists()


def test_the_file_of_the_lock_is_for_nobody_else_and_one_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with service_lock(f"sqlite:///{tmp_path}/new.db", alone=True):
        assert (tmp_path / "new.db.lock").stat().st_mode & 0o777 == 0o600
    (tmp_path / "new.db.lock").unlink()
    (tmp_path / "new.db.lock").mkdir()
    assert refusal(run_command(REFERRAL_DATABASE_URL=f"sqlite:///{tmp_path}/new.db")).endswith(
        "new.db: its lock new.db.lock cannot be opened: Is a directory"
    )


class TestPostgres:
    """What befalls the connection that holds the lock."""

    @pytest.fixture
    def engine(self) -> str:
        return "postgres"

    @pytest.fixture
    def ask(self, database_url: str) -> Callable[[str], list[Any]]:
        def rows(statement: str) -> list[Any]:
            with psycopg.connect(database_url, autocommit=True) as server:
                return server.execute(statement.encode()).fetchall()

        return rows

    def test_the_lock_is_taken_again_when_its_connection_is_lost(
        self, database_url: str, ask: Callable[[str], list[Any]]
    ) -> None:
        with serve(REFERRAL_DATABASE_URL=database_url) as service:
            [(holder,)] = ask(HELD)
            assert ask(f"SELECT pg_terminate_backend({holder})") == [(True,)]
            wait_until(lambda: ask(HELD) not in ([], [(holder,)]))
            refused(database_url, service)
            assert service.end() == 0
            assert "the service lock is held again" in service.errors.read_text()

    def test_a_service_whose_lock_went_to_another_one_stops(
        self, database_url: str, ask: Callable[[str], list[Any]]
    ) -> None:
        with serve(REFERRAL_DATABASE_URL=database_url) as service, psycopg.connect(database_url, autocommit=True) as other:
            [(holder,)] = ask(HELD)
            # Whoever waits in PostgreSQL's queue gets the lock before the service can ask again.
            key = PUBLIC - 2**32 if PUBLIC >= 2**31 else PUBLIC
            asking = threading.Thread(target=other.execute, args=[f"SELECT pg_advisory_lock({LOCK}, {key})".encode()])
            asking.start()
            wait_until(lambda: ask("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") != [])
            ask(f"SELECT pg_terminate_backend({holder})")
            asking.join()
            assert service.process.wait(20) == 0
            assert service.end() == 0
            assert "stopping: the PostgreSQL database: a service runs on it already" in service.errors.read_text()

    def test_the_lock_is_in_no_vacuums_way(self, database_url: str, ask: Callable[[str], list[Any]]) -> None:
        name = database_url.rpartition("/")[2]
        with psycopg.connect(database_url, autocommit=True) as server:
            server.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'".encode())
        with service_lock(database_url, alone=True):
            [(holder,)] = ask(HELD)
            state = f"SELECT state, backend_xid, backend_xmin FROM pg_stat_activity WHERE pid = {holder}"
            assert ask(state) == [("idle in transaction", None, None)]
        assert ask(HELD) == []

    def test_each_schema_of_a_database_has_its_own_lock(self, database_url: str) -> None:
        other = f"{database_url}?options=-csearch_path%3Dpg_catalog"
        with service_lock(database_url, alone=True), service_lock(other, alone=True):
            with pytest.raises(ServiceRunning), service_lock(database_url, alone=False):
                pass
            with pytest.raises(ServiceRunning), service_lock(other, alone=True):
                pass


def test_one_file_has_one_lock_by_whatever_link_it_is_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "two" / "link.db").symlink_to(tmp_path / "one" / "referral.db")
    one, two = f"sqlite:///{tmp_path}/one/referral.db", f"sqlite:///{tmp_path}/two/link.db"
    with service_lock(one, alone=True), pytest.raises(ServiceRunning), service_lock(two, alone=True):
        raise AssertionError("two of them")


def test_an_engine_without_such_locks_is_served_all_the_same(
    postgres_server: PostgresServer, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    spare: SpareDatabases = request.getfixturevalue("spare_databases")
    name = spare.take()
    url = postgres_server.url(name)
    for function in ("pg_try_advisory_xact_lock", "pg_try_advisory_xact_lock_shared"):
        # It hides PostgreSQL's own, and fails as an engine does that has none.
        postgres_server.execute(
            f"CREATE FUNCTION {function}(int, int) RETURNS boolean LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'unknown function: {function}()' USING ERRCODE = '42883'; END $$",
            name,
        )
    url = f"{url}?options=-csearch_path%3Dpublic,pg_catalog"
    with serve(REFERRAL_DATABASE_URL=url) as first, serve(REFERRAL_DATABASE_URL=url) as second:
        assert first.register("alice")[0] == second.register("bob")[0] == 201
        assert first.end() == second.end() == 0
        assert "this database knows no such lock: make sure that no other service uses it" in first.errors.read_text()
    spare.give_back(name)
