"""Share links: where `/r/CODE` leads, what is counted, and its QR code."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import ClientResponse

from referral.background import clicks
from referral.background.clicks import CLICKS
from referral.cache.codes import CODE_CACHE
from referral.database import DatabaseUnavailable
from tests.conftest import Client, Eventually, MakeClient
from tests.support.browsing import PERSON
from tests.support.people import Answer, Person, Product
from tests.support.rows import sql

DESTINATION = "https://shop.example.com/welcome?a=1&a=2#top"
SHOP = "https://shop.example.com"


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await make_client(links_destination=DESTINATION, links_allowed_origins=SHOP)


@pytest.fixture
async def alice(client: Client) -> Person:
    return await Person.register(client, "alice")


async def follow(client: Client, path: str, method: str = "GET", agent: str = PERSON, **headers: str) -> ClientResponse:
    """Follow a link as a browser does, up to where it leads."""
    async with client.request(method, path, headers={"User-Agent": agent, **headers}, allow_redirects=False) as response:
        await response.read()
        return response


def led_to(response: ClientResponse) -> tuple[str, dict[str, list[str]], str]:
    """The page that a link leads to, with its query and its fragment."""
    assert response.status == 302
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Robots-Tag"] == "noindex"
    parts = urlsplit(response.headers["Location"])
    return f"{parts.scheme}://{parts.netloc}{parts.path}", parse_qs(parts.query, keep_blank_values=True), parts.fragment


async def sums(client: Client, url: str) -> list[tuple[str, int, int, int, int]]:
    """What is counted of each code, today."""
    assert client.app
    await client.app[CLICKS].flush()
    return await sql(url, "SELECT code, clicks, visitors, qr, robots FROM click_days ORDER BY code, day")


async def test_a_link_leads_on_with_the_code_and_a_click(client: Client, alice: Person, database_url: str) -> None:
    code = await alice.make_code(code="ALICES-1")
    assert (await alice.me())["url"] == f"http://127.0.0.1:8000/r/{code}"
    page, query, fragment = led_to(await follow(client, f"/r/{code}"))
    assert (page, fragment) == ("https://shop.example.com/welcome", "top")
    assert query == {"a": ["1", "2"], "ref": [code], "click": query["click"]}
    # However it is typed.
    _, other, _ = led_to(await follow(client, "/r/a1ices-i"))
    assert other["ref"] == [code]
    assert other["click"] != query["click"]
    assert await sums(client, database_url) == [(code, 2, 1, 0, 0)]
    kept = await sql(database_url, "SELECT id, code, robot FROM clicks ORDER BY id")
    assert kept == sorted((found["click"][0], code, 0) for found in (query, other))


@pytest.mark.parametrize(
    "path", ["/r/NOT-THERE", "/r/ENDED", "/r/x", "/r/%00", "/r/%D0%BF%D1%80%D0%B8", "/r/ALICES%2D2.", "/r/" + "A" * 4_000]
)
async def test_a_code_that_is_none_leads_on_without_one(client: Client, alice: Person, database_url: str, path: str) -> None:
    await alice.make_code(code="ENDED")
    await alice.delete("/codes/current")
    response = await follow(client, path)
    assert response.headers["Location"] == DESTINATION
    led_to(response)
    assert await sums(client, database_url) == []


@pytest.mark.parametrize("end", ["delete", "suspend", "exhaust", "erase"])
async def test_a_link_ends_with_its_code_at_once(client: Client, alice: Person, end: str) -> None:
    code = await alice.make_code(max_uses=1)
    for _ in range(2):
        assert "ref" in led_to(await follow(client, f"/r/{code}"))[1]
    if end == "delete":
        await alice.delete("/codes/current")
    elif end == "suspend":
        admin = await Product.with_key(client, "admin")
        assert (await admin.post(f"/users/{alice.id}/suspend", {"reason": "a test"})).status == 200
    elif end == "exhaust":
        await Person.register(client, "bob", referral_code=code)
    else:
        await alice.delete("/users/me", {"password": alice.password})
    assert "ref" not in led_to(await follow(client, f"/r/{code}"))[1]


async def test_there_are_no_links_where_they_would_lead_nowhere(make_client: MakeClient) -> None:
    client = await make_client()
    alice = await Person.register(client, "alice")
    code = await alice.make_code()
    assert (await alice.me())["url"] is None
    for path in (f"/r/{code}", f"/r/{code}/qr.svg", f"/r/{code}/qr.png"):
        async with client.get(path, allow_redirects=False) as response:
            assert (await Answer.of(response)).problem == "not-found"


async def test_a_link_leads_to_another_page_of_the_product_if_it_says_so(
    client: Client, alice: Person, database_url: str
) -> None:
    code = await alice.make_code()
    there = "https%3A%2F%2Fshop.example.com%2Fpricing%3Fplan%3Dpro%26ref%3DOTHER%23faq"
    page, query, fragment = led_to(await follow(client, f"/r/{code}?to={there}"))
    assert (page, fragment) == ("https://shop.example.com/pricing", "faq")
    assert query == {"plan": ["pro"], "ref": [code], "click": query["click"]}
    for elsewhere in (
        "https://evil.example/",
        "//evil.example",
        "https://shop.example.com@evil.example/",
        "%5C%5Cevil.example",
    ):
        assert led_to(await follow(client, f"/r/{code}?to={elsewhere}"))[0] == "https://shop.example.com/welcome"
    # The first of several; and of a code that is none, too.
    response = await follow(client, f"/r/NOT-THERE?to={SHOP}/a&to={SHOP}/b")
    assert response.headers["Location"] == f"{SHOP}/a"
    assert await sums(client, database_url) == [(code, 5, 1, 0, 0)]


async def test_a_head_request_answers_the_same_and_counts_nowhere(client: Client, alice: Person, database_url: str) -> None:
    code = await alice.make_code()
    page, query, fragment = led_to(await follow(client, f"/r/{code}", "HEAD"))
    assert (page, query["ref"], fragment) == ("https://shop.example.com/welcome", [code], "top")
    assert query.keys() == {"a", "ref", "click"}
    assert await sums(client, database_url) == []
    async with client.post(f"/r/{code}", allow_redirects=False) as response:
        assert (await Answer.of(response)).problem == "method-not-allowed"


async def test_robots_are_led_on_and_counted_apart(client: Client, alice: Person, database_url: str) -> None:
    code = await alice.make_code()
    visits: list[dict[str, str]] = [
        {"agent": ""},
        {"agent": "facebookexternalhit/1.1"},
        {"Sec-Purpose": "prefetch"},
        {"Purpose": "prefetch"},
        {},
    ]
    for headers in visits:
        assert led_to(await follow(client, f"/r/{code}", **headers))[1]["ref"] == [code]
    assert await sums(client, database_url) == [(code, 1, 1, 0, 4)]
    assert sorted(await sql(database_url, "SELECT robot FROM clicks")) == [(0,), (1,), (1,), (1,), (1,)]


async def test_an_agent_in_no_encoding_is_somebody(client: Client, alice: Person, database_url: str) -> None:
    code = await alice.make_code()
    for agent in (b"Firefox \xff\xfe", "Firefox \u4f60".encode(), b"Firefox \xed\xa0\x80"):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(
            f"GET /r/{code} HTTP/1.1\r\nHost: x\r\nUser-Agent: ".encode() + agent + b"\r\nConnection: close\r\n\r\n"
        )
        assert (await reader.read()).startswith(b"HTTP/1.1 302 ")
        writer.close()
    assert await sums(client, database_url) == [(code, 3, 3, 0, 0)]


async def test_a_visitor_is_counted_once_a_code_and_day(make_client: MakeClient, database_url: str) -> None:
    client = await make_client(links_destination=DESTINATION, server_trusted_proxies="127.0.0.1")
    alice, bob = await Person.register(client, "alice"), await Person.register(client, "bob")
    first, second = sorted((await alice.make_code(), await bob.make_code()))
    for address, agent, code in (
        ("192.0.2.1", PERSON, first),
        ("192.0.2.1", PERSON, first),
        ("192.0.2.1", f"{PERSON} Edg/142", first),
        ("192.0.2.2", PERSON, first),
        ("192.0.2.1", PERSON, second),
        # One IPv6 client, who chooses the rest of the address.
        ("2001:db8::1", PERSON, second),
        ("2001:db8::2", PERSON, second),
    ):
        await follow(client, f"/r/{code}", agent=agent, **{"X-Forwarded-For": address})
    assert await sums(client, database_url) == [(first, 4, 3, 0, 0), (second, 3, 2, 0, 0)]


async def test_beyond_the_limit_of_an_address_links_lead_on_with_the_code_and_are_not_counted(
    make_client: MakeClient, database_url: str
) -> None:
    client = await make_client(links_destination=DESTINATION, limits_enabled="true", limits_redirects_by_address="3/hour")
    alice = await Person.register(client, "alice")
    code = await alice.make_code()
    found = [led_to(await follow(client, f"/r/{code.lower()}"))[1] for _ in range(5)]
    assert ["click" in query for query in found] == [True] * 3 + [False] * 2
    assert [query["ref"] for query in found] == [[code]] * 5
    # Nobody finds out by it which codes there are.
    assert led_to(await follow(client, "/r/NOT-THERE"))[1]["ref"] == ["NOT-THERE"]
    assert await sums(client, database_url) == [(code, 3, 1, 0, 0)]
    metrics = await (await client.get("/metrics")).text()
    assert 'referral_clicks_total{result="limited"} 3.0' in metrics
    assert 'referral_clicks_total{result="click"} 3.0' in metrics


@pytest.mark.parametrize("trouble", ["out", "hangs"])
async def test_a_link_leads_on_while_the_database_is_out(
    client: Client, alice: Person, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    code = await alice.make_code()
    assert client.app
    cache = client.app[CODE_CACHE]

    async def fail(*arguments: Any) -> None:
        if trouble == "hangs":
            await asyncio.sleep(60)
        raise DatabaseUnavailable("a test")

    monkeypatch.setattr("referral.handlers.links.PATIENCE", 0.1)
    monkeypatch.setattr(type(cache), "at_hand", lambda cache, code: None)
    monkeypatch.setattr(type(cache), "by_code", fail)
    _, query, _ = led_to(await follow(client, f"/r/{code.lower()}"))
    # Whether it is a code is found out at the sign-up.
    assert query == {"a": ["1", "2"], "ref": [code]}
    metrics = await (await client.get("/metrics")).text()
    assert 'referral_clicks_total{result="unknown"} 1.0' in metrics


async def test_a_full_buffer_drops_counts_and_no_redirect(
    client: Client, alice: Person, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clicks, "BUFFER", 2)
    code = await alice.make_code()
    for _ in range(5):
        assert led_to(await follow(client, f"/r/{code}"))[1]["ref"] == [code]
    assert await sums(client, database_url) == [(code, 2, 1, 0, 0)]
    assert 'referral_clicks_total{result="dropped"} 3.0' in await (await client.get("/metrics")).text()


@pytest.mark.parametrize(
    ("settings", "attributes"),
    [
        ({}, "Domain=example.com; Path=/; Max-Age=2592000; SameSite=Lax"),
        ({"attribution_window_days": "7"}, "Domain=example.com; Path=/; Max-Age=604800; SameSite=Lax"),
        (
            {"server_public_url": "https://go.example.com"},
            "Domain=example.com; Path=/; Max-Age=2592000; SameSite=Lax; Secure",
        ),
    ],
)
async def test_a_cookie_of_the_products_domain_keeps_the_click_where_that_is_wanted(
    make_client: MakeClient, settings: dict[str, str], attributes: str
) -> None:
    client = await make_client(links_destination=DESTINATION, links_cookie_domain="example.com", **settings)
    alice = await Person.register(client, "alice")
    code = await alice.make_code()
    response = await follow(client, f"/r/{code}")
    [click] = led_to(response)[1]["click"]
    assert response.headers.getall("Set-Cookie") == [f"referral={code}.{click}; {attributes}"]
    assert "Set-Cookie" not in (await follow(client, "/r/NOT-THERE")).headers


async def test_nobody_gets_a_cookie_by_default(client: Client, alice: Person) -> None:
    response = await follow(client, f"/r/{await alice.make_code()}")
    assert "Set-Cookie" not in response.headers
    # Nor loses what the page could know without the link.
    assert response.headers["Referrer-Policy"] == "strict-origin-when-cross-origin"


async def test_a_qr_code_leads_to_the_link_and_says_so(client: Client, alice: Person, database_url: str) -> None:
    code = await alice.make_code()
    for name, kind in (("qr.svg", "image/svg+xml"), ("qr.png", "image/png")):
        async with client.get(f"/r/{code.lower()}/{name}?size=200") as response:
            assert (response.status, response.headers["Content-Type"]) == (200, kind)
            assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
            assert response.headers["Cache-Control"] == "no-cache"
            tag, image = response.headers["ETag"], await response.read()
        assert len(image) > 200
        async with client.get(f"/r/{code}/{name}?size=200", headers={"If-None-Match": tag}) as response:
            assert (response.status, await response.read()) == (304, b"")
        async with client.get(f"/r/{code}/{name}") as response:
            assert response.headers["ETag"] != tag
        for size in ("", "0", "99", "2001", "1e3", "many", "-5"):
            async with client.get(f"/r/{code}/{name}", params={"size": size}) as response:
                assert (await Answer.of(response)).pointers == ["/size"], size
        for unknown in ("NOT-THERE", "x"):
            async with client.get(f"/r/{unknown}/{name}") as response:
                assert (await Answer.of(response)).problem == "not-found"
    await follow(client, f"/r/{code}?via=qr")
    await follow(client, f"/r/{code}?via=mail")
    await follow(client, f"/r/{code}?via=qr", agent="")
    assert await sums(client, database_url) == [(code, 2, 1, 1, 1)]
    await alice.delete("/codes/current")
    async with client.get(f"/r/{code}/qr.svg") as response:
        assert response.status == 404


async def test_links_are_served_under_a_path_and_at_a_base_of_their_own(make_client: MakeClient) -> None:
    client = await make_client(
        links_destination=DESTINATION,
        server_public_url="https://example.com/referrals",
        links_base="https://go.example.com",
    )
    alice = await Person.register(client, "alice")
    code = await alice.make_code()
    assert (await alice.me())["url"] == f"https://go.example.com/r/{code}"
    for path in (f"/r/{code}", f"/referrals/r/{code}"):
        assert led_to(await follow(client, path))[1]["ref"] == [code]


async def test_the_scripts_are_small_and_for_every_page(client: Client) -> None:
    for name, most in (("referral.js", 2_048), ("widget.js", 10_240)):
        async with client.get(f"/{name}") as response:
            body = await response.read()
            assert response.status == 200
            assert 0 < len(body) <= most
            assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
            assert "max-age" in response.headers["Cache-Control"]
            assert response.headers["ETag"]
        assert not re.search(rb"https?://", body)


async def test_a_click_is_written_a_second_later_at_most(
    client: Client, alice: Person, database_url: str, eventually: Eventually
) -> None:
    code = await alice.make_code()
    await follow(client, f"/r/{code}")
    assert await sql(database_url, "SELECT code FROM clicks") == []
    assert await eventually(lambda: sql(database_url, "SELECT code FROM clicks"), 3.0) == [(code,)]


async def test_the_last_clicks_are_written_at_the_end(make_client: MakeClient, database_url: str) -> None:
    client = await make_client(links_destination=DESTINATION)
    alice = await Person.register(client, "alice")
    code = await alice.make_code()
    for _ in range(3):
        await follow(client, f"/r/{code}")
    await client.close()
    assert await sql(database_url, "SELECT clicks FROM click_days") == [(3,)]
