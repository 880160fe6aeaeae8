"""Service keys: made once, shown once, limited to their scope, and refused as soon as they are revoked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from multidict import CIMultiDict

from referral.auth.service_keys import PREFIX, is_whole, new_key
from referral.auth.tokens import hash_token
from referral.queries.service_keys import Scope
from referral.rules.strangers import MOST_EVENTS
from tests.conftest import Client, Command, MakeClient
from tests.support.people import SECRETS, Answer, Person, Product
from tests.support.rows import count, make_admin, sql

MakePerson = Callable[..., Awaitable[Person]]


@pytest.fixture
async def admin(client: Client, person: MakePerson, database_url: str) -> Person:
    """An account with the role admin."""
    alice = await person("alice")
    await make_admin(database_url, alice.id)
    assert (await alice.sign_in()).status == 200
    return alice


def with_key(client: Client, key: str) -> Product:
    SECRETS.add(key)
    return Product(client, "", tokens={"access_token": key})


# Their text


def test_a_key_that_is_mistyped_anywhere_is_known_for_none() -> None:
    key = new_key()
    assert is_whole(key)
    assert re.fullmatch(r"rsk_[0-9A-Za-z]{49}", key)
    assert len({new_key() for _ in range(100)}) == 100
    for place in range(len(key)):
        for wrong in ("a", "Z", "-"):
            mistyped = key[:place] + wrong + key[place + 1 :]
            assert is_whole(mistyped) == (mistyped == key)
    for wrong in ("", PREFIX, key[:-1], key + "a", f" {key}", key.upper(), key + "\n", "ж" * 53):
        assert not is_whole(wrong)


# Made, listed, revoked


async def test_a_key_is_shown_once_and_kept_as_a_hash(client: Client, admin: Person, database_url: str) -> None:
    made = await admin.post("/keys", {"name": "shop", "scope": "write"})
    key = made.body["key"]
    SECRETS.add(key)
    assert made.status == 201
    assert made.headers["Cache-Control"] == "no-store"
    assert made.body == {
        "id": made.body["id"],
        "name": "shop",
        "scope": "write",
        "key": key,
        "created_at": made.body["created_at"],
        "last_used_at": None,
    }
    (listed,) = (await admin.get("/keys")).body["items"]
    assert listed == {name: value for name, value in made.body.items() if name != "key"}
    assert await sql(database_url, "SELECT key_hash FROM service_keys") == [(hash_token(key),)]
    assert (await with_key(client, key).user("42"))["external_id"] == "42"
    (listed,) = (await admin.get("/keys")).body["items"]
    # To the minute, and not before it was made.
    assert listed["last_used_at"] == listed["created_at"] or listed["last_used_at"].endswith(":00Z")


async def test_a_revoked_key_is_refused_at_its_next_request(client: Client, admin: Person) -> None:
    made = (await admin.post("/keys", {"name": "shop", "scope": "admin"})).body
    product = with_key(client, made["key"])
    assert (await product.get("/keys")).body["total"] == 1
    assert (await admin.delete(f"/keys/{made['id']}")).status == 204
    refused = await product.get("/keys")
    assert refused.problem == "unauthorized"
    assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]
    assert (await admin.delete(f"/keys/{made['id']}")).problem == "not-found"
    assert (await admin.delete("/keys/none")).problem == "not-found"


async def test_a_key_may_revoke_itself_and_make_others(client: Client, admin: Person) -> None:
    made = (await admin.post("/keys", {"name": "first", "scope": "admin"})).body
    product = with_key(client, made["key"])
    other = (await product.post("/keys", {"name": "second", "scope": "read"})).body
    SECRETS.add(other["key"])
    assert (await product.delete(f"/keys/{made['id']}")).status == 204
    assert (await product.get("/keys")).problem == "unauthorized"
    assert (await with_key(client, other["key"]).get("/users")).status == 200


async def test_a_change_whose_body_comes_after_the_revocation_is_refused(
    client: Client, admin: Person, database_url: str
) -> None:
    made = (await admin.post("/keys", {"name": "shop", "scope": "write"})).body
    product, begun = with_key(client, made["key"]), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"name":'
        begun.set()
        await asyncio.sleep(0.1)
        assert (await admin.delete(f"/keys/{made['id']}")).status == 204
        yield b' "Bob"}'

    answer = await product.call("PUT", "/users/ext:42", data=slowly(), headers={"Content-Type": "application/json"})
    assert answer.problem == "unauthorized"
    assert await count(database_url, "users", "external_id = '42'") == 0


async def test_what_a_key_cannot_be_made_of_is_refused(admin: Person, database_url: str) -> None:
    for pointer, body in (
        ("/name", {"scope": "read"}),
        ("/name", {"name": "", "scope": "read"}),
        ("/name", {"name": "x" * 101, "scope": "read"}),
        ("/name", {"name": "two\nlines", "scope": "read"}),
        ("/scope", {"name": "shop"}),
        ("/scope", {"name": "shop", "scope": "Write"}),
        ("/scope", {"name": "shop", "scope": ["read"]}),
    ):
        assert (await admin.post("/keys", body)).pointers == [pointer]
    assert await count(database_url, "service_keys") == 0


# What they may

READ: list[tuple[str, str, Any]] = [
    ("GET", "/users", None),
    ("GET", "/users/ext:42", None),
    ("GET", "/users/ext:42/codes", None),
    ("GET", "/users/ext:42/referrals", None),
    ("GET", "/events", None),
    ("GET", "/events/e1", None),
    ("GET", "/codes/by-email?email=bob@example.com", None),
]
WRITE: list[tuple[str, str, Any]] = [
    ("PUT", "/users/ext:42", {}),
    ("POST", "/users/ext:42/codes", {"ttl_days": 1}),
    ("POST", "/users/ext:42/token", {}),
    ("GET", "/users/ext:42/export", None),
    ("POST", "/events", {"id": "e1", "type": "seen", "user": {"external_id": "42"}}),
    ("POST", "/events/batch", {"events": [{"id": "e1", "type": "seen", "user": {"external_id": "42"}}]}),
    ("PATCH", "/codes/8ZK4M2QA", {"max_uses": 7}),
    ("DELETE", "/codes/8ZK4M2QA", None),
    ("DELETE", "/users/ext:43", None),
]
ADMIN: list[tuple[str, str, Any]] = [
    ("GET", "/keys", None),
    ("POST", "/keys", {"name": "x", "scope": "read"}),
    ("DELETE", "/keys/01a1fc33-b15e-7485-b662-a53a843b9176", None),
    ("POST", "/users/ext:42/suspend", {"reason": "a test"}),
    ("POST", "/users/ext:42/unsuspend", None),
]
USERS: list[tuple[str, str, Any]] = [
    ("GET", "/users/me", None),
    ("PATCH", "/users/me", {"username": "shop"}),
    ("DELETE", "/users/me", {"password": "x"}),
    ("GET", "/users/me/codes", None),
    ("GET", "/users/me/referrals", None),
    ("GET", "/users/me/export", None),
    ("POST", "/users/me/referrer", {"code": "8ZK4M2QA"}),
    ("GET", "/codes", None),
    ("POST", "/codes", {"ttl_days": 1}),
    ("GET", "/codes/current", None),
    ("POST", "/codes/current/email", None),
    ("GET", "/auth/sessions", None),
    ("POST", "/auth/password/change", {"current_password": "x", "new_password": "y"}),
]


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_each_scope_comprises_the_ones_before_it_and_a_key_is_no_user(client: Client) -> None:
    scopes: tuple[Scope, ...] = ("read", "write", "admin")
    for rank, scope in enumerate(scopes):
        product = await Product.with_key(client, scope)
        for needed, calls in enumerate((READ, WRITE, ADMIN)):
            for method, path, body in calls:
                answer = await product.call(method, path, body)
                if needed <= rank:
                    assert answer.status not in (401, 403), (scope, method, path, answer.body)
                else:
                    assert answer.problem == "forbidden", (scope, method, path)
                    assert f"the scope {scopes[needed]}" in answer.body["detail"]
        for method, path, body in USERS:
            answer = await product.call(method, path, body)
            assert answer.problem == "forbidden", (scope, method, path)


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_user_may_what_is_their_own_and_an_admin_what_a_key_may(
    client: Client, admin: Person, verified_person: MakePerson
) -> None:
    bob = await verified_person("bob")
    product = await Product.with_key(client)
    await product.user("43")
    assert (await product.put(f"/users/{bob.id}", {"external_id": "b/b"})).status == 200
    for name in ("me", bob.id, bob.id.upper(), "ext:b%2Fb"):
        for path in ("", "/codes", "/referrals", "/export"):
            assert (await bob.get(f"/users/{name}{path}")).status == 200, (name, path)
    assert (await bob.post("/users/me/codes", {"ttl_days": 1})).status == 201
    for path in ("", "/codes", "/export"):
        for other in ("ext:43", admin.id, "ext:nobody", "none"):
            assert (await bob.get(f"/users/{other}{path}")).problem == "forbidden"
    assert (await bob.post("/users/ext:43/codes", {"ttl_days": 1})).problem == "forbidden"
    for method, path, body in [
        *READ[4:6],
        *WRITE[:1],
        *WRITE[2:3],
        *WRITE[4:6],
        *WRITE[8:],
        *ADMIN,
        ("GET", "/users", None),
    ]:
        answer = await bob.call(method, path, body)
        assert answer.problem == "forbidden", (method, path)
        assert "for admins, and for service keys of the scope" in answer.body["detail"]
        assert (await admin.call(method, path, body)).status not in (401, 403), (method, path)


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_key_of_a_lesser_scope_does_not_get_hold_of_an_admin(
    client: Client, admin: Person, person: MakePerson
) -> None:
    product, operator = await Product.with_key(client), await Product.with_key(client, "admin")
    code = await admin.make_code()
    tries = [
        ("PUT", f"/users/{admin.id}", {"email": "mallory@example.com"}),
        ("PUT", f"/users/{admin.id}", {"code": {"ttl_days": 3}}),
        ("PATCH", f"/codes/{code}", {"ttl_days": 3}),
        ("POST", f"/users/{admin.id}/codes", {"ttl_days": 3, "replace": True}),
        ("DELETE", f"/codes/{code}", None),
        ("GET", f"/users/{admin.id}/export", None),
        ("POST", f"/users/{admin.id}/token", {}),
        ("DELETE", f"/users/{admin.id}", None),
    ]
    # What happened is recorded, and nothing of what it says of the admin is taken.
    event = {"id": "e1", "type": "seen", "user": {"id": admin.id, "email": "mallory@example.com"}}
    recorded = await product.post("/events", event)
    assert (recorded.status, recorded.body["ignored"]) == (
        201,
        [{"pointer": "/user", "reason": "forbidden", "user_id": admin.id}],
    )
    for method, path, body in tries:
        answer = await product.call(method, path, body)
        assert answer.problem == "forbidden", (method, path)
        assert "the scope admin" in answer.body["detail"]
    assert (await admin.me())["email"] == "alice@example.com"
    for method, path, body in tries:
        assert (await operator.call(method, path, body)).status < 300


# Where they are sent


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_key_in_an_address_is_refused_and_what_is_no_key_is_no_key(client: Client, product: Product) -> None:
    key = product.tokens["access_token"]
    nobody = Person(client, "")
    for query in (f"access_token={key}", f"key=%72sk_{key[4:]}", f"a=b&x={key}", key):
        for path in ("/users", "/codes/8ZK4M2QA", "/nowhere"):
            for caller in (nobody, product):
                answer = await caller.get(f"{path}?{query}")
                assert answer.problem == "bad-request", (path, query)
                assert key not in str(answer.body)
    # What only looks a little like one is none: a cursor may be any text of base64.
    assert (await product.get("/users?q=rsk_")).status == 200
    assert (await product.get("/users?q=rsk_8ZK4M2QA")).status == 200
    wrong = new_key()
    for header in (f"Bearer {key[:-1]}", f"Bearer {wrong}", f"Bearer {key}x", "Bearer rsk_", f"Bearer {key} {key}"):
        answer = await nobody.get("/users", headers={"Authorization": header})
        assert answer.problem == "unauthorized", header
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    # Which of two is read would depend on who reads them.
    twice = await nobody.get("/users", headers=CIMultiDict([("Authorization", f"Bearer {k}") for k in (key, wrong)]))
    assert twice.problem == "bad-request"
    # Nor is one kept as the request's id, which logs hold.
    assert key not in (await nobody.get("/users", headers={"X-Request-ID": key})).headers["X-Request-ID"]
    for header in (key, f"Basic {key}", f"Token {key}"):
        answer = await nobody.get("/users", headers={"Authorization": header})
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="referral"'


async def test_mistyped_keys_ask_no_database(client: Client, product: Product, database_url: str) -> None:
    await sql(database_url, "ALTER TABLE service_keys RENAME TO away")
    nobody = Person(client, "")
    assert (await nobody.get("/users", headers={"Authorization": f"Bearer {new_key()[:-1]}_"})).status == 401
    assert (await nobody.get("/users", headers={"Authorization": f"Bearer {new_key()}"})).status == 500
    await sql(database_url, "ALTER TABLE away RENAME TO service_keys")


async def test_who_tries_keys_is_limited_by_address(make_client: MakeClient) -> None:
    client = await make_client(limits_enabled="true", limits_request_by_address="3/hour")
    nobody = Person(client, "")

    async def guess() -> Answer:
        return await nobody.get("/users", headers={"Authorization": f"Bearer {new_key()}"})

    assert [(await guess()).status for _ in range(5)] == [401, 401, 401, 429, 429]


# The commands


async def test_keys_are_made_listed_and_revoked_by_commands(client: Client, command: Command, database_url: str) -> None:
    assert await command("keys", "list") == "There is no service key.\n"
    text = await command("keys", "create", "shop", "--scope", "write")
    key = text.removesuffix("\n")
    assert is_whole(key)
    product = with_key(client, key)
    await product.user("42")
    listed = (await command("keys", "list")).splitlines()
    assert re.fullmatch(r"[0-9a-f-]{36}  write  \S{20}  \S{20}  shop", listed[1])
    key_id = listed[1].partition(" ")[0]
    assert await command("keys", "revoke", key_id) == "The key shop is revoked.\n"
    assert (await product.get("/users")).problem == "unauthorized"
    assert await command("keys", "list") == "There is no service key.\n"
    events = await sql(
        database_url, "SELECT event, actor_id, detail FROM audit_events WHERE event LIKE 'key-%' ORDER BY at, id"
    )
    assert [(event, actor) for event, actor, _ in events] == [("key-made", None), ("key-revoked", None)]
    assert all(key_id in detail and key not in detail for _, _, detail in events)


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_what_becomes_of_a_user_by_keys_is_recorded(product: Product, command: Command, database_url: str) -> None:
    user = await product.user("42", email="bob@example.com", username="bob")
    await product.user("42", email_verified=True, username="robert")
    assert (await product.put(f"/users/{user['id']}", {"external_id": "43"})).status == 200
    assert (await product.post("/users/ext:43/token")).status == 200
    assert (await product.get("/users/ext:43/export")).status == 200
    recorded = await sql(database_url, f"SELECT event FROM audit_events WHERE user_id = '{user['id']}' ORDER BY at, id")
    assert {event for (event,) in recorded} == {
        "registered",
        "username-changed",
        "email-verified",
        "external-id-changed",
        "user-token-made",
        "user-exported",
    }
    printed = await command("audit", "--user", "ext:43")
    assert len(printed.splitlines()) == len(recorded)
    assert "key=a write key" in printed
    # What a key does again and again fills no disk: so much an hour is kept of each user.
    for _ in range(MOST_EVENTS + 5):
        assert (await product.post("/users/ext:43/token")).status == 200
    assert await count(database_url, "audit_events", "event = 'user-token-made'") == MOST_EVENTS
    assert await command("sessions", "end", "ext:43") == f"{MOST_EVENTS + 6} sessions of bob@example.com ended.\n"


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_what_keys_do_is_recorded_with_their_names(
    client: Client, admin: Person, product: Product, database_url: str
) -> None:
    await product.user("42", code={"ttl_days": 3})
    user_id = (await product.get("/users/ext:42")).body["id"]
    ((actor, about, detail),) = await sql(
        database_url, "SELECT actor_id, user_id, detail FROM audit_events WHERE event = 'code-made'"
    )
    assert about == user_id
    assert actor == (await admin.get("/keys")).body["items"][0]["id"]
    assert '"key":"a write key"' in detail
