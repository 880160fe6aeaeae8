"""The round trips of a request: every call of PostgreSQL and every exchange with Redis that its handler waits for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Any

import asyncpg.pool
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from referral.cache.redis.client import RedisClient

# The methods of a connection that each are one round trip, once the statement is prepared.
CALLS = ("execute", "fetch", "fetchval", "fetchrow")
# What is done to which table, as far as it has to be told apart.
STEPS = re.compile(
    r"--.*|(\bBEGIN\b|\bCOMMIT\b|\bROLLBACK\b|\bLOCK TABLE \w+|\bINSERT INTO \w+|\bUPDATE (?!SET)\w+(?= SET| AS)"
    r"|\bDELETE FROM \w+|\bFROM \w+|\bFOR (?:NO )?KEY (?:UPDATE|SHARE))"
)

# The epoch is read for all requests, every so often.
OF_ALL = re.compile(r"^SELECT epoch, redis, .* FROM cache_epoch WHERE id = 1;$", re.MULTILINE)


@dataclass
class Trips:
    """What the latest request asked, in order; `looks` are called between its round trips to the database."""

    database: list[str] = field(default_factory=list)
    redis: list[str] = field(default_factory=list)
    look: Callable[[], Awaitable[Any]] | None = None
    looked: list[Any] = field(default_factory=list)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def counts(self) -> tuple[int, int]:
        """Round trips to the database and to Redis."""
        return len(self.database), len(self.redis)

    async def asked(self, statement: str) -> None:
        """The database has answered a statement."""
        if OF_ALL.search(statement):
            return
        self.database.append(" ".join(step for step in STEPS.findall(statement) if step))
        if self.look is not None:
            async with self._turn:
                self.looked.append(await self.look())

    def begin(self) -> Token[Trips | None]:
        """Count what the running task asks from here on, and nothing of what was asked before."""
        self.database.clear()
        self.redis.clear()
        self.looked.clear()
        return _OF_REQUEST.set(self)


# Set while a request is handled, and in the tasks that it starts; workers of the background have none.
_OF_REQUEST: ContextVar[Trips | None] = ContextVar("trips", default=None)


def count_in(trips: Trips, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the round trips of every request to an application with `counting(trips)` counted."""

    def counted(call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(self: Any, statement: str, *arguments: Any, **options: Any) -> Any:
            found = await call(self, statement, *arguments, **options)
            if (of_request := _OF_REQUEST.get()) is not None:
                await of_request.asked(statement)
            return found

        return wrapped

    for name in CALLS:
        monkeypatch.setattr(asyncpg.pool.PoolConnectionProxy, name, counted(getattr(asyncpg.pool.PoolConnectionProxy, name)))
    exchange = RedisClient._exchange

    async def exchanged(self: RedisClient, commands: Sequence[tuple[Any, ...]]) -> Any:
        if (of_request := _OF_REQUEST.get()) is not None:
            of_request.redis.append(", ".join(str(command[0]) for command in commands))
        return await exchange(self, commands)

    monkeypatch.setattr(RedisClient, "_exchange", exchanged)


def counting(trips: Trips) -> Callable[..., Awaitable[web.StreamResponse]]:
    """The middleware that says which tasks are a request's."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        token = trips.begin()
        try:
            return await handler(request)
        finally:
            _OF_REQUEST.reset(token)

    return count
