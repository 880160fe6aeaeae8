"""The lease of the epoch: what it costs requests, and how long it holds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from referral.cache import epoch as module
from referral.cache.epoch import Epoch
from referral.database import Connection, Database, DatabaseUnavailable, committed
from referral.queries import cache_epoch
from tests.conftest import Eventually


@pytest.fixture
def engine() -> str:
    return "sqlite"


async def test_a_lease_in_use_is_renewed_before_it_ends(
    database: Database, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EPOCH_LEASE", 10.0)
    monkeypatch.setattr(module, "RENEWAL", 0.01)
    epoch, advanced = Epoch(database), []
    epoch.on_advance.append(lambda: advanced.append(True))
    first = await epoch.trusted()
    advanced.clear()
    await committed(database, cache_epoch.advance_epoch)
    await asyncio.sleep(0.02)
    # Nobody waits for it, and whoever asks next finds the new one.
    assert epoch.is_trusted()
    assert advanced == []
    await eventually(lambda: advanced)
    assert epoch.is_trusted()
    assert (await epoch.trusted()).epoch == first.epoch + 1


async def test_a_lease_that_cannot_be_renewed_ends(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    epoch = Epoch(database)
    await epoch.trusted()

    @contextlib.asynccontextmanager
    async def away() -> AsyncIterator[Connection]:
        raise DatabaseUnavailable("it is away")
        yield

    monkeypatch.setattr(database, "reader", away)
    await asyncio.sleep(module.RENEWAL + 0.01)
    assert epoch.is_trusted()
    await asyncio.sleep(module.EPOCH_LEASE)
    assert not epoch.is_trusted()
    with pytest.raises(DatabaseUnavailable):
        await epoch.trusted()
