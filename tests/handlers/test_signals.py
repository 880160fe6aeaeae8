"""Signals of fraud: noted in the transaction that makes a referral or records an event, and again as new evidence comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from referral.auth import context_keys
from referral.auth.context_keys import CONTEXT_KEYS
from referral.background import housekeeping
from referral.background.clicks import CLICKS
from referral.clock import DAY, SECOND, now, rfc_3339
from referral.config import CONFIG
from referral.database import DATABASE
from tests.conftest import Client, Mailed, MakeClient
from tests.support.browsing import PERSON
from tests.support.identity_provider import AUDIENCE, running_provider
from tests.support.networks import BEHIND_PROXY, of
from tests.support.people import API, PASSWORD, Answer, Person, Product
from tests.support.programme import Programme
from tests.support.rows import count, everything, sql

SHOP = "https://shop.example.com"
SETTINGS = {"links_destination": f"{SHOP}/", "fraud_per_hour": "25", **BEHIND_PROXY}
MakePerson = Callable[..., Awaitable[Person]]
Signals = dict[str, dict[str, Any]]


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await make_client(**SETTINGS)


@pytest.fixture
async def programme(client: Client) -> Programme:
    return Programme(await Product.with_key(client, "admin"))


async def signals(url: str, user_id: str) -> Signals:
    """The evidence of each signal of a user's referral."""
    rows = await sql(url, f"SELECT kind, evidence FROM signals WHERE user_id = '{user_id}' ORDER BY kind")
    return {kind: json.loads(evidence) for kind, evidence in rows}


async def review(url: str, user_id: str) -> str:
    return str((await sql(url, f"SELECT review FROM referrals WHERE user_id = '{user_id}'"))[0][0])


class Users:
    """Users of the product's, their signals by their names, and what they do in a context."""

    def __init__(self, programme: Programme, url: str) -> None:
        self.programme = programme
        self.product = programme.admin
        self.url = url

    async def id_of(self, name: str) -> str:
        return str((await self.product.get(f"/users/ext:{name}")).body["id"])

    async def come(self, name: str, referrer: str = "alice", **members: Any) -> Answer:
        """Report that somebody comes by the code of a referrer, or by a click."""
        members = members if "click_id" in members else {"code": await self.programme.code_of(referrer), **members}
        user = {"external_id": name, **members.pop("user", {})}
        answer = await self.product.post("/events", {"id": f"came {name}", "type": "came", "user": user, **members})
        assert (answer.status, answer.body["attribution"]["status"]) == (201, "attributed"), answer.body
        return answer

    async def do(self, name: str, event: str, kind: str = "seen", **context: str) -> Answer:
        answer = await self.product.report(event, kind, name, context=context)
        assert answer.status == 201
        return answer

    async def signals(self, name: str) -> Signals:
        return await signals(self.url, await self.id_of(name))

    async def review(self, name: str) -> str:
        return await review(self.url, await self.id_of(name))


@pytest.fixture
def users(programme: Programme, database_url: str) -> Users:
    return Users(programme, database_url)


async def click(client: Client, code: str, agent: str = PERSON, address: str = "203.0.113.200") -> str:
    """The id of a click on a link, which is written."""
    headers = {"User-Agent": agent, **of(address)}
    async with client.get(f"/r/{code}", headers=headers, allow_redirects=False) as response:
        click_id = response.headers["Location"].partition("click=")[2]
    assert client.app
    await client.app[CLICKS].flush()
    return click_id


async def grow_old(url: str, days: int) -> None:
    """Let so many days pass for the keys of contexts, which are read anew."""
    await sql(url, f"UPDATE context_keys SET created_at = created_at - {days * DAY}")


# Addresses and ids


async def test_a_second_account_of_the_referrers_mailbox_opens_a_review_that_holds_its_rewards(
    client: Client, programme: Programme, database_url: str
) -> None:
    await programme.rule(on="signup")
    await programme.rule("referee", on="signup")
    alice = await Person.register(client, "alice", email="Alice.B@gmail.com")
    code = await alice.make_code()
    answer = await Person(client, "").post(
        "/auth/register", {"email": "aliceb+2@googlemail.com", "password": PASSWORD, "referral_code": code}
    )
    assert answer.status == 201
    referee = answer.body["user"]["id"]
    assert await signals(database_url, referee) == {"same-email": {"differs_by": "plus-part, dots, googlemail"}}
    assert await review(database_url, referee) == "open"
    rewards = (await programme.admin.get("/rewards")).body["items"]
    assert [(reward["status"], reward["waiting_for"]) for reward in rewards] == [("pending", ["review"])] * 2
    # Somebody else's account is nobody's affair.
    bob = await Person.register(client, "bob", email="bob@gmail.com", referral_code=code)
    assert (await signals(database_url, bob.id), await review(database_url, bob.id)) == ({}, "none")


