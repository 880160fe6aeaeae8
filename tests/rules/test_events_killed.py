"""Events exactly once: a service, or its workers, killed amid a thousand of them, and every report made again until it is
answered."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout

from tests.support.people import API, SECRETS
from tests.support.rows import sql
from tests.support.servers import PostgresServer, free_port
from tests.support.service import is_ready, run_py, started

EVENTS, CALLERS = 1_000, 16


class Killed:
    """A service of one process, or of two workers, which is killed again and again while it is asked."""

    def __init__(self, folder: Path, database_url: str, workers: int) -> None:
        self.folder, self.workers = folder, workers
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.settings = {
            "REFERRAL_SERVER_PORT": str(self.port),
            "REFERRAL_SERVER_WORKERS": str(workers),
            "REFERRAL_DATABASE_URL": database_url,
            "REFERRAL_CACHE_URL": "memory://" if workers == 1 else "none://",
            "REFERRAL_LIMITS_ENABLED": "false",
            "REFERRAL_LOG_LEVEL": "warning",
        }

    def new_key(self) -> str:
        command = [*run_py(self.folder), "keys", "create", "shop", "--scope", "write"]
        environ = {"PATH": os.environ["PATH"], **self.settings}
        made = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, check=True)
        SECRETS.add(made.stdout.strip())
        return made.stdout.strip()

    async def kill_again_and_again(self, asked: Counter[int]) -> None:
        """Start it, and kill it with SIGKILL, all of it or each worker, after every third of the events."""
        for part in (1, 2, 3):
            with started(self.folder, lambda: is_ready(self.address), self.settings) as process:
                while sum(asked.values()) < EVENTS * part // 3:
                    await asyncio.sleep(0.005)
                if part == 3:
                    return
                if self.workers > 1:
                    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                    assert len(children) == self.workers
                    for child in children:
                        os.kill(int(child), signal.SIGKILL)
                process.kill()


@pytest.fixture(params=[("sqlite", 1), ("postgres", 2)], ids=lambda param: f"{param[0]}-{param[1]}")
def killed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Killed]:
    engine, workers = request.param
    if engine == "sqlite":
        yield Killed(tmp_path, f"sqlite:///{tmp_path}/killed.db", workers)
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    server.execute("CREATE DATABASE killed TEMPLATE migrated")
    yield Killed(tmp_path, server.url("killed"), workers)
    server.execute("DROP DATABASE killed WITH (FORCE)")


async def test_killed_amid_a_thousand_events_each_is_recorded_once(killed: Killed) -> None:
    key = killed.new_key()
    asked: Counter[int] = Counter()
    running = asyncio.create_task(killed.kill_again_and_again(asked))
    numbers = iter(range(EVENTS))
    async with ClientSession(headers={"Authorization": f"Bearer {key}"}, timeout=ClientTimeout(10)) as session:

        async def call(method: str, path: str, body: Any) -> tuple[int, Any]:
            """Ask until there is an answer of the service's own."""
            while True:
                try:
                    async with session.request(method, f"{killed.address}{API}{path}", json=body) as response:
                        if response.status < 500:
                            return response.status, await response.json()
                except (ClientError, OSError, TimeoutError, json.JSONDecodeError):
                    pass
                await asyncio.sleep(0.02)

        await call("PUT", "/users/ext:referrer", {"code": {"code": "THE-CODE", "ttl_days": 30}})

        async def report() -> None:
            for number in numbers:
                # Every tenth brings somebody new by the code; the others buy.
                user = {"external_id": f"user {number - number % 10}"}
                body = {"id": f"e{number}", "type": "purchase", "user": user, "value": {"unit": "USD", "amount": number}}
                if number % 10 == 0:
                    body |= {"type": "signup", "code": "THE-CODE", "context": {"device": f"d{number}"}}
                    body["user"] = {"external_id": f"new user {number}"}
                status, answer = await call("POST", "/events", body)
                assert status in (200, 201), answer
                asked[status] += 1

        # The referrer is there before the first of them.
        await asyncio.gather(*(report() for _ in range(CALLERS)))
    await running
    url = killed.settings["REFERRAL_DATABASE_URL"]
    assert sum(asked.values()) == EVENTS
    assert await sql(url, "SELECT count(*), sum(amount) FROM events") == [(EVENTS, sum(range(EVENTS)))]
    brought = [(EVENTS // 10,)]
    assert await sql(url, "SELECT count(*) FROM referrals") == brought
    assert await sql(url, "SELECT referral_count FROM users WHERE external_id = 'referrer'") == brought
    assert await sql(url, "SELECT uses FROM codes") == brought
    assert await sql(url, "SELECT count(*) FROM events WHERE attribution = 'attributed'") == brought
    assert await sql(url, "SELECT count(*) FROM event_contexts") == brought
    assert await sql(url, "SELECT count(*) FROM users") == [(2 * EVENTS // 10 + 1,)]
    # What was killed after its commit and before its answer was told by a repeated report.
    assert asked[200] < CALLERS * 4
