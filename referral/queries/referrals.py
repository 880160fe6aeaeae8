"""Referrals: statements of `sql/referrals.sql`."""

from collections.abc import Sequence
from dataclasses import dataclass

from referral.database import Connection, Row

# Who came by a referrer: how many did in all, None when the referrer's account is gone; the user's id, name and address,
# these two None once that account is erased, and the address unless it was asked for; when they joined, in ms; and the code.
# A row as it comes: a page has fifty, and to make an object of each took it a sixteenth of its time.
Referral = Row
TOTAL, USER_ID, JOINED_AT = 0, 1, 4


@dataclass(frozen=True, slots=True)
class Referrer:
    id: str
    username: str | None


async def insert_referral(conn: Connection, user_id: str, referrer_id: str, code: str, joined_at: int) -> bool:
    """Record who came by whom; False when that would close a cycle.

    Violates referrals_pkey when the user has a referrer, referrals_not_self when both are one.
    """
    row = await conn.one("insert_referral", user_id=user_id, referrer_id=referrer_id, code=code, joined_at=joined_at)
    return row is not None


async def list_referrals(
    conn: Connection, referrer_id: str, before: tuple[int, str], limit: int, *, with_email: bool
) -> Sequence[Referral]:
    """Who joined before the cursor (time in ms, user id), newest first; no address is read unless `with_email`."""
    return await conn.all(
        "list_referrals",
        referrer_id=referrer_id,
        before_time=before[0],
        before_id=before[1],
        page_size=limit,
        with_email=int(with_email),
    )


async def find_referrer(conn: Connection, user_id: str) -> Referrer | None:
    row = await conn.one("find_referrer", user_id=user_id)
    return Referrer(*row) if row else None
