"""Locks: statements of `sql/locks.postgres.sql`. They are held to the end of the transaction."""

from referral.database import Connection


async def lock_user(conn: Connection, user_id: str) -> None:
    """Until the end of the transaction nobody else changes this user, their code or their account's end."""
    await conn.lock("lock_user", user_id=user_id)


async def hold_address(conn: Connection, user_id: str) -> None:
    """Until the end of the transaction nobody takes this user's address away. It keeps nobody else out."""
    await conn.lock("hold_address", user_id=user_id)


async def lock_referrers(conn: Connection) -> None:
    """Until the end of the transaction nobody else sets a referrer after registration."""
    await conn.lock("lock_referrers")
