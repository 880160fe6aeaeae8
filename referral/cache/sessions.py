"""The cache of who makes requests, which each authenticated request asks first: live sessions, service keys, and the users
whom tokens of the product's own name. All of them end alike, and are called sessions here.

With `memory://` one process serves, and it learns of each session's end from its own transactions, and by the epoch from
commands beside it (`epoch.py`). With Redis, Redis is asked whether a session has ended since (`redis/sessions.py`). With
`none://` the database is asked each time. A hit saves a look-up the hop to the database's thread, which is a third of its
time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from aiohttp import web
from cachetools import LRUCache, TTLCache

from referral.cache.epoch import Epoch
from referral.cache.invalidation import IN_DOUBT, Cache
from referral.clock import now
from referral.database import Connection

if TYPE_CHECKING:
    from referral.cache.redis.client import Question


class Live(Protocol):
    """What has not ended, and ends by itself at `expires_at` (ms)."""

    @property
    def expires_at(self) -> int: ...


L = TypeVar("L", bound=Live)

# About 20 MB when full.
ENTRIES = 50_000


class SessionCache(Cache, Protocol):
    """Caches live sessions; the keys are their ids. No two kinds of them have an id in common."""

    def look(self, session_id: str, kind: type[L]) -> tuple[L | None, Question | None]:
        """The session if it is cached, which is of this kind, and the question that Redis was asked about it. If there is a
        question, only `find` can tell whether the session is still live."""
        ...

    async def find(self, session_id: str, load: Callable[[], Awaitable[L | None]], asked: Question | None) -> L | None:
        """The live session of this id; `load` asks the database. After `look`, pass the question that it returned."""
        ...


class LocalSessionCache:
    """Caches sessions of one process. Without an epoch, nothing is kept: other processes may serve, too."""

    def __init__(self, epoch: Epoch | None) -> None:
        self._epoch = epoch
        self._sessions: LRUCache[str, Live] = LRUCache(ENTRIES)
        self._doubtful: TTLCache[str, None] = TTLCache(ENTRIES, IN_DOUBT)
        self._endings = 0
        if epoch is not None:
            epoch.on_advance.append(self._forget)

    def look(self, session_id: str, kind: type[L]) -> tuple[L | None, None]:
        if self._epoch is None or not self._epoch.is_trusted():
            return None, None
        # `get` would take twice as long, here and wherever each request looks something up.
        try:
            session = cast(L, self._sessions[session_id])
        except KeyError:
            return None, None
        return (session if session.expires_at > now() else None), None

    async def find(
        self, session_id: str, load: Callable[[], Awaitable[L | None]], asked: Question | None = None
    ) -> L | None:
        if self._epoch is None:
            return await load()
        # `look` did not trust the epoch: the session may be here, and is live if the epoch is what it was.
        await self._epoch.trusted()
        if self._epoch.is_trusted() and session_id in self._sessions:
            known = cast(L, self._sessions[session_id])
            if known.expires_at > now():
                return known
        endings = self._endings
        session = await load()
        # What was read while a session ended may be the former state.
        if session is not None and endings == self._endings and session_id not in self._doubtful:
            self._sessions[session_id] = session
        return session

    def _forget(self) -> None:
        self._endings += 1
        self._sessions.clear()

    async def before_commit(self, conn: Connection, change: str, keys: set[str]) -> bool:
        return True

    async def after_commit(self, change: str, keys: set[str], *, told: bool) -> None:
        self._drop(keys)

    def in_doubt(self, keys: set[str]) -> None:
        self._doubtful.update(dict.fromkeys(keys))
        self._drop(keys)

    def _drop(self, keys: set[str]) -> None:
        self._endings += 1
        for session_id in keys:
            self._sessions.pop(session_id, None)


SESSION_CACHE = web.AppKey("session_cache", SessionCache)
