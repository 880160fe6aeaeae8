"""The epoch of the shared cache: statements of `sql/cache_epoch.sql`."""

from referral.database import Connection


async def find_epoch(conn: Connection) -> int:
    epoch = await conn.value("find_epoch", int)
    assert epoch is not None, "the migration made the row"
    return epoch


async def advance_epoch(conn: Connection) -> None:
    """Make void what Redis keeps, as soon as this transaction commits."""
    await conn.run("advance_epoch")