async def test_what_the_address_and_the_id_say_and_again_when_they_change(
    users: Users, product_of_blocks: Callable[..., Awaitable[None]]
) -> None:
    await product_of_blocks(("email-domain", "bad.de"), ("email", "eve@fine.de"), ("external-id", "mallory"))
    await users.product.user("alice", email="alice@firm.de")
    cases: dict[str, tuple[str, Signals]] = {
        "a": ("a@gmail.com", {}),
        "b": ("b@firm.de", {"same-domain": {"domain": "firm.de"}}),
        "c": ("c@mailinator.com", {"disposable-email": {"domain": "mailinator.com"}}),
        "d": ("d@mail.bad.de", {"blocked": {"blocks": ["email-domain"]}}),
        "e": ("Eve+1@fine.de", {"blocked": {"blocks": ["email"]}}),
        "f": ("f@example.com", {}),
        "mallory": ("m@gmail.com", {"blocked": {"blocks": ["external-id"]}}),
    }
    for name, (email, expected) in cases.items():
        answer = await users.come(name, user={"email": email})
        assert await users.signals(name) == expected, name
        weight = {"same-domain": 20, "disposable-email": 50, "blocked": 100}.get(next(iter(expected), ""), 0)
        opened = "open" if weight >= 50 else "none"
        assert (answer.body["referral"]["review"], await users.review(name)) == (opened, opened)
    # By a call of the product's, by an event, and by another id.
    await users.product.user("a", email="alice+a@firm.de")
    assert (await users.signals("a")).keys() == {"same-email", "same-domain"}
    assert await users.review("a") == "open"
    await users.product.report("changed", "seen", user={"external_id": "f", "email": "f@mailinator.com"})
    assert await users.review("f") == "open"
    await users.product.put(f"/users/{await users.id_of('b')}", {"external_id": "mallory2"})
    assert (await users.signals("mallory2")).keys() == {"same-domain"}
    await product_of_blocks(("external-id", "mallory3"))
    await users.product.put(f"/users/{await users.id_of('mallory2')}", {"external_id": "mallory3"})
    assert (await users.signals("mallory3")).keys() == {"same-domain", "blocked"}
    # A signal stays, whatever the address is then.
    await users.product.user("c", email="c@gmail.com")
    assert (await users.signals("c")).keys() == {"disposable-email"}


@pytest.fixture
def product_of_blocks(database_url: str) -> Callable[..., Awaitable[None]]:
    async def block(*blocks: tuple[str, str]) -> None:
        for kind, value in blocks:
            await sql(database_url, f"INSERT INTO blocks (kind, value, created_at) VALUES ('{kind}', '{value}', 1)")

    return block


async def test_a_mailed_change_of_the_address_is_looked_at(client: Client, mailed: Mailed, database_url: str) -> None:
    alice = await Person.register(client, "alice", email="alice@firm.de")
    bob = await Person.register(client, "bob", referral_code=await alice.make_code())
    assert await signals(database_url, bob.id) == {}
    change = {"email": "alice+bob@firm.de", "current_password": PASSWORD}
    assert (await bob.post("/auth/email/change", change)).status == 202
    assert (await bob.post("/auth/email/verify", {"token": await mailed("alice+bob@firm.de")})).status == 204
    assert (await signals(database_url, bob.id)).keys() == {"same-email", "same-domain"}
    assert await review(database_url, bob.id) == "open"


async def test_a_code_that_is_used_later_is_looked_at(client: Client, database_url: str) -> None:
    alice = await Person.register(client, "alice", email="alice@firm.de")
    code = await alice.make_code()
    bob = await Person.register(client, "bob", email="bob@firm.de")
    assert (await bob.post("/users/me/referrer", {"code": code}, headers=of("203.0.113.1"))).status == 201
    assert await signals(database_url, bob.id) == {"same-domain": {"domain": "firm.de"}}


