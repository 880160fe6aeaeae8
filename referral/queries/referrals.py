"""Referrals: statements of `sql/referrals.sql`."""

from dataclasses import dataclass
from typing import NamedTuple

from referral.database import Connection


class Referral(NamedTuple):
    """Somebody who came by a referrer; `joined_at` is in ms.

    `total` is how many did in all, None when the referrer's account is gone. What names the user is None once their account
    is erased, `email` also where it was not asked for. A NamedTuple and no dataclass: a page has fifty of them.
    """

    total: int | None
    user_id: str
    external_id: str | None
    username: str | None
    name: str | None
    email: str | None
    joined_at: int
    code: str


@dataclass(frozen=True, slots=True)
class Referrer:
    id: str
    username: str | None
    name: str | None


async def insert_referral(conn: Connection, user_id: str, referrer_id: str, code: str, joined_at: int) -> bool:
    """Record who came by whom; False when that would close a cycle.

    Violates referrals_pkey when the user has a referrer, referrals_not_self when both are one.
    """
    inserted = await conn.value(
        "insert_referral", str, user_id=user_id, referrer_id=referrer_id, code=code, joined_at=joined_at
    )
    return inserted is not None


async def delete_referral(conn: Connection, user_id: str) -> None:
    """Take back that the user came by anybody."""
    await conn.run("delete_referral", user_id=user_id)


async def list_referrals(
    conn: Connection, referrer_id: str, before: tuple[int, str], limit: int, *, with_email: bool
) -> list[Referral]:
    """Who joined before the cursor (time in ms, user id), newest first; no address is read unless `with_email`."""
    return await conn.page(
        "list_referrals",
        Referral,
        referrer_id=referrer_id,
        before_time=before[0],
        before_id=before[1],
        page_size=limit,
        with_email=int(with_email),
    )


async def find_referrer(conn: Connection, user_id: str) -> Referrer | None:
    return await conn.one("find_referrer", Referrer, user_id=user_id)
