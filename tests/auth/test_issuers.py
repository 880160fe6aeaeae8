"""Tokens of the product's identity provider: which are taken and what they say, and which are refused.

The provider is `tests/support/identity_provider.py`, over real HTTP.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jwt
import orjson
import pytest
from aiohttp import ClientSession
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from referral.auth import issuers
from referral.auth.issuer_keys import PAUSE
from referral.auth.issuers import LONGEST_TOKEN, Claims, Issuers
from referral.auth.tokens import LEEWAY
from referral.config.issuers import Issuer
from tests.auth.conftest import Clock, refuses
from tests.support.identity_provider import AUDIENCE, LEFT_OUT, IdentityProvider, SigningKey, running_provider


@pytest.fixture
def engine() -> str:
    """A token is looked at before any database is."""
    return "sqlite"


def encoded(part: Any) -> str:
    return base64.urlsafe_b64encode(part if isinstance(part, bytes) else orjson.dumps(part)).rstrip(b"=").decode()


def unsigned(header: Any, claims: Any, signature: bytes = b"") -> str:
    return f"{encoded(header)}.{encoded(claims)}.{encoded(signature)}"


# What is taken, and what it says


async def test_a_token_says_who_somebody_is_and_is_known_from_then_on(
    verifier: Issuers, provider: IdentityProvider, clock: Clock
) -> None:
    now = int(time.time())
    token = provider.token(
        sub="user-1", email="alice@example.com", email_verified=True, name="Alice", iat=now, exp=now + 300
    )
    assert verifier.claims_issuer(token)
    assert verifier.known(token) is None
    claims = await verifier.verify(token)
    assert claims == Claims(provider.issuer, "user-1", True, "alice@example.com", True, "Alice", now, now + 300)
    assert verifier.known(token) is claims
    assert await verifier.verify(token) is claims
    assert provider.seen == ["/.well-known/openid-configuration", "/keys"]


def google(url: str) -> dict[str, Any]:
    return {
        "iss": url,
        "azp": "1234987819200.apps.googleusercontent.com",
        "aud": "1234987819200.apps.googleusercontent.com",
        "sub": "10769150350006150715113082367",
        "at_hash": "HK6E_P6Dh8Y93mRNtsDB1Q",
        "hd": "example.com",
        "email": "jsmith@example.com",
        "email_verified": True,
        "nonce": "0394852-3190485-2490358",
        "name": "Jan Smith",
        "picture": "https://example.com/jan.png",
    }


def apple(url: str) -> dict[str, Any]:
    return {
        "iss": url,
        "aud": "com.example.shop",
        "sub": "001999.dd0e7ab4a8b34d5f9ce0a1bd8a8b5e7f.0042",
        "c_hash": "VbC9kBOQTV5lVzhKJfMdYw",
        "email": "x7k2@privaterelay.appleid.com",
        "email_verified": "true",
        "is_private_email": "true",
        "auth_time": 1_700_000_000,
        "nonce_supported": True,
    }


def keycloak(url: str) -> dict[str, Any]:
    return {
        "iss": f"{url}/realms/shop",
        "aud": ["referral", "account"],
        "sub": "f4b5c5b8-6f4b-4a3e-8d2c-0d9c2f4b7a11",
        "typ": "Bearer",
        "azp": "shop-web",
        "sid": "b6f0b0a3-7a53-4a0b-9f53-4e9d1a1a1d11",
        "acr": "1",
        "jti": "onrtac:1d7e0a0c-6a5e-4a33-9e0b-5a6a4e7b5f10",
        "allowed-origins": ["https://shop.example.com"],
        "realm_access": {"roles": ["offline_access", "default-roles-shop"]},
        "resource_access": {"account": {"roles": ["view-profile"]}},
        "scope": "openid email profile",
        "email_verified": False,
        "name": "Alice Archer",
        "preferred_username": "alice",
        "email": "alice@example.com",
    }


def supabase(url: str) -> dict[str, Any]:
    return {
        "iss": f"{url}/auth/v1",
        "aud": "authenticated",
        "sub": "0c3a5c6e-62b6-4d3c-a0a4-4f5e0f1e2d3c",
        "email": "alice@example.com",
        "phone": "",
        "app_metadata": {"provider": "email", "providers": ["email"]},
        # The user edits these, so that they prove nothing.
        "user_metadata": {"email_verified": True, "name": "Alice"},
        "role": "authenticated",
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": 1_700_000_000}],
        "session_id": "9d2f3c1e-0000-4000-8000-000000000000",
        "is_anonymous": False,
    }


def auth0(url: str) -> dict[str, Any]:
    return {
        "iss": f"{url}/",
        "aud": ["https://referrals.example.com", f"{url}/userinfo"],
        "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
        "azp": "my_client_id",
        "scope": "openid profile email",
        "permissions": ["read:codes"],
    }


# Whose token it is, the audience that is ours, the algorithm, the type in its header, and its address, whether that is
# verified, and its name.
SHAPES: dict[str, tuple[Callable[[str], dict[str, Any]], str, str, str | None, tuple[str | None, bool, str | None]]] = {
    "Google": (
        *(google, "1234987819200.apps.googleusercontent.com", "RS256", "JWT"),
        ("jsmith@example.com", True, "Jan Smith"),
    ),
    "Apple": (apple, "com.example.shop", "RS256", None, ("x7k2@privaterelay.appleid.com", True, None)),
    "Keycloak": (keycloak, "referral", "RS256", "JWT", ("alice@example.com", False, "Alice Archer")),
    "Keycloak PS256": (keycloak, "account", "PS256", "JWT", ("alice@example.com", False, "Alice Archer")),
    "Keycloak EdDSA": (keycloak, "referral", "EdDSA", "JWT", ("alice@example.com", False, "Alice Archer")),
    "Supabase": (supabase, "authenticated", "ES256", "JWT", ("alice@example.com", False, None)),
    "Supabase RS256": (supabase, "authenticated", "RS256", "JWT", ("alice@example.com", False, None)),
    "Auth0": (auth0, "https://referrals.example.com", "RS256", "at+jwt", (None, False, None)),
    "Auth0 RS384": (auth0, "https://referrals.example.com", "RS384", "JWT", (None, False, None)),
    "RS512": (auth0, "https://referrals.example.com", "RS512", "application/at+JWT", (None, False, None)),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_tokens_of_well_known_providers_are_taken(
    shape: str, provider: IdentityProvider, session: ClientSession
) -> None:
    make, audience, algorithm, kind, expected = SHAPES[shape]
    claims = make(provider.url)
    provider.path = claims["iss"].removeprefix(provider.url)
    provider.keys = [SigningKey("of others"), SigningKey("current", algorithm)]
    now = int(time.time())
    token = provider.keys[-1].sign({**claims, "iat": now - 10, "exp": now + 300}, typ=kind)
    assert ("typ" in jwt.get_unverified_header(token)) == (kind is not None)
    verifier = Issuers((Issuer(claims["iss"], audience),), session)
    assert verifier.claims_issuer(token)
    found = await verifier.verify(token)
    assert found == Claims(claims["iss"], claims["sub"], True, *expected, now - 10, now + 300)
    assert verifier.known(token) is found


NOT_TRUE: tuple[Any, ...] = (False, "false", "True", "1", 1, 1.0, None, [], [True], {"a": True})
NO_LINES: tuple[Any, ...] = ("", None, 1, ["a"], "a\0b", "a\nb", "a\u202eb")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"email": "a@example.com", "email_verified": True}, ("a@example.com", True, None)),
        ({"email": "a@example.com", "email_verified": "true"}, ("a@example.com", True, None)),
        *(({"email": "a@example.com", "email_verified": value}, ("a@example.com", False, None)) for value in NOT_TRUE),
        ({"email": "a@example.com"}, ("a@example.com", False, None)),
        *(({"email": value, "email_verified": True}, (None, False, None)) for value in (*NO_LINES, "a" * 255)),
        ({"name": "Алиса А."}, (None, False, "Алиса А.")),
        *(({"name": value}, (None, False, None)) for value in (*NO_LINES, "a" * 256)),
    ],
)
async def test_an_address_and_a_name_are_texts_of_a_line_or_nothing(
    given: dict[str, Any], expected: tuple[Any, ...], verifier: Issuers, provider: IdentityProvider
) -> None:
    claims = await verifier.verify(provider.token(**given))
    assert (claims.email, claims.email_verified, claims.name) == expected


async def test_a_token_needs_no_iat_and_clocks_may_differ_by_a_minute(verifier: Issuers, provider: IdentityProvider) -> None:
    now = int(time.time())
    assert (await verifier.verify(provider.token(iat=LEFT_OUT))).issued_at is None
    late, early = now - LEEWAY + 10, now + LEEWAY - 10
    assert (await verifier.verify(provider.token(exp=late, iat=early, nbf=early))).expires_at == late


async def test_an_issuer_may_be_listed_for_two_audiences(provider: IdentityProvider, session: ClientSession) -> None:
    verifier = Issuers((Issuer(provider.issuer, "app"), Issuer(provider.issuer, "api", "", False)), session)
    # Of several audiences, the one that is listed first decides.
    for audience, external in (("app", True), ("api", False), (["api", "app"], True), (["others", "api"], False)):
        assert (await verifier.verify(provider.token(aud=audience))).is_external_id is external
    assert await refuses(verifier, provider.token(aud="others"))
    # An id that is not the product's own may be longer.
    assert (await verifier.verify(provider.token(aud="api", sub="s" * 255))).subject == "s" * 255
    assert (await verifier.verify(provider.token(aud="app", sub="s" * 128))).subject == "s" * 128
    for audience, subject in (("app", "s" * 129), ("api", "s" * 256), ("api", "a\0b")):
        assert await refuses(verifier, provider.token(aud=audience, sub=subject))
    assert provider.fetches == 1


async def test_two_issuers_sign_for_themselves_alone(
    verifier: Issuers, provider: IdentityProvider, session: ClientSession
) -> None:
    async with running_provider() as other:
        other.keys = [SigningKey("first", number=1)]
        both = Issuers((Issuer(provider.issuer, AUDIENCE), Issuer(other.issuer, AUDIENCE)), session)
        assert (await both.verify(other.token())).issuer == other.issuer
        assert (await both.verify(provider.token())).issuer == provider.issuer
        assert await refuses(both, other.token(iss=provider.issuer))
        assert await refuses(verifier, other.token())


async def test_keys_are_fetched_from_the_configured_address_without_metadata(
    provider: IdentityProvider, session: ClientSession
) -> None:
    verifier = Issuers((Issuer("https://login.example.com", AUDIENCE, f"{provider.url}/keys"),), session)
    await verifier.verify(provider.token(iss="https://login.example.com"))
    assert provider.seen == ["/keys"]


# Whose token it says it is


async def test_whose_token_it_is_is_told_without_verifying_and_never_fails(
    verifier: Issuers, provider: IdentityProvider, session: ClientSession
) -> None:
    token = provider.token()
    assert verifier.claims_issuer(token)
    assert verifier.claims_issuer(unsigned({"alg": "none"}, {"iss": provider.issuer}))
    assert not Issuers((), session).claims_issuer(token)
    no_objects: tuple[Any, ...] = (1, [], None, "text", {}, b"[" * 1000, b"\xff", b'{"iss": NaN}')
    no_issuers: tuple[Any, ...] = (None, 1, True, [provider.issuer], {}, "https://others.example.com", "")
    junk = (
        *("", ".", "..", "...", "a.b.c", "é.é.é", "\ud800.\ud800.\ud800", "a.\udcff.b", "=.=.=", "a.!!!!.b", "a" * 100_000),
        *(unsigned({}, claims) for claims in no_objects),
        *(unsigned({}, {"iss": value}) for value in no_issuers),
        unsigned({}, {"iss": provider.issuer + "/"}),
        # What is not verified anyway is not looked at.
        unsigned({}, {"iss": provider.issuer, "more": "x" * LONGEST_TOKEN}),
    )
    assert not [text for text in junk if verifier.claims_issuer(text)]
    assert provider.seen == []


# What is refused

Make = Callable[[IdentityProvider], str]


def with_claims(**claims: Any) -> Make:
    return lambda provider: provider.token(**claims)


def at(claim: str, offset: float) -> Make:
    """A token with this claim so many seconds from now."""
    return lambda provider: provider.token(**{claim: int(time.time()) + offset})


def with_header(**header: Any) -> Make:
    return lambda provider: provider.keys[-1].sign(provider.claims(), **header)


def with_whole_header(header: Any) -> Make:
    return lambda provider: unsigned(header, provider.claims(), b"signature")


def signed(provider: IdentityProvider, header: dict[str, Any], algorithm: str, secret: Any) -> str:
    """A good signature over whatever header."""
    signing_input = unsigned({**header, "alg": algorithm, "kid": provider.keys[-1].id}, provider.claims()).rpartition(".")[0]
    return f"{signing_input}.{encoded(jwt.get_algorithm_by_name(algorithm).sign(signing_input.encode(), secret))}"


def hs256_by_the_public_key(provider: IdentityProvider) -> str:
    public = provider.keys[-1].private.public_key()
    return signed(provider, {}, "HS256", public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


KID = {"kid": "first"}
# Refused by what they say: nobody asks for a key. Each is whole but for one thing.
WRONG_BY_ITSELF: dict[str, Make] = {
    "no token": lambda _: "no token",
    "empty": lambda _: "",
    "two parts": lambda provider: provider.token().rpartition(".")[0],
    "four parts": lambda provider: f"{provider.token()}.AAAA",
    "lone surrogates": lambda _: "\udcff.\udcff.\udcff",
    "a JWE": lambda _: f"{encoded({'alg': 'RSA-OAEP', 'enc': 'A256GCM', **KID})}.AAAA.AAAA.AAAA.AAAA",
    "alg none": lambda provider: unsigned({"alg": "none", "typ": "JWT", **KID}, provider.claims()),
    "alg None": lambda provider: unsigned({"alg": "None", **KID}, provider.claims()),
    "no alg": with_whole_header(KID),
    "alg is no text": with_whole_header({"alg": ["ES256"], **KID}),
    "HS256 by the public key": hs256_by_the_public_key,
    "ES384": lambda provider: SigningKey("first", "ES384").sign(provider.claims()),
    "no kid": with_whole_header({"alg": "ES256"}),
    "an empty kid": with_header(kid=""),
    "kid is no text": with_whole_header({"alg": "ES256", "kid": 1}),
    "kid is a list": with_whole_header({"alg": "ES256", "kid": ["first"]}),
    "crit": with_header(crit=["exp"], exp=1),
    "crit that PyJWT knows": lambda provider: signed(
        provider, {"crit": ["b64"], "b64": True}, "ES256", provider.keys[-1].private
    ),
    "crit that is empty": with_header(crit=[]),
    "b64 is false": lambda provider: f"{encoded({'alg': 'ES256', 'b64': False, 'crit': ['b64'], **KID})}..AAAA",
    "a header that is no object": with_whole_header([]),
    "a deep header": with_whole_header(b"[" * 3000),
    "a logout token": with_header(typ="logout+jwt"),
    "a security event": with_claims(events={"http://schemas.openid.net/event/backchannel-logout": {}}),
    "typ is no text": with_header(typ=1),
    "claims that are a list": lambda _: unsigned({"alg": "ES256", **KID}, []),
    "claims without end": lambda _: unsigned({"alg": "ES256", **KID}, b'{"iss":' * 800),
    "claims that are no JSON": lambda _: unsigned({"alg": "ES256", **KID}, b"\xff\xfe"),
    "no iss": with_claims(iss=LEFT_OUT),
    "another iss": with_claims(iss="https://login.example.com"),
    "iss with a slash": lambda provider: provider.token(iss=f"{provider.issuer}/"),
    "iss in a list": lambda provider: unsigned({"alg": "ES256", **KID}, provider.claims(iss=[provider.issuer])),
    "no aud": with_claims(aud=LEFT_OUT),
    "another aud": with_claims(aud="others"),
    "aud with more after it": with_claims(aud=f"{AUDIENCE}2"),
    "aud of others": with_claims(aud=["others", "account"]),
    "aud is null": with_claims(aud=None),
    "aud is empty": with_claims(aud=[]),
    "aud is an object": with_claims(aud={AUDIENCE: AUDIENCE}),
    "aud is nested": with_claims(aud=[[AUDIENCE]]),
    "ours as azp only": with_claims(aud="others", azp=AUDIENCE),
    "no sub": with_claims(sub=LEFT_OUT),
    "sub is empty": with_claims(sub=""),
    "sub is null": with_claims(sub=None),
    "sub is a number": with_claims(sub=1),
    "sub is a list": with_claims(sub=["user-1"]),
    "sub of 129": with_claims(sub="s" * 129),
    "sub of 5,000": with_claims(sub="s" * 5_000),
    "sub of 10,000": with_claims(sub="s" * 10_000),
    "sub with NUL": with_claims(sub="user\0"),
    "sub that turns": with_claims(sub="user\u202e1"),
    "sub with a lone surrogate": lambda provider: provider.token(sub="\ud800"),
    "no exp": with_claims(exp=LEFT_OUT),
    "exp long ago": at("exp", -LEEWAY - 1),
    "exp is a fraction": at("exp", 300.5),
    "exp is a text": with_claims(exp="9999999999"),
    "exp is true": with_claims(exp=True),
    "exp is null": with_claims(exp=None),
    "exp is infinite": with_claims(exp=float("inf")),
    "exp is no number": with_claims(exp=float("nan")),
    "exp after all years": with_claims(exp=10**18),
    "exp of many digits": with_claims(exp=10**4000),
    "exp before all years": with_claims(exp=-1),
    "nbf to come": at("nbf", LEEWAY + 10),
    "nbf is a text": with_claims(nbf="1"),
    "iat to come": at("iat", LEEWAY + 10),
    "iat far to come": at("iat", 10**8),
    "iat is a fraction": at("iat", 0.5),
    "iat is null": with_claims(iat=None),
    "too long": with_claims(more="x" * LONGEST_TOKEN),
}
# Refused by their signature: the keys are asked for once.
WRONG_BY_THE_KEY: dict[str, Make] = {
    "no signature": with_whole_header({"alg": "ES256", **KID}),
    "another's signature": lambda provider: SigningKey("first", number=1).sign(provider.claims()),
    "other claims": lambda provider: ".".join(
        [(parts := provider.token().split("."))[0], encoded(provider.claims(sub="admin")), parts[2]]
    ),
    "another algorithm": lambda provider: SigningKey("first", "RS256").sign(provider.claims()),
    "a key in the header": lambda provider: SigningKey("first", number=1).sign(
        provider.claims(), jwk=SigningKey("first", number=1).jwk, jku="http://127.0.0.1:1/", x5u="http://127.0.0.1:1/"
    ),
    "an unknown kid": lambda provider: SigningKey("unknown", number=1).sign(provider.claims()),
    "kid of 4,000": lambda provider: SigningKey("k" * 4_000, number=1).sign(provider.claims()),
    "a path as kid": lambda provider: SigningKey("../../dev/null", number=1).sign(provider.claims()),
}


@pytest.mark.parametrize("wrong", WRONG_BY_ITSELF)
async def test_a_token_whose_claims_are_wrong_costs_no_fetch(
    wrong: str, verifier: Issuers, provider: IdentityProvider
) -> None:
    token = WRONG_BY_ITSELF[wrong](provider)
    assert await refuses(verifier, token)
    assert provider.seen == []
    # Nor is it good once there are keys.
    await verifier.verify(provider.token())
    assert await refuses(verifier, token)


@pytest.mark.parametrize("wrong", WRONG_BY_THE_KEY)
async def test_a_token_that_no_key_has_signed_costs_one_fetch_and_never_another(
    wrong: str, verifier: Issuers, provider: IdentityProvider, clock: Clock
) -> None:
    token = WRONG_BY_THE_KEY[wrong](provider)
    assert await refuses(verifier, token)
    assert provider.fetches == 1
    for _ in range(3):
        clock.pass_by(PAUSE)
        assert await refuses(verifier, token)
    assert provider.fetches <= 2, "one may be to look for an unknown key"
    before = provider.fetches
    clock.pass_by(PAUSE)
    assert await refuses(verifier, token)
    assert provider.fetches == before
    await verifier.verify(provider.token())


async def test_a_token_of_the_greatest_length_is_taken(verifier: Issuers, provider: IdentityProvider) -> None:
    room = (LONGEST_TOKEN - len(provider.token(more=""))) * 3 // 4
    token = max(
        (token for size in range(room - 4, room + 5) if len(token := provider.token(more="x" * size)) <= LONGEST_TOKEN),
        key=len,
    )
    assert len(token) >= LONGEST_TOKEN - 2
    assert (await verifier.verify(token)).subject == "user-1"
    assert await refuses(verifier, provider.token(more="x" * (room + 5)))


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@hypothesis.settings(max_examples=100, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(
    header=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64"]), JUNK, max_size=2),
    changed=st.dictionaries(
        st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "email", "events"]), JUNK, max_size=2
    ),
)
async def test_whatever_is_in_a_token_it_is_only_a_wrong_token(
    header: dict[str, Any], changed: dict[str, Any], verifier: Issuers, provider: IdentityProvider
) -> None:
    # As others write JSON, NaN and lone surrogates included.
    parts = [json.dumps(part).encode() for part in ({"alg": "ES256", **KID, **header}, provider.claims(**changed))]
    token = ".".join(map(encoded, [*parts, b"signature"]))
    verifier.claims_issuer(token)
    assert await refuses(verifier, token)


# How long one is known


async def test_a_known_token_is_known_until_it_expires(
    verifier: Issuers, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = await verifier.verify(token := provider.token())
    now = [claims.expires_at + LEEWAY - 0.001]
    monkeypatch.setattr(issuers, "time", SimpleNamespace(time=lambda: now[0]))
    assert verifier.known(token) is claims
    now[0] += 0.001
    assert verifier.known(token) is None
    assert await refuses(verifier, token)


async def test_as_many_tokens_are_known_as_there_is_room_for(
    provider: IdentityProvider, session: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuers, "VERIFIED_TOKENS", 2)
    verifier = Issuers((Issuer(provider.issuer, AUDIENCE),), session)
    tokens = [provider.token(sub=f"user-{number}") for number in range(3)]
    for token in tokens[:2]:
        await verifier.verify(token)
    assert verifier.known(tokens[0])
    await verifier.verify(tokens[2])
    # The one that was used longest ago has gone. What was refused has put out none.
    assert await refuses(verifier, provider.token(aud="others"))
    assert [bool(verifier.known(token)) for token in tokens] == [True, False, True]
