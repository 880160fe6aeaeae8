"""Tokens of a real identity provider, oidc-provider: they are taken, its keys are rotated, and it goes out and hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from referral.auth import issuer_keys
from referral.auth.issuer_keys import KEPT, PAUSE
from referral.auth.issuers import Issuers
from referral.config.issuers import Issuer
from tests.auth.conftest import Clock, is_unavailable, refuses
from tests.support.identity_provider import SigningKey
from tests.support.oidc_server import OIDCServer

# oidc-provider wants a URI for a resource, and makes it the audience.
AUDIENCE = "https://referrals.example.com"


@pytest.fixture
def engine() -> str:
    """A token is looked at before any database is."""
    return "sqlite"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OIDCServer]:
    with OIDCServer(tmp_path) as running:
        yield running


def verifier_of(server: OIDCServer, session: ClientSession) -> Issuers:
    return Issuers((Issuer(server.issuer, AUDIENCE),), session)


@pytest.fixture
async def verifier(server: OIDCServer, session: ClientSession, clock: Clock) -> AsyncIterator[Issuers]:
    made = verifier_of(server, session)
    yield made
    await made.close()


async def test_its_tokens_are_taken_whatever_key_they_are_signed_by(
    server: OIDCServer, verifier: Issuers, clock: Clock
) -> None:
    token = server.token(AUDIENCE)
    claims = await verifier.verify(token)
    assert (claims.issuer, claims.subject, claims.is_external_id) == (server.issuer, "user-1", True)
    assert claims.issued_at is not None
    assert claims.expires_at - claims.issued_at == 300
    assert verifier.known(token) is claims
    assert await refuses(verifier, server.token("https://others.example.com"))
    assert await refuses(verifier, f"{token[:-8]}AAAAAAAA")
    # It is rotated: the new key signs, and the old one is still published.
    fresh = SigningKey("second", "ES256")
    server.rotate(fresh, *server.keys)
    clock.pass_by(PAUSE)
    assert (await verifier.verify(server.token(AUDIENCE))).subject == "user-1"
    assert await verifier.verify(token)
    # Then the old one is withdrawn.
    server.rotate(SigningKey("third", "EdDSA"), fresh)
    clock.pass_by(PAUSE)
    assert (await verifier.verify(server.token(AUDIENCE))).subject == "user-1"
    assert verifier.known(token) is None
    assert await refuses(verifier, token)


async def test_its_old_keys_go_on_while_it_is_out_and_hangs(
    server: OIDCServer, verifier: Issuers, session: ClientSession, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "TIMEOUT", 0.2)
    first, second = server.token(AUDIENCE), server.token(AUDIENCE)
    await verifier.verify(first)
    server.hang()
    clock.pass_by(KEPT)
    assert await verifier.verify(first)
    assert await verifier.verify(second)
    stranger = verifier_of(server, session)
    assert await is_unavailable(stranger, first)
    server.resume()
    server.stop()
    clock.pass_by(PAUSE)
    assert await verifier.verify(first)
    assert await is_unavailable(stranger, first)
    await asyncio.gather(verifier.close(), stranger.close())
    server.start()
    monkeypatch.setattr(issuer_keys, "TIMEOUT", 10.0)
    clock.pass_by(PAUSE)
    assert await stranger.verify(first)
