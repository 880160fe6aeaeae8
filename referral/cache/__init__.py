"""Caches of what the database knows, and their invalidation.

The caches are imported when they are opened. redis-py takes longer to load than the default start can spare, and the metrics
must not be imported before workers are told to share them, which is later than `refuse_wrong_server` is called.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from referral.config import ConfigError
from referral.config.redis_url import parse_redis_url
from referral.config.sections import Cache
from referral.database import Database

if TYPE_CHECKING:
    from referral.cache.codes import CodeCache
    from referral.cache.redis.epoch import RedisInvalidation
    from referral.cache.sessions import SessionCache
    from referral.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Caches:
    """The caches of one process, and what keeps them true by Redis, if there is one."""

    codes: CodeCache
    sessions: SessionCache
    invalidation: RedisInvalidation | None

    @property
    def trouble(self) -> str | None:
        """Why Redis cannot be used, in words that anybody may read; None if it can, or is just out."""
        return self.invalidation.redis.trouble if self.invalidation else None


def open_caches(settings: Cache, metrics: Metrics, database: Database) -> Caches:
    """The one choice by `cache.url`. A Redis that cannot be reached now is used once it can; start and close it."""
    from referral.cache.codes import MemoryCodeCache, NoCodeCache
    from referral.cache.epoch import Epoch
    from referral.cache.sessions import LocalSessionCache

    if _is_redis(settings):
        from referral.cache.redis.client import RedisClient
        from referral.cache.redis.codes import RedisCodeCache
        from referral.cache.redis.epoch import RedisInvalidation
        from referral.cache.redis.sessions import RedisSessionCache

        redis = RedisClient(settings.url, metrics, settings.timeout, settings.connect_timeout)
        invalidation = RedisInvalidation(redis, database)
        return Caches(RedisCodeCache(metrics, invalidation), RedisSessionCache(invalidation), invalidation)
    if settings.url.startswith("memory:"):
        epoch = Epoch(database)
        return Caches(MemoryCodeCache(metrics, epoch), LocalSessionCache(epoch), None)
    # With `none://` there may be other processes, and nobody to tell of their changes.
    return Caches(NoCodeCache(), LocalSessionCache(None), None)


def refuse_wrong_server(settings: Cache) -> None:
    """Raises ConfigError when `cache.url` leads to what can never serve, such as a Redis Cluster. A Redis that is out is no
    reason to refuse a start."""
    if _is_redis(settings):
        from referral.cache.redis.connecting import find_wrong_server

        problem = asyncio.run(find_wrong_server(parse_redis_url(settings.url), settings.connect_timeout))
        if problem:
            raise ConfigError("cache.url", problem, "the settings")


def _is_redis(settings: Cache) -> bool:
    return not settings.url.startswith(("memory:", "none:"))


CACHES = web.AppKey("caches", Caches)
