"""Databases that do to a commit what only bad luck would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from referral.database import Connection, Database


class AtCommit:
    """A database each of whose transactions does something when it has been committed, before anybody is told."""

    def __init__(self, database: Database, work: Callable[[], Awaitable[None]]) -> None:
        self.reader = database.reader
        self.replica = database.replica
        self.close = database.close
        self.check_writable = database.check_writable
        self.purge = database.purge
        self._database = database
        self._work = work

    @property
    def write_failed(self) -> bool:
        return self._database.write_failed

    def snapshot(self) -> AbstractAsyncContextManager[Connection]:
        return self._database.snapshot()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with self._database.transaction() as conn:
            yield conn
        await self._work()
