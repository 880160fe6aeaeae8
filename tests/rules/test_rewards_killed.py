"""Rewards exactly once: two workers killed amid events with refunds and redemptions, and every call made again until it is
answered."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

from aiohttp import ClientSession, ClientTimeout

from referral.database.opening import open_database
from tests.support.killed import Killed
from tests.support.programme import SHARE, differences, usd
from tests.support.rows import sql

EVENTS, CALLERS = 300, 12
# What the referrer may spend, in cents, of which each redemption takes some.
SPENT = 70


async def test_killed_amid_events_refunds_and_redemptions_nothing_is_twice_and_nothing_is_lost(killed: Killed) -> None:
    key = killed.new_key("admin")
    asked: Counter[int] = Counter()
    running = asyncio.create_task(killed.kill_again_and_again(asked, EVENTS))
    numbers = iter(range(EVENTS))
    headers = {"Authorization": f"Bearer {key}"}
    async with ClientSession(headers=headers, timeout=ClientTimeout(10)) as session:

        async def call(method: str, path: str, body: Any, *allowed: int) -> Any:
            status, answer = await killed.call(session, method, path, body)
            assert status in allowed, answer
            return answer

        rule = {"name": "A fifth", "on": "purchase", "to": "referrer", "give": SHARE, "times": None, "hold_days": 0}
        budget = {"budget": {"unit": "USD", "amount": 10**9, "period": "ever"}}
        await call("PUT", "/users/ext:referrer", {"code": {"code": "THE-CODE", "ttl_days": 30}}, 200, 201)
        # Not more than one of each: a call that nobody answered may have been heard.
        await call("POST", "/rules", {**rule, "limits": budget}, 201)
        await call("POST", "/rules", {**rule, "to": "referee", "hold_days": 0.00002}, 201)

        async def work() -> None:
            for number in numbers:
                user = {"external_id": f"user {number % 20}"}
                event = {
                    "id": f"e{number}",
                    "type": "purchase",
                    "user": user,
                    "value": usd(1000 + number),
                    "code": "THE-CODE",
                }
                refund = {"id": f"r{number}", "type": "refund", "refunds": f"e{number}"}
                spend = {"id": f"d{number}", **usd(SPENT)}
                await call("POST", "/events", event, 200, 201)
                if number % 3 == 0:
                    await call("POST", "/events", {**refund, "value": usd(500)}, 200, 201)
                if number % 9 == 0:
                    await call("POST", "/events", {**refund, "id": f"s{number}"}, 200, 201)
                if number % 2 == 0:
                    held = {"hold_seconds": 60} if number % 4 == 0 else {}
                    await call("POST", "/users/ext:referrer/redemptions", {**spend, **held}, 200, 201, 409)
                if number % 8 == 0:
                    await call("POST", f"/redemptions/d{number}/{random.choice(('capture', 'cancel'))}", None, 200, 404)
                asked[200] += 1

        await asyncio.gather(*(work() for _ in range(CALLERS)))
    await running
    url = killed.settings["REFERRAL_DATABASE_URL"]
    rules = (await sql(url, "SELECT count(*) FROM rules"))[0][0] // 2
    assert await sql(url, "SELECT count(*) FROM events WHERE type = 'purchase'") == [(EVENTS,)]
    assert await sql(url, "SELECT count(*) FROM rewards") == [(2 * EVENTS * rules,)]
    left = sum(_left(number) for number in range(EVENTS))
    ((given, taken),) = await sql(
        url, "SELECT sum(value), sum(reversed) FROM rewards WHERE side = 'referrer' AND status <> 'void'"
    )
    assert int(given) - int(taken) == left * rules
    database = await open_database(url)
    try:
        assert await differences(database) == []
    finally:
        await database.close()


def _left(number: int) -> int:
    """What is left of the referrer's reward for an event."""
    amount, value = 1000 + number, (1000 + number) // 5
    if number % 9 == 0:
        return 0
    return value * (amount - 500) // amount if number % 3 == 0 else value
