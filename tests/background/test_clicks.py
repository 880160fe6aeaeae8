"""Clicks written behind: once each, whatever the database does meanwhile, and without a trace of who it was."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout
from redis import asyncio as aioredis

from referral.auth.context_keys import ContextKeys
from referral.background import clicks, housekeeping
from referral.background.clicks import CLICKS, Clicks, NewClick
from referral.clock import DAY, now
from referral.commands import Failed
from referral.database import Connection, ConnectionLost, Database, DatabaseUnavailable, committed
from referral.ids import new_id
from referral.metrics import Metrics
from referral.queries import clicks as statements
from tests.conftest import Command, MakeClient, MakeConfig
from tests.support.browsing import PERSON
from tests.support.killed import Killed
from tests.support.people import API, Person
from tests.support.rows import count, everything, sql
from tests.support.servers import RedisServer

ADDRESS = "203.0.113.77"


@pytest.fixture
async def code(database: Database, database_url: str) -> str:
    """A code of somebody."""
    await sql(database_url, "INSERT INTO users (id, role, created_at) VALUES ('alice', 'user', 1)")
    await sql(
        database_url,
        "INSERT INTO codes (code, code_key, referrer_id, created_at, expires_at) VALUES ('CODE', 'C0DE', 'alice', 1, 2)",
    )
    return "CODE"


def made(code: str, at: int | None = None, address: str = ADDRESS, *, robot: bool = False, qr: bool = False) -> NewClick:
    return NewClick(new_id(), code, now() if at is None else at, address, "" if robot else PERSON, qr, None)


async def kept(url: str) -> list[tuple[Any, ...]]:
    return await sql(url, "SELECT code, day, clicks, visitors, qr, robots FROM click_days ORDER BY code, day")


async def test_sums_are_those_of_the_clicks_however_they_come(
    database: Database, database_url: str, code: str, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """Some hundred clicks of three days, in batches of any size, by two workers at once."""
    monkeypatch.setattr(clicks, "BATCH", 7)
    seed = random.Random(4)
    await sql(
        database_url,
        "INSERT INTO codes (code, code_key, referrer_id, created_at, expires_at, revoked_at) "
        "VALUES ('OTHER', '0THER', 'alice', 1, 2, 3)",
    )
    today = now() - now() % DAY
    workers = [Clicks(database, Metrics(), ContextKeys(90)) for _ in range(2)]
    counted: Counter[tuple[str, int, str]] = Counter()
    seen = set()
    for number in range(400):
        text, day = seed.choice((code, "OTHER")), today - seed.randrange(3) * DAY
        robot, qr, address = seed.random() < 0.2, seed.random() < 0.3, f"192.0.2.{seed.randrange(9)}"
        workers[number % 2].add(made(text, day + seed.randrange(DAY), address, robot=robot, qr=qr))
        counted[text, day, "robots" if robot else "clicks"] += 1
        counted[text, day, "qr"] += qr and not robot
        if not robot:
            seen.add((text, day, address))
        if number % 60 == 59:
            await asyncio.gather(*(worker.flush() for worker in workers))
    await asyncio.gather(*(worker.flush() for worker in workers))
    assert await kept(database_url) == [
        (
            text,
            day,
            counted[text, day, "clicks"],
            len([one for one in seen if one[:2] == (text, day)]),
            counted[text, day, "qr"],
            counted[text, day, "robots"],
        )
        for text in sorted((code, "OTHER"))
        for day in (today - 2 * DAY, today - DAY, today)
    ]
    assert await count(database_url, "clicks") == 400
    assert "No difference" in await command("verify")
    for day in (today - 2 * DAY, today):
        for change in ("clicks = clicks + {}", "visitors = visitors - {}", "robots = robots + {}"):
            where = f"WHERE code = 'OTHER' AND day = {day}"
            await sql(database_url, f"UPDATE click_days SET {change.format(1)} {where}")
            with pytest.raises(Failed, match="1 differences"):
                await command("verify")
            await sql(database_url, f"UPDATE click_days SET {change.format(-1)} {where}".replace("- -", "+ "))


async def test_what_cannot_be_written_now_is_written_later(
    database: Database, database_url: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Clicks(database, Metrics(), ContextKeys(90))
    worker.add(made(code))
    insert = statements.insert_clicks

    async def fail(*arguments: Any) -> None:
        raise DatabaseUnavailable("a test")

    monkeypatch.setattr(statements, "insert_clicks", fail)
    for _ in range(3):
        with pytest.raises(DatabaseUnavailable):
            await worker.flush()
    worker.add(made(code))
    monkeypatch.setattr(statements, "insert_clicks", insert)
    await worker.flush()
    assert [row[2:] for row in await kept(database_url)] == [(2, 1, 0, 0)]


@pytest.mark.parametrize("is_written", [True, False])
async def test_a_commit_whose_answer_is_lost_is_counted_once(
    database: Database, database_url: str, code: str, monkeypatch: pytest.MonkeyPatch, *, is_written: bool
) -> None:
    worker = Clicks(database, Metrics(), ContextKeys(90))
    for _ in range(3):
        worker.add(made(code))
    write = committed

    async def lose_answer(database: Database, change: Callable[[Connection], Awaitable[Any]]) -> Any:
        # The day's key has its own transaction.
        if getattr(change, "__name__", "") != "insert":
            return await write(database, change)
        if is_written:
            await write(database, change)
        raise ConnectionLost("a test")

    monkeypatch.setattr("referral.background.clicks.committed", lose_answer)
    with pytest.raises(DatabaseUnavailable):
        await worker.flush()
    monkeypatch.setattr("referral.background.clicks.committed", write)
    # More have come meanwhile.
    worker.add(made(code))
    await worker.flush()
    assert [row[2:] for row in await kept(database_url)] == [(4, 1, 0, 0)]
    assert await count(database_url, "clicks") == 4


async def test_a_write_that_is_broken_off_loses_and_doubles_nothing(
    database: Database, database_url: str, code: str
) -> None:
    worker = Clicks(database, Metrics(), ContextKeys(90))
    for number in range(40):
        worker.add(made(code))
        task = asyncio.create_task(worker.flush())
        await asyncio.sleep(0.0005 * (number % 8))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await worker.end()
    assert [row[2:] for row in await kept(database_url)] == [(40, 1, 0, 0)]


async def test_clicks_of_a_code_that_is_gone_hold_nobody_up(database: Database, database_url: str, code: str) -> None:
    worker = Clicks(database, Metrics(), ContextKeys(90))
    worker.add(made("GONE"))
    worker.add(made(code))
    await worker.flush()
    assert [row[0] for row in await kept(database_url)] == [code]
    assert await count(database_url, "clicks") == 1


async def test_the_end_of_the_process_waits_a_while_and_says_what_is_lost(
    database: Database, code: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang(*arguments: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(clicks, "END_TIMEOUT", 0.1)
    monkeypatch.setattr(statements, "insert_clicks", hang)
    worker = Clicks(database, Metrics(), ContextKeys(90))
    worker.add(made(code))
    await worker.end()
    assert "1 clicks are lost" in caplog.text


async def test_all_workers_share_the_key_of_a_day_and_throw_it_away(
    make_config: MakeConfig, database: Database, database_url: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = now() - now() % DAY
    first, second = Clicks(database, Metrics(), ContextKeys(90)), Clicks(database, Metrics(), ContextKeys(90))
    for worker in (first, second):
        for day in (today, today - DAY, today - 2 * DAY):
            worker.add(made(code, day))
    await asyncio.gather(first.flush(), second.flush())
    assert await count(database_url, "click_keys") == 3
    assert await count(database_url, "click_visitors") == 3
    monkeypatch.setattr(housekeeping, "OLD_CLICKS", 1)
    await housekeeping._delete_old_visitors(database)
    # That of yesterday goes before it is 48 hours old.
    kept_days = {today} | ({today - DAY} if now() - (today - DAY) < clicks.KEY_KEPT else set())
    assert {day for (day,) in await sql(database_url, "SELECT day FROM click_keys")} == kept_days
    assert {day for (day,) in await sql(database_url, "SELECT day FROM click_visitors")} == kept_days
    # Nor does a process keep it.
    first._forget_keys()
    assert set(first._keys) == kept_days
    # What was counted stays, and so do the clicks for a while.
    assert [row[2:4] for row in await kept(database_url)] == [(2, 1)] * 3
    assert await count(database_url, "clicks") == 6
    # Days are deleted as a whole.
    await sql(database_url, f"UPDATE clicks SET clicked_at = clicked_at - {89 * DAY}")
    await housekeeping._delete_old_clicks(make_config(), database)
    assert await count(database_url, "clicks") == 4
    assert len(await kept(database_url)) == 3


async def test_a_clock_that_is_set_back_does_no_harm(
    database: Database, database_url: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, today = Clicks(database, Metrics(), ContextKeys(90)), now() - now() % DAY
    for at in (today, today - 5 * DAY, today):
        monkeypatch.setattr("referral.clock.now", lambda at=at: at + 1)
        worker._forget_keys()
        worker.add(made(code, at))
        await worker.flush()
    assert [row[2:4] for row in await kept(database_url)] == [(1, 1), (2, 1)]


async def test_nothing_from_which_an_address_could_be_had_again_is_left(
    make_client: MakeClient, redis: RedisServer, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = await make_client(
        cache_url=redis.url,
        limits_enabled="true",
        links_destination="https://shop.example.com/",
        links_allowed_origins="https://shop.example.com",
        server_trusted_proxies="127.0.0.1",
        log_format="json",
    )
    alice = await Person.register(client, "alice")
    code = await alice.make_code()
    headers = {"User-Agent": f"{PERSON} of-somebody", "X-Forwarded-For": ADDRESS, "Origin": "https://shop.example.com"}
    for _ in range(3):
        async with client.get(f"/r/{code}", headers=headers, allow_redirects=False) as response:
            assert "click=" in response.headers["Location"]
        body = {"code": code, "url": "https://shop.example.com/?secret-of-the-page"}
        async with client.post(f"{API}/clicks", json=body, headers=headers) as response:
            assert response.status == 201
    assert client.app
    await client.app[CLICKS].flush()
    assert [row[2:4] for row in await kept(database_url)] == [(6, 1)]
    tables = await everything(database_url)
    async with aioredis.Redis.from_url(redis.url, decode_responses=True) as inside:
        names = [name async for name in inside.scan_iter("*")]
        values = [await inside.get(name) for name in names if await inside.type(name) == "string"]
    left = repr((tables, names, values, caplog.text))
    assert names
    # Neither as it is, nor as what anybody could compute of it.
    plain = [ADDRESS, "of-somebody", "secret-of-the-page"]
    digests = [hashlib.new(name, ADDRESS.encode()).hexdigest() for name in ("md5", "sha1", "sha256")]
    assert [text for text in (*plain, *digests) if text in left] == []
    # Once the key is gone, not even who knows all that is kept can try all addresses: what was made of them is gone.
    [(secret,)] = await sql(database_url, "SELECT secret FROM click_keys")
    visitor = f"{code}\n{ADDRESS}\n{headers['User-Agent']}".encode()
    digest = hmac.digest(bytes.fromhex(secret), visitor, "sha256").hex()[:32]
    assert await sql(database_url, "SELECT hash FROM click_visitors") == [(digest,)]


# Slow enough for each of the three parts to outlast the second in which clicks are gathered.
CALLS, CALLERS, PAUSE = 1_200, 8, 0.04


async def test_killed_amid_clicks_only_the_last_second_is_lost_and_sums_stay_those_of_the_rows(
    killed: Killed, database_url: str
) -> None:
    key = killed.new_key()
    asked: Counter[int] = Counter()
    running = asyncio.create_task(killed.kill_again_and_again(asked, CALLS))
    told: list[str] = []
    async with ClientSession(headers={"Authorization": f"Bearer {key}"}, timeout=ClientTimeout(10)) as session:
        await killed.call(session, "PUT", "/users/ext:referrer", {"code": {"code": "THE-CODE", "ttl_days": 30}})

        async def report() -> None:
            while sum(asked.values()) < CALLS:
                status, answer = await killed.call(session, "POST", "/clicks", {"code": "THE-CODE"})
                assert status == 201, answer
                told.append(answer["click_id"])
                asked[status] += 1
                await asyncio.sleep(PAUSE)

        await asyncio.gather(*(report() for _ in range(CALLERS)))
    await running
    rows = {click for (click,) in await sql(database_url, "SELECT id FROM clicks")}
    assert rows
    assert await sql(database_url, "SELECT sum(clicks), sum(visitors) FROM click_days") == [(len(rows), len(rows))]
    # What is missing was made within little more than a second before one of the three kills.
    times = sorted(int(click.replace("-", "")[:12], 16) for click in set(told) - rows)
    bursts = [later - earlier for earlier, later in pairwise(times) if later - earlier > 500]
    assert len(bursts) <= 2
    assert sum(later - earlier for earlier, later in pairwise(times) if later - earlier <= 500) < 3 * 2_000
