"""The cache of live sessions, kept by each worker for as long as Redis says that no session has ended.

In Redis, GENERATION holds a random word, which the end of any session removes. A worker remembers the word that was there
before it asked the database, and the era (`epoch.py`). It takes a cached session for live only if Redis, asked by the very
request, still has that word. The question is pipelined with the counting of the request's limit. There is one word for all
sessions, because sessions end seldom and are asked for all the time.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import NamedTuple, cast

from cachetools import LRUCache

from referral.cache.redis.client import READ, TEXT_OF, Question
from referral.cache.redis.epoch import TOMBSTONE, RedisInvalidation
from referral.cache.sessions import ENTRIES, L, Live
from referral.clock import now
from referral.database import Connection
from referral.queries.cache_epoch import CacheEpoch

GENERATION = "referral:sessions"
# Returns the word. Makes one if there is none: nobody has asked yet, a session has ended, or Redis was flushed.
MAKE_GENERATION = f"""{TEXT_OF}
local word = text_of(KEYS[1])
if not word then
    word = ARGV[1]
    redis.call('SET', KEYS[1], word)
end
return word
"""


class _Kept(NamedTuple):
    session: Live
    generation: tuple[CacheEpoch, bytes]


class RedisSessionCache:
    """`redis:` and `rediss:`, over the connection that the cache uses, too."""

    def __init__(self, invalidation: RedisInvalidation) -> None:
        self._redis = invalidation.redis
        self._invalidation = invalidation
        self._kept: LRUCache[str, _Kept] = LRUCache(ENTRIES)

    def look(self, session_id: str, kind: type[L]) -> tuple[L | None, Question]:
        asked = self._redis.ask(*READ, GENERATION)
        try:
            session = cast(L, self._kept[session_id].session)
        except KeyError:
            return None, asked
        return (session if session.expires_at > now() else None), asked

    async def find(self, session_id: str, load: Callable[[], Awaitable[L | None]], asked: Question | None) -> L | None:
        reply = await asked if asked else None
        if reply and reply.value is None:
            reply = await self._redis.ask("EVAL", MAKE_GENERATION, 1, GENERATION, secrets.token_hex(8))
        # A cached session is live only if this is the same as then. While Redis is out or a session ends, there is none.
        generation = None
        if reply and not reply.value.startswith(TOMBSTONE):
            epoch = await self._invalidation.epoch_by(reply.run_id)
            generation = (epoch, reply.value) if epoch else None
        kept = self._kept.get(session_id)
        if kept and kept.generation == generation and kept.session.expires_at > now():
            return cast(L, kept.session)
        session = await load()
        if session is None:
            # The session has ended: its requests count as nobody's from here on.
            self._kept.pop(session_id, None)
        elif generation is not None:
            self._kept[session_id] = _Kept(session, generation)
        return session

    async def before_commit(self, conn: Connection, change: str, keys: set[str]) -> bool:
        return await self._invalidation.begin(conn, change, [GENERATION])

    async def after_commit(self, change: str, keys: set[str], *, told: bool) -> None:
        await self._invalidation.end(change, [GENERATION], told=told)

    def in_doubt(self, keys: set[str]) -> None:
        """Nothing: the tombstones stay to their end."""
