"""Migrations: up, down and up again one by one, on every dialect; locks, kills, newer schemas and strange paths."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yoyo

from referral.database import DatabaseUnavailable, is_postgres
from referral.database import migrate as module
from referral.database.migrate import MIGRATIONS, MigrationError, break_lock, connect, migrate, read_migrations
from tests.support.servers import PostgresServer
from tests.support.service import run_py

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def empty_url(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database nobody has migrated yet."""
    if engine == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    server.execute("CREATE DATABASE empty TEMPLATE template0")
    yield server.url("empty")
    server.execute("DROP DATABASE empty WITH (FORCE)")


def schema_of(backend: Any, url: str) -> list[Any]:
    """What describes the service's tables and that of what is applied, their columns, rules and indexes, in an order of its
    own."""
    if not is_postgres(url):
        names = "name NOT LIKE '%yoyo%' OR name = '_yoyo_migration'"
        return list(backend.execute(f"SELECT type, name, sql FROM sqlite_schema WHERE {names} ORDER BY 1, 2"))
    return [
        row
        for sql in (
            "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
            " WHERE table_schema = 'public' AND (table_name NOT LIKE :yoyo OR table_name = '_yoyo_migration')"
            " ORDER BY 1, ordinal_position",
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text NOT LIKE :yoyo ORDER BY 1, 2",
            "SELECT tablename, indexname, indexdef FROM pg_indexes"
            " WHERE schemaname = 'public' AND tablename NOT LIKE :yoyo ORDER BY 1, 2",
        )
        for row in backend.execute(sql, {"yoyo": "%yoyo%"})
    ]


def one_by_one(migrations: yoyo.migrations.MigrationList) -> Iterator[yoyo.migrations.MigrationList]:
    for migration in migrations:
        yield yoyo.migrations.MigrationList([migration])


def test_each_migration_goes_up_down_and_up_to_the_same_schema(empty_url: str) -> None:
    with connect(empty_url) as backend:
        pending = backend.to_apply(read_migrations())
        assert len(pending) >= 7
        for step in one_by_one(pending):
            before = schema_of(backend, empty_url)
            backend.apply_migrations(step)
            after = schema_of(backend, empty_url)
            # What is Python changes rows, which tests of its own look at.
            assert after != before or step[0].path.endswith(".py"), step[0].id
            backend.rollback_migrations(step)
            assert schema_of(backend, empty_url) == before, step[0].id
            backend.apply_migrations(step)
            assert schema_of(backend, empty_url) == after, step[0].id


def test_all_migrations_go_down_in_the_reverse_order(empty_url: str) -> None:
    applied = migrate(empty_url)
    assert applied == sorted(applied)
    with connect(empty_url) as backend:
        backend.rollback_migrations(backend.to_rollback(read_migrations()))
        assert [row for row in schema_of(backend, empty_url) if "_yoyo_migration" not in row] == []
    assert migrate(empty_url) == applied


def test_migrating_twice_applies_nothing_the_second_time(empty_url: str) -> None:
    assert migrate(empty_url)
    assert migrate(empty_url) == []


def test_every_migration_has_its_rollback() -> None:
    up = {file.name for file in MIGRATIONS.glob("*.sql") if not file.name.endswith(".rollback.sql")}
    down = {file.name.replace(".rollback.sql", ".sql") for file in MIGRATIONS.glob("*.rollback.sql")}
    assert up == down
    in_python = {file.name for file in MIGRATIONS.glob("*.py")}
    assert all("rollback" in (MIGRATIONS / name).read_text() for name in in_python)
    assert {file.name for file in MIGRATIONS.iterdir() if file.is_file()} == in_python | up | {
        f"{name[:-4]}.rollback.sql" for name in up
    }


def test_migrations_are_numbered_without_gaps_and_depend_on_earlier_ones() -> None:
    migrations = sorted(read_migrations(), key=lambda one: one.id)
    assert [int(one.id[:4]) for one in migrations] == list(range(1, len(migrations) + 1))
    for number, one in enumerate(migrations[1:], 1):
        assert one.depends, one.id
        assert one.depends <= set(migrations[:number]), one.id


