"""Cache invalidation: a transaction that changes something takes it out of the caches.

The rule: once a request that changed something has been answered, no worker takes the former state for true.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Protocol

from referral.database import Connection, Database, DatabaseUnavailable, TransactionConflict, settle
from referral.ids import new_id

# Seconds for which a commit without an answer may still take place: longer than any transaction takes.
IN_DOUBT = 60


class Cache(Protocol):
    """A cache of the database's contents, by key."""

    async def before_commit(self, conn: Connection, change: str, keys: set[str]) -> bool:
        """Prepare the invalidation of these keys. This is the last step of the transaction that changes what they stand
        for; `change` is the name of the change.

        False when the other workers could not be told. The transaction itself then tells all of them, by what it has
        written.
        """
        ...

    async def after_commit(self, change: str, keys: set[str], *, told: bool) -> None:
        """Invalidate these keys; that transaction is over. When this returns, no worker takes the former state for true.
        `told` is what `before_commit` returned. Raises DatabaseUnavailable."""
        ...

    def in_doubt(self, keys: set[str]) -> None:
        """Take nothing for true that is cached under these keys, for IN_DOUBT seconds: nobody knows whether that transaction
        was committed, or will be."""
        ...


class Invalidation:
    """The keys of one cache that a transaction invalidates. `invalidating` calls its methods around the commit."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._keys: set[str] = set()
        self._change: str | None = None
        self._told = True

    def add(self, *keys: str) -> None:
        """The transaction changes what these keys stand for."""
        self._keys.update(keys)

    @property
    def is_begun(self) -> bool:
        """Whether the cache was told before the commit, and has to be told after it."""
        return self._change is not None

    async def before_commit(self, conn: Connection) -> None:
        """Tell the cache which keys are about to change. Raises DatabaseUnavailable."""
        if self._keys:
            # A hexadecimal name that no other change of any worker has. os.urandom would give up Python's lock, and wait
            # for it again behind SQLite's thread.
            self._change = new_id().replace("-", "")
            self._told = await self._cache.before_commit(conn, self._change, self._keys)

    def in_doubt(self) -> None:
        """Nobody knows whether the transaction of an invalidation that is begun was committed, or will be."""
        self._cache.in_doubt(self._keys)

    async def after_commit(self) -> None:
        """Invalidate the keys of an invalidation that is begun. Whether the transaction was committed makes no difference: a
        request that is cancelled during the commit cannot know. Raises DatabaseUnavailable."""
        assert self._change is not None
        try:
            await self._cache.after_commit(self._change, self._keys, told=self._told)
        except TransactionConflict as error:
            # The conflict is the cache's own: the request's transaction is over and must not be made again.
            raise DatabaseUnavailable(str(error)) from error


@asynccontextmanager
async def invalidating(database: Database, *invalidations: Invalidation) -> AsyncIterator[Connection]:
    """A write transaction of the database that invalidates what it changes.

    The caches are told before the commit, and the keys are invalidated after it, also when the commit failed or was
    cancelled. If the commit got no answer, it may take place later: the keys are left in doubt. Raises DatabaseUnavailable
    when that cannot be done.
    """
    try:
        async with database.transaction() as conn:
            yield conn
            for invalidation in invalidations:
                await invalidation.before_commit(conn)
    except DatabaseUnavailable as error:
        if isinstance(error, TransactionConflict):
            await _finish(invalidations)
        else:
            for invalidation in _begun(invalidations):
                invalidation.in_doubt()
        raise
    except BaseException as error:
        # A cancellation stays one, whatever else fails.
        with suppress(DatabaseUnavailable) if isinstance(error, asyncio.CancelledError) else nullcontext():
            await _finish(invalidations)
        raise
    await _finish(invalidations)


async def _finish(invalidations: Sequence[Invalidation]) -> None:
    begun = _begun(invalidations)
    # Most transactions change nothing that is cached, and settling costs a task.
    if begun:
        await settle(_after_commit(begun))


def _begun(invalidations: Sequence[Invalidation]) -> list[Invalidation]:
    return [invalidation for invalidation in invalidations if invalidation.is_begun]


async def _after_commit(begun: Sequence[Invalidation]) -> None:
    failure: DatabaseUnavailable | None = None
    for invalidation in begun:
        try:
            await invalidation.after_commit()
        except DatabaseUnavailable as error:
            failure = error
    if failure:
        raise failure
