"""What became of the whole programme: a series, its sums, and what is owed to users."""

from datetime import date, timedelta
from typing import Any

from referral.contract.problems import Problem
from referral.contract.schemas.fields import LARGEST_SUM
from referral.database import Connection
from referral.queries import programme_stats as queries
from referral.queries.programme_stats import NO_DAY, Sum
from referral.rules.stats import Interval, milliseconds, series

# Seconds until the sums may be complete.
RETRY_AFTER = "10"

# The names of what is counted, by what the sums call it.
COUNTED = {
    "click": "clicks",
    "visitor": "visitors",
    "robot": "robots",
    "signup": "signups",
    "referral": "referrals",
    "converted": "converted",
    "purchase": "purchases",
    "refund": "refunds",
    "reward": "rewards",
}
# And of how much that came to, in each unit.
VALUED = {"purchase": "revenue", "refund": "refunded", "reward": "cost"}


async def programme_stats(conn: Connection, first: date, end: date, interval: Interval) -> dict[str, Any]:
    """The document of `GET /stats` from the day `first` to before `end`. The connection sees one moment.

    Raises `stats-incomplete` while the service counts what was there before it kept sums.
    """
    if not await queries.are_stats_filled(conn):
        raise Problem(
            "stats-incomplete",
            "What was there before the upgrade is being counted.",
            headers={"Retry-After": RETRY_AFTER},
        )
    found = await queries.sum_stats(conn, milliseconds(first), milliseconds(end - timedelta(days=1)))
    units = sorted({one.unit for one in found if one.unit})
    names = [*COUNTED.values(), *(f"{name} {unit}" for name in VALUED.values() for unit in units)]
    rows = series(first, end, interval, names, ((one.day, _counts(one)) for one in found))
    totals = _with_money({name: sum(row[name] for row in rows) for name in names}, units)
    return {
        "from": first.isoformat(),
        "to": end.isoformat(),
        "interval": interval,
        "items": [_with_money(row, units) for row in rows],
        "totals": totals,
        "funnel": {name: totals[name] for name in ("visitors", "referrals", "converted")},
        "liability": _liability(await queries.sum_stats(conn, NO_DAY, NO_DAY)),
    }


def _counts(found: Sum) -> dict[str, int]:
    """What a sum adds to the row of its day."""
    counts = {COUNTED[found.what]: found.count}
    if found.unit and found.what in VALUED:
        counts[f"{VALUED[found.what]} {found.unit}"] = found.whole
    return counts


def _with_money(row: dict[str, Any], units: list[str]) -> dict[str, Any]:
    """The row with a list of amounts in place of one member a unit; units that came to nothing are left out."""
    kept = {name: row[name] for name in ("at", *COUNTED.values()) if name in row}
    for name in VALUED.values():
        amounts = ((unit, row[f"{name} {unit}"]) for unit in units)
        kept[name] = [{"unit": unit, "amount": min(amount, LARGEST_SUM)} for unit, amount in amounts if amount]
    return kept


def _liability(found: list[Sum]) -> list[dict[str, Any]]:
    """What users have, by unit: nothing is left of what both are 0."""
    owed: dict[str, dict[str, int]] = {}
    for one in found:
        if one.what in ("pending", "available"):
            owed.setdefault(one.unit, {"pending": 0, "available": 0})[one.what] = min(one.whole, LARGEST_SUM)
    return [{"unit": unit, **amounts} for unit, amounts in sorted(owed.items()) if any(amounts.values())]
