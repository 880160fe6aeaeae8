"""Stats of a user's links: equal to the rows, whatever happened."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from referral.background.clicks import CLICKS
from referral.clock import DAY, now
from referral.config import CONFIG
from tests.conftest import Client, MakeClient
from tests.support.browsing import PERSON
from tests.support.people import UNKNOWN, Person, Product
from tests.support.rows import sql

COUNTS = ("clicks", "visitors", "qr", "robots", "signups", "referrals", "converted")


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await make_client(links_destination="https://shop.example.com/")


def today() -> date:
    return datetime.now(UTC).date()


async def visit(client: Client, code: str, agent: str = PERSON) -> str:
    async with client.get(f"/r/{code}", headers={"User-Agent": agent}, allow_redirects=False) as response:
        return response.headers["Location"].partition("click=")[2]


async def write(client: Client) -> None:
    assert client.app
    await client.app[CLICKS].flush()


async def stats(person: Person, user: str = "me", **query: str) -> dict[str, Any]:
    answer = await person.get(f"/users/{user}/stats", params=query)
    assert answer.status == 200, answer.body
    return dict(answer.body)


async def test_a_click_a_visitor_and_a_sign_up_stand_in_the_stats(client: Client) -> None:
    product = await Product.with_key(client)
    user = await product.user("alice", code={"ttl_days": 30})
    code = user["code"]["code"]
    click_id = await visit(client, code)
    await visit(client, code)
    await visit(client, code, "")
    signup = await product.report("s1", "signup", "bob", click_id=click_id)
    assert signup.body["attribution"]["status"] == "attributed"
    await product.report("p1", "purchase", "bob")
    await write(client)
    found = await stats(product, "ext:alice")
    expected = dict(zip(COUNTS, (2, 1, 0, 1, 1, 1, 1), strict=True))
    assert found["totals"] == expected
    assert found["items"][-1] == {"at": today().isoformat(), **expected}
    assert [row["at"] for row in found["items"]] == [
        (today() - timedelta(days=days)).isoformat() for days in reversed(range(30))
    ]
    assert found["funnel"] == {"visitors": 1, "referrals": 1, "converted": 1}
    assert (found["interval"], found["to"]) == ("day", (today() + timedelta(days=1)).isoformat())
    # As they are now: what is refunded did not convert.
    await product.report("p2", "purchase", "bob", value={"unit": "USD", "amount": 5})
    await sql_of(client, "UPDATE referrals SET conversions = 0, converted_at = NULL")
    assert (await stats(product, "ext:alice"))["totals"]["converted"] == 0


async def sql_of(client: Client, statement: str) -> None:
    assert client.app
    await sql(client.app[CONFIG].database.url, statement)


async def test_who_sees_whose(client: Client) -> None:
    alice, bob = await Person.register(client, "alice"), await Person.register(client, "bob")
    reader = await Product.with_key(client, "read")
    assert (await stats(alice))["totals"] == dict.fromkeys(COUNTS, 0)
    assert await stats(reader, alice.id) == await stats(alice) == await stats(alice, alice.id)
    assert (await bob.get(f"/users/{alice.id}/stats")).problem == "forbidden"
    assert (await Person(client, "").get(f"/users/{alice.id}/stats")).problem == "unauthorized"
    assert (await reader.get(f"/users/{UNKNOWN}/stats")).problem == "not-found"
    assert (await reader.get("/users/me/stats")).problem == "forbidden"
    await alice.delete("/users/me", {"password": alice.password})
    assert (await reader.get(f"/users/{alice.id}/stats")).problem == "not-found"


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        ({"from": "yesterday"}, ["/from"]),
        ({"from": "2027-1-1"}, ["/from"]),
        ({"from": "20270101"}, ["/from"]),
        ({"from": "2027-02-30"}, ["/from"]),
        ({"from": "2027-W01-1"}, ["/from"]),
        ({"from": "2026-W48-1"}, ["/from"]),
        ({"from": "20261126xx"}, ["/from"]),
        ({"from": "２０２６-11-26"}, ["/from"]),
        ({"from": "1999-12-31"}, ["/from"]),
        ({"to": "2200-01-01"}, ["/to"]),
        ({"from": "2027-01-02", "to": "2027-01-02"}, ["/to"]),
        ({"from": "2027-01-02", "to": "2027-01-01"}, ["/to"]),
        ({"from": "2199-01-01"}, ["/from"]),
        ({"from": "2020-01-01", "to": "2026-01-01"}, ["/from"]),
        ({"interval": "hour"}, ["/interval"]),
        ({"code": "?"}, ["/code"]),
        ({"since": "2027-01-01"}, ["/since"]),
    ],
)
async def test_what_is_no_range_is_refused(client: Client, query: dict[str, str], pointers: list[str]) -> None:
    alice = await Person.register(client, "alice")
    assert (await alice.get("/users/me/stats", params=query)).pointers == pointers


async def test_a_range_may_be_long_by_longer_intervals(client: Client) -> None:
    alice = await Person.register(client, "alice")
    found = await stats(alice, **{"from": "2010-01-01", "to": "2026-01-01", "interval": "month"})
    assert len(found["items"]) == 16 * 12
    assert (await stats(alice, to="2026-03-01"))["from"] == "2026-01-30"


async def test_stats_are_those_of_the_rows_over_a_random_history(client: Client, database_url: str) -> None:
    """A year of two referrers with three codes, recomputed by plain loops over what was put in."""
    seed, product = random.Random(7), await Product.with_key(client)
    referrers = {}
    for name in ("alice", "bob"):
        user = await product.user(name, code={"ttl_days": 30})
        referrers[name] = user["id"]
    first_code = (await product.get("/users/ext:alice/codes")).body["items"][0]["code"]
    await product.post("/users/ext:alice/codes", {"ttl_days": 30, "replace": True})
    codes = [
        (name, item["code"]) for name in referrers for item in (await product.get(f"/users/ext:{name}/codes")).body["items"]
    ]
    assert len(codes) == 3
    start = now() - now() % DAY - 364 * DAY
    told: list[tuple[str, str, str, int, int]] = []
    for name, code in codes:
        for day in seed.sample(range(365), 40):
            clicks, robots = seed.randrange(1, 50), seed.randrange(5)
            visitors, qr = seed.randrange(1, clicks + 1), seed.randrange(clicks)
            counts = {"clicks": clicks, "visitors": visitors, "qr": qr, "robots": robots}
            told += [(name, code, word, day, count) for word, count in counts.items()]
            await sql(
                database_url,
                "INSERT INTO click_days (code, day, referrer_id, clicks, visitors, qr, robots) VALUES "
                f"('{code}', {start + day * DAY}, '{referrers[name]}', {clicks}, {visitors}, {qr}, {robots})",
            )
    for number in range(60):
        name, code = seed.choice(codes)
        joined, signed_up, bought = (seed.randrange(365 * DAY) for _ in range(3))
        user = await product.user(f"u{number}")
        converted = f"1, {start + bought}" if number % 3 == 0 else "0, NULL"
        await sql(
            database_url,
            "INSERT INTO referrals (user_id, referrer_id, code, joined_at, conversions, converted_at) VALUES "
            f"('{user['id']}', '{referrers[name]}', '{code}', {start + joined}, {converted})",
        )
        await sql(
            database_url,
            "INSERT INTO events (id, type, user_id, received_at, occurred_at, attribution, referrer_id, joined_at) VALUES "
            f"('s{number}', 'signup', '{user['id']}', 1, {start + signed_up}, 'attributed', '{referrers[name]}', 1)",
        )
        told += [(name, code, "referrals", joined // DAY, 1), (name, code, "signups", signed_up // DAY, 1)]
        told += [(name, code, "converted", bought // DAY, 1)] if number % 3 == 0 else []
    begin = datetime.fromtimestamp(start / 1000, UTC).date()
    for _ in range(12):
        low, length = seed.randrange(300), seed.randrange(1, 60)
        first = begin + timedelta(days=low)
        query = {"from": first.isoformat(), "to": (first + timedelta(days=length)).isoformat()}
        for name in referrers:
            for code in (None, first_code) if name == "alice" else (None,):
                found = await stats(product, f"ext:{name}", **query, **({"code": code} if code else {}))
                for row in found["items"]:
                    day = (date.fromisoformat(row["at"]) - begin).days
                    for word in COUNTS:
                        expected = sum(
                            one[4] for one in told if one[0] == name and code in (None, one[1]) and one[2:4] == (word, day)
                        )
                        assert row[word] == expected, (name, code, row["at"], word)
    assert (await product.get(f"/users/ext:bob/stats?code={first_code}")).problem == "not-found"
