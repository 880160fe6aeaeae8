"""Clicks that pages and products report, and sign-ups that come by a click."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from referral.background import clicks
from referral.background.clicks import CLICKS, LAG, NewClick
from referral.clock import DAY, now, rfc_3339
from referral.rules import clicking
from tests.conftest import Client, MakeClient
from tests.support.browsing import PERSON
from tests.support.people import API, PASSWORD, Answer, Person, Product
from tests.support.rows import make_admin, sql

SHOP = "https://shop.example.com"
MakePerson = Callable[..., Awaitable[Person]]


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await make_client(links_destination=f"{SHOP}/", links_allowed_origins=SHOP)


@pytest.fixture
async def alice(client: Client) -> Person:
    return await Person.register(client, "alice")


@pytest.fixture
async def product(client: Client, alice: Person) -> Product:
    return await Product.with_key(client)


async def report(client: Client, origin: str | None = SHOP, **body: Any) -> Answer:
    """Report a click as a page of this origin does."""
    headers = {"User-Agent": PERSON, **({"Origin": origin} if origin else {})}
    async with client.post(f"{API}/clicks", json=body, headers=headers) as response:
        return await Answer.of(response)


async def click(client: Client, code: str) -> str:
    """The id of a click on a link."""
    async with client.get(f"/r/{code}", headers={"User-Agent": PERSON}, allow_redirects=False) as response:
        return response.headers["Location"].partition("click=")[2]


async def write(client: Client) -> None:
    assert client.app
    await client.app[CLICKS].flush()


async def sums(client: Client, url: str) -> list[tuple[Any, ...]]:
    await write(client)
    return await sql(url, "SELECT code, clicks, visitors, qr, robots FROM click_days ORDER BY code")


# Reports


async def test_a_page_of_the_product_reports_a_click(client: Client, alice: Person, database_url: str) -> None:
    await alice.make_code(code="ALICES-1")
    before = now()
    made = await report(client, code="alices-i", url=f"{SHOP}/?ref=alices-1")
    assert made.status == 201
    assert made.headers["Access-Control-Allow-Origin"] == SHOP
    assert made.body.keys() == {"click_id", "expires_at", "referrer"}
    assert made.body["referrer"] == {"name": "alice"}
    assert uuid.UUID(made.body["click_id"]).version == 7
    [(code, at, robot)] = await eventual(client, database_url)
    assert (code, robot) == ("ALICES-1", 0)
    assert before <= at <= now()
    await report(client, code="ALICES-1", url=f"{SHOP}/?x=1&via=qr#top")
    assert await sums(client, database_url) == [("ALICES-1", 2, 1, 1, 0)]


async def eventual(client: Client, url: str) -> list[tuple[Any, ...]]:
    await write(client)
    return await sql(url, "SELECT code, clicked_at, robot FROM clicks ORDER BY id")


async def test_the_referrer_is_told_by_the_name_that_the_product_uses(client: Client, product: Product) -> None:
    for external_id, members, name in (
        ("1", {"name": "Alice Archer", "username": "archer"}, {"name": "Alice Archer"}),
        ("2", {}, None),
    ):
        user = await product.user(external_id, code={"ttl_days": 1}, **members)
        assert (await report(client, code=user["code"]["code"])).body["referrer"] == name


@pytest.mark.parametrize(
    "origin", [None, "null", "https://evil.example", "https://shop.example.com.evil.example", f"{SHOP}/"]
)
async def test_a_page_of_anybody_else_reports_nothing(
    client: Client, alice: Person, database_url: str, origin: str | None
) -> None:
    code = await alice.make_code()
    answer = await report(client, origin, code=code)
    assert answer.problem == "forbidden"
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert await eventual(client, database_url) == []


async def test_browsers_are_told_that_these_pages_may_report_clicks_and_call_nothing_else(client: Client) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    async with client.options(f"{API}/clicks", headers={"Origin": SHOP, **asked}) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == SHOP
        assert response.headers["Access-Control-Allow-Methods"] == "POST"
        assert "Origin" in response.headers["Vary"]
    for origin, path in ((SHOP, f"{API}/codes"), ("https://evil.example", f"{API}/clicks")):
        async with client.options(path, headers={"Origin": origin, **asked}) as response:
            assert response.status == 405
            assert "Access-Control-Allow-Origin" not in response.headers


async def test_a_key_reports_clicks_of_people(client: Client, product: Product, database_url: str) -> None:
    user = await product.user("1", code={"ttl_days": 1})
    code = user["code"]["code"]
    # Whatever the back end's own program is called. Of nobody whom it describes, each is another one.
    for context in (
        {"ip": "192.0.2.1", "user_agent": "Firefox"},
        {"ip": "192.0.2.1", "user_agent": "Firefox"},
        {"ip": "::ffff:192.0.2.1", "user_agent": "Firefox"},
        {"ip": "192.0.2.2", "user_agent": "Firefox"},
        None,
        {},
    ):
        body = {"code": code} if context is None else {"code": code, "context": context}
        assert (await product.post("/clicks", body, headers={"User-Agent": "curl/8"})).status == 201
    assert await sums(client, database_url) == [(code, 6, 4, 0, 0)]


async def test_who_may_not_report_is_told_so(client: Client, alice: Person, product: Product, database_url: str) -> None:
    code = await alice.make_code()
    reader = await Product.with_key(client, "read")
    assert (await reader.post("/clicks", {"code": code})).problem == "forbidden"
    assert (await alice.post("/clicks", {"code": code}, headers={"Origin": SHOP})).problem == "forbidden"
    revoked = Product(client, "", tokens={"access_token": "rsk_nothing"})
    assert (await revoked.post("/clicks", {"code": code}, headers={"Origin": SHOP})).problem == "unauthorized"
    admin = await Person.register(client, "admin")
    await make_admin(database_url, admin.id)
    context = {"ip": "192.0.2.1", "user_agent": "Firefox"}
    assert (await admin.post("/clicks", {"code": code, "context": context})).status == 201
    pretending = await report(client, code=code, context={"ip": "192.0.2.1"})
    assert pretending.pointers == ["/context"]


async def test_a_code_that_is_not_active_has_no_clicks(client: Client, alice: Person, database_url: str) -> None:
    code = await alice.make_code()
    await alice.delete("/codes/current")
    texts: list[Any] = [code, "NOT-THERE"]
    for text in texts:
        assert (await report(client, code=text)).problem == "not-found"
    texts = ["", "x", "ПРИВЕТ", "A" * 33, "A B C D", 7, None]
    for text in texts:
        assert (await report(client, code=text)).pointers == ["/code"]
    assert await eventual(client, database_url) == []


async def test_clicks_from_an_address_are_limited(make_client: MakeClient) -> None:
    client = await make_client(
        links_allowed_origins=SHOP,
        limits_enabled="true",
        limits_clicks_by_address="2/hour",
        limits_request_by_address="99/hour",
    )
    alice = await Person.register(client, "alice")
    code = await alice.make_code()
    assert [(await report(client, code=code)).status for _ in range(3)] == [201, 201, 429]
    # A key has a limit of its own.
    product = await Product.with_key(client)
    assert [(await product.post("/clicks", {"code": code})).status for _ in range(3)] == [201, 201, 201]


# Sign-ups


def id_of(moment: int) -> str:
    """An id that nobody has, made at a time (ms), as RFC 9562 section 5.7 lays it out."""
    return str(uuid.UUID(int=(moment << 80) | (7 << 76) | (2 << 62) | 0xABCDEF))


def attribution(answer: Answer) -> tuple[str, str | None]:
    assert answer.status in (200, 201), answer.body
    return answer.body["attribution"]["status"], answer.body["attribution"]["reason"]


async def test_a_sign_up_that_a_product_reports_comes_by_a_click(
    client: Client, alice: Person, product: Product, database_url: str
) -> None:
    code = await alice.make_code()
    click_id = await click(client, code)
    # It is not written yet.
    assert await sql(database_url, "SELECT id FROM clicks") == []
    answer = await product.report("s1", "signup", click_id=f" {click_id.upper()} ")
    assert attribution(answer) == ("attributed", None)
    assert answer.body["referral"]["source"] == "click"
    assert answer.body["referral"]["code"] == code
    assert answer.body["event"]["click_id"] == f" {click_id.upper()} "
    [referral] = (await alice.get("/users/me/referrals")).body["items"]
    assert (referral["source"], referral["code"]) == ("click", code)
    assert (await alice.me())["code"]["uses"] == 1
    # The same again.
    again = await product.report("s1", "signup", click_id=f" {click_id.upper()} ")
    assert again.status == 200
    assert again.body == answer.body
    # And later ones of the same user, by the same click and by another one's.
    bob = await Person.register(client, "bob")
    other = await click(client, await bob.make_code())
    assert attribution(await product.report("p1", click_id=click_id)) == ("kept", None)
    assert attribution(await product.report("p2", click_id=other)) == ("kept", "already-referred")
    assert attribution(await product.report("p3", click_id=id_of(1_000))) == ("kept", "unknown")


async def test_the_code_comes_first_and_the_click_second(client: Client, alice: Person, product: Product) -> None:
    bob = await Person.register(client, "bob")
    alices, bobs = await alice.make_code(), await bob.make_code()
    by_bob = await click(client, bobs)

    async def came(number: int, **members: Any) -> tuple[str, str, str]:
        answer = await product.report(f"s{number}", "signup", f"u{number}", click_id=by_bob, **members)
        assert attribution(answer) == ("attributed", None)
        return answer.body["referral"]["code"], answer.body["referral"]["source"], answer.body["event"]["code"]

    assert await came(1, code=alices) == (alices, "code", alices)
    # A code that cannot be used loses nobody.
    assert await came(2, code="NOT-THERE") == (bobs, "click", "NOT-THERE")
    assert await came(3, code="?") == (bobs, "click", "?")
    await alice.delete("/codes/current")
    assert await came(4, code=alices) == (bobs, "click", alices)
    # What is told of two that both cannot be used is of the first.
    answer = await product.report("s5", "signup", "u5", code=alices, click_id="nobody's")
    assert attribution(answer) == ("refused", "revoked")
    # One's own code leads nowhere, and neither does one's own click.
    owner = await product.user("u6", code={"ttl_days": 1})
    own = await click(client, owner["code"]["code"])
    answer = await product.report("s6", "signup", "u6", code=owner["code"]["code"], click_id=own)
    assert attribution(answer) == ("refused", "own-code")
    answer = await product.report("s7", "signup", "u6", code=owner["code"]["code"], click_id=by_bob)
    assert attribution(answer) == ("attributed", None)


@pytest.mark.parametrize(
    ("end", "reason"), [("delete", "revoked"), ("exhaust", "exhausted"), ("suspend", "suspended"), ("expire", "expired")]
)
async def test_a_click_counts_as_long_as_its_code_does(
    client: Client, alice: Person, product: Product, database_url: str, end: str, reason: str
) -> None:
    code = await alice.make_code(max_uses=1)
    click_id = await click(client, code)
    if end == "delete":
        await alice.delete("/codes/current")
    elif end == "exhaust":
        await Person.register(client, "bob", referral_code=code)
    elif end == "expire":
        await write(client)
        await sql(database_url, "UPDATE codes SET created_at = 1, expires_at = 2")
    else:
        admin = await Product.with_key(client, "admin")
        await admin.post(f"/users/{alice.id}/suspend", {"reason": "a test"})
    assert attribution(await product.report("s1", "signup", click_id=click_id)) == ("refused", reason)
    body = {"email": "carol@example.com", "password": PASSWORD, "click_id": click_id}
    answer = await product.post("/auth/register", body, headers={"Authorization": ""})
    assert attribution(answer) == ("refused", reason)


async def test_a_click_counts_for_a_while(client: Client, alice: Person, product: Product, database_url: str) -> None:
    click_id = await click(client, await alice.make_code())
    await write(client)
    await sql(database_url, f"UPDATE clicks SET clicked_at = clicked_at - {30 * DAY + 1}")
    assert attribution(await product.report("s1", "signup", click_id=click_id)) == ("refused", "click-expired")
    answer = await product.post(
        "/auth/register",
        {"email": "bob@example.com", "password": PASSWORD, "click_id": click_id},
        headers={"Authorization": ""},
    )
    assert attribution(answer) == ("refused", "click-expired")
    await sql(database_url, "UPDATE clicks SET clicked_at = clicked_at + 60000")
    assert attribution(await product.report("s2", "signup", click_id=click_id)) == ("attributed", None)


@pytest.mark.parametrize(
    "text",
    [
        "nobody's",
        "0" * 32,
        "01a1fc33-b15e-7485-b662-a53a843b9176",
        "01a1fc33-b15e-4485-b662-a53a843b9176",
        "' OR 1=1 --",
        "\ud83d\ude00",
        "x" * 1_000,
        "{}",
    ],
)
async def test_a_made_up_click_leads_nowhere_and_costs_no_time(
    client: Client, product: Product, alice: Person, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clicking, "PATIENCE", 20.0)
    async with asyncio.timeout(10):
        assert attribution(await product.report("s1", "signup", click_id=text)) == ("refused", "unknown")
    for blank in ("", "  ", None):
        assert attribution(await product.report(f"s{blank}", "signup", "43", click_id=blank)) == ("none", None)


async def test_a_made_up_click_of_this_moment_is_waited_for_as_long_as_it_could_be_on_its_way(
    product: Product,
) -> None:
    for number, moment in enumerate((now(), now() + DAY)):
        async with asyncio.timeout(2 * LAG + 10):
            answer = await product.report(f"s{number}", "signup", click_id=id_of(moment))
        assert attribution(answer) == ("refused", "unknown")


async def test_a_request_waits_once_for_all_its_clicks_and_not_behind_a_code_that_can_be_used(
    product: Product, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = await alice.make_code()
    reports = [
        {
            "id": f"s{number}",
            "type": "signup",
            "user": {"external_id": f"u{number}"},
            "click_id": id_of(now() + number * 3_000),
        }
        for number in range(20)
    ]
    async with asyncio.timeout(2 * LAG + 10):
        answer = await product.post("/events/batch", {"events": reports})
    assert {result["body"]["attribution"]["reason"] for result in answer.body["results"]} == {"unknown"}
    monkeypatch.setattr(clicking, "PATIENCE", 20.0)
    async with asyncio.timeout(10):
        answer = await product.report("by code", "signup", click_id=id_of(now()), code=code)
    assert attribution(answer) == ("attributed", None)


async def test_what_happened_before_the_click_did_not_come_of_it(
    client: Client, alice: Person, product: Product, database_url: str
) -> None:
    click_id = await click(client, await alice.make_code())
    for earlier, expected in ((20 * DAY, ("refused", "too-late")), (60_000, ("attributed", None))):
        at = rfc_3339(now() - earlier)
        answer = await product.report(f"s{earlier}", "signup", click_id=click_id, occurred_at=at)
        assert attribution(answer) == expected


async def test_a_click_that_waits_for_long_is_known_where_it_waits(
    client: Client, alice: Person, product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database was out, or the clock was set back meanwhile."""
    assert client.app
    waiting = client.app[CLICKS]
    for number, moment in enumerate((now() - 60_000, now() + 60_000)):
        late = NewClick(id_of(moment), await alice.make_code(replace=True), now(), "192.0.2.1", PERSON, False, None)
        waiting.add(late)
        answer = await product.report(f"s{number}", "signup", f"u{number}", click_id=late.id)
        assert attribution(answer) == ("attributed", None)


