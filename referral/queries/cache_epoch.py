"""The epoch of the shared cache: statements of `sql/cache_epoch.sql`."""

from referral.database import Connection


async def find_epoch(conn: Connection) -> int:
    row = await conn.one("find_epoch")
    assert row is not None, "the migration made the row"
    return int(row[0])


async def advance_epoch(conn: Connection) -> None:
    """Make void what Redis keeps, as soon as this transaction commits."""
    await conn.all("advance_epoch")
