"""SQLite through aiosqlite: one writer, one read-only reader, both opened here."""

import asyncio
import re
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import orjson

from referral.database import ConstraintViolation, DatabaseUnavailable, Row, log_if_slow, settle
from referral.database.statements import Statement, load_statements
from referral.database.turns import Turns

T = TypeVar("T")

# Of each connection: the inner pages of the indexes of some million users, which the default of 2 MB does not hold.
CACHE_KB = 8_000
# How long to wait for another process (createsuperuser, a backup) that holds the write lock.
BUSY_TIMEOUT_MS = 5_000

# The names that SQLite gives a broken rule are columns; the schema's names are looked up here.
INDEXES = """
SELECT m.name || '.' || group_concat(c.name, ', ' || m.name || '.'),
       CASE i.origin WHEN 'pk' THEN m.name || '_pkey' ELSE i.name END
FROM sqlite_schema m JOIN pragma_index_list(m.name) i JOIN pragma_index_info(i.name) c
WHERE m.type = 'table' AND i."unique" = 1
GROUP BY m.name, i.name, i.origin
"""


class SQLiteConnection(ABC):
    """A connection as query functions see it; its statements run one by one, in a thread of its own."""

    def __init__(self, raw: aiosqlite.Connection, statements: dict[str, Statement], indexes: dict[str, str]) -> None:
        self.raw = raw
        self._statements = statements
        self._indexes = indexes

    async def all(self, name: str, /, **parameters: Any) -> Sequence[Row]:
        started = time.perf_counter()
        try:
            return await self._fetch(name, parameters)
        except sqlite3.Error as error:
            raise self.translated(error) from error
        finally:
            log_if_slow(name, started, parameters)

    async def one(self, name: str, /, **parameters: Any) -> Row | None:
        rows = await self.all(name, **parameters)
        return rows[0] if rows else None

    async def later(self, name: str, /, **parameters: Any) -> Sequence[Row]:
        return await self.all(name, **parameters)

    @abstractmethod
    async def _fetch(self, name: str, parameters: dict[str, Any]) -> Sequence[Row]:
        """The statement's rows. Raises sqlite3.Error."""

    async def _in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `work`, done in the connection's thread: of a statement's cost, most is the hop there and back, and
        aiosqlite has no public way to run several in one."""
        result: T = await self.raw._execute(lambda: work(self.raw._conn))  # type: ignore[no-untyped-call]
        return result

    def translated(self, error: sqlite3.Error) -> Exception:
        """What SQLite's error means to the rest of the house."""
        if not isinstance(error, sqlite3.IntegrityError):
            return _unavailable(error)
        kind, _, subject = str(error).partition(" constraint failed")
        subject = subject.removeprefix(": ")
        if kind == "UNIQUE":
            return ConstraintViolation(self._indexes.get(subject, subject))
        return ConstraintViolation(subject or kind)


# SQL, its parameters, and where its rows go.
Step = tuple[str, dict[str, Any], list[Row]]
BEGIN: Step = ("BEGIN IMMEDIATE", {}, [])
COMMIT: Step = ("COMMIT", {}, [])
# Around a transaction that is committed with the one before it.
SAVE: Step = ("SAVEPOINT joined", {}, [])
UNDO: Step = ("ROLLBACK TO joined", {}, [])
RELEASE: Step = ("RELEASE joined", {}, [])


