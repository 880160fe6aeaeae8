"""`run.py backup` and `run.py restore`: what is in a backup taken under load, what a restore brings and keeps, and every way
in which they refuse."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import run
from referral.database import sqlite_path
from referral.database.backup import BackupRefused, back_up, restore
from referral.database.copy import TABLES
from referral.database.migrate import connect, migrate, read_migrations
from tests.conftest import Client, MakeClient
from tests.support.confined import bound_by_permissions, files_limited_to
from tests.support.people import API, PASSWORD, Person
from tests.support.rows import everything, sql
from tests.support.service import run_py

MakePerson = Callable[..., Awaitable[Person]]


@pytest.fixture
def engine() -> str:
    return "sqlite"


@pytest.fixture
def file(database_url: str) -> Path:
    """The database that is backed up and restored; nobody has it open."""
    return sqlite_path(database_url)


@pytest.fixture
def saved(database_url: str, file: Path) -> Path:
    """A backup with one account, `alice`, who is gone from the database since."""
    target = file.with_name("saved.db")
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(
            "INSERT INTO users (id, email, email_key, username, username_key, password_hash, role, created_at) "
            "VALUES ('a', 'alice@example.com', 'alice@example.com', 'alice', 'alice', 'x', 'user', 1)"
        )
        back_up(database_url, target)
        database.execute("DELETE FROM users")
    return target


def command(url: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "REFERRAL_DATABASE_URL": url, "REFERRAL_LOG_LEVEL": "error"}
    # Beside the folder that it works in: what that holds is compared.
    project = Path(f"{Path.cwd()}.project")
    project.mkdir(exist_ok=True)
    line = [*run_py(project), *map(str, arguments)]
    return subprocess.run(line, env=environ, capture_output=True, text=True, check=False, **options)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line in which the command says why it did nothing."""
    assert (done.returncode, done.stdout) == (2, ""), done
    [line] = done.stderr.splitlines()
    return line.removeprefix("run.py: ")


