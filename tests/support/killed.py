"""A service that is killed amid calls, which are made again until they are answered."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession

from tests.support.people import API, SECRETS
from tests.support.servers import free_port
from tests.support.service import is_ready, run_py, started


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

    def new_key(self, scope: str = "write") -> str:
        command = [*run_py(self.folder), "keys", "create", "shop", "--scope", scope]
        environ = {"PATH": os.environ["PATH"], **self.settings}
        made = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, check=True)
        SECRETS.add(made.stdout.strip())
        return made.stdout.strip()

    async def kill_again_and_again(self, asked: Counter[int], calls: int) -> None:
        """Start it, and kill it with SIGKILL, all of it or each worker, after every third of so many calls."""
        for part in (1, 2, 3):
            with started(self.folder, lambda: is_ready(self.address), self.settings) as process:
                while sum(asked.values()) < calls * part // 3:
                    await asyncio.sleep(0.005)
                if part == 3:
                    return
                if self.workers > 1:
                    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                    assert len(children) == self.workers
                    for child in children:
                        os.kill(int(child), signal.SIGKILL)
                process.kill()

    async def call(self, session: ClientSession, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Ask until there is an answer of the service's own."""
        while True:
            try:
                async with session.request(method, f"{self.address}{API}{path}", json=body) as response:
                    if response.status < 500:
                        return response.status, await response.json()
            except (ClientError, OSError, TimeoutError, json.JSONDecodeError):
                pass
            await asyncio.sleep(0.02)
