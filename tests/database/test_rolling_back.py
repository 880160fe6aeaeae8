"""`run.py rollback`: what it takes back, what it says is lost, whom it asks, and when it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from referral.commands import Stop
from referral.database import migrate as module
from referral.database.migrate import MigrationError, migrate, pending_migrations, read_migrations
from tests.conftest import Command, Given
from tests.support.commands import refusal, run_command, run_line, serve
from tests.support.rows import sql
from tests.support.service import run_py
from tests.support.versions import CONTRACTING, EXPANDING, LAST, later_migrations

USER = "INSERT INTO users (id, role, created_at, external_id) VALUES ('{0}', 'user', 1, '{0}')"


@pytest.fixture
def later(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is a later version from now on, and has migrated the database."""
    monkeypatch.setattr(module, "MIGRATIONS", later_migrations(tmp_path / "later", EXPANDING, CONTRACTING))
    assert migrate(database_url) == ["8001.things", "9001.nameless"]


@pytest.mark.usefixtures("later")
async def test_migrations_are_taken_back_and_what_they_held_is_told(database_url: str, command: Command) -> None:
    for name in ("alice", "bob"):
        await sql(database_url, USER.format(name))
    await sql(database_url, "UPDATE users SET nickname = 'al' WHERE id = 'alice'")
    for number in range(3):
        await sql(database_url, f"INSERT INTO things (id) VALUES ({number})")
    shown = await command("rollback", "--to", LAST, "--yes")
    assert shown.splitlines() == [
        "takes back 9001.nameless",
        "takes back 8001.things",
        "  loses the table things: 3 rows",
        "  loses the column users.former_username: 0 values",
        "  loses the column users.nickname: 1 values",
        "Taken back. A start of this version, or `migrate`, applies it again: start the older one.",
    ]
    assert [one.id for one in pending_migrations(database_url)] == ["8001.things", "9001.nameless"]
    assert await sql(database_url, "SELECT id, username FROM users ORDER BY id") == [("alice", None), ("bob", None)]
    assert await command("rollback", "--to", LAST, "--yes") == "Nothing to take back.\n"
    assert await command("migrate") == "applied 8001.things\napplied 9001.nameless\n"


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("arguments", [[], ["--last"]])
async def test_the_last_one_is_taken_back_alone(database_url: str, command: Command, arguments: list[str]) -> None:
    assert (await command("rollback", *arguments, "--yes")).startswith("takes back 9001.nameless\n")
    assert [one.id for one in pending_migrations(database_url)] == ["9001.nameless"]


@pytest.mark.usefixtures("later")
async def test_nothing_is_lost_that_nobody_has_agreed_to(
    database_url: str, command: Command, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(b"y\n")
    with pytest.raises(Stop, match="needs --yes"):
        await command("rollback")
    for answer in (b"", b"\n", b"n\n", b"no\n"):
        given(answer)
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        with pytest.raises(Stop, match=r"Nothing was taken back\."):
            await command("rollback")
        assert pending_migrations(database_url) == []
    given(b"y\n")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert "Taken back." in await command("rollback")
    assert [one.id for one in pending_migrations(database_url)] == ["9001.nameless"]


@pytest.mark.usefixtures("later")
async def test_what_only_a_newer_version_can_take_back_is_left(
    database_url: str, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "MIGRATIONS", later_migrations(tmp_path / "between", EXPANDING))
    with pytest.raises(MigrationError, match=r"^9001\.nameless was applied by a newer version of this service"):
        await command("rollback", "--yes")


async def test_a_name_that_is_not_applied_is_told(command: Command) -> None:
    with pytest.raises(MigrationError, match=r"--to: no migration is applied whose name is 0001\.nothing"):
        await command("rollback", "--to", "0001.nothing", "--yes")


def test_it_is_refused_while_a_service_runs_and_goes_on_once_that_has_ended(database_url: str) -> None:
    settings = {"REFERRAL_DATABASE_URL": database_url}
    for cache in ("memory://", "none://"):
        with serve(**settings, REFERRAL_CACHE_URL=cache) as service:
            line = refusal(run_line([*run_py(), "rollback", "--yes"], settings))
            assert "a service runs on it (pid " in line
            assert line.endswith("): stop it first")
            assert service.end() == 0
    assert run_line([*run_py(), "rollback", "--yes"], settings).returncode == 0
    assert [one.id for one in pending_migrations(database_url)] == [LAST]
    with serve(**settings) as service:
        assert f"migrated: {LAST}" in service.errors.read_text()
        assert service.end() == 0


async def test_rows_that_the_version_before_cannot_hold_are_told_before_anything_is_lost(
    database_url: str, command: Command
) -> None:
    await sql(database_url, USER.format("nameless"))
    with pytest.raises(MigrationError, match="1 users have no e-mail address or no password"):
        await command("rollback", "--to", "0025.users-of-a-product", "--yes")
    assert pending_migrations(database_url) == []


async def test_all_goes_back_to_the_first_and_forth_again(database_url: str, command: Command) -> None:
    first = min(one.id for one in read_migrations())
    shown = await command("rollback", "--to", first, "--yes")
    assert "  loses the table codes: 0 rows\n" in shown
    assert shown.count("takes back") == len(read_migrations()) - 1
    assert await sql(database_url, "SELECT migration_id FROM _yoyo_migration") == [(first,)]
    assert len(migrate(database_url)) == len(read_migrations()) - 1


def test_there_is_nothing_to_take_back_where_there_is_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none.db"
    assert refusal(run_command("rollback", "--yes", REFERRAL_DATABASE_URL=url)).endswith("none.db: there is no database")
    assert list(tmp_path.glob("none.db*")) == []
    (tmp_path / "empty.db").touch()
    url = f"sqlite:///{tmp_path}/empty.db"
    assert (
        refusal(run_command("rollback", "--yes", REFERRAL_DATABASE_URL=url)) == "nothing is applied that could be taken back"
    )
