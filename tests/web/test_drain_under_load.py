"""Restarts under load: of services behind the proxies whose settings are shipped, of one that clients use directly, and of
the workers of one. No request is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import pytest
from aiohttp import ClientConnectorError, ClientSession, TCPConnector

from tests.support.people import API
from tests.support.proxies import HaproxyBefore, NginxBefore
from tests.support.servers import free_port
from tests.support.service import run_py

# `make soak` makes twenty of each.
RESTARTS = int(os.environ.get("DRAIN_RESTARTS", "4"))
CLIENTS = 16
# Runs `run.py serve` each time that it is told to, in a process that has its modules already, and says which process it is
# and how it ended.
AGAIN = """
import os, sys
sys.argv[0] = {run!r}
sys.path.insert(0, {folder!r})
import run, uvloop, referral.app, referral.commands.signing_keys, referral.web.server
for _ in sys.stdin:
    process = os.fork()
    if process == 0:
        sys.exit(run.main())
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


@pytest.fixture
def engine() -> str:
    """Which several services share."""
    return "postgres"


class Service:
    """A service on a port of its own that is started and stopped again and again."""

    def __init__(self, folder: Path, database_url: str, **settings: str) -> None:
        folder.mkdir()
        self.port = free_port()
        self._folder = folder
        self._environ = {
            "PATH": os.environ["PATH"],
            "REFERRAL_SERVER_PORT": str(self.port),
            "REFERRAL_DATABASE_URL": database_url,
            "REFERRAL_CACHE_URL": "none://",
            "REFERRAL_LIMITS_ENABLED": "false",
            "REFERRAL_AUTH_SECRET": "a secret that these services share, of 32 characters",
            **settings,
        }
        self._parent: Process | None = None
        self.pid = 0

    async def start(self) -> None:
        if self._parent is None:
            program = AGAIN.format(run=run_py(self._folder)[1], folder=str(self._folder))
            with (self._folder / "log").open("wb") as log:
                self._parent = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-c", program),
                    cwd=self._folder,
                    env=self._environ,
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=log,
                )
        assert self._parent.stdin is not None
        self._parent.stdin.write(b"\n")
        self.pid = int(await self._line())
        assert "Serving on" in await self._line(), self.log()

    async def stop(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        assert await self._line() == "0", self.log()
        self.pid = 0

    async def end(self) -> None:
        if self.pid:
            await self.stop()
        if self._parent is not None:
            self._parent.kill()
            await self._parent.wait()
        assert "Traceback" not in self.log()

    def log(self) -> str:
        return (self._folder / "log").read_text()

    def workers(self) -> set[int]:
        return set(map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()))

    async def _line(self) -> str:
        assert self._parent is not None
        assert self._parent.stdout is not None
        return (await asyncio.wait_for(self._parent.stdout.readline(), 40)).decode().strip()


class Load:
    """Clients that keep one connection each alive, send a GET and a POST in turn on it, and nothing twice."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self._clients: set[asyncio.Task[None]] = set()
        self._is_over = False

    def add(self, port: int, clients: int) -> None:
        for _ in range(clients):
            self._clients.add(asyncio.create_task(self._use(f"http://127.0.0.1:{port}")))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True
        await asyncio.gather(*self._clients)

    async def _use(self, address: str) -> None:
        async with ClientSession(connector=TCPConnector(limit=1)) as session:
            # aiohttp itself would send a GET again on another connection.
            session._retry_connection = False
            while not self._is_over:
                await self._ask(session, "GET", f"{address}/health/live")
                await self._ask(session, "POST", f"{address}{API}/auth/revoke", data={"token": "of nobody"})

    async def _ask(self, session: ClientSession, method: str, url: str, **options: Any) -> None:
        try:
            async with session.request(method, url, **options) as response:
                await response.read()
                self.answers[f"{method} {response.status}"] += 1
        except ClientConnectorError:
            # Nothing was sent: there is no service at this address at the moment.
            self.answers["refused"] += 1
        except Exception as error:
            self.answers[f"{method} {error!r}"] += 1
        await asyncio.sleep(0.02)

    async def goes_on(self) -> None:
        """Return when everybody has been answered some times more."""
        before = self.answers.total()
        async with asyncio.timeout(20):
            while self.answers.total() < before + 4 * len(self._clients):
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(*services: Service) -> AsyncIterator[None]:
    try:
        await asyncio.gather(*(service.start() for service in services))
        yield
    finally:
        await asyncio.gather(*(service.end() for service in services))


@pytest.mark.parametrize("kind", [NginxBefore, HaproxyBefore])
async def test_no_request_is_lost_when_one_of_two_services_behind_a_proxy_restarts(
    tmp_path: Path, database_url: str, kind: type[NginxBefore | HaproxyBefore]
) -> None:
    # One goes without a notice, and one for which HAProxy has the time to notice.
    services = (
        Service(tmp_path / "first", database_url),
        Service(tmp_path / "second", database_url, REFERRAL_SERVER_DRAIN="2"),
    )
    (tmp_path / "proxy").mkdir()
    proxy = kind(tmp_path / "proxy", (services[0].port, services[1].port))
    async with running(*services):
        with proxy:
            async with Load() as load:
                load.add(proxy.port, CLIENTS)
                for number in range(RESTARTS):
                    # The ones with a notice take longer, and are fewer.
                    service = services[number % 4 == 3]
                    await load.goes_on()
                    await service.stop()
                    await service.start()
                await load.goes_on()
    assert load.answers.keys() == {"GET 200", "POST 200"}, load.answers


async def test_no_request_is_lost_on_connections_that_clients_keep_to_a_service_that_restarts(
    tmp_path: Path, database_url: str
) -> None:
    service = Service(tmp_path / "service", database_url)
    async with running(service), Load() as load:
        load.add(service.port, CLIENTS)
        for _ in range(5):
            await load.goes_on()
            await service.stop()
            await service.start()
        await load.goes_on()
    # Whoever is not answered for a second may be let in by the next process.
    assert load.answers.keys() - {"refused"} == {"GET 200", "POST 200"}, load.answers


async def test_no_request_is_lost_when_workers_are_replaced(tmp_path: Path, database_url: str) -> None:
    service = Service(tmp_path / "service", database_url, REFERRAL_SERVER_WORKERS="2", REFERRAL_SERVER_DRAIN="2")
    async with running(service), Load() as load:
        load.add(service.port, CLIENTS)
        for _ in range(RESTARTS):
            await load.goes_on()
            before = service.workers()
            os.kill(service.pid, signal.SIGHUP)
            async with asyncio.timeout(40):
                while before & service.workers():
                    await asyncio.sleep(0.02)
        await load.goes_on()
    assert load.answers.keys() == {"GET 200", "POST 200"}, load.answers
