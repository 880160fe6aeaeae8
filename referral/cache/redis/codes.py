"""The cache of active codes in Redis, which all workers share and which is never stale, whatever becomes of Redis.

An entry is void unless it names the current era (`epoch.py`). A look-up that misses takes a *lease* on the key, asks the
database, and fills the key only if its lease is still there. A change takes the lease away, and so do a flush, an eviction
and a restart. While a tombstone lies on the key, nobody gets a lease.
"""

import hashlib
import secrets
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from referral.cache.codes import Load
from referral.cache.redis.client import READ, READ_TEXT_OF, TEXT_OF, Question
from referral.cache.redis.epoch import RedisInvalidation
from referral.clock import SECOND, now
from referral.database import Connection
from referral.metrics import Metrics
from referral.queries.codes import ActiveCode

# The longest life of an entry, in ms: a code that is rarely asked for need not be cached.
ENTRY_TTL = 600 * SECOND
# The life of a lease, in ms: longer than any look-up of the database may take.
LEASE_TTL = 15 * SECOND
# No entry begins with this: every one may be replaced.
NO_ERA = b"\0"

# A key holds an entry (era and JSON), a lease ("?" and a random word) or a tombstone.
# Only these scripts and GET are sent to Redis. The scripts are too short to be worth loading beforehand.

# Returns the code that an e-mail's key points to, and the value of that code's key. One round trip is worth a key that is
# not declared, which only a Redis Cluster would mind.
GET_BY_EMAIL = f"""{READ_TEXT_OF}
local code = text_of(KEYS[1])
return code and {{code, text_of('referral:code:' .. code)}}
"""
# Takes the lease ARGV[1] on a key that is free or holds an entry of another era than ARGV[3]. Tombstones and leases have an
# end: what looks like one and has none was written by somebody else.
TAKE_LEASE = f"""{TEXT_OF}
local held = text_of(KEYS[1])
if held then
    local first = string.sub(held, 1, 1)
    if (first == '-' or first == '?') and redis.call('PTTL', KEYS[1]) >= 0 then return 0 end
    if string.sub(held, 1, #ARGV[3]) == ARGV[3] then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
# Fills a key if the lease ARGV[1] is still on it. The e-mail's key needs no lease: it says where to look, not what is true.
# The entry's end is a time and no period, because a Redis that hung may execute this late.
FILL = f"""{TEXT_OF}
if text_of(KEYS[1]) == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2])
    redis.call('PEXPIREAT', KEYS[1], ARGV[4])
end
if KEYS[2] then
    redis.call('SET', KEYS[2], ARGV[3])
    redis.call('PEXPIREAT', KEYS[2], ARGV[4])