async def test_a_click_that_another_worker_is_writing_is_waited_for(
    make_client: MakeClient, client: Client, product: Product, alice: Person
) -> None:
    other = await make_client(links_destination=f"{SHOP}/", cache_url="none://", server_host="127.0.0.1")
    click_id = await click(other, await alice.make_code())
    answer = await product.report("s1", "signup", click_id=click_id)
    assert attribution(answer) == ("attributed", None)


async def test_a_registration_comes_by_a_click(client: Client, alice: Person, person: MakePerson, database_url: str) -> None:
    code = await alice.make_code()
    click_id = await click(client, code)

    async def register(name: str, **members: Any) -> Answer:
        body = {"email": f"{name}@example.com", "password": PASSWORD, **members}
        return await alice.post("/auth/register", body, headers={"Authorization": ""})

    answer = await register("bob", click_id=click_id)
    assert attribution(answer) == ("attributed", None)
    assert answer.body["user"]["referrer"]["id"] == alice.id
    [referral] = (await alice.get("/users/me/referrals")).body["items"]
    assert referral["source"] == "click"
    [(name, status)] = await sql(database_url, "SELECT code, attribution FROM events WHERE code IS NOT NULL")
    assert (name, status) == (code, "attributed")
    assert attribution(await register("carol", click_id="nobody's")) == ("refused", "unknown")
    assert attribution(await register("dora", click_id="")) == ("none", None)
    # A code that was typed decides: a bad one makes no account, whatever the click.
    assert (await register("erin", click_id=click_id, referral_code="NOT-THERE")).problem == "referral-code-invalid"
    eve = await Person.register(client, "eve")
    answer = await register("frank", click_id=click_id, referral_code=await eve.make_code())
    assert answer.body["user"]["referrer"]["id"] == eve.id
    # An address that had an account comes by nobody.
    bob = Person(client, "bob@example.com", tokens={"access_token": (await register("gus")).body["access_token"]})
    await bob.delete("/users/me", {"password": PASSWORD})
    assert attribution(await register("gus", click_id=click_id)) == ("refused", "known-address")
    assert (await alice.me())["referral_count"] == 1


