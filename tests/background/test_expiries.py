"""Codes that end by time are told of: each once, whatever becomes of them, on however many workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from referral import clock
from referral.background.expiries import ExpiryWorker
from referral.background.relay import Relay
from referral.clock import DAY, SECOND, now
from referral.database import Database
from tests.conftest import Client
from tests.support.feed import Follower
from tests.support.people import Person, Product
from tests.support.rows import sql

MakePerson = Callable[..., Awaitable[Person]]


@pytest.fixture
async def alice(person: MakePerson) -> Person:
    return await person("alice")


@pytest.fixture
async def reader(client: Client) -> Product:
    return await Product.with_key(client, "read")


def worker(database: Database) -> ExpiryWorker:
    return ExpiryWorker(database, Relay(database))


async def work_off(database: Database) -> int:
    total = 0
    while count := await worker(database).work_off():
        total += count
    return total


async def expire(url: str, code: str, ago: int = 1_000) -> None:
    """The code, made long ago, expired so many milliseconds ago; nothing was told since the day before."""
    await sql(url, f"UPDATE codes SET created_at = 1, expires_at = {now() - ago} WHERE code = '{code}'")


async def told_before(url: str, moment: int) -> None:
    await sql(url, f"UPDATE code_expiries SET expires_at = {moment}, code = ''")


async def ended(reader: Product) -> list[dict[str, Any]]:
    """What was told of codes that ended."""
    follower = Follower(reader)
    return [change["data"] for change in await follower.news() if change["type"] == "code.ended"]


@pytest.fixture(autouse=True)
async def nothing_told_yet(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The service's own worker would be quicker than the test.
    monkeypatch.setattr("referral.background.expiries.ExpiryWorker.run", _asleep)
    await told_before(database_url, now() - DAY)


async def _asleep(worker: ExpiryWorker) -> None:
    await asyncio.Event().wait()


async def test_a_code_that_expires_is_told_once_by_however_many_workers(
    alice: Person, reader: Product, database: Database, database_url: str
) -> None:
    code = await alice.make_code()
    assert await work_off(database) == 0
    await expire(database_url, code)
    found = await asyncio.gather(*(worker(database).work_off() for _ in range(6)))
    assert sum(found) == 1
    assert await work_off(database) == 0
    (told,) = await ended(reader)
    assert (told["code"], told["status"], told["ended_by"], told["user_id"]) == (code, "expired", "expired", alice.id)


async def test_many_that_expire_at_one_moment_are_told_in_batches(
    alice: Person, reader: Product, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("referral.background.expiries.BATCH", 7)
    moment = now() - 1_000
    for number in range(20):
        await sql(
            database_url,
            f"INSERT INTO users (id, role, created_at, external_id) VALUES ('u{number}', 'user', 1, '{number}')",
        )
        await sql(
            database_url,
            "INSERT INTO codes (code, code_key, referrer_id, created_at, expires_at) "
            f"VALUES ('MANY-{number:02}', 'MANY-{number:02}', 'u{number}', 1, {moment})",
        )
    assert await work_off(database) == 20
    assert sorted(told["code"] for told in await ended(reader)) == [f"MANY-{number:02}" for number in range(20)]


async def test_a_code_that_lives_again_is_told_and_expires_again(
    alice: Person, reader: Product, database: Database, database_url: str
) -> None:
    code = await alice.make_code()
    await expire(database_url, code)
    assert await work_off(database) == 1
    assert (await alice.patch(f"/codes/{code}", {"ttl_days": 1})).status == 200
    assert await work_off(database) == 0
    await expire(database_url, code, ago=500)
    assert await work_off(database) == 1
    assert [told["ended_by"] for told in await ended(reader)] == ["expired", "expired"]
    updated = (await reader.get("/changes?types=code.updated")).body["items"]
    assert [change["data"]["status"] for change in updated] == ["active"]


async def test_what_was_ended_or_used_up_before_is_not_told_again(
    alice: Person, reader: Product, person: MakePerson, database: Database, database_url: str
) -> None:
    used_up = await alice.make_code(max_uses=1)
    await person("bob", referral_code=used_up)
    dora = await person("dora")
    revoked = await dora.make_code()
    assert (await dora.delete("/codes/current")).status == 204
    for code in (used_up, revoked):
        await expire(database_url, code)
    await work_off(database)
    assert [(told["code"], told["ended_by"]) for told in await ended(reader)] == [
        (used_up, "exhausted"),
        (revoked, "revoked"),
    ]


async def test_after_the_clock_was_set_back_what_expires_is_told(
    alice: Person, reader: Product, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = await alice.make_code()
    await told_before(database_url, now() + DAY)
    assert await work_off(database) == 0
    await expire(database_url, code, ago=-5_000)
    later = now() + 10 * SECOND
    monkeypatch.setattr(clock, "now", lambda: later)
    assert await work_off(database) == 1
    assert [told["code"] for told in await ended(reader)] == [code]


async def test_what_had_expired_before_the_first_start_of_this_version_is_not_told(
    alice: Person, reader: Product, database: Database, database_url: str
) -> None:
    code = await alice.make_code()
    await expire(database_url, code)
    await told_before(database_url, now())
    assert await work_off(database) == 0
    assert await ended(reader) == []
