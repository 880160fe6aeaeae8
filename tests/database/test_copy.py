"""`run.py copy`: everything arrives and works there, or nothing does, and the source stays as it was."""

from __future__ import annotations

import os
import pty
import signal
import sqlite3
import subprocess
import tracemalloc
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from referral.clock import now
from referral.database import DatabaseUnavailable, sqlite_path
from referral.database.copy import CopyRefused, copy
from referral.database.migrate import migrate
from tests.conftest import Client, MakeClient
from tests.support.people import Person, Product
from tests.support.programme import Programme
from tests.support.servers import PostgresServer, wait_until
from tests.support.service import run_py

MakePerson = Callable[..., Awaitable[Person]]

NUMBERED = "INSERT INTO announcements (id, type, at, subject_id, data) VALUES ('new', 'ping', 1, 'x', '{}') RETURNING number"

DELTA = "INSERT INTO stat_deltas (day, what, unit, count, amount) VALUES (0, 'x', '', 1, 1) RETURNING number"


@pytest.fixture
def engine() -> str:
    """What is copied from."""
    return "sqlite"


@pytest.fixture
def target(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database that nobody has migrated."""
    name = f"copy_{uuid.uuid4().hex}"
    postgres_server.execute(f"CREATE DATABASE {name}")
    yield postgres_server.url(name)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def tables_of(source: sqlite3.Connection) -> list[str]:
    names = [row[0] for row in source.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return [name for name in names if "yoyo" not in name and not name.startswith("sqlite")]


def contents_of_source(url: str) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(sqlite_path(url))) as source:
        return {name: sorted(source.execute(f"SELECT * FROM {name}"), key=repr) for name in tables_of(source)}


def contents_of_target(url: str, tables: list[str]) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(url) as connection:
        return {
            name: sorted((tuple(row) for row in connection.execute(f"SELECT * FROM {name}".encode())), key=repr)
            for name in tables
        }


def users_in(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM users").fetchone()
    assert row is not None
    return int(row[0])


async def populate(client: Client, person: MakePerson, url: str) -> tuple[Person, Person, str]:
    """A stopped installation with something in every table: two people, one by the other's code, and the code."""
    alice = await person("alice")
    code = await alice.make_code(max_uses=3)
    bob = await person("bob", referral_code=code)
    gone = await person("gone", referral_code=code)
    assert (await gone.delete("/users/me", {"password": gone.password})).status == 204
    await alice.post("/auth/password/reset", {"email": alice.email})
    programme = Programme(await Product.with_key(client, "admin"))
    await programme.rule(limits={"budget": {"unit": "USD", "amount": 900, "period": "ever"}})
    await programme.come()
    (reward,) = (await programme.buy()).body["rewards"]
    await programme.redeem("alice", 400)
    await programme.step(reward, "reverse", id="v", amount=50, reason="a test")
    await client.close()
    with closing(sqlite3.connect(sqlite_path(url))) as source, source:
        source.execute("UPDATE users SET role = 'admin' WHERE username = 'alice'")
        source.execute("UPDATE cache_epoch SET epoch = 7")
        # What no relay has told yet.
        source.executemany(
            "INSERT INTO announcements VALUES (?, ?, 'code.updated', 1, 'CODE', NULL, '{}')", [(70, "a70"), (71, "a71")]
        )
        source.execute(
            "INSERT INTO webhooks (id, url, types, status, secret, created_at) VALUES ('hook', 'x', '[]', 'enabled', 'x', 1)"
        )
        source.execute("INSERT INTO deliveries (seq, webhook_id, status, next_attempt_at) VALUES (1, 'hook', 'waiting', 0)")
        source.execute("INSERT INTO delivery_failures VALUES ('f', 1, 'hook', 1, NULL, 'x', 5)")
        source.execute("INSERT INTO replays VALUES ('hook', 1, '[]', 0, 1)")
        source.execute("INSERT INTO stat_days VALUES (0, 'converted', '', 0, 0, 0) ON CONFLICT DO NOTHING")
        source.execute("INSERT INTO session_cookies SELECT 'cookie', id, 1 FROM sessions LIMIT 1")
        source.execute("INSERT INTO second_factors VALUES (?, 'sealed', 1, 2, 3)", (bob.id,))
        source.execute("INSERT INTO recovery_codes VALUES (?, 'hash', NULL)", (bob.id,))
        source.execute("INSERT INTO service_keys VALUES ('key', 'shop', 'write', ?, 1, NULL)", (64 * "e",))
        source.execute("INSERT INTO identities VALUES ('https://a.example.com', 'Ж', ?, 1)", (bob.id,))
        # In another order than they refer to each other.
        event = (
            "INSERT INTO events (id, type, user_id, received_at, occurred_at, unit, amount, refunds, attribution) "
            "VALUES (?, ?, ?, 1, 1, 'USD', 5, ?, 'none')"
        )
        source.execute("PRAGMA foreign_keys = OFF")
        source.executemany(event, [("a", "refund", bob.id, "b"), ("b", "purchase", bob.id, None)])
        source.execute("INSERT INTO context_keys VALUES ('key', ?, 1)", (64 * "e",))
        source.execute("INSERT INTO event_contexts VALUES ('b', 'ip', ?, 'key', ?, 1, ?)", (bob.id, 64 * "e", alice.id))
        source.execute("INSERT INTO clicks VALUES ('click', ?, 1, 0, ?, 'key')", (code, 64 * "e"))
        source.execute("INSERT INTO click_keys VALUES (0, ?)", (64 * "e",))
        source.execute("INSERT INTO click_visitors VALUES (0, ?, ?)", (code, 32 * "e"))
        source.execute("INSERT INTO click_days VALUES (?, 0, ?, 3, 2, 1, 0)", (code, alice.id))
        source.execute("INSERT INTO signals VALUES (?, 'burst', '', 40, '{\"note\": \"Ж\"}', 1, 0)", (bob.id,))
        source.execute("INSERT INTO reviews VALUES (?, 'cleared', 40, 1, 2, 3, NULL, 'shop', 'A family', 0)", (bob.id,))
        source.execute("INSERT INTO blocks VALUES ('email', 'x@example.com', NULL, 1)")
        source.execute("INSERT INTO signing_key VALUES (1, 'HS256', ?, NULL, 1)", (64 * "f",))
        source.execute("INSERT INTO profiles VALUES (?, 'hunter', '{\"name\": \"Bób\"}', 1)", (bob.id,))
        source.execute("INSERT INTO profile_lookups VALUES (?, 1, ?, 0)", (alice.id, now() + 10**9))
        source.execute(
            "INSERT INTO one_time_tokens VALUES ('hash', ?, 'verify-email', 1, ?, 'x', 1, NULL, NULL)",
            (bob.id, now() + 10**9),
        )
        source.execute(
            "INSERT INTO outbox VALUES ('m', 'code', ?, 'x@example.com', 'ru', '{}', 1, 1, 5, 'refused\nwith \\ and \t', 2)",
            (bob.id,),
        )
    return alice, bob, code


def copy_by_command(source: str, target: str, **popen: Any) -> subprocess.Popen[str]:
    command = [*run_py(), "copy", "--to", target]
    environ = {"PATH": os.environ["PATH"], "REFERRAL_DATABASE_URL": source}
    return subprocess.Popen(
        command,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in the background of a shell are started with this signal ignored, and would hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **popen,
    )


async def test_a_copied_installation_has_every_row_and_goes_on_where_it_stopped(
    make_client: MakeClient, client: Client, person: MakePerson, database_url: str, target: str
) -> None:
    alice, bob, code = await populate(client, person, database_url)
    file = sqlite_path(database_url)
    before = file.read_bytes()
    process = copy_by_command(database_url, target)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    source = contents_of_source(database_url)
    assert all(source.values()), "every table has something to be copied"
    assert contents_of_target(target, list(source)) == source
    assert file.read_bytes() == before
    total = sum(map(len, source.values()))
    assert out == f"{total} rows are copied and counted. Set database.url to the new address and start the service.\n"
    assert sorted(err.splitlines()) == sorted(f"{name}: {len(rows)} rows" for name, rows in source.items())

    moved = await make_client(database_url=target)
    bob.client = alice.client = moved
    assert (await bob.me())["referrer"] == {"id": alice.id, "username": "alice", "name": None}
    refreshed = await bob.refresh()
    assert refreshed.status == 200, refreshed.body
    assert (await alice.sign_in()).status == 200
    assert (await alice.me())["referral_count"] == 2
    assert (await alice.get("/users/me/referrals")).body["total"] == 2
    assert (await alice.get("/codes/current")).body["uses"] == 2
    await Person.register(moved, "carol", referral_code=code)
    late = await alice.post(
        "/auth/register", {"email": "dave@example.com", "password": alice.password, "referral_code": code}
    )
    assert late.body["reason"] == "exhausted"


async def test_what_is_numbered_after_a_copy_comes_behind_what_was_copied(
    client: Client, person: MakePerson, database_url: str, target: str
) -> None:
    await populate(client, person, database_url)
    await copy(database_url, target)
    with psycopg.connect(target) as connection:
        announced = connection.execute("SELECT number FROM announcements WHERE id = 'a71'").fetchone()
        assert announced is not None
        assert connection.execute(NUMBERED.encode()).fetchone() == (announced[0] + 1,)
        before = connection.execute("SELECT max(number) FROM stat_deltas").fetchone()
        assert before is not None
        assert connection.execute(DELTA.encode()).fetchone() == (before[0] + 1,)
        # Each table that numbers its rows is among those of this test.
        names = connection.execute("SELECT attrelid::regclass::text FROM pg_attribute WHERE attidentity <> ''").fetchall()
        assert sorted(names) == [("announcements",), ("stat_deltas",)]


async def test_after_a_copy_of_nothing_rows_are_numbered_from_one(database_url: str, target: str) -> None:
    await copy(database_url, target)
    with psycopg.connect(target) as connection:
        assert connection.execute(NUMBERED.encode()).fetchone() == (1,)


async def test_what_the_source_holds_in_its_write_ahead_log_is_copied_and_nothing_is_written_there(
    database_url: str, target: str
) -> None:
    path = sqlite_path(database_url)

    def files() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in path.parent.glob("referral.db*") if not file.name.endswith("-shm")}

    # As a service leaves it that was killed.
    with closing(sqlite3.connect(path)) as service:
        service.execute("PRAGMA journal_mode = WAL")
        service.execute("UPDATE cache_epoch SET epoch = 77")
        service.commit()
        before = files()
        assert before["referral.db-wal"]
        await copy(database_url, target)
        assert files() == before
    assert contents_of_target(target, ["cache_epoch"]) == {"cache_epoch": [(1, 77, None)]}


