"""What is kept at hand of the database, and the transactions that change it.

The rule: once a request that changed something has been answered, no worker takes for true what was before.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from referral.database import Connection, DatabaseUnavailable, TransactionConflict, settle


class Keeper(Protocol):
    """Keeps something of the database that transactions change, under keys."""

    async def before_commit(self, conn: Connection, change: str, keys: set[str]) -> bool:
        """Within the transaction that changes what these keys stand for; `change` is its name. False when the other workers
        could not be told of it, and the transaction now says so to all of them instead."""
        ...

    async def after_commit(self, change: str, keys: set[str], *, told: bool) -> None:
        """When that transaction is over: from here on, nothing of what was before is taken for true anywhere."""
        ...


class Changes:
    """What a transaction changes of what somebody keeps."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._name = secrets.token_hex(8)
        self._keys: set[str] = set()
        self._told = True

    async def add(self, conn: Connection, *keys: str) -> None:
        """Say, before the commit, that the transaction of `conn` changes what these keys stand for."""
        fresh = set(keys) - self._keys
        if fresh:
            self._keys |= fresh
            self._told = await self._keeper.before_commit(conn, self._name, fresh) and self._told

    async def finish(self) -> None:
        """Call when the transaction is over, however it ended. Raises DatabaseUnavailable."""
        keys, self._keys = self._keys, set()
        if keys:
            try:
                await self._keeper.after_commit(self._name, keys, told=self._told)
            except TransactionConflict as error:
                # Of the keeper's own transaction: the request's is over, and must not be made again.
                raise DatabaseUnavailable(str(error)) from error


@asynccontextmanager
async def changing(keeper: Keeper) -> AsyncIterator[Changes]:
    """Around a transaction, to be told what it changes of what is kept. The end is seen to whether it was committed or not:
    a request that is cancelled in the middle of the commit cannot know."""
    changes = Changes(keeper)
    try:
        yield changes
    except asyncio.CancelledError:
        # No failure takes its place.
        with suppress(DatabaseUnavailable):
            await settle(changes.finish())
        raise
    finally:
        await settle(changes.finish())
