"""A receiver of webhooks, and senders that may call it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from referral.webhooks.guard import Guard
from referral.webhooks.sending import Sender
from tests.support.receivers import MakeSender, Names, Receiver, running_receiver

ALLOWED = [ip_network("127.0.0.0/8"), ip_network("::1/128")]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as running:
        yield running


@pytest.fixture
async def make_sender() -> AsyncIterator[MakeSender]:
    """`make_sender(0.2, names)`: a sender with this timeout, and a name server of its own."""
    made: list[tuple[Sender, Guard]] = []

    def make(timeout: float = 20.0, names: Names | None = None) -> Sender:
        guard = Guard(ALLOWED, names)
        made.append((Sender(guard, timeout), guard))
        return made[-1][0]

    yield make
    for sender, guard in made:
        await sender.close()
        await guard.close()


@pytest.fixture
async def sender(make_sender: MakeSender) -> Sender:
    """In the event loop, where a sender has to be made."""
    return make_sender()
