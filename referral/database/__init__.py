"""Databases behind one small interface: `open_database(url)`, reads, transactions, and three errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aiohttp import web

Row = tuple[Any, ...]
T = TypeVar("T")

# Slower than any indexed statement on a healthy disk: worth a line in the log.
SLOW_STATEMENT = 0.25

log = logging.getLogger(__name__)


class ConstraintViolation(Exception):
    """A statement broke a rule of the schema; `constraint` is the rule's name, the same on every dialect."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint


class DatabaseUnavailable(Exception):
    """The database cannot be asked now (gone, locked, full, read-only); nothing of the transaction remains."""


class TransactionConflict(DatabaseUnavailable):
    """Another transaction, or the loss of a connection, undid this one before its commit: made again, it may succeed."""


class Connection(Protocol):
    """What a query function gets. Statements are named in `sql/`; parameters are given by name."""

    async def all(self, name: str, /, **parameters: Any) -> Sequence[Row]:
        """Run the statement and return its rows. Raises ConstraintViolation or DatabaseUnavailable."""
        ...

    async def one(self, name: str, /, **parameters: Any) -> Row | None:
        """As `all`, and return the first row."""
        ...

    async def later(self, name: str, /, **parameters: Any) -> Sequence[Row]:
        """Run the statement with the transaction's next one, which raises what it raises; the list that is returned is
        filled by then. That saves it a hop to SQLite's thread. What no statement of the transaction follows is run with the
        commit, on SQLite with that of several transactions, all of which fail with it: it must break no rule."""
        ...


class Database(Protocol):
    def reader(self) -> AbstractAsyncContextManager[Connection]:
        """A connection for reads outside a transaction."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A connection in a write transaction: committed when the block ends, rolled back on any exception,
        a cancellation included. When the block has been left, the transaction is over, durably so if it was committed."""
        ...

    async def close(self) -> None: ...


DATABASE = web.AppKey("database", Database)


async def open_database(url: str) -> Database:
    """Open the migrated database at `url`. Raises DatabaseUnavailable when that cannot be done."""
    # Imported where they are needed: one installation uses one of them.
    if is_postgres(url):
        from referral.database.postgres import PostgresDatabase

        return await PostgresDatabase.open(url)
    from referral.database.sqlite import SQLiteDatabase

    return await SQLiteDatabase.open(sqlite_path(url))


def is_postgres(url: str) -> bool:
    return url.startswith("postgresql:")


def sqlite_path(url: str) -> Path:
    """The file of a `sqlite:///relative` or `sqlite:////absolute` URL, as SQLAlchemy and yoyo write them."""
    return Path(url.removeprefix("sqlite:///")).absolute()


async def settle(awaitable: Awaitable[T]) -> T:
    """Await to the end, even if the caller is cancelled meanwhile, and only then be cancelled."""
    task = asyncio.ensure_future(awaitable)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except BaseException:
            break
    if cancelled:
        if not task.cancelled() and task.exception():
            log.warning("failed while being cancelled", exc_info=task.exception())
        raise cancelled
    return task.result()


def log_if_slow(name: str, started: float, parameters: Mapping[str, Any]) -> None:
    """Name a statement that took longer than SLOW_STATEMENT since `started` (perf_counter); never its values."""
    seconds = time.perf_counter() - started
    if seconds > SLOW_STATEMENT:
        log.warning("slow statement %s: %.0f ms (parameters %s)", name, seconds * 1000, ", ".join(parameters))
