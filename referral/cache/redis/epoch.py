"""How what is kept of the database is given up, on all workers at once, whatever becomes of Redis.

What is kept says its *era*, the Redis process that was asked and the epoch in the database, and is void in another.

- A change puts a tombstone on the keys of what it changes before its commit, and removes the keys after it. A worker that is
  killed in between leaves its name on the tombstone for TOMBSTONE_TTL: no other change removes it, or prolongs it.
- A change that cannot reach Redis advances the epoch in its own transaction, so that everything is void. Workers read the
  epoch at most EPOCH_LEASE seconds before they trust what they keep, and the change is answered only after that time.
- A Redis that is restarted, perhaps with entries from an old snapshot, has another run id: those entries are void. Each
  connection knows the run id of the process it leads to, so that no answer is taken for another process's.

All workers must use the same Redis process: a URL behind which a second one takes over while the first still answers some of
the workers is no shared cache.
"""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress

from referral.cache.redis.client import RedisClient
from referral.clock import SECOND
from referral.database import Connection, Database, DatabaseUnavailable, TransactionConflict
from referral.queries import cache_epoch

# How long a worker trusts an epoch that it read, and what a change waits when it could not reach Redis: longer, because
# timers may go off early by a clock's grain.
EPOCH_LEASE = 0.1
EPOCH_WAIT = 0.12
# How often the epoch is tried to be advanced after a commit, when the database undoes it.
ATTEMPTS = 5
# Longer than any transaction takes, in ms.
TOMBSTONE_TTL = 60 * SECOND

# A tombstone is this and the name of each change with the end of its time, by Redis's clock.
TOMBSTONE = b"-"
# Lua, for both: what is left of the tombstone of a key without the change ARGV[1], and without those whose time is over.
OTHERS = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function others(key)
    local left, held = '', redis.call('GET', key) or ''
    if string.sub(held, 1, 1) == '-' then
        for change, ending in string.gmatch(held, '(%x+):(%d+)') do
            if change ~= ARGV[1] and tonumber(ending) > now then left = left .. change .. ':' .. ending .. ' ' end
        end
    end
    return left
end
"""
BURY = f"""{OTHERS}
for _, key in ipairs(KEYS) do
    local mine = ARGV[1] .. ':' .. string.format('%.0f', now + ARGV[2])
    redis.call('SET', key, '-' .. others(key) .. mine, 'PX', ARGV[2])
end
"""
UNBURY = f"""{OTHERS}
for _, key in ipairs(KEYS) do
    local left = others(key)
    if left == '' then redis.call('DEL', key) else redis.call('SET', key, '-' .. left, 'KEEPTTL') end
end
"""


class RedisInvalidation:
    """The changes of one process, and what it knows of the others'."""

    def __init__(self, redis: RedisClient, database: Database) -> None:
        self.redis = redis
        self._database = database
        self._epoch = 0
        self._epoch_read_at = float("-inf")
        self._epoch_lock = asyncio.Lock()

    async def trusted_epoch(self) -> int:
        """The epoch, read no longer than EPOCH_LEASE ago. Raises DatabaseUnavailable."""
        if time.monotonic() - self._epoch_read_at <= EPOCH_LEASE:
            return self._epoch
        # One by one: of two reads at once, the one that began earlier could end later.
        async with self._epoch_lock:
            asked = time.monotonic()
            if asked - self._epoch_read_at > EPOCH_LEASE:
                async with self._database.reader() as conn:
                    self._epoch = await cache_epoch.find_epoch(conn)
                self._epoch_read_at = asked
            return self._epoch

    async def begin(self, conn: Connection, change: str, names: Iterable[str]) -> bool:
        """Within the transaction that changes what these keys stand for; `change` is its name. False when Redis could not be
        told."""
        keys = list(names)
        if await self.redis.ask("EVAL", BURY, len(keys), *keys, change, TOMBSTONE_TTL):
            return True
        await cache_epoch.advance_epoch(conn)
        return False

    async def end(self, change: str, names: Iterable[str], *, told: bool) -> None:
        """When that transaction is over; `told` is what `begin` returned. Raises DatabaseUnavailable."""
        keys = list(names)
        if await self.redis.ask("EVAL", UNBURY, len(keys), *keys, change):
            return
        if told:
            # Redis went away between the tombstone and here, and may come back without it.
            await self._advance_epoch()
        await asyncio.sleep(EPOCH_WAIT)

    async def _advance_epoch(self) -> None:
        for _ in range(ATTEMPTS):
            with suppress(TransactionConflict):
                async with self._database.transaction() as conn:
                    await cache_epoch.advance_epoch(conn)
                return
        # Not a conflict any more, after which the request would be made again: its own transaction is committed.
        raise DatabaseUnavailable("the other workers could not be told of a change")
