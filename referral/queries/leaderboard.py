"""Who referred the most: statements of `sql/leaderboard*.sql`. A period is from a time to before another one (ms)."""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from referral.database import Connection

Period = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Referrer:
    """A user, and the number or the amount by which they are ranked."""

    user_id: str
    value: int


@dataclass(frozen=True, slots=True)
class Bought:
    """What those bought who came by a user, in the unit's smallest part: in parts of BILLION, and what is left."""

    user_id: str
    billions: int
    rest: int


@dataclass(frozen=True, slots=True)
class ListedUser:
    id: str
    metadata: str | None


async def list_most_referrals(conn: Connection, limit: int) -> list[Referrer]:
    return await conn.page("list_most_referrals", Referrer, page_size=limit)


async def list_most_converted(conn: Connection, limit: int) -> list[Referrer]:
    return await conn.page("list_most_converted", Referrer, page_size=limit)


async def list_most_referrals_of_period(conn: Connection, period: Period, limit: int) -> list[Referrer]:
    return await conn.page(
        "list_most_referrals_of_period", Referrer, starts_at=period[0], ends_at=period[1], page_size=limit
    )


async def list_most_converted_of_period(conn: Connection, period: Period, limit: int) -> list[Referrer]:
    return await conn.page(
        "list_most_converted_of_period", Referrer, starts_at=period[0], ends_at=period[1], page_size=limit
    )


async def list_most_revenue(conn: Connection, unit: str, period: Period, limit: int) -> list[Bought]:
    return await conn.page("list_most_revenue", Bought, unit=unit, starts_at=period[0], ends_at=period[1], page_size=limit)


async def list_listed_users(conn: Connection, user_ids: Sequence[str]) -> list[ListedUser]:
    """Those of them who are neither erased nor suspended, in any order."""
    return await conn.page("list_listed_users", ListedUser, user_ids=orjson.dumps(user_ids).decode())