async def test_registrations_by_clicks_count_as_those_by_the_code(make_client: MakeClient) -> None:
    client = await make_client(links_destination=f"{SHOP}/", limits_enabled="true", limits_registration_by_code="1/hour")
    alice = await Person.register(client, "alice")
    click_id = await click(client, await alice.make_code())
    await Person.register(client, "bob", click_id=click_id)
    body = {"email": "carol@example.com", "password": PASSWORD, "click_id": click_id}
    assert (await alice.post("/auth/register", body, headers={"Authorization": ""})).problem == "rate-limited"


async def test_of_many_sign_ups_at_once_by_a_click_one_gets_the_last_use(
    client: Client, alice: Person, product: Product
) -> None:
    code = await alice.make_code(max_uses=1)
    click_id = await click(client, code)
    answers = await asyncio.gather(
        *(product.report(f"s{number}", "signup", f"u{number}", click_id=click_id) for number in range(16)),
        *(
            alice.post(
                "/auth/register",
                {"email": f"a{number}@example.com", "password": PASSWORD, "click_id": click_id},
                headers={"Authorization": ""},
            )
            for number in range(16)
        ),
    )
    assert {answer.status for answer in answers} == {201}
    assert sorted(map(attribution, answers), key=str) == [("attributed", None)] + [("refused", "exhausted")] * 31
    assert (await alice.me())["referral_count"] == 1


async def test_one_user_reported_many_times_at_once_comes_by_one_click(
    client: Client, alice: Person, product: Product
) -> None:
    bob = await Person.register(client, "bob")
    clicked = [await click(client, await person.make_code()) for person in (alice, bob)]
    answers = await asyncio.gather(
        *(product.report(f"s{number}", "signup", click_id=clicked[number % 2]) for number in range(32))
    )
    verdicts = list(map(attribution, answers))
    assert verdicts.count(("attributed", None)) == 1
    assert {verdict for verdict in verdicts if verdict[0] != "attributed"} == {("kept", None), ("kept", "already-referred")}
    assert sorted([(await person.me())["referral_count"] for person in (alice, bob)]) == [0, 1]


async def test_a_click_that_died_with_its_process_is_unknown(
    client: Client, alice: Person, product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clicks, "BUFFER", 0)
    click_id = await click(client, await alice.make_code())
    assert attribution(await product.report("s1", "signup", click_id=click_id)) == ("refused", "unknown")