class SQLiteWriter(SQLiteConnection):
    """The connection for transactions. What begins and ends them, and what is to be run later, takes the hop of the next
    statement, be it of the transaction that comes next."""

    def __init__(self, raw: aiosqlite.Connection, statements: dict[str, Statement], indexes: dict[str, str]) -> None:
        super().__init__(raw, statements, indexes)
        self._ahead: list[Step] = []
        self._joined = False

    def begin(self, *, joined: bool) -> None:
        """Begin a transaction: one that is `joined` is committed with those that have ended since the last commit."""
        self._joined = joined
        self._ahead.append(SAVE if joined else BEGIN)

    async def later(self, name: str, /, **parameters: Any) -> Sequence[Row]:
        rows: list[Row] = []
        self._ahead.append((self._statements[name].sql, parameters, rows))
        return rows

    def end(self) -> None:
        """End the transaction, the commit of which is still to come."""
        if self._joined:
            self._ahead.append(RELEASE)

    async def commit(self) -> None:
        """Commit what was done. Raises sqlite3.Error."""
        if self._ahead == [BEGIN]:
            self._ahead.clear()
        else:
            await self._run(COMMIT)

    async def undo(self) -> None:
        """End the transaction as if it had not begun."""
        if SAVE in self._ahead:
            # It has not begun; what stands before that is of others, which have ended.
            while self._ahead.pop() is not SAVE:
                pass
            return
        self._ahead.clear()
        if self.raw.in_transaction:
            await settle(self._in_thread(_undo if self._joined else _roll_back))

    async def roll_back(self) -> None:
        """Undo all that is not committed."""
        await settle(self._in_thread(_roll_back))

    async def _fetch(self, name: str, parameters: dict[str, Any]) -> Sequence[Row]:
        rows: list[Row] = []
        await self._run((self._statements[name].sql, parameters, rows))
        return rows

    async def _run(self, step: Step) -> None:
        """Take this step after those that are ahead of it. Cancelled or not, it has ended when this has."""
        steps, self._ahead = (*self._ahead, step), []
        try:
            await self._in_thread(partial(_in_turn, steps))
        except asyncio.CancelledError:
            # The thread does one thing after the other.
            await settle(self._in_thread(bool))
            raise


def _in_turn(steps: Sequence[Step], connection: sqlite3.Connection) -> None:
    # SQLite itself undoes a transaction when the disk is full: what comes after must not be kept by itself.
    if steps[0] is not BEGIN and not connection.in_transaction:
        raise sqlite3.OperationalError("the transaction was undone")
    for position, (sql, parameters, rows) in enumerate(steps):
        try:
            rows.extend(connection.execute(sql, parameters).fetchall())
        except Exception as error:
            if SAVE in steps[position + 1 :]:
                # Of one that has ended: it can no longer be undone alone, and the next one must not take the blame.
                _roll_back(connection)
                raise sqlite3.OperationalError(f"the transaction before failed: {error}") from error
            raise


def _undo(connection: sqlite3.Connection) -> None:
    try:
        connection.execute(UNDO[0])
        connection.execute(RELEASE[0])
    except sqlite3.Error:
        _roll_back(connection)


def _roll_back(connection: sqlite3.Connection) -> None:
    # What led to it is told, not that this failed, too: then the next transaction cannot begin, and tries it again.
    with suppress(sqlite3.Error):
        connection.rollback()


class SQLiteReader(SQLiteConnection):
    """A connection for reading. Statements that are asked for while others run go to the thread together.

    With a second such connection fewer go together: of profiles a tenth fewer were read in a second, on one core and on two.
    """

    def __init__(self, raw: aiosqlite.Connection, statements: dict[str, Statement], lists: dict[str, str]) -> None:
        super().__init__(raw, statements, {})
        self._lists = lists
        self._waiting: list[tuple[str, dict[str, Any], asyncio.Future[Sequence[Row]]]] = []
        self._running: asyncio.Task[None] | None = None

    async def _fetch(self, name: str, parameters: dict[str, Any]) -> Sequence[Row]:
        answer: asyncio.Future[Sequence[Row]] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._lists.get(name) or self._statements[name].sql, parameters, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        rows = await answer
        found: Sequence[Row] = orjson.loads(rows[0][0]) if name in self._lists else rows
        return found

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


def _unavailable(error: sqlite3.Error) -> Exception:
    # A statement that is wrong in itself is a bug and must look like one; everything else is the database's state.
    if isinstance(error, sqlite3.ProgrammingError) or re.match(r"no such |near |table .* has no", str(error)):
        return error
    return DatabaseUnavailable(str(error))


async def _in_one_row(raw: aiosqlite.Connection, statements: dict[str, Statement]) -> dict[str, str]:
    """The statements whose names begin with `list_`, each made to give its rows as one JSON array: for each row that it
    fetches, Python lets go of its lock and waits for it again behind the event loop."""
    lists = {}
    for name, statement in statements.items():
        if name.startswith("list_"):
            nothing = dict.fromkeys(re.findall(r":(\w+)", statement.sql))
            body = statement.sql.rstrip().removesuffix(";")
            async with raw.execute(f"SELECT * FROM ({body}\n) LIMIT 0", nothing) as cursor:  # noqa: S608
                columns = ", ".join(f"c{number}" for number in range(len(cursor.description)))
            array = f"json_group_array(json_array({columns}))"
            lists[name] = f"WITH page ({columns}) AS ({body}\n) SELECT {array} FROM page"  # noqa: S608
    return lists


