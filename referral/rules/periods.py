"""The periods in which limits are counted: days, weeks from Monday on and months, in UTC, and the one period of all time."""

from datetime import UTC, datetime, timedelta

from referral.clock import NEVER, SECOND


def period_of(period: str, moment: int) -> tuple[int, int]:
    """The period that a moment lies in: from when to before when (ms)."""
    if period == "ever":
        return 0, NEVER
    day = datetime.fromtimestamp(moment / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return _milliseconds(day), _milliseconds(day + timedelta(days=1))
    if period == "week":
        monday = day - timedelta(days=day.weekday())
        return _milliseconds(monday), _milliseconds(monday + timedelta(days=7))
    first = day.replace(day=1)
    return _milliseconds(first), _milliseconds((first + timedelta(days=31)).replace(day=1))


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp()) * SECOND
