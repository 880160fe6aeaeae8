"""What became of a referrer's links, by day: statements of `sql/stats.sql`.

A day is its first millisecond in UTC; `first` and `last` are days, and both count. With a `code` only what came by that
does.
"""

from dataclasses import dataclass

from referral.database import Connection


@dataclass(frozen=True, slots=True)
class ClicksOfDay:
    """Clicks by people, by how many of them, by how many from a QR code, and by robots."""

    day: int
    clicks: int
    visitors: int
    qr: int
    robots: int


@dataclass(frozen=True, slots=True)
class CountOfDay:
    day: int
    count: int


async def sum_clicks(conn: Connection, referrer_id: str, code: str | None, first: int, last: int) -> list[ClicksOfDay]:
    return await conn.all("sum_clicks", ClicksOfDay, referrer_id=referrer_id, code=code, first=first, last=last)


async def count_signups(conn: Connection, referrer_id: str, code: str | None, first: int, last: int) -> list[CountOfDay]:
    """Sign-ups that the referrer's referrals reported, by when they happened."""
    return await conn.all("count_signups", CountOfDay, referrer_id=referrer_id, code=code, first=first, last=last)


async def count_referrals(conn: Connection, referrer_id: str, code: str | None, first: int, last: int) -> list[CountOfDay]:
    """Who came by the referrer, by when they came."""
    return await conn.all("count_referrals", CountOfDay, referrer_id=referrer_id, code=code, first=first, last=last)


async def count_converted(conn: Connection, referrer_id: str, code: str | None, first: int, last: int) -> list[CountOfDay]:
    """Referrals that are converted now, by when they were."""
    return await conn.all("count_converted", CountOfDay, referrer_id=referrer_id, code=code, first=first, last=last)
