"""Keys of the product's identity provider: which are used, when they are fetched, and what it costs when it is out or lies.

The provider is `tests/support/identity_provider.py`, over real HTTP. Time passes by a clock of the test's own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

import jwt
import orjson
import pytest
from aiohttp import ClientSession

from referral.auth import issuer_keys
from referral.auth.issuer_keys import KEPT, MAX_ANSWER, OUTAGE, PAUSE
from referral.auth.issuers import Issuers
from referral.config.issuers import Issuer
from tests.auth.conftest import Clock, is_unavailable, refuses
from tests.support.identity_provider import AUDIENCE, IdentityProvider, SigningKey
from tests.support.servers import free_port
from tests.support.vendors import Reply, drips, hangs, hangs_up, hangs_up_half_way, padded, raw, redirect, status


@pytest.fixture
def engine() -> str:
    """A token is looked at before any database is."""
    return "sqlite"


# Which keys are used

EC, RSA = SigningKey("first"), SigningKey("first", "RS256")
# As deep as orjson writes.
DEEP = orjson.loads(b"[" * 240 + b"]" * 240)
UNFIT: dict[str, tuple[SigningKey, dict[str, Any]]] = {
    "for encryption": (EC, {"use": "enc"}),
    "for encryption by its operations": (EC, {"key_ops": ["deriveKey"]}),
    "operations that are no list": (EC, {"key_ops": "verify"}),
    "another algorithm": (RSA, {"alg": "RS512"}),
    "an algorithm of encryption": (RSA, {"alg": "RSA-OAEP"}),
    "an algorithm that is no text": (EC, {"alg": ["ES256"]}),
    "a short key": (SigningKey("first", "RS256", kind="RSA-1024"), {}),
    "Ed448": (SigningKey("first", "EdDSA", kind="OKP-448"), {}),
    "a secret": (EC, {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}),
    "another type": (EC, {"kty": "RSA"}),
    "another curve": (EC, {"crv": "P-384"}),
    "a point beside the curve": (EC, {"x": EC.jwk["y"]}),
    "no x": (EC, {"x": None}),
    "x is a number": (EC, {"x": 1}),
    "kty is a list": (EC, {"kty": ["EC"]}),
    "kty is deep": (EC, {"kty": DEEP}),
    "crv is deep": (EC, {"crv": DEEP}),
    "x is deep": (EC, {"x": DEEP}),
    "kid is a number": (EC, {"kid": 1}),
    "a private key": (EC, EC.private_jwk),
}


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
@pytest.mark.parametrize("unfit", UNFIT)
async def test_a_key_that_is_unfit_is_not_used_and_spoils_no_other(
    unfit: str, verifier: Issuers, provider: IdentityProvider
) -> None:
    signing, members = UNFIT[unfit]
    fit = SigningKey("fit")
    provider.jwks = status(200, {"keys": [1, None, [], {}, {**signing.jwk, **members}, fit.jwk]})
    assert await refuses(verifier, signing.sign(provider.claims()))
    assert await verifier.verify(fit.sign(provider.claims()))
    assert provider.fetches == 1
    # It is that alone for which it is refused.
    if members:
        again = Issuers((Issuer(provider.issuer, AUDIENCE),), verifier._keys[provider.issuer]._session)
        provider.jwks = status(200, {"keys": [signing.jwk]})
        assert await again.verify(signing.sign(provider.claims()))


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "ES256", "EdDSA"])
async def test_a_key_without_an_algorithm_is_used_for_those_of_its_type(
    algorithm: str, verifier: Issuers, provider: IdentityProvider
) -> None:
    key = SigningKey("only", algorithm)
    provider.jwks = status(200, {"keys": [{name: value for name, value in key.jwk.items() if name not in ("alg", "use")}]})
    assert await verifier.verify(key.sign(provider.claims()))
    assert await refuses(verifier, SigningKey("only", algorithm, number=1).sign(provider.claims()))
    if algorithm.startswith("RS"):
        pss = jwt.encode(provider.claims(), key.private, "PS512", headers={"kid": "only"})
        assert await refuses(verifier, pss)


async def test_of_keys_of_one_name_the_ones_that_fit_are_tried(verifier: Issuers, provider: IdentityProvider) -> None:
    keys = [SigningKey("first", "RS256"), SigningKey("first"), SigningKey("first", number=1), SigningKey("first", "EdDSA")]
    provider.keys = keys
    for key in keys:
        assert await verifier.verify(key.sign(provider.claims()))
    assert await refuses(verifier, SigningKey("first", number=2).sign(provider.claims()))


# When keys are fetched


async def test_all_who_wait_for_keys_wait_for_one_fetch(verifier: Issuers, provider: IdentityProvider, clock: Clock) -> None:
    provider.answering.clear()
    tokens = [provider.token(sub=f"user-{number}") for number in range(32)]
    waiting = [asyncio.create_task(verifier.verify(token)) for token in tokens]
    while not provider.seen:
        await asyncio.sleep(0.005)
    # Who goes away takes the answer from nobody.
    waiting[0].cancel()
    provider.answering.set()
    found = await asyncio.gather(*waiting[1:])
    assert [claims.subject for claims in found] == [f"user-{number}" for number in range(1, 32)]
    assert (waiting[0].cancelled(), provider.fetches) == (True, 1)
    # The same where they wait for a key that is new.
    provider.keys = [*provider.keys, SigningKey("second")]
    provider.answering.clear()
    clock.pass_by(PAUSE)
    waiting = [asyncio.create_task(verifier.verify(provider.token(sub=f"user-{number}"))) for number in range(32)]
    while len(provider.seen) < 3:
        await asyncio.sleep(0.005)
    waiting[0].cancel()
    provider.answering.set()
    assert len(await asyncio.gather(*waiting[1:])) == 31
    assert (waiting[0].cancelled(), provider.fetches) == (True, 2)


async def test_a_flood_of_unknown_keys_costs_one_fetch_in_half_a_minute(
    verifier: Issuers, provider: IdentityProvider, clock: Clock
) -> None:
    await verifier.verify(provider.token())
    forger = [SigningKey(f"forged-{number}", number=1) for number in range(64)]
    for fetches in (2, 3):
        clock.pass_by(PAUSE)
        tokens = [key.sign(provider.claims(jti=str(fetches))) for key in forger]
        assert all(await asyncio.gather(*(refuses(verifier, token) for token in tokens)))
        assert provider.fetches == fetches
        clock.pass_by(PAUSE - 0.001)
        assert all(await asyncio.gather(*(refuses(verifier, key.sign(provider.claims())) for key in forger)))
        assert provider.fetches == fetches
    assert verifier.known(provider.token()) is None


async def test_a_new_key_is_found_by_the_first_token_of_it(
    verifier: Issuers, provider: IdentityProvider, clock: Clock
) -> None:
    old = provider.token()
    await verifier.verify(old)
    provider.keys = [*provider.keys, SigningKey("second", "EdDSA")]
    fresh = provider.token()
    assert await refuses(verifier, fresh), "half a minute has not passed"
    clock.pass_by(PAUSE)
    assert await verifier.verify(fresh)
    assert provider.fetches == 2
    # The old one is verified anew, with no fetch.
    assert await verifier.verify(old)
    assert provider.fetches == 2


async def test_a_token_that_came_before_its_key_is_good_when_another_has_fetched_it(
    verifier: Issuers, provider: IdentityProvider, clock: Clock
) -> None:
    await verifier.verify(provider.token())
    second = SigningKey("second")
    early, later = second.sign(provider.claims(sub="early")), second.sign(provider.claims(sub="later"))
    clock.pass_by(PAUSE)
    assert await refuses(verifier, early)
    provider.keys = [*provider.keys, second]
    clock.pass_by(PAUSE)
    assert await refuses(verifier, early), "it has cost a fetch already"
    assert provider.fetches == 2
    assert await verifier.verify(later)
    assert await verifier.verify(early)
    assert provider.fetches == 3


async def test_a_token_that_came_during_an_outage_may_ask_again(
    verifier: Issuers, provider: IdentityProvider, clock: Clock
) -> None:
    await verifier.verify(provider.token())
    provider.keys, provider.jwks = [SigningKey("second")], status(503)
    token = provider.token()
    clock.pass_by(PAUSE)
    assert await refuses(verifier, token)
    assert provider.fetches == 2
    provider.jwks = None
    clock.pass_by(PAUSE)
    assert await verifier.verify(token)


async def test_keys_are_kept_for_ten_minutes(verifier: Issuers, provider: IdentityProvider, clock: Clock) -> None:
    assert KEPT == 600
    token = provider.token()
    claims = await verifier.verify(token)
    clock.pass_by(KEPT - 0.001)
    assert await verifier.verify(provider.token(sub="user-2"))
    assert verifier.known(token) is claims
    assert provider.fetches == 1
    clock.pass_by(0.001)
    assert verifier.known(token) is None
    # The keys are the same: it is not even verified again.
    assert await verifier.verify(token) is claims
    assert verifier.known(token) is claims
    assert provider.fetches == 2


async def test_a_key_that_was_withdrawn_is_good_for_ten_minutes_at_most(
    verifier: Issuers, provider: IdentityProvider, clock: Clock
) -> None:
    token, other = provider.token(), provider.token(sub="user-2")
    await verifier.verify(token)
    provider.keys = [SigningKey("second")]
    clock.pass_by(KEPT - 1)
    assert verifier.known(token)
    clock.pass_by(1)
    assert await refuses(verifier, token)
    assert await refuses(verifier, other)
    assert await verifier.verify(provider.token())


async def test_a_key_that_was_withdrawn_is_refused_as_soon_as_a_new_one_was_fetched(
    verifier: Issuers, provider: IdentityProvider, clock: Clock
) -> None:
    token = provider.token()
    await verifier.verify(token)
    # Another key under the same name, too.
    provider.keys = [SigningKey("first", number=1), SigningKey("second")]
    clock.pass_by(PAUSE)
    await verifier.verify(provider.token())
    assert verifier.known(token) is None
    assert await refuses(verifier, token)


async def test_keys_beside_the_deepest_nonsense_are_fetched_again_and_again(
    verifier: Issuers, provider: IdentityProvider, clock: Clock
) -> None:
    nonsense = b"[" * 1000 + b"]" * 1000
    provider.jwks = raw(b'{"keys": [%s, %s]}' % (orjson.dumps(provider.keys[0].jwk), nonsense))
    token = provider.token()
    for fetches in (1, 2, 3):
        assert await verifier.verify(token)
        assert provider.fetches == fetches
        clock.pass_by(KEPT)


async def test_an_issuer_that_withdraws_all_keys_is_believed(
    verifier: Issuers, provider: IdentityProvider, clock: Clock
) -> None:
    token = provider.token()
    await verifier.verify(token)
    provider.keys, clock.passed = [], KEPT
    assert await refuses(verifier, token)


# An issuer that is out, or lies

SMALL: dict[str, Any] = {"keys": []}
LIES: dict[str, Reply] = {
    "500": status(500),
    "404": status(404),
    "201": status(201, SMALL),
    "no JSON": raw(b"<html>"),
    "no UTF-8": raw(b"\xff\xfe"),
    "nothing": raw(b""),
    "deep JSON": raw(b"[" * 60_000),
    "a list": status(200, [1]),
    "null": raw(b"null"),
    "no keys": status(200, {"issuer": "x"}),
    "keys are an object": status(200, {"keys": {"first": EC.jwk}}),
    "huge": padded(SMALL, MAX_ANSWER + 1),
    "compressed": raw(b"\x1f\x8b\x08\x00", headers={"Content-Encoding": "gzip"}),
    "no end": hangs,
    "hangs up": hangs_up,
    "hangs up half way": hangs_up_half_way,
    "redirected": redirect("/keys?again"),
    "byte by byte": drips,
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("where", ["jwks", "metadata"])
async def test_an_issuer_that_lies_is_out_and_its_old_keys_go_on(
    lie: str,
    where: str,
    verifier: Issuers,
    provider: IdentityProvider,
    session: ClientSession,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    known, other = provider.token(), provider.token(sub="user-2")
    claims = await verifier.verify(known)
    # Only from here on: a busy machine may take longer for a good answer.
    monkeypatch.setattr(issuer_keys, "TIMEOUT", 0.1)
    setattr(provider, where, LIES[lie])
    clock.pass_by(KEPT)
    before = len(provider.seen)
    with caplog.at_level(logging.WARNING, issuer_keys.__name__):
        async with asyncio.timeout(4):
            assert await verifier.verify(known) is claims
    [line] = [record.getMessage() for record in caplog.records if record.name == issuer_keys.__name__]
    assert line.startswith(f"The keys of {provider.issuer} cannot be had: ")
    asked = len(provider.seen) - before
    # aiohttp asks once more at once where a connection was closed instead of an answer.
    assert asked == (2 if where == "jwks" else 1) + (lie == "hangs up"), "a redirect is not followed"
    # It is asked again after half a minute.
    assert verifier.known(known) is claims
    assert await verifier.verify(other)
    clock.pass_by(PAUSE - 0.001)
    assert verifier.known(known) is claims
    assert await refuses(verifier, SigningKey("unknown").sign(provider.claims()))
    assert len(provider.seen) == before + asked
    # To who has no keys it is out, and is not asked again at once either.
    stranger = Issuers((Issuer(provider.issuer, AUDIENCE),), session)
    for token in (known, other, SigningKey("unknown").sign(provider.claims())):
        assert await is_unavailable(stranger, token)
    assert await refuses(stranger, provider.token(aud="others"))
    assert len(provider.seen) == before + 2 * asked
    setattr(provider, where, None)
    clock.pass_by(PAUSE)
    assert await stranger.verify(known) == claims
    await stranger.close()


async def test_an_issuer_that_nobody_answers_for_is_out(session: ClientSession, provider: IdentityProvider) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    verifier = Issuers((Issuer(nowhere, AUDIENCE),), session)
    assert await is_unavailable(verifier, provider.token(iss=nowhere))


async def test_old_keys_are_used_for_a_day(verifier: Issuers, provider: IdentityProvider, clock: Clock) -> None:
    assert (OUTAGE, PAUSE) == (86_400, 30)
    token = provider.token(exp=int(time.time()) + 10**6)
    await verifier.verify(token)
    provider.jwks = status(503)
    clock.pass_by(OUTAGE - PAUSE)
    assert await verifier.verify(token)
    clock.pass_by(PAUSE - 0.001)
    assert verifier.known(token)
    clock.pass_by(0.001)
    assert verifier.known(token) is None
    assert await is_unavailable(verifier, token)
    provider.jwks = None
    clock.pass_by(PAUSE)
    assert await verifier.verify(token)


async def test_nobody_waits_twice_for_an_issuer_that_hangs(
    verifier: Issuers, provider: IdentityProvider, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "TIMEOUT", 0.05)
    token = provider.token()
    await verifier.verify(token)
    provider.answering.clear()
    clock.pass_by(KEPT)
    assert await verifier.verify(token)
    clock.pass_by(PAUSE)
    monkeypatch.setattr(issuer_keys, "TIMEOUT", 30)
    async with asyncio.timeout(4):
        assert await verifier.verify(token)
        assert await verifier.verify(provider.token(sub="user-2"))
    while provider.seen[-2:] != ["/.well-known/openid-configuration"] * 2:
        await asyncio.sleep(0.005)
    # The keys that come of it are used when they are there.
    provider.keys = [SigningKey("second")]
    provider.answering.set()
    async with asyncio.timeout(4):
        while not await refuses(verifier, token):
            await asyncio.sleep(0.005)
    assert await verifier.verify(provider.token())


async def test_after_an_outage_that_nobody_saw_the_keys_are_waited_for(
    verifier: Issuers, provider: IdentityProvider, clock: Clock
) -> None:
    token = provider.token()
    await verifier.verify(token)
    provider.jwks = status(503)
    clock.pass_by(KEPT)
    assert await verifier.verify(token)
    provider.jwks, provider.keys = None, [SigningKey("second")]
    clock.pass_by(KEPT)
    assert await refuses(verifier, token), "the key was withdrawn ten minutes ago"


async def test_who_ends_waits_for_no_issuer(verifier: Issuers, provider: IdentityProvider) -> None:
    provider.answering.clear()
    waiting = asyncio.create_task(verifier.verify(provider.token()))
    while not provider.seen:
        await asyncio.sleep(0.005)
    async with asyncio.timeout(4):
        await verifier.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


# Metadata


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://login.example.com"},
        {"issuer": None},
        {"issuer": "ISSUER/"},
        {"jwks_uri": None},
        {"jwks_uri": 1},
        {"jwks_uri": ""},
        {"jwks_uri": "/keys"},
        # No address of this machine alone, though the provider is found there.
        {"jwks_uri": "http://0.0.0.0:PORT/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": f"https://{'a' * 64}.example.com/"},
    ],
)
async def test_metadata_of_another_issuer_or_without_a_safe_address_is_refused(
    document: dict[str, Any], verifier: Issuers, provider: IdentityProvider
) -> None:
    filled = json.dumps(document).replace("ISSUER", provider.issuer).replace("PORT", provider.url.rpartition(":")[2])
    provider.metadata = status(200, {"issuer": provider.issuer, "jwks_uri": f"{provider.url}/keys", **json.loads(filled)})
    assert await is_unavailable(verifier, provider.token())
    assert provider.fetches == 0