def names(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        return {name for (name,) in database.execute("SELECT username FROM users")}


def files(folder: Path) -> dict[str, bytes]:
    """What lies there, but for the empty log and its index that a mere reader of a database leaves."""
    return {
        entry.name: entry.read_bytes()
        for entry in folder.iterdir()
        if entry.is_file() and not entry.name.endswith(("-shm", "-wal"))
    }


# Backups


async def test_a_backup_under_load_has_all_that_was_acknowledged_before_it_and_half_of_nothing(
    client: Client, person: MakePerson, database_url: str, tmp_path: Path
) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    acknowledged: set[str] = set()
    over = asyncio.Event()

    async def register_one_after_the_other(worker: int) -> None:
        for number in range(10_000):
            if over.is_set():
                return
            body = {"email": f"w{worker}n{number}@example.com", "password": PASSWORD, "referral_code": code}
            async with client.post(f"{API}/auth/register", json=body) as response:
                assert response.status == 201, await response.text()
                acknowledged.add((await response.json())["user"]["id"])

    async with asyncio.TaskGroup() as tasks:
        for worker in range(4):
            tasks.create_task(register_one_after_the_other(worker))
        for turn in range(3):
            while len(acknowledged) < 20 * (turn + 1):
                await asyncio.sleep(0.01)
            before = set(acknowledged)
            target = tmp_path / f"{turn}.db"
            done = await asyncio.to_thread(command, database_url, "backup", target)
            assert done.returncode == 0, done.stderr
            # The writers did not wait for it.
            assert len(acknowledged) > len(before)
            with closing(sqlite3.connect(target)) as copy:
                referred = {row[0] for row in copy.execute("SELECT user_id FROM referrals")}
                assert before <= referred
                counted = copy.execute("SELECT referral_count, uses FROM users u JOIN codes c ON c.referrer_id = u.id")
                assert counted.fetchall() == [(len(referred), len(referred))]
                # A registration is an account, a session, a refresh token and a mail, or it is nothing.
                for table in ("users", "sessions", "refresh_tokens"):
                    assert copy.execute(f"SELECT count(*) FROM {table}").fetchone() == (len(referred) + 1,)
        over.set()


def test_a_backup_is_one_file_of_its_owner_and_says_how_many_rows_it_has(
    saved: Path, database_url: str, tmp_path: Path
) -> None:
    target = tmp_path / "elsewhere" / "backup file.db"
    target.parent.mkdir()
    done = command(database_url, "backup", target)
    rows = int(done.stdout.split()[0])
    assert done.stdout == f"{rows} rows are in {target}, verified.\n"
    assert list(files(target.parent)) == [target.name]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with closing(sqlite3.connect(target)) as copy:
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        tables = [name for (name,) in copy.execute(TABLES)]
        assert rows == sum(copy.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables)


def test_a_file_that_exists_is_replaced_by_force_alone(saved: Path, database_url: str) -> None:
    before = saved.read_bytes()
    with pytest.raises(BackupRefused, match=r"exists already; --force replaces it$"):
        back_up(database_url, saved)
    assert saved.read_bytes() == before
    assert command(database_url, "backup", "--force", saved).returncode == 0
    assert names(saved) == set()


def test_a_backup_that_cannot_be_made_says_why_in_one_line_and_leaves_nothing(
    saved: Path, file: Path, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    cases: list[tuple[str, list[str | Path], str]] = [
        (database_url, [tmp_path / "folder"], "is a directory"),
        (database_url, [tmp_path / "nowhere" / "b.db"], "No such file or directory"),
        (database_url, ["--force", file], "is the database itself"),
        (f"sqlite:///{tmp_path}/none.db", [tmp_path / "b.db"], "there is no database"),
        ("postgresql://u:a-password@127.0.0.1:1/n", [tmp_path / "b.db"], "use pg_dump and pg_restore"),
    ]
    before = files(tmp_path)
    for url, arguments, expected in cases:
        line = refusal(command(url, "backup", *arguments))
        assert expected in line
        assert "a-password" not in line
    assert files(tmp_path) == before


def test_without_space_there_is_no_backup_and_no_restore_and_what_was_there_stays(
    saved: Path, file: Path, database_url: str, tmp_path: Path
) -> None:
    before = files(tmp_path)
    commands: list[list[str | Path]] = [["backup", "--force", saved], ["backup", tmp_path / "new.db"], ["restore", saved]]
    for arguments in commands:
        line = refusal(command(database_url, *arguments, preexec_fn=files_limited_to(20_000)))
        assert "disk" in line, line
        assert files(tmp_path) == before


def test_without_permission_both_say_so(saved: Path, file: Path, database_url: str, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    line = refusal(command(database_url, "backup", closed / "b.db", preexec_fn=bound_by_permissions))
    assert line == f"{closed / 'b.db'}: Permission denied"
    saved.chmod(0o000)
    assert str(saved) in refusal(command(database_url, "restore", saved, preexec_fn=bound_by_permissions))
    saved.chmod(0o600)
    file.chmod(0o400)
    assert refusal(command(database_url, "restore", saved, preexec_fn=bound_by_permissions)) == f"{file}: Permission denied"
    assert names(file) == set()


# Restores


async def test_a_restore_brings_exactly_what_was_saved_and_the_service_goes_on_from_there(
    make_client: MakeClient, database_url: str, file: Path, tmp_path: Path
) -> None:
    client = await make_client()
    alice = await Person.register(client, "alice")
    code = await alice.make_code(max_uses=2)
    await Person.register(client, "bob", referral_code=code)
    target = tmp_path / "b.db"
    assert (await asyncio.to_thread(command, database_url, "backup", target)).returncode == 0
    then = await everything(database_url)
    await Person.register(client, "carol", referral_code=code)
    assert (await alice.delete("/users/me", {"password": alice.password})).status == 204
    await client.close()
    now = await everything(database_url)
    epoch = await sql(database_url, "SELECT epoch FROM cache_epoch")

    done = await asyncio.to_thread(command, database_url, "restore", target)
    kept = tmp_path / "referral.db.before-restore"
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"from {target}. What was there before is {kept}. Start the service.\n")
    assert await everything(database_url) == then
    assert await everything(f"sqlite:///{kept}") == now
    # Whatever Redis was told after the backup, it was told of an earlier epoch.
    assert await sql(database_url, "SELECT epoch FROM cache_epoch") > epoch

    alice.client = await make_client()
    assert (await alice.me())["referral_count"] == 1
    await Person.register(alice.client, "dave", referral_code=code)
    assert (await alice.get("/codes/current")).body["status"] == "exhausted"


def test_a_restore_while_the_service_runs_is_refused(saved: Path, file: Path, database_url: str, tmp_path: Path) -> None:
    # What the service does, and nothing else: it has the database open.
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import asyncio, sys\n"
            "from referral.database.opening import open_database\n"
            "async def main():\n"
            "    await open_database(sys.argv[1])\n"
            "    print('open', flush=True)\n"
            "    await asyncio.sleep(60)\n"
            "asyncio.run(main())",
            database_url,
        ],
        cwd=Path(run.__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "open\n"
        assert refusal(command(database_url, "restore", saved)) == f"{file}: is in use; stop the service first"
        # Also when there is nothing left of it that SQLite could open.
        with file.open("r+b") as damaged:
            damaged.write(b"x" * 4096)
        assert refusal(command(database_url, "restore", saved)) == f"{file}: is in use; stop the service first"
    finally:
        holder.kill()
        holder.communicate()
    assert command(database_url, "restore", saved).returncode == 0
    assert names(file) == {"alice"}


def test_what_only_the_write_ahead_log_of_a_killed_service_has_is_kept_too(
    saved: Path, file: Path, database_url: str
) -> None:
    script = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA journal_mode = WAL')\n"
        "c.execute('UPDATE cache_epoch SET epoch = 77')\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(file)], check=True)
    assert file.with_name("referral.db-wal").stat().st_size
    before = restore(database_url, saved)[1]
    assert before
    with closing(sqlite3.connect(before)) as replaced:
        assert replaced.execute("SELECT epoch FROM cache_epoch").fetchone() == (77,)
    assert names(file) == {"alice"}
    assert {entry.name for entry in file.parent.iterdir() if entry.is_file()} == {"referral.db", before.name, saved.name}


def test_a_damaged_database_is_replaced_and_its_log_is_never_taken_for_the_new_ones(
    saved: Path, file: Path, database_url: str
) -> None:
    file.write_bytes(b"this is no database" * 1000)
    file.with_name("referral.db-wal").write_bytes(b"nor is this its log")
    file.chmod(0o640)
    before = restore(database_url, saved)[1]
    assert before
    assert before.read_bytes().startswith(b"this is no database")
    assert Path(f"{before}-wal").read_bytes() == b"nor is this its log"
    assert not file.with_name("referral.db-wal").exists()
    assert names(file) == {"alice"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_second_restore_does_not_take_what_the_first_one_kept(saved: Path, file: Path, database_url: str) -> None:
    first = restore(database_url, saved)[1]
    second = restore(database_url, saved)[1]
    assert first
    assert second
    assert (names(first), names(second)) == (set(), {"alice"})


def test_on_a_new_machine_a_restore_makes_the_database(saved: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "var" / "referral.db"
    done = command(f"sqlite:///{file}", "restore", saved)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"rows are restored from {saved}. Start the service.\n")
    assert names(file) == {"alice"}
    assert list(files(file.parent)) == ["referral.db"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_older_backup_is_migrated_even_if_a_migration_was_under_way(
    file: Path, database_url: str, tmp_path: Path
) -> None:
    old = tmp_path / "old.db"
    shutil.copy(file, old)
    with connect(f"sqlite:///{old}") as backend:
        migrations = read_migrations()
        backend.rollback_migrations(backend.to_rollback(migrations)[:2])
        backend.connection.execute("INSERT INTO yoyo_lock VALUES (1, '2026-01-01', 1)")
        backend.connection.commit()
    content = old.read_bytes()
    restore(database_url, old)
    assert migrate(database_url) == []
    assert old.read_bytes() == content


def test_what_cannot_be_restored_is_named_in_one_line_and_nothing_changes(
    saved: Path, file: Path, database_url: str, tmp_path: Path, migrated_database: Path
) -> None:
    def other(name: str) -> Path:
        path = tmp_path / name
        shutil.copy(saved, path)
        return path

    (tmp_path / "folder").mkdir()
    (tmp_path / "text.db").write_bytes(b"this is no database" * 1000)
    (tmp_path / "empty.db").touch()
    with closing(sqlite3.connect(tmp_path / "stranger.db")) as stranger:
        stranger.execute("CREATE TABLE users (id)")
    with closing(sqlite3.connect(other("newer.db"))) as newer:
        newer.execute("UPDATE _yoyo_migration SET migration_hash = 'of the future' WHERE migration_id LIKE '0005%'")
        newer.commit()
    with closing(sqlite3.connect(other("damaged.db"))) as damaged:
        damaged.execute("PRAGMA ignore_check_constraints = ON")
        damaged.execute("UPDATE users SET role = 'king'")
        damaged.commit()
    cut = other("cut.db")
    os.truncate(cut, cut.stat().st_size - 8192)
    torn = other("torn.db")
    with torn.open("r+b") as stream:
        # In the middle, beyond what an open reads.
        stream.seek(torn.stat().st_size // 4096 // 2 * 4096)
        stream.write(b"\xff" * 4096 * 3)
    cases = [
        (tmp_path / "folder", "is a directory"),
        (tmp_path / "none.db", "is not there"),
        (tmp_path / "text.db", "file is not a database"),
        (tmp_path / "empty.db", "is not a database of this service"),
        (tmp_path / "stranger.db", "is not a database of this service"),
        (tmp_path / "newer.db", "was made by a newer version of this service"),
        (tmp_path / "damaged.db", "is damaged: "),
        (cut, "malformed"),
        (torn, ""),
        (file, "is the database itself"),
    ]
    before = files(tmp_path)
    for name in ("empty.db", "stranger.db"):
        with pytest.raises(BackupRefused, match="is not a database of this service"):
            back_up(f"sqlite:///{tmp_path / name}", tmp_path / "backup.db")
    for source, expected in cases:
        with pytest.raises(BackupRefused) as refused:
            restore(database_url, source)
        line = str(refused.value)
        assert line.startswith(f"{source}: ")
        assert expected in line
        assert "\n" not in line
    assert files(tmp_path) == before
    assert refusal(command(database_url, "restore", torn)).startswith(f"{torn}: ")
    assert "use pg_dump and pg_restore" in refusal(command("postgresql://u@127.0.0.1:1/n", "restore", saved))


KILLED_AT_EVERY_STEP = """
import os, shutil, sqlite3, sys
from pathlib import Path
from referral.database import backup

folder, left = Path(sys.argv[1]), 0

def tick(event, arguments):
    global left
    if event in ("os.rename", "os.link", "os.remove", "os.chmod", "sqlite3.connect"):
        left -= 1
        if left == 0:
            os._exit(9)

status, step = 9, 0
while status == 9:
    step += 1
    shutil.copy(folder / "referral.db", folder / "again.db")
    if not os.fork():
        # As a service leaves it that was killed.
        service = sqlite3.connect(folder / "again.db", isolation_level=None)
        service.execute("PRAGMA journal_mode = WAL")
        service.execute("INSERT INTO users (id, role, created_at, erased_at) VALUES ('b', 'user', 1, 1)")
        os._exit(0)
    os.wait()
    child = os.fork()
    if not child:
        left = step
        sys.addaudithook(tick)
        backup.restore(f"sqlite:///{folder}/again.db", folder / "saved.db")
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found = sqlite3.connect(folder / "again.db")
    print(found.execute("PRAGMA integrity_check").fetchone()[0], *found.execute("SELECT id FROM users").fetchone())
    found.close()
print(status)
"""


def test_wherever_a_restore_is_killed_the_old_or_the_new_database_is_there_whole(saved: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EVERY_STEP, str(tmp_path)],
        cwd=Path(run.__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *found, status = done.stdout.splitlines()
    assert (status, done.stderr) == ("0", "")
    assert len(found) > 5
    assert set(found) == {"ok b", "ok a"}
