"""The service's one notion of now, and how a time is written."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

SECOND = 1_000
DAY = 86_400 * SECOND
# The expiry of what does not expire.
NEVER = 2**62


# Nanoseconds since 1970-01-01 UTC.
_read: Callable[[], int] | None = None


def now() -> int:
    """Milliseconds since 1970-01-01 UTC, the unit of every time in the database."""
    return (time.time_ns() if _read is None else _read()) // 1_000_000


def live_by(read: Callable[[], int]) -> None:
    """Have this process read another clock (ns) from now on: `run.py demo` lives through months in a minute."""
    global _read
    _read = read


@lru_cache(maxsize=20_000)
def rfc_3339(milliseconds: int) -> str:
    """`2027-01-31T12:00:00Z`; fractions of a second are cut. Kept: a look-up formats the same expiry each time."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
