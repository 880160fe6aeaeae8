"""The product's own tokens: who is known by them, who is made or joined, and when they end."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
from aiohttp import web

from referral.auth.tokens import AUDIENCE as OUR_AUDIENCE
from tests.conftest import Client, Mailed, MakeClient
from tests.support.identity_provider import AUDIENCE, LEFT_OUT, IdentityProvider, SigningKey, running_provider
from tests.support.oidc_server import OIDCServer
from tests.support.people import SECRETS, Answer, Person, Product, works
from tests.support.rows import count, make_admin, sql

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT, ID_TOKEN = (f"urn:ietf:params:oauth:token-type:{kind}" for kind in ("jwt", "id_token"))
MakeService = Callable[..., Awaitable[Client]]


@pytest.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    async with running_provider() as running:
        yield running


@pytest.fixture
def service(make_client: MakeClient, provider: IdentityProvider) -> MakeService:
    """`await service()`: a service that takes the provider's tokens; its subjects are external ids unless said otherwise."""

    async def make(*, external: bool = True, **settings: str) -> Client:
        issuers = [{"issuer": provider.issuer, "audience": AUDIENCE, "subject_is_external_id": external}]
        return await make_client(identity_issuers=json.dumps(issuers), **settings)

    return make


def bearer(client: Client, token: str) -> Person:
    return Person(client, "", tokens={"access_token": token})


async def exchanged(client: Client, token: str, kind: str = JWT, **more: str) -> Answer:
    form = {"grant_type": GRANT, "subject_token": token, "subject_token_type": kind, **more}
    return await Person(client, "").call("POST", "/auth/token", data=form)


# Subjects that are external ids


async def test_a_user_is_known_by_the_products_own_token_and_made_by_the_first(
    service: MakeService, provider: IdentityProvider, database_url: str
) -> None:
    client = await service()
    token = provider.token(sub="user 42", email="bob@example.com", email_verified=True, name="Bob Archer")
    bob = bearer(client, token)
    me = await bob.me()
    assert (me["external_id"], me["email"], me["email_verified"], me["name"]) == (
        "user 42",
        "bob@example.com",
        True,
        "Bob Archer",
    )
    product = await Product.with_key(client)
    assert (await product.get("/users/ext:user%2042")).body == me
    # Everything that is a user's own.
    assert (await bob.post("/codes", {"ttl_days": 3})).status == 201
    assert (await bob.get("/codes/current")).status == 200
    assert (await bob.get("/users/me/referrals")).body["total"] == 0
    assert (await bob.get("/users/ext:user%2042")).status == 200
    assert (await bob.patch("/users/me", {"username": "bob"})).status == 200
    assert (await bob.get("/auth/sessions")).body["total"] == 0
    assert (await bob.get("/users/me/export")).status == 200
    assert (await bob.get("/users")).problem == "forbidden"
    assert (await bob.delete("/users/me")).status == 204
    # The token names nobody any more, and so somebody new.
    assert (await bob.me())["id"] != me["id"]
    assert provider.fetches == 1
    assert await count(database_url, "users") == 2


async def test_of_32_first_calls_at_once_one_makes_the_user(
    service: MakeService, provider: IdentityProvider, database_url: str
) -> None:
    for external in (True, False):
        client = await service(external=external)
        token = provider.token(sub=f"new {external}", email=f"{external}@example.com", email_verified=True)
        answers = await asyncio.gather(*(bearer(client, token).get("/users/me") for _ in range(32)))
        assert Counter(answer.status for answer in answers) == {200: 32}
        assert len({answer.body["id"] for answer in answers}) == 1
    assert await count(database_url, "users") == 2
    assert provider.fetches == 2


async def test_two_identities_with_one_address_at_once_are_one_user(
    make_client: MakeClient, provider: IdentityProvider, database_url: str
) -> None:
    async with running_provider() as other:
        issuers = [
            {"issuer": one.issuer, "audience": AUDIENCE, "subject_is_external_id": False} for one in (provider, other)
        ]
        client = await make_client(identity_issuers=json.dumps(issuers))
        tokens = [
            one.token(sub=f"{number}", email="bob@example.com", email_verified=True)
            for number in range(8)
            for one in (provider, other)
        ]
        answers = await asyncio.gather(*(bearer(client, token).get("/users/me") for token in tokens))
        assert Counter(answer.status for answer in answers) == {200: 16}
        assert len({answer.body["id"] for answer in answers}) == 1
    assert await count(database_url, "identities") == 16


