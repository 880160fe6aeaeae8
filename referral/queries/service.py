"""The service's own health: statements of `sql/service.sql`."""

from referral.database import Connection


async def ping(conn: Connection) -> None:
    """Read the schema. Raises DatabaseUnavailable."""
    await conn.value("ping", int)
