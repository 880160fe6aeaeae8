"""Redis holds what no service wrote: it counts as nothing, is told once, and makes room for what is right."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis import asyncio as aioredis

from tests.conftest import Client, MakeClient
from tests.support.people import Person
from tests.support.servers import RedisServer


@pytest.fixture
def engine() -> str:
    return "sqlite"


@pytest.fixture
async def inside(redis: RedisServer) -> AsyncIterator[Any]:
    """A look behind the service's back, at bytes that need be no text."""
    async with aioredis.Redis.from_url(redis.url) as client:
        yield client


@pytest.fixture
async def service(make_client: MakeClient, redis: RedisServer) -> Client:
    return await make_client(cache_url=redis.url, codes_public_lookup="true", limits_enabled="true")


async def hits(client: Client) -> int:
    async with client.get("/metrics") as response:
        text = await response.text()
    return int(float(text.partition('referral_cache_lookups_total{result="hit"} ')[2].split()[0]))


HUGE = 4_000_000
OTHER_TYPES = ("list", "hash", "set", "sorted set", "stream")


async def put_other_type(inside: Any, key: str | bytes, kind: str) -> bool:
    """Put something of this type under the key; False if that is no type."""
    writing: dict[str, Callable[[], Awaitable[Any]]] = {
        "list": lambda: inside.rpush(key, "x"),
        "hash": lambda: inside.hset(key, "x", "y"),
        "set": lambda: inside.sadd(key, "x"),
        "sorted set": lambda: inside.zadd(key, {"x": 1}),
        "stream": lambda: inside.xadd(key, {"x": "y"}),
    }
    if kind not in writing:
        return False
    await inside.delete(key)
    await writing[kind]()
    return True


async def put(inside: Any, key: str, kind: str, entry: bytes) -> None:
    """Put something else under the key; an entry keeps the beginning that says of which era it is."""
    if await put_other_type(inside, key, kind):
        return
    era = entry[: entry.index(b"[")]
    texts = {
        "no JSON": era + b"[oops",
        "no UTF-8": era + b'["\xff"]',
        "another shape": era + b'{"code": "X"}',
        "too few": era + b'["X"]',
        "another type": entry.replace(b"[", b"[[1],", 1),
        "a text for a number": era + b'["ALICES-1","soon","id",null,"digest"]',
        "of another code": entry.replace(b"ALICES-1", b"ALICES-2"),
        "nothing": b"",
        "only the era": era,
        "half a lease": b"?",
        "half a tombstone": b"-",
        "huge": era + b"[" * HUGE,
    }
    await inside.set(key, texts[kind])


KINDS = [
    *OTHER_TYPES,
    *("huge", "no JSON", "no UTF-8", "another shape", "too few", "another type", "a text for a number"),
    *("of another code", "nothing", "only the era", "half a lease", "half a tombstone"),
]
# What counts as an outdated entry, a lease or a tombstone, and is nothing to tell of.
UNTOLD = ("nothing", "half a lease", "half a tombstone")


@pytest.mark.parametrize("kind", KINDS)
async def test_an_entry_that_no_service_wrote_is_a_miss_and_is_replaced(
    service: Client, inside: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    alice = await Person.register(service, "alice")
    await alice.make_code(code="ALICES-1")
    nobody, key = Person(service, ""), "referral:code:ALICES-1"
    ways: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/codes/ALICES-1", {}),
        ("/codes/by-email", {"params": {"email": alice.email}}),
    )
    for path, options in ways:
        assert (await nobody.get(path, **options)).status == 200
        await put(inside, key, kind, await inside.get(key))
        for _ in range(2):
            answer = await nobody.get(path, **options)
            assert (answer.status, answer.body["code"]) == (200, "ALICES-1")
        before = await hits(service)
        assert (await nobody.get(path, **options)).status == 200
        assert await hits(service) == before + 1
    told = [record for record in caplog.records if "did not write" in record.getMessage()]
    assert len(told) == (kind not in UNTOLD)
    assert not [record for record in caplog.records if record.name.startswith("referral.cache") and record not in told]
    # What was there is no obstacle to a change, either.
    await put(inside, key, kind, await inside.get(key))
    assert (await alice.delete("/codes/current")).status == 204
    assert (await nobody.get("/codes/ALICES-1")).status == 404


