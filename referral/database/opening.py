"""The one choice by `database.url`."""

from collections.abc import Mapping

from referral.database import Database, is_postgres, sqlite_path


async def open_database(url: str, records: Mapping[str, type] | None = None) -> Database:
    """Open the migrated database at `url`. `records` says what the rows of each statement become (`queries.records()`).

    Raises DatabaseUnavailable when it cannot be opened, ValueError when a statement's columns are not its record's fields.
    """
    # Imported where they are needed: one installation uses one of them.
    if is_postgres(url):
        from referral.database.postgres import PostgresDatabase

        return await PostgresDatabase.open(url, records)
    from referral.database.sqlite import SQLiteDatabase

    return await SQLiteDatabase.open(sqlite_path(url), records)