async def test_an_address_that_somebody_has_is_left_to_them(service: MakeService, provider: IdentityProvider) -> None:
    client = await service()
    alice = await Person.register(client, "alice")
    token = provider.token(sub="42", email=alice.email, email_verified=True)
    me = await bearer(client, token).me()
    assert me["id"] != alice.id
    assert me["email"] is None
    assert (await alice.me())["email"] == alice.email


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_without_enrolment_only_who_is_known_comes_in(service: MakeService, provider: IdentityProvider) -> None:
    client = await service(identity_enrol="false")
    bob = bearer(client, provider.token(sub="42"))
    assert not await works(bob)
    await (await Product.with_key(client)).user("42", name="Bob")
    assert (await bob.me())["name"] == "Bob"


async def test_a_products_token_ends_with_suspension_and_former_ones_stay_ended(
    service: MakeService, provider: IdentityProvider
) -> None:
    for external in (True, False):
        client = await service(external=external)
        admin = await Product.with_key(client, "admin")
        old = bearer(client, provider.token(sub=f"s{external}", iat=int(time.time()) - 30))
        unsaid = bearer(client, provider.token(sub=f"s{external}", iat=LEFT_OUT))
        me = await old.me()
        assert await works(unsaid)
        assert (await admin.post(f"/users/{me['id']}/suspend", {"reason": "a test"})).status == 200
        fresh = bearer(client, provider.token(sub=f"s{external}"))
        assert not await works(old)
        assert not await works(fresh)
        assert (await exchanged(client, fresh.tokens["access_token"])).oauth_error == "invalid_request"
        assert (await admin.post(f"/users/{me['id']}/unsuspend")).status == 200
        assert not await works(old)
        # Nobody knows of one that does not say when it was issued whether it is a later one.
        assert not await works(unsaid)
        again = bearer(client, provider.token(sub=f"s{external}", iat=int(time.time()) + 1))
        assert (await again.me())["id"] == me["id"]


async def test_a_token_names_the_user_who_has_the_external_id_now(service: MakeService, provider: IdentityProvider) -> None:
    client = await service()
    product = await Product.with_key(client)
    bob = bearer(client, provider.token(sub="42"))
    first = (await bob.me())["id"]
    assert (await product.put(f"/users/{first}", {"external_id": "43"})).status == 200
    second = (await bob.me())["id"]
    assert second != first
    assert (await bearer(client, provider.token(sub="43")).me())["id"] == first
    # A body that came slowly: the user was suspended meanwhile.
    admin = await Product.with_key(client, "admin")

    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"ttl_days":'
        await asyncio.sleep(0.05)
        assert (await admin.post(f"/users/{second}/suspend", {"reason": "a test"})).status == 200
        yield b" 3}"

    answer = await bob.call("POST", "/codes", data=slowly(), headers={"Content-Type": "application/json"})
    assert answer.problem == "unauthorized"


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_products_token_makes_nobody_an_admin(
    service: MakeService, provider: IdentityProvider, database_url: str
) -> None:
    client = await service()
    bob = bearer(client, provider.token(sub="42", role="admin", scope="admin"))
    product = await Product.with_key(client)
    assert await works(bob)
    made = (await product.post("/users/ext:42/token")).body["access_token"]
    signed_in = (await exchanged(client, bob.tokens["access_token"])).body
    await make_admin(database_url, (await bob.me())["id"])
    refreshed = (await Person(client, "", tokens=signed_in).refresh()).body["access_token"]
    # Nor does a session that a key or the provider opened, before the user was an admin or after.
    later = (await exchanged(client, bob.tokens["access_token"])).body["access_token"]
    for caller in (bob, *(bearer(client, token) for token in (made, refreshed, later))):
        assert (await caller.me())["id"] == (await bob.me())["id"]
        assert (await caller.get("/keys")).problem == "forbidden"
        assert (await caller.get("/users")).problem == "forbidden"


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_nobody_is_joined_to_a_user_of_the_product_by_an_address_that_nobody_has_verified(
    service: MakeService, provider: IdentityProvider
) -> None:
    client = await service(external=False)
    product = await Product.with_key(client)
    named = await product.user("42", email="alice@example.com")
    alice = await bearer(client, provider.token(sub="s", email="alice@example.com", email_verified=True)).me()
    assert alice["id"] != named["id"]
    assert (alice["email"], alice["email_verified"]) == ("alice@example.com", True)
    # The product had the wrong address of its user, who stays without one.
    assert (await product.get("/users/ext:42")).body["email"] is None
    verified = await product.user("43", email="bob@example.com", email_verified=True)
    bob = await bearer(client, provider.token(sub="t", email="bob@example.com", email_verified=True)).me()
    assert bob["id"] == verified["id"]


