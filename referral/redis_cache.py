"""Active codes in Redis, shared by all workers, and never stale whatever becomes of Redis.

An entry is void unless it says the current *era*: the Redis process that took it, and the epoch in the database.

- A look-up that misses takes a lease on the key, asks the database, and fills only if its lease is still there. A change
  takes the lease away, and so do a flush, an eviction and a restart.
- A change puts a tombstone on the key before its commit, under which nobody gets a lease, and removes the key after it. A
  worker that is killed in between leaves the tombstone behind; tombstones are counted, so that no other change removes it.
- A change that cannot reach Redis advances the epoch in its own transaction, so that all entries are void. Workers read the
  epoch at most EPOCH_LEASE seconds before they trust an entry, and the change is answered only after that time.
- A Redis that is restarted, perhaps with entries from an old snapshot, has another run id: those entries are void. Each
  connection knows the run id of the process it leads to, so that no answer is taken for another process's.

All workers must use the same Redis process: a URL behind which a second one takes over while the first still answers some of
the workers is no shared cache.
"""

import asyncio
import hashlib
import secrets
import time
from contextlib import suppress
from typing import Any, NamedTuple

import orjson

from referral.cache import Load
from referral.clock import SECOND, now
from referral.database import Connection, Database, DatabaseUnavailable, TransactionConflict
from referral.metrics import Metrics
from referral.queries import cache_epoch
from referral.queries.codes import ActiveCode
from referral.redis_client import RedisClient

# How long a worker trusts an epoch that it read, and what a change waits when it could not reach Redis: longer, because
# timers may go off early by a clock's grain.
EPOCH_LEASE = 0.1
EPOCH_WAIT = 0.12
# How often the epoch is tried to be advanced after a commit, when the database undoes it.
ATTEMPTS = 5
# Longest life of an entry, in ms: what is rarely asked for need not lie there.
ENTRY_TTL = 600 * SECOND
# Longer than any look-up of the database may take, in ms.
LEASE_TTL = 15 * SECOND
# Longer than any transaction takes, in ms.
TOMBSTONE_TTL = 60 * SECOND

# A key holds an entry (era and JSON), a lease ("?" and a random word) or a tombstone ("-" and the number of changes).
# Nothing is sent to Redis but these scripts and GET, and no script is longer than it is worth loading beforehand.

# The value of the code's key that an e-mail's key points to. One round trip, at the price of a key not declared, which only
# a Redis Cluster would mind.
GET_BY_EMAIL = """
local code = redis.call('GET', KEYS[1])
return code and redis.call('GET', 'referral:code:' .. code)
"""
# Takes the lease ARGV[1] on a key that is free or holds an entry of another era than ARGV[3].
TAKE_LEASE = """
local held = redis.call('GET', KEYS[1])
if held then
    local first = string.sub(held, 1, 1)
    if first == '-' or first == '?' or string.sub(held, 1, #ARGV[3]) == ARGV[3] then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
# Fills a key on which the lease ARGV[1] still is. The e-mail's key needs no lease: it says where to look, not what is true.
# The end is a time, not a period: a Redis that hung may execute this late.
FILL = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2])
    redis.call('PEXPIREAT', KEYS[1], ARGV[4])
end
redis.call('SET', KEYS[2], ARGV[3])
redis.call('PEXPIREAT', KEYS[2], ARGV[4])
"""
BURY = """
for _, key in ipairs(KEYS) do
    local changes = string.match(redis.call('GET', key) or '', '^%-(%d+)$') or 0
    redis.call('SET', key, '-' .. (changes + 1), 'PX', ARGV[1])
end
"""
UNBURY = """
for _, key in ipairs(KEYS) do
    local changes = string.match(redis.call('GET', key) or '', '^%-(%d+)$') or 0
    if tonumber(changes) > 1 then
        redis.call('SET', key, '-' .. (changes - 1), 'PX', ARGV[1])
    else
        redis.call('DEL', key)
    end
end
"""