async def test_a_terminal_gets_a_bar(database_url: str, target: str, person: MakePerson) -> None:
    await person("alice")
    screen, terminal = pty.openpty()
    with os.fdopen(screen, "rb") as reader, os.fdopen(terminal, "w") as stream:
        await copy(database_url, target, stream)
        shown = os.read(reader.fileno(), 65_536).decode()
    lines = shown.rstrip("\r\n").split("\r")
    assert lines[-1].startswith(f"[{'#' * 40}] 100% "), shown
    assert any("#." in line for line in lines), shown


def bulk(url: str, mails: int) -> None:
    """So much mail that it does not fit into one buffer."""
    with closing(sqlite3.connect(sqlite_path(url))) as source, source:
        source.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO outbox (id, kind, recipient, language, params, created_at, next_attempt_at)"
            " SELECT 'mail' || i, 'reset-password', 'x@example.com', 'en', hex(zeroblob(700)), 1, 1 FROM n",
            (mails,),
        )


async def test_a_large_table_is_never_held_in_memory(database_url: str, target: str) -> None:
    bulk(database_url, 20_000)  # 28 MB
    migrate(target)
    tracemalloc.start()
    try:
        assert await copy(database_url, target) == 20_005
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


async def test_a_target_with_users_is_refused_and_keeps_them(
    database_url: str, target: str, person: MakePerson, make_client: MakeClient
) -> None:
    await person("alice")
    migrate(target)
    bob = await Person.register(await make_client(database_url=target), "bob")
    process = copy_by_command(database_url, target)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (2, "run.py: the target has users already: nothing is copied over them\n")
    assert users_in(target) == 1
    assert (await bob.me())["username"] == "bob"


