"""Registration over HTTP: who may have an account, and by whom they come."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from referral.clock import now
from tests.conftest import Client, Eventually
from tests.support.people import PASSWORD, Person
from tests.support.rows import everything, expire, is_at_rest, sql

MakePerson = Callable[..., Awaitable[Person]]

TOKENS = {"access_token", "token_type", "expires_in", "refresh_token"}


async def test_registration_makes_an_account_and_signs_in(client: Client) -> None:
    body = {"email": "Alice@EXAMPLE.com", "password": PASSWORD, "username": "Alice"}
    answer = await Person(client, "").post("/auth/register", body)
    assert answer.status == 201
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.body.keys() == TOKENS | {"user", "attribution"}
    assert (answer.body["token_type"], answer.body["expires_in"]) == ("Bearer", 900)
    user = answer.body["user"]
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", user["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", user["created_at"])
    assert {key: user[key] for key in user.keys() - {"id", "created_at"}} == {
        "email": "Alice@example.com",
        "external_id": None,
        "email_verified": False,
        "username": "Alice",
        "name": None,
        "role": "user",
        "status": "active",
        "url": None,
        "metadata": None,
        "referrer": None,
        "referral_count": 0,
        "code": None,
        "profile": None,
    }
    alice = Person(client, "alice@example.com", tokens={key: answer.body[key] for key in TOKENS})
    assert await alice.me() == user
    assert (await alice.refresh()).status == 200


async def test_registration_by_a_code_sets_the_referrer_and_counts(client: Client, person: MakePerson) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    body = {"email": "bob@example.com", "password": PASSWORD, "username": None, "referral_code": code.lower()}
    answer = await Person(client, "").post("/auth/register", body)
    assert answer.status == 201
    assert answer.body["user"]["referrer"] == {"id": alice.id, "username": "alice", "name": None}
    assert answer.body["user"]["username"] is None
    me = await alice.me()
    assert (me["referral_count"], me["code"]["uses"]) == (1, 1)
    listed = (await alice.get("/users/me/referrals")).body["items"]
    assert [(item["id"], item["code"]) for item in listed] == [(answer.body["user"]["id"], code)]


async def test_with_a_code_that_cannot_be_used_there_is_no_account(
    client: Client, person: MakePerson, database_url: str, eventually: Eventually
) -> None:
    codes = {"unknown": "NOBODYS"}
    for reason in ("expired", "revoked", "exhausted"):
        owner = await person()
        codes[reason] = await owner.make_code(max_uses=1)
    await expire(database_url, codes["expired"])
    await sql(database_url, f"UPDATE codes SET revoked_at = {now()} WHERE code = '{codes['revoked']}'")
    await person("bob", referral_code=codes["exhausted"])
    await eventually(lambda: is_at_rest(database_url))
    before = await everything(database_url)
    for reason, code in codes.items():
        body = {"email": "carol@example.com", "password": PASSWORD, "username": "carol", "referral_code": code}
        answer = await Person(client, "").post("/auth/register", body)
        assert (answer.status, answer.problem, answer.body["reason"]) == (422, "referral-code-invalid", reason)
        # That it was tried is on record.
        assert await everything(database_url) | {"audit_events": []} == before | {"audit_events": []}
    await person("carol")


async def test_a_taken_address_or_name_is_refused_whole(
    client: Client, person: MakePerson, database_url: str, eventually: Eventually
) -> None:
    code = await (await person("alice")).make_code()
    await eventually(lambda: is_at_rest(database_url))
    before = await everything(database_url)
    for email, username, problem in (
        ("alice@example.com", "somebody", "email-taken"),
        ("ALICE@Example.COM", "somebody", "email-taken"),
        ("somebody@example.com", "alice", "username-taken"),
        ("somebody@example.com", "ALICE", "username-taken"),
        ("somebody@example.com", "ａｌｉｃｅ", "username-taken"),
    ):
        body = {"email": email, "password": PASSWORD, "username": username, "referral_code": code}
        answer = await Person(client, "").post("/auth/register", body)
        assert (answer.status, answer.problem) == (409, problem), (email, username)
        # That it was tried is on record.
        assert await everything(database_url) | {"audit_events": []} == before | {"audit_events": []}