def test_each_table_and_index_says_before_it_what_it_is_for() -> None:
    for file in MIGRATIONS.glob("*.sql"):
        marks = r"\A(-- (depends|transactional|contracts): .*\n)*\n*"
        paragraphs = re.sub(marks, "", file.read_text()).split("\n\n")
        for paragraph in paragraphs:
            if re.search(r"CREATE (UNIQUE )?INDEX", paragraph):
                assert paragraph.startswith("-- "), f"{file.name}: {paragraph}"
        if ".rollback." not in file.name:
            assert paragraphs[0].startswith("-- "), file.name


# Up to here, versions that serve are not older: there was no release.
FIRST_RELEASE = "0043.contracting-migrations"
BREAKS = re.compile(r"\b(DROP TABLE|DROP COLUMN|RENAME|SET NOT NULL|ALTER COLUMN \w+ TYPE|ADD CONSTRAINT)\b")
PLAIN_INDEX = re.compile(r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)\w+\s+ON (\w+)")


def lacks_a_mark(text: str) -> bool:
    """Whether the migration may break the version before, or holds up those who write, and does not say so."""
    made = set(re.findall(r"CREATE TABLE (\w+)", text))
    return ("\n-- contracts: true\n" not in text and bool(BREAKS.search(text))) or bool(
        set(PLAIN_INDEX.findall(text)) - made
    )


def test_what_may_break_or_hold_up_a_service_of_the_version_before_says_so() -> None:
    later = [one for one in read_migrations() if one.id > FIRST_RELEASE and one.path.endswith(".sql")]
    assert [one.id for one in later if lacks_a_mark(Path(one.path).read_text())] == []
    assert lacks_a_mark("ALTER TABLE users DROP COLUMN name")
    assert not lacks_a_mark("-- depends: 0044.x\n-- contracts: true\nALTER TABLE users DROP COLUMN name")
    assert lacks_a_mark("CREATE INDEX users_by_name ON users (name)")
    assert not lacks_a_mark("CREATE INDEX CONCURRENTLY users_by_name ON users (name)")
    assert not lacks_a_mark("CREATE TABLE things (id TEXT);\nCREATE INDEX things_by_id ON things (id)")


@pytest.fixture
def broken_migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later version of the service, the last of whose migrations fails half-way."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001.good.sql").write_text("CREATE TABLE good (id TEXT)")
    (folder / "0002.bad.sql").write_text("CREATE TABLE half (id TEXT);\n\nINSERT INTO nowhere VALUES (1)")
    monkeypatch.setattr(module, "MIGRATIONS", folder)


@pytest.mark.usefixtures("broken_migration")
def test_a_migration_that_fails_is_undone_as_a_whole_and_told_in_one_line(empty_url: str) -> None:
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match=r"cannot be migrated: .*nowhere") as caught:
            migrate(empty_url)
        assert "\n" not in str(caught.value)
        with connect(empty_url) as backend:
            tables = {name for name in backend.list_tables() if "yoyo" not in name}
            assert tables == {"good"}


KILL_WHILE_MARKING = """
import os, signal, sys
from referral.database import migrate as module

def die(self, migration, log=True):
    os.kill(os.getpid(), signal.SIGKILL)

module._Whole.mark_one = die
module.migrate(sys.argv[1])
"""

