"""Events exactly once: a service, or its workers, killed amid a thousand of them, and every report made again until it is
answered."""

from __future__ import annotations

import asyncio
from collections import Counter

from aiohttp import ClientSession, ClientTimeout

from tests.support.killed import Killed
from tests.support.rows import sql

EVENTS, CALLERS = 1_000, 16


async def test_killed_amid_a_thousand_events_each_is_recorded_once(killed: Killed) -> None:
    key = killed.new_key()
    asked: Counter[int] = Counter()
    running = asyncio.create_task(killed.kill_again_and_again(asked, EVENTS))
    numbers = iter(range(EVENTS))
    async with ClientSession(headers={"Authorization": f"Bearer {key}"}, timeout=ClientTimeout(10)) as session:
        await killed.call(session, "PUT", "/users/ext:referrer", {"code": {"code": "THE-CODE", "ttl_days": 30}})

        async def report() -> None:
            for number in numbers:
                # Every tenth brings somebody new by the code; the others buy.
                user = {"external_id": f"user {number - number % 10}"}
                body = {"id": f"e{number}", "type": "purchase", "user": user, "value": {"unit": "USD", "amount": number}}
                if number % 10 == 0:
                    body |= {"type": "signup", "code": "THE-CODE", "context": {"device": f"d{number}"}}
                    body["user"] = {"external_id": f"new user {number}"}
                status, answer = await killed.call(session, "POST", "/events", body)
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
