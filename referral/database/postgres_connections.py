"""A connection of the pool as query functions see it, in a transaction or outside of one, and what its errors mean."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import asyncpg

from referral.database import ConnectionLost, ConstraintViolation, DatabaseUnavailable, Deferred, Row, TransactionConflict
from referral.database.connections import StatementConnection
from referral.database.joining import joinable, joined, prefixed
from referral.database.statements import Statement

T = TypeVar("T")

# Seconds for one statement. A client learns that a server hangs within these.
STATEMENT_TIMEOUT = 5.0
# Seconds to roll back, and to release a connection, which may first have to cancel a statement.
ROLLBACK_TIMEOUT = 2.0

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
        rows: Sequence[Row] = await ask(self._raw, name, lambda: self._raw.fetch(statement.sql, *values), ConnectionLost)
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


async def ask(raw: Any, name: str, call: Callable[[], Awaitable[T]], lost: type[Exception]) -> T:
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
        terminate(raw)
        raise TransactionConflict(f"{name} has changed: {error}") from error
    except TimeoutError as error:
        # If the server hangs, a rollback would hang, too. The server itself rolls back what has lost its connection.
        terminate(raw)
        raise DatabaseUnavailable(f"no answer within {STATEMENT_TIMEOUT:.0f} s") from error
    except asyncpg.ReadOnlySQLTransactionError as error:
        # After a fail-over the former primary keeps its connections; a new connection leads to the new primary.
        terminate(raw)
        raise lost(str(error)) from error
    except LOST as error:
        if isinstance(error, asyncpg.ProtocolViolationError):
            # PostgreSQL may say so of a parameter that a migration has changed.
            _forget_statements(raw)
        raise lost(f"connection lost: {describe(error)}") from error
    except asyncpg.InternalClientError as error:
        # The server is ending an idle connection: its message has arrived, the connection's end has not.
        terminate(raw)
        raise lost(f"connection lost: {error}") from error
    except asyncpg.InterfaceError as error:
        # asyncpg raises this for a broken connection, and for a wrong call, which is a bug and must look like one.
        if not is_closed(raw):
            raise
        raise lost(f"connection lost: {error}") from error
    except OUT as error:
        raise DatabaseUnavailable(describe(error)) from error


def _forget_statements(raw: Any) -> bool:
    """Forget what is known of statements without names; returns whether the connection's have none."""
    if not is_pooled(raw):
        return False
    raw.described.clear()
    return True


def is_pooled(raw: Any) -> bool:
    """Whether a pooler is behind the connection. Of one that has broken, which the pool has taken back, nobody knows."""
    return getattr(raw, "is_pooled", False)


def is_closed(raw: Any) -> bool:
    try:
        return bool(raw.is_closed())
    except asyncpg.InterfaceError:
        # The pool has already taken the broken connection back.
        return True


def terminate(raw: Any) -> None:
    if not is_closed(raw):
        raw.terminate()


async def roll_back(raw: Any) -> None:
    # Whatever fails here, the server rolls back what has lost its connection.
    try:
        await raw.execute("ROLLBACK", timeout=ROLLBACK_TIMEOUT)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
        terminate(raw)


def describe(error: Exception) -> str:
    return str(error) or type(error).__name__
