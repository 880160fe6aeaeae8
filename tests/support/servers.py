"""Real servers on free ports, started by the tests: they can be stopped, hung and killed."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from referral.database.migrate import migrate

if TYPE_CHECKING:
    import psycopg

# Below those from which Linux chooses (ip_local_port_range), and above those that browsers refuse. Each tester has its own
# part of them: another one must not take the port of a server that is stopped for a while.
TESTERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
TESTER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PORTS = range(20_000, 32_000)[TESTER::TESTERS]
_given: set[int] = set()


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now, and that is given neither to anybody who asks the
    system for one nor to another tester: a server that is stopped for a while gets it again."""
    while True:
        port = random.choice(PORTS)
        if port not in _given:
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
                _given.add(port)
                return port


def program(name: str, package: str, *folders: Path) -> str:
    """The path of a program. Raises with the Debian package to install when it is missing: no test is skipped for it."""
    found = shutil.which(name) or next((str(folder / name) for folder in folders if (folder / name).exists()), None)
    if found is None:
        raise RuntimeError(f"{name} is missing: run tests/install-servers, or install Debian's {package}")
    return found


def wait_until(check: Callable[[], bool], seconds: float = 20.0) -> None:
    """Poll until `check()`; raises TimeoutError when it stays false."""
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise TimeoutError("the server did not get ready")
        time.sleep(0.02)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def runs(pid: int) -> bool:
    """Whether this process has not ended; one that only waits to be reaped has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Server:
    """A server process, which runs for a `with` block or from `start` on; `stop`, `hang`, `resume` and `kill` do to it what
    befalls real ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise RuntimeError("each server says how it is started")

    def ready(self) -> bool:
        return listens(self.port)

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            # A session of its own: a signal to the tests' terminal is not one to the server.
            process = subprocess.Popen(self.command(), cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        self.process = process
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: process.poll() is not None or self.ready())
            if process.poll() is None:
                return
        self.kill()
        raise RuntimeError(f"no start: {(self.folder / 'server.log').read_text()[-2000:]}")

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def hang(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """As by kill -9; twice is no harm."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.wait()

    stop = kill

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class RedisServer(Server):
    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = options
        # Of a cluster. As shipped it is 10,000 above the other one, among those that Linux gives to whoever asks.
        self.cluster_port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        return [
            program("redis-server", "redis-server"),
            *("--port", str(self.port), "--cluster-port", str(self.cluster_port)),
            *("--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)),
            *self.options,
        ]


class NginxServer(Server):
    """nginx with `servers`, its server blocks; more than one port can be had by `free_port`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.servers = ""

    def command(self) -> list[str]:
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        folders = " ".join(f"{kind}_temp_path {self.folder / kind};" for kind in kinds)
        settings = f"events {{}} http {{ access_log off; {folders} {self.servers} }}"
        (self.folder / "nginx.conf").write_text(f"daemon off; master_process off; pid {self.folder}/pid; {settings}")
        nginx = program("nginx", "nginx-light", Path("/usr/sbin"))
        return [nginx, "-p", str(self.folder), "-c", "nginx.conf", "-e", "stderr"]


def as_postgres(folder: Path) -> tuple[list[str], Path]:
    """What starts a program that refuses to run as root, and a folder for it: no other user may enter pytest's own."""
    if os.geteuid() != 0:
        return [], folder
    folder = Path(tempfile.mkdtemp(prefix="referral-postgres-"))
    shutil.chown(folder, "postgres", "postgres")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"], folder


class PostgresServer(Server):
    """PostgreSQL without fsync: a test that kills it starts one of its own with `fsync=True`."""

    def __init__(self, folder: Path, *, fsync: bool = False) -> None:
        self._as_user, folder = as_postgres(folder)
        super().__init__(folder)
        self.fsync = fsync
        self._binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        self._make_data()

    def _make_data(self) -> None:
        self._run(
            "initdb", "--pgdata", "data", "--username", "referral", "--auth", "trust", "--no-sync", "--locale", "C.UTF-8"
        )

    def _binary(self, name: str) -> str:
        return program(name, "postgresql", *self._binaries)

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run([*self._as_user, self._binary(name), *arguments], cwd=self.folder, check=True, capture_output=True)

    def command(self) -> list[str]:
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on" if self.fsync else "off",
            "max_connections": "200",
            "shared_buffers": "64MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [*self._as_user, self._binary("postgres"), "-D", "data", *options]

    def ready(self) -> bool:
        probe = [self._binary("pg_isready"), "--host", "127.0.0.1", "--port", str(self.port), "--quiet"]
        return subprocess.run(probe, check=False).returncode == 0

    def url(self, database: str) -> str:
        return f"postgresql://referral@127.0.0.1:{self.port}/{database}"

    def signal(self, number: int) -> None:
        self._signal_all(number)

    def _signal_all(self, number: int) -> list[int]:
        """Signal each of its processes, which all lead groups of their own. The ids of the children come back."""
        assert self.process is not None
        # Stopped, it makes no child that would be missed.
        os.kill(self.process.pid, signal.SIGSTOP)
        children = [*map(int, Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())]
        for pid in (*children, self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return children

    def kill(self) -> None:
        """As by kill -9. Returns when each of its processes has ended: until then, no other can be started on its data."""
        if self.process is not None and self.process.poll() is None:
            children = self._signal_all(signal.SIGKILL)
            self.process.wait()
            wait_until(lambda: not any(map(runs, children)))

    def stop(self) -> None:
        """A fast shutdown, as by an administrator."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGINT)
            self.process.wait()

    def make_database(self, name: str) -> None:
        """Make a migrated database."""
        self.execute(f"CREATE DATABASE {name}")
        migrate(self.url(name))

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement as the superuser."""
        with self.connect(database) as connection:
            connection.execute(statement.encode())

    def connect(self, database: str) -> psycopg.Connection:
        """A connection of the superuser, without transactions."""
        import psycopg

        return psycopg.connect(self.url(database), autocommit=True)


# Which transaction last changed a table, a column, a constraint or a trigger, and how many databases have settings.
SCHEMA_STATE = """
SELECT (SELECT max(xmin::text::bigint) FROM (SELECT xmin FROM pg_class UNION ALL SELECT xmin FROM pg_attribute
        UNION ALL SELECT xmin FROM pg_constraint UNION ALL SELECT xmin FROM pg_trigger) AS changes),
       (SELECT count(*) FROM pg_db_role_setting)
"""
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
# Tables of one row, which migrations insert, and the service changes.
FIRST_ROWS = (
    "UPDATE cache_epoch SET epoch = 1, redis = NULL",
    "UPDATE feed SET last_seq = 0, gone_seq = 0",
    "UPDATE code_expiries SET expires_at = 0, code = ''",
    "UPDATE stat_state SET filled = 1",
)
TABLES = """
SELECT tablename FROM pg_tables
WHERE schemaname = 'public' AND tablename NOT LIKE '%yoyo%'
  AND tablename NOT IN ('cache_epoch', 'feed', 'code_expiries', 'referrers_lock', 'stat_state')
"""


class SpareDatabases:
    """Migrated, empty databases, copies of `migrated`. One that is given back is emptied for the next test, which takes a
    tenth of what a copy does; it is dropped if its schema was changed or somebody is connected to it."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._spare: list[str] = []
        with server.connect("migrated") as connection:
            self._state = connection.execute(SCHEMA_STATE).fetchone()
            deletions = [f"DELETE FROM {name}" for (name,) in connection.execute(TABLES)]
        # As a replica does: in any order, and without triggers.
        self._empty = "; ".join(["SET session_replication_role = replica", *deletions, *FIRST_ROWS])

    def take(self) -> str:
        """The name of a database that nobody else uses."""
        if self._spare:
            return self._spare.pop()
        name = f"test_{uuid.uuid4().hex}"
        self._server.execute(f"CREATE DATABASE {name} TEMPLATE migrated STRATEGY FILE_COPY")
        return name

    def give_back(self, name: str) -> None:
        if self._emptied(name):
            self._spare.append(name)
        else:
            self._server.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _emptied(self, name: str) -> bool:
        import psycopg

        try:
            with self._server.connect(name) as connection:
                # A connection that was closed a moment ago is counted until its process has ended.
                wait_until(lambda: connection.execute(OTHERS).fetchone() == (0,), 0.2)
                if connection.execute(SCHEMA_STATE).fetchone() != self._state:
                    return False
                connection.execute(self._empty.encode())
        except (psycopg.OperationalError, TimeoutError):
            return False
        return True


class Proxy:
    """A TCP proxy in the test's event loop: `async with Proxy(port) as proxy`, then use `proxy.port`.

    `cut` drops what is connected and refuses what comes, `mend` ends that; `target` may be changed at any time. What goes
    through takes `delay` seconds, each way.
    """

    def __init__(self, target: int, delay: float = 0) -> None:
        self.target = target
        self.delay = delay
        self.port = free_port()
        # How often something came from a client's side.
        self.requests = 0
        self._server: asyncio.Server | None = None
        # Several may cut and mend it at once.
        self._changing = asyncio.Lock()
        self._pipes: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def mend(self) -> None:
        async with self._changing:
            if self._server is None:
                self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def cut(self) -> None:
        async with self._changing:
            if self._server is not None:
                self._server.close()
                self._server = None
            for pipe in self._pipes:
                pipe.cancel()
            if self._pipes:
                await asyncio.wait(self._pipes)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pipes.add(task)
        beyond: asyncio.StreamWriter | None = None
        try:
            back, beyond = await asyncio.open_connection("127.0.0.1", self.target)
            answers = asyncio.create_task(self._pump(back, writer))
            try:
                await self._pump(reader, beyond, count=True)
            finally:
                answers.cancel()
                await asyncio.wait([answers])
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._pipes.discard(task)
            for stream in (writer, beyond):
                if stream is not None:
                    stream.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, count: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                self.requests += count
                if self.delay:
                    await asyncio.sleep(self.delay)
                sink.write(data)
                await sink.drain()
        sink.transport.abort()
