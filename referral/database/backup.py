"""Backups of a SQLite database while the service runs, and the way back. PostgreSQL has its own tools for both."""

import fcntl
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path

from referral.database import DatabaseUnavailable, is_postgres, sqlite_path
from referral.database.copy import TABLES
from referral.database.migrate import MigrationError, break_lock, migrate, read_migrations

# Where SQLite's locks lie in a file (https://www.sqlite.org/lockingv3.html): every open WAL connection holds a shared one.
LOCKS = (0x40000000, 512)


class BackupRefused(Exception):
    """Nothing was changed; the message says why in one line."""


def back_up(url: str, target: Path, *, force: bool = False) -> int:
    """Write the database at `url` to the file `target`, readable by its owner alone; return the number of rows.

    It holds one moment: everything acknowledged before the call, and no half of anything, whatever is written meanwhile. It
    gets its name only when `PRAGMA integrity_check` has passed and every table has as many rows as its source; a file that
    exists is replaced only by `force`. Raises BackupRefused.
    """
    path = _path_of(url)
    if not path.exists():
        raise BackupRefused(f"{path}: there is no database")
    if target.is_dir():
        raise BackupRefused(f"{target}: is a directory")
    if target.exists():
        if target.samefile(path):
            raise BackupRefused(f"{target}: is the database itself")
        if not force:
            raise BackupRefused(f"{target}: exists already; --force replaces it")
    with _aside(target) as aside:
        rows = _copy(path, aside)
        _refuse_strangers(path, aside)
        aside.chmod(0o600)
        _sync(aside)
        aside.replace(target)
        _sync(target.parent)
    return rows