KILL_WITH_LOCK = """
import os, signal, sys
from referral.database.migrate import connect

with connect(sys.argv[1]) as backend, backend.lock():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run_to_its_kill(script: str, url: str) -> None:
    killed = subprocess.run([sys.executable, "-c", script, url], cwd=ROOT, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def test_after_a_kill_in_the_middle_of_a_migration_it_can_be_made_again(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_to_its_kill(KILL_WHILE_MARKING, empty_url)
    monkeypatch.setattr(module, "LOCK_TIMEOUT", 0.1)
    with pytest.raises(MigrationError):
        migrate(empty_url)
    break_lock(empty_url)
    assert len(migrate(empty_url)) >= 7


def test_the_lock_of_a_killed_process_is_named_and_broken_by_the_command(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_to_its_kill(KILL_WITH_LOCK, empty_url)
    monkeypatch.setattr(module, "LOCK_TIMEOUT", 0.1)
    with pytest.raises(MigrationError, match=r"Process \d+ has locked this database .*`python run.py migrate --break-lock`"):
        migrate(empty_url)
    command = [*run_py(), "migrate", "--break-lock"]
    environ = {"REFERRAL_DATABASE_URL": empty_url}
    done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    assert "The migration lock is taken away." in done.stdout
    assert "applied 0001.users" in done.stdout
    assert migrate(empty_url) == []


def test_a_lock_left_behind_does_not_stop_a_start_that_has_nothing_to_migrate(empty_url: str) -> None:
    migrate(empty_url)
    run_to_its_kill(KILL_WITH_LOCK, empty_url)
    assert migrate(empty_url) == []


def test_two_processes_that_migrate_at_once_both_succeed(empty_url: str) -> None:
    both = [
        subprocess.Popen(
            [*run_py(), "migrate"],
            env={"REFERRAL_DATABASE_URL": empty_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sorted(output.splitlines()[0] for output, _ in outputs)[1] == "applied 0001.users"
    assert sum(output.count("applied 0001.users") for output, _ in outputs) == 1
    assert migrate(empty_url) == []


@pytest.mark.parametrize("name", ["with space.db", "100%.db", "50%20off.db", "what?mode=ro.db", "a#b.db", "ключ.db"])
def test_a_path_is_taken_as_it_is_and_its_folders_are_made(tmp_path: Path, name: str) -> None:
    path = tmp_path / "new folder?" / "another%2Fone" / name
    assert migrate(f"sqlite:///{path}")
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM users").fetchone() == (0,)
    connection.close()
    assert migrate(f"sqlite:///{path}") == []


def test_a_user_without_a_name_can_migrate(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a container that runs under a bare number.
    def nobody(*_: object) -> None:
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr("pwd.getpwuid", nobody)
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    assert migrate(empty_url)


def test_what_is_no_database_is_told_in_one_line(tmp_path: Path) -> None:
    corrupt = tmp_path / "corrupt.db"
    corrupt.write_bytes(b"this is no database" * 100)
    (tmp_path / "file").touch()
    for path in (corrupt, tmp_path, tmp_path / "file" / "referral.db"):
        for command in (migrate, break_lock):
            with pytest.raises(DatabaseUnavailable) as caught:
                command(f"sqlite:///{path}")
            assert "\n" not in str(caught.value)


def test_a_postgresql_that_is_not_there_is_told_in_one_line_without_the_password() -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        migrate("postgresql://referral:a-secret-password@127.0.0.1:1/none")
    assert "\n" not in str(caught.value)
    assert "a-secret-password" not in str(caught.value)


# The step that opened the words


BEFORE = """
INSERT INTO users (id, email, email_key, password_hash, role, created_at) VALUES ('alice', 'a', 'a', 'x', 'user', 1);
INSERT INTO outbox
    (id, kind, user_id, recipient, language, params, created_at, next_attempt_at, attempts, last_error, failed_at)
    VALUES ('one', 'code', 'alice', 'a', 'en', '{}', 1, 2, 3, 'no', 4);
INSERT INTO outbox (id, kind, recipient, language, params, created_at, next_attempt_at)
    VALUES ('two', 'reset-password', 'a', 'ru', '{}', 5, 6);
INSERT INTO one_time_tokens (token_hash, user_id, purpose, created_at, expires_at)
    VALUES ('t', 'alice', 'verify-email', 1, 2);
INSERT INTO audit_events (id, at, event, actor_id, user_id, address, request_id, detail)
    VALUES ('one', 1, 'signed-in', 'alice', 'alice', '192.0.2.1', 'r', '{"a": 1}');
