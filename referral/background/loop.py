"""The loop of every worker: one turn after the other, for ever, whatever fails."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from referral.database import DatabaseUnavailable, TransactionConflict

log = logging.getLogger(__name__)

# Seconds before a turn is taken again that another transaction undid.
CONFLICT_PAUSE = 0.05


async def work_for_ever(
    name: str, turn: Callable[[], Awaitable[float]], longest: float, woken: asyncio.Event | None = None
) -> None:
    """Take turns. Each returns after how many seconds the next one is due; it comes sooner if `woken` is set. After a
    failure it comes after the longest time. `name` is what the log calls the work."""
    woken = woken or asyncio.Event()
    while True:
        woken.clear()
        try:
            pause = await turn()
        except TransactionConflict:
            pause = CONFLICT_PAUSE
        except DatabaseUnavailable as error:
            log.warning("%s cannot be read: %s", name, error)
            pause = longest
        except Exception:
            log.exception("the worker of %s failed and goes on", name)
            pause = longest
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await woken.wait()
