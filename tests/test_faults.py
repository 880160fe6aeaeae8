"""Faults, against the service as a process and, where a clock or a cancellation is needed, in the test's own loop: kill -9,
full disk, locked, read-only and corrupt databases, PostgreSQL stopped and hung, a clock that jumps back, clients hanging up.

Whatever happens: nothing acknowledged is lost, nothing is half done, 503 says when to come back, and nobody has to help."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import sqlite3
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout

from referral.app import create_app
from referral.clock import DAY, now, rfc_3339
from referral.database import Database, is_postgres, sqlite, sqlite_path
from referral.database.backup import back_up, restore
from referral.database.postgres import POOL_SIZE
from referral.database.postgres_connections import PostgresConnection
from referral.ids import new_id
from referral.metrics import METRICS, Metrics
from referral.queries.service import ping
from tests.conftest import Client, Eventually, MakeClient, MakeConfig
from tests.support.confined import bound_by_permissions
from tests.support.people import API, PASSWORD, Person, read_mails
from tests.support.rows import everything, sql
from tests.support.servers import PostgresServer
from tests.support.service import run_py
from tests.support.serving import client_of

MakePerson = Callable[..., Awaitable[Person]]

HOUR = DAY // 24


class Stopped(Exception):
    """The service ended at its start; its status and its log."""


class Service:
    """`run.py` in a folder of its own, on a database that outlives it; `start` it as often as it is killed."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.log = folder / "service.log"
        self.address = ""
        self.process: subprocess.Popen[str] | None = None

    def start(self, preexec_fn: Callable[[], None] | None = None, **settings: str) -> None:
        """Start and wait for the address. Raises when it ends instead."""
        environ = {
            "PATH": os.environ["PATH"],
            "REFERRAL_SERVER_PORT": "0",
            "REFERRAL_DATABASE_URL": self.url,
            "REFERRAL_AUTH_BCRYPT_ROUNDS": "4",
            "REFERRAL_LIMITS_ENABLED": "false",
            "REFERRAL_LOG_LEVEL": "error",
            **settings,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                run_py(self.folder),
                cwd=self.folder,
                env=environ,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=preexec_fn,
            )
        assert self.process.stdout
        address = re.search(r"http://\S+", self.process.stdout.readline())
        if not address:
            self.end()
            raise Stopped(self.process.returncode, self.log.read_text())
        self.address = address[0]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and return what the process ended with."""
        assert self.process
        self.process.send_signal(number)
        returned = self.process.wait(30)
        assert self.process.stdout
        self.process.stdout.close()
        return returned


@pytest.fixture
def service(tmp_path: Path, database_url: str) -> Iterator[Service]:
    found = Service(tmp_path, database_url)
    yield found
    if found.process and found.process.poll() is None:
        found.end(signal.SIGKILL)
    # An outage is no fault of the program: it is told in a line, never by a traceback.
    assert "Traceback" not in found.log.read_text()


class Load:
    """Registrations by one code, and one user who replaces their code, one after the other on each connection, for ever."""

    WRITERS = 6

    def __init__(self, service: Service, session: ClientSession) -> None:
        self._service = service
        self._session = session
        self._numbers = iter(range(1_000_000))
        self.registered: set[str] = set()
        self.codes: list[str] = []
        self.statuses: set[int] = set()
        self.refused = 0
        self.owner: dict[str, Any] = {}
        self.code = ""

    async def call(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """The status and the JSON; 0 when nobody answers."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            url = f"{self._service.address}{path}"
            async with self._session.request(method, url, json=body, headers=headers) as response:
                if response.status == 503 and path.startswith(API):
                    assert int(response.headers["Retry-After"]) >= 1
                    self.refused += 1
                return response.status, await response.json(content_type=None)
        except (ClientError, TimeoutError, OSError):
            return 0, None

    async def register(self, **members: Any) -> tuple[int, Any]:
        body = {"email": f"n{next(self._numbers)}@example.com", "password": PASSWORD, **members}
        return await self.call("POST", f"{API}/auth/register", body)

    async def begin(self) -> None:
        """Make the owner of the code."""
        status, answer = await self.register()
        assert status == 201, answer
        self.owner = answer
        status, answer = await self.call("POST", f"{API}/codes", {"ttl_days": 1}, self.owner["access_token"])
        assert status == 201, answer
        self.code = answer["code"]

    async def _register_for_ever(self) -> None:
        while True:
            status, answer = await self.register(referral_code=self.code)
            self.statuses.add(status)
            if status == 201:
                self.registered.add(answer["user"]["id"])
            elif status == 0:
                await asyncio.sleep(0.01)

    async def _replace_for_ever(self) -> None:
        status, user = await self.register()
        assert status == 201, user
        while True:
            body = {"ttl_days": 1, "replace": True}
            status, answer = await self.call("POST", f"{API}/codes", body, user["access_token"])
            self.statuses.add(status)
            if status == 201:
                self.codes.append(answer["code"])
            await asyncio.sleep(0.01)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(self._register_for_ever()) for _ in range(self.WRITERS)]
            work.append(tasks.create_task(self._replace_for_ever()))
            try:
                yield
            finally:
                for task in work:
                    task.cancel()

    async def more(self, count: int) -> None:
        """Wait for this many more acknowledged registrations, and for as many as one more code."""
        end, codes = len(self.registered) + count, len(self.codes)
        async with asyncio.timeout(30):
            while len(self.registered) < end or len(self.codes) == codes:
                await asyncio.sleep(0.01)

    async def refusal(self) -> None:
        """Wait for a 503."""
        seen = self.refused
        async with asyncio.timeout(30):
            while self.refused == seen:
                await asyncio.sleep(0.01)


