"""The cache of active codes, by their text and by the referrer's e-mail.

The rule: once a request that ended or changed a code has been answered, no look-up on any worker shows the former state.
Transactions invalidate the codes that they change (`invalidation.py`). Look-ups go through `by_code` and `by_email`: on a
miss these ask the database, and they fill the cache only if nothing was changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from cachetools import LRUCache, TTLCache

from referral.cache.epoch import Epoch
from referral.cache.invalidation import IN_DOUBT, Cache
from referral.clock import now
from referral.database import Connection
from referral.metrics import Metrics
from referral.queries.codes import ActiveCode

if TYPE_CHECKING:
    from referral.cache.redis.client import Question

Load = Callable[[], Awaitable[ActiveCode | None]]

# About 25 MB when full.
MEMORY_ENTRIES = 50_000


class CodeCache(Cache, Protocol):
    """Caches active codes; the keys are their texts."""

    def at_hand(self, code: str) -> ActiveCode | None:
        """The active code of this text, if that can be said without asking anybody."""
        ...

    def ask_by_code(self, code: str) -> Question | None:
        """The question that Redis is asked about this code, for `by_code`: in one round trip with all that is asked now."""
        ...

    def ask_by_email(self, email_key: str) -> Question | None:
        """As `ask_by_code`, for `by_email`."""
        ...

    async def by_code(self, code: str, load: Load, asked: Question | None = None) -> ActiveCode | None:
        """The active code of this text, from the cache or else from `load`, which asks the database."""
        ...

    async def by_email(self, email_key: str, load: Load, asked: Question | None = None) -> ActiveCode | None:
        """As `by_code`, by the key of the referrer's e-mail."""
        ...

    async def healthy(self) -> bool:
        """Whether the cache can be reached. Look-ups are answered either way."""
        ...


class NoCodeCache:
    """`none://`: every look-up asks the database."""

    def at_hand(self, code: str) -> ActiveCode | None:
        return None

    def ask_by_code(self, code: str) -> None:
        return None

    def ask_by_email(self, email_key: str) -> None:
        return None

    async def by_code(self, code: str, load: Load, asked: Question | None = None) -> ActiveCode | None:
        return await load()

    async def by_email(self, email_key: str, load: Load, asked: Question | None = None) -> ActiveCode | None:
        return await load()

    async def before_commit(self, conn: Connection, change: str, keys: set[str]) -> bool:
        return True

    async def after_commit(self, change: str, keys: set[str], *, told: bool) -> None:
        return None

    def in_doubt(self, keys: set[str]) -> None:
        return None

    async def healthy(self) -> bool:
        return True


class MemoryCodeCache:
    """`memory://`: a cache in this process. The least recently used codes are dropped first, and all of them when the epoch
    is advanced: by a command beside the service."""

    def __init__(self, metrics: Metrics, epoch: Epoch, entries: int = MEMORY_ENTRIES) -> None:
        self._epoch = epoch
        epoch.on_advance.append(self._forget)
        self._by_code: LRUCache[str, ActiveCode] = LRUCache(entries)
        # An e-mail leads to a code's text, never to a copy of its own: only _by_code has to be kept true.
        self._by_email: LRUCache[str, str] = LRUCache(entries)
        self._doubtful: TTLCache[str, None] = TTLCache(entries, IN_DOUBT)
        self._changes = 0
        self._hit = metrics.hit
        self._miss = metrics.cache.labels("miss").inc

    def at_hand(self, code: str) -> ActiveCode | None:
        return self._find(code) if self._epoch.is_trusted() else None

    def ask_by_code(self, code: str) -> None:
        return None

    def ask_by_email(self, email_key: str) -> None:
        return None

    async def by_code(self, code: str, load: Load, asked: Question | None = None) -> ActiveCode | None:
        if not self._epoch.is_trusted():
            await self._epoch.trusted()
        return self._find(code) or await self._load(load)

    async def by_email(self, email_key: str, load: Load, asked: Question | None = None) -> ActiveCode | None:
        if not self._epoch.is_trusted():
            await self._epoch.trusted()
        try:
            code = self._by_email[email_key]
        except KeyError:
            return await self._load(load)
        found = self._find(code)
        # The address may have changed hands.
        return found if found and found.email_key == email_key else await self._load(load)

    def _find(self, code: str) -> ActiveCode | None:
        try:
            active = self._by_code[code]
        except KeyError:
            return None
        if active.expires_at <= now():
            return None
        self._hit()
        return active

    async def _load(self, load: Load) -> ActiveCode | None:
        self._miss()
        before = self._changes
        active = await load()
        if active and before == self._changes and active.code not in self._doubtful:
            self._by_code[active.code] = active
            if active.email_key:
                self._by_email[active.email_key] = active.code
        return active

    def _forget(self) -> None:
        self._changes += 1
        self._by_code.clear()

    async def before_commit(self, conn: Connection, change: str, keys: set[str]) -> bool:
        return True

    async def after_commit(self, change: str, keys: set[str], *, told: bool) -> None:
        self._drop(keys)

    def in_doubt(self, keys: set[str]) -> None:
        self._doubtful.update(dict.fromkeys(keys))
        self._drop(keys)

    def _drop(self, keys: set[str]) -> None:
        # One count for all keys: a fill that overlaps any change is dropped, which costs one more miss and no bookkeeping.
        self._changes += 1
        for code in keys:
            self._by_code.pop(code, None)

    async def healthy(self) -> bool:
        return True


CODE_CACHE = web.AppKey("code_cache", CodeCache)
