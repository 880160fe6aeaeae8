"""The servers that the bench starts, each on its core: the service, the bare handler, Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from bench.load import Caller
from referral.config.sections import Limits
from tests.support.servers import PostgresServer

ROOT = Path(__file__).resolve().parent.parent
API = "/api/v1"
PASSWORD = "a password of the bench"
SERVER_CORE, LOAD_CORE = "0", "1"
# So high that the bench never reaches one, and each is still counted.
NO_LIMIT = "1000000000/minute"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def bare_handler(processes: int = 1, cores: str = SERVER_CORE) -> Iterator[str]:
    """The bare handler on the server's core, or on these by several processes; its URL."""
    port = free_port()
    command, url = [sys.executable, "-m", "bench.bare", str(port)], f"http://127.0.0.1:{port}/"
    with contextlib.ExitStack() as stack:
        for _ in range(processes):
            stack.enter_context(started(command, ROOT, {}, url, cores))
        if processes > 1:
            # The first may have answered for all.
            time.sleep(1)
        yield url


@dataclass
class Service:
    """A running service and somebody who is signed in."""

    port: int
    pid: int
    token: str = ""
    code: str = ""
    user_id: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{API}"

    @property
    def signed_in(self) -> str:
        return f"Authorization: Bearer {self.token}"

    def memory(self) -> float:
        """Resident megabytes of the serving process."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("no VmRSS")


def settings(folder: Path, port: int, **more: str) -> dict[str, str]:
    limits = {f"REFERRAL_LIMITS_{name.upper()}": NO_LIMIT for name in _limit_names()}
    return {
        "REFERRAL_SERVER_PORT": str(port),
        "REFERRAL_SERVER_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "REFERRAL_DATABASE_URL": f"sqlite:///{folder / 'bench.db'}",
        "REFERRAL_MAIL_URL": f"file:{folder / 'mail'}",
        "REFERRAL_AUTH_SECRET": "a secret of the bench, long enough to be one",
        **limits,
        **more,
    }


def run_command(folder: Path, *arguments: str, **more: str) -> str:
    """What a command of run.py prints on the database of a service with the same settings. Raises CalledProcessError."""
    environ = {"PATH": os.environ["PATH"], **settings(folder, free_port(), **more)}
    command = [sys.executable, str(ROOT / "run.py"), *arguments]
    return subprocess.run(command, cwd=folder, env=environ, check=True, capture_output=True, text=True).stdout.strip()


def new_key(folder: Path, scope: str = "write", **more: str) -> str:
    """A service key of this scope, made as an operator makes it."""
    return run_command(folder, "keys", "create", "bench", "--scope", scope, **more)


def _limit_names() -> list[str]:
    return [item.name for item in fields(Limits) if item.name != "enabled"]


@contextlib.contextmanager
def service(folder: Path, cores: str = SERVER_CORE, log: int | None = None, **more: str) -> Iterator[Service]:
    """The service on the server's core, with a user who has a code; its log goes to a file, or to this descriptor."""
    port = free_port()
    environment = settings(folder, port, **more)
    with started(
        [sys.executable, str(ROOT / "run.py")], folder, environment, f"http://127.0.0.1:{port}/health/live", cores, log
    ) as process:
        running = Service(port, process.pid)
        asyncio.run(_settle_in(running))
        yield running


async def _settle_in(running: Service) -> None:
    caller = Caller(running.port)
    name = f"bench{time.time_ns()}"
    status, document = await caller.call(
        "POST", f"{API}/auth/register", {"email": f"{name}@example.com", "password": PASSWORD}
    )
    assert status == 201, document
    running.token, running.user_id = document["access_token"], document["user"]["id"]
    status, document = await caller.call("POST", f"{API}/codes", {"ttl_days": 365}, running.token)
    assert status == 201, document
    running.code = document["code"]


@contextlib.contextmanager
def started(
    command: list[str],
    folder: Path,
    environment: dict[str, str],
    ready: str,
    cores: str = SERVER_CORE,
    log_to: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    environ = {**{key: value for key, value in os.environ.items() if not key.startswith("REFERRAL_")}, **environment}
    environ["PYTHONPATH"] = str(ROOT)
    with (folder / "server.log" if folder != ROOT else Path(os.devnull)).open("ab") as log:
        errors = log if log_to is None else log_to
        process = subprocess.Popen(["taskset", "-c", cores, *command], cwd=folder, env=environ, stdout=log, stderr=errors)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(ready, timeout=1).read()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"no start: see {folder}/server.log") from None
                time.sleep(0.005)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@contextlib.contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """A PostgreSQL of its own, durable, on the load's core; the URL of an empty database."""
    server = PostgresServer(folder, fsync=True)
    server.start()
    assert server.process
    os.sched_setaffinity(server.process.pid, {int(LOAD_CORE)})
    try:
        server.execute("CREATE DATABASE bench")
        yield server.url("bench")
    finally:
        server.kill()


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """A Redis on the load's core; its URL."""
    port = free_port()
    server = subprocess.Popen(
        ["taskset", "-c", LOAD_CORE, "redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
    )
    try:
        time.sleep(0.5)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()
