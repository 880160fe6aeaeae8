"""The user's own account over HTTP: username, erasure, the referrer after registration, referrals page by page."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from referral.clock import now
from referral.database import DATABASE
from referral.queries.referrals import list_referrals
from tests.conftest import Client, Eventually, MakeClient
from tests.support.people import PASSWORD, Answer, Person
from tests.support.rows import FEED, count, everything, expire, is_at_rest, make_admin, sql

MakePerson = Callable[..., Awaitable[Person]]


async def names_of(person: Person, path: str, **options: Any) -> list[str | None]:
    """The usernames in a list of referrals, in its order."""
    answer = await person.get(path, **options)
    assert answer.status == 200, answer.body
    return [item["username"] for item in answer.body["items"]]


# Username


async def test_a_username_is_chosen_changed_and_taken_away(person: MakePerson) -> None:
    alice = await person("alice", username=None)
    assert (await alice.me())["username"] is None
    for given, kept in (
        ("alice", "alice"),
        ("Alice", "Alice"),
        ("Алиса-2.я_", "Алиса-2.я_"),
        ("ａｌｉｃｅ", "alice"),
        ("नमस्ते", "नमस्ते"),
        ("x" * 32, "x" * 32),
        (None, None),
    ):
        answer = await alice.patch("/users/me", {"username": given})
        assert (answer.status, answer.body["username"]) == (200, kept)
        assert await alice.me() == answer.body
    await alice.patch("/users/me", {"username": "alice"})
    assert (await alice.patch("/users/me", {})).body["username"] == "alice"


async def test_one_username_is_one_persons_in_any_case_and_form_until_it_is_given_up(person: MakePerson) -> None:
    alice, bob = await person("alice"), await person("bob")
    await alice.patch("/users/me", {"username": "Straße"})
    for name in ("Straße", "STRASSE", "strasse", "ｓtraße"):
        answer = await bob.patch("/users/me", {"username": name})
        assert (answer.status, answer.problem) == (409, "username-taken"), name
    assert (await bob.me())["username"] == "bob"
    await alice.patch("/users/me", {"username": None})
    assert (await bob.patch("/users/me", {"username": "strasse"})).status == 200
    assert (await bob.sign_in(name="STRASSE")).status == 200


# Erasure

SECRETS = ("alice", "Алиса", "PRIVATE")


async def test_erasure_leaves_no_personal_data_in_any_table(
    make_client: MakeClient, database_url: str, eventually: Eventually
) -> None:
    # Nobody listens there: mail stays in the outbox.
    client = await make_client(mail_url="smtp://127.0.0.1:1", auth_unverified="full")
    alice = await Person.register(client, "alice", username="Алиса")
    bob = await Person.register(client, "bob")
    code = await alice.make_code(code="SPRING-27")
    assert (await alice.post("/codes/current/email")).status == 202
    assert (await alice.post("/auth/password/reset", {"email": alice.email})).status == 202
    waiting = f"user_id = '{alice.id}' OR recipient = '{alice.email}'"
    assert await count(database_url, "outbox", waiting) == 3
    await eventually(lambda: count(database_url, "one_time_tokens", f"user_id = '{alice.id}'"))
    profile = '{"name": "PRIVATE"}'
    await sql(database_url, f"INSERT INTO profiles VALUES ('{alice.id}', 'clearbit', '{profile}', {now()})")
    await sql(database_url, f"INSERT INTO profile_lookups VALUES ('{alice.id}', {now()}, {now()}, 0)")
    hashed = (await sql(database_url, f"SELECT password_hash FROM users WHERE id = '{alice.id}'"))[0][0]
    kept = repr(await everything(database_url))
    assert all(secret in kept for secret in (*SECRETS, hashed))

    answer = await alice.delete("/users/me", {"password": PASSWORD})
    assert (answer.status, answer.body) == (204, b"")

    tables = await everything(database_url)
    assert not any(secret.casefold() in repr(tables).casefold() for secret in (*SECRETS, hashed))
    rows = {table: [row for row in rows if alice.id in row] for table, rows in tables.items() if table not in FEED}
    # That somebody signed up, once, is of no name.
    left = {"users": 1, "codes": 1, "audit_events": 3, "events": 1}
    assert {table: len(found) for table, found in rows.items() if found} == left
    assert await count(database_url, "sessions") == 1, "bob's"
    assert (await bob.get(f"/codes/{code}")).status == 404
    assert (await bob.get("/codes/by-email", params={"email": alice.email})).status == 404


async def test_after_an_erasure_nothing_of_the_account_works_and_its_address_and_name_are_free(
    client: Client, person: MakePerson, database_url: str
) -> None:
    alice, bob = await person("alice"), await person("bob")
    other = alice.tokens
    code = await alice.make_code()
    assert (await alice.sign_in()).status == 200
    assert (await alice.delete("/users/me", {"password": PASSWORD})).status == 204
    for tokens in (other, alice.tokens):
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert (await alice.get("/users/me", headers=headers)).problem == "unauthorized"
        assert (await alice.refresh(tokens["refresh_token"])).body["error"] == "invalid_grant"
    assert (await alice.sign_in()).body["error"] == "invalid_grant"
    assert (await bob.get(f"/users/{alice.id}/referrals")).problem == "not-found"
    answer = await bob.post("/users/me/referrer", {"code": code})
    assert (answer.problem, answer.body["reason"]) == ("referral-code-invalid", "revoked")
    assert (await bob.post("/codes", {"code": code, "ttl_days": 1})).problem == "code-taken"
    again = await person("alice")
    assert again.id != alice.id
    assert (await again.me())["code"] is None


async def test_erasure_asks_for_the_password(person: MakePerson) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    before = await alice.me()
    answer = await alice.delete("/users/me", {"password": "wrong"})
    assert (answer.status, answer.problem) == (403, "wrong-password")
    assert await alice.me() == before
    assert (await alice.get(f"/codes/{code}")).status == 200


async def test_the_referrers_count_and_history_stay_nameless_after_an_erasure(person: MakePerson) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    bob = await person("bob", referral_code=code)
    carol = await person("carol", referral_code=await bob.make_code())
    (entry,) = (await alice.get("/users/me/referrals")).body["items"]
    assert (entry["username"], entry["email"]) == ("bob", "bob@example.com")
    assert (await bob.delete("/users/me", {"password": PASSWORD})).status == 204
    me = await alice.me()
    assert (me["referral_count"], me["code"]["uses"]) == (1, 1)
    listed = (await alice.get("/users/me/referrals")).body
    assert (listed["items"], listed["total"]) == ([{**entry, "username": None, "email": None, "status": "ended"}], 1)
    assert (await carol.me())["referrer"] == {"id": bob.id, "username": None, "name": None}


# The referrer after registration


async def test_a_code_can_be_used_after_registration(person: MakePerson) -> None:
    alice, bob = await person("alice"), await person("bob")
    code = await alice.make_code(max_uses=1)
    answer = await bob.post("/users/me/referrer", {"code": code.lower()})
    assert answer.status == 201
    assert answer.body == {"referrer": {"id": alice.id, "username": "alice", "name": None}, "code": code}
    assert (await bob.me())["referrer"] == answer.body["referrer"]
    me = await alice.me()
    assert (me["referral_count"], me["code"]["uses"], me["code"]["status"]) == (1, 1, "exhausted")
    assert await names_of(alice, "/users/me/referrals") == ["bob"]


async def test_every_refusal_of_a_code_leaves_everything_as_it_was(
    person: MakePerson, database_url: str, eventually: Eventually
) -> None:
    alice, bob, carol = await person("alice"), await person("bob"), await person("carol")
    mine = await bob.make_code()
    active = await alice.make_code()
    codes = {}
    for reason in ("expired", "revoked", "exhausted"):
        codes[reason] = await (await person()).make_code(max_uses=1)
    await expire(database_url, codes["expired"])
    await sql(database_url, f"UPDATE codes SET revoked_at = {now()} WHERE code = '{codes['revoked']}'")
    await person("first", referral_code=codes["exhausted"])
    assert (await carol.post("/users/me/referrer", {"code": active})).status == 201
    await eventually(lambda: is_at_rest(database_url))
    before = await everything(database_url)
    for reason, code in {"unknown": "NOBODYS", **codes}.items():
        answer = await bob.post("/users/me/referrer", {"code": code})
        assert (answer.status, answer.problem, answer.body["reason"]) == (422, "referral-code-invalid", reason)
    for who, code, status, problem in (
        (bob, mine, 422, "own-code"),
        (bob, mine.lower(), 422, "own-code"),
        (carol, active, 409, "referrer-already-set"),
        (carol, mine, 409, "referrer-already-set"),
        (alice, await carol_s_code(carol, database_url, before, eventually), 409, "referral-cycle"),
    ):
        answer = await who.post("/users/me/referrer", {"code": code})
        assert (answer.status, answer.problem) == (status, problem)
    assert await everything(database_url) == before


async def carol_s_code(carol: Person, database_url: str, before: dict[str, Any], eventually: Eventually) -> str:
    """A code of carol's, which `before` is told of."""
    code = await carol.make_code()
    await eventually(lambda: is_at_rest(database_url))
    now_there = await everything(database_url)
    before.update({table: now_there[table] for table in ("users", "codes", "audit_events", *FEED)})
    return code


