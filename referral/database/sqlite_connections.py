"""SQLite's two connections. Each runs its statements in a thread of its own.

The hop to that thread and back is most of a statement's cost. Statements therefore share hops: the reader's with whatever
else is asked for at the same time, the writer's with the beginning and the end of transactions and with deferred
statements.
"""

import asyncio
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import aiosqlite
import orjson

from referral.database import ConstraintViolation, DatabaseUnavailable, Deferred, Row, settle
from referral.database.connections import StatementConnection
from referral.database.statements import Statement, builder_of

R = TypeVar("R")
T = TypeVar("T")


class SQLiteConnection(StatementConnection):
    """A connection whose statements run one by one, in a thread of its own."""

    def __init__(self, raw: aiosqlite.Connection, statements: Mapping[str, Statement]) -> None:
        super().__init__(statements)
        self.raw = raw

    async def _in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Call `work` in the connection's thread and return its result. aiosqlite has no public way to run several
        statements in one hop."""
        result: T = await self.raw._execute(lambda: work(self.raw._conn))  # type: ignore[no-untyped-call]
        return result


@dataclass(eq=False, slots=True)
class Writing:
    """One transaction of the writer.

    Each transaction has a savepoint until the commit. If one of its deferred statements fails after it has ended, the
    savepoint lets it be undone without the others that share the commit; `failure` then holds the statement's name and
    SQLite's error.
    """

    failure: tuple[str, Exception] | None = None


@dataclass(eq=False, slots=True)
class Step:
    """A statement on its way to the writer's thread. `owner` is the transaction that it belongs to; None for BEGIN and
    COMMIT, which belong to all that share the commit."""

    name: str
    sql: str
    parameters: dict[str, Any] = field(default_factory=dict)
    owner: Writing | None = None
    rows: list[Row] = field(default_factory=list)
    deferred: Deferred | None = None


BEGIN, COMMIT = "BEGIN IMMEDIATE", "COMMIT"
# Primary result codes of SQLite that say so.
DISK_REFUSED = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
SAVE, UNDO, RELEASE = "SAVEPOINT writing", "ROLLBACK TO writing", "RELEASE writing"


class StepFailed(Exception):
    """A step failed, and the transaction that took the hop has to hear of it: the step's name, and SQLite's error."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(name, error)
        self.name = name
        self.error = error