@pytest.mark.parametrize("value", [*OTHER_TYPES, "text", "nothing", "huge", "a code of nobody's"])
async def test_an_emails_key_that_no_service_wrote_leads_nowhere(service: Client, inside: Any, value: str) -> None:
    alice = await Person.register(service, "alice")
    await alice.make_code(code="ALICES-1")
    nobody, options = Person(service, ""), {"params": {"email": alice.email}}
    assert (await nobody.get("/codes/by-email", **options)).status == 200
    [key] = await inside.keys("referral:email:*")
    texts = {"text": b"\xff", "nothing": b"", "huge": b"x" * HUGE, "a code of nobody's": b"NOBODYS1"}
    if not await put_other_type(inside, key, value):
        await inside.set(key, texts[value])
    assert (await nobody.get("/codes/by-email", **options)).status == 200
    assert await inside.get(key) == b"ALICES-1"


@pytest.mark.parametrize("value", [*OTHER_TYPES, "text", "nothing", "huge", "half a tombstone"])
async def test_the_word_of_the_sessions_may_be_anything(service: Client, inside: Any, value: str) -> None:
    alice, texts = await Person.register(service, "alice"), {"text": b"\xff", "nothing": b"", "huge": b"x" * HUGE}
    for end in (False, True):
        if not await put_other_type(inside, "referral:sessions", value):
            await inside.set("referral:sessions", texts.get(value, b"-"))
        if end:
            assert (await alice.post("/auth/revoke", {"token": alice.tokens["refresh_token"]})).status == 200
        for _ in range(3):
            assert (await alice.get("/users/me")).status == (401 if end else 200)
    assert (await Person(service, "").get("/health/ready")).body["status"] == "ok"


@pytest.mark.parametrize("value", [*OTHER_TYPES, "text", "nothing", "huge", "too great", "a count without an end"])
async def test_a_count_that_no_service_wrote_begins_anew_and_ends(service: Client, inside: Any, value: str) -> None:
    alice = await Person.register(service, "alice")
    assert (await alice.get("/users/me")).status == 200
    keys = await inside.keys("referral:limit:*")
    assert keys
    texts = {"text": b"many", "nothing": b"", "huge": b"x" * HUGE, "too great": b"9223372036854775807"}
    for key in keys:
        if not await put_other_type(inside, key, value):
            await inside.set(key, texts.get(value, b"7"))
    assert (await alice.get("/users/me")).status == 200
    counted = [key for key in keys if await inside.type(key) == b"string" and (await inside.get(key)) in (b"1", b"8")]
    assert counted
    for key in counted:
        assert await inside.pttl(key) > 0


@pytest.mark.parametrize("value", ["abc", "", "?x", "7" * HUGE, "9" * 15, "inf", *OTHER_TYPES], ids=lambda value: value[:20])
async def test_a_count_that_is_only_looked_at_may_be_anything(service: Client, inside: Any, value: str) -> None:
    alice = await Person.register(service, "alice")
    assert (await alice.sign_in("a wrong one")).status == 400
    keys = [key async for key in inside.scan_iter("referral:limit:*") if b"login_by_account" in key]
    assert keys
    for key in keys:
        if not await put_other_type(inside, key, value):
            await inside.set(key, value)
    assert (await alice.sign_in("a wrong one")).status == 400
    assert (await alice.sign_in()).status == 200


@pytest.mark.parametrize("value", [*OTHER_TYPES, "text"])
async def test_the_key_of_the_probe_may_be_anything(service: Client, inside: Any, value: str) -> None:
    if not await put_other_type(inside, "referral:probe", value):
        await inside.set("referral:probe", "x" * HUGE)
    assert (await Person(service, "").get("/health/ready")).body["status"] == "ok"
    assert not await inside.exists("referral:probe")