@pytest.mark.parametrize("length", [2, 3, 4, 5, 6])
async def test_a_circle_of_referrers_is_never_closed(person: MakePerson, length: int) -> None:
    people = [await person() for _ in range(length)]
    codes = [await one.make_code() for one in people]
    for newcomer, code in zip(people[1:], codes, strict=False):
        assert (await newcomer.post("/users/me/referrer", {"code": code})).status == 201
    answer = await people[0].post("/users/me/referrer", {"code": codes[-1]})
    assert (answer.status, answer.problem) == (409, "referral-cycle")
    last = await people[-1].me()
    assert ((await people[0].me())["referrer"], last["referral_count"], last["code"]["uses"]) == (None, 0, 0)
    # Whoever stands outside may still come by anybody inside.
    outside = await person("outside")
    assert (await people[0].post("/users/me/referrer", {"code": await outside.make_code()})).status == 201
    assert (await outside.post("/users/me/referrer", {"code": codes[-1]})).problem == "referral-cycle"


# Referrals, page by page


async def pages_of(person: Person, path: str, limit: int) -> list[Answer]:
    """All pages, each found by the Link header of the one before."""
    found = [await person.get(path, params={"limit": str(limit)})]
    while "Link" in found[-1].headers:
        link = found[-1].headers["Link"]
        assert link.endswith('>; rel="next"')
        url = link.removeprefix("<").partition(">")[0]
        cursor = found[-1].body["next_cursor"]
        found.append(await person.get(url))
        assert (await person.get(path, params={"limit": str(limit), "cursor": cursor})).body == found[-1].body
    assert found[-1].body["next_cursor"] is None
    return found