@pytest.fixture
async def load(service: Service) -> AsyncIterator[Load]:
    async with ClientSession(timeout=ClientTimeout(total=20)) as session:
        yield Load(service, session)


async def whole(url: str, load: Load) -> None:
    """Nothing that was acknowledged is lost, and nothing is half there."""
    rows = await everything(url)
    users = {row[0] for row in rows["users"]}
    referred = {row[0] for row in rows["referrals"]}
    assert load.registered <= users
    assert load.registered <= referred
    assert set(load.codes) <= {row[0] for row in rows["codes"]}
    counts = "SELECT u.id FROM users u WHERE referral_count <> (SELECT count(*) FROM referrals r WHERE r.referrer_id = u.id)"
    assert await sql(url, counts) == []
    uses = "SELECT c.code FROM codes c WHERE uses <> (SELECT count(*) FROM referrals r WHERE r.code = c.code)"
    assert await sql(url, uses) == []
    current = "SELECT referrer_id FROM codes WHERE revoked_at IS NULL GROUP BY referrer_id HAVING count(*) > 1"
    assert await sql(url, current) == []
    # A registration is an account, a session and a refresh token.
    assert {row[1] for row in rows["sessions"]} == users
    assert {row[0] for row in rows["sessions"]} == {row[1] for row in rows["refresh_tokens"]}
    if not is_postgres(url):
        assert await sql(url, "PRAGMA integrity_check") == [("ok",)]


# kill -9


# To make one takes seconds: one is enough for the tests that need it.
on_one_durable = pytest.mark.xdist_group("durable")