async def test_a_source_of_another_schema_is_refused_and_not_migrated(database_url: str, target: str) -> None:
    with closing(sqlite3.connect(sqlite_path(database_url))) as source, source:
        source.execute("DELETE FROM _yoyo_migration WHERE migration_id LIKE '0007%'")
    before = sqlite_path(database_url).read_bytes()
    with pytest.raises(CopyRefused, match="not of this version's schema"):
        await copy(database_url, target)
    assert sqlite_path(database_url).read_bytes() == before


async def test_a_missing_source_is_not_made(tmp_path: Path, target: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="unable to open database file"):
        await copy(f"sqlite:///{tmp_path}/missing.db", target)
    assert not (tmp_path / "missing.db").exists()


@pytest.mark.parametrize("reverse", [True, False])
async def test_other_directions_are_refused(database_url: str, target: str, reverse: bool) -> None:
    pair = (target, database_url) if reverse else (database_url, "sqlite:///other.db")
    with pytest.raises(CopyRefused, match=r"from a sqlite: database\.url to a postgresql: target"):
        await copy(*pair)


def test_a_wrong_address_is_one_line_without_its_password(database_url: str) -> None:
    for url, expected in {
        "mysql://root:hunter2@host/x": "run.py: --to: must be sqlite:///relative/path, ",
        "postgresql://root:hunter2@127.0.0.1:1/x": "run.py: cannot connect to PostgreSQL: ",
    }.items():
        process = copy_by_command(database_url, url)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 2
        assert err.startswith(expected)
        assert err.count("\n") == 1
        assert "hunter2" not in err


