"""PostgreSQL through asyncpg: a bounded pool of connections, every one opened here.

Transactions run at READ COMMITTED. The rules are constraints and conditional updates, which hold there; the two that need
more take a lock first (`sql/locks.postgres.sql`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import asyncpg

from referral.database import (
    ConstraintViolation,
    DatabaseUnavailable,
    Deferred,
    Row,
    TransactionConflict,
    settle,
)
from referral.database.connections import StatementConnection
from referral.database.statements import Statement, load_statements

T = TypeVar("T")

# Connections a worker holds at most. PostgreSQL allows 100 by default, so that nine workers fit.
POOL_SIZE = 10
# Seconds to connect, to wait for a free connection, and for one statement: a client hears within them that a server hangs.
CONNECT_TIMEOUT = 5.0
ACQUIRE_TIMEOUT = 5.0
STATEMENT_TIMEOUT = 5.0
# Seconds for giving a connection up: it may first have to cancel what it still does.
ROLLBACK_TIMEOUT = 2.0
# Seconds between attempts to get a connection from a server that has none to spare.
RECONNECT_PAUSE = 0.05
# A transaction whose worker was stopped in the middle holds its locks no longer than this.
IDLE_TRANSACTION_TIMEOUT = "30s"

# In transactions PostgreSQL chooses: which plan is good for what is due depends on how much that is.
BEGIN = "BEGIN; SET LOCAL plan_cache_mode = auto"

CONFLICTS = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    # A migration by another worker changed what a prepared statement returns; asyncpg prepares it anew.
    asyncpg.InvalidCachedStatementError,
)
# The connection broke or is being broken: by a restart, a fail-over, an administrator.
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    ConnectionError,
)
OUT = (
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    OSError,
)


class PostgresConnection(StatementConnection):
    """A connection of the pool."""

    def __init__(self, raw: Any, statements: Mapping[str, Statement]) -> None:
        super().__init__(statements)
        self._raw = raw

    async def _fetch(self, name: str, parameters: dict[str, Any]) -> Sequence[Row]:
        statement = self._statements[name]
        values = [parameters[key] for key in statement.parameters]
        # Lost before the commit, nothing was changed: the request can be made again on another connection.
        rows: Sequence[Row] = await _ask(
            self._raw, name, lambda: self._raw.fetch(statement.sql, *values), TransactionConflict
        )
        return rows


class PostgresTransaction(PostgresConnection):
    """A connection in a transaction. Deferred statements cost as much as others here, but they run as late as on SQLite, so
    that what reads their values too early fails on both."""

    def __init__(self, raw: Any, statements: Mapping[str, Statement]) -> None:
        super().__init__(raw, statements)
        self._deferred: list[tuple[Deferred, dict[str, Any]]] = []

    def defer(self, name: str, /, **parameters: Any) -> Deferred:
        deferred = Deferred(name)
        self._deferred.append((deferred, parameters))
        return deferred

    async def run_deferred(self) -> None:
        """Run what is deferred. Raises ConstraintViolation or DatabaseUnavailable."""
        waiting, self._deferred = self._deferred, []
        for deferred, parameters in waiting:
            deferred.ran(await super().rows(deferred.name, parameters))

    async def rows(self, name: str, parameters: dict[str, Any]) -> Sequence[Row]:
        await self.run_deferred()
        return await super().rows(name, parameters)


class PostgresDatabase:
    """Reads and transactions take a connection of the pool each; the pool replaces broken ones."""

    def __init__(self, pool: Any, statements: Mapping[str, Statement]) -> None:
        self._pool = pool
        self._statements = statements

    @classmethod
    async def open(cls, url: str, records: Mapping[str, type] | None = None) -> "PostgresDatabase":
        """Open a pool with one connection made. Raises DatabaseUnavailable."""
        statements = load_statements("postgres", records)
        try:
            pool = await asyncpg.create_pool(
                url,
                # With a minimum, asyncpg logs a traceback for every attempt to reach a server that is out.
                min_size=0,
                max_size=POOL_SIZE,
                timeout=CONNECT_TIMEOUT,
                command_timeout=STATEMENT_TIMEOUT,
                reset=_nothing_to_reset,
                server_settings={
                    "application_name": "referral",
                    "idle_in_transaction_session_timeout": IDLE_TRANSACTION_TIMEOUT,
                    # Reads have one good plan each. Left to itself, PostgreSQL takes the biggest referrer's page for so
                    # much that it makes a plan for each, which takes it half as long again.
                    "plan_cache_mode": "force_generic_plan",
                },
            )
            async with pool.acquire():
                pass
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
            raise DatabaseUnavailable(f"cannot connect to PostgreSQL: {_describe(error)}") from error
        return cls(pool, statements)

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[PostgresConnection]:
        async with self._acquired() as raw:
            yield PostgresConnection(raw, self._statements)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresConnection]:
        async with self._acquired() as raw:
            try:
                await settle(_ask(raw, "begin", lambda: raw.execute(BEGIN), TransactionConflict))
                conn = PostgresTransaction(raw, self._statements)
                yield conn
                await conn.run_deferred()
                # Whether a commit that got no answer took place is not known: it is never made again unasked.
                answer = await settle(_ask(raw, "commit", lambda: raw.execute("COMMIT"), DatabaseUnavailable))
                if answer != "COMMIT":
                    raise RuntimeError("a statement failed, its error was ignored, and so nothing was committed")
            except BaseException:
                if not _is_closed(raw) and raw.is_in_transaction():
                    await settle(_roll_back(raw))
                raise

    @asynccontextmanager
    async def _acquired(self) -> AsyncIterator[Any]:
        try:
            raw = await self._acquire()
        except TimeoutError as error:
            raise DatabaseUnavailable(f"no connection within {ACQUIRE_TIMEOUT:.0f} s") from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
            raise DatabaseUnavailable(_describe(error)) from error
        try:
            yield raw
        finally:
            await settle(self._release(raw))

    async def _acquire(self) -> Any:
        clock = asyncio.get_running_loop().time
        end = clock() + ACQUIRE_TIMEOUT
        while True:
            try:
                return await self._pool.acquire(timeout=max(end - clock(), 0))
            except asyncpg.TooManyConnectionsError:
                # The server has none to spare, but one of the pool's may soon be free.
                if clock() > end:
                    raise
                await asyncio.sleep(RECONNECT_PAUSE)

    async def _release(self, raw: Any) -> None:
        # What cannot be released in time, because it was cancelled in a statement and the server hangs, is terminated by
        # asyncpg and replaced. InternalClientError: the connection has just broken, and the pool has taken it back already.
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
            await self._pool.release(raw, timeout=ROLLBACK_TIMEOUT)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


async def _ask(raw: Any, name: str, call: Callable[[], Awaitable[T]], lost: type[Exception]) -> T:
    """Await what `call` asks of the connection, in the statement of this name; `lost` is raised when the connection breaks:
    what that means depends on the step."""
    try:
        return await call()
    except asyncpg.IntegrityConstraintViolationError as error:
        # Not from the error: its detail quotes the row, a password's hash included, and what nobody foresaw is logged.
        raise ConstraintViolation(error.constraint_name or str(error.args[0]), name) from None
    except CONFLICTS as error:
        raise TransactionConflict(str(error)) from error
    except TimeoutError as error:
        # The server may hang, and a rollback would, too. It rolls back by itself what loses its connection.
        _terminate(raw)
        raise DatabaseUnavailable(f"no answer within {STATEMENT_TIMEOUT:.0f} s") from error
    except asyncpg.ReadOnlySQLTransactionError as error:
        # After a fail-over: the former primary keeps its connections, and the address leads to the new one.
        _terminate(raw)
        raise lost(str(error)) from error
    except LOST as error:
        raise lost(f"connection lost: {_describe(error)}") from error
    except asyncpg.InternalClientError as error:
        # The server has ended an idle connection: its message is here, but not yet the connection's end.
        _terminate(raw)
        raise lost(f"connection lost: {error}") from error
    except asyncpg.InterfaceError as error:
        # asyncpg's word for a broken connection and for a call that is wrong in itself, which must look like the bug it is.
        if not _is_closed(raw):
            raise
        raise lost(f"connection lost: {error}") from error
    except OUT as error:
        raise DatabaseUnavailable(_describe(error)) from error


def _is_closed(raw: Any) -> bool:
    try:
        return bool(raw.is_closed())
    except asyncpg.InterfaceError:
        # The pool has taken a broken connection back already.
        return True


def _terminate(raw: Any) -> None:
    if not _is_closed(raw):
        raw.terminate()


async def _roll_back(raw: Any) -> None:
    try:
        await raw.execute("ROLLBACK", timeout=ROLLBACK_TIMEOUT)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        _terminate(raw)


def _describe(error: Exception) -> str:
    return str(error) or type(error).__name__


async def _nothing_to_reset(raw: Any) -> None:
    """asyncpg's own reset is a round trip a request; no statement of this service leaves state behind a transaction."""