async def test_referrals_are_paged_newest_first_and_newcomers_shift_nothing(person: MakePerson, database_url: str) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    for number in range(7):
        await person(f"friend{number}", referral_code=code)
    expected = [f"friend{number}" for number in reversed(range(7))]
    # Ties are told apart by the id, which is later for who came later.
    for change in ("joined_at = joined_at", f"joined_at = {now()}"):
        await sql(database_url, f"UPDATE referrals SET {change}")
        for path in ("/users/me/referrals", f"/users/{alice.id}/referrals", f"/users/{alice.id.upper()}/referrals"):
            pages = await pages_of(alice, path, 3)
            assert [len(page.body["items"]) for page in pages] == [3, 3, 1]
            assert {page.body["total"] for page in pages} == {7}
            assert [item["username"] for page in pages for item in page.body["items"]] == expected
    first = await alice.get("/users/me/referrals", params={"limit": "3"})
    await person("newcomer", referral_code=code)
    rest = {"limit": "100", "cursor": first.body["next_cursor"]}
    assert await names_of(alice, "/users/me/referrals", params=rest) == expected[3:]
    assert await names_of(alice, "/users/me/referrals", params={"limit": "1"}) == ["newcomer"]
    exactly = await alice.get("/users/me/referrals", params={"limit": "8"})
    assert (len(exactly.body["items"]), exactly.body["next_cursor"]) == (8, None)
    assert "Link" not in exactly.headers