async def test_rows_that_do_not_arrive_undo_the_copy(
    database_url: str, target: str, person: MakePerson, postgres_server: PostgresServer
) -> None:
    await person("alice")
    migrate(target)
    # A rule of the target's that swallows rows, as a trigger of an administrator's might.
    postgres_server.execute(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'", target[-37:]
    )
    postgres_server.execute(
        "CREATE TRIGGER swallow BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION swallow()", target[-37:]
    )
    with pytest.raises(CopyRefused, match="rows of outbox: 1 in the source, but 0 arrived"):
        await copy(database_url, target)
    assert users_in(target) == 0


@pytest.fixture
def target_with_a_gate(target: str) -> str:
    """A target that lets sessions in only while nobody holds the advisory lock 1."""
    migrate(target)
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END'"
        )
        connection.execute("CREATE TRIGGER gate BEFORE INSERT ON sessions FOR EACH ROW EXECUTE FUNCTION gate()")
    return target


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_ended_half_way_nothing_is_there_and_the_next_copy_works(
    database_url: str, target_with_a_gate: str, person: MakePerson, number: int
) -> None:
    await person("alice")
    with psycopg.connect(target_with_a_gate, autocommit=True) as other:

        def waits() -> bool:
            row = other.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchone()
            return row is not None

        other.execute("SELECT pg_advisory_lock(1)")
        process = copy_by_command(database_url, target_with_a_gate)
        wait_until(waits)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
        assert "users: 1 rows" in err, "the users were there already"
        other.execute("SELECT pg_advisory_unlock(1)")
        wait_until(lambda: not waits())
    assert users_in(target_with_a_gate) == 0
    await copy(database_url, target_with_a_gate)
    assert users_in(target_with_a_gate) == 1
