"""Fixtures of the tests of caches: a look at what lies in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis import asyncio as aioredis

from referral.cache.redis.client import RedisClient
from referral.cache.redis.epoch import RedisInvalidation
from referral.database import Database
from referral.metrics import Metrics
from tests.support.servers import RedisServer


@pytest.fixture
async def inside(redis: RedisServer) -> AsyncIterator[Any]:
    """A look behind the service's back."""
    async with aioredis.Redis.from_url(redis.url, decode_responses=True) as client:
        yield client


async def believed(redis: RedisServer, database: Database) -> None:
    """Have this Redis believed, as the start of a service does."""
    invalidation = RedisInvalidation(RedisClient(redis.url, Metrics()), database)
    await invalidation.start()
    await invalidation.close()
