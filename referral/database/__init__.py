"""The interface of every database: connections, transactions, deferred statements, and three errors.

Query functions (`queries/`) know nothing but this module. `sqlite.py` and `postgres.py` implement it, and `opening.py`
chooses between them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aiohttp import web

from referral.config.postgres_url import is_postgres_url
from referral.database.retries import Retries

Row = tuple[Any, ...]
T = TypeVar("T")

R = TypeVar("R")

# Slower than any indexed statement on a healthy disk: worth a line in the log.
SLOW_STATEMENT = 0.25

log = logging.getLogger(__name__)


class ConstraintViolation(Exception):
    """A statement broke a rule of the schema.

    `constraint` is the rule's name, the same on every dialect; `statement` is the name of the statement.
    """

    def __init__(self, constraint: str, statement: str) -> None:
        super().__init__(f"{constraint}, broken by the statement {statement}")
        self.constraint = constraint
        self.statement = statement


class DatabaseUnavailable(Exception):
    """The database cannot be asked now: it is gone, locked, full or read-only. Nothing of the transaction remains."""


class TransactionConflict(DatabaseUnavailable):
    """Another transaction undid this one before its commit. If the transaction is made again, it may succeed."""


class ConnectionLost(TransactionConflict):
    """The connection was lost before the commit. If the transaction is made again, on another connection, it may succeed."""


class Deferred:
    """What a deferred statement returns. Reading it before the statement has run raises RuntimeError, on every dialect."""

    __slots__ = ("_rows", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._rows: Sequence[Row] | None = None

    def ran(self, rows: Sequence[Row]) -> None:
        """The statement has returned these rows."""
        self._rows = rows

    def values(self, kind: type[T]) -> list[T]:
        """The first column of each row."""
        if self._rows is None:
            raise RuntimeError(f"the deferred statement {self.name} has not run yet")
        return [row[0] for row in self._rows]


class Connection(Protocol):
    """A connection as query functions see it. Statements are named in `sql/`, and parameters are given by name.

    A row becomes a `record`, a dataclass or NamedTuple that has one field for each column, by the columns' names. Every
    method raises ConstraintViolation or DatabaseUnavailable.
    """

    async def run(self, name: str, /, **parameters: Any) -> None:
        """Run a statement that returns no rows."""
        ...

    async def one(self, name: str, record: type[R], /, **parameters: Any) -> R | None:
        """The statement's first row."""
        ...

    async def all(self, name: str, record: type[R], /, **parameters: Any) -> list[R]:
        """The statement's rows."""
        ...

    async def page(self, name: str, record: type[R], /, **parameters: Any) -> list[R]:
        """The rows of a SELECT that returns a whole page. It does what `all` does; SQLite's reader fetches the rows at less
        cost."""
        ...

    async def value(self, name: str, kind: type[T], /, **parameters: Any) -> T | None:
        """The first column of the first row; None where there is no row."""
        ...

    async def values(self, name: str, kind: type[T], /, **parameters: Any) -> list[T]:
        """The first column of each row."""
        ...

    async def lock(self, name: str, /, **parameters: Any) -> None:
        """Take a lock, which this transaction holds to its end. It is held when this returns.

        SQLite has nothing to do: a write transaction excludes every other one.
        """
        ...

    def defer(self, name: str, /, **parameters: Any) -> Deferred:
        """Defer a statement: it runs together with the transaction's next statement or, if none follows, with the commit.

        A deferred statement saves a hop to SQLite's thread. It must be a statement that can break no rule, because the
        violation would be raised where another statement is called.
        """
        ...


class Database(Protocol):
    def reader(self) -> AbstractAsyncContextManager[Connection]:
        """A connection for reads outside a transaction."""
        ...

    def snapshot(self) -> AbstractAsyncContextManager[Connection]:
        """A connection for reads that all see one moment, whatever is committed meanwhile."""
        ...

    def replica(self, *, snapshot: bool = False) -> AbstractAsyncContextManager[Connection]:
        """As `reader`, or as `snapshot`, on a standby if there is one that has everything which is committed by now.

        For long reads: it costs two more round trips. Raises TransactionConflict when the standby fails in the middle: made
        again, the read goes to the primary.
        """
        ...

    def transaction(self) -> AbstractAsyncContextManager[Connection]:
        """A connection in a write transaction.

        The transaction is committed when the block ends, and rolled back on any exception, a cancellation included. When
        the block has been left the transaction is over, and durable if it was committed.
        """
        ...

    async def check_writable(self) -> None:
        """Raises DatabaseUnavailable when the database, or the disk below it, takes no writes. This writes nothing itself;
        what only a write can find out, `write_failed` says."""
        ...

    @property
    def write_failed(self) -> bool:
        """Whether the latest commit failed for want of space, or because the disk took nothing."""
        ...

    async def purge(self) -> None:
        """See to it that what was deleted leaves the disk, as far as this is the service's to do. Raises
        DatabaseUnavailable."""
        ...

    async def close(self) -> None: ...


DATABASE = web.AppKey("database", Database)


def is_postgres(url: str) -> bool:
    return is_postgres_url(url)


def sqlite_path(url: str) -> Path:
    """The file of a `sqlite:///relative` or `sqlite:////absolute` URL, as SQLAlchemy and yoyo write them."""
    return Path(url.removeprefix("sqlite:///")).absolute()


async def committed(database: Database, change: Callable[[Connection], Awaitable[T]]) -> T:
    """What `change` returns, made in one transaction; it is called again if another transaction undid it. Raises
    TransactionConflict when that goes on for RETRY_FOR seconds."""
    retries = Retries()
    while True:
        try:
            async with database.transaction() as conn:
                return await change(conn)
        except TransactionConflict:
            if not await retries.pause():
                raise


async def read_from_replica(database: Database, read: Callable[[Connection], Awaitable[T]]) -> T:
    """What `read` returns, from a standby or, if that fails in the middle, from the primary. For what is part of an answer
    that cannot be made again as a whole."""
    try:
        async with database.replica() as conn:
            return await read(conn)
    except TransactionConflict:
        async with database.reader() as conn:
            return await read(conn)


async def settle(awaitable: Awaitable[T]) -> T:
    """Await to the end, even if the caller is cancelled meanwhile; only then let the cancellation go on."""
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
    """Log the name of a statement that took longer than SLOW_STATEMENT since `started` (perf_counter). Values of parameters
    are never logged."""
    seconds = time.perf_counter() - started
    if seconds > SLOW_STATEMENT:
        log.warning("slow statement %s: %.0f ms (parameters %s)", name, seconds * 1000, ", ".join(parameters))
