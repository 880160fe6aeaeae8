"""The service lock: it keeps a service that caches in its own memory from sharing a database with another service.

Nobody tells a cache in one process (`cache.url = memory://`) what another process changes. A service with such a cache holds
the lock exclusively, every other service holds it with others of its kind. Commands do not take it. The system or PostgreSQL
releases it however the service ends.

On SQLite this is a lock of flock(2) on a file beside the database. It lies on the file, so that it holds between containers
with process ids of their own that mount one volume of one machine. On a network file system it holds as far as that carries
locks, as SQLite's own do; and SQLite's write-ahead log does not work between machines.

On PostgreSQL it is an advisory lock of a transaction that stays open on a connection of its own. The transaction holds
neither a snapshot nor an id, so that it is in no vacuum's way; a locked row would need an id for the service's whole life.
When the connection is lost, the lock is taken again; if another service got it first, this one stops. Being a transaction's,
the lock is as true behind a pooler; there the transaction is ended and begun again each second, so that a pooler can be
paused, and can replace its connections. Whoever comes there takes the lock, lets go of it and takes it once more, so that a
moment without it costs nobody their place. An engine that has PostgreSQL's protocol but no such lock is served without it.
"""

import errno
import fcntl
import logging
import os
import select
import signal
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from referral.config.postgres_url import parse_postgres_url
from referral.database import DatabaseUnavailable, is_postgres, sqlite_path

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

# The first half of the advisory lock's name; the second is the schema, of which one database may have several.
LOCK = 7236252
# Seconds to release the lock, between two looks at a connection that is quiet, and between two attempts to get another.
RELEASE_TIMEOUT = 5
LOOK_PAUSE = 30.0
RETRY_PAUSE = 0.5
# Seconds that a connection of a pooler's is kept; for which a service that comes lets go of the lock again; and for which
# one that was about to renew it tries to.
RENEW_PAUSE = 1.0
YIELD_PAUSE = 0.3
RENEWAL_PATIENCE = 1.0
# Seconds between two of these attempts.
RENEWAL_PAUSE = 0.05

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 0"
HOLDERS = """
SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %s AND l.objid::bigint = %s AND l.objsubid = 2
  AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
ORDER BY a.backend_start LIMIT 1
"""


class ServiceRunning(Exception):
    """Another service has the database; the message names it in one line and says what to do."""

    def __init__(self, subject: str, holder: str) -> None:
        super().__init__(
            f"{subject}: a service runs on it already ({holder}); with cache.url = memory:// nobody else may serve from the "
            "same database. Stop the other one, or let all of them share redis:// or use none://"
        )
        self.subject = subject
        self.holder = holder


@contextmanager
def service_lock(url: str, *, alone: bool) -> Iterator[None]:
    """Hold the service lock of the database at `url`, exclusively if this process must be `alone`. Processes that are forked
    meanwhile hold it, too. Raises ServiceRunning or DatabaseUnavailable."""
    with _postgres_lock(url, alone) if is_postgres(url) else _file_lock(sqlite_path(url), alone):
        yield


def _me() -> str:
    # A container's pid means nothing elsewhere; its host name tells it apart.
    since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return f"pid {os.getpid()} on {socket.gethostname()[:20]} since {since}"