async def test_a_token_exchange_is_looked_at(make_client: MakeClient, database_url: str) -> None:
    async with running_provider() as provider:
        issuer = {"issuer": provider.issuer, "audience": AUDIENCE, "subject_is_external_id": False}
        client = await make_client(identity_issuers=json.dumps([issuer]), **SETTINGS)
        alice = await Person.register(client, "alice", email="alice@firm.de")
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": provider.token(sub="bob", email="alice+bob@firm.de", email_verified=True),
            "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
            "referral_code": await alice.make_code(),
        }
        answer = await Person(client, "").call("POST", "/auth/token", data=form, headers=of("203.0.113.1"))
        assert (answer.status, answer.body["attribution"]["status"]) == (200, "attributed")
        [(bob,)] = await sql(database_url, "SELECT user_id FROM referrals")
        assert (await signals(database_url, bob)).keys() == {"same-email", "same-domain"}
        assert await review(database_url, bob) == "open"
        kept = await sql(database_url, f"SELECT kind, referrer_id FROM event_contexts WHERE user_id = '{bob}' ORDER BY kind")
        assert [tuple(row) for row in kept] == [("ip", alice.id), ("user_agent", alice.id)]


# The same device, payment or network


@pytest.mark.parametrize(
    ("what", "kind", "opened"),
    [("device", "same-device", "open"), ("payment", "same-payment", "open"), ("ip", "same-network", "none")],
)
async def test_who_has_the_same_as_the_referrer_or_another_referral_and_when_that_comes_out(
    users: Users, what: str, kind: str, opened: str
) -> None:
    same, other = {what: "203.0.113.5"}, {what: "203.0.113.6"}
    await users.do("alice", "a1", **same)
    alice = await users.id_of("alice")
    # As the referral is made.
    answer = await users.come("bob", context=same)
    assert await users.signals("bob") == {kind: {"users": [alice]}}
    assert answer.body["referral"]["review"] == opened
    # Of a referral that there is.
    await users.come("carol", context=other)
    await users.come("dave")
    assert await users.signals("carol") == await users.signals("dave") == {}
    await users.do("dave", "d1", **other)
    carol, dave = await users.id_of("carol"), await users.id_of("dave")
    assert await users.signals("dave") == {kind: {"users": [carol]}}
    # Carol's comes out by that, too.
    assert await users.signals("carol") == {kind: {"users": [dave]}}
    assert (await users.review("carol"), await users.review("dave")) == (opened, opened)
    # By the referrer's own event, and of what was kept of a user before they came.
    await users.come("eve", context={what: "203.0.113.7"})
    await users.do("frank", "f1", **{what: "203.0.113.8"})
    await users.do("alice", "a2", **{what: "203.0.113.7"})
    await users.do("alice", "a3", **{what: "203.0.113.8"})
    await users.come("frank")
    assert await users.signals("eve") == await users.signals("frank") == {kind: {"users": [alice]}}
    # What is known is not noted twice, and says what it said.
    await users.do("eve", "e2", **other)
    assert await users.signals("eve") == {kind: {"users": [alice]}}
    # Somebody else's referrals are none of it.
    await users.come("zoe", "yves", context=same)
    assert await users.signals("zoe") == {}
    assert await users.review("zoe") == "none"


async def test_rewards_wait_for_the_review_that_their_own_event_opens(programme: Programme, users: Users) -> None:
    await programme.rule()
    await users.come("bob")
    await users.do("alice", "a1", device="d")
    bought = await programme.buy(context={"device": "d"})
    [reward] = bought.body["rewards"]
    assert (reward["status"], reward["waiting_for"]) == ("pending", ["review"])
    assert bought.body["referral"]["review"] == "open"
    assert (await programme.reward(reward["id"]))["waiting_for"] == ["review"]
    # And the answer is the same again.
    again = await programme.buy(event=bought.body["event"]["id"], context={"device": "d"})
    assert (again.status, again.body["rewards"]) == (200, bought.body["rewards"])


