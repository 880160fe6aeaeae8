"""Index builds of migrations: on PostgreSQL concurrent ones, beside which everybody goes on writing.

A migration of index builds has the line `-- transactional: false`, and nothing but `CREATE INDEX CONCURRENTLY` in it and
`DROP INDEX CONCURRENTLY` in its rollback, because these alone can be made again after a kill. SQLite builds an index in one
statement, as it makes every other change.
"""

import re
import time
from contextlib import suppress
from typing import Any, NamedTuple

from yoyo.migrations import Migration, read_sql_migration

CREATION = re.compile(r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY (?P<name>[a-z0-9_]+)\s+ON (?P<table>[a-z0-9_]+)\b", re.DOTALL)
DROP = re.compile(r"DROP INDEX CONCURRENTLY (?P<name>[a-z0-9_]+)\s*;?\s*$")

STATE = """
SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = :name AND n.nspname = current_schema()
"""
# A build is told to be over a moment before it is committed: whoever looked in between would take it for one that failed.
BUILDING = """
SELECT 1 FROM pg_stat_activity a LEFT JOIN pg_stat_progress_create_index p ON p.pid = a.pid
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.state = 'active'
AND (p.relid = to_regclass(:table) OR position('INDEX CONCURRENTLY' IN a.query) > 0)
"""
# Seconds between two looks.
PAUSE = 0.2


class IndexBuild(NamedTuple):
    """A statement that creates an index of the table or, without a table, drops it."""

    statement: str
    name: str
    table: str | None


def index_builds(migration: Migration, direction: str) -> list[IndexBuild]:
    """What the migration does outside of a transaction, in its order; nothing if it runs in one. Raises ValueError for a
    statement that is no index build."""
    migration.load()
    if migration.use_transactions:
        return []
    path = str(migration.path)
    pattern = CREATION
    if direction == "rollback":
        path, pattern = f"{path.removesuffix('.sql')}.rollback.sql", DROP
    found = []
    for statement in read_sql_migration(path)[2]:
        # A comment is before each index.
        bare = re.sub(r"^\s*--.*\n", "", statement, flags=re.MULTILINE).strip()
        match = pattern.match(bare)
        if match is None:
            raise ValueError(f"{migration.id} runs in no transaction, and may only build indexes concurrently: {bare}")
        found.append(IndexBuild(bare, match["name"], match.groupdict().get("table")))
    return found


def build_on_sqlite(backend: Any, build: IndexBuild) -> None:
    """Create or drop the index, if that is not done yet."""
    condition = "IF EXISTS" if build.table is None else "IF NOT EXISTS"
    backend.execute(build.statement.replace("CONCURRENTLY", condition, 1))


def build_concurrently(backend: Any, build: IndexBuild) -> None:
    """Create or drop the index while others write, if that is not done yet; it waits for transactions that began before.

    What a build that was killed has left, an index that is maintained and never used, is dropped first. A build whose
    client was killed goes on in the server: its end is waited for. One that fails, as a unique index of rows that are not,
    leaves nothing.
    """
    if build.table is None:
        backend.execute(build.statement.replace("CONCURRENTLY", "CONCURRENTLY IF EXISTS", 1))
        return
    # By looking again: a transaction that waited for a lock of the build's would itself be waited for by the build.
    while backend.execute(BUILDING, {"table": build.table}).fetchone():
        time.sleep(PAUSE)
    state = backend.execute(STATE, {"name": build.name}).fetchone()
    if state == (True,):
        return
    remains = f"DROP INDEX CONCURRENTLY IF EXISTS {build.name}"
    if state is not None:
        backend.execute(remains)
    try:
        backend.execute(build.statement)
    except backend.DatabaseError:
        # The first error is the one to tell; what remains now, the next attempt drops.
        with suppress(backend.DatabaseError):
            backend.execute(remains)
        raise
