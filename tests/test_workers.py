"""Several workers under gunicorn: one start, one set of migrations, one answer whichever worker gives it; workers that are
stopped, reloaded and lost under load."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from referral.metrics import LAG
from tests.support.people import API, PASSWORD, read_mails
from tests.support.servers import PostgresServer, RedisServer, listens, wait_until
from tests.support.service import run_py

# One service, with its Redis and its database, is enough for most of these tests.
pytestmark = pytest.mark.xdist_group("workers")


class Service:
    """`run.py serve` with two workers, in a folder of its own, with a settings file that can be changed."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.connections: list[Connection] = []
        self.settings = folder / "settings.toml"
        self.settings.touch()
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self._log = folder / "log"
        everything = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(self.temporary),
            "REFERRAL_SERVER_PORT": "0",
            "REFERRAL_SERVER_WORKERS": "2",
            "REFERRAL_AUTH_BCRYPT_ROUNDS": "4",
            "REFERRAL_LIMITS_ENABLED": "false",
            **environ,
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*run_py(folder), "--config", str(self.settings)],
                env=everything,
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        found = re.match(r"Serving on http://127\.0\.0\.1:(\d+) ", self.process.stdout.readline())
        assert found, self.log()
        self.port = int(found[1])

    def log(self) -> str:
        return self._log.read_text()

    def workers(self) -> set[int]:
        pid = self.process.pid
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def connect(self) -> Connection:
        connection = Connection(self)
        self.connections.append(connection)
        return connection

    def disconnect(self) -> None:
        """Close whatever is still open."""
        while self.connections:
            self.connections.pop().close()

    def one_of_each(self) -> tuple[Connection, Connection]:
        """Connections that are kept alive, one to each of the two workers."""
        found: dict[int, Connection] = {}
        wait_until(lambda: len(self.workers()) == 2)
        end = time.monotonic() + 20
        while len(found) < 2:
            assert time.monotonic() < end, "one of the workers gets no connection"
            connection = self.connect()
            found.setdefault(connection.worker(), connection)
        first, second = found.values()
        return first, second

    def end(self) -> int:
        """The process's status after SIGTERM, which may have been sent already."""
        self.disconnect()
        self.process.terminate()
        returned = self.process.wait(30)
        assert self.process.stdout is not None
        assert self.process.stdout.read() == "", "the address is printed once"
        self.process.stdout.close()
        return returned


class Connection:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._raw = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
        self.token = ""

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The status and the answer's JSON, or its text."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        prefix = "" if path.startswith(("/health", "/metrics")) else API
        self._raw.request(method, prefix + path, None if body is None else json.dumps(body), headers)
        response = self._raw.getresponse()
        content = response.read()
        if "json" in response.headers.get("Content-Type", ""):
            return response.status, json.loads(content)
        return response.status, content.decode()

    def register(self, name: str) -> dict[str, Any]:
        body = {"email": f"{name}@example.com", "password": PASSWORD, "username": name}
        status, answer = self.call("POST", "/auth/register", body)
        assert status == 201, answer
        self.token = answer["access_token"]
        return dict(answer)

    def worker(self) -> int:
        """The process that serves this connection; it is asked something first, so that it has accepted it."""
        assert self.call("GET", "/health/live")[0] == 200
        near, far = self._raw.sock.getsockname()[1], self._raw.sock.getpeername()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(f":{far:04X}") and fields[2].endswith(f":{near:04X}"):
                inode = f"socket:[{fields[9]}]"
                return next(pid for pid in self._service.workers() if inode in open_files(pid))
        raise AssertionError("the connection is not there")

    def close(self) -> None:
        self._raw.close()


def open_files(pid: int) -> set[str]:
    found = set()
    # The process may end meanwhile, and close some of them.
    with contextlib.suppress(FileNotFoundError):
        for descriptor in list(Path(f"/proc/{pid}/fd").iterdir()):
            with contextlib.suppress(FileNotFoundError):
                found.add(str(descriptor.readlink()))
    return found


