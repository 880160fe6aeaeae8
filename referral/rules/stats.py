"""Series by day, week or month, of what the database counts by day. Everything here is pure."""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any, Literal

from referral.clock import DAY
from referral.contract.problems import invalid

Interval = Literal["day", "week", "month"]
# Rows of a series.
MOST_ROWS = 1_000
# Days before `to`, where `from` is not given.
USUAL_DAYS = 30


def milliseconds(day: date) -> int:
    """A day's first millisecond in UTC."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def date_of(day: int) -> date:
    """The date of a day's first millisecond in UTC."""
    return datetime.fromtimestamp(day // 1000, UTC).date()


def begin(day: date, interval: Interval) -> date:
    """The first day of the interval that a day lies in; weeks begin on Mondays (ISO 8601)."""
    if interval == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if interval == "month" else day


def intervals(first: date, end: date, interval: Interval) -> Iterator[date]:
    """The first day of each interval from `first` to before `end`, as far as it lies there."""
    day = first
    while day < end:
        yield day
        days = {"day": 1, "week": 7, "month": 32}[interval]
        day = begin(begin(day, interval) + timedelta(days=days), interval)


def series(
    first: date, end: date, interval: Interval, names: Iterable[str], counted: Iterable[tuple[int, dict[str, int]]]
) -> list[dict[str, Any]]:
    """Rows `{at, …names}`, one for each interval, of what was counted on days (ms)."""
    sums = {begin(at, interval): dict.fromkeys(names, 0) for at in intervals(first, end, interval)}
    for day, counts in counted:
        row = sums[begin(date_of(day), interval)]
        for name, count in counts.items():
            row[name] += count
    return [{"at": at.isoformat(), **sums[begin(at, interval)]} for at in intervals(first, end, interval)]


def day_of(moment: int) -> date:
    """The date of a time (ms) in UTC."""
    return date_of(moment - moment % DAY)


def asked_range(query: dict[str, Any], today: date) -> tuple[date, date]:
    """The first day that a query asks for, and the one behind the last. Raises a problem, also for too many rows."""
    first, end = query.get("first"), query.get("end")
    if end is None:
        end = today + timedelta(days=1)
        if first is not None and first >= end:
            raise invalid("/from", "Must not be in the future, unless `to` is given.")
    first = first or end - timedelta(days=USUAL_DAYS)
    if len(list(islice(intervals(first, end, query["interval"]), MOST_ROWS + 1))) > MOST_ROWS:
        raise invalid("/from", f"Must be later: there are at most {MOST_ROWS} rows.")
    return first, end
