"""The whole set: two services behind nginx, PostgreSQL with a synchronous standby, PgBouncer, Redis with Sentinels.

One service finds the primary by a URL of both servers; the other one, of two workers, goes through PgBouncer, which whoever
promotes a standby leads to the new primary.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import psycopg

from tests.support.pgbouncer import PgBouncer
from tests.support.proxies import NginxBefore
from tests.support.sentinel import RedisSentinel
from tests.support.servers import PostgresServer, free_port, wait_until
from tests.support.service import run_py, status_of
from tests.support.standby import Standby

# Not the one of the shipped settings of PgBouncer, which lead elsewhere.
NAME = "soak"


class Service:
    """`run.py serve` as processes of their own group."""

    def __init__(self, folder: Path, port: int, settings: dict[str, str]) -> None:
        folder.mkdir()
        self.folder = folder
        self.address = f"http://127.0.0.1:{port}"
        self._settings = {
            "PATH": os.environ["PATH"],
            "REFERRAL_SERVER_PORT": str(port),
            "REFERRAL_SERVER_TRUSTED_PROXIES": "127.0.0.1",
            "REFERRAL_SERVER_DRAIN": "1",
            "REFERRAL_AUTH_SECRET": "a secret of the soak, of more than 32 characters",
            "REFERRAL_AUTH_BCRYPT_ROUNDS": "4",
            "REFERRAL_LIMITS_ENABLED": "false",
            "REFERRAL_LOG_LEVEL": "warning",
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "service.log"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*run_py(self.folder), "serve", "--no-migrate"],
                cwd=self.folder,
                env=self._settings,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: self.is_ready() or self.process is None or self.process.poll() is not None, 60)
        if self.process.poll() is not None:
            raise RuntimeError(f"no start: {self.log.read_text()[-2000:]}")

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        line = [*run_py(self.folder), *arguments]
        return subprocess.run(line, cwd=self.folder, env=self._settings, capture_output=True, text=True, check=False)

    def is_ready(self) -> bool:
        return status_of(f"{self.address}/health/ready") == 200

    def kill(self) -> None:
        """All its processes, as by kill -9."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def kill_worker(self) -> None:
        """One of its workers, which its master replaces."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)

    def end(self) -> None:
        """As a rolling restart ends it. Raises when it takes too long."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(35)

    def hang(self, number: int = signal.SIGSTOP) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)


class Surroundings:
    """`with Surroundings(folder) as these:` starts all of it; each part can be stopped, hung and killed by itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._standbys = 0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        self.redis = self._stack.enter_context(RedisSentinel())
        self.primary = PostgresServer(self._folder("postgres"), fsync=True)
        self._stack.callback(self._kill_postgres)
        self.standby = self.primary
        self.primary.start()
        self.primary.make_database(NAME)
        self.standby = self._new_standby(free_port())
        self.pooler = self._stack.enter_context(PgBouncer(self._folder("pooler"), self.primary))
        hosts = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        ports = (free_port(), free_port())
        urls = (f"postgresql://referral@{hosts}/{NAME}?target_session_attrs=read-write", self.pooler.url(NAME))
        self.nginx = NginxBefore(self._folder("nginx"), ports)
        self.services = []
        for number, (port, url) in enumerate(zip(ports, urls, strict=True), 1):
            settings = {
                "REFERRAL_SERVER_PUBLIC_URL": self.address,
                "REFERRAL_DATABASE_URL": url,
                "REFERRAL_CACHE_URL": self.redis.url,
                "REFERRAL_SERVER_WORKERS": str(number),
                "REFERRAL_DATABASE_POOL_SIZE": "5",
            }
            service = Service(self.folder / f"service-{number}", port, settings)
            self._stack.callback(service.kill)
            service.start()
            self.services.append(service)
        self._stack.enter_context(self.nginx)

    def _kill_postgres(self) -> None:
        # Whichever of them is which by then.
        for server in (self.primary, self.standby):
            server.kill()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.nginx.port}"

    def fail_over_postgres(self) -> None:
        """Kill the primary, promote its standby, and make a new standby in the place of the one that was killed."""
        former = self.primary
        former.kill()
        assert isinstance(self.standby, Standby)
        self.standby.promote()
        self.primary = self.standby
        # What was copied from the former one: until there is a standby again, nothing can wait for one.
        self.primary.execute("ALTER SYSTEM RESET synchronous_standby_names")
        self.primary.execute("SELECT pg_reload_conf()")
        self.lead_pooler()
        self.standby = self._new_standby(former.port)
        shutil.rmtree(former.folder, ignore_errors=True)

    def lead_pooler(self) -> None:
        """Lead PgBouncer to the primary."""
        self.pooler.server = self.primary
        self.pooler.command()
        self.pooler.admin("RELOAD")

    def _new_standby(self, port: int) -> Standby:
        self._standbys += 1
        standby = Standby(self._folder(f"standby-{self._standbys}"), self.primary)
        standby.port = port
        standby.start()
        standby.make_synchronous()
        return standby

    def is_settled(self) -> bool:
        """Whether every part does its work again."""
        try:
            return (
                all(service.is_ready() for service in self.services)
                and self.redis.is_settled()
                and isinstance(self.standby, Standby)
                and self.standby.streams()
            )
        except psycopg.Error:
            return False

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder
