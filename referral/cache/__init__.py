"""Caches of what the database knows, and their invalidation."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from referral.cache.codes import CodeCache, MemoryCodeCache, NoCodeCache
from referral.cache.epoch import Epoch
from referral.cache.sessions import LocalSessionCache, SessionCache
from referral.database import Database
from referral.metrics import Metrics

if TYPE_CHECKING:
    from referral.cache.redis.epoch import RedisInvalidation


@dataclass(frozen=True, slots=True)
class Caches:
    """The caches of one process, and what keeps them true by Redis, if there is one."""

    codes: CodeCache
    sessions: SessionCache
    redis: "RedisInvalidation | None"


def open_caches(url: str, metrics: Metrics, database: Database) -> Caches:
    """The one choice by `cache.url`. A Redis that cannot be reached now is used once it can; start and close it."""
    if url.startswith(("redis:", "rediss:")):
        # Imported here: redis-py takes longer to load than the default start can spare.
        from referral.cache.redis.client import RedisClient
        from referral.cache.redis.codes import RedisCodeCache
        from referral.cache.redis.epoch import RedisInvalidation
        from referral.cache.redis.sessions import RedisSessionCache

        invalidation = RedisInvalidation(RedisClient(url, metrics), database)
        return Caches(RedisCodeCache(metrics, invalidation), RedisSessionCache(invalidation), invalidation)
    if url.startswith("memory:"):
        epoch = Epoch(database)
        return Caches(MemoryCodeCache(metrics, epoch), LocalSessionCache(epoch), None)
    # With `none://` there may be other processes, and nobody to tell of their changes.
    return Caches(NoCodeCache(), LocalSessionCache(None), None)