# Refused


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_tokens_that_are_not_for_us_are_refused_and_make_nobody(
    service: MakeService, provider: IdentityProvider, database_url: str
) -> None:
    client = await service()
    assert await works(bearer(client, provider.token()))
    stranger = SigningKey("first", number=1)
    public = json.dumps(provider.keys[0].jwk)
    wrong = [
        provider.token(sub="x" * 129),
        provider.token(sub="x" * 10_000),
        provider.token(sub=""),
        provider.token(sub=7),
        provider.token(aud=OUR_AUDIENCE + "x"),
        provider.token(exp=int(time.time()) - 120),
        provider.token(iss="https://accounts.example.com"),
        stranger.sign(provider.claims()),
        unsigned(provider.claims()),
        by_secret(provider.claims(), public),
        "a.b.c",
        "x" * 9_000,
    ]
    fetches = provider.fetches
    for token in wrong:
        SECRETS.add(token)
        answer = await bearer(client, token).get("/users/me")
        # A header of 8 KiB and more is no header.
        assert answer.status in (400, 401), answer.body
        assert (await exchanged(client, token)).status in (400, 413), token[:40]
    assert provider.fetches == fetches
    assert await count(database_url, "users") == 1


def unsigned(claims: dict[str, Any]) -> str:
    """A token whose algorithm is `none`."""
    return jwt.encode(claims, "", "none", headers={"kid": "first"})


