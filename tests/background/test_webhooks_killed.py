"""Webhooks at least once: workers killed amid events, a receiver that fails now and then, and a follower of the feed, who
ends up with the same state as the receiver."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout, web
from standardwebhooks import Webhook

from tests.support.killed import Killed
from tests.support.people import SECRETS
from tests.support.programme import SHARE, usd
from tests.support.rows import sql
from tests.support.service import is_ready, started

EVENTS, CALLERS, PARTS = 120, 8, 3
# What a thing is now: of each subject and group of types, the greatest version and its object.
State = dict[tuple[str, str], tuple[int, Any]]


@pytest.fixture
def killed(killed: Killed) -> Killed:
    """The service, which may send to this machine."""
    killed.settings["REFERRAL_WEBHOOKS_ALLOWED_NETWORKS"] = "127.0.0.0/8"
    return killed


class Follower:
    """Keeps the greatest version of each thing, and what it has seen before only once."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.state: State = {}

    def take(self, change_id: str, kind: str, subject_id: str, version: int, data: Any) -> None:
        self.seen[change_id] += 1
        key = (subject_id, kind.partition(".")[0])
        if self.seen[change_id] == 1 and version > self.state.get(key, (0, None))[0]:
            self.state[key] = version, data


class Receiver(Follower):
    """Answers one of ten calls with an error, which was heard or not, and takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.secret, self.is_well = "", False
        self.calls = self.under_way = self.most_at_once = 0

    async def receive(self, request: web.Request) -> web.Response:
        self.calls += 1
        number = self.calls
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            body = Webhook(self.secret).verify(await request.read(), dict(request.headers))
            await asyncio.sleep(0.004)
            fails = not self.is_well and number % 10 == 0
            if not fails or number % 20:
                self.take(request.headers["webhook-id"], body["type"], body["subject_id"], body["version"], body["data"])
            return web.Response(status=503 if fails else 204)
        finally:
            self.under_way -= 1


@asynccontextmanager
async def served(receiver: Receiver) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/hook", receiver.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    await runner.cleanup()


async def end_leases(killed: Killed) -> None:
    """Let the leases of whoever was killed end, and the pauses of what has failed."""
    await sql(
        killed.settings["REFERRAL_DATABASE_URL"],
        "UPDATE deliveries SET leased_until = NULL, next_attempt_at = 0 WHERE status = 'waiting'",
    )


def kill_all(killed: Killed, pid: int) -> None:
    if killed.workers > 1:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)


async def test_killed_amid_events_every_change_is_received_and_both_followers_end_up_with_the_same_state(
    killed: Killed,
) -> None:
    headers = {"Authorization": f"Bearer {killed.new_key('admin')}"}
    done: Counter[str] = Counter()
    receiver, follower = Receiver(), Follower()
    async with served(receiver) as url, ClientSession(headers=headers, timeout=ClientTimeout(10)) as session:

        async def call(method: str, path: str, body: Any, *allowed: int) -> Any:
            status, answer = await killed.call(session, method, path, body)
            assert status in allowed, answer
            return answer

        async def prepare() -> None:
            hook = await call("POST", "/webhooks", {"url": url, "types": ["*"]}, 201)
            receiver.secret = hook["secret"]
            SECRETS.add(receiver.secret)
            await call("PUT", "/users/ext:referrer", {"code": {"code": "THE-CODE", "ttl_days": 30}}, 200, 201)
            rule = {"name": "A fifth", "on": "purchase", "to": "referrer", "give": SHARE, "times": None, "hold_days": 0}
            await call("POST", "/rules", rule, 201)

        async def report(numbers: Iterator[int]) -> None:
            for number in numbers:
                event = {
                    "id": f"e{number}",
                    "type": "purchase",
                    "user": {"external_id": f"user {number % 20}"},
                    "value": usd(1000 + number),
                    "code": "THE-CODE",
                }
                await call("POST", "/events", event, 200, 201)
                if number % 3 == 0:
                    await call("POST", "/events", {"id": f"r{number}", "type": "refund", "refunds": f"e{number}"}, 200, 201)
                done["events"] += 1

        async def follow() -> None:
            last_seq, is_last = 0, False
            while not is_last:
                is_last = done["all"] > 0
                page = await call("GET", f"/changes?after={last_seq}&limit=100&wait={0 if is_last else 1}", None, 200)
                for change in page["items"]:
                    follower.take(*(change[name] for name in ("id", "type", "subject_id", "version", "data")))
                last_seq, is_last = page["last_seq"], is_last and not page["items"]

        numbers = iter(range(EVENTS))
        running: list[asyncio.Task[None]] = []
        for part in range(1, PARTS + 1):
            with started(killed.folder, lambda: is_ready(killed.address), killed.settings) as process:
                if part == 1:
                    await prepare()
                    running = [asyncio.create_task(report(numbers)) for _ in range(CALLERS)]
                    running.append(asyncio.create_task(follow()))
                heard = receiver.calls
                while done["events"] < EVENTS * part // PARTS or receiver.calls < heard + 40:
                    await asyncio.sleep(0.005)
                    assert not [task for task in running if task.done() and task.exception()]
                kill_all(killed, process.pid)
            await end_leases(killed)
        receiver.is_well = True
        with started(killed.folder, lambda: is_ready(killed.address), killed.settings):
            async with asyncio.timeout(20):
                await asyncio.gather(*running[:-1])
                while await _waits(killed):
                    await asyncio.sleep(0.05)
                done["all"] += 1
                await running[-1]
    assert follower.seen.total() == len(follower.seen)
    assert receiver.seen.keys() == follower.seen.keys()
    assert receiver.state == follower.state
    # Of each kill, some was sent and not marked.
    assert len(receiver.seen) < receiver.seen.total()
    assert receiver.most_at_once <= 4 + 4
    assert {kind for _, kind in receiver.state} >= {"user", "referral", "reward", "balance", "code"}


async def _waits(killed: Killed) -> bool:
    url = killed.settings["REFERRAL_DATABASE_URL"]
    found = await sql(
        url, "SELECT (SELECT count(*) FROM deliveries WHERE status <> 'delivered'), (SELECT count(*) FROM announcements)"
    )
    return found != [(0, 0)]