async def test_networks_count_for_a_day_and_only_where_they_say_anything(users: Users) -> None:
    for address in ("127.0.0.1", "10.0.0.7", "192.168.1.1", "::1", "fd00::1"):
        await users.do("alice", f"local {address}", ip=address)
        await users.do("bob", f"locally {address}", ip=address)
    await users.come("bob", context={"ip": "10.0.0.7"})
    yesterday = rfc_3339(now() - DAY - 60 * SECOND)
    body = {"id": "old", "type": "seen", "user": {"external_id": "alice"}, "occurred_at": yesterday}
    await users.product.post("/events", {**body, "context": {"ip": "2001:db8:0:1::1", "device": "d"}})
    await users.come("carol", context={"ip": "2001:db8:0:1:ffff::2", "user_agent": "a"})
    await users.do("alice", "agent", user_agent="a")
    assert await users.signals("bob") == await users.signals("carol") == {}
    await users.do("alice", "new", ip="2001:db8:0:1:aaaa::")
    assert (await users.signals("carol")).keys() == {"same-network"}


async def test_own_accounts_are_compared_by_where_they_sign_up_and_in(client: Client, database_url: str) -> None:
    alice = await Person.register(client, "alice")
    code = await alice.make_code()
    for headers, name in (({}, "bob"), (of("203.0.113.1"), "carol"), (of("10.0.0.1"), "dave")):
        body = {"email": f"{name}@example.com", "password": PASSWORD, "referral_code": code}
        answer = await Person(client, "").post("/auth/register", body, headers=headers)
        assert await signals(database_url, answer.body["user"]["id"]) == {}
    await alice.client.post(
        f"{API}/auth/token",
        data={"grant_type": "password", "username": alice.email, "password": PASSWORD},
        headers=of("203.0.113.9"),
    )
    found = []
    for number, address in enumerate(("203.0.113.9", "203.0.113.1")):
        body = {"email": f"p{number}@example.com", "password": PASSWORD, "referral_code": code}
        answer = await Person(client, "").post("/auth/register", body, headers=of(address))
        found.append(await signals(database_url, answer.body["user"]["id"]))
    assert found[0] == {"same-network": {"users": [alice.id]}}
    assert found[1].keys() == {"same-network"}
    # No table has an address or an agent but those of the accounts themselves, for their owners and operators.
    rows = await everything(database_url)
    assert {name for name in rows if "203.0.113." in repr(rows[name])} == {"audit_events", "sessions"}
    assert {name for name in rows if "aiohttp" in repr(rows[name])} == {"sessions"}
    kinds = await sql(database_url, "SELECT kind, count(*) FROM event_contexts GROUP BY kind ORDER BY kind")
    assert [tuple(row) for row in kinds] == [("ip", 3), ("user_agent", 6)]


async def test_a_click_tells_from_which_network_somebody_comes(client: Client, users: Users, database_url: str) -> None:
    code = await users.programme.code_of("alice")
    await users.do("alice", "a1", ip="203.0.113.50")
    await sql(database_url, f"UPDATE users SET created_at = created_at - {DAY} WHERE external_id = 'alice'")
    clicked = await click(client, code, address="203.0.113.50")
    await users.come("bob", click_id=clicked, occurred_at=rfc_3339(now() + 60 * SECOND))
    assert await users.signals("bob") == {"same-network": {"users": [await users.id_of("alice")]}}
    # Another referral by a click from there, whose product says nothing else.
    [(bobs, key)] = await sql(database_url, f"SELECT network, network_key FROM clicks WHERE id = '{clicked}'")
    assert (len(bobs), key) == (64, (await sql(database_url, "SELECT id FROM context_keys"))[0][0])
    later = await click(client, code, address="203.0.113.51")
    await users.come("carol", click_id=later, occurred_at=rfc_3339(now() + 60 * SECOND))
    await users.come("dave", context={"ip": "203.0.113.51"})
    assert await users.signals("dave") == {"same-network": {"users": [await users.id_of("carol")]}}
    # From the operator's own network there is nothing to tell.
    local = await click(client, code, address="127.0.0.1")
    assert [tuple(row) for row in await sql(database_url, f"SELECT network FROM clicks WHERE id = '{local}'")] == [(None,)]


# Clicks


