"""The worker of a queue that lies in a table of the database.

Each row is an item. The transaction that causes the work inserts it, so that the work is done if and only if that is
committed. The worker claims what is due by moving it to the end of a *lease*, and works on it; then it deletes the item,
postpones it with a growing pause (back-off), or gives it up. If the worker dies, its items are due again when the lease
ends: everything is done at least once.
"""

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from referral import clock
from referral.background.loop import work_for_ever
from referral.database import Connection, Database

# How long what another process queued (or a clock that was set back) may go unnoticed, in seconds.
LONGEST_SLEEP = 15.0


class Queued(Protocol):
    """An item: when it was queued (ms), and how often it was claimed, this time included."""

    @property
    def created_at(self) -> int: ...

    @property
    def attempts(self) -> int: ...


Item = TypeVar("Item", bound=Queued)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between attempts, in ms. They double from `first` to `longest`; an item that would be tried again when it is
    older than `give_up_after` is given up."""

    first: int
    longest: int
    give_up_after: int

    def pause(self, failures: int, longest: int | None = None) -> int:
        """The pause after so many failures in a row. It varies by a quarter, so that not everything is tried again at
        once."""
        return int(min(self.first * 2 ** min(failures - 1, 20), longest or self.longest) * random.uniform(0.75, 1.25))


class Rest(Exception):
    """Everything in the queue would fail now: the worker shall leave it alone for so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class QueueWorker(ABC, Generic[Item]):
    """Works off a queue: `run()` does so for ever, and `wake()` tells it that something was queued."""

    # What the log calls the queue.
    name: str
    batch_size: ClassVar[int]
    # Longer than a batch may take (ms): no other worker takes an item that is still being worked on.
    lease: int
    backoff: ClassVar[Backoff]

    def __init__(self, database: Database) -> None:
        self.database = database
        self._woken = asyncio.Event()

    @abstractmethod
    async def find_next_time(self, conn: Connection) -> int | None:
        """When the next item is due (ms); None when none waits."""

    @abstractmethod
    async def claim(self, conn: Connection, now: int, lease_until: int) -> list[Item]:
        """Take up to `batch_size` items that are due."""

    @abstractmethod
    async def process(self, batch: list[Item]) -> None:
        """Work on the claimed items. An item that this neither deletes nor postpones is due again when the lease ends.
        Raises Rest or DatabaseUnavailable."""

    @abstractmethod
    async def postpone(self, item: Item, error: str, pause: int, attempts: int) -> None:
        """Try the item again after so many ms; it counts as having been tried so often."""

    @abstractmethod
    async def give_up(self, item: Item, error: str) -> None:
        """Never try the item again."""

    async def retry_or_give_up(self, item: Item, error: str) -> None:
        """After a failure that is the item's own."""
        await self.put_off(item, error, self.backoff.pause(item.attempts), item.attempts)

    async def put_off(self, item: Item, error: str, pause: int, attempts: int) -> None:
        """Postpone the item, or give it up if it is too old by then."""
        if clock.now() + pause > item.created_at + self.backoff.give_up_after:
            await self.give_up(item, error)
        else:
            await self.postpone(item, error, pause, attempts)

    def wake(self) -> None:
        """Call after the commit that queued something."""
        self._woken.set()

    async def run(self) -> None:
        """Work on what is due, and sleep until more is, for ever."""
        await work_for_ever(self.name, self._turn, LONGEST_SLEEP, self._woken)

    async def _turn(self) -> float:
        try:
            while await self.work_off():
                pass
        except Rest as rest:
            # What is queued meanwhile waits, too: one attempt a pause is enough to find out that the other side is back.
            await asyncio.sleep(rest.seconds)
            return 0.0
        return await self._pause()

    async def work_off(self) -> int:
        """Work on one batch of what is due, and return how many items were claimed. Raises as `process` does."""
        now = clock.now()
        async with self.database.reader() as conn:
            due = await self.find_next_time(conn)
        if due is None or due > now:
            return 0
        async with self.database.transaction() as conn:
            batch = await self.claim(conn, now, now + self.lease)
        await self.process(batch)
        return len(batch)

    async def _pause(self) -> float:
        async with self.database.reader() as conn:
            due = await self.find_next_time(conn)
        return LONGEST_SLEEP if due is None else min(max((due - clock.now()) / 1000, 0.0), LONGEST_SLEEP)


async def finish(work: Coroutine[Any, Any, None], grace: float) -> None:
    """Await the work. If this is cancelled meanwhile, let the work go on for so many seconds before cancelling it, too."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,), timeout=grace)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
