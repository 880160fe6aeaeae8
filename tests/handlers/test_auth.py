"""Accounts and sessions over HTTP: the token endpoint, rotation, revocation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import bcrypt
import jwt
import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata

from referral.auth.tokens import SIGNER
from referral.clock import SECOND, now
from tests.conftest import Client, Eventually, Mailed, MakeClient
from tests.support.people import API, PASSWORD, Answer, Person, read_mails, refused, works
from tests.support.rows import SUMS, TABLES, everything, outbox_is_empty, sql

MakePerson = Callable[..., Awaitable[Person]]

TOKENS = {"access_token", "token_type", "expires_in", "refresh_token"}
FORM = "application/x-www-form-urlencoded"


async def ask(client: Client, path: str, members: dict[str, Any], kind: str = "form", **options: Any) -> Answer:
    """Post to an OAuth endpoint, as a form or as JSON, without an access token."""
    body = {"data": members} if kind == "form" else {"json": members}
    return await Person(client, "").call("POST", path, **body, **options)


# The token endpoint


@pytest.mark.parametrize("kind", ["form", "json"])
async def test_a_username_or_an_e_mail_in_any_case_and_the_password_sign_in(
    client: Client, person: MakePerson, kind: str
) -> None:
    alice = await person("alice")
    for name in ("alice", "ALICE", "alice@example.com", "Alice@Example.com"):
        answer = await ask(
            client, "/auth/token", {"grant_type": "password", "username": name, "password": PASSWORD}, kind=kind
        )
        assert answer.status == 200, answer.body
        assert answer.body.keys() == TOKENS
        assert answer.headers["Cache-Control"] == "no-store"
        assert (answer.body["token_type"], answer.body["expires_in"]) == ("Bearer", 900)
        assert await works(alice, answer.body)
        refresh = {"grant_type": "refresh_token", "refresh_token": answer.body["refresh_token"]}
        answer = await ask(client, "/auth/token", refresh, kind=kind)
        assert (answer.status, answer.body.keys(), answer.headers["Cache-Control"]) == (200, TOKENS, "no-store")
        assert await works(alice, answer.body)


PASSWORD_GRANT = {"grant_type": "password", "username": "alice", "password": PASSWORD}
REFUSALS: list[tuple[str, dict[str, Any]]] = [
    ("invalid_request", {}),
    ("invalid_request", {"grant_type": ""}),
    ("unsupported_grant_type", {"grant_type": "client_credentials"}),
    ("unsupported_grant_type", {"grant_type": "Password", "username": "alice", "password": PASSWORD}),
    ("invalid_request", {"grant_type": "password", "username": "alice"}),
    ("invalid_request", {"grant_type": "password", "password": PASSWORD}),
    ("invalid_request", {"grant_type": "password", "username": "", "password": PASSWORD}),
    ("invalid_grant", {**PASSWORD_GRANT, "password": PASSWORD + " "}),
    ("invalid_grant", {**PASSWORD_GRANT, "password": PASSWORD.upper()}),
    ("invalid_grant", {**PASSWORD_GRANT, "password": "x" * 2_000}),
    ("invalid_grant", {**PASSWORD_GRANT, "username": "nobody"}),
    ("invalid_grant", {**PASSWORD_GRANT, "username": "nobody@example.com"}),
    ("invalid_grant", {**PASSWORD_GRANT, "username": "a name\0of nobody"}),
    ("invalid_grant", {**PASSWORD_GRANT, "username": "alice@"}),
    ("invalid_request", {"grant_type": "refresh_token"}),
    ("invalid_grant", {"grant_type": "refresh_token", "refresh_token": "unknown"}),
    ("invalid_grant", {"grant_type": "refresh_token", "refresh_token": "ünknown\0"}),
]


@pytest.mark.parametrize("kind", ["form", "json"])
async def test_the_token_endpoint_refuses_in_the_words_of_rfc_6749(client: Client, person: MakePerson, kind: str) -> None:
    await person("alice")
    for error, members in REFUSALS:
        assert refused(await ask(client, "/auth/token", members, kind=kind)) == error, members


async def test_a_sign_in_makes_a_hash_of_other_rounds_anew(make_client: MakeClient, database_url: str) -> None:
    before = await make_client(auth_bcrypt_rounds="5")
    alice = await Person.register(before, "alice")
    there = Person(await make_client(), alice.email, tokens=alice.tokens)
    assert (await there.sign_in("wrong")).status == 400
    assert [(await sql(database_url, "SELECT substr(password_hash, 1, 7) FROM users"))[0][0]] == ["$2b$05$"]
    assert (await there.sign_in()).status == 200
    assert [(await sql(database_url, "SELECT substr(password_hash, 1, 7) FROM users"))[0][0]] == ["$2b$04$"]
    assert await works(there)
    assert (await there.sign_in()).status == 200


async def test_the_token_endpoint_refuses_what_is_neither_a_form_nor_a_json_object(
    client: Client, person: MakePerson
) -> None:
    await person("alice")
    form = f"grant_type=password&username=alice&password={PASSWORD}"
    bodies: list[tuple[bytes | str, str]] = [
        (form, "text/plain"),
        (form, "multipart/form-data; boundary=x"),
        (f"{form}&username=alice", FORM),
        (f"{form}&grant_type=password", FORM),
        (b"grant_type=password&username=\xff", FORM),
        ("grant_type=password&username=%FF&password=x", FORM),
        ("grant_type=password&username=%ED%A0%80&password=x", FORM),
        ("&".join(f"member{number}=x" for number in range(1_000)), FORM),
        ("[]", "application/json"),
        ('"grant_type"', "application/json"),
        ('{"grant_type": "password"', "application/json"),
        ('{"ü\\"\\\\": 1}', "application/json"),
        ('{"grant_type": 1}', "application/json"),
        ('{"grant_type": ["password"]}', "application/json"),
        ('{"grant_type": "password", "username": null, "password": "x"}', "application/json"),
        ('{"grant_type": "password", "username": "\\ud800", "password": "x"}', "application/json"),
        (b"\xff\xfe", "application/json"),
        ("[" * 30_000, "application/json"),
    ]
    for body, kind in bodies:
        answer = await Person(client, "").call("POST", "/auth/token", data=body, headers={"Content-Type": kind})
        assert refused(answer) == "invalid_request", (body[:60], kind)


async def test_unknown_members_of_a_token_request_are_ignored(client: Client, person: MakePerson) -> None:
    await person("alice")
    answer = await ask(client, "/auth/token", {**PASSWORD_GRANT, "scope": "", "client_id": "swagger-ui"})
    assert answer.status == 200


async def test_signing_in_costs_the_same_work_whether_or_not_there_is_such_an_account(
    client: Client, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    await person("alice")
    costs: list[bytes] = []
    really = bcrypt.checkpw

    def checkpw(password: bytes, hashed: bytes) -> bool:
        costs.append(hashed[:7])
        return really(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    for name in ("alice", "nobody", "alice@example.com", "nobody@example.com", "no name\0at all", "@"):
        answer = await ask(client, "/auth/token", {**PASSWORD_GRANT, "username": name, "password": "wrong"})
        assert refused(answer) == "invalid_grant"
        assert costs == [b"$2b$04$"], name
        costs.clear()


# Access tokens


async def test_without_a_live_access_token_the_answer_says_how_to_authenticate(client: Client, person: MakePerson) -> None:
    alice = await person("alice")
    for header in ("", "Basic YWxpY2U6eA==", "Token x"):
        answer = await alice.get("/users/me", headers={"Authorization": header})
        assert (answer.status, answer.problem) == (401, "unauthorized")
        # RFC 6750 section 3.1: no error code for a request that did not try.
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert "error" not in answer.headers["WWW-Authenticate"]
    assert client.app
    signer = client.app[SIGNER]
    own = alice.tokens["access_token"]
    session, claims = signer.verify(own).session_id, jwt.decode(own, options={"verify_signature": False})
    kept = {"typ": "at+jwt", "kid": jwt.get_unverified_header(own)["kid"]}
    secret = "another secret, of more than 32 characters"
    for token in (
        "",
        "x",
        "a.b.c",
        "ü",
        own[:-4] + "AAAA",
        alice.tokens["refresh_token"],
        signer.sign(alice.id, session, "user", now() - (signer.ttl + 1) * SECOND),
        signer.sign(alice.id, "no session of this service", "user", now()),
        jwt.encode(claims, secret, "HS256", headers=kept),
        jwt.encode(claims, "", "none", headers=kept),
        jwt.encode(claims, secret, "HS256", headers={**kept, "kid": "another"}),
    ):
        assert not await works(alice, {"access_token": token}), token
    assert await works(alice, {"access_token": signer.sign(alice.id, session, "user", now())})
    assert (await alice.get("/users/me", headers={"Authorization": f"bearer {own}"})).status == 200


# Rotation


async def test_each_refresh_gives_another_pair_in_the_same_session(client: Client, person: MakePerson) -> None:
    alice = await person("alice")
    assert client.app
    verify = client.app[SIGNER].verify
    seen = {alice.tokens["refresh_token"], alice.tokens["access_token"]}
    tokens = alice.tokens
    for _ in range(3):
        answer = await alice.refresh(tokens["refresh_token"])
        assert answer.status == 200
        assert verify(answer.body["access_token"]).session_id == verify(alice.tokens["access_token"]).session_id
        tokens = answer.body
        seen |= {tokens["refresh_token"], tokens["access_token"]}
    assert len(seen) == 8
    assert await works(alice)
    assert await works(alice, tokens)


async def test_a_used_refresh_token_gets_another_successor_within_ten_seconds(person: MakePerson, database_url: str) -> None:
    alice = await person("alice")
    first = await alice.refresh()
    await sql(database_url, "UPDATE refresh_tokens SET used_at = used_at - 9000 WHERE used_at IS NOT NULL")
    second = await alice.refresh()
    assert (first.status, second.status) == (200, 200)
    assert first.body["refresh_token"] != second.body["refresh_token"]
    for tokens in (first.body, second.body):
        assert await works(alice, tokens)
        assert (await alice.refresh(tokens["refresh_token"])).status == 200


async def test_a_used_refresh_token_ends_the_session_after_ten_seconds(person: MakePerson, database_url: str) -> None:
    alice = await person("alice")
    stolen = alice.tokens
    successor = (await alice.refresh()).body
    assert (await alice.sign_in()).status == 200
    await sql(database_url, "UPDATE refresh_tokens SET used_at = used_at - 10001 WHERE used_at IS NOT NULL")
    assert refused(await alice.refresh(stolen["refresh_token"])) == "invalid_grant"
    assert refused(await alice.refresh(successor["refresh_token"])) == "invalid_grant"
    assert not await works(alice, stolen)
    assert not await works(alice, successor)
    assert await works(alice), "the other session goes on"


async def test_a_session_that_was_not_refreshed_in_time_is_over_and_a_refresh_puts_its_end_off(
    person: MakePerson, database_url: str
) -> None:
    alice = await person("alice")
    await sql(database_url, "UPDATE sessions SET expires_at = expires_at - 1000000")
    before = await sql(database_url, "SELECT expires_at FROM sessions")
    tokens = (await alice.refresh()).body
    assert await sql(database_url, "SELECT expires_at FROM sessions") > before
    await sql(database_url, f"UPDATE sessions SET expires_at = {now()}")
    assert refused(await alice.refresh(tokens["refresh_token"])) == "invalid_grant"
    assert not await works(alice, tokens)


async def test_tokens_are_kept_as_hashes_only(person: MakePerson, database_url: str) -> None:
    alice = await person("alice")
    kept = repr(await everything(database_url))
    assert PASSWORD not in kept
    assert alice.tokens["refresh_token"] not in kept
    assert alice.tokens["access_token"] not in kept


# Revocation


async def test_revoking_any_token_of_a_session_ends_all_of_it(client: Client, person: MakePerson) -> None:
    alice = await person("alice")
    assert client.app
    signer = client.app[SIGNER]
    for kind, which in (
        ("form", "refresh_token"),
        ("json", "used refresh_token"),
        ("json", "access_token"),
        ("form", "expired access_token"),
    ):
        ended = alice.tokens
        assert (await alice.sign_in()).status == 200
        successor = (await alice.refresh(ended["refresh_token"])).body
        session = signer.verify(ended["access_token"]).session_id
        token = {
            "refresh_token": successor["refresh_token"],
            "used refresh_token": ended["refresh_token"],
            "access_token": ended["access_token"],
            "expired access_token": signer.sign(alice.id, session, "user", now() - (signer.ttl + 1) * SECOND),
        }[which]
        for _ in range(2):
            answer = await ask(client, "/auth/revoke", {"token": token, "token_type_hint": "access_token"}, kind=kind)
            assert (answer.status, answer.body) == (200, b""), which
        for tokens in (ended, successor):
            assert not await works(alice, tokens), which
            assert refused(await alice.refresh(tokens["refresh_token"])) == "invalid_grant"
        assert await works(alice), "the other session goes on"


async def test_revoking_what_is_no_token_is_answered_alike_and_a_missing_one_is_an_error(
    client: Client, person: MakePerson
) -> None:
    alice = await person("alice")
    for token in ("unknown", "a.b.c", "ü\0", alice.tokens["access_token"][:-3] + "AAA"):
        assert (await ask(client, "/auth/revoke", {"token": token})).status == 200
    for members in ({}, {"token": ""}, {"token_type_hint": "access_token"}):
        assert refused(await ask(client, "/auth/revoke", members)) == "invalid_request"
    assert await works(alice)


# Verification of the address


async def test_the_mailed_link_verifies_the_address_once(
    person: MakePerson, mailed: Mailed, database_url: str, eventually: Eventually, mail_folder: Path
) -> None:
    alice = await person("alice")
    first = await mailed(alice.email)
    assert (await alice.post("/auth/email/verify/resend")).status == 202
    second = await mailed(alice.email)
    assert not (await alice.me())["email_verified"]
    assert (await alice.post("/auth/email/verify", {"token": first})).status == 204
    assert (await alice.me())["email_verified"]
    assert (await alice.post("/auth/email/verify", {"token": first})).status == 204, "a second press says that it is done"
    assert (await alice.post("/auth/email/verify", {"token": second})).status == 204, "it says what is true"
    await eventually(lambda: outbox_is_empty(database_url))
    assert (await alice.post("/auth/email/verify/resend")).status == 202
    assert await outbox_is_empty(database_url)
    assert len(read_mails(mail_folder)) == 2


async def test_an_old_verification_link_is_refused(person: MakePerson, mailed: Mailed, database_url: str) -> None:
    alice = await person("alice")
    token = await mailed(alice.email)
    await sql(database_url, f"UPDATE one_time_tokens SET expires_at = {now()}")
    assert (await alice.post("/auth/email/verify", {"token": token})).problem == "token-invalid"
    assert not (await alice.me())["email_verified"]


# Discovery


async def test_the_metadata_of_rfc_8414_leads_to_endpoints_that_answer(make_client: MakeClient) -> None:
    client = await make_client(server_public_url="https://referrals.example.com")
    answer = await Person(client, "").get("/.well-known/oauth-authorization-server")
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (200, "application/json")
    metadata = answer.body
    assert metadata["issuer"] == "https://referrals.example.com"
    assert metadata["token_endpoint"] == f"https://referrals.example.com{API}/auth/token"
    assert metadata["revocation_endpoint"] == f"https://referrals.example.com{API}/auth/revoke"
    exchange = "urn:ietf:params:oauth:grant-type:token-exchange"
    assert metadata["grant_types_supported"] == ["password", "refresh_token", exchange]
    AuthorizationServerMetadata(metadata).validate()
    assert metadata["response_types_supported"] == ["none"]
    assert metadata["token_endpoint_auth_methods_supported"] == ["none"]
    for name in ("token_endpoint", "revocation_endpoint"):
        path = metadata[name].removeprefix("https://referrals.example.com")
        assert refused(await Person(client, "").post(path, data={})) == "invalid_request"
    access_token = (await Person.register(client, "alice")).tokens["access_token"]
    assert jwt.decode(access_token, options={"verify_signature": False})["iss"] == metadata["issuer"]


async def test_the_tables_that_these_tests_watch_are_all_there_are(database_url: str) -> None:
    listed = (
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        if database_url.startswith("postgresql")
        else "SELECT name FROM sqlite_schema WHERE type = 'table'"
    )
    own = {name for (name,) in await sql(database_url, listed) if "yoyo" not in name and not name.startswith("sqlite_")}
    assert own - {"cache_epoch", "referrers_lock", *SUMS} == set(TABLES)
