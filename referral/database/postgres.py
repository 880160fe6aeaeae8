"""PostgreSQL through asyncpg: a bounded pool of connections, each of which is opened here.

Transactions run at READ COMMITTED. The rules of the programme are constraints and conditional updates, which hold at that
level; the two rules that need more take a lock first (`sql/locks.postgres.sql`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, NamedTuple, TypeVar

import asyncpg

from referral.database import (
    ConnectionLost,
    ConstraintViolation,
    DatabaseUnavailable,
    Deferred,
    Row,
    TransactionConflict,
    settle,
)
from referral.database.connections import StatementConnection
from referral.database.joining import joinable, joined, prefixed
from referral.database.postgres_connecting import IDLE_TRANSACTION_TIMEOUT, Connector, PostgresClient
from referral.database.postgres_standby import WRITTEN, Standby
from referral.database.statements import Statement, load_statements

T = TypeVar("T")

# Connections of whoever does not say how many, such as a command.
POOL_SIZE = 10
# Seconds to wait for a free connection, for one statement, and to close the pool. A client learns that a server hangs within
# these.
ACQUIRE_TIMEOUT = 5.0
STATEMENT_TIMEOUT = 5.0
CLOSE_TIMEOUT = 5.0
# Seconds for a statement on a standby; after that the primary is asked.
STANDBY_TIMEOUT = 2.0
# Seconds to release a connection, which may first have to cancel a statement.
ROLLBACK_TIMEOUT = 2.0
# Seconds between attempts to get a connection from a server that has none to spare.
RECONNECT_PAUSE = 0.05

# The level is said, because a database or a role may have another default: at SERIALIZABLE most of what happens at once
# would fail.
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# In transactions PostgreSQL chooses the plan: for a queue, the good plan depends on how much is due.
PLANS = "; SET LOCAL plan_cache_mode = auto"
# Behind a pooler nothing is set for the session.
TIMEOUT = f"; SET LOCAL idle_in_transaction_session_timeout = '{IDLE_TRANSACTION_TIMEOUT}'"

IS_READ_ONLY = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean"

CONFLICTS = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    # A migration by another worker changed what a prepared statement returns; asyncpg prepares it anew.
    asyncpg.InvalidCachedStatementError,
)
# A migration changed the parameters or columns of a statement that has no name: what was known of it is no more true.
CHANGED = (asyncpg.InvalidBinaryRepresentationError, asyncpg.ProtocolError, BufferError, AssertionError)
# The server hangs, or is no more the one that takes writes: another one may be by now, to which new connections lead.
ASTRAY = (TimeoutError, asyncpg.ReadOnlySQLTransactionError)
# The connection broke or is being broken: by a restart, a fail-over, an administrator.
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    ConnectionError,
)
OUT = (
    asyncpg.InsufficientPrivilegeError,
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
        return await self._ask_for(self._statements[name], name, parameters)

    async def _ask_for(self, statement: Statement, name: str, parameters: Mapping[str, Any]) -> Sequence[Row]:
        values = [parameters[key] for key in statement.parameters]
        # A connection that is lost before the commit has changed nothing: the request can be made again on another one.
        rows: Sequence[Row] = await _ask(self._raw, name, lambda: self._raw.fetch(statement.sql, *values), ConnectionLost)
        return rows


class _Step(NamedTuple):
    """A statement of a transaction, with its parameters; a deferred one has somebody to tell."""

    name: str
    parameters: dict[str, Any]
    deferred: Deferred | None = None


class PostgresTransaction(PostgresConnection):
    """A connection in a transaction.

    Deferred statements run as late as on SQLite, in one round trip with the statement behind them wherever that can be
    (`joining.py`).
    """

    def __init__(self, raw: Any, statements: Mapping[str, Statement]) -> None:
        super().__init__(raw, statements)
        self._deferred: list[_Step] = []

    async def lock(self, name: str, /, **parameters: Any) -> None:
        await self.run(name, **parameters)

    def defer(self, name: str, /, **parameters: Any) -> Deferred:
        deferred = Deferred(name)
        self._deferred.append(_Step(name, parameters, deferred))
        return deferred

    async def run_deferred(self) -> None:
        """Run what is deferred. Raises ConstraintViolation or DatabaseUnavailable."""
        waiting, self._deferred = self._deferred, []
        await self._run(waiting)

    async def rows(self, name: str, parameters: dict[str, Any]) -> Sequence[Row]:
        waiting, self._deferred = self._deferred, []
        return await self._run([*waiting, _Step(name, parameters)])

    async def _run(self, steps: Sequence[_Step]) -> Sequence[Row]:
        """Run the steps in their order, but for those that can be joined, and return the rows of the last one."""
        rows: Sequence[Row] = ()
        together: list[_Step] = []
        for step in steps:
            statement = self._statements[step.name]
            if not all(joinable(self._statements[other.name], statement) for other in together):
                rows = await self._run_together(together)
                together = []
            together.append(step)
        return await self._run_together(together) if together else rows

    async def _run_together(self, steps: Sequence[_Step]) -> Sequence[Row]:
        last = steps[-1]
        if len(steps) == 1:
            rows = await super().rows(last.name, last.parameters)
        else:
            statement = joined(tuple(self._statements[step.name] for step in steps))
            parameters = {
                prefixed(number, name): value for number, step in enumerate(steps) for name, value in step.parameters.items()
            }
            names = " and ".join(step.name for step in steps)
            rows = await self._timed(names, parameters, self._ask_for(statement, names, parameters))
        for step in steps:
            if step.deferred is not None:
                step.deferred.ran(rows if step is last else ())
        return rows


class PostgresDatabase:
    """Reads and transactions take a connection of the pool each; the pool replaces broken ones."""

    def __init__(self, pool: Any, connector: Connector, statements: Mapping[str, Statement]) -> None:
        self._pool = pool
        self._connector = connector
        self._standby: Standby | None = None
        self._standbys: PostgresDatabase | None = None
        self._statements = statements
        self.write_failed = False

    @classmethod
    async def open(
        cls,
        url: str,
        records: Mapping[str, type] | None = None,
        *,
        replica_url: str = "",
        pool_size: int = POOL_SIZE,
        pooler_keeps_statements: bool = False,
    ) -> "PostgresDatabase":
        """Open a pool of so many connections at most, with one made, and another one of the standby at `replica_url`, which
        may be out. `pooler_keeps_statements` says that a pooler in between keeps named statements for each of its clients.
        Raises DatabaseUnavailable."""
        statements = load_statements("postgres", records)
        try:
            connector = Connector(url, keeps_statements=pooler_keeps_statements)
            pool = await _open_pool(connector, pool_size, STATEMENT_TIMEOUT)
            async with pool.acquire():
                pass
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
            raise DatabaseUnavailable(f"cannot connect to PostgreSQL: {_describe(error)}") from error
        database = cls(pool, connector, statements)
        if replica_url:
            connector = Connector(replica_url, keeps_statements=pooler_keeps_statements, target="standby")
            database._standbys = cls(await _open_pool(connector, pool_size, STANDBY_TIMEOUT), connector, statements)
            database._standby = Standby(database._standbys._acquired, database._written)
        return database

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[PostgresConnection]:
        async with self._acquired() as raw:
            yield PostgresConnection(raw, self._statements)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[PostgresConnection]:
        async with self._acquired() as raw, self._snapshot_on(raw) as conn:
            yield conn

    @asynccontextmanager
    async def replica(self, *, snapshot: bool = False) -> AsyncIterator[PostgresConnection]:
        async with AsyncExitStack() as stack:
            raw = None if self._standby is None else await stack.enter_async_context(self._standby.connection())
            if self._standby is None or raw is None:
                yield await stack.enter_async_context(self.snapshot() if snapshot else self.reader())
                return
            try:
                if snapshot:
                    yield await stack.enter_async_context(self._snapshot_on(raw))
                else:
                    yield PostgresConnection(raw, self._statements)
            except DatabaseUnavailable as error:
                self._standby.failed(error)
                raise TransactionConflict(f"the standby: {error}") from error.__cause__ or error

    @asynccontextmanager
    async def _snapshot_on(self, raw: Any) -> AsyncIterator[PostgresConnection]:
        try:
            await settle(_ask(raw, "begin", lambda: raw.execute(SNAPSHOT + TIMEOUT * raw.is_pooled), ConnectionLost))
            yield PostgresConnection(raw, self._statements)
        finally:
            if not _is_closed(raw) and raw.is_in_transaction():
                await settle(_roll_back(raw))

    async def _written(self) -> tuple[str, str, str] | None:
        async with self._acquired() as raw:
            found = await _ask(raw, "written", lambda: raw.fetchrow(WRITTEN), ConnectionLost)
        return tuple(found) if found else None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresConnection]:
        async with self._acquired() as raw:
            try:
                await settle(
                    _ask(raw, "begin", lambda: raw.execute(BEGIN + (TIMEOUT if raw.is_pooled else PLANS)), ConnectionLost)
                )
                conn = PostgresTransaction(raw, self._statements)
                yield conn
                await conn.run_deferred()
                # Nobody knows whether a commit without an answer took place: it is never repeated unasked.
                answer = await settle(_ask(raw, "commit", lambda: raw.execute("COMMIT"), DatabaseUnavailable))
                self.write_failed = False
                if answer != "COMMIT":
                    raise RuntimeError("a statement failed, its error was ignored, and so nothing was committed")
            except BaseException as error:
                if isinstance(error.__cause__, asyncpg.DiskFullError):
                    self.write_failed = True
                if not _is_closed(raw) and raw.is_in_transaction():
                    await settle(_roll_back(raw))
                raise

    async def check_writable(self) -> None:
        async with self._acquired() as raw:
            if await _ask(raw, "is_read_only", lambda: raw.fetchval(IS_READ_ONLY), DatabaseUnavailable):
                await self._look_elsewhere(raw.host)
                raise DatabaseUnavailable(
                    "PostgreSQL takes no writes here: it is a standby, or its transactions are read-only"
                )

    @asynccontextmanager
    async def _acquired(self) -> AsyncIterator[Any]:
        try:
            raw = await self._acquire()
        except TimeoutError as error:
            raise DatabaseUnavailable(f"no connection within {ACQUIRE_TIMEOUT:.0f} s") from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
            raise DatabaseUnavailable(_describe(error)) from error
        host = raw.host
        try:
            yield raw
        except DatabaseUnavailable as error:
            if isinstance(error.__cause__, ASTRAY):
                await self._look_elsewhere(host)
            raise
        finally:
            await settle(self._release(raw))

    async def _look_elsewhere(self, host: Any) -> None:
        """Replace every connection of the pool before it is used again: they lead to the same server as this one."""
        self._connector.look_elsewhere(host)
        await self._pool.expire_connections()

    async def _acquire(self) -> Any:
        clock = asyncio.get_running_loop().time
        end = clock() + ACQUIRE_TIMEOUT
        while True:
            try:
                return await self._pool.acquire(timeout=max(end - clock(), 0))
            except asyncpg.TooManyConnectionsError:
                # The server takes no more connections, but one of the pool's may soon be free.
                if clock() > end:
                    raise
                await asyncio.sleep(RECONNECT_PAUSE)

    async def _release(self, raw: Any) -> None:
        # A connection that cannot be released in time is terminated and replaced by asyncpg: it was cancelled in a statement
        # while the server hangs. InternalClientError: the connection has just broken, and the pool has taken it back.
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
            await self._pool.release(raw, timeout=ROLLBACK_TIMEOUT)

    async def purge(self) -> None:
        """Nothing: VACUUM, which PostgreSQL runs by itself, and the retention of its log are the operator's."""

    async def close(self) -> None:
        if self._standby is not None and self._standbys is not None:
            await self._standby.close()
            await self._standbys.close()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


