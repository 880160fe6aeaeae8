"""A few faults of the soak, so that it stays one that finds something; `make soak` plays all of them for ten minutes."""

from __future__ import annotations

from pathlib import Path

from tests.soak.__main__ import Soak
from tests.soak.faults import RESTARTS

FEW = ["PostgreSQL fails over", "Redis hangs, is replaced and comes back", "kill -9 of PgBouncer", next(iter(RESTARTS))]


async def test_a_few_faults_under_load_lose_nothing_and_show_nothing_stale(tmp_path: Path) -> None:
    soak = Soak(tmp_path, 5, 1, FEW)
    await soak.run()
    assert soak.found == []
    assert soak.faults
    record = soak.record
    kinds = (record.users, record.codes, record.events, record.redemptions, record.ended_tokens)
    assert all(len(kind) > 5 for kind in kinds)
