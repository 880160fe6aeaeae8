"""Retries of what others undo: exponential backoff with full jitter, for a bounded time."""

import asyncio
import random
import time

from aiohttp import web

# Seconds from the first attempt to the last, and the longest pause between two: an engine that answers serialization
# failures often (SERIALIZABLE, or a distributed one) lets one through when the others are out of step.
RETRY_FOR = 3.0
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0


class Retries:
    """When one thing is tried again that another transaction has undone."""

    def __init__(self) -> None:
        self.attempt = 1
        self._end = time.monotonic() + RETRY_FOR

    async def pause(self) -> bool:
        """Wait, ever longer, before the next attempt. Returns False at once when the time is over."""
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self.attempt)
        pause = random.uniform(0, longest)
        if time.monotonic() + pause > self._end:
            return False
        self.attempt += 1
        await asyncio.sleep(pause)
        return True


# A request has its own: all its attempts have one time.
RETRIES = web.RequestKey("retries", Retries)