class SQLiteWriter(SQLiteConnection):
    """The connection for transactions.

    It pipelines: BEGIN, savepoints and deferred statements wait (`_ahead`) until a statement has to hop to the thread
    anyway, which may be the first statement of the next transaction.
    """

    def __init__(self, raw: aiosqlite.Connection, statements: Mapping[str, Statement], indexes: dict[str, str]) -> None:
        super().__init__(raw, statements)
        self._indexes = indexes
        self._ahead: list[Step] = []
        self._writing = Writing()
        # Why SQLite rolled the open transaction back by itself, if it did.
        self._undone_by: StepFailed | None = None
        # Whether the disk took the latest commit.
        self.write_failed = False

    def begin(self, *, joins: bool) -> Writing:
        """Begin a transaction. One that `joins` is committed together with those that have ended since the last commit."""
        if not joins:
            self._undone_by = None
            self._ahead.append(Step("begin", BEGIN))
        self._writing = Writing()
        self._ahead.append(Step("savepoint", SAVE, owner=self._writing))
        return self._writing

    async def lock(self, name: str, /, **parameters: Any) -> None:
        """Nothing: BEGIN IMMEDIATE locks the whole database, before the first statement of the transaction runs."""

    def defer(self, name: str, /, **parameters: Any) -> Deferred:
        deferred = Deferred(name)
        self._ahead.append(Step(name, self._statements[name].sql, parameters, self._writing, deferred=deferred))
        return deferred

    def end(self) -> None:
        """End the transaction and leave its commit to whoever commits for all."""
        self._ahead.append(Step("release", RELEASE, owner=self._writing))

    async def commit(self) -> None:
        """Commit everything that was done since the last commit. Raises StepFailed."""
        if [step.sql for step in self._ahead] == [BEGIN, SAVE]:
            # Nothing was done, and so nothing has even begun.
            self._ahead.clear()
        else:
            await self._run(Step("commit", COMMIT))

    async def undo(self, *, joined: bool) -> None:
        """Undo the transaction. One that joined others is undone to its savepoint; any other is rolled back."""
        begun = not any(step.sql is SAVE and step.owner is self._writing for step in self._ahead)
        # Steps of transactions that have ended stay.
        self._ahead = [step for step in self._ahead if joined and step.owner is not self._writing]
        if begun and self.raw.in_transaction:
            await settle(self._in_thread(_undo if joined else _roll_back))

    async def roll_back(self) -> None:
        """Roll back everything that is not committed."""
        self._ahead.clear()
        await settle(self._in_thread(_roll_back))

    async def checkpoint(self) -> bool:
        """Empty the log, unless somebody reads it. No transaction may be open. Raises DatabaseUnavailable."""
        try:
            return await settle(self._in_thread(_checkpoint))
        except sqlite3.Error as error:
            raise _unavailable("checkpoint", error) from error

    async def _fetch(self, name: str, parameters: dict[str, Any]) -> Sequence[Row]:
        step = Step(name, self._statements[name].sql, parameters, self._writing)
        try:
            await self._run(step)
        except StepFailed as failed:
            raise self.translated(failed.name, failed.error) from failed.error
        return step.rows

    async def _run(self, step: Step) -> None:
        """Take this step after those that are ahead of it. Raises StepFailed.

        When this returns or raises, the thread is done with the steps, also after a cancellation.
        """
        steps, self._ahead = (*self._ahead, step), []
        try:
            # A full disk makes SQLite roll back by itself: what comes after must not be committed without what came before.
            if steps[0].sql is not BEGIN and not self.raw.in_transaction:
                raise self._undone_by or StepFailed(step.name, sqlite3.OperationalError("the transaction was undone"))
            await self._in_thread(partial(_in_turn, steps, step.owner))
            if step.sql is COMMIT:
                self.write_failed = False
        except StepFailed as failed:
            if getattr(failed.error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF in DISK_REFUSED:
                self.write_failed = True
            if not self.raw.in_transaction:
                self._undone_by = failed
            raise
        except asyncio.CancelledError:
            # The thread works in order: when this has run, the steps have, too.
            await settle(self._in_thread(bool))
            raise

    def translated(self, name: str, error: Exception) -> Exception:
        """Translate SQLite's error in the statement of this name into one of the three errors of `database/`."""
        if not isinstance(error, sqlite3.IntegrityError):
            return _unavailable(name, error)
        kind, _, subject = str(error).partition(" constraint failed")
        subject = subject.removeprefix(": ")
        return ConstraintViolation(self._indexes.get(subject, subject) if kind == "UNIQUE" else subject or kind, name)


def _in_turn(steps: Sequence[Step], current: Writing | None, connection: sqlite3.Connection) -> None:
    """Take the steps one after the other; this runs in the writer's thread.

    If the step of a transaction that has already ended fails, that transaction is undone and the rest goes on. Every other
    failure is raised as StepFailed.
    """
    for step in steps:
        owner = step.owner
        if owner is not None and owner.failure is not None:
            continue
        try:
            step.rows.extend(connection.execute(step.sql, step.parameters).fetchall())
        except Exception as error:
            if owner is not None and owner is not current:
                owner.failure = step.name, error
                _undo(connection)
                if connection.in_transaction:
                    continue
            elif owner is None:
                # BEGIN and COMMIT belong to all of them.
                _roll_back(connection)
            raise StepFailed(step.name, error) from error
        else:
            if step.deferred is not None:
                step.deferred.ran(step.rows)


def _checkpoint(connection: sqlite3.Connection) -> bool:
    (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
    # Everybody who writes waits meanwhile: a reader who is in the way is not waited for.
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience}")
    return not busy


def _undo(connection: sqlite3.Connection) -> None:
    try:
        connection.execute(UNDO)
        connection.execute(RELEASE)
    except sqlite3.Error:
        _roll_back(connection)


def _roll_back(connection: sqlite3.Connection) -> None:
    # If this fails, too, the first failure is what is told. The next transaction cannot begin then, and rolls back again.
    with suppress(sqlite3.Error):
        connection.rollback()


class SQLiteReader(SQLiteConnection):
    """The connection for reading. It batches: statements that are asked for while others run go to the thread together.

    A second reader would make the batches smaller: with two, a tenth fewer profiles were read in a second, on one core and
    on two.
    """

    def __init__(self, raw: aiosqlite.Connection, statements: Mapping[str, Statement]) -> None:
        super().__init__(raw, statements)
        self._pages: dict[str, str] = {}
        self._waiting: list[tuple[str, dict[str, Any], asyncio.Future[Sequence[Row]]]] = []
        self._running: asyncio.Task[None] | None = None

    async def page(self, name: str, record: type[R], /, **parameters: Any) -> list[R]:
        """Fetch a page as one row that holds a JSON array. For each row that it fetches, Python gives up its lock and has
        to wait for it again behind the event loop."""
        build = builder_of(record, self._statements[name].columns)
        if name not in self._pages:
            self._pages[name] = _in_one_row(self._statements[name])
        [(array,)] = await self._timed(name, parameters, self._ask(name, self._pages[name], parameters))
        return list(map(build, orjson.loads(array)))

    async def _fetch(self, name: str, parameters: dict[str, Any]) -> Sequence[Row]:
        return await self._ask(name, self._statements[name].sql, parameters)

    async def _ask(self, name: str, sql: str, parameters: dict[str, Any]) -> Sequence[Row]:
        answer: asyncio.Future[Sequence[Row]] = asyncio.get_running_loop().create_future()
        self._waiting.append((sql, parameters, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        try:
            return await answer
        except sqlite3.Error as error:
            raise _unavailable(name, error) from error

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            results: list[Sequence[Row] | Exception]
            try:
                results = await self._in_thread(partial(_each, [(sql, parameters) for sql, parameters, _ in batch]))
            except Exception as error:
                results = [error] * len(batch)
            for (_, _, answer), result in zip(batch, results, strict=True):
                if answer.done():
                    continue
                if isinstance(result, Exception):
                    answer.set_exception(result)
                else:
                    answer.set_result(result)
        self._running = None


def _each(statements: list[tuple[str, dict[str, Any]]], connection: sqlite3.Connection) -> list[Sequence[Row] | Exception]:
    """Each statement's rows, or what was wrong with it: what they have in common is only the moment."""
    results: list[Sequence[Row] | Exception] = []
    for sql, parameters in statements:
        try:
            results.append(connection.execute(sql, parameters).fetchall())
        except Exception as error:
            results.append(error)
    return results


def _in_one_row(statement: Statement) -> str:
    body, columns = statement.sql.rstrip().removesuffix(";"), ", ".join(statement.columns)
    return f"WITH page ({columns}) AS ({body}\n) SELECT json_group_array(json_array({columns})) FROM page"  # noqa: S608


def _unavailable(name: str, error: Exception) -> Exception:
    """What an error in the statement of this name means to the rest of the house."""
    # A wrong statement is a bug and must look like one. Everything else is the database's state.
    wrong = isinstance(error, sqlite3.ProgrammingError) or re.match(r"no such |near |table .* has no", str(error))
    return error if wrong or not isinstance(error, sqlite3.Error) else DatabaseUnavailable(f"{name}: {error}")