def restore(url: str, source: Path) -> tuple[int, Path | None]:
    """Make the backup `source` the database at `url`; return the number of its rows and where the replaced database is.

    The backup is only read. It must be whole, a database of this service, and not newer than this version; an older one is
    migrated. What was there stays beside as `NAME.before-restore`, and at no moment is there neither. What a shared cache
    keeps of codes is void afterwards.

    Refused while another process of this machine has the database open, which its file locks tell. They do not tell of
    processes beyond a network file system, nor of a service that starts in the very moment of the exchange. Raises
    BackupRefused.
    """
    path = _path_of(url)
    if not source.is_file():
        raise BackupRefused(f"{source}: is {'a directory' if source.is_dir() else 'not there'}")
    if path.exists() and source.samefile(path):
        raise BackupRefused(f"{source}: is the database itself")
    _refuse_if_open(path)
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _aside(path) as aside, _told(source):
        _copy(source, aside)
        _refuse_strangers(source, aside)
        try:
            # A migration that held the lock while the backup was made is over: its lock goes.
            break_lock(f"sqlite:///{aside}")
            migrate(f"sqlite:///{aside}")
        except MigrationError:
            raise BackupRefused(f"{source}: was made by a newer version of this service") from None
        with closing(_open(aside, "rw")) as connection:
            # Higher than any epoch before: entries that Redis got after the backup must be void.
            connection.execute("UPDATE cache_epoch SET epoch = max(epoch + 1, ?)", (time.time_ns() // 1_000_000,))
            rows = sum(_verified(connection, source).values())
        if path.exists():
            former = path.stat()
            aside.chmod(former.st_mode & 0o777)
            os.chown(aside, former.st_uid, former.st_gid)
        else:
            aside.chmod(0o600)
        _sync(aside)
        before = _exchange(path, aside)
        _sync(path.parent)
    return rows, before


def _path_of(url: str) -> Path:
    if is_postgres(url):
        raise BackupRefused("PostgreSQL has its own tools for this: use pg_dump and pg_restore")
    return sqlite_path(url)


@contextmanager
def _told(subject: Path) -> Iterator[None]:
    """Whatever SQLite and the system have to say, as a refusal."""
    try:
        yield
    except (sqlite3.Error, DatabaseUnavailable) as error:
        raise BackupRefused(f"{subject}: {error}") from error
    except OSError as error:
        raise BackupRefused(f"{subject}: {error.strerror or error}") from error


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A file beside `path` that does not exist yet; whatever it becomes is gone in the end, unless it was renamed."""
    with _told(path), tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.absolute().parent) as folder:
        yield Path(folder) / path.name


def _open(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None)


def _copy(source: Path, target: Path) -> int:
    """Copy a moment of the database `source` to the new file `target`, verified; return the number of rows."""
    with _told(source), closing(_open(source, "ro")) as origin, closing(_open(target, "rwc")) as copy:
        # Copying and counting happen in one transaction, so that they see the same rows. In WAL mode no writer waits.
        origin.execute("BEGIN")
        expected = _counts(origin)
        with _told(target):
            # The file is synced as a whole once it is verified; until then nobody needs it.
            copy.execute("PRAGMA synchronous = OFF")
            origin.backup(copy)
            # A backup is one file, which needs no other beside it wherever it is carried.
            copy.execute("PRAGMA journal_mode = DELETE")
        found = _verified(copy, source)
    if found != expected:
        raise BackupRefused(f"{source}: has {expected} rows, but {found} arrived")
    return sum(found.values())


def _verified(connection: sqlite3.Connection, source: Path) -> dict[str, int]:
    """The rows of each table of a database that is whole. Raises BackupRefused for one that is not."""
    [verdict] = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise BackupRefused(f"{source}: is damaged: {' '.join(str(verdict).split())}")
    return _counts(connection)


def _counts(connection: sqlite3.Connection) -> dict[str, int]:
    tables = [name for (name,) in connection.execute(TABLES)]
    return {
        name: int(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0])  # noqa: S608 - a name of the schema
        for name in tables
    }


def _refuse_strangers(source: Path, copy: Path) -> None:
    with closing(_open(copy, "ro")) as connection:
        try:
            applied = {row[0] for row in connection.execute("SELECT migration_id FROM _yoyo_migration")}
        except sqlite3.Error:
            applied = set()
    if min(migration.id for migration in read_migrations()) not in applied:
        raise BackupRefused(f"{source}: is not a database of this service")


def _refuse_if_open(path: Path) -> None:
    """Raises BackupRefused while another process of this machine has the file open as a database."""
    start, length = LOCKS
    with _told(path), suppress(FileNotFoundError), path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
        except BlockingIOError:
            raise _in_use(path) from None


def _in_use(path: Path) -> BackupRefused:
    return BackupRefused(f"{path}: is in use; stop the service first")


def _exchange(path: Path, new: Path) -> Path | None:
    """Put the file `new` in the place of the database `path`; return the name that the latter has now."""
    before = _free_name(path)
    replaced = path.exists()
    with _held(path) if replaced else nullcontext():
        # The write-ahead log of one database must never be taken for another's.
        for suffix in ("-wal", "-journal"):
            log = Path(f"{path}{suffix}")
            if log.exists():
                log.rename(f"{before}{suffix}")
        Path(f"{path}-shm").unlink(missing_ok=True)
        if replaced:
            before.hardlink_to(path)
        new.replace(path)
    return before if replaced else None


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep other processes out of the database, if it can still be opened; its file is all of it then."""
    _refuse_if_open(path)
    with closing(_open(path, "rw")) as connection:
        try:
            # Only the last connection can fold the write-ahead log in.
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise _in_use(path) from None
            raise
        except sqlite3.DatabaseError:
            # The database is damaged, which may be the very reason for the restore.
            pass
        yield


def _free_name(path: Path) -> Path:
    # A second restore must not overwrite what the first one kept.
    name = path.with_name(f"{path.name}.before-restore")
    number = 1
    while name.exists():
        number += 1
        name = path.with_name(f"{path.name}.before-restore-{number}")
    return name


def _sync(path: Path) -> None:
    """Have the file or the folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
