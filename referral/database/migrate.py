"""Migrations: `migrations/` through yoyo.

A migration expands the schema, on which versions that do not know it can serve, or contracts it, so that they cannot. The
second kind says so itself, by the line `-- contracts: true` or, in Python, `__contracts__ = True`, and is marked among those
that are applied. There a version finds what it must know of migrations that were written after it.
"""

import io
import os
import re
import socket
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yoyo
from yoyo.backends.core.sqlite3 import SQLiteBackend
from yoyo.connections import DatabaseURI
from yoyo.exceptions import LockTimeout
from yoyo.internalmigrations import needs_upgrading

from referral.config.postgres_url import parse_postgres_url
from referral.database import DatabaseUnavailable, is_postgres, sqlite_path
from referral.database.index_builds import build_concurrently, build_on_sqlite, index_builds

MIGRATIONS = Path(__file__).resolve().parent.parent.parent / "migrations"
# Seconds that a start waits for another process that migrates. A large database may take longer.
LOCK_TIMEOUT = 30

# Milliseconds that a migration's statement waits for a lock of PostgreSQL's, while whoever wants the table waits behind it.
# After them the migration is undone, and made again after a pause, in which those who waited go on, for so many seconds.
LOCK_WAIT = 50
LOCK_PAUSES = (0.1, 2.0)
LOCK_PATIENCE = 60.0
LOCK_NOT_AVAILABLE = "55P03"

# Migrations that a refusal names.
MOST_NAMED = 3

CONTRACTS = re.compile(r"^-- contracts: true$", re.MULTILINE)
MARK_CONTRACTING = "UPDATE _yoyo_migration SET contracts = 1 WHERE migration_hash = :hash"
CONTRACTING = "SELECT migration_hash FROM _yoyo_migration WHERE contracts = 1"

# What a migration does at least.
CREATION = "CREATE TABLE rights_of_this_role (id BIGINT)"
# A table of the service that it may not read or write. Of what was migrated, it only reads. Other tables of the schema,
# which somebody else made, are of no concern.
LACKING = """
SELECT t.name FROM (
    SELECT quote_ident(tablename) AS name, quote_ident(schemaname) || '.' || quote_ident(tablename) AS path FROM pg_tables
    WHERE schemaname = current_schema() AND tableowner = (
        SELECT tableowner FROM pg_tables WHERE schemaname = current_schema() AND tablename = '_yoyo_migration')
) t
WHERE NOT has_table_privilege(t.path, 'SELECT') OR (position('yoyo' IN t.name) = 0 AND NOT (
    has_table_privilege(t.path, 'INSERT') AND has_table_privilege(t.path, 'UPDATE') AND has_table_privilege(t.path,
    'DELETE')))
ORDER BY t.name LIMIT 1
"""


class MigrationError(Exception):
    """The schema cannot be brought to this version; the message says what to do."""


def migrate(url: str) -> list[str]:
    """Bring the database at `url` to this version's schema, making a SQLite file that is missing.

    Returns the names of the migrations that were applied. Raises MigrationError when another process holds the
    migration lock, the schema is too new for this program, or somebody's transaction holds a table up, DatabaseUnavailable
    when the database cannot be used. Each migration is there wholly or not at all, also after a kill; of index builds, those
    that were finished are there, and the next call goes on with the others.
    """
    migrations = read_migrations()
    with connect(url) as backend:
        try:
            _refuse_without_rights(backend, url)
            # yoyo makes its own tables under its lock: a database without them is not asked before that is held.
            if not needs_upgrading(backend):
                _refuse_newer_schema(backend, migrations)
                if not backend.to_apply(migrations):
                    return []
            _refuse_without_rights(backend, url, to_migrate=True)
            with locked(backend):
                # Another process may have done the work, or a newer one more than that, before this one got the lock.
                _refuse_newer_schema(backend, migrations)
                pending = backend.to_apply(migrations)
                backend.apply_migrations(pending)
                return [migration.id for migration in pending]
        except backend.DatabaseError as error:
            raise as_told(error, "migrated") from error


@contextmanager
def locked(backend: yoyo.backends.DatabaseBackend) -> Iterator[None]:
    """Hold the migration lock. Raises MigrationError when another process has held it for half a minute."""
    try:
        with backend.lock(timeout=LOCK_TIMEOUT):
            yield
    except LockTimeout as error:
        raise MigrationError(
            f"{str(error).partition(' (')[0]} for migrations. If that process is gone, it was killed half-way: "
            "take its lock away with `python run.py migrate --break-lock` and start again."
        ) from None


def as_told(error: Exception, what: str) -> Exception:
    """The error to raise for what a driver says, where the database was to be `what`."""
    if _is_lock_timeout(error):
        return MigrationError(
            f"a transaction has held a table for {LOCK_PATIENCE:.0f} s, so that it cannot be {what}: end the one with the "
            "oldest xact_start in pg_stat_activity, and try again"
        )
    return DatabaseUnavailable(f"the database cannot be {what}: {_first_line(error)}")