async def test_what_a_click_says(client: Client, users: Users, database_url: str) -> None:
    code = await users.programme.code_of("alice")
    robot = await click(client, code, agent="curl/8.11.0")
    await users.come("bob", click_id=robot)
    assert (await users.signals("bob")).keys() == {"bot-click", "too-fast"}
    assert await users.review("bob") == "open"
    slow = await click(client, code, address="203.0.113.201")
    await users.come("carol", click_id=slow, occurred_at=rfc_3339(now() + 10 * SECOND))
    assert await users.signals("carol") == {}
    # Whom the engine had before, or the product by what it says; whose clock may differ.
    await users.product.user("dave")
    await asyncio.sleep(0.002)
    cases = (("dave", None), ("eve", now() - DAY), ("frank", now() - 60 * SECOND))
    for number, (name, created_at) in enumerate(cases):
        known = await click(client, code, address=f"203.0.113.{number}")
        user = {} if created_at is None else {"created_at": rfc_3339(created_at)}
        await users.come(name, click_id=known, user=user, occurred_at=rfc_3339(now() + 10 * SECOND))
    seen = [name for name in ("dave", "eve", "frank") if "seen-before" in await users.signals(name)]
    assert seen == ["dave", "eve"]
    # A page gives the code and the click; a click on another code says nothing of this one.
    both = await click(client, code, agent="curl/8.11.0", address="203.0.113.202")
    await users.come("gina", click_id=both, code=code)
    assert "bot-click" in await users.signals("gina")
    other = await users.programme.code_of("yves")
    await users.come("hugo", click_id=both, code=other)
    assert await users.signals("hugo") == {}
    both = await click(client, code, agent="curl/8.11.0", address="203.0.113.203")
    body = {"email": "ivy@example.com", "password": PASSWORD, "referral_code": code, "click_id": both}
    ivy = (await Person(client, "").post("/auth/register", body)).body["user"]["id"]
    assert (await signals(database_url, ivy)).keys() == {"bot-click", "too-fast"}


# Numbers


async def test_a_burst_is_what_comes_beyond(make_client: MakeClient, database_url: str) -> None:
    client = await make_client(fraud_per_hour="2")
    alice = await Person.register(client, "alice")
    code = await alice.make_code()
    people = [await Person.register(client, f"p{number}", referral_code=code) for number in range(4)]
    found = [await signals(database_url, person.id) for person in people]
    assert found == [{}, {}, {"burst": {"in_the_hour": 3}}, {"burst": {"in_the_hour": 4}}]
    assert {await review(database_url, person.id) for person in people} == {"none"}
    await sql(database_url, f"UPDATE referrals SET joined_at = joined_at - {3_600 * SECOND}")
    assert await signals(database_url, (await Person.register(client, "later", referral_code=code)).id) == {}


async def test_the_refund_that_tips_it(programme: Programme, users: Users) -> None:
    for name in ("bob", "carol", "dave"):
        await users.come(name)
        for number in range(2):
            await programme.buy(referee=name, event=f"{name} {number}")
    await programme.refund("bob 0")
    # A part is none.
    await programme.refund("carol 0", 100)
    await programme.refund("bob 1")
    assert await users.signals("bob") == {}
    await programme.refund("carol 0")
    assert await users.signals("carol") == {"refunds": {"refunded": 3, "purchases": 6}}
    assert await users.review("carol") == "open"
    await programme.refund("dave 0")
    assert await users.signals("dave") == await users.signals("bob") == {}


# Settings


async def test_weights_and_thresholds_are_settings(make_client: MakeClient, database_url: str) -> None:
    client = await make_client(fraud_review_at="0", fraud_weights="same-device=0, same-payment=7")
    users = Users(Programme(await Product.with_key(client, "admin")), database_url)
    await users.do("alice", "a1", device="d", payment="p")
    await users.come("bob", context={"device": "d", "payment": "p"}, user={"email": "bob@mailinator.com"})
    await users.come("carol", context={"device": "d"})
    rows = await sql(database_url, "SELECT kind, weight FROM signals ORDER BY kind")
    assert [tuple(row) for row in rows] == [("disposable-email", 50), ("same-payment", 7)]
    assert await users.review("bob") == "none"


# Keys


async def test_hashes_by_every_kept_key_are_compared_and_what_is_older_is_gone(
    client: Client, users: Users, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context_keys, "AT_HAND", 0)
    await users.do("alice", "a1", device="d")
    code = await users.programme.code_of("alice")
    await click(client, code)
    await grow_old(database_url, 31)
    await users.come("bob", context={"device": "d"})
    assert (await users.signals("bob")).keys() == {"same-device"}
    assert await count(database_url, "context_keys") == 2
    await grow_old(database_url, 31)
    await users.come("carol", context={"device": "d"})
    found = await users.signals("carol")
    assert found == {"same-device": {"users": sorted([await users.id_of("alice"), await users.id_of("bob")])}}
    # The first key is thrown away, and what it made; then all of them.
    assert client.app
    for days, left in ((29, 2), (62, 0)):
        await grow_old(database_url, days)
        await housekeeping._delete_old_contexts(client.app[CONFIG], client.app[DATABASE])
        assert await count(database_url, "context_keys") == left
    assert await count(database_url, "event_contexts") + await count(database_url, "clicks", "network IS NOT NULL") == 0
    await users.come("dave", context={"device": "d"})
    assert await users.signals("dave") == {}
    # What was noted stays.
    assert (await users.signals("bob")).keys() == {"same-device"}


