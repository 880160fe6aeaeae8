"""Webhooks as an admin makes them, what their receivers got, and rows that only much time would make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient
from standardwebhooks import Webhook

from referral.clock import now
from referral.database import is_postgres
from referral.metrics import METRICS
from tests.support.people import SECRETS, Answer, Product
from tests.support.receivers import Received, Receiver
from tests.support.rows import sql

# Receivers of tests are on this machine.
LOOPBACK = {"webhooks_allowed_networks": "127.0.0.0/8"}
# What advances the clock by seconds.
Advance = Callable[[float], None]


@dataclass
class Hook:
    """A webhook, and its secret."""

    admin: Product
    id: str
    secret: str

    @classmethod
    async def make(cls, admin: Product, url: str, *types: str) -> Hook:
        answer = await admin.post("/webhooks", {"url": url, "types": list(types or ("*",))})
        assert answer.status == 201, answer.body
        SECRETS.add(answer.body["secret"])
        return cls(admin, answer.body["id"], answer.body["secret"])

    async def get(self) -> dict[str, Any]:
        answer = await self.admin.get(f"/webhooks/{self.id}")
        assert answer.status == 200, answer.body
        return dict(answer.body)

    async def change(self, **members: Any) -> dict[str, Any]:
        answer = await self.admin.patch(f"/webhooks/{self.id}", members)
        assert answer.status == 200, answer.body
        return dict(answer.body)

    async def post(self, step: str, body: Any = None) -> Answer:
        answer = await self.admin.post(f"/webhooks/{self.id}/{step}", body)
        if isinstance(answer.body, dict) and "secret" in answer.body:
            SECRETS.add(answer.body["secret"])
        return answer

    async def replay(self, since: str = "2020-01-01T00:00:00Z", *types: str) -> Answer:
        return await self.post("replay", {"since": since, **({"types": list(types)} if types else {})})

    async def delete(self) -> None:
        assert (await self.admin.delete(f"/webhooks/{self.id}")).status == 204

    async def deliveries(self, status: str | None = None) -> list[dict[str, Any]]:
        """All of them, newest first, page by page."""
        path = f"/webhooks/{self.id}/deliveries"
        params = {"limit": "100"} if status is None else {"limit": "100", "status": status}
        found: list[dict[str, Any]] = []
        while True:
            answer = await self.admin.get(path, params=params)
            assert answer.status == 200, answer.body
            found += answer.body["items"]
            if answer.body["next_cursor"] is None:
                return found
            params = {**params, "cursor": answer.body["next_cursor"]}

    async def states(self) -> Counter[str]:
        """How many deliveries are in each state."""
        return Counter(delivery["status"] for delivery in await self.deliveries())

    async def delivery(self, change_id: str) -> dict[str, Any]:
        answer = await self.admin.get(f"/webhooks/{self.id}/deliveries/{change_id}")
        assert answer.status == 200, answer.body
        return dict(answer.body)

    async def are(self, **states: int) -> bool:
        """Whether exactly so many deliveries are in each state."""
        return await self.states() == Counter(states)


def signed(received: Received, *secrets: str) -> dict[str, Any]:
    """What was sent, verified by each of the secrets as a receiver does."""
    found: dict[str, Any] = {}
    for secret in secrets:
        found = Webhook(secret).verify(received.body, received.headers)
    return found


def ids(receiver: Receiver) -> list[str]:
    """The ids of what was received, in its order."""
    return [received.headers["webhook-id"] for received in receiver.seen]


def metric(client: TestClient[web.Request, web.Application], result: str) -> float:
    """How many attempts had this result."""
    found: float = client.app[METRICS].deliveries.labels(result)._value.get()
    return found


def numbers(url: str, count: int) -> str:
    """A table of numbers, from 1 to the count, as `n.i`."""
    if is_postgres(url):
        return f"(SELECT i FROM generate_series(1, {count}) AS i) AS n"
    return f"(WITH RECURSIVE r (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {count}) SELECT i FROM r) AS n"


async def add_changes(url: str, count: int, at: int | None = None, kind: str = "user.created") -> int:
    """Tell so many changes, of a subject each, past the service; returns the number of the first one."""
    ((last,),) = await sql(url, "SELECT last_seq FROM feed")
    moment = now() if at is None else at
    digits = "lpad(cast(n.i + {0} AS text), 12, '0')" if is_postgres(url) else "printf('%012d', n.i + {0})"
    await sql(
        url,
        "INSERT INTO changes (seq, id, type, at, subject_id, version, data) "
        f"SELECT n.i + {last}, '00000000-0000-7000-8000-' || {digits.format(last)}, '{kind}', {moment}, "
        f"'subject ' || {digits.format(last)}, 1, '{{\"id\":\"x\"}}' FROM {numbers(url, count)}",
    )
    await sql(url, f"UPDATE feed SET last_seq = {last + count}")
    return int(last) + 1


async def add_deliveries(url: str, webhook_id: str, first: int, count: int, status: str = "waiting", due: int = 0) -> None:
    """Have so many changes, from a number on, queued for a webhook past the service."""
    values = {
        "waiting": f"{due}, NULL, 0, NULL",
        "delivered": f"NULL, {now()}, 1, NULL",
        "failed": "NULL, NULL, 10, 'Out of order'",
        "dropped": "NULL, NULL, 3, 'Out of order'",
    }[status]
    await sql(
        url,
        "INSERT INTO deliveries (seq, webhook_id, status, next_attempt_at, delivered_at, attempts, last_error) "
        f"SELECT n.i + {first - 1}, '{webhook_id}', '{status}', {values} FROM {numbers(url, count)}",
    )
