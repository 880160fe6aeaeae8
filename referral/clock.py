"""The service's one notion of now, and how a time is written."""

import time
from datetime import UTC, datetime
from functools import lru_cache

SECOND = 1_000
DAY = 86_400 * SECOND
# The expiry of what does not expire.
NEVER = 2**62


def now() -> int:
    """Milliseconds since 1970-01-01 UTC, the unit of every time in the database."""
    return time.time_ns() // 1_000_000


@lru_cache(maxsize=20_000)
def rfc_3339(milliseconds: int) -> str:
    """`2027-01-31T12:00:00Z`; fractions of a second are cut. Kept: a look-up formats the same expiry each time."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