def pending_migrations(url: str) -> list[yoyo.migrations.Migration]:
    """The migrations that `migrate` would apply, in their order; it only reads, waits for no lock, and makes no file.

    Raises MigrationError when the schema is too new for this program, DatabaseUnavailable when the database cannot be asked.
    """
    migrations = read_migrations()
    if not is_postgres(url) and not sqlite_path(url).exists():
        return list(migrations)
    with connect(url) as backend:
        try:
            _refuse_without_rights(backend, url)
            if needs_upgrading(backend):
                return list(migrations)
            _refuse_newer_schema(backend, migrations)
            return list(backend.to_apply(migrations))
        except backend.DatabaseError as error:
            raise DatabaseUnavailable(f"the database cannot be used: {_first_line(error)}") from error


def refuse_unmigrated(url: str) -> None:
    """Raises MigrationError unless the database has all that this version needs, DatabaseUnavailable where there is none.

    A migration is needed also if it only expands the schema: that says what older versions can do without.
    """
    if not is_postgres(url) and not sqlite_path(url).exists():
        raise DatabaseUnavailable(f"{sqlite_path(url)}: there is no database")
    names = [migration.id for migration in pending_migrations(url)]
    if names:
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        raise MigrationError(
            f"the database lacks what this version needs ({', '.join(names[:MOST_NAMED])}{more}): run "
            "`python run.py migrate` on it first"
        )


def contracts(migration: yoyo.migrations.Migration) -> bool:
    """Whether versions that do not know the migration must not serve once it is applied."""
    migration.load()
    if migration.is_raw_sql():
        return bool(CONTRACTS.search(migration.source))
    return bool(getattr(migration.module, "__contracts__", False))


def _refuse_without_rights(backend: yoyo.backends.DatabaseBackend, url: str, *, to_migrate: bool = False) -> None:
    """Raises DatabaseUnavailable when PostgreSQL lets this role not serve or, if `to_migrate`, not migrate: with
    PostgreSQL's own reason and the GRANT that is missing. yoyo would take each refusal for somebody else's lock, and wait
    for that."""
    if not is_postgres(url):
        return
    schema, role = backend.execute("SELECT quote_ident(current_schema()), quote_ident(current_user)").fetchone()
    if schema is None:
        raise DatabaseUnavailable(
            f"PostgreSQL: {_refusal(backend, CREATION) or 'no schema can be used'}: GRANT USAGE ON SCHEMA public TO {role}, "
            "or set a search_path to a schema that this role may use"
        )
    if to_migrate:
        reason = _refusal(backend, CREATION)
        if reason:
            raise DatabaseUnavailable(
                f"PostgreSQL: {reason}, and there are migrations to apply: run `python run.py migrate` with a role that "
                f"may, or GRANT CREATE ON SCHEMA {schema} TO {role}"
            )
    # The tables that are missing are of no concern here: they will belong to this role.
    forbidden = backend.execute(LACKING).fetchone()
    if forbidden:
        reason = _refusal(backend, f"TABLE {forbidden[0]}") or f"permission denied for table {forbidden[0]}"
        raise DatabaseUnavailable(
            f"PostgreSQL: {reason}: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
        )


def _refusal(backend: yoyo.backends.DatabaseBackend, statement: str) -> str | None:
    """PostgreSQL's reason to refuse the statement, which is undone in any case."""
    try:
        with backend.transaction(rollback_on_exit=True):
            backend.execute(statement)
    except backend.DatabaseError as error:
        return _first_line(error)
    return None


def break_lock(url: str) -> None:
    """Remove the migration lock that a killed process left behind. Raises DatabaseUnavailable."""
    with connect(url) as backend:
        try:
            backend.create_lock_table()
            backend.break_lock()
        except backend.DatabaseError as error:
            raise DatabaseUnavailable(f"the lock cannot be taken away: {_first_line(error)}") from error


def read_migrations() -> yoyo.migrations.MigrationList:
    """What lies in `migrations/`, each with its rollback."""
    return yoyo.read_migrations(str(MIGRATIONS))