def total(metrics: str, name: str, *labels: str) -> float:
    """The sum of the samples of a metric that have all these labels."""
    lines = [line for line in metrics.splitlines() if re.match(rf"{name}[{{ ]", line)]
    return sum(float(line.split()[-1]) for line in lines if all(label in line for label in labels))


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of a PostgreSQL database that nobody has migrated."""
    name = f"workers_{uuid.uuid4().hex}"
    postgres_server.execute(f"CREATE DATABASE {name}")
    yield name
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, database: str, redis: RedisServer
) -> Iterator[Service]:
    """On PostgreSQL and Redis."""
    service = Service(
        tmp_path_factory.mktemp("service"),
        REFERRAL_DATABASE_URL=postgres_server.url(database),
        REFERRAL_CACHE_URL=redis.url,
    )
    try:
        yield service
        assert service.end() == 0
        assert "Traceback" not in service.log()
    finally:
        service.process.kill()


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    wait_until(lambda: len(running.workers()) == 2)
    yield running
    running.disconnect()


def test_several_workers_with_a_memory_cache_are_refused_in_one_line(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "REFERRAL_SERVER_WORKERS": "2"}
    ended = subprocess.run(run_py(), env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == (
        "run.py: server.workers: must be 1 with cache.url = memory://; several workers share redis:// or use none:// "
        "(read from environment variable REFERRAL_SERVER_WORKERS)\n"
    )


def test_on_sqlite_two_workers_start_once_add_up_their_metrics_and_stop_when_all_is_answered(
    tmp_path: Path, redis: RedisServer
) -> None:
    service = Service(tmp_path, REFERRAL_CACHE_URL=redis.url, REFERRAL_AUTH_BCRYPT_ROUNDS="14")
    try:
        assert service.log().count("migrated: 0001.users") == 1
        first, second = service.one_of_each()
        # What another worker answered is written down a little later.
        time.sleep(2 * LAG)
        metrics = first.call("GET", "/metrics")[1]
        before = total(metrics, "referral_requests_total", 'route="/health/live"')
        for connection, times in ((first, 3), (second, 4)):
            for _ in range(times):
                connection.call("GET", "/health/live")

        def counted(connection: Connection) -> tuple[float, float]:
            metrics = connection.call("GET", "/metrics")[1]
            answered = total(metrics, "referral_requests_total", 'route="/health/live"')
            return answered, total(metrics, "referral_requests_in_progress")

        # The request for them is one that is being answered now.
        wait_until(lambda: counted(first) == (before + 7, 1))
        wait_until(lambda: counted(second) == (before + 7, 1))
        assert len(list(service.temporary.glob("referral-metrics-*"))) == 1

        answers: list[Any] = []
        slow = threading.Thread(target=lambda: answers.append(second.register("alice")))
        slow.start()
        wait_until(lambda: total(first.call("GET", "/metrics")[1], "referral_requests_in_progress") == 2)
        assert not answers
        service.process.terminate()
        wait_until(lambda: not listens(service.port))
        slow.join()
        assert service.end() == 0
        assert answers[0]["user"]["username"] == "alice"
        assert not list(service.temporary.iterdir())
        assert "Traceback" not in service.log()
    finally:
        service.process.kill()


def test_an_access_token_that_ended_on_one_worker_is_refused_by_the_other(service: Service) -> None:
    first, second = service.one_of_each()
    for number, (one, another) in enumerate([(first, second), (second, first)]):
        answer = one.register(f"leaver{number}")
        another.token = answer["access_token"]
        assert another.call("GET", "/users/me")[0] == 200
        one.call("POST", "/auth/revoke", {"token": answer["refresh_token"]})
        assert another.call("GET", "/users/me")[0] == 401


def test_a_code_that_ended_on_one_worker_is_never_shown_by_the_other(service: Service) -> None:
    first, second = service.one_of_each()
    first.register("ender")
    second.token = first.token
    for number in range(40):
        one, another = (first, second) if number % 2 else (second, first)
        code = one.call("POST", "/codes", {"ttl_days": 1})[1]["code"]
        # Looked up by both, so that both may remember it.
        for connection in (one, another, another):
            assert connection.call("GET", f"/codes/{code}")[0] == 200
        assert one.call("DELETE", "/codes/current")[0] == 204
        for connection in (another, one):
            assert connection.call("GET", f"/codes/{code}")[0] == 404, number
    hits = total(first.call("GET", "/metrics")[1], "referral_cache_lookups_total", 'result="hit"')
    assert hits >= 40, "the cache had a part in it"


def test_sighup_reads_the_settings_again_and_no_request_fails_meanwhile(service: Service) -> None:
    owner = service.connect()
    owner.register("owner")
    code = owner.call("POST", "/codes", {"ttl_days": 1})[1]["code"]
    assert len(code) == 8
    owner.close()
    before = service.workers()
    over = threading.Event()
    statuses: Counter[Any] = Counter()

    def look_up() -> None:
        while not over.is_set():
            connection = service.connect()
            try:
                statuses[connection.call("GET", f"/codes/{code}")[0]] += 1
            except (OSError, http.client.HTTPException) as error:
                statuses[repr(error)] += 1
            finally:
                connection.close()

    threads = [threading.Thread(target=look_up) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        service.settings.write_text("[codes]\nlength = 10\n")
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not before & service.workers())
        wait_until(lambda: len(service.workers()) == 2)
        served = statuses[200]
        wait_until(lambda: statuses[200] > served + 50)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}, statuses
    for connection in service.one_of_each():
        connection.token = owner.token
        assert len(connection.call("POST", "/codes", {"ttl_days": 1, "replace": True})[1]["code"]) == 10


@pytest.mark.parametrize("seconds", [0, 0.1, 0.3])
def test_sigterm_is_heard_while_the_workers_start(tmp_path: Path, seconds: float) -> None:
    service = Service(tmp_path, REFERRAL_CACHE_URL="none://")
    time.sleep(seconds)
    service.process.terminate()
    # A worker that did not hear it would be killed after thirty seconds.
    assert service.process.wait(20) == 0
    assert service.end() == 0
    assert "Traceback" not in service.log()


def test_a_slip_in_the_settings_is_reported_at_sighup_and_what_was_stays(service: Service) -> None:
    before = service.workers()
    kept = service.settings.read_text()
    service.settings.write_text("[codes]\nlength = 3\n")
    service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not before & service.workers())
    before = service.workers()
    # What the workers could not start with counts as such a slip, too.
    service.settings.write_text('[auth]\nalgorithm = "RS256"\nkey_file = "no-such.pem"\n')
    service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not before & service.workers())
    service.settings.write_text(kept)
    assert "the settings stay as they were: auth.key_file: its file is not there" in service.log()
    assert "the settings stay as they were: codes.length: must be between 6 and 32, not 3" in service.log()
    for connection in service.one_of_each():
        assert connection.call("GET", "/health/ready")[0] == 200


def test_a_killed_worker_is_replaced_and_no_mail_is_sent_twice(service: Service) -> None:
    first, second = service.one_of_each()
    folder = service.folder / "var" / "mail"
    for number in range(5):
        first.register(f"early{number}")
        second.register(f"late{number}")
    expected = {f"{kind}{number}@example.com" for kind in ("early", "late") for number in range(5)}

    def recipients() -> Counter[str]:
        return Counter(str(mail["To"]) for mail in read_mails(folder) if str(mail["To"]) in expected)

    wait_until(lambda: recipients().keys() == expected)
    victim = second.worker()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in service.workers() and len(service.workers()) == 2)
    third, fourth = service.one_of_each()
    third.register("after0")
    fourth.register("after1")
    expected |= {"after0@example.com", "after1@example.com"}
    wait_until(lambda: recipients().keys() == expected)
    assert set(recipients().values()) == {1}


def test_a_worker_that_finds_the_database_out_is_tried_again_and_the_service_goes_on(
    service: Service, postgres_server: PostgresServer, database: str
) -> None:
    first, second = service.one_of_each()
    postgres_server.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
    try:
        postgres_server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
        victim = second.worker()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: "cannot start: cannot connect to PostgreSQL" in service.log())
        status, answer = first.call("GET", "/health/ready")
        assert (status, answer["checks"]["database"]) == (503, "unavailable")
        assert first.call("GET", "/users/me/referrals")[0] == 401
    finally:
        postgres_server.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
    for connection in service.one_of_each():
        assert connection.call("GET", "/health/ready")[0] == 200
