"""Moving an installation from SQLite to PostgreSQL."""

import sqlite3
import sys
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from itertools import islice
from typing import Any, Literal, TextIO

import asyncpg

from referral.database import DatabaseUnavailable, is_postgres, sqlite_path
from referral.database.migrate import migrate, read_migrations
from referral.database.postgres_connecting import Connector

# Rows between two looks at the progress.
BATCH = 1_000
BAR_WIDTH = 40

TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '%yoyo%'"

# Columns in which PostgreSQL numbers rows by itself.
NUMBERED = """
SELECT c.relname AS name, a.attname AS number FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE a.attidentity <> '' AND c.relname = ANY($1) AND pg_table_is_visible(c.oid)
"""

# Triggers that sum what is inserted. The sums are copied, too.
SUMMING = """
SELECT c.relname AS name, t.tgname AS trigger FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE starts_with(t.tgname, 'stat_') AND c.relname = ANY($1) AND pg_table_is_visible(c.oid)
"""


class CopyRefused(Exception):
    """Nothing was copied, and the target is as empty as before; the message says why in one line."""


class Progress:
    """A bar on a terminal; elsewhere, a line a table."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total = total
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._done = 0

    def advance(self, table: str, rows: int) -> None:
        """These many rows more of the table are copied."""
        self._done += rows
        if self._is_terminal:
            share = self._done / self._total if self._total else 1.0
            bar = "#" * int(share * BAR_WIDTH)
            self._stream.write(f"\r[{bar:.<{BAR_WIDTH}}] {share:4.0%} {table:20}")
            self._stream.flush()

    def finish(self, table: str, rows: int) -> None:
        """The table is copied, all its rows."""
        if not self._is_terminal:
            print(f"{table}: {rows} rows", file=self._stream, flush=True)

    def end(self) -> None:
        """Leave the bar's line."""
        if self._is_terminal:
            self._stream.write("\n")


async def copy(source_url: str, target_url: str, stream: TextIO = sys.stderr) -> int:
    """Copy the SQLite database at `source_url` to the PostgreSQL one at `target_url`; return the number of rows.

    The target is migrated first and must have no users. The rows come from one snapshot of the source, which is opened for
    reading only, and go to the target in one transaction: it gets all of them or none. Every table is counted on both sides
    before the commit, and the referral counts are summed. Raises CopyRefused, DatabaseUnavailable and what `migrate` raises.
    """
    if is_postgres(source_url) or not is_postgres(target_url):
        raise CopyRefused("copies go from a sqlite: database.url to a postgresql: target")
    source = _open_source(source_url)
    try:
        tables = _tables(source)
        _refuse_another_schema(source)
        migrate(target_url)
        try:
            target = await Connector(target_url).connect()
            try:
                async with target.transaction():
                    rows = await _copy_tables(source, target, tables, stream)
                # Without statistics, the first requests would be planned for empty tables.
                await target.execute("ANALYZE")
                await target.close()
            finally:
                target.terminate()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise DatabaseUnavailable(f"PostgreSQL: {error or type(error).__name__}") from error
        return rows
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"{sqlite_path(source_url)}: {error}") from error
    finally:
        source.close()


def _open_source(url: str) -> sqlite3.Connection:
    path = sqlite_path(url)
    try:
        source = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"{path}: {error}") from error
    # All reads see the same moment, until the end.
    source.execute("BEGIN")
    return source


def _refuse_another_schema(source: sqlite3.Connection) -> None:
    applied = {row[0] for row in source.execute("SELECT migration_id FROM _yoyo_migration")}
    if applied != {migration.id for migration in read_migrations()}:
        raise CopyRefused("the source is not of this version's schema: run `python run.py migrate` on it first")


def _tables(source: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    """The columns of each table; a table comes after those it refers to. One that refers to itself is checked when it is
    there as a whole."""
    names = [row[0] for row in source.execute(TABLES)]
    references = {
        name: {row[0] for row in source.execute('SELECT "table" FROM pragma_foreign_key_list(?)', (name,))} - {name}
        for name in names
    }
    return {
        name: tuple(row[0] for row in source.execute("SELECT name FROM pragma_table_info(?)", (name,)))
        for name in TopologicalSorter(references).static_order()
    }


async def _copy_tables(source: sqlite3.Connection, target: Any, tables: dict[str, tuple[str, ...]], stream: TextIO) -> int:
    # A service that already runs on the target must not register anybody from here on.
    await target.execute("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE")
    if await target.fetchval("SELECT EXISTS (SELECT FROM users)"):
        raise CopyRefused("the target has users already: nothing is copied over them")
    # The source has the rows that migrations insert, too.
    await target.execute(f"TRUNCATE {', '.join(tables)}")
    await _sum_on(target, tables, "DISABLE")
    counts = {table: _one(source, _select("count(*)", table)) for table in tables}
    progress = Progress(sum(counts.values()), stream)
    try:
        for table, columns in tables.items():
            # asyncpg sends half a megabyte at a time: no table is ever held in memory.
            await target.copy_records_to_table(table, columns=columns, records=_rows(source, table, columns, progress))
            progress.finish(table, counts[table])
    finally:
        progress.end()
    await _sum_on(target, tables, "ENABLE")
    await _number_on(target, tables)
    for table, count in counts.items():
        await _verify(target, f"rows of {table}", count, _select("count(*)", table))
    referrals = _select("coalesce(sum(referral_count), 0)", "users")
    await _verify(target, "referrals counted", _one(source, referrals), referrals)
    return sum(counts.values())


def _rows(source: sqlite3.Connection, table: str, columns: tuple[str, ...], progress: Progress) -> Iterator[tuple[Any, ...]]:
    cursor = source.execute(_select(", ".join(columns), table))
    while batch := list(islice(cursor, BATCH)):
        yield from batch
        progress.advance(table, len(batch))


async def _number_on(target: Any, tables: Iterable[str]) -> None:
    """Let PostgreSQL number further rows behind those that came with their numbers, of which it has counted none."""
    for table, number in await target.fetch(NUMBERED, list(tables)):
        following = int(await target.fetchval(_select(f"coalesce(max({number}), 0) + 1", table)))
        await target.execute("SELECT setval(pg_get_serial_sequence($1, $2), $3, false)", table, number, following)


async def _sum_on(target: Any, tables: Iterable[str], state: Literal["ENABLE", "DISABLE"]) -> None:
    """Let triggers sum what is inserted from here on (ENABLE), or not (DISABLE), in the target's transaction."""
    for table, trigger in await target.fetch(SUMMING, list(tables)):
        await target.execute(f"ALTER TABLE {table} {state} TRIGGER {trigger}")


async def _verify(target: Any, subject: str, expected: int, statement: str) -> None:
    found = int(await target.fetchval(statement))
    if found != expected:
        raise CopyRefused(f"{subject}: {expected} in the source, but {found} arrived")


def _select(what: str, table: str) -> str:
    return f"SELECT {what} FROM {table}"  # noqa: S608 - the names are the schema's own


def _one(source: sqlite3.Connection, statement: str) -> int:
    return int(source.execute(statement).fetchone()[0])
