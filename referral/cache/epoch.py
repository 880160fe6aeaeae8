"""The epoch: a number in the database, which grows when everything that is cached anywhere becomes void at once.

A change that a service makes invalidates what it changes by name. The epoch is for changes that cannot be told to a cache:
a command changes accounts beside running services, or Redis is out. Such a change advances the epoch in its own
transaction. A process that caches trusts the epoch under a *lease*, for EPOCH_LEASE seconds after it asked the database;
the change waits EPOCH_WAIT, which is longer, before anybody is told that it is done. So a service asks the database
twenty times a second at most, however many requests it answers, and not at all while it has none.
"""

import asyncio
import time
from collections.abc import Callable

from referral.database import Database, DatabaseUnavailable
from referral.queries import cache_epoch
from referral.queries.cache_epoch import CacheEpoch

# Seconds that a process trusts an epoch that it read, and that a change waits. The wait is longer, because timers may go off
# early by a clock's grain.
EPOCH_LEASE = 0.1
EPOCH_WAIT = 0.12
# Seconds after which a lease that is in use is renewed beside the requests. If they all waited for the database's thread
# each time that the lease ends, that would take a tenth of their rate.
RENEWAL = 0.05


class Epoch:
    """What one process knows of the epoch. `on_advance` lists what is called, in the event loop, when another one counts: it
    has grown, or another database server counts it, which may have lost commits that the cache knows."""

    def __init__(self, database: Database) -> None:
        self.on_advance: list[Callable[[], None]] = []
        self._database = database
        # What was read last, however long ago.
        self.known: CacheEpoch | None = None
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None

    def is_trusted(self) -> bool:
        """Whether the epoch was read so lately that whatever was advanced since has not been answered yet."""
        age = time.monotonic() - self._read_at
        if RENEWAL <= age <= EPOCH_LEASE:
            self.renew()
        return age <= EPOCH_LEASE

    def renew(self) -> None:
        """Have the epoch read, beside whoever asks."""
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._renew())

    async def trusted(self) -> CacheEpoch:
        """The epoch, read no longer than EPOCH_LEASE seconds ago. Raises DatabaseUnavailable."""
        if not self.is_trusted():
            async with self._lock:
                if not self.is_trusted():
                    await self._read()
        assert self.known is not None
        return self.known

    async def fresh(self) -> CacheEpoch:
        """The epoch, read now. Raises DatabaseUnavailable."""
        async with self._lock:
            return await self._read()

    async def _renew(self) -> None:
        try:
            async with self._lock:
                await self._read()
        except DatabaseUnavailable:
            # Whoever asks once the lease has ended finds out, too.
            pass
        finally:
            self._renewal = None

    async def _read(self) -> CacheEpoch:
        """Read the epoch; the caller has the lock. Reads go one by one: of two at once, the one that began earlier could end
        later."""
        asked = time.monotonic()
        async with self._database.reader() as conn:
            found = await cache_epoch.find_epoch(conn)
        before, self.known = self.known, found
        if before is None or (before.epoch, before.server) != (found.epoch, found.server):
            for forget in self.on_advance:
                forget()
        self._read_at = asked
        return found
