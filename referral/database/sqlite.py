"""SQLite through aiosqlite: one connection for writing, one for reading.

A commit syncs the disk, which is most of its cost. Transactions that wait for each other therefore share one commit (group
commit).
"""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path

import aiosqlite

from referral.database import DatabaseUnavailable, settle
from referral.database.sqlite_connections import SQLiteConnection, SQLiteReader, SQLiteWriter, StepFailed
from referral.database.statements import Statement, load_statements

# Of each connection: the inner pages of the indexes of some million users, which the default of 2 MB does not hold.
CACHE_KB = 8_000
# How long to wait for another process (createsuperuser, a backup) that holds the write lock.
BUSY_TIMEOUT_MS = 5_000

# Bytes that the disk must have left. A transaction adds some ten pages of 4 KB to the log.
LEAST_FREE = 256 * 1024
# Seconds between attempts to empty the log, which a reader holds while its statement runs.
PURGE_PAUSES = (0.01, 0.05)

# SQLite names the columns of a broken rule; this looks the rule's own name up.
INDEXES = """
SELECT m.name || '.' || group_concat(c.name, ', ' || m.name || '.'),
       CASE i.origin WHEN 'pk' THEN m.name || '_pkey' ELSE i.name END
FROM sqlite_schema m JOIN pragma_index_list(m.name) i JOIN pragma_index_info(i.name) c
WHERE m.type = 'table' AND i."unique" = 1
GROUP BY m.name, i.name, i.origin
UNION ALL
-- The key that is the number of the row has no index.
SELECT m.name || '.' || c.name, m.name || '_pkey'
FROM sqlite_schema m JOIN pragma_table_info(m.name) c
WHERE m.type = 'table' AND c.pk = 1 AND c.type = 'INTEGER'
"""


