"""Upgrades while services run: which version serves on which schema, and what is told of migrations that are pending."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import psycopg
import pytest

from referral.database import is_postgres
from referral.database import migrate as module
from referral.database.migrate import (
    MigrationError,
    connect,
    migrate,
    pending_migrations,
    read_migrations,
    refuse_unmigrated,
)
from tests.conftest import Command
from tests.support.commands import refusal, run_command, run_line, serve
from tests.support.people import API
from tests.support.rows import sql
from tests.support.service import run_py
from tests.support.versions import CONTRACTING, CONTRACTING_IN_PYTHON, EXPANDING, LAST, later_migrations, later_version

NEWER = (
    "The database was migrated by a newer version of this service. Run that version, or restore the backup made before the "
    "upgrade."
)
# Two versions are two folders, each of which would make a key of its own.
SECRET = "a secret that both versions have, of more than 32 characters"

Migrate = Callable[..., list[str]]


@pytest.fixture
def migrate_later(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Migrate:
    """`migrate_later(EXPANDING)`: a later version, which has these migrations more, migrates the test's database."""

    def by_later(*added: dict[str, str], undo: bool = False) -> list[str]:
        folder = tmp_path / f"later-{len(list(tmp_path.iterdir()))}"
        with monkeypatch.context() as later:
            later.setattr(module, "MIGRATIONS", later_migrations(folder, *added))
            if not undo:
                return migrate(database_url)
            with connect(database_url) as backend:
                taken = backend.to_rollback(read_migrations()).filter(lambda one: one.id > LAST)
                backend.rollback_migrations(taken)
                return [one.id for one in taken]

    return by_later


def settings(url: str) -> dict[str, str]:
    return {"REFERRAL_DATABASE_URL": url, "REFERRAL_AUTH_SECRET": SECRET}


def called(url: str, *arguments: str) -> CompletedProcess[str]:
    return run_line([*run_py(), *arguments], settings(url))


async def contents(url: str) -> list[Any]:
    """Everything about the schema that a command could change: tables, columns and what is in yoyo's own."""
    if is_postgres(url):
        statements = (
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2",
            "SELECT * FROM _yoyo_migration ORDER BY 1",
            "SELECT * FROM _yoyo_log ORDER BY 1",
        )
    else:
        statements = (
            "SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2",
            "SELECT * FROM _yoyo_migration ORDER BY 1",
            "SELECT * FROM _yoyo_log ORDER BY 1",
        )
    return [await sql(url, statement) for statement in statements]


# An older version on a newer schema


def test_a_version_goes_on_serving_and_starts_again_on_what_a_later_one_has_added(
    database_url: str, migrate_later: Migrate
) -> None:
    with serve(**settings(database_url)) as service:
        assert service.register("alice")[0] == 201
        assert migrate_later(EXPANDING) == ["8001.things"]
        assert service.register("bob")[0] == 201
        assert service.sign_in("alice")[0] == 200
        assert service.end() == 0
    for line in ([], [*run_py(), "serve", "--no-migrate"]):
        with serve(*line, **settings(database_url)) as service:
            assert service.sign_in("alice")[0] == 200
            status, carol = service.register(f"carol{len(line)}")
            assert status == 201
            assert service.call(f"{API}/codes", {"ttl_days": 1}, carol["access_token"])[0] == 201
            assert service.call("/health/ready")[0] == 200
            assert service.end() == 0
            assert "migrated" not in service.errors.read_text()


async def test_commands_of_a_version_work_on_what_a_later_one_has_added(
    database_url: str, migrate_later: Migrate, command: Command
) -> None:
    migrate_later(EXPANDING)
    assert await command("migrate") == "Nothing to apply.\n"
    assert await command("migrate", "--check") == "Nothing to apply.\n"
    assert await command("admins", "list") == "Nobody is an admin.\n"
    assert "No difference" in await command("verify")


@pytest.mark.parametrize("added", [CONTRACTING, CONTRACTING_IN_PYTHON])
async def test_a_version_refuses_what_a_later_one_has_broken_until_that_is_taken_back(
    database_url: str, migrate_later: Migrate, added: dict[str, str], command: Command
) -> None:
    assert migrate_later(EXPANDING, added) == ["8001.things", "9001.nameless"]
    before = await contents(database_url)
    for arguments in ([], ["serve", "--no-migrate"], ["migrate"], ["migrate", "--check"], ["admins", "list"]):
        assert refusal(called(database_url, *arguments)) == NEWER
    assert await contents(database_url) == before
    assert migrate_later(EXPANDING, added, undo=True) == ["9001.nameless", "8001.things"]
    assert migrate_later(EXPANDING) == ["8001.things"]
    assert await command("migrate", "--check") == "Nothing to apply.\n"
    assert migrate_later(EXPANDING, added) == ["9001.nameless"]
    with pytest.raises(MigrationError, match="newer version"):
        await command("migrate")