@pytest.fixture(scope="module")
def durable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A PostgreSQL that may be killed: what it commits is on the disk."""
    server = PostgresServer(tmp_path_factory.mktemp("durable"), fsync=True)
    server.start()
    yield server
    server.resume()
    server.kill()


@pytest.fixture
def on_durable(durable: PostgresServer, tmp_path: Path) -> Iterator[Service]:
    name = f"faults_{uuid.uuid4().hex}"
    durable.execute(f"CREATE DATABASE {name}")
    found = Service(tmp_path, durable.url(name))
    yield found
    assert found.process
    if found.process.poll() is None:
        found.end(signal.SIGKILL)
    assert "Traceback" not in found.log.read_text()


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_after_kill_9_of_the_service_on_sqlite_all_that_was_acknowledged_is_there(
    service: Service, load: Load
) -> None:
    service.start()
    await load.begin()
    async with load.running():
        for _ in range(2):
            await load.more(30)
            await asyncio.to_thread(service.end, signal.SIGKILL)
            started = time.monotonic()
            await asyncio.to_thread(service.start)
            print(f"seconds to the next start: {time.monotonic() - started:.1f}")
        await load.more(10)
    assert load.statuses <= {0, 201}
    assert service.end() == 0
    await whole(service.url, load)


@on_one_durable
async def test_after_kill_9_of_the_service_and_of_postgresql_all_that_was_acknowledged_is_there(
    on_durable: Service, durable: PostgresServer
) -> None:
    async with ClientSession(timeout=ClientTimeout(total=20)) as session:
        load = Load(on_durable, session)
        on_durable.start()
        await load.begin()
        async with load.running():
            await load.more(30)
            await asyncio.to_thread(on_durable.end, signal.SIGKILL)
            await asyncio.to_thread(on_durable.start)
            await load.more(30)
            await asyncio.to_thread(durable.kill)
            await load.refusal()
            await asyncio.to_thread(durable.start)
            started = time.monotonic()
            await load.more(1)
            print(f"seconds from PostgreSQL's return to the next registration: {time.monotonic() - started:.1f}")
            await load.more(30)
        assert load.statuses <= {0, 201, 503}
        assert on_durable.end() == 0
        await whole(on_durable.url, load)


@pytest.mark.parametrize("engine", ["postgres"])
async def test_a_connection_that_breaks_while_it_is_given_back_fails_nobody(database: Database) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(2 * POOL_SIZE):
        async with database.reader() as conn:
            assert isinstance(conn, PostgresConnection)
            # Between the pool's hearing of the release and its making.
            loop.call_soon(loop.call_soon, conn._raw.terminate)
    async with database.reader() as conn:
        await ping(conn)


@on_one_durable
async def test_while_postgresql_is_restarted_and_hangs_requests_are_refused_and_then_go_on(
    on_durable: Service, durable: PostgresServer
) -> None:
    async with ClientSession(timeout=ClientTimeout(total=30)) as session:
        load = Load(on_durable, session)
        on_durable.start()
        await load.begin()
        async with load.running():
            await load.more(10)
            await asyncio.to_thread(durable.stop)
            await load.refusal()
            assert (await load.call("GET", "/health/ready"))[0] == 503
            assert (await load.call("GET", "/health/live"))[0] == 200
            await asyncio.to_thread(durable.start)
            started = time.monotonic()
            await load.more(1)
            print(f"seconds from the restart to the next registration: {time.monotonic() - started:.1f}")
            durable.hang()
            try:
                await load.refusal()
                assert (await load.call("GET", "/health/ready"))[0] == 503
            finally:
                durable.resume()
            started = time.monotonic()
            await load.more(1)
            print(f"seconds from its waking to the next registration: {time.monotonic() - started:.1f}")
            await load.more(10)
        # The service was never restarted.
        assert load.statuses <= {201, 503}
        assert on_durable.end() == 0
        await whole(on_durable.url, load)


# A full disk


class Disk:
    """Where the database lies: a small file system of its own or, where the tests may not mount one and in the test of that,
    a limit on how far the service's files may grow."""

    def __init__(self, folder: Path, *, mounted: bool) -> None:
        self.folder = folder
        self._mounted = mounted
        self._filler = folder / "filler"

    def fill(self, service: Service) -> None:
        if self._mounted:
            with self._filler.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(4096))
            return
        assert service.process
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    def free(self, service: Service) -> None:
        if self._mounted:
            self._filler.unlink()
            return
        assert service.process
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture(params=["a small file system", "a limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    mounted = (
        request.param == "a small file system" and subprocess.run(command, check=False, capture_output=True).returncode == 0
    )
    yield Disk(folder, mounted=mounted)
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_on_a_full_disk_writes_are_refused_whole_and_reads_and_later_writes_are_not(
    disk: Disk, service: Service, load: Load, database_url: str
) -> None:
    service.folder = disk.folder
    service.url = f"sqlite:///{disk.folder}/referral.db"
    service.start()
    await load.begin()
    async with load.running():
        await load.more(10)
        disk.fill(service)
        await load.refusal()
        await load.refusal()
        assert (await load.call("GET", f"{API}/users/me", token=load.owner["access_token"]))[0] == 200
        assert (await load.call("GET", f"{API}/codes/{load.code}"))[0] == 200
        disk.free(service)
        await load.more(10)
    assert load.statuses == {201, 503}
    assert service.end() == 0
    await whole(service.url, load)


# A database that is locked, read-only, corrupt


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_while_another_process_keeps_the_database_locked_writes_are_refused_and_reads_go_on(
    make_client: MakeClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 200)
    client = await make_client()
    alice = await Person.register(client, "alice")
    before = await everything(database_url)
    with closing(sqlite3.connect(sqlite_path(database_url), isolation_level=None, check_same_thread=False)) as other:
        # In a thread: the mail worker's transaction may have to end first.
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        body = {"email": "bob@example.com", "password": PASSWORD}
        *answers, refused = await asyncio.gather(
            alice.post("/codes", {"ttl_days": 1}), alice.post("/auth/register", body), alice.sign_in()
        )
        for answer in answers:
            assert (answer.status, answer.problem, answer.headers["Retry-After"]) == (503, "unavailable", "2")
        assert (refused.status, refused.body["error"]) == (503, "temporarily_unavailable")
        assert (await alice.get("/users/me")).status == 200
        assert (await alice.get("/health/ready")).status == 200
    after = await everything(database_url)
    assert {table: after[table] for table in ("users", "sessions")} == {t: before[t] for t in ("users", "sessions")}
    assert (await alice.post("/codes", {"ttl_days": 1})).status == 201


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_on_a_read_only_file_and_in_a_read_only_folder_there_is_no_start(
    service: Service, load: Load, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    file = folder / "referral.db"
    service.url = f"sqlite:///{file}"
    service.start()
    await load.begin()
    assert service.end() == 0
    folder.chmod(0o555)
    with pytest.raises(Stopped) as stopped:
        service.start(bound_by_permissions)
    folder.chmod(0o755)
    status, log = stopped.value.args
    assert (status, log.splitlines()[-1][:32]) == (2, "run.py: the database cannot be m")
    file.chmod(0o444)
    with pytest.raises(Stopped) as stopped:
        service.start(bound_by_permissions)
    status, log = stopped.value.args
    assert (status, log.splitlines()[-1].startswith("run.py: ")) == (2, True)
    file.chmod(0o644)
    service.start()
    assert (await load.register())[0] == 201
    assert service.end() == 0


def scribble(file: Path, start: int) -> None:
    """Put nonsense into the file from there on."""
    with file.open("r+b") as stream:
        stream.seek(start)
        # The log may just have been emptied into the file.
        stream.write(os.urandom(max(0, file.stat().st_size - start)))


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_file_that_becomes_corrupt_is_told_in_503s_and_at_the_next_start_and_a_backup_helps(
    service: Service, load: Load, tmp_path: Path, eventually: Eventually
) -> None:
    file = sqlite_path(service.url)
    service.start()
    await load.begin()
    await asyncio.to_thread(back_up, service.url, tmp_path / "saved.db")
    # All that is not a header: of the file, and of the log beside it that has what is newer.
    scribble(file, 4096)
    scribble(file.with_name("referral.db-wal"), 4096)
    # The writer may still know by heart what it changes; readers look it up after every change.
    assert {(await load.register())[0] for _ in range(20)} <= {201, 503}
    assert (await load.call("GET", f"{API}/users/me", token=load.owner["access_token"]))[0] == 503
    assert (await load.register(referral_code=load.code))[0] == 503
    assert (await load.call("GET", "/health/live"))[0] == 200
    assert service.end() == 0
    with pytest.raises(Stopped) as stopped:
        service.start()
    status, log = stopped.value.args
    assert (status, log.splitlines()[-1][:32]) == (2, "run.py: the database cannot be m")
    await asyncio.to_thread(restore, service.url, tmp_path / "saved.db")
    service.start()
    assert (await load.register(referral_code=load.code))[0] == 201
    assert service.end() == 0


# A clock that jumps back


class Clock:
    """The system's clock, as far as Python asks it; `jump` moves it by milliseconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._offset = 0
        seconds, nanoseconds = time.time, time.time_ns
        monkeypatch.setattr(time, "time", lambda: seconds() + self._offset / 1000)
        monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() + self._offset * 1_000_000)

    def jump(self, milliseconds: int) -> None:
        self._offset += milliseconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def test_a_clock_that_jumps_back_ends_no_session_early_and_takes_no_token_for_stolen(
    clock: Clock, make_client: MakeClient
) -> None:
    alice = await Person.register(await make_client(), "alice")
    first = alice.tokens["refresh_token"]
    second = (await alice.refresh()).body["refresh_token"]
    clock.jump(-HOUR)
    assert (await alice.get("/users/me")).status == 200
    # Two tabs that race across the jump.
    assert (await alice.refresh(first)).status == 200
    refreshed = await alice.refresh(second)
    assert refreshed.status == 200
    alice.tokens = refreshed.body
    # Neither does a service that starts after the jump, and has verified no token before, end the session.
    alice.client = await make_client()
    assert (await alice.get("/users/me")).status == 200
    clock.jump(HOUR)
    assert (await alice.refresh()).status == 200
    clock.jump(11_000)
    # Long used: now it is taken for stolen, as ever.
    assert (await alice.refresh(second)).status == 400
    assert (await alice.get("/users/me")).status == 401


async def test_after_the_clock_jumped_back_codes_are_made_edited_ended_and_used(
    clock: Clock, client: Client, person: MakePerson
) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    clock.jump(-2 * DAY)
    assert (await alice.get(f"/codes/{code}")).status == 200
    bob = await person("bob", referral_code=code)
    assert (await bob.me())["referrer"]["id"] == alice.id
    # Sooner than it was made: that cannot be, and is said.
    for path in ("/codes/current", f"/codes/{code}"):
        for early in ({"ttl_days": 1}, {"expires_at": rfc_3339(now() + HOUR)}):
            assert (await alice.patch(path, early)).pointers == [f"/{next(iter(early))}"]
    assert (await alice.patch("/codes/current", {"ttl_days": 3, "max_uses": 5})).status == 200
    assert (await alice.post("/codes", {"ttl_days": 1, "replace": True})).status == 201
    assert (await alice.delete("/codes/current")).status == 204
    assert (await alice.delete("/users/me", {"password": alice.password})).status == 204


async def test_pages_show_everything_once_and_ids_stay_unique_across_a_jump(
    clock: Clock, client: Client, person: MakePerson
) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    joined = set()
    for number in range(9):
        joined.add((await person(f"friend{number}", referral_code=code)).id)
        if number % 3 == 2:
            clock.jump(-HOUR)
    shown: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await alice.get("/users/me/referrals", params={"limit": 2, **cursor})).body
        shown += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(shown) == 9
    assert {item["id"] for item in shown} == joined
    times = [item["joined_at"] for item in shown]
    assert times == sorted(times, reverse=True)


def test_ids_sort_in_the_order_they_were_made_whatever_the_clock_does(clock: Clock) -> None:
    ids = []
    for _ in range(3):
        ids += [new_id() for _ in range(1000)]
        clock.jump(-HOUR)
    assert ids == sorted(set(ids))


async def test_mail_that_is_queued_after_a_jump_is_sent_at_once(
    clock: Clock, person: MakePerson, mail_folder: Path, eventually: Eventually
) -> None:
    alice = await person("alice")
    await eventually(lambda: read_mails(mail_folder, alice.email))
    clock.jump(-HOUR)
    bob = await person("bob")
    await eventually(lambda: read_mails(mail_folder, bob.email))


# Clients that hang up


async def test_clients_that_hang_up_leave_no_transaction_open_and_nothing_half_done(
    make_config: MakeConfig, database_url: str, eventually: Eventually
) -> None:
    # As the tests' server does, and as a stop of the service does: the handler is cancelled.
    async with client_of(create_app(make_config())) as client:
        alice = await Person.register(client, "alice")
        code = await alice.make_code()
        acknowledged = 0

        async def register_and_hang_up(number: int) -> None:
            nonlocal acknowledged
            body = {"email": f"n{number}@example.com", "password": PASSWORD, "referral_code": code}
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.004 * (number % 20)):
                    async with client.post(f"{API}/auth/register", json=body) as response:
                        acknowledged += response.status == 201

        for turn in range(6):
            await asyncio.gather(*(register_and_hang_up(10 * turn + number) for number in range(10)))
        await eventually(lambda: client.app is not None and idle(client.app[METRICS]))
        # One that was left open would stay so.
        await eventually(lambda: none_open(database_url))
        assert (await alice.post("/codes", {"ttl_days": 1, "replace": True})).status == 201
        rows = await everything(database_url)
        referred = len(rows["referrals"])
        assert acknowledged <= referred
        assert len(rows["users"]) == len(rows["sessions"]) == len(rows["refresh_tokens"]) == referred + 1
        assert (await alice.me())["referral_count"] == referred
        assert await sql(database_url, f"SELECT uses FROM codes WHERE code = '{code}'") == [(referred,)]


def idle(metrics: Metrics) -> bool:
    """Whether no request is being answered."""
    return b"referral_requests_in_progress 0.0" in metrics.text()


async def none_open(url: str) -> bool:
    """Whether nobody has a transaction open."""
    if is_postgres(url):
        [(count,)] = await sql(
            url,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND (state LIKE 'idle in transaction%' OR (state = 'active' AND backend_type = 'client backend'))",
        )
        return int(count) == 0
    with closing(sqlite3.connect(sqlite_path(url), timeout=0, isolation_level=None)) as other:
        # An open read keeps the log from being emptied, an open write keeps everybody else from writing.
        try:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
            return int(other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]) == 0
        except sqlite3.OperationalError:
            return False
