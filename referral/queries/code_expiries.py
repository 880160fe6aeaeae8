"""How far the ends of codes have been told that end by time: statements of `sql/code_expiries*.sql`."""

from dataclasses import dataclass

from referral.database import Connection
from referral.queries.codes import OwnedCode


@dataclass(frozen=True, slots=True)
class Expiry:
    """The place of a code in the order of expiry: `expires_at` in ms, and its text."""

    expires_at: int
    code: str


async def find_told_expiry(conn: Connection) -> Expiry:
    """Codes are told up to this place."""
    found = await conn.one("find_told_expiry", Expiry)
    assert found is not None
    return found


async def find_next_expiry(conn: Connection, told: Expiry) -> int | None:
    """When the first code behind this place expires (ms)."""
    return await conn.value("find_next_expiry", int, expires_at=told.expires_at, code=told.code)


async def list_expired_codes(conn: Connection, told: Expiry, now: int, limit: int) -> list[OwnedCode]:
    """Codes behind this place that have expired, in order; they stay as they are until the transaction ends."""
    return await conn.page(
        "list_expired_codes", OwnedCode, expires_at=told.expires_at, code=told.code, now=now, batch_size=limit
    )


async def update_told_expiry(conn: Connection, told: Expiry) -> None:
    await conn.run("update_told_expiry", expires_at=told.expires_at, code=told.code)