end
"""


class _Look(NamedTuple):
    """What a look into Redis found, and the era whose entries counted then."""

    era: bytes
    value: Any
    # Whether that is an entry which no service wrote.
    is_foreign: bool = False

    def active(self, email_key: str | None = None, of: str | None = None, text: str | None = None) -> ActiveCode | None:
        """The entry, if it is of this era, of an unexpired code and, if the digest of an e-mail is given, of this one's.

        Raises ValueError for an entry that no service wrote: one of another shape or, if the code's text is given, of
        another."""
        if self.value is None or not self.value.startswith(self.era):
            return None
        code, expires_at, referrer_id, username, name, digest = _read(self.value[len(self.era) :])
        if text not in (None, code):
            raise ValueError("an entry of another code")
        # No address can be read in Redis: without an e-mail asked for, none is known here.
        active = ActiveCode(code, expires_at, referrer_id, username, name, email_key)
        return active if active.expires_at > now() and of in (None, digest) else None


def _read(entry: bytes) -> tuple[str, int, str, str | None, str | None, str | None]:
    """What an entry says. Raises ValueError for one that no service wrote."""
    found = orjson.loads(entry)
    match found:
        case [
            str(code),
            int(expires_at),
            str(referrer_id),
            str() | None as username,
            str() | None as name,
            str() | None as digest,
        ]:
            return code, expires_at, referrer_id, username, name, digest
    raise ValueError(f"an entry with other members: {type(found).__name__}")


class RedisCodeCache:
    """`redis:` and `rediss:`, over the connection that the limits use, too."""

    def __init__(self, metrics: Metrics, invalidation: RedisInvalidation) -> None:
        self._redis = invalidation.redis
        self._invalidation = invalidation
        self._hit = metrics.hit
        self._miss = metrics.cache.labels("miss").inc

    def at_hand(self, code: str) -> ActiveCode | None:
        return None

    def ask_by_code(self, code: str) -> Question:
        return self._redis.ask(*READ, _name(code))

    def ask_by_email(self, email_key: str) -> Question:
        return self._redis.ask("EVAL", GET_BY_EMAIL, 1, _email_name(_digest(email_key)))

    async def by_code(self, code: str, load: Load, asked: Question | None = None) -> ActiveCode | None:
        look, found = self._judged(await self._look(asked or self.ask_by_code(code)), text=code)
        if found:
            self._hit()
            return found
        self._miss()
        return await self._load(code, load, look) if look else await load()

    async def by_email(self, email_key: str, load: Load, asked: Question | None = None) -> ActiveCode | None:
        digest = _digest(email_key)
        look, text = await self._look(asked or self.ask_by_email(email_key)), None
        if look and isinstance(look.value, list):
            text, look = look.value[0].decode(errors="replace"), look._replace(value=look.value[1])
        # The e-mail's key may be outdated: the entry that it leads to has to say whose it is.
        look, found = self._judged(look, email_key, digest, text)
        if found:
            self._hit()
            return found
        self._miss()
        # Only the database knows on which key to take the lease.
        active = await load()
        return await self._load(active.code, load, look) if look and active else active

    async def _look(self, asked: Question) -> _Look | None:
        """What was found; None when there is no Redis to be believed. Raises DatabaseUnavailable."""
        reply = await asked
        epoch = reply and await self._invalidation.epoch_by(reply.run_id)
        return _Look(f"{epoch.redis}:{epoch.epoch}:{epoch.server}:".encode(), reply.value) if reply and epoch else None

    def _judged(
        self, look: _Look | None, email_key: str | None = None, of: str | None = None, text: str | None = None
    ) -> tuple[_Look | None, ActiveCode | None]:
        """The look, and the entry that it found. An entry that no service wrote counts as nothing, and as none of this era,
        so that the right one takes its place."""
        if look is None:
            return None, None
        try:
            return look, look.active(email_key, of, text)
        except ValueError as error:
            self._redis.report_stranger(str(error))
            return look._replace(is_foreign=True), None

    async def _load(self, code: str, load: Load, look: _Look) -> ActiveCode | None:
        """Ask the database under a lease on the code's key, and fill the key if the lease is still there."""
        lease = f"?{secrets.token_hex(8)}"
        reply = await self._redis.ask(
            "EVAL", TAKE_LEASE, 1, _name(code), lease, LEASE_TTL, NO_ERA if look.is_foreign else look.era
        )
        active = await load()
        if reply and active and active.code == code:
            digest = _digest(active.email_key) if active.email_key else None
            referrer = [active.referrer_id, active.referrer_username, active.referrer_name]
            entry = look.era + orjson.dumps([active.code, active.expires_at, *referrer, digest])
            end = min(active.expires_at, now() + ENTRY_TTL)
            keys = (_name(code), _email_name(digest)) if digest else (_name(code),)
            await self._redis.ask("EVAL", FILL, len(keys), *keys, lease, entry, code, end)
        return active

    async def before_commit(self, conn: Connection, change: str, keys: set[str]) -> bool:
        return await self._invalidation.begin(conn, change, map(_name, keys))

    async def after_commit(self, change: str, keys: set[str], *, told: bool) -> None:
        await self._invalidation.end(change, map(_name, keys), told=told)

    def in_doubt(self, keys: set[str]) -> None:
        """Nothing: the tombstones stay to their end."""

    async def healthy(self) -> bool:
        return await self._invalidation.healthy()


def _name(code: str) -> str:
    return f"referral:code:{code}"


@lru_cache(maxsize=20_000)
def _digest(email_key: str) -> str:
    # Addresses must not be readable in Redis.
    return hashlib.sha256(email_key.encode()).hexdigest()


def _email_name(digest: str) -> str:
    return f"referral:email:{digest}"