@contextmanager
def _file_lock(path: Path, alone: bool) -> Iterator[None]:
    # One file has one lock, by whatever links it is named.
    path = path.resolve()
    file = path.with_name(f"{path.name}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DatabaseUnavailable(f"{path}: its lock {file.name} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceRunning(str(path), os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "?") from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
                raise DatabaseUnavailable(f"{path}: {file.name} cannot be locked: {error.strerror}") from error
            log.warning("%s: this file system knows no locks: make sure that no other service uses the database", file)
        with suppress(OSError):
            # Only for the eyes of whoever is refused: a full disk is told by what needs it.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{_me()}\n".encode(), 0)
        yield
    finally:
        # The lock goes with the last process that has the file open. It stays: one that were deleted could be locked by two.
        os.close(descriptor)


@contextmanager
def _postgres_lock(url: str, alone: bool) -> Iterator[None]:
    keeper = _Keeper(url, alone)
    keeper.take()
    if not keeper.has_lock:
        yield
        return
    process = os.getpid()
    os.register_at_fork(after_in_child=keeper.leave_to_parent)
    keeper.start()
    try:
        yield
    finally:
        # A forked worker comes through here, too.
        if os.getpid() == process:
            keeper.release()


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class _Keeper(threading.Thread):
    """Keeps PostgreSQL's lock while the event loop, or the workers' master, does its own work."""

    def __init__(self, url: str, alone: bool) -> None:
        super().__init__(name="service-lock", daemon=True)
        self._url = url
        self._lock = "pg_try_advisory_xact_lock" if alone else "pg_try_advisory_xact_lock_shared"
        self._me = f"referral {_me()}"
        self._connection: psycopg.Connection | None = None
        self._is_pooled = False
        self._stopped = threading.Event()
        self._wake = os.pipe()

    @property
    def has_lock(self) -> bool:
        return self._connection is not None

    def take(self) -> None:
        """Connect and take the lock, if the engine has such locks. Raises ServiceRunning or DatabaseUnavailable."""
        # Imported here: psycopg takes longer to load than a SQLite start takes in all.
        import psycopg

        connection = None
        try:
            connection = psycopg.connect(
                self._url,
                autocommit=True,
                prepare_threshold=None,
                **parse_postgres_url(self._url).libpq,
                # Found out within a minute, by either side, when the network is gone without a word.
                keepalives_idle=30,
                keepalives_interval=10,
                keepalives_count=3,
            )
            self._hold(connection)
            if self._is_pooled:
                # Somebody may have ended their transaction just now, to begin it again.
                connection.execute("COMMIT")
                self._stopped.wait(YIELD_PAUSE)
                self._hold(connection)
        except (
            psycopg.errors.UndefinedFunction,
            psycopg.errors.UndefinedObject,
            psycopg.errors.FeatureNotSupported,
        ) as error:
            log.warning("this database knows no such lock: make sure that no other service uses it (%s)", _line(error))
        except psycopg.Error as error:
            raise DatabaseUnavailable(f"cannot connect to PostgreSQL: {_line(error)}") from error
        else:
            self._connection, connection = connection, None
        finally:
            if connection is not None:
                connection.close()

    def _hold(self, connection: "psycopg.Connection") -> None:
        """Begin a transaction that holds the lock. Raises ServiceRunning or psycopg.Error."""
        connection.execute(BEGIN.encode())
        connection.execute("SELECT set_config('application_name', %s, true)", [self._me])
        for setting, value in (("tcp_keepalives_idle", "30"), ("tcp_keepalives_interval", "10")):
            connection.execute("SELECT set_config(%s, %s, true)", [setting, value])
        schema, pid = connection.execute("SELECT current_schema(), pg_backend_pid()").fetchone() or ("", 0)
        self._is_pooled = pid != connection.info.backend_pid
        key = zlib.crc32(str(schema).encode())
        signed = key - 2**32 if key >= 2**31 else key
        # Without parameters: those would leave a portal, and so a snapshot, to the transaction.
        held = connection.execute(f"SELECT {self._lock}({LOCK}, {signed})".encode()).fetchone()
        if held != (True,):
            holder = (connection.execute(HOLDERS.encode(), [LOCK, key]).fetchone() or (None,))[0]
            raise ServiceRunning("the PostgreSQL database", (holder or "?").removeprefix("referral "))

    def run(self) -> None:
        import psycopg

        while not self._stopped.is_set():
            try:
                assert self._connection is not None
                # It becomes readable when it ends; nothing else is ever sent to it. The other end wakes this for the stop.
                pause = RENEW_PAUSE if self._is_pooled else LOOK_PAUSE
                select.select([self._connection.fileno(), self._wake[0]], [], [], pause)
                if not self._stopped.is_set():
                    self._look(self._connection)
            except (psycopg.Error, OSError, ValueError):
                self._take_again()
            except ServiceRunning as running:
                self._give_way(running)
        if self._connection is not None:
            self._connection.close()

    def _look(self, connection: "psycopg.Connection") -> None:
        """Find out whether the connection is still there; give a pooler its own back for a moment."""
        if self._is_pooled:
            connection.execute("COMMIT")
            self._renew(connection)
        else:
            connection.execute("SELECT 1")

    def _renew(self, connection: "psycopg.Connection") -> None:
        """Hold the lock again. A service that came at this very moment lets go of it soon. Raises ServiceRunning or
        psycopg.Error."""
        patience = time.monotonic() + RENEWAL_PATIENCE
        while True:
            try:
                self._hold(connection)
                return
            except ServiceRunning:
                if time.monotonic() > patience:
                    raise
            connection.execute("ROLLBACK")
            self._stopped.wait(RENEWAL_PAUSE)

    def _give_way(self, running: ServiceRunning) -> None:
        log.error("stopping: %s", running)
        os.kill(os.getpid(), signal.SIGTERM)
        self._stopped.set()

    def _take_again(self) -> None:
        log.warning("the connection that holds the service lock is lost")
        while not self._stopped.wait(RETRY_PAUSE):
            try:
                self.take()
            except DatabaseUnavailable:
                continue
            except ServiceRunning as running:
                self._give_way(running)
            else:
                log.warning("the service lock is held again")
            return

    def release(self) -> None:
        """Release the lock; it is when this returns, unless PostgreSQL hangs."""
        self._stopped.set()
        os.write(self._wake[1], b".")
        self.join(RELEASE_TIMEOUT)

    def leave_to_parent(self) -> None:
        """In a forked process: whatever this does with its copy of the connection must not reach PostgreSQL."""
        if self._connection is not None and not self._connection.closed:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, self._connection.fileno())
            os.close(nowhere)
