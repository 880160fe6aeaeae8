"""The way back: migrations are taken back by their rollbacks, the newest first, and what is lost is found out before."""

import io
from contextlib import redirect_stdout
from typing import Any

import yoyo

from referral.database import DatabaseUnavailable, is_postgres, sqlite_path
from referral.database.index_builds import build_on_sqlite, index_builds
from referral.database.migrate import LOCK_WAIT, MigrationError, as_told, connect, locked, read_migrations

COLUMNS = {
    "postgres": """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = current_schema() AND position('yoyo' IN table_name) = 0
""",
    "sqlite": """
SELECT t.name, c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c
WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%' AND t.name NOT LIKE '%yoyo%'
""",
}


def rollback_plan(url: str, to: str | None) -> list[str]:
    """The names of the migrations that would be taken back, the newest first: the last one, or all after the one named `to`.

    Raises MigrationError where that is not applied, or where a newer version has applied one whose rollback only that
    version has; DatabaseUnavailable.
    """
    if not is_postgres(url) and not sqlite_path(url).exists():
        raise DatabaseUnavailable(f"{sqlite_path(url)}: there is no database")
    migrations = read_migrations()
    with connect(url) as backend:
        try:
            if "_yoyo_migration" not in backend.list_tables():
                raise MigrationError("nothing is applied that could be taken back")
            names = dict(backend.execute("SELECT migration_hash, migration_id FROM _yoyo_migration").fetchall())
            unknown = sorted(names.keys() - {migration.hash for migration in migrations}, key=lambda one: str(names[one]))
            if unknown:
                raise MigrationError(
                    f"{names[unknown[-1]]} was applied by a newer version of this service, which alone can take it back"
                )
            applied = [migration.id for migration in backend.to_rollback(migrations)]
        except backend.DatabaseError as error:
            raise as_told(error, "asked") from error
    if to is None:
        return applied[:1]
    if to not in applied:
        raise MigrationError(f"--to: no migration is applied whose name is {to}")
    return applied[: applied.index(to)]


def losses(url: str, names: list[str]) -> list[str]:
    """What is lost when these migrations are taken back, a line for each table and column, with how much is in it.

    It is found out by taking them back in a transaction that is undone. Raises MigrationError when a rollback refuses what
    the rows are, DatabaseUnavailable.
    """
    columns = COLUMNS["postgres" if is_postgres(url) else "sqlite"]
    with connect(url) as backend:
        try:
            before = _columns(backend, columns)
            with backend.transaction(rollback_on_exit=True), redirect_stdout(io.StringIO()):
                if is_postgres(url):
                    backend.execute(f"SET LOCAL lock_timeout = {LOCK_WAIT}")
                for migration in _those(names):
                    migration.load()
                    if migration.use_transactions:
                        migration.process_steps(backend, "rollback")
                    elif not is_postgres(url):
                        # SQLite drops no column that has an index. On PostgreSQL, where they are built outside of a
                        # transaction, indexes go with their columns.
                        for build in index_builds(migration, "rollback"):
                            build_on_sqlite(backend, build)
                after = _columns(backend, columns)
        except backend.DatabaseError as error:
            raise as_told(error, "taken back") from error
        except ValueError as refusal:
            raise MigrationError(str(refusal)) from None
    # On another connection: SQLite's keeps what an edit of its schema made of it, although that was undone.
    with connect(url) as backend:
        tables = sorted(before.keys() - after.keys())
        lost = [f"table {table}: {_count(backend, table, '*')} rows" for table in tables]
        for table in sorted(before.keys() & after.keys()):
            lost += [
                f"column {table}.{column}: {_count(backend, table, column)} values"
                for column in sorted(before[table] - after[table])
            ]
    return lost


def roll_back(url: str, names: list[str]) -> None:
    """Take these migrations back, in their order, each wholly or not at all. Raises MigrationError, DatabaseUnavailable."""
    with connect(url) as backend:
        try:
            with locked(backend):
                for migration in _those(names):
                    # Somebody else may have taken it back before this process got the lock.
                    if backend.is_applied(migration):
                        backend.rollback_one(migration)
        except backend.DatabaseError as error:
            raise as_told(error, "taken back") from error
        except ValueError as refusal:
            raise MigrationError(str(refusal)) from None


def _those(names: list[str]) -> list[yoyo.migrations.Migration]:
    by_name = {migration.id: migration for migration in read_migrations()}
    return [by_name[name] for name in names]


def _columns(backend: Any, statement: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for table, column in backend.execute(statement).fetchall():
        found.setdefault(str(table), set()).add(str(column))
    return found


def _count(backend: Any, table: str, what: str) -> int:
    return int(backend.execute(f"SELECT count({what}) FROM {table}").fetchone()[0])  # noqa: S608 - names of the schema
