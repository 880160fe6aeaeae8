"""An identity provider, a service's verifier of its tokens, and a clock by which keys grow old."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession

from referral.auth import issuer_keys
from referral.auth.issuers import Issuers, IssuerUnavailable
from referral.auth.tokens import InvalidToken
from referral.config.issuers import Issuer
from referral.vendors.client import open_vendor_session
from tests.support.identity_provider import AUDIENCE, IdentityProvider, running_provider


class Clock:
    """The clock that keys grow old by; the times of tokens are the machine's."""

    def __init__(self) -> None:
        self.passed = 0.0

    def pass_by(self, seconds: float) -> None:
        self.passed += seconds

    def monotonic(self) -> float:
        return self.passed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(issuer_keys, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    async with running_provider() as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with open_vendor_session() as opened:
        yield opened


@pytest.fixture
async def verifier(provider: IdentityProvider, session: ClientSession, clock: Clock) -> AsyncIterator[Issuers]:
    """It takes the provider's tokens for AUDIENCE."""
    made = Issuers((Issuer(provider.issuer, AUDIENCE),), session)
    yield made
    await made.close()


async def refuses(verifier: Issuers, token: str) -> bool:
    """Whether the token is refused, and left unknown; it raises whatever else comes of it."""
    try:
        await verifier.verify(token)
    except InvalidToken:
        assert verifier.known(token) is None
        return True
    return False


async def is_unavailable(verifier: Issuers, token: str) -> bool:
    try:
        await verifier.verify(token)
    except IssuerUnavailable:
        assert verifier.known(token) is None
        return True
    return False
