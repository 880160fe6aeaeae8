"""Invalidation: how what the caches keep is given up when a transaction changes it.

The rule: once a request that changed something has been answered, no worker takes for true what was before.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Protocol

from referral.database import Connection, Database, DatabaseUnavailable, TransactionConflict, settle
from referral.ids import new_id


class Cache(Protocol):
    """Keeps something of the database under keys."""

    async def before_commit(self, conn: Connection, change: str, keys: set[str]) -> bool:
        """Within the transaction that changes what these keys stand for, as its last step; `change` is its name. False when
        the other workers could not be told, and the transaction itself now says so to all of them."""
        ...

    async def after_commit(self, change: str, keys: set[str], *, told: bool) -> None:
        """When that transaction is over: from here on, nothing of what was before is taken for true anywhere. `told` is what
        `before_commit` returned. Raises DatabaseUnavailable."""
        ...


class Invalidation:
    """The keys of one cache that a transaction changes; `invalidating` calls its methods around the commit."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._keys: set[str] = set()
        self._change: str | None = None
        self._told = True

    def add(self, *keys: str) -> None:
        """The transaction changes what these keys stand for."""
        self._keys.update(keys)

    async def before_commit(self, conn: Connection) -> None:
        """Tell the cache, in the transaction. Raises DatabaseUnavailable."""
        if self._keys:
            # Hexadecimal, and of no other change of any worker. Not from os.urandom, which lets go of Python's lock and
            # waits for it again behind SQLite's thread.
            self._change = new_id().replace("-", "")
            self._told = await self._cache.before_commit(conn, self._change, self._keys)

    async def after_commit(self) -> None:
        """Invalidate the keys, whether the transaction was committed or not: who was cancelled in the midst of the commit
        cannot know. Nothing is done for a transaction that never came to its commit. Raises DatabaseUnavailable."""
        if self._change is None:
            return
        try:
            await self._cache.after_commit(self._change, self._keys, told=self._told)
        except TransactionConflict as error:
            # Of the cache's own transaction: the request's is over, and must not be made again.
            raise DatabaseUnavailable(str(error)) from error


@asynccontextmanager
async def invalidating(database: Database, *invalidations: Invalidation) -> AsyncIterator[Connection]:
    """A write transaction of the database, and the invalidation of what it changes.

    Before the commit the caches are told of the keys that were added meanwhile. After the commit the keys are invalidated,
    also when it failed or was cancelled. Raises DatabaseUnavailable when that cannot be done.
    """
    try:
        async with database.transaction() as conn:
            yield conn
            for invalidation in invalidations:
                await invalidation.before_commit(conn)
    except BaseException as error:
        # No failure takes the place of a cancellation.
        with suppress(DatabaseUnavailable) if isinstance(error, asyncio.CancelledError) else nullcontext():
            await settle(_after_commit(invalidations))
        raise
    await settle(_after_commit(invalidations))


async def _after_commit(invalidations: Sequence[Invalidation]) -> None:
    failure: DatabaseUnavailable | None = None
    for invalidation in invalidations:
        try:
            await invalidation.after_commit()
        except DatabaseUnavailable as error:
            failure = error
    if failure:
        raise failure
