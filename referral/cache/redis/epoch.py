"""Invalidation on all workers at once, whatever becomes of Redis (docs/caching.md has the sequence).

Everything that is cached names its *era*: the Redis process that was asked (its run id), and the epoch, a number in the
database. A cached value of another era is void.

- Before its commit, a transaction puts a *tombstone* on the keys that it changes; after the commit it removes them. A
  worker that is killed in between leaves its name on the tombstone for TOMBSTONE_TTL, and no other change removes or
  prolongs it.
- A transaction that cannot reach Redis advances the epoch, which makes everything void (`cache/epoch.py`).
- A Redis that is restarted has another run id, so that entries of an old snapshot are void. Each connection knows the run
  id of the process it leads to, and no answer is taken for another process's.

All workers must use the same Redis process. A URL behind which a second process takes over, while the first one still
answers some of the workers, is no shared cache.
"""

import asyncio
from collections.abc import Iterable

from referral.cache.epoch import EPOCH_WAIT, Epoch
from referral.cache.redis.client import TEXT_OF, RedisClient
from referral.clock import SECOND
from referral.database import Connection, Database, DatabaseUnavailable, TransactionConflict, committed
from referral.queries import cache_epoch

# Longer than any transaction takes, in ms.
TOMBSTONE_TTL = 60 * SECOND

# A tombstone is this sign, followed by the name of each change and the end of its time by Redis's clock.
TOMBSTONE = b"-"
# Lua, for both scripts: what is left of a key's tombstone without the change ARGV[1] and without changes whose time is over.
OTHERS = f"""{TEXT_OF}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function others(key)
    local left, held = '', text_of(key) or ''
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
    """Invalidates on behalf of one process, and knows the epoch that the other processes may have advanced."""

    def __init__(self, redis: RedisClient, database: Database) -> None:
        self.redis = redis
        self._database = database
        self._epoch = Epoch(database)

    async def trusted_epoch(self) -> int:
        """The epoch, read so lately that no change of it has been answered since. Raises DatabaseUnavailable."""
        return await self._epoch.trusted()

    async def begin(self, conn: Connection, change: str, names: Iterable[str]) -> bool:
        """Put tombstones on these keys, within the transaction that changes what they stand for; `change` is its name.
        False when Redis could not be told, and the epoch was advanced instead."""
        keys = list(names)
        if await self.redis.ask("EVAL", BURY, len(keys), *keys, change, TOMBSTONE_TTL):
            return True
        await cache_epoch.advance_epoch(conn)
        return False

    async def end(self, change: str, names: Iterable[str], *, told: bool) -> None:
        """Remove the tombstones; that transaction is over. `told` is what `begin` returned. Raises DatabaseUnavailable."""
        keys = list(names)
        if await self.redis.ask("EVAL", UNBURY, len(keys), *keys, change):
            return
        if told:
            # Redis went away after it got the tombstone, and may come back without it.
            await self._advance_epoch()
        await asyncio.sleep(EPOCH_WAIT)

    async def _advance_epoch(self) -> None:
        try:
            await committed(self._database, cache_epoch.advance_epoch)
        except TransactionConflict:
            # This is no conflict any more, after which the request would be made again: its own transaction is committed.
            raise DatabaseUnavailable("the other workers could not be told of a change") from None