def by_secret(claims: dict[str, Any], secret: str) -> str:
    """A token that is signed by HS256 with what everybody can read. PyJWT would not do it."""
    parts = ({"alg": "HS256", "kid": "first", "typ": "JWT"}, claims)
    text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    digest = hmac.digest(secret.encode(), text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_flood_of_unknown_keys_costs_one_fetch(service: MakeService, provider: IdentityProvider) -> None:
    client = await service()
    assert await works(bearer(client, provider.token()))
    strangers = [SigningKey(f"unknown {number}").sign(provider.claims()) for number in range(50)]
    answers = await asyncio.gather(*(bearer(client, token).get("/users/me") for token in strangers))
    assert {answer.status for answer in answers} == {401}
    assert provider.fetches == 1


async def test_while_the_issuer_is_out_the_service_says_so_and_goes_on_for_others(
    service: MakeService, provider: IdentityProvider
) -> None:
    client = await service()
    alice = await Person.register(client, "alice")
    provider.keys, kept = [], provider.keys
    provider.answering.clear()
    token = kept[0].sign(provider.claims())
    waiting = asyncio.create_task(bearer(client, token).get("/users/me"))
    assert (await alice.me())["id"] == alice.id
    # It answers with what is no set of keys.
    provider.jwks = provider.metadata = _nonsense
    provider.answering.set()
    answer = await waiting
    assert answer.problem == "issuer-unavailable"
    assert answer.headers["Retry-After"] == "30"
    exchange = await exchanged(client, token)
    assert (exchange.status, exchange.body["error"]) == (503, "temporarily_unavailable")


async def _nonsense(request: web.Request) -> web.Response:
    return web.Response(text="out of order")


# Identities: the table of who is joined to whom


class Case(NamedTuple):
    """An account with the address, and a token with an address: whether they are one user, and whether the account's
    password goes on."""

    account_verified: bool
    claim: Any
    is_joined: bool
    password_stays: bool


CASES = {
    "both have verified it": Case(True, True, True, True),
    "Apple writes a text": Case(True, "true", True, True),
    "the account has not": Case(False, True, True, False),
    "the account has not, and Apple has": Case(False, "true", True, False),
    "the issuer has not": Case(True, False, False, True),
    "neither has": Case(False, False, False, True),
    "the issuer does not say": Case(True, None, False, True),
    "another text": Case(True, "false", False, True),
    "a number": Case(True, 1, False, True),
}


@pytest.mark.parametrize("limited", ["limited", "full"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("engine", ["sqlite"])
async def test_accounts_are_joined_by_verified_addresses_alone(
    service: MakeService, provider: IdentityProvider, mailed: Mailed, name: str, limited: str
) -> None:
    case = CASES[name]
    client = await service(external=False, auth_unverified=limited)
    alice = await Person.register(client, "alice")
    if case.account_verified:
        assert (await alice.post("/auth/email/verify", {"token": await mailed(alice.email)})).status == 204
    code = await alice.make_code()
    claims = {"email": "Alice@EXAMPLE.com", **({} if case.claim is None else {"email_verified": case.claim})}
    me = await bearer(client, provider.token(sub="at the issuer", **claims)).me()
    assert (me["id"] == alice.id) == case.is_joined
    assert me["external_id"] is None
    assert (await alice.sign_in()).status == (200 if case.password_stays else 400)
    if case.is_joined:
        assert me["email_verified"] is True
        assert (me["code"]["code"] if me["code"] else None) == (code if case.password_stays else None)
    else:
        assert me["email"] is None
    looked_up = await Person(client, "").get(f"/codes/{code}")
    assert looked_up.status == (200 if case.password_stays else 404)


async def test_what_a_stranger_left_in_the_account_ends_when_its_owner_joins(
    service: MakeService, provider: IdentityProvider, mailed: Mailed
) -> None:
    client = await service(external=False, auth_unverified="limited")
    mallory = await Person.register(client, "mallory")
    theirs = await mallory.make_code()
    # Mallory registers with Bob's address, by a code of their own, and waits.
    squatter = await Person.register(client, "squatter", email="bob@example.com", referral_code=theirs)
    code = await squatter.make_code()
    link = await mailed("bob@example.com")
    change = {"email": "mallory2@example.com", "current_password": squatter.password}
    assert (await squatter.post("/auth/email/change", change)).status == 202
    taking = await mailed("mallory2@example.com")
    token = provider.token(sub="bob", email="bob@example.com", email_verified=True)
    me = await bearer(client, token).me()
    assert me["id"] == squatter.id
    assert (me["referrer"], me["code"]) == (None, None)
    assert not await works(squatter)
    assert (await squatter.sign_in()).status == 400
    assert (await squatter.refresh()).status == 400
    assert (await squatter.get(f"/codes/{code}")).problem == "not-found"
    assert (await squatter.post("/auth/email/verify", {"token": taking})).problem == "token-invalid"
    assert (await squatter.post("/auth/email/disown", {"token": link})).problem == "token-invalid"
    assert (await mallory.me())["referral_count"] == 0
    assert (await bearer(client, token).me())["email"] == "bob@example.com"


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_identities_are_kept_apart_by_issuer(
    make_client: MakeClient, provider: IdentityProvider, database_url: str
) -> None:
    async with running_provider() as other:
        issuers = [
            {"issuer": one.issuer, "audience": AUDIENCE, "subject_is_external_id": False} for one in (provider, other)
        ]
        client = await make_client(identity_issuers=json.dumps(issuers))
        first = await bearer(client, provider.token(sub="same")).me()
        second = await bearer(client, other.token(sub="same")).me()
        assert first["id"] != second["id"]
        # Both join the one who has the address, who has two identities then.
        one = await bearer(client, provider.token(sub="a", email="a@example.com", email_verified=True)).me()
        assert (await bearer(client, other.token(sub="b", email="a@example.com", email_verified=True)).me())["id"] == one[
            "id"
        ]
        product = await Product.with_key(client)
        exported = (await product.get(f"/users/{one['id']}/export")).body
        assert [(known["issuer"], known["subject"]) for known in exported["identities"]] == [
            (provider.issuer, "a"),
            (other.issuer, "b"),
        ]
        # They go with the user, and whoever comes again by one comes by nobody.
        assert (await product.delete(f"/users/{one['id']}")).status == 204
        assert await count(database_url, "identities", f"user_id = '{one['id']}'") == 0
        code = await bearer(client, provider.token(sub="same")).make_code()
        again = await exchanged(client, other.token(sub="b"), referral_code=code)
        assert again.body["attribution"] == {"status": "refused", "reason": "known-address"}


# Token exchange


async def test_a_token_is_exchanged_for_a_session_of_ours(
    service: MakeService, provider: IdentityProvider, database_url: str
) -> None:
    client = await service(external=False)
    alice = await Person.register(client, "alice")
    code = await alice.make_code()
    token = provider.token(sub="bob", email="bob@example.com", email_verified=True)
    answer = await exchanged(client, token, ID_TOKEN, referral_code=code)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.body.keys() == {
        "access_token",
        "token_type",
        "expires_in",
        "refresh_token",
        "issued_token_type",
        "attribution",
    }
    assert answer.body["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert answer.body["attribution"] == {"status": "attributed", "reason": None}
    bob = Person(client, "", tokens=answer.body)
    me = await bob.me()
    assert (me["referrer"]["id"], me["email_verified"]) == (alice.id, True)
    assert (await bob.get("/auth/sessions")).body["total"] == 1
    refreshed = await bob.refresh()
    assert refreshed.status == 200
    assert refreshed.body.keys() == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert (await bob.post("/auth/revoke", {"token": refreshed.body["refresh_token"]})).status == 200
    assert not await works(bob)
    for given, attribution in (
        (code, {"status": "kept", "reason": None}),
        ("NO-SUCH-CODE", {"status": "kept", "reason": "already-referred"}),
        ("", {"status": "kept", "reason": None}),
    ):
        again = await exchanged(client, token, **({"referral_code": given} if given else {}))
        assert again.body["attribution"] == attribution
    events = await sql(database_url, f"SELECT type FROM events WHERE user_id = '{me['id']}' ORDER BY type")
    assert events == [("email-verified",), ("signup",)]


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_bad_code_is_no_error_of_an_exchange(service: MakeService, provider: IdentityProvider) -> None:
    client = await service()
    alice = await Person.register(client, "alice")
    used_up = await alice.make_code(max_uses=1)
    for number, (code, reason) in enumerate(
        ((used_up, None), (used_up, "exhausted"), ("NOTHERE1", "unknown"), ("!", "unknown"), ("x" * 5_000, "unknown"))
    ):
        answer = await exchanged(client, provider.token(sub=f"u{number}"), referral_code=code)
        assert answer.status == 200
        status = "attributed" if reason is None else "refused"
        assert answer.body["attribution"] == {"status": status, "reason": reason}
        assert await works(Person(client, "", tokens=answer.body))


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_bad_requests_for_an_exchange_are_refused_in_the_words_of_rfc_8693(
    service: MakeService, provider: IdentityProvider
) -> None:
    client = await service()
    token, anybody = provider.token(), Person(client, "")
    for form in (
        {"grant_type": GRANT},
        {"grant_type": GRANT, "subject_token": token},
        {"grant_type": GRANT, "subject_token_type": JWT},
        {"grant_type": GRANT, "subject_token": token, "subject_token_type": "urn:ietf:params:oauth:token-type:access_token"},
        {"grant_type": GRANT, "subject_token": f"{token}x", "subject_token_type": JWT},
        {"grant_type": GRANT, "subject_token": "ж", "subject_token_type": JWT},
    ):
        answer = await anybody.call("POST", "/auth/token", data=form)
        assert (answer.status, answer.oauth_error) == (400, "invalid_request"), form
    metadata = (await anybody.get("/.well-known/oauth-authorization-server")).body
    assert GRANT in metadata["grant_types_supported"]


async def test_a_service_without_issuers_takes_nobodys_tokens(client: Client, provider: IdentityProvider) -> None:
    assert not await works(bearer(client, provider.token()))
    assert (await exchanged(client, provider.token())).oauth_error == "invalid_request"
    assert provider.seen == []


# A real identity provider


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_real_identity_provider_signs_users_in(make_client: MakeClient, tmp_path: Path) -> None:
    audience = "https://referrals.example.com"
    with OIDCServer(tmp_path) as server:
        issuers = [{"issuer": server.issuer, "audience": audience}]
        client = await make_client(identity_issuers=json.dumps(issuers))
        token = server.token(audience)
        me = await bearer(client, token).me()
        assert me["external_id"] == "user-1"
        tokens = (await exchanged(client, token)).body
        assert (await Person(client, "", tokens=tokens).me())["id"] == me["id"]
        assert not await works(bearer(client, server.token("https://others.example.com")))