async def _open_pool(connector: Connector, size: int, timeout: float) -> Any:
    """A pool of so many connections at most, none of which is made, and the seconds for each statement."""
    return await asyncpg.create_pool(
        connect=connector.connect,
        connection_class=PostgresClient,
        # With a minimum, asyncpg logs a traceback for every attempt to reach a server that is out.
        min_size=0,
        max_size=size,
        command_timeout=timeout,
        reset=_nothing_to_reset,
    )


async def _ask(raw: Any, name: str, call: Callable[[], Awaitable[T]], lost: type[Exception]) -> T:
    """Await what `call` asks of the connection, and translate its errors; `name` is that of the statement.

    `lost` is raised when the connection breaks, because what that means depends on the step: before the commit nothing was
    changed, and at the commit nobody knows.
    """
    try:
        return await call()
    except asyncpg.IntegrityConstraintViolationError as error:
        # The error must not be chained: its detail quotes the row, a password's hash included, and might be logged.
        raise ConstraintViolation(error.constraint_name or str(error.args[0]), name) from None
    except CONFLICTS as error:
        raise TransactionConflict(str(error)) from error
    except CHANGED as error:
        if not _forget_statements(raw):
            raise
        _terminate(raw)
        raise TransactionConflict(f"{name} has changed: {error}") from error
    except TimeoutError as error:
        # If the server hangs, a rollback would hang, too. The server itself rolls back what has lost its connection.
        _terminate(raw)
        raise DatabaseUnavailable(f"no answer within {STATEMENT_TIMEOUT:.0f} s") from error
    except asyncpg.ReadOnlySQLTransactionError as error:
        # After a fail-over the former primary keeps its connections; a new connection leads to the new primary.
        _terminate(raw)
        raise lost(str(error)) from error
    except LOST as error:
        if isinstance(error, asyncpg.ProtocolViolationError):
            # PostgreSQL may say so of a parameter that a migration has changed.
            _forget_statements(raw)
        raise lost(f"connection lost: {_describe(error)}") from error
    except asyncpg.InternalClientError as error:
        # The server is ending an idle connection: its message has arrived, the connection's end has not.
        _terminate(raw)
        raise lost(f"connection lost: {error}") from error
    except asyncpg.InterfaceError as error:
        # asyncpg raises this for a broken connection, and for a wrong call, which is a bug and must look like one.
        if not _is_closed(raw):
            raise
        raise lost(f"connection lost: {error}") from error
    except OUT as error:
        raise DatabaseUnavailable(_describe(error)) from error


def _forget_statements(raw: Any) -> bool:
    """Forget what is known of statements without names; returns whether the connection's have none."""
    # The pool may already have taken the broken connection back.
    if not getattr(raw, "is_pooled", False):
        return False
    raw.described.clear()
    return True


def _is_closed(raw: Any) -> bool:
    try:
        return bool(raw.is_closed())
    except asyncpg.InterfaceError:
        # The pool has already taken the broken connection back.
        return True


def _terminate(raw: Any) -> None:
    if not _is_closed(raw):
        raw.terminate()


async def _roll_back(raw: Any) -> None:
    # Whatever fails here, the server rolls back what has lost its connection.
    try:
        await raw.execute("ROLLBACK", timeout=ROLLBACK_TIMEOUT)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
        _terminate(raw)


def _describe(error: Exception) -> str:
    return str(error) or type(error).__name__


async def _nothing_to_reset(raw: Any) -> None:
    """Replaces asyncpg's reset, which costs a round trip a request. No statement of this service leaves state behind its
    transaction."""