INSERT INTO audit_events (id, at, event, email, detail) VALUES ('two', 2, 'reset-requested', 'b', '{}')
"""
TABLES_OF_WORDS = ("outbox", "one_time_tokens", "audit_events")


def rows_of_words(backend: Any) -> list[list[tuple[Any, ...]]]:
    return [[tuple(row) for row in backend.execute(f"SELECT * FROM {table} ORDER BY 1")] for table in TABLES_OF_WORDS]


def test_words_are_opened_and_closed_again_and_every_row_stays(empty_url: str) -> None:
    migrations = read_migrations()
    with connect(empty_url) as backend:
        step = yoyo.migrations.MigrationList([one for one in migrations if one.id == "0013.open-words"])
        backend.apply_migrations(yoyo.migrations.MigrationList([one for one in migrations if one.id < step[0].id]))
        with backend.transaction():
            for statement in BEFORE.split(";\n"):
                backend.execute(statement)
        rows = rows_of_words(backend)
        backend.apply_migrations(step)
        assert rows_of_words(backend) == rows
        backend.rollback_migrations(step)
        assert rows_of_words(backend) == rows
        backend.apply_migrations(step)
        with backend.transaction():
            backend.execute(
                "INSERT INTO audit_events (id, at, event, detail) VALUES ('three', 3, 'of-a-later-version', '{}')"
            )
        rows = rows_of_words(backend)
        # Going back with a word that the version before does not know would throw a row away.
        with pytest.raises(backend.DatabaseError):
            backend.rollback_migrations(step)
        assert rows_of_words(backend) == rows
        assert backend.is_applied(step[0])


ADDRESSES = {
    # The address, and its keys before and after.
    "Alice@Example.com": ("alice@example.com", "alice@example.com"),
    "bob@stra\u00dfe.de": ("bob@strasse.de", "bob@xn--strae-oqa.de"),
    "\u0418\u0432\u0430\u043d@\u043f\u043e\u0447\u0442\u0430.\u0440\u0444": (
        "\u0438\u0432\u0430\u043d@\u043f\u043e\u0447\u0442\u0430.\u0440\u0444",
        "\u0438\u0432\u0430\u043d@xn--80a1acny.xn--p1ai",
    ),
    "\uff43eo@example.org": ("ceo@example.org", "\uff43eo@example.org"),
}


def test_addresses_get_the_keys_that_mail_tells_apart(empty_url: str) -> None:
    migrations = read_migrations()
    with connect(empty_url) as backend:
        step = yoyo.migrations.MigrationList([one for one in migrations if one.id == "0014.users-email-keys"])
        backend.apply_migrations(yoyo.migrations.MigrationList([one for one in migrations if one.id < step[0].id]))

        def keys(sql: str = "SELECT email, email_key FROM users") -> dict[str, str]:
            return {address: key for address, key in backend.execute(sql) if address is not None}

        with backend.transaction():
            for number, (address, (key, _)) in enumerate(ADDRESSES.items()):
                backend.execute(
                    "INSERT INTO users (id, email, email_key, password_hash, role, created_at) "
                    f"VALUES ('{number}', '{address}', '{key}', 'x', 'user', 1)"
                )
                backend.execute(
                    "INSERT INTO outbox (id, kind, recipient, language, params, created_at, next_attempt_at) "
                    f"VALUES ('{number}', 'reset-password', '{key}', 'en', '{{}}', 1, 1)"
                )
                backend.execute(
                    "INSERT INTO audit_events (id, at, event, email, detail) "
                    f"VALUES ('{number}', 1, 'reset-requested', '{key}', '{{}}')"
                )
            backend.execute("INSERT INTO users (id, role, created_at, erased_at) VALUES ('gone', 'user', 1, 2)")
        for _ in range(2):
            backend.apply_migrations(step)
            assert keys() == {address: after for address, (_, after) in ADDRESSES.items()}
            named = [after for _, after in ADDRESSES.values()]
            assert list(keys("SELECT id, recipient FROM outbox ORDER BY id").values()) == named
            assert list(keys("SELECT id, email FROM audit_events ORDER BY id").values()) == named
            backend.rollback_migrations(step)
            assert keys() == {address: before for address, (before, _) in ADDRESSES.items()}


def test_going_back_leaves_an_address_its_key_where_the_former_one_is_taken(empty_url: str) -> None:
    with connect(empty_url) as backend:
        backend.apply_migrations(backend.to_apply(read_migrations()))
        insert = "INSERT INTO users (id, email, email_key, password_hash, role, created_at) VALUES "
        with backend.transaction():
            backend.execute(f"{insert}('one', 'a@strasse.de', 'a@strasse.de', 'x', 'user', 1)")
            backend.execute(f"{insert}('two', 'a@stra\u00dfe.de', 'a@xn--strae-oqa.de', 'x', 'user', 1)")
        later = [one for one in read_migrations() if one.id >= "0014"]
        backend.rollback_migrations(backend.to_rollback(yoyo.migrations.MigrationList(later)))
        found = backend.execute("SELECT email_key FROM users ORDER BY id").fetchall()
        assert [key for (key,) in found] == ["a@strasse.de", "a@xn--strae-oqa.de"]


# The step that folds codes

# Four that fold alike, of which the oldest that is not revoked gets the key; two, of which one has ended by itself; one
# that looks like a word of the API; one alone.
FOLDED = {
    "PR0M0": ("alice", 1, 5, None),
    "PROMO": ("bob", 2, None, "PR0M0"),
    "PROM0": ("carol", 3, None, None),
    "PR0MO": ("alice", 4, 5, None),
    "TOLL1000": ("grace", 1, None, None),
    "T0LL1OOO": ("frank", 2, None, "T0111000"),
    "BY-EMA1L": ("dave", 1, None, None),
    "L1L1O": ("erin", 6, None, "11110"),
}


def test_codes_that_fold_alike_stay_and_one_of_them_gets_the_key(empty_url: str) -> None:
    migrations = read_migrations()
    with connect(empty_url) as backend:
        step = yoyo.migrations.MigrationList([one for one in migrations if one.id == "0019.codes-folded"])
        backend.apply_migrations(yoyo.migrations.MigrationList([one for one in migrations if one.id <= "0013.open-words"]))
        with backend.transaction():
            for name in sorted({owner for owner, *_ in FOLDED.values()}):
                backend.execute(
                    "INSERT INTO users (id, email, email_key, password_hash, role, created_at)"
                    f" VALUES ('{name}', '{name}', '{name}', 'x', 'user', 1)"
                )
            for text, (owner, created_at, revoked_at, _) in FOLDED.items():
                backend.execute(
                    "INSERT INTO codes (code, referrer_id, created_at, expires_at, revoked_at)"
                    f" VALUES ('{text}', '{owner}', {created_at}, {5 if text == 'TOLL1000' else 99}, {revoked_at or 'NULL'})"
                )
        before = [tuple(row) for row in backend.execute("SELECT * FROM codes ORDER BY code")]
        for _ in range(2):
            backend.apply_migrations(step)
            keys = dict(backend.execute("SELECT code, code_key FROM codes"))
            assert keys == {text: key for text, (*_, key) in FOLDED.items()}
            counts = dict(backend.execute("SELECT id, code_count FROM users"))
            assert counts == {"alice": 2, "bob": 1, "carol": 1, "dave": 1, "erin": 1, "frank": 1, "grace": 1}
            backend.rollback_migrations(step)
            assert [tuple(row) for row in backend.execute("SELECT * FROM codes ORDER BY code")] == before


# The steps that let users be without an address or a password


ACCOUNTS = """
INSERT INTO users (id, email, email_key, username, username_key, password_hash, role, referral_count, created_at)
    VALUES ('alice', 'a@x.org', 'a@x.org', 'alice', 'alice', 'x', 'admin', 1, 1);
