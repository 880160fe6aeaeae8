"""PostgreSQL through asyncpg: a bounded pool of connections, each of which is opened here.

Transactions run at READ COMMITTED. The rules of the programme are constraints and conditional updates, which hold at that
level; the two rules that need more take a lock first (`sql/locks.postgres.sql`).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar

import asyncpg

from referral.database import (
    ConnectionLost,
    DatabaseUnavailable,
    TransactionConflict,
    settle,
)
from referral.database.postgres_connecting import IDLE_TRANSACTION_TIMEOUT, Connector, PostgresClient
from referral.database.postgres_connections import (
    ASTRAY,
    ROLLBACK_TIMEOUT,
    STATEMENT_TIMEOUT,
    PostgresConnection,
    PostgresTransaction,
    ask,
    describe,
    is_closed,
    is_pooled,
    roll_back,
)
from referral.database.postgres_standby import WRITTEN, Standby
from referral.database.statements import Statement, load_statements

T = TypeVar("T")

# Connections of whoever does not say how many, such as a command.
POOL_SIZE = 10
# Seconds to wait for a free connection, and to close the pool.
ACQUIRE_TIMEOUT = 5.0
CLOSE_TIMEOUT = 5.0
# Seconds for a statement on a standby; after that the primary is asked.
STANDBY_TIMEOUT = 2.0
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
            raise DatabaseUnavailable(f"cannot connect to PostgreSQL: {describe(error)}") from error
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
            await settle(ask(raw, "begin", lambda: raw.execute(SNAPSHOT + TIMEOUT * is_pooled(raw)), ConnectionLost))
            yield PostgresConnection(raw, self._statements)
        finally:
            if not is_closed(raw) and raw.is_in_transaction():
                await settle(roll_back(raw))

    async def _written(self) -> tuple[str, str, str] | None:
        async with self._acquired() as raw:
            found = await ask(raw, "written", lambda: raw.fetchrow(WRITTEN), ConnectionLost)
        return tuple(found) if found else None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresConnection]:
        async with self._acquired() as raw:
            try:
                await settle(
                    ask(raw, "begin", lambda: raw.execute(BEGIN + (TIMEOUT if is_pooled(raw) else PLANS)), ConnectionLost)
                )
                conn = PostgresTransaction(raw, self._statements)
                yield conn
                await conn.run_deferred()
                # Nobody knows whether a commit without an answer took place: it is never repeated unasked.
                answer = await settle(ask(raw, "commit", lambda: raw.execute("COMMIT"), DatabaseUnavailable))
                self.write_failed = False
                if answer != "COMMIT":
                    raise RuntimeError("a statement failed, its error was ignored, and so nothing was committed")
            except BaseException as error:
                if isinstance(error.__cause__, asyncpg.DiskFullError):
                    self.write_failed = True
                if not is_closed(raw) and raw.is_in_transaction():
                    await settle(roll_back(raw))
                raise

    async def check_writable(self) -> None:
        async with self._acquired() as raw:
            if await ask(raw, "is_read_only", lambda: raw.fetchval(IS_READ_ONLY), DatabaseUnavailable):
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
            raise DatabaseUnavailable(describe(error)) from error
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


async def _nothing_to_reset(raw: Any) -> None:
    """Replaces asyncpg's reset, which costs a round trip a request. No statement of this service leaves state behind its
    transaction."""
