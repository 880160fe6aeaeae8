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
import logging
import secrets
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

import orjson
from redis import asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from referral.cache import Load
from referral.clock import SECOND, now
from referral.database import Connection, Database, DatabaseUnavailable, TransactionConflict
from referral.metrics import Metrics
from referral.queries import cache_epoch
from referral.queries.codes import ActiveCode

T = TypeVar("T")

log = logging.getLogger(__name__)

# Seconds. What Redis does takes well under a millisecond: one that needs longer than this is as good as out, and the
# database is asked. A look-up makes three calls at most.
TIMEOUT = 0.05
# Turns of the event loop from the arrival of an answer to its reader.
LATE_TURNS = 4
# While Redis is out nobody waits for it; it is asked this often whether it is back.
PROBE_INTERVAL = 0.5
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
CONNECTIONS = 32

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
# A write, and by a script, as all that matters is: a full or read-only Redis is out, too.
PROBE = ("EVAL", BURY, 1, "referral:probe", SECOND)


class _Reply(NamedTuple):
    run_id: str
    value: Any


class _Look(NamedTuple):
    """What a look into Redis found, and the era whose entries counted then."""

    era: bytes
    value: bytes | None

    def active(self, email_key: str | None = None) -> ActiveCode | None:
        """The entry, if it is one of this era, of an unexpired code and, if an e-mail is given, of this one's."""
        if self.value is None or not self.value.startswith(self.era):
            return None
        code, expires_at, referrer_id, username, digest = orjson.loads(self.value[len(self.era) :])
        # Without an e-mail asked for, none is known here: none is to be read in Redis.
        active = ActiveCode(code, expires_at, referrer_id, username, email_key or "")
        if active.expires_at <= now() or (email_key is not None and digest != _digest(email_key)):
            return None
        return active