class _Whole:
    """What yoyo's backends do otherwise than this service needs; a mixin."""

    def init_database(self) -> None:
        # Whenever it connects, yoyo would make the table of its lock, and another one to find out what both databases can.
        # Whoever only asks must change nothing, and may not have the right to.
        pass

    @contextmanager
    def lock(self: Any, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
        self.create_lock_table()
        with super().lock(timeout):  # type: ignore[misc]
            yield

    def apply_one(self: Any, migration: yoyo.migrations.Migration, force: bool = False, mark: bool = True) -> None:
        def apply() -> None:
            if migration.use_transactions:
                migration.process_steps(self, "apply", force=force)
            if mark:
                self.mark_one(migration)

        self.ensure_internal_schema_updated()
        self.build_indexes(migration, "apply")
        self.do_whole(apply)

    def rollback_one(self: Any, migration: yoyo.migrations.Migration, force: bool = False) -> None:
        def roll_back() -> None:
            if migration.use_transactions:
                migration.process_steps(self, "rollback", force=force)
            self.unmark_one(migration)

        self.ensure_internal_schema_updated()
        self.build_indexes(migration, "rollback")
        self.do_whole(roll_back)

    def build_indexes(self: Any, migration: yoyo.migrations.Migration, direction: str) -> None:
        for build in index_builds(migration, direction):
            (build_on_sqlite if isinstance(self, SQLiteBackend) else build_concurrently)(self, build)

    def do_whole(self: Any, work: Callable[[], None]) -> None:
        # yoyo would mark a migration as applied, or as taken back, in a second transaction: a kill in between would leave a
        # schema that can go neither forward nor back.
        patience = time.monotonic() + LOCK_PATIENCE
        pause, longest = LOCK_PAUSES
        while True:
            try:
                # SQLite checks a new column's rule by a query of its own, whose columns yoyo would print among what a
                # command says.
                with self.transaction(), redirect_stdout(io.StringIO()):
                    if not isinstance(self, SQLiteBackend):
                        self.execute(f"SET LOCAL lock_timeout = {LOCK_WAIT}")
                    work()
                return
            except self.DatabaseError as error:
                if not _is_lock_timeout(error) or time.monotonic() > patience:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, longest)

    def mark_one(self: Any, migration: yoyo.migrations.Migration, log: bool = True) -> None:
        super().mark_one(migration, log)  # type: ignore[misc]
        if contracts(migration):
            self.execute(MARK_CONTRACTING, {"hash": migration.hash})

    def get_log_data(self: Any, migration: Any = None, operation: str = "apply") -> dict[str, Any]:
        # yoyo would ask for the user's name, which a container's user may not have, and for the host's full name, which may
        # take as long as a name server's timeout.
        return {
            "id": str(uuid.uuid1()),
            "migration_id": migration.id if migration else None,
            "migration_hash": migration.hash if migration else None,
            "username": str(os.getuid()),
            "hostname": socket.gethostname(),
            "created_at_utc": datetime.now(UTC).replace(tzinfo=None),
            "operation": operation,
        }


class _SQLiteBackend(_Whole, SQLiteBackend):  # type: ignore[misc]
    pass


def connect(url: str) -> yoyo.backends.DatabaseBackend:
    """A yoyo backend on the database; use it as a context manager. Raises DatabaseUnavailable."""
    if is_postgres(url):
        return _connect_postgres(url)
    path = sqlite_path(url)
    # yoyo passes the name to SQLite as a URI, in which % and ? have a meaning.
    uri = DatabaseURI("sqlite", "", "", "", None, quote(str(path)), {})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            # The file holds everybody's e-mail address. SQLite gives the files beside it the same mode.
            path.touch(mode=0o600)
        backend = _SQLiteBackend(uri, "_yoyo_migration")
        backend.init_database()
    except (OSError, sqlite3.Error) as error:
        raise DatabaseUnavailable(f"{path}: {error}") from error
    return backend


def _connect_postgres(url: str) -> yoyo.backends.DatabaseBackend:
    # Imported here: psycopg takes longer to load than a SQLite start takes in all.
    import psycopg
    from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend

    class PostgresBackend(_Whole, PostgresqlPsycopgBackend):  # type: ignore[misc]
        def connect(self, _: DatabaseURI) -> psycopg.Connection:
            # yoyo would read the URL itself, and knows one host. A pooler's connection is shared: nothing is prepared on it.
            return psycopg.connect(url, autocommit=True, prepare_threshold=None, **parse_postgres_url(url).libpq)

    try:
        # yoyo keeps what it finds out about a database by what it takes for its URL.
        backend = PostgresBackend(DatabaseURI("postgresql", "", "", "", None, url, {}), "_yoyo_migration")
        backend.init_database()
    except psycopg.Error as error:
        raise DatabaseUnavailable(f"cannot connect to PostgreSQL: {_first_line(error)}") from error
    return backend


def _is_lock_timeout(error: Exception) -> bool:
    return getattr(error, "sqlstate", None) == LOCK_NOT_AVAILABLE


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _refuse_newer_schema(backend: yoyo.backends.DatabaseBackend, migrations: yoyo.migrations.MigrationList) -> None:
    """Raises MigrationError when a migration is applied that this program does not know, unless that only expands."""
    known = {migration.hash for migration in migrations}
    applied = set(backend.get_applied_migration_hashes())
    unknown = applied - known
    # Where one of this version's own is pending, the other one is of another branch, of which nobody tried the order.
    if unknown and known <= applied:
        unknown &= {row[0] for row in backend.execute(CONTRACTING)}
    if unknown:
        raise MigrationError(
            "The database was migrated by a newer version of this service. Run that version, or restore the backup "
            "made before the upgrade."
        )
