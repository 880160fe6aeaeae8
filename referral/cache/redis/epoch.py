"""Invalidation on all workers at once, whatever becomes of Redis (docs/caching.md has the sequence).

Everything that is cached names its *era*: the Redis process that was asked (its run id), and the epoch, a number in the
database as one database server counts it. A cached value of another era is void.

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
import logging
import secrets
from collections.abc import Iterable
from contextlib import suppress

from referral.cache.epoch import EPOCH_WAIT, Epoch
from referral.cache.invalidation import IN_DOUBT
from referral.cache.redis.client import PROBE, TEXT_OF, RedisClient
from referral.clock import SECOND
from referral.database import Connection, Database, DatabaseUnavailable, TransactionConflict, committed
from referral.queries import cache_epoch
from referral.queries.cache_epoch import CacheEpoch

log = logging.getLogger(__name__)

# Seconds between two attempts of a process to have the Redis that it reaches believed. Where workers reach different ones,
# the belief goes to and fro no faster than this, and the database answers in between.
BELIEF_PAUSE = 1.0
# What stands in the place of the believed one's run id while another takes it.
NEXT = "next "

# In ms.
TOMBSTONE_TTL = IN_DOUBT * SECOND

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
    """Invalidates on behalf of one process, and knows the epoch and the belief that the other processes may have changed."""

    def __init__(self, redis: RedisClient, database: Database) -> None:
        self.redis = redis
        self._database = database
        self._epoch = Epoch(database)
        self._meeting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and have the Redis believed before it is needed, if both it and the database answer and none is believed
        yet."""
        await self.redis.open()
        reply = await self.redis.ask(*PROBE)
        with suppress(DatabaseUnavailable):
            if reply is not None and (await self._epoch.trusted()).redis is None:
                await self._have_believed(reply.run_id)

    async def close(self) -> None:
        if self._meeting is not None:
            self._meeting.cancel()
            await asyncio.wait([self._meeting])
        await self.redis.close()

    async def epoch_by(self, run_id: str) -> CacheEpoch | None:
        """The epoch, read so lately that no change of it has been answered since, if the Redis of this run id is believed.
        None if not: what it says is to be thrown away. Raises DatabaseUnavailable."""
        epoch = await self._epoch.trusted()
        if epoch.redis == run_id:
            return epoch
        self._meet()
        return None

    async def healthy(self) -> bool:
        """Whether there is a Redis that is believed, as far as this process knows. The database, which may be out or hang,
        is asked beside this: what it says, the next call tells."""
        reply = await self.redis.ask(*PROBE)
        if reply is None:
            return False
        known = self._epoch.known
        if known is None or known.redis == reply.run_id:
            self._epoch.renew()
            return True
        self._meet()
        return False

    async def begin(self, conn: Connection, change: str, names: Iterable[str]) -> bool:
        """Put tombstones on these keys, within the transaction that changes what they stand for; `change` is its name.
        False when no Redis that is believed could be told, and the epoch was advanced instead."""
        keys = list(names)
        reply = await self.redis.ask("EVAL", BURY, len(keys), *keys, change, TOMBSTONE_TTL)
        if reply is not None:
            if await cache_epoch.hold_belief(conn, reply.run_id) is not None:
                return True
            self._meet()
        await cache_epoch.advance_epoch(conn)
        return False

    async def end(self, change: str, names: Iterable[str], *, told: bool) -> None:
        """Remove the tombstones; that transaction is over. `told` is what `begin` returned. Raises DatabaseUnavailable."""
        keys = list(names)
        removed = await self.redis.ask("EVAL", UNBURY, len(keys), *keys, change) is not None
        if told and removed:
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

    def _meet(self) -> None:
        """Beside the requests, find out which Redis is to be believed, and have it believed."""
        if self._meeting is None:
            self._meeting = asyncio.create_task(self._meet_another())

    async def _meet_another(self) -> None:
        try:
            # This process may have been left behind with the one before: a new connection leads to whoever took its place.
            self.redis.reconnect()
            reply = await self.redis.ask(*PROBE)
            believed = (await self._epoch.fresh()).redis
            if believed is not None and believed.startswith(NEXT):
                # Another worker is about it; unless it was killed.
                await asyncio.sleep(2 * EPOCH_WAIT)
                believed = (await self._epoch.fresh()).redis
            if reply is not None and believed != reply.run_id:
                await self._have_believed(reply.run_id)
                await asyncio.sleep(BELIEF_PAUSE)
        except DatabaseUnavailable as error:
            log.debug("no Redis can become the believed one: %s", error)
        finally:
            self._meeting = None

    async def _have_believed(self, run_id: str) -> None:
        """Have this Redis believed, once nobody believes another one. Raises DatabaseUnavailable."""
        candidate = f"{NEXT}{run_id} {secrets.token_hex(8)}"
        proposed = await committed(self._database, lambda conn: cache_epoch.propose_redis(conn, run_id, candidate))
        if proposed not in (None, run_id):
            log.warning("another Redis takes over, or this one was restarted: what is cached is void")
            await asyncio.sleep(EPOCH_WAIT)
            await committed(self._database, lambda conn: cache_epoch.accept_redis(conn, run_id, proposed))
        await self._epoch.fresh()
