"""What is kept at hand of the database, and the transactions that change it.

The rule: once a request that changed something has been answered, no worker takes for true what was before.
"""

import asyncio
from contextlib import nullcontext, suppress
from typing import Protocol, Self

from referral.database import Connection, DatabaseUnavailable, TransactionConflict, settle
from referral.ids import new_id


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
    """What a transaction changes of what somebody keeps; a context around the transaction.

    The end is seen to whether it was committed or not: a request that is cancelled in the middle of the commit cannot know.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        # Hexadecimal, and of no other change of any worker. Not from os.urandom, which lets go of Python's lock and waits
        # for it again behind SQLite's thread.
        self._name = new_id().replace("-", "")
        self._keys: set[str] = set()
        self._told = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._keys:
            # No failure takes the place of a cancellation.
            with suppress(DatabaseUnavailable) if isinstance(error, asyncio.CancelledError) else nullcontext():
                await settle(self._finish())

    async def add(self, conn: Connection, *keys: str) -> None:
        """Say, before the commit, that the transaction of `conn` changes what these keys stand for."""
        fresh = set(keys) - self._keys
        if fresh:
            self._keys |= fresh
            self._told = await self._keeper.before_commit(conn, self._name, fresh) and self._told

    async def _finish(self) -> None:
        try:
            await self._keeper.after_commit(self._name, self._keys, told=self._told)
        except TransactionConflict as error:
            # Of the keeper's own transaction: the request's is over, and must not be made again.
            raise DatabaseUnavailable(str(error)) from error
