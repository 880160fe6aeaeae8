"""Referrals: statements of `sql/referrals.sql`."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from referral.database import Connection

# By what somebody came.
Source = Literal["code", "click", "import"]


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
    source: str = "code"
    review: str = "none"
    converted_at: int | None = None
    erased_at: int | None = None

    @property
    def status(self) -> str:
        """What became of it."""
        if self.review == "rejected":
            return "rejected"
        if self.erased_at is not None:
            return "ended"
        return "joined" if self.converted_at is None else "converted"


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides of rewards for what somebody does who came by a referrer; times in ms. `erased_at` is the referrer's."""

    referrer_id: str
    joined_at: int
    source: str
    review: str
    conversions: int
    converted_at: int | None
    converted_count: int
    referrer_suspended_at: int | None
    erased_at: int | None
    suspended_at: int | None


@dataclass(frozen=True, slots=True)
class Conversions:
    """Whose referral it is, and how many of its events convert it."""

    referrer_id: str
    conversions: int


@dataclass(frozen=True, slots=True)
class Referrer:
    id: str
    username: str | None
    name: str | None


async def insert_referral(
    conn: Connection, user_id: str, referrer_id: str, code: str, joined_at: int, source: Source
) -> bool:
    """Record who came by whom; False when that would close a cycle.

    Violates referrals_pkey when the user has a referrer, referrals_not_self when both are one.
    """
    inserted = await conn.value(
        "insert_referral", str, user_id=user_id, referrer_id=referrer_id, code=code, joined_at=joined_at, source=source
    )
    return inserted is not None


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a code by which somebody comes, and how many of their referrals are converted."""

    id: str
    username: str | None
    name: str | None
    converted_count: int


async def insert_first_referral(
    conn: Connection, user_id: str, referrer_id: str, code: str, joined_at: int, source: Source
) -> Owner | None:
    """Record by whom a user comes whom this transaction makes. The referrer is locked from here on; None when they are
    suspended. `users.add_to_referral_count` belongs into the same transaction."""
    return await conn.one(
        "insert_first_referral",
        Owner,
        user_id=user_id,
        referrer_id=referrer_id,
        code=code,
        joined_at=joined_at,
        source=source,
    )


async def delete_referral(conn: Connection, user_id: str) -> Conversions | None:
    """Take back that the user came by anybody, and return what that was; None if they did not."""
    return await conn.one("delete_referral", Conversions, user_id=user_id)


async def find_referral(conn: Connection, user_id: str) -> Referral | None:
    """By whom the user came."""
    return await conn.one("find_referral", Referral, user_id=user_id)


async def find_standing(conn: Connection, user_id: str) -> Standing | None:
    """None for a user who came by nobody."""
    return await conn.one("find_standing", Standing, user_id=user_id)


async def convert_referral(conn: Connection, user_id: str, occurred_at: int) -> None:
    """Count an event that happened then (ms) as a conversion of its user's referral, who is locked. This is deferred."""
    conn.defer("convert_referral", user_id=user_id, occurred_at=occurred_at)


async def retract_conversion(conn: Connection, user_id: str) -> Conversions | None:
    """Count one conversion less, and return what is left; None without any."""
    return await conn.one("retract_conversion", Conversions, user_id=user_id)


async def increment_converted_count(conn: Connection, user_id: str) -> int:
    """One more of a referrer's referrals is converted; how many there are."""
    return await conn.value("increment_converted_count", int, user_id=user_id) or 0


async def decrement_converted_count(conn: Connection, user_id: str) -> None:
    await conn.run("decrement_converted_count", user_id=user_id)


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


async def count_all_referrals(conn: Connection, most: int) -> int:
    """How many users came by somebody, counted up to `most`."""
    return await conn.value("count_all_referrals", int, sample_size=most) or 0
