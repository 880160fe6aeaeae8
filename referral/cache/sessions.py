"""Who is signed in, at hand: what each authenticated request asks first.

Where this process is all there is (`cache.url = memory://`), it knows of each end itself; with Redis, that is asked whether
one has come since (`cache/redis/sessions.py`); elsewhere the database is asked each time, which knows at once what any
worker ended. To know it here saves a look-up the hop to the database's thread, a third of its time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from cachetools import LRUCache

from referral.cache.invalidation import Cache
from referral.clock import now
from referral.database import Connection
from referral.queries.sessions import LiveSession

if TYPE_CHECKING:
    from referral.cache.redis.client import Question

Load = Callable[[], Awaitable[LiveSession | None]]

# About 20 MB when full.
ENTRIES = 50_000


class SessionCache(Cache, Protocol):
    """Keeps live sessions; the keys are their ids."""

    def look(self, session_id: str) -> tuple[LiveSession | None, Question | None]:
        """The session if it is known, and what Redis was just asked: if something was, whether the session is still live
        is for `find` to say."""
        ...

    async def find(self, session_id: str, load: Load, asked: Question | None) -> LiveSession | None:
        """The live session of this id; `load` asks the database. After a `look`, with what that asked."""
        ...


class LocalSessionCache:
    """Sessions that were live when the database was asked, and that nobody has ended since; none unless `alone`."""

    def __init__(self, *, alone: bool) -> None:
        self._alone = alone
        self._sessions: LRUCache[str, LiveSession] = LRUCache(ENTRIES)
        self._endings = 0

    def look(self, session_id: str) -> tuple[LiveSession | None, None]:
        # Not by `get`, which takes twice as long, here as in all that is looked up in each request.
        try:
            session = self._sessions[session_id]
        except KeyError:
            return None, None
        return (session if session.expires_at > now() else None), None

    async def find(self, session_id: str, load: Load, asked: Question | None = None) -> LiveSession | None:
        endings = self._endings
        session = await load()
        # What was asked while sessions ended may be what was before.
        if session is not None and self._alone and endings == self._endings:
            self._sessions[session_id] = session
        return session

    async def before_commit(self, conn: Connection, change: str, keys: set[str]) -> bool:
        return True

    async def after_commit(self, change: str, keys: set[str], *, told: bool) -> None:
        self._endings += 1
        for session_id in keys:
            self._sessions.pop(session_id, None)


SESSION_CACHE = web.AppKey("session_cache", SessionCache)
