"""The service's one notion of now."""

import time


def now() -> int:
    """Milliseconds since 1970-01-01 UTC, the unit of every time in the database."""
    return time.time_ns() // 1_000_000


SECOND = 1_000
DAY = 86_400 * SECOND
