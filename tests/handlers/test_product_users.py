"""Users as the product names them: made and changed by PUT, found, suspended, erased, exported, and let into their
browser."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from referral.clock import DAY, now, rfc_3339
from tests.conftest import Client, Command, Mailed, MakeClient
from tests.support.people import UNKNOWN, Person, Product, read_mails, works
from tests.support.rows import count, everything, make_admin, outbox_is_empty, sql

MakePerson = Callable[..., Awaitable[Person]]


@pytest.fixture
async def operator(client: Client) -> Product:
    """A back end whose key may administer."""
    return await Product.with_key(client, "admin")


# Made and changed


async def test_put_makes_a_user_once_and_changes_what_is_given(product: Product) -> None:
    made = await product.put(
        "/users/ext:42",
        {
            "email": "Bob@EXAMPLE.com",
            "email_verified": True,
            "name": "Bob Archer",
            "username": "bob",
            "metadata": {"plan": "pro", "seats": 3, "trial": False},
            "created_at": "2024-05-06T07:08:09+02:00",
        },
    )
    user = made.body
    assert made.status == 201
    assert made.headers["Location"] == f"/api/v1/users/{user['id']}"
    assert user == {
        "id": user["id"],
        "external_id": "42",
        "email": "Bob@example.com",
        "email_verified": True,
        "username": "bob",
        "name": "Bob Archer",
        "role": "user",
        "status": "active",
        "created_at": "2024-05-06T05:08:09Z",
        "referrer": None,
        "referral_count": 0,
        "code": None,
        "url": None,
        "metadata": {"plan": "pro", "seats": 3, "trial": False},
        "profile": None,
    }
    again = await product.put("/users/ext:42", {})
    assert (again.status, again.body) == (200, user)
    assert "Location" not in again.headers
    changed = await product.put(f"/users/{user['id']}", {"name": None, "metadata": {"plan": "free"}, "external_id": "43"})
    assert changed.body == {**user, "name": None, "metadata": {"plan": "free"}, "external_id": "43"}
    assert (await product.get("/users/ext:42")).problem == "not-found"
    assert (await product.get("/users/ext:43")).body == changed.body
    cleared = await product.put(
        "/users/ext:43", {"email": None, "username": None, "metadata": None, "created_at": None, "email_verified": None}
    )
    assert (cleared.body["email"], cleared.body["email_verified"], cleared.body["metadata"]) == (None, False, None)
    assert cleared.body["created_at"][:4] == rfc_3339(now())[:4]


async def test_of_32_puts_of_a_new_user_at_once_one_makes_it(product: Product, database_url: str) -> None:
    answers = await asyncio.gather(
        *(product.put("/users/ext:42", {"email": "bob@example.com", "name": f"Bob {n}"}) for n in range(32))
    )
    assert Counter(answer.status for answer in answers) == {201: 1, 200: 31}
    assert len({answer.body["id"] for answer in answers}) == 1
    assert await count(database_url, "users") == 1


async def test_what_another_user_has_is_refused_with_their_id(product: Product, person: MakePerson) -> None:
    alice = await person("alice")
    await product.user("43", username="bob")
    for body, problem, holder in (
        ({"email": "ALICE@example.com"}, "email-taken", alice.id),
        ({"username": "Alice"}, "username-taken", alice.id),
    ):
        answer = await product.put("/users/ext:42", body)
        assert (answer.status, answer.problem, answer.body["user_id"]) == (409, problem, holder)
    answer = await product.put(f"/users/{alice.id}", {"external_id": "43"})
    assert (answer.problem, answer.body["user_id"]) == ("external-id-taken", (await product.get("/users/ext:43")).body["id"])
    assert (await product.get("/users/ext:42")).problem == "not-found"


async def test_of_32_users_who_want_one_address_at_once_one_gets_it(product: Product) -> None:
    answers = await asyncio.gather(*(product.put(f"/users/ext:{n}", {"email": "bob@example.com"}) for n in range(32)))
    assert Counter(answer.status for answer in answers) == {201: 1, 409: 31}
    assert (await product.get("/users")).body["total"] == 1


async def test_an_account_of_our_own_gets_an_external_id(product: Product, verified_person: MakePerson) -> None:
    alice = await verified_person("alice")
    user = (await product.put(f"/users/{alice.id}", {"external_id": "A 1"})).body
    assert (user["external_id"], user["email"]) == ("A 1", "alice@example.com")
    assert (await product.get("/users/ext:A%201")).body == user
    assert (await alice.me())["external_id"] == "A 1"
    assert (await alice.sign_in()).status == 200


@pytest.mark.parametrize("said", [{"external_id": "42"}, {"email_verified": True}])
async def test_whoever_made_an_account_with_an_address_that_is_not_theirs_is_put_out_when_the_product_names_it(
    make_client: MakeClient, said: dict[str, Any], database_url: str
) -> None:
    client = await make_client(auth_unverified="limited")
    product = await Product.with_key(client)
    mallory = await Person.register(client, "mallory")
    stranger = await Person.register(client, "bob", referral_code=await mallory.make_code())
    code = await stranger.make_code()
    user = (await product.put(f"/users/{stranger.id}", said)).body
    assert (user["code"], user["referrer"]) == (None, None)
    assert not await works(stranger)
    assert (await stranger.sign_in()).oauth_error == "invalid_grant"
    assert (await product.get(f"/codes/{code}")).problem == "not-found"
    assert (await mallory.me())["referral_count"] == 0
    events = [row[0] for row in await sql(database_url, "SELECT event FROM audit_events ORDER BY at, id")]
    assert "stranger-put-out" in events
    # Once: what the user does from here on stays.
    assert (await product.put(f"/users/{user['id']}", {**said, "code": {"ttl_days": 3}})).body["code"] is not None
    assert (await product.put(f"/users/{user['id']}", {"external_id": "43"})).body["code"] is not None


async def test_whoever_reads_a_wrong_address_takes_it_from_the_products_user_and_nothing_else(
    product: Product, person: MakePerson, mailed: Mailed
) -> None:
    bob = await person("bob")
    token = await mailed(bob.email)
    user = (await product.put(f"/users/{bob.id}", {"external_id": "42", "code": {"ttl_days": 3}})).body
    for _ in range(2):
        answer = await Person(product.client, "").post("/auth/email/disown", {"token": token})
    left = (await product.get("/users/ext:42")).body
    assert (left["id"], left["email"], left["code"]) == (user["id"], None, user["code"])
    assert answer.status in (204, 422)


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_nobody_who_is_made_by_a_key_gets_mail_and_a_new_address_of_theirs_is_told_to_nobody(
    product: Product, mail_folder: Path, database_url: str
) -> None:
    await product.user("42", email="bob@example.com")
    await product.user("42", email="robert@example.com", email_verified=True)
    await product.report("e1", user={"external_id": "43", "email": "carol@example.com"})
    await product.user("42", code={"ttl_days": 3})
    assert await outbox_is_empty(database_url)
    assert read_mails(mail_folder) == []


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_code_is_made_with_the_user_and_left_alone_if_there_is_one(product: Product) -> None:
    user = await product.user("42", code={"code": "bobs-code", "ttl_days": 3, "max_uses": 7})
    assert (user["code"]["code"], user["code"]["max_uses"]) == ("BOBS-CODE", 7)
    assert (await product.get("/codes/bobs-code")).body["referrer"]["id"] == user["id"]
    assert (await product.user("42", code={"code": "another", "ttl_days": 3}))["code"] == user["code"]
    for pointer, code in (("/code/ttl_days", {"ttl_days": 0}), ("/code/expires_at", {}), ("/code/code", {"code": "a"})):
        assert pointer in (await product.put("/users/ext:43", {"code": {"ttl_days": 1, **code} if code else {}})).pointers
    past = await product.put("/users/ext:43", {"code": {"expires_at": "2020-01-01T00:00:00Z"}})
    assert past.pointers == ["/code/expires_at"]
    assert (await product.put("/users/ext:43", {"code": {"code": "BOBS-CODE", "ttl_days": 3}})).problem == "code-taken"
    assert (await product.get("/users/ext:43")).problem == "not-found"


async def test_a_change_of_address_by_a_key_ends_links_and_is_found_by_the_new_address(
    client: Client, product: Product, person: MakePerson, mailed: Mailed
) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    token = await mailed(alice.email)
    assert (await alice.post("/auth/password/reset", {"email": alice.email})).status == 202
    reset = await mailed(alice.email, "reset")
    assert (await product.get("/codes/by-email?email=alice@example.com")).body["code"] == code
    assert (await product.put(f"/users/{alice.id}", {"email": "a@example.com"})).body["email_verified"] is False
    assert (await product.get("/codes/by-email?email=alice@example.com")).problem == "not-found"
    assert (await product.get("/codes/by-email?email=a@example.com")).body["code"] == code
    assert (await alice.post("/auth/email/verify", {"token": token})).problem == "token-invalid"
    new = {"token": reset, "new_password": "another long password"}
    assert (await alice.post("/auth/password/reset/confirm", new)).problem == "token-invalid"
    assert (await alice.sign_in()).status == 400
    assert (await alice.sign_in(name="a@example.com")).status == 200


async def test_somebody_without_a_password_gets_one_by_a_mailed_link_alone(
    product: Product, mailed: Mailed, mail_folder: Path
) -> None:
    await product.user("42", email="bob@example.com")
    bob = Person(product.client, "bob@example.com")
    assert (await bob.sign_in()).oauth_error == "invalid_grant"
    # Nobody has said that the address is the user's: whoever reads its mails may be somebody else.
    assert (await bob.post("/auth/password/reset", {"email": bob.email})).status == 202
    await asyncio.sleep(0.3)
    assert read_mails(mail_folder) == []
    await product.user("42", email_verified=True)
    assert (await bob.post("/auth/password/reset", {"email": bob.email})).status == 202
    body = {"token": await mailed(bob.email, "reset"), "new_password": bob.password}
    assert (await bob.post("/auth/password/reset/confirm", body)).status == 204
    assert (await bob.sign_in()).status == 200
    assert (await bob.me())["external_id"] == "42"


# Names of users


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_any_printable_external_id_is_a_name_in_paths(product: Product) -> None:
    names = [
        "a/b",
        "100%",
        "%2F",
        "%252F",
        "..",
        ".",
        "../../etc",
        "a?b#c",
        "a b",
        "{user}",
        "ext:42",
        "me",
        UNKNOWN,
        "Ж漢🙂",
        "e\u0301",
        "\u00e9",
        "a" * 128,
        "CASE",
        "case",
        "+",
        "a+b",
        "&=;,",
        "\\",
        "'; DROP TABLE users; --",
    ]
    for name in names:
        assert (await product.user(name))["external_id"] == name
    assert (await product.get("/users?limit=100")).body["total"] == len(set(names))
    for name in names:
        assert (await product.user(name))["external_id"] == name
    assert (await product.get("/users?limit=100")).body["total"] == len(set(names))


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_what_no_user_can_be_called_names_nobody(product: Product, operator: Product) -> None:
    for name in (
        "ext:",
        f"ext:{'a' * 129}",
        "ext:a%00b",
        "ext:a%0Ab",
        "ext:%E2%80%8Bb",
        "none",
        UNKNOWN,
        "EXT:42",
        "ext%3a",
    ):
        assert (await product.put(f"/users/{name}", {})).problem == "not-found", name
        for method, path, body in (
            ("GET", "", None),
            ("GET", "/codes", None),
            ("GET", "/referrals", None),
            ("GET", "/export", None),
            ("POST", "/codes", {"ttl_days": 1}),
            ("POST", "/token", {}),
            ("POST", "/suspend", {"reason": "x"}),
            ("POST", "/unsuspend", None),
            ("DELETE", "", None),
        ):
            assert (await operator.call(method, f"/users/{name}{path}", body)).problem == "not-found", (name, path)


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_bad_descriptions_are_refused_by_member(product: Product, database_url: str) -> None:
    for pointer, body in (
        ("/email", {"email": "no address"}),
        ("/email", {"email": 7}),
        ("/email_verified", {"email_verified": True}),
        ("/email_verified", {"email_verified": "true"}),
        ("/name", {"name": ""}),
        ("/name", {"name": "x" * 201}),
        ("/name", {"name": "two\nlines"}),
        ("/username", {"username": "a b"}),
        ("/metadata", {"metadata": [1]}),
        ("/metadata/a", {"metadata": {"a": {}}}),
        ("/created_at", {"created_at": rfc_3339(now() + DAY)}),
        ("/created_at", {"created_at": 7}),
        ("/external_id", {"external_id": "43"}),
        ("/external_id", {"external_id": None}),
        ("/role", {"role": "admin"}),
        ("/id", {"id": UNKNOWN}),
    ):
        assert (await product.put("/users/ext:42", body)).pointers == [pointer], body
    assert await count(database_url, "users") == 0


# Found


async def test_users_are_listed_by_time_status_and_name(product: Product, operator: Product) -> None:
    for number in range(7):
        await product.user(f"u{number}", email=f"bob{number}@example.com", name="Bob Archer" if number % 2 else "Ann")
    await product.user("bobby", username="bobby")
    for name in ("u1", "u3"):
        assert (await operator.post(f"/users/ext:{name}/suspend", {"reason": "a test"})).body["status"] == "suspended"

    async def found(query: str, limit: int = 2) -> list[str]:
        names, path = [], f"/users?limit={limit}&{query}"
        while path:
            answer = await product.get(path)
            assert answer.status == 200, answer.body
            names += [user["external_id"] for user in answer.body["items"]]
            path = answer.headers.get("Link", "").partition("<")[2].partition(">")[0]
        assert answer.body["total"] == len(names)
        return names

    assert await found("") == ["bobby", "u6", "u5", "u4", "u3", "u2", "u1", "u0"]
    assert await found("status=suspended") == ["u3", "u1"]
    assert await found("status=active") == ["bobby", "u6", "u5", "u4", "u2", "u0"]
    # By address first, then by username, external id and name; each user once.
    for limit in (1, 2, 3, 5, 100):
        assert await found("q=BOB", limit) == [*(f"u{number}" for number in range(7)), "bobby"]
        assert await found("q=u", limit) == [f"u{number}" for number in range(7)]
        assert await found("q=bob+a", limit) == ["u1", "u3", "u5"]
        assert await found("q=ann", limit) == sorted(["u0", "u2", "u4", "u6"])
        # Suspended ones are few, and come newest first.
        assert await found("q=bob&status=suspended", limit) == ["u3", "u1"]
        assert await found("q=bob+a&status=suspended", limit) == ["u3", "u1"]
        assert await found("q=bob1&status=suspended", limit) == ["u1"]
        assert await found("q=u4&status=suspended", limit) == []
        assert await found("q=bob&status=active", limit) == ["u0", "u2", "u4", "u5", "u6", "bobby"]
    assert await found("q=bob3@example.com") == ["u3"]
    assert await found("q=ob") == []
    assert await found("q=U") == []
    assert await found("q=%25") == []
    assert await found("email=BOB3@example.com") == ["u3"]
    assert await found("email=bob3@example.com&status=active") == []
    assert await found("external_id=bobby") == ["bobby"]
    assert await found("external_id=BOBBY") == []


async def test_names_that_grow_when_they_are_folded_do_not_stop_the_list(product: Product) -> None:
    for external_id in ("1", "2", "3"):
        await product.user(external_id, name="\ufdfa" * 200)
    found, path = [], f"/users?limit=1&q={quote(chr(0xFDFA) * 3)}"
    while path:
        answer = await product.get(path)
        assert answer.status == 200, answer.body
        found += [user["external_id"] for user in answer.body["items"]]
        path = answer.headers.get("Link", "").partition("<")[2].partition(">")[0]
    assert sorted(found) == ["1", "2", "3"]


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_an_address_of_an_international_domain_is_found_by_the_whole(product: Product) -> None:
    await product.user("42", email="anna@müller.de")
    for text in ("anna@", "anna@müller.de", "ANNA@MÜLLER.DE", "anna@xn--"):
        assert (await product.get(f"/users?q={quote(text)}")).body["total"] == 1, text


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_the_cursor_of_another_list_is_refused(product: Product) -> None:
    for external_id in ("1", "2"):
        await product.user(external_id, name="Bob")
    by_time = (await product.get("/users?limit=1")).body["next_cursor"]
    by_name = (await product.get("/users?limit=1&q=bob")).body["next_cursor"]
    for query in (f"q=bob&cursor={by_time}", f"cursor={by_name}", f"status=suspended&q=bob&cursor={by_name}"):
        assert (await product.get(f"/users?{query}")).pointers == ["/cursor"], query


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_bad_questions_for_users_are_refused(product: Product) -> None:
    for pointer, query in (
        ("/q", "q="),
        ("/q", f"q={'x' * 255}"),
        ("/q", "q=%00"),
        ("/q", "q=a&email=a@example.com"),
        ("/status", "status=erased"),
        ("/email", "email=x"),
        ("/external_id", f"external_id={'x' * 129}"),
        ("/cursor", "cursor=nothing"),
        ("/limit", "limit=101"),
        ("/name", "name=x"),
    ):
        assert (await product.get(f"/users?{query}")).pointers == [pointer], query


# Suspended


async def test_a_suspended_user_can_nothing_and_afterwards_everything_but_by_former_tokens(
    client: Client, operator: Product, person: MakePerson
) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    token = (await operator.post(f"/users/{alice.id}/token", {})).body
    browser = Person(client, alice.email, tokens=token)
    assert (await browser.me())["id"] == alice.id
    for _ in range(2):
        answer = await operator.post(f"/users/{alice.id}/suspend", {"reason": "made up accounts"})
        assert (answer.status, answer.body["status"]) == (200, "suspended")
    assert not await works(alice)
    assert not await works(browser)
    assert (await alice.sign_in()).oauth_error == "invalid_grant"
    assert (await alice.get(f"/codes/{code}")).problem == "not-found"
    taken = {"email": "b@example.com", "password": "a long enough password", "referral_code": code}
    refused = await Person(client, "").post("/auth/register", taken)
    assert (refused.problem, refused.body["reason"]) == ("referral-code-invalid", "suspended")
    assert (await operator.post(f"/users/{alice.id}/token", {})).problem == "user-suspended"
    assert (await operator.get(f"/users/{alice.id}")).body["code"]["code"] == code
    for _ in range(2):
        answer = await operator.post(f"/users/{alice.id}/unsuspend")
        assert (answer.status, answer.body["status"]) == (200, "active")
    assert (await Person(client, "").get(f"/codes/{code}")).status == 200
    assert not await works(alice)
    assert not await works(browser)
    assert (await alice.sign_in()).status == 200


async def test_all_sessions_of_a_user_end_at_once_and_they_can_sign_in_again(
    operator: Product, product: Product, person: MakePerson, client: Client, database_url: str
) -> None:
    alice, boss = await person("alice"), await person("boss")
    await make_admin(database_url, boss.id)
    other = Person(client, alice.email)
    await other.sign_in()
    browser = Person(client, alice.email, tokens=(await operator.post(f"/users/{alice.id}/token", {})).body)
    path = f"/users/{alice.id}/sessions"
    assert (await product.delete(path)).problem == "forbidden"
    assert [await works(one) for one in (alice, other, browser)] == [True] * 3
    found = await asyncio.gather(*(operator.delete(path) for _ in range(32)))
    assert {answer.status for answer in found} == {204}
    assert [await works(one) for one in (alice, other, browser)] == [False] * 3
    [(user_id, detail)] = await sql(database_url, "SELECT user_id, detail FROM audit_events WHERE event = 'sessions-ended'")
    assert (str(user_id), json.loads(detail)["sessions"]) == (alice.id, 3)
    assert (await alice.sign_in()).status == 200
    assert await works(boss)
    assert (await boss.delete("/users/me/sessions")).body["detail"].startswith("This is your own account")
    assert (await operator.delete("/users/ext:nobody/sessions")).problem == "not-found"


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_users_without_an_address_are_suspended_by_commands_too(
    operator: Product, command: Command, client: Client
) -> None:
    user = await operator.user("4 2")
    for name in ("ext:4 2", user["id"]):
        await command("users", "suspend", name, "--reason", "a test")
        assert (await operator.get("/users/ext:4%202")).body["status"] == "suspended"
        await command("users", "unsuspend", name)
        assert (await operator.get("/users/ext:4%202")).body["status"] == "active"


# In the browser


async def test_a_users_token_lives_as_long_as_asked_and_cannot_be_refreshed(product: Product, client: Client) -> None:
    await product.user("42", name="Bob")
    answer = await product.post("/users/ext:42/token", {"ttl_seconds": 60})
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.body.keys() == {"access_token", "token_type", "expires_in"}
    assert (answer.body["token_type"], answer.body["expires_in"]) == ("Bearer", 60)
    bob = Person(client, "", tokens=answer.body)
    assert (await bob.me())["name"] == "Bob"
    assert (await bob.get("/users/me/referrals")).body["total"] == 0
    assert (await bob.post("/codes", {"ttl_days": 3})).status == 201
    assert (await bob.get("/users")).problem == "forbidden"
    for body in (None, dict[str, Any]()):
        assert (await product.post("/users/ext:42/token", body)).body["expires_in"] == 3600
    for wrong in (59, 86_401, "60", 60.5, None):
        assert (await product.post("/users/ext:42/token", {"ttl_seconds": wrong})).pointers == ["/ttl_seconds"]


async def test_a_users_token_ends_with_their_erasure(product: Product, client: Client) -> None:
    await product.user("42")
    bob = Person(client, "", tokens=(await product.post("/users/ext:42/token")).body)
    assert await works(bob)
    assert (await product.delete("/users/ext:42")).status == 204
    assert not await works(bob)
    assert (await product.post("/users/ext:42/token")).problem == "not-found"


# Erased and exported


async def test_somebody_without_a_password_erases_themself_without_one(product: Product, client: Client) -> None:
    await product.user("42")
    bob = Person(client, "", tokens=(await product.post("/users/ext:42/token")).body)
    assert (await bob.delete("/users/me")).status == 204
    assert (await product.get("/users/ext:42")).problem == "not-found"
    alice = await Person.register(client, "alice")
    for body in (None, dict[str, Any]()):
        assert (await alice.delete("/users/me", body)).pointers == ["/password"]
    assert (await alice.delete("/users/me", {"password": "wrong"})).problem == "wrong-password"
    assert (await alice.delete("/users/me", {"password": alice.password})).status == 204


SECRETS_OF_BOB = ("bob@example.com", "Bob Archer", "bobby", "ext-of-bob", "plan-of-bob", "192.0.2.77", "browser-of-bob")


async def test_nothing_personal_is_left_of_an_erased_user_and_the_history_stays(
    product: Product, person: MakePerson, database_url: str
) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    user = {"external_id": "ext-of-bob", "email": "bob@example.com", "name": "Bob Archer", "username": "bobby"}
    report: dict[str, Any] = {
        "user": {**user, "metadata": {"plan": "plan-of-bob"}},
        "metadata": {"plan": "plan-of-bob"},
        "code": code,
    }
    context = {"ip": "192.0.2.77", "user_agent": "browser-of-bob"}
    answer = await product.report("e1", context=context, **report)
    assert answer.status == 201
    await product.user("ext-of-bob", code={"ttl_days": 3})
    assert await count(database_url, "event_contexts", "event_id = 'e1'") == 2
    assert (await product.delete("/users/ext:ext-of-bob")).status == 204
    left = repr(await everything(database_url))
    assert not [secret for secret in SECRETS_OF_BOB if secret in left]
    (referral,) = (await alice.get("/users/me/referrals")).body["items"]
    assert (referral["id"], referral["username"], referral["email"]) == (answer.body["user_id"], None, None)
    assert (await alice.me())["referral_count"] == 1
    assert (await product.delete("/users/ext:ext-of-bob")).problem == "not-found"
    assert (await product.delete(f"/users/{answer.body['user_id']}")).problem == "not-found"
    # The address and the id are free again.
    assert (await product.user("ext-of-bob", email="bob@example.com"))["id"] != answer.body["user_id"]


async def test_an_export_has_everything_that_is_kept(
    product: Product, person: MakePerson, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small pages, so that lists have several.
    monkeypatch.setattr("referral.rules.user_export.ROWS", 2)
    alice = await person("alice")
    codes = [await alice.make_code(replace=True) for _ in range(3)]
    for number in range(5):
        await product.report(f"e{number}", external_id=f"u{number}", code=codes[-1])
        context = {"ip": "192.0.2.1", "device": "d"}
        user = {"id": alice.id}
        assert (await product.report(f"a{number}", user=user, context=context, metadata={"n": number})).status == 201
    for reader in (alice, product):
        name = "me" if reader is alice else alice.id
        answer = await reader.get(f"/users/{name}/export")
        assert answer.status == 200
        assert answer.headers["Content-Disposition"] == 'attachment; filename="user.json"'
        document = answer.body
        assert document["user"] == await alice.me()
        assert [code["code"] for code in document["codes"]] == codes[::-1]
        assert len(document["referrals"]) == 5
        assert sorted(event["id"] for event in document["events"]) == [*(f"a{n}" for n in range(5)), f"signup:{alice.id}"]
        # And the agent of the sign-up.
        assert len(document["event_contexts"]) == 10 + 1
        assert len(document["sessions"]) == 1
        assert {"registered", "code-made"} <= {event["event"] for event in document["security_events"]}
        assert "u1" not in json.dumps(document["referrals"])


# Who sees what


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_others_see_of_a_user_what_the_settings_say(make_client: MakeClient) -> None:
    for setting, status in (("signed-in", 200), ("own", 403)):
        client = await make_client(privacy_referrals=setting)
        alice = await Person.register(client, f"alice{status}")
        bob = await Person.register(client, f"bob{status}", referral_code=await alice.make_code())
        answer = await bob.get(f"/users/{alice.id}/referrals")
        assert answer.status == status
        if status == 200:
            assert "email" not in answer.body["items"][0]
        assert (await alice.get(f"/users/{alice.id}/referrals")).body["items"][0]["email"] == bob.email
        product = await Product.with_key(client, "read")
        assert (await product.get(f"/users/{alice.id}/referrals")).body["items"][0]["email"] == bob.email


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_pages_of_users_stay_true_while_users_change(product: Product, database_url: str) -> None:
    for number in range(5):
        await product.user(f"u{number}")
    first = (await product.get("/users?limit=2")).body
    await product.delete(f"/users/{first['items'][1]['id']}")
    await product.user("new", created_at="2001-01-01T00:00:00Z")
    rest: list[Any] = (await product.get(f"/users?limit=10&cursor={first['next_cursor']}")).body["items"]
    assert [user["external_id"] for user in rest] == ["u2", "u1", "u0"]
    assert await sql(database_url, "SELECT count(*) FROM users WHERE erased_at IS NULL") == [(5,)]