async def test_a_secret_whose_time_is_over_is_used_no_more_before_it_is_thrown_away(client: Client, users: Users) -> None:
    await users.do("alice", "a1", device="d")
    assert client.app
    keys, today = client.app[CONTEXT_KEYS], now()
    async with client.app[DATABASE].transaction() as conn:
        (first,) = await keys.live(conn, today + 1)
        assert keys.at_hand(today + 2) == (first,)
        assert keys.at_hand(today + 61 * SECOND) is None
        assert first in await keys.live(conn, today + 89 * DAY)
        assert first not in await keys.live(conn, today + 91 * DAY)


# At once


async def test_a_key_that_a_promoted_standby_lacks_fails_nobody(client: Client, users: Users, database_url: str) -> None:
    """A process goes on with it for a minute; what it would make says nothing, and is not kept."""
    # The first one makes the key, and the second one reads it.
    for number, left in enumerate((2, 4, 0)):
        if left == 0:
            for table in ("event_contexts", "context_keys"):
                await sql(database_url, f"DELETE FROM {table}")
        context = {"device": "d", "payment": "p"}
        answer = await users.programme.admin.report(f"e{number}", "signup", f"u{number}", context=context)
        assert answer.status == 201
        assert await count(database_url, "event_contexts") == left


async def test_of_many_with_one_payment_at_once_nobody_is_missed(programme: Programme, users: Users) -> None:
    await programme.rule()
    names = [f"u{number}" for number in range(8)]
    for name in names:
        await users.come(name)
    bought = await asyncio.gather(*(programme.buy(referee=name, context={"payment": "card"}) for name in names))
    assert {answer.status for answer in bought} == {201}
    # The first one is found by the second one's.
    for name in names:
        assert (await users.signals(name)).keys() == {"same-payment"}
        assert await users.review(name) == "open"
    joined = await asyncio.gather(*(users.come(f"v{number}", context={"device": "phone"}) for number in range(8)))
    assert {answer.status for answer in joined} == {201}
    for number in range(8):
        assert (await users.signals(f"v{number}")).keys() == {"same-device"}


async def test_so_many_others_are_noted_in_the_order_of_their_ids(users: Users, database_url: str) -> None:
    names = [f"u{number}" for number in range(22)]
    for name in names:
        await users.come(name)
        await users.do(name, f"of {name}")
    # As if they had been kept before there were signals.
    await users.do("u0", "kept", device="d")
    rows = await sql(database_url, "SELECT key_id, hash, at, referrer_id FROM event_contexts")
    key_id, digest, at, referrer_id = rows[0]
    ids = {name: await users.id_of(name) for name in names}
    for name in names[1:]:
        await sql(
            database_url,
            "INSERT INTO event_contexts (event_id, kind, user_id, key_id, hash, at, referrer_id) "
            f"VALUES ('of {name}', 'device', '{ids[name]}', '{key_id}', '{digest}', {at}, '{referrer_id}')",
        )
    await users.do("alice", "a1", device="d")
    noted = await sql(database_url, "SELECT user_id FROM signals ORDER BY user_id")
    assert [row[0] for row in noted] == sorted(ids.values())[:20]
    await users.do("alice", "a2", device="d")
    assert await count(database_url, "signals") == 22


async def test_nothing_is_noted_of_who_is_gone(users: Users, database_url: str) -> None:
    await users.come("bob", context={"device": "d"})
    await users.come("carol", context={"device": "e"})
    bob = await users.id_of("bob")
    assert (await users.product.delete("/users/ext:bob")).status == 204
    assert (await users.product.delete("/users/ext:alice")).status == 204
    await users.do("carol", "c1", device="d")
    assert await count(database_url, "signals") == 0
    assert await count(database_url, "event_contexts", f"user_id = '{bob}'") == 0
