"""The loop of every worker: when the next turn comes, and what a failure does to it."""

from __future__ import annotations

import asyncio
import time

import pytest

from referral.background import loop
from referral.background.loop import work_for_ever
from referral.database import DatabaseUnavailable, TransactionConflict


@pytest.fixture
def engine() -> str:
    """Nothing here depends on the dialect."""
    return "sqlite"


class Turns:
    """What each turn does: says how long the next one may wait, or fails. After the last one it waits for ever."""

    def __init__(self, *outcomes: float | Exception) -> None:
        self.outcomes = list(outcomes)
        self.begun: list[float] = []

    async def take(self) -> float:
        self.begun.append(time.monotonic())
        if not self.outcomes:
            await asyncio.Event().wait()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def run(self, many: int, longest: float = 30.0, woken: asyncio.Event | None = None) -> list[float]:
        """Wait for so many turns; the seconds between them."""
        task = asyncio.create_task(work_for_ever("the work", self.take, longest, woken))
        async with asyncio.timeout(5):
            while len(self.begun) < many:
                await asyncio.sleep(0.001)
        task.cancel()
        return [second - first for first, second in zip(self.begun, self.begun[1:], strict=False)]


async def test_the_next_turn_comes_when_the_one_before_says() -> None:
    first, second = await Turns(0.0, 0.2).run(3)
    assert first < 0.1
    assert second >= 0.19


async def test_a_turn_that_waits_is_woken() -> None:
    woken = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, woken.set)
    (pause,) = await Turns(30.0).run(2, woken=woken)
    assert 0.04 <= pause < 2


async def test_who_was_woken_during_a_turn_takes_another_one_at_once() -> None:
    woken = asyncio.Event()
    turns = Turns(30.0)
    really = turns.take

    async def take() -> float:
        pause = await really()
        woken.set()
        return pause

    turns.take = take  # type: ignore[method-assign]
    (pause,) = await turns.run(2, woken=woken)
    assert pause < 2


async def test_what_another_transaction_undid_is_made_again_soon_and_other_failures_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "CONFLICT_PAUSE", 0.01)
    pauses = await Turns(TransactionConflict("again"), DatabaseUnavailable("gone"), ZeroDivisionError()).run(4, longest=0.3)
    assert pauses[0] < 0.2
    assert min(pauses[1:]) >= 0.29