async def test_a_migration_expands_unless_it_says_otherwise_and_the_schema_knows_no_third_kind(
    database_url: str, migrate_later: Migrate
) -> None:
    migrate_later(EXPANDING, CONTRACTING)
    kinds = dict(await sql(database_url, "SELECT migration_id, contracts FROM _yoyo_migration"))
    assert kinds.pop("9001.nameless") == 1
    assert set(kinds.values()) == {0}
    assert len(kinds) == len(read_migrations()) + 1
    with pytest.raises((psycopg.errors.CheckViolation, sqlite3.IntegrityError), match="_yoyo_migration_contracts"):
        await sql(database_url, "UPDATE _yoyo_migration SET contracts = 2")


def test_what_was_added_beside_one_of_this_versions_own_is_refused(database_url: str, migrate_later: Migrate) -> None:
    # Nobody tried this order: 8001 of another branch, before the last one of this branch.
    migrate_later(EXPANDING)
    with connect(database_url) as backend:
        [last] = [one for one in read_migrations() if one.id == "0040.clicks"]
        backend.unmark_migrations([last])
    for ask in (migrate, pending_migrations, refuse_unmigrated):
        with pytest.raises(MigrationError, match="newer version"):
            ask(database_url)


# A newer version on an older schema


def test_a_later_version_names_what_it_needs_and_serves_once_that_is_there(database_url: str, tmp_path: Path) -> None:
    line = later_version(tmp_path / "next", EXPANDING)
    # Also what only adds is needed by the version that has it.
    done = run_line([*line, "serve", "--no-migrate"], settings(database_url))
    assert refusal(done) == (
        "the database lacks what this version needs (8001.things): run `python run.py migrate` on it first"
    )
    checked = run_line([*line, "migrate", "--check"], settings(database_url))
    assert (checked.returncode, checked.stdout) == (1, "8001.things\n")
    assert checked.stderr == "run.py: 1 migration is pending\n"
    # What is refused has changed nothing: the version before serves beside what comes.
    with serve(**settings(database_url), REFERRAL_CACHE_URL="none://") as former:
        assert run_line([*line, "migrate"], settings(database_url)).stdout == "applied 8001.things\n"
        with serve(*line, "serve", "--no-migrate", **settings(database_url), REFERRAL_CACHE_URL="none://") as latter:
            assert former.register("alice")[0] == 201
            assert latter.sign_in("alice")[0] == 200
            assert latter.end() == 0
        assert former.end() == 0


def test_a_start_that_does_not_migrate_is_refused_where_there_is_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none/new.db"
    assert refusal(run_command("serve", "--no-migrate", REFERRAL_DATABASE_URL=url)).endswith("new.db: there is no database")
    assert not (tmp_path / "none" / "new.db").exists()
    empty = tmp_path / "empty.db"
    empty.touch()
    line = refusal(run_command("serve", "--no-migrate", REFERRAL_DATABASE_URL=f"sqlite:///{empty}"))
    more = len(read_migrations()) - 3
    assert f"(0001.users, 0002.codes, 0003.referrals and {more} more)" in line
    assert empty.stat().st_size == 0


# migrate --check


async def test_what_is_pending_is_named_one_a_line_and_nothing_is_changed(database_url: str, tmp_path: Path) -> None:
    before = await contents(database_url)
    checked = called(database_url, "migrate", "--check")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "Nothing to apply.\n", "")
    line = later_version(tmp_path / "next", EXPANDING, CONTRACTING)
    checked = run_line([*line, "migrate", "--check"], settings(database_url))
    assert (checked.returncode, checked.stdout) == (1, "8001.things\n9001.nameless\n")
    assert checked.stderr == "run.py: 2 migrations are pending; stop older versions before 9001.nameless is applied\n"
    assert await contents(database_url) == before


async def test_a_check_does_not_wait_for_somebody_who_migrates(database_url: str, command: Command) -> None:
    with connect(database_url) as backend, backend.lock():
        assert await asyncio.wait_for(command("migrate", "--check"), module.LOCK_TIMEOUT / 2) == "Nothing to apply.\n"


@pytest.mark.parametrize("name", ["none/new.db", "empty.db"])
def test_a_check_of_nothing_names_everything_and_makes_nothing(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if name == "empty.db":
        file.touch()
    checked = run_command("migrate", "--check", REFERRAL_DATABASE_URL=f"sqlite:///{file}")
    assert checked.returncode == 1
    assert checked.stdout.splitlines() == [one.id for one in read_migrations()]
    assert checked.stderr == f"run.py: {len(read_migrations())} migrations are pending\n"
    assert not file.exists() or file.stat().st_size == 0


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite:///corrupt.db", "file is not a database"),
        ("postgresql://referral:a-secret-password@127.0.0.1:1/none", "cannot connect to PostgreSQL: "),
    ],
)
def test_a_check_of_what_cannot_be_asked_ends_with_2(tmp_path: Path, url: str, reason: str) -> None:
    (tmp_path / "corrupt.db").write_bytes(b"this is no database" * 100)
    line = refusal(run_command("migrate", "--check", REFERRAL_DATABASE_URL=url))
    assert reason in line
    assert "a-secret-password" not in line
