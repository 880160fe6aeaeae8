"""The one choice by `database.url`: SQLite or PostgreSQL."""

from collections.abc import Mapping

from referral.database import Database, is_postgres, sqlite_path


async def open_database(
    url: str,
    records: Mapping[str, type] | None = None,
    *,
    replica_url: str = "",
    pool_size: int = 10,
    pooler_keeps_statements: bool = False,
) -> Database:
    """Open the migrated database at `url`. `records` says which dataclass the rows of each statement become
    (`queries.records()`). The rest is PostgreSQL's: a standby to read from, connections at most, and whether a pooler in
    between keeps prepared statements.

    Raises DatabaseUnavailable when the database cannot be opened, and ValueError when the columns of a statement are not
    the fields of its record.
    """
    # Imported where they are needed: one installation uses one of them.
    if is_postgres(url):
        from referral.database.postgres import PostgresDatabase

        return await PostgresDatabase.open(
            url,
            records,
            replica_url=replica_url,
            pool_size=pool_size,
            pooler_keeps_statements=pooler_keeps_statements,
        )
    from referral.database.sqlite import SQLiteDatabase

    return await SQLiteDatabase.open(sqlite_path(url), records)