class SQLiteDatabase:
    """Reads see the last commit (WAL); writes queue for the one writer."""

    def __init__(self, writer: SQLiteWriter, reader: SQLiteReader) -> None:
        self._writer = writer
        self._reader = reader
        self._turns = Turns()
        # The commit to come of the transactions that have ended since the last one.
        self._group: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path) -> "SQLiteDatabase":
        """Open the migrated file. Raises DatabaseUnavailable when it is missing or is no database."""
        statements = load_statements("sqlite")
        opened: list[aiosqlite.Connection] = []
        try:
            opened.append(await _connect(path, "rw"))
            indexes: dict[str, str] = dict(await opened[0].execute_fetchall(INDEXES))  # type: ignore[arg-type]
            opened.append(await _connect(path, "ro"))
            lists = await _in_one_row(opened[0], statements)
        except BaseException as error:
            for raw in opened:
                await raw.close()
            if isinstance(error, sqlite3.Error):
                raise DatabaseUnavailable(f"{path}: {error}") from error
            raise
        writer, reader = opened
        return cls(SQLiteWriter(writer, statements, indexes), SQLiteReader(reader, statements, lists))

    def reader(self) -> AbstractAsyncContextManager[SQLiteConnection]:
        # It runs its statements one by one in a thread of its own, and so needs no lock.
        return nullcontext(self._reader)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SQLiteConnection]:
        """Transactions run one by one, but those that wait for their turn when one ends are committed with it, and none of
        them is over before. One sync of the disk for all: 32 clients who make and end codes got twice as much done."""
        try:
            # Behind a writer that waits for another process, nobody waits longer than it does.
            await self._turns.take(BUSY_TIMEOUT_MS / 1000)
        except TimeoutError:
            raise DatabaseUnavailable("too many transactions wait to write") from None
        group = self._group
        try:
            try:
                self._writer.begin(joined=group is not None)
                yield self._writer
                if group is None and not self._turns.wanted:
                    await self._writer.commit()
                else:
                    self._writer.end()
                    group = self._group = group or asyncio.create_task(self._commit())
            except BaseException as error:
                await self._writer.undo()
                if isinstance(error, sqlite3.Error):
                    raise self._writer.translated(error) from error
                raise
            finally:
                self._turns.pass_on()
        except asyncio.CancelledError:
            # No failure takes its place.
            if group is not None:
                await settle(asyncio.wait([group]))
                group = None
            raise
        finally:
            # One that failed, too: what it failed for may have been done by one of the others.
            if group is not None:
                await settle(group)

    async def _commit(self) -> None:
        # Turns are taken in the order of asking: whoever asked before has joined.
        await self._turns.take(None)
        self._group = None
        try:
            await self._writer.commit()
        except BaseException as error:
            await self._writer.roll_back()
            if isinstance(error, Exception):
                # Whatever it was, it is the fault of one of them at most, and nobody knows whose.
                raise DatabaseUnavailable(str(error)) from error
            raise
        finally:
            self._turns.pass_on()

    async def close(self) -> None:
        for connection in (self._reader, self._writer):
            await connection.raw.close()


async def _connect(path: Path, mode: str) -> aiosqlite.Connection:
    connecting = aiosqlite.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None)
    # Where the closing is broken off, by a second Ctrl+C, the process must end all the same.
    connecting._thread.daemon = True
    raw = await connecting
    try:
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT_MS}",
            "foreign_keys = ON",
            f"cache_size = {-CACHE_KB}",
            # FULL: a commit is on the disk when it is acknowledged, also in WAL mode.
            "synchronous = FULL",
            *(("journal_mode = WAL",) if mode == "rw" else ("query_only = ON",)),
        ):
            await raw.execute_fetchall(f"PRAGMA {pragma}")
    except BaseException:
        await raw.close()
        raise
    return raw