class SQLiteDatabase:
    """Readers see the last commit (WAL). Transactions queue for the one writer."""

    def __init__(self, path: Path, writer: SQLiteWriter, reader: SQLiteReader, statements: Mapping[str, Statement]) -> None:
        self._path = path
        self._statements = statements
        self._inode = path.stat().st_ino
        self._writer = writer
        self._reader = reader
        self._turn = asyncio.Lock()
        self._waiting = 0
        # The group commit to come, of the transactions that have ended since the last one.
        self._group: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path, records: Mapping[str, type] | None = None) -> "SQLiteDatabase":
        """Open the migrated file. Raises DatabaseUnavailable when it is missing or is no database."""
        statements = load_statements("sqlite", records)
        opened: list[aiosqlite.Connection] = []
        try:
            opened.append(await _connect(path, "rw"))
            indexes: dict[str, str] = dict(await opened[0].execute_fetchall(INDEXES))  # type: ignore[arg-type]
            opened.append(await _connect(path, "ro"))
        except BaseException as error:
            for raw in opened:
                await raw.close()
            if isinstance(error, sqlite3.Error):
                raise DatabaseUnavailable(f"{path}: {error}") from error
            raise
        writer, reader = opened
        return cls(path, SQLiteWriter(writer, statements, indexes), SQLiteReader(reader, statements), statements)

    def reader(self) -> AbstractAsyncContextManager[SQLiteConnection]:
        # Its statements run one by one in one thread: no lock is needed.
        return nullcontext(self._reader)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[SQLiteConnection]:
        """A connection of its own: the reader's sees each commit."""
        try:
            raw = await _connect(self._path, "ro")
        except sqlite3.Error as error:
            raise DatabaseUnavailable(f"{self._path}: {error}") from error
        try:
            await raw.execute_fetchall("BEGIN")
            yield SQLiteReader(raw, self._statements)
        finally:
            await settle(raw.close())

    def replica(self, *, snapshot: bool = False) -> AbstractAsyncContextManager[SQLiteConnection]:
        return self.snapshot() if snapshot else self.reader()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SQLiteConnection]:
        """A transaction of the one writer. Transactions run one after the other, in the order of asking.

        A transaction that ends while others wait does not commit: the next one joins it, and the last one commits for all
        of them (group commit). None of them is over before that commit. Group commit doubled the work that 32 clients get
        done who make and end codes.
        """
        await self._take_turn()
        group = self._group
        joins = group is not None
        writing = self._writer.begin(joins=joins)
        try:
            try:
                yield self._writer
                if group is None and not self._waiting:
                    await self._writer.commit()
                else:
                    self._writer.end()
                    group = self._group = group or asyncio.create_task(self._commit())
            except BaseException as error:
                await self._writer.undo(joined=joins)
                if isinstance(error, StepFailed):
                    raise self._writer.translated(error.name, error.error) from error.error
                raise
            finally:
                self._turn.release()
        except asyncio.CancelledError:
            # A cancellation stays one, whatever becomes of the commit.
            if group is not None:
                await settle(asyncio.wait([group]))
                group = None
            raise
        finally:
            # A transaction that failed waits, too: what it failed over may be the work of another one in the group.
            if group is not None:
                await settle(group)
        if writing.failure is not None:
            raise self._writer.translated(*writing.failure) from writing.failure[1]

    async def _take_turn(self) -> None:
        """Wait for the writer. Raises DatabaseUnavailable after BUSY_TIMEOUT_MS: nobody waits longer behind a writer that
        is stuck than that writer itself waits for another process."""
        self._waiting += 1
        try:
            async with asyncio.timeout(BUSY_TIMEOUT_MS / 1000):
                await self._turn.acquire()
        except TimeoutError:
            raise DatabaseUnavailable("too many transactions wait to write") from None
        finally:
            self._waiting -= 1

    async def _commit(self) -> None:
        # The lock is fair: whoever asked for it before has joined the group by now.
        await self._turn.acquire()
        self._group = None
        try:
            await self._writer.commit()
        except BaseException as error:
            await self._writer.roll_back()
            if isinstance(error, StepFailed):
                # No transaction in particular is to blame: a disk is full, a file is gone.
                raise DatabaseUnavailable(
                    f"a commit that several transactions shared failed at {error.name}: {error.error}"
                ) from error.error
            raise
        finally:
            self._turn.release()

    async def check_writable(self) -> None:
        # In a thread: a disk that hangs must not hang the service.
        reason = await asyncio.to_thread(_why_not_writable, self._path, self._inode)
        if reason:
            raise DatabaseUnavailable(f"{self._path}: {reason}")

    @property
    def write_failed(self) -> bool:
        return self._writer.write_failed

    async def purge(self) -> None:
        """Move the log (WAL) into the file and empty it: until then it has former states of pages. A backup that reads at
        this moment holds the log; it is emptied by a later call then."""
        async with self._alone():
            for pause in (*PURGE_PAUSES, None):
                if await self._writer.checkpoint() or pause is None:
                    return
                await asyncio.sleep(pause)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """The writer, when no transaction is open: what waits for a shared commit is committed first."""
        while True:
            await self._take_turn()
            if self._group is None:
                break
            group = self._group
            self._turn.release()
            await settle(asyncio.wait([group]))
        try:
            yield
        finally:
            self._turn.release()

    async def close(self) -> None:
        for connection in (self._reader, self._writer):
            await connection.raw.close()


def _why_not_writable(path: Path, inode: int) -> str | None:
    try:
        if path.stat().st_ino != inode:
            return "is another file than the one that was opened"
        disk = os.statvfs(path)
    except OSError as error:
        return error.strerror
    # SQLite makes files beside the database.
    if disk.f_flag & os.ST_RDONLY or not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        return "can only be read, not written"
    free = (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail) * disk.f_frsize
    # Some file systems do not count blocks.
    return "the disk is full" if disk.f_blocks and free < LEAST_FREE else None


async def _connect(path: Path, mode: str) -> aiosqlite.Connection:
    connecting = aiosqlite.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None)
    # The process must end even if a second Ctrl+C breaks off the closing of the connection.
    connecting._thread.daemon = True
    raw = await connecting
    try:
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT_MS}",
            "foreign_keys = ON",
            f"cache_size = {-CACHE_KB}",
            # FULL: a commit is on the disk when it is acknowledged, also in WAL mode.
            "synchronous = FULL",
            # What is deleted is overwritten: an erased account must not be found in the file's free space.
            "secure_delete = ON",
            *(("journal_mode = WAL",) if mode == "rw" else ("query_only = ON",)),
        ):
            await raw.execute_fetchall(f"PRAGMA {pragma}")
    except BaseException:
        await raw.close()
        raise
    return raw