INSERT INTO users (id, email, email_key, password_hash, role, created_at, suspended_at, suspended_reason)
    VALUES ('bob', 'b@x.org', 'b@x.org', 'x', 'user', 2, 3, 'why');
INSERT INTO users (id, role, created_at, erased_at) VALUES ('gone', 'user', 1, 2);
INSERT INTO codes (code, referrer_id, created_at, expires_at) VALUES ('ALICES', 'alice', 1, 2);
INSERT INTO referrals (user_id, referrer_id, code, joined_at) VALUES ('bob', 'alice', 'ALICES', 2);
INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES ('s', 'alice', 1, 2)
"""


def rows_of_accounts(backend: Any) -> list[list[tuple[Any, ...]]]:
    columns = "id, email, email_key, username, password_hash, role, referral_count, created_at, erased_at, suspended_reason"
    tables = {
        "users": columns,
        "codes": "*",
        "referrals": "user_id, referrer_id, code, joined_at",
        "sessions": "id, user_id, created_at, expires_at",
    }
    return [
        [tuple(row) for row in backend.execute(f"SELECT {wanted} FROM {table} ORDER BY 1")]
        for table, wanted in tables.items()
    ]


def test_accounts_of_before_stay_as_they_are_when_users_may_have_neither_address_nor_password(empty_url: str) -> None:
    migrations = read_migrations()

    def those(after: str) -> yoyo.migrations.MigrationList:
        return yoyo.migrations.MigrationList([one for one in migrations if one.id > after])

    def roll_back(after: str) -> None:
        applied = [one for one in those(after) if backend.is_applied(one)]
        backend.rollback_migrations(yoyo.migrations.MigrationList(applied[::-1]))

    with connect(empty_url) as backend:
        last = "0024.one-signing-key"
        backend.apply_migrations(yoyo.migrations.MigrationList([one for one in migrations if one.id <= last]))
        with backend.transaction():
            for statement in ACCOUNTS.split(";\n"):
                backend.execute(statement)
        rows, schema = rows_of_accounts(backend), schema_of(backend, empty_url)
        backend.apply_migrations(those(last))
        assert rows_of_accounts(backend) == rows
        roll_back(last)
        assert (rows_of_accounts(backend), schema_of(backend, empty_url)) == (rows, schema)
        backend.apply_migrations(those(last))
        assert rows_of_accounts(backend) == rows
        # The rule holds in the table that had rows, and in other connections.
        with pytest.raises(backend.DatabaseError), backend.transaction():
            backend.execute("UPDATE users SET email = NULL WHERE id = 'alice'")
        with backend.transaction():
            backend.execute("INSERT INTO users (id, role, created_at, external_id) VALUES ('named', 'user', 1, '42')")
            backend.execute("UPDATE users SET password_hash = NULL WHERE id = 'bob'")
        if not is_postgres(empty_url):
            assert backend.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert backend.execute("PRAGMA foreign_key_check").fetchall() == []
    with connect(empty_url) as other, pytest.raises(other.DatabaseError), other.transaction():
        other.execute("UPDATE users SET email_verified_at = 1 WHERE id = 'named'")
    # Going back would throw somebody away.
    with connect(empty_url) as backend:
        roll_back("0026.users-without-a-password")
        with pytest.raises(ValueError, match="2 users have no e-mail address or no password"):
            roll_back("0025.users-of-a-product")
        assert len(rows_of_accounts(backend)[0]) == 4


def test_purchases_that_were_reported_before_convert_the_referrals_of_before(empty_url: str) -> None:
    migrations = read_migrations()
    event = (
        "INSERT INTO events (id, type, user_id, received_at, occurred_at, unit, amount, refunded, attribution) VALUES "
        "('{id}', '{kind}', 'bob', {at}, {at}, 'USD', 5, {refunded}, 'none')"
    )
    with connect(empty_url) as backend:
        before = [one for one in migrations if one.id < "0033"]
        backend.apply_migrations(yoyo.migrations.MigrationList(before))
        with backend.transaction():
            for statement in ACCOUNTS.split(";\n"):
                backend.execute(statement)
            # Before the referral, refunded, the first that counts, another one, and what is no purchase.
            for number, (kind, at, refunded) in enumerate(
                [("purchase", 1, 0), ("purchase", 3, 5), ("purchase", 4, 0), ("purchase", 5, 4), ("seen", 6, 0)]
            ):
                backend.execute(event.format(id=number, kind=kind, at=at, refunded=refunded))
        backend.apply_migrations(yoyo.migrations.MigrationList([one for one in migrations if one.id > "0033"]))
        assert [tuple(row) for row in backend.execute("SELECT conversions, converted_at FROM referrals")] == [(2, 4)]
        assert [tuple(row) for row in backend.execute("SELECT id, converted_count FROM users ORDER BY id")] == [
            ("alice", 1),
            ("bob", 0),
            ("gone", 0),
        ]
        found = backend.execute("SELECT id, referrer_id, joined_at, converts FROM events ORDER BY id")
        assert [tuple(row) for row in found] == [
            ("0", None, None, 0),
            ("1", "alice", 2, 1),
            ("2", "alice", 2, 1),
            ("3", "alice", 2, 1),
            ("4", "alice", 2, 0),
        ]