async def test_all_of_many_referrals_are_found_once_and_fifty_a_page_unless_said_otherwise(
    person: MakePerson, database_url: str
) -> None:
    alice, bob = await person("alice"), await person("bob")
    code = await alice.make_code()
    rows = [(str(uuid.UUID(int=number)), f"many{number}", 1_700_000_000_000 + number // 3) for number in range(1_000)]
    users = ", ".join(
        f"('{key}', '{name}@x.y', '{name}@x.y', '{name}', '{name}', 'x', 'user', {time})" for key, name, time in rows
    )
    referrals = ", ".join(f"('{key}', '{alice.id}', '{code}', {time})" for key, name, time in rows)
    columns = "id, email, email_key, username, username_key, password_hash, role, created_at"
    await sql(database_url, f"INSERT INTO users ({columns}) VALUES {users}")
    await sql(database_url, f"INSERT INTO referrals (user_id, referrer_id, code, joined_at) VALUES {referrals}")
    await sql(database_url, f"UPDATE users SET referral_count = 1000 WHERE id = '{alice.id}'")
    found = [await alice.get("/users/me/referrals")]
    while "Link" in found[-1].headers:
        found.append(await alice.get(found[-1].headers["Link"].removeprefix("<").partition(">")[0]))
    assert {len(page.body["items"]) for page in found} == {50}
    items = [item["username"] for page in found for item in page.body["items"]]
    assert items == [name for _, name, _ in reversed(rows)]
    assert (await bob.get("/users/me/referrals")).body == {"items": [], "total": 0, "next_cursor": None}


async def test_addresses_are_for_the_referrer_and_for_admins_only(person: MakePerson, database_url: str) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    bob, admin = await person("bob", referral_code=code), await person("admin")
    await make_admin(database_url, admin.id)
    public = {"id", "username", "name", "joined_at", "code"}
    own = public | {"email", "source", "status", "review", "converted_at"}
    for who, path, members in (
        (alice, "/users/me/referrals", own),
        (alice, f"/users/{alice.id}/referrals", own),
        (admin, f"/users/{alice.id}/referrals", own | {"external_id"}),
        (bob, f"/users/{alice.id}/referrals", public),
    ):
        (item,) = (await who.get(path)).body["items"]
        assert item.keys() == members
        assert (item["id"], item["username"], item["code"]) == (bob.id, "bob", code)
        assert item.get("email", bob.email) == bob.email
    assert (await admin.me())["role"] == "admin"


async def test_there_are_no_referrals_of_nobody(client: Client, person: MakePerson) -> None:
    alice = await person("alice")
    for unknown in (str(uuid.uuid4()), "nobody", "0", "%00", "%FF", alice.id + "0", "' OR 1=1 --"):
        answer = await alice.get(f"/users/{unknown}/referrals")
        assert (answer.status, answer.problem) == (404, "not-found")
    assert (await Person(client, "").get(f"/users/{alice.id}/referrals")).problem == "unauthorized"


async def test_an_address_that_is_not_to_be_shown_is_not_even_read(client: Client, person: MakePerson) -> None:
    alice = await person("alice")
    bob = await person("bob", referral_code=await alice.make_code())
    assert client.app
    async with client.app[DATABASE].reader() as conn:
        for with_email in (False, True):
            [row] = map(tuple, await list_referrals(conn, alice.id, (2**62, "~"), 10, with_email=with_email))
            assert bob.id in row
            assert (bob.email in row) is with_email