class _Look(NamedTuple):
    """What a look into Redis found, and the era whose entries counted then."""

    era: bytes
    value: bytes | None

    def active(self, email_key: str = "", of: str | None = None) -> ActiveCode | None:
        """The entry, if it is of this era, of an unexpired code and, if the digest of an e-mail is given, of this one's."""
        if self.value is None or not self.value.startswith(self.era):
            return None
        code, expires_at, referrer_id, username, digest = orjson.loads(self.value[len(self.era) :])
        # Without an e-mail asked for, none is known here: none is to be read in Redis.
        active = ActiveCode(code, expires_at, referrer_id, username, email_key)
        return active if active.expires_at > now() and of in (None, digest) else None


class RedisCache:
    """`redis:` and `rediss:`, over the connection that the limits use, too."""

    def __init__(self, redis: RedisClient, metrics: Metrics, database: Database) -> None:
        self._redis = redis
        self._database = database
        self._hit = metrics.cache.labels("hit").inc
        self._miss = metrics.cache.labels("miss").inc
        self._epoch = 0
        self._epoch_read_at = float("-inf")
        self._epoch_lock = asyncio.Lock()

    async def by_code(self, code: str, load: Load) -> ActiveCode | None:
        look = await self._look("GET", _name(code))
        found = look and look.active()
        if found:
            self._hit()
            return found
        self._miss()
        return await self._load(code, load, look.era) if look else await load()

    async def by_email(self, email_key: str, load: Load) -> ActiveCode | None:
        digest = _digest(email_key)
        look = await self._look("EVAL", GET_BY_EMAIL, 1, _email_name(digest))
        # The e-mail's key may be old: what it leads to must say itself whose it is.
        found = look and look.active(email_key, digest)
        if found:
            self._hit()
            return found
        self._miss()
        # First to learn which key to take the lease on.
        active = await load()
        return await self._load(active.code, load, look.era) if look and active else active

    async def _look(self, *command: Any) -> _Look | None:
        """What the command finds; None when Redis is out. Raises DatabaseUnavailable."""
        if self._redis.is_out:
            return None
        epoch = await self._trusted_epoch()
        reply = await self._redis.ask(*command)
        return reply and _Look(f"{reply.run_id}:{epoch}:".encode(), reply.value)

    async def _load(self, code: str, load: Load, era: bytes) -> ActiveCode | None:
        """Ask the database under a lease on the code's key, and fill the key if the lease holds."""
        lease = f"?{secrets.token_hex(8)}"
        reply = await self._redis.ask("EVAL", TAKE_LEASE, 1, _name(code), lease, LEASE_TTL, era)
        active = await load()
        if reply and active and active.code == code:
            digest = _digest(active.email_key)
            entry = era + orjson.dumps(
                [active.code, active.expires_at, active.referrer_id, active.referrer_username, digest]
            )
            end = min(active.expires_at, now() + ENTRY_TTL)
            await self._redis.ask("EVAL", FILL, 2, _name(code), _email_name(digest), lease, entry, code, end)
        return active

    async def _trusted_epoch(self) -> int:
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

    async def before_commit(self, conn: Connection, codes: set[str]) -> bool:
        if await self._redis.ask("EVAL", BURY, len(codes), *map(_name, codes), TOMBSTONE_TTL):
            return True
        await cache_epoch.advance_epoch(conn)
        return False

    async def after_commit(self, codes: set[str], *, told: bool) -> None:
        if await self._redis.ask("EVAL", UNBURY, len(codes), *map(_name, codes), TOMBSTONE_TTL):
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

    async def healthy(self) -> bool:
        return await self._redis.healthy()


def _name(code: str) -> str:
    return f"referral:code:{code}"


def _digest(email_key: str) -> str:
    # No address is to be read in Redis.
    return hashlib.sha256(email_key.encode()).hexdigest()


def _email_name(digest: str) -> str:
    return f"referral:email:{digest}"