class RedisCache:
    """`redis://user:password@host:port/db`; `rediss:` through TLS, with `?ca=FILE` for an authority of one's own."""

    def __init__(self, url: str, metrics: Metrics, database: Database) -> None:
        self._database = database
        self._hit = metrics.cache.labels("hit").inc
        self._miss = metrics.cache.labels("miss").inc
        self._failure = metrics.cache.labels("failure").inc
        self._epoch = 0
        self._epoch_read_at = float("-inf")
        self._epoch_lock = asyncio.Lock()
        self._probe: asyncio.Task[None] | None = None
        self._slots = asyncio.Semaphore(CONNECTIONS)
        address, options = read_address(url)
        self._pool: Any = aioredis.ConnectionPool.from_url(
            address,
            **options,
            # The probe has no slot.
            max_connections=CONNECTIONS + 1,
            socket_timeout=None,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            # Version 2 needs no greeting.
            protocol=2,
            driver_info=None,
            redis_connect_func=_on_connect,
        )

    async def by_code(self, code: str, load: Load) -> ActiveCode | None:
        look = await self._look("GET", _name(code))
        found = look and look.active()
        if found:
            self._hit()
            return found
        self._miss()
        return await self._load(code, load, look.era) if look else await load()

    async def by_email(self, email_key: str, load: Load) -> ActiveCode | None:
        look = await self._look("EVAL", GET_BY_EMAIL, 1, _email_name(_digest(email_key)))
        # The e-mail's key may be old: what it leads to must say itself whose it is.
        found = look and look.active(email_key)
        if found:
            self._hit()
            return found
        self._miss()
        # First to learn which key to take the lease on.
        active = await load()
        return await self._load(active.code, load, look.era) if look and active else active

    async def _look(self, *command: Any) -> _Look | None:
        """What the command finds; None when Redis is out. Raises DatabaseUnavailable."""
        if self._is_out:
            return None
        epoch = await self._trusted_epoch()
        reply = await self._ask(*command)
        return reply and _Look(f"{reply.run_id}:{epoch}:".encode(), reply.value)

    async def _load(self, code: str, load: Load, era: bytes) -> ActiveCode | None:
        """Ask the database under a lease on the code's key, and fill the key if the lease holds."""
        lease = f"?{secrets.token_hex(8)}"
        reply = await self._ask("EVAL", TAKE_LEASE, 1, _name(code), lease, LEASE_TTL, era)
        active = await load()
        if reply and active and active.code == code:
            digest = _digest(active.email_key)
            entry = era + orjson.dumps(
                [active.code, active.expires_at, active.referrer_id, active.referrer_username, digest]
            )
            end = min(active.expires_at, now() + ENTRY_TTL)
            await self._ask("EVAL", FILL, 2, _name(code), _email_name(digest), lease, entry, code, end)
        return active

    async def _trusted_epoch(self) -> int:
        """The epoch, read no longer than EPOCH_LEASE ago. Raises DatabaseUnavailable."""
        # One by one: of two reads at once, the one that began earlier could end later.
        async with self._epoch_lock:
            asked = time.monotonic()
            if asked - self._epoch_read_at > EPOCH_LEASE:
                async with self._database.reader() as conn:
                    self._epoch = await cache_epoch.find_epoch(conn)
                self._epoch_read_at = asked
            return self._epoch

    async def before_commit(self, conn: Connection, codes: set[str]) -> bool:
        if await self._ask("EVAL", BURY, len(codes), *map(_name, codes), TOMBSTONE_TTL):
            return True
        await cache_epoch.advance_epoch(conn)
        return False

    async def after_commit(self, codes: set[str], *, told: bool) -> None:
        if await self._ask("EVAL", UNBURY, len(codes), *map(_name, codes), TOMBSTONE_TTL):
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

    @property
    def _is_out(self) -> bool:
        return self._probe is not None

    async def _ask(self, *command: Any) -> _Reply | None:
        """The answer; None when Redis is out or fails, which never is the caller's failure."""
        try:
            # Who waits for a connection meanwhile learns of an outage as soon as the first one does.
            async with self._slots:
                return None if self._is_out else await _in_time(self._send(*command))
        except Exception as error:
            # Whatever it is: of a server that is not even a Redis, anything may be expected.
            self._failure()
            if self._probe is None:
                log.warning("Redis is out, the database answers: %s: %s", type(error).__name__, error)
                self._probe = asyncio.create_task(self._watch_for_return())
        return None

    async def _send(self, *command: Any) -> _Reply:
        connection = await self._pool.get_connection()
        try:
            await connection.send_command(*command)
            return _Reply(connection.run_id, await connection.read_response())
        finally:
            await self._pool.release(connection)

    async def _watch_for_return(self) -> None:
        # At once for the first time: it may have been a hiccup.
        while True:
            try:
                await _in_time(self._send(*PROBE))
            except Exception as error:
                log.debug("Redis is still out: %s: %s", type(error).__name__, error)
                await asyncio.sleep(PROBE_INTERVAL)
            else:
                break
        log.warning("Redis is back")
        self._probe = None

    async def healthy(self) -> bool:
        return await self._ask(*PROBE) is not None

    async def close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait([self._probe])
        with suppress(RedisError):
            await self._pool.aclose()


def read_address(url: str) -> tuple[str, dict[str, str]]:
    """A `cache.url` as redis-py takes it: without our own `?ca=FILE`, and the option that stands for that."""
    address, _, authority = url.partition("?ca=")
    return address, {"ssl_ca_certs": unquote(authority)} if authority else {}


async def _on_connect(connection: Any) -> None:
    """Greet, and learn which process answers: before any command on a connection, its run id is known."""
    connection.run_id = None
    await connection.on_connect_check_health(check_health=False)
    await connection.send_command("INFO", "server", check_health=False)
    facts = await connection.read_response()
    words = facts.decode().partition("run_id:")[2].split() if isinstance(facts, bytes) else []
    if not words:
        raise RedisConnectionError("the server does not tell its run_id")
    connection.run_id = words[0]


async def _in_time(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. Raises TimeoutError, and ends it, after TIMEOUT seconds.

    Unlike asyncio.timeout it does not take a busy event loop for a late answer: what has arrived by then is read.
    """
    task = asyncio.create_task(work)
    # Fetched in any case: what fails while nobody waits for it any more is no news.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        await asyncio.wait([task], timeout=TIMEOUT)
        for _ in range(LATE_TURNS):
            if not task.done():
                await asyncio.sleep(0)
        if not task.done():
            raise TimeoutError(f"no answer within {TIMEOUT * 1000:.0f} ms")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


def _name(code: str) -> str:
    return f"referral:code:{code}"


def _digest(email_key: str) -> str:
    # No address is to be read in Redis.
    return hashlib.sha256(email_key.encode()).hexdigest()


def _email_name(digest: str) -> str:
    return f"referral:email:{digest}"
