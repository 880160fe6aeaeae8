"""Keeps the sums of the whole programme: adds to them what transactions changed, and once what was there before.

A transaction writes what it changes beside the sums, by triggers, and waits for nobody. This worker adds that to the sums,
in the transaction that deletes it, so that both together equal the rows at every moment. What the rows came to before there
were triggers is what neither has: it is the same at every moment from then on, is counted in one that a snapshot sees, and
added when that is done.
"""

from collections.abc import Iterable
from itertools import islice

from referral.background.loop import work_for_ever
from referral.database import Connection, Database, committed
from referral.queries import programme_stats
from referral.queries.programme_stats import BILLION, EARLIEST, LATEST, RowSum, Sum

# Seconds between two looks for what is to be added.
INTERVAL = 2.0
# Differences of one transaction, and sums of one statement.
BATCH = 2_000
# Rows counted by one statement.
ROWS = 10_000

# Day, what, and unit of a sum.
Key = tuple[int, str, str]
# How many, and how much.
Amounts = tuple[int, int]


class StatsWorker:
    """Looks every few seconds what is to be added."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_filled = False

    async def run(self) -> None:
        """Keep the sums, for ever."""
        await work_for_ever("statistics", self._turn, INTERVAL)

    async def _turn(self) -> float:
        while await self.work_off() == BATCH:
            pass
        if not self._is_filled:
            await self.fill()
            self._is_filled = True
        return INTERVAL

    async def work_off(self) -> int:
        """Add up to BATCH differences to the sums, and return how many those were."""
        async with self._database.reader() as conn:
            if await programme_stats.find_oldest_delta(conn) is None:
                return 0
        return await committed(self._database, _fold)

    async def fill(self) -> None:
        """Add what was there before the sums were kept, unless that is done."""
        async with self._database.reader() as conn:
            if await programme_stats.are_stats_filled(conn):
                return
        async with self._database.snapshot() as conn:
            base = differences(await sums_of_rows(conn), await kept_sums(conn))
        await committed(self._database, lambda conn: _add_base(conn, base))


async def _fold(conn: Connection) -> int:
    taken = await programme_stats.take_deltas(conn, BATCH)
    if taken:
        await programme_stats.add_to_stat_days(conn, _sums(added(taken)))
    return len(taken)


async def _add_base(conn: Connection, base: dict[Key, Amounts]) -> None:
    if await programme_stats.mark_stats_filled(conn):
        sums = iter(_sums(base))
        while batch := list(islice(sums, BATCH)):
            await programme_stats.add_to_stat_days(conn, batch)


async def kept_sums(conn: Connection) -> dict[Key, Amounts]:
    """All sums as they are kept, with what is still to be added to them."""
    return added(await programme_stats.sum_stats(conn, EARLIEST, LATEST))


async def sums_of_rows(conn: Connection) -> dict[Key, Amounts]:
    """All sums as the rows say, which are read a page at a time. The connection sees one moment."""
    sums: dict[Key, Amounts] = {}
    for read in (
        programme_stats.sum_referral_rows,
        programme_stats.sum_event_rows,
        programme_stats.sum_reward_rows,
        programme_stats.sum_account_rows,
        programme_stats.sum_click_rows,
    ):
        after = ""
        while found := await read(conn, after, ROWS):
            sums = added((one for one in found if one.what), sums)
            after = found[0].last
    return sums


def added(several: Iterable[Sum | RowSum], sums: dict[Key, Amounts] | None = None) -> dict[Key, Amounts]:
    """The sums with these added to them."""
    total = {} if sums is None else sums
    for one in several:
        key = one.day, one.what, one.unit
        count, amount = total.get(key, (0, 0))
        total[key] = count + one.count, amount + one.whole
    return total


def differences(sums: dict[Key, Amounts], others: dict[Key, Amounts]) -> dict[Key, Amounts]:
    """How much more the sums are than the others, where they differ."""
    found = {}
    for key in sums.keys() | others.keys():
        (count, amount), (other_count, other_amount) = sums.get(key, (0, 0)), others.get(key, (0, 0))
        if (count, amount) != (other_count, other_amount):
            found[key] = count - other_count, amount - other_amount
    return found


def _sums(sums: dict[Key, Amounts]) -> list[Sum]:
    return [Sum(*key, count, *divmod(amount, BILLION)) for key, (count, amount) in sorted(sums.items())]
