"""Sums of the whole programme, by day: statements of `sql/programme_stats*.sql`.

A day is its first millisecond in UTC. What lies in accounts has day 0, and is what there is now.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from referral.database import Connection

# The day of what lies in accounts.
NO_DAY = 0
# Beyond every day.
EARLIEST, LATEST = -(2**62), 2**62


# A sum of amounts, which may be larger than what the databases hold, comes in parts of so much, and what is left.
BILLION = 10**9


@dataclass(frozen=True, slots=True)
class Sum:
    """How many there are, or how much, of something on a day; the unit is empty where it has none. How much is `whole`."""

    day: int
    what: str
    unit: str
    count: int
    billions: int
    amount: int

    @property
    def whole(self) -> int:
        return self.billions * BILLION + self.amount


@dataclass(frozen=True, slots=True)
class RowSum:
    """The sum of rows of one page, which ends with the key `last`. Rows that count nowhere have an empty `what`."""

    day: int
    what: str
    unit: str
    count: int
    billions: int
    amount: int
    last: str

    @property
    def whole(self) -> int:
        return self.billions * BILLION + self.amount


async def sum_stats(conn: Connection, first: int, last: int) -> list[Sum]:
    """The sums of these days, both included."""
    return await conn.all("sum_stats", Sum, first=first, last=last)


async def find_oldest_delta(conn: Connection) -> int | None:
    """The number of the first difference that waits to be added to the sums; None for none."""
    return await conn.value("find_oldest_delta", int)


async def are_stats_filled(conn: Connection) -> bool:
    """Whether the sums have what was there before they were kept."""
    return await conn.value("are_stats_filled", int) == 1


async def mark_stats_filled(conn: Connection) -> bool:
    """False when they were before."""
    return await conn.value("mark_stats_filled", int) is not None


async def take_deltas(conn: Connection, batch_size: int) -> list[Sum]:
    """Delete so many at most of the differences that wait, and return them."""
    return await conn.all("take_deltas", Sum, batch_size=batch_size)


async def add_to_stat_days(conn: Connection, sums: Sequence[Sum]) -> None:
    await conn.run("add_to_stat_days", sums=orjson.dumps(sums).decode())


async def sum_referral_rows(conn: Connection, after: str, limit: int) -> list[RowSum]:
    return await conn.all("sum_referral_rows", RowSum, after=after, page_size=limit)


async def sum_event_rows(conn: Connection, after: str, limit: int) -> list[RowSum]:
    return await conn.all("sum_event_rows", RowSum, after=after, page_size=limit)


async def sum_reward_rows(conn: Connection, after: str, limit: int) -> list[RowSum]:
    return await conn.all("sum_reward_rows", RowSum, after=after, page_size=limit)


async def sum_account_rows(conn: Connection, after: str, limit: int) -> list[RowSum]:
    return await conn.all("sum_account_rows", RowSum, after=after, page_size=limit)


async def sum_click_rows(conn: Connection, after: str, limit: int) -> list[RowSum]:
    return await conn.all("sum_click_rows", RowSum, after=after, page_size=limit)
