"""Referrals: statements of `sql/referrals.sql`."""

from dataclasses import dataclass
from typing import NamedTuple

from referral.database import Connection


class Referral(NamedTuple):
    """Who came by a referrer; name and address are None once the account is erased. `joined_at` is in ms.

    No dataclass, because a page makes fifty: a frozen one takes four times as long to make.
    """

    total: int | None
    user_id: str
    username: str | None
    email: str | None
    joined_at: int
    code: str


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


async def list_referrals(conn: Connection, referrer_id: str, before: tuple[int, str], limit: int) -> list[Referral]:
    """Who joined before the cursor (time in ms, user id), newest first; each says how many there are in all, None when the
    referrer's account is gone."""
    rows = await conn.all(
        "list_referrals", referrer_id=referrer_id, before_time=before[0], before_id=before[1], page_size=limit
    )
    return [Referral._make(row) for row in rows]


async def find_referrer(conn: Connection, user_id: str) -> Referrer | None:
    row = await conn.one("find_referrer", user_id=user_id)
    return Referrer(*row) if row else None
