"""Turns: one at a time, in the order of asking, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from referral.database.turns import Turns

LONG = 60.0


async def taken() -> Turns:
    turns = Turns()
    await turns.take(LONG)
    return turns


async def asking(turns: Turns, patience: float | None = LONG) -> asyncio.Task[None]:
    task = asyncio.create_task(turns.take(patience))
    await asyncio.sleep(0)
    return task


async def test_who_asks_first_is_first() -> None:
    turns, order = await taken(), []

    async def work(number: int) -> None:
        await turns.take(None if number % 3 == 0 else LONG)
        order.append(number)
        await asyncio.sleep(0)
        turns.pass_on()

    tasks = [asyncio.create_task(work(number)) for number in range(9)]
    await asyncio.sleep(0.01)
    assert order == []
    turns.pass_on()
    await asyncio.gather(*tasks)
    assert order == list(range(9))
    assert not turns.wanted
    await asyncio.wait_for(turns.take(LONG), 1)


async def test_who_comes_while_it_is_passed_on_waits_behind_who_was_there_before() -> None:
    turns = await taken()
    first = await asking(turns)
    turns.pass_on()
    # It has not run yet, but it is its turn.
    second = await asking(turns)
    assert first.done()
    assert not second.done()
    turns.pass_on()
    await second


async def test_patience_ends_for_each_in_its_own_time_and_never_without_one() -> None:
    loop, turns = asyncio.get_running_loop(), await taken()
    assert not turns.wanted
    started = loop.time()
    endless = await asking(turns, None)
    tasks = []
    # All ask before the patience of the first has ended.
    for _ in range(3):
        tasks.append(await asking(turns, 0.4))
        await asyncio.sleep(0.1)
    ends = []
    for task in tasks:
        await asyncio.wait([task], timeout=5)
        assert isinstance(task.exception(), TimeoutError)
        ends.append(loop.time() - started)
    assert all(0.1 * number + 0.4 <= end + 0.01 for number, end in enumerate(ends)), ends
    assert not endless.done()
    turns.pass_on()
    await endless
    # Those who were refused have no turn to be waited for.
    turns.pass_on()
    await asyncio.wait_for(turns.take(LONG), 1)


async def test_who_comes_after_all_others_were_refused_is_watched_over_too() -> None:
    turns = await taken()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await turns.take(0.02)


async def test_who_is_cancelled_while_waiting_is_passed_over() -> None:
    turns = await taken()
    first, second, third = await asking(turns), await asking(turns), await asking(turns)
    second.cancel()
    turns.pass_on()
    await first
    turns.pass_on()
    await third
    with pytest.raises(asyncio.CancelledError):
        await second


async def test_who_is_cancelled_when_its_turn_has_come_passes_it_on() -> None:
    turns = await taken()
    first, second = await asking(turns), await asking(turns)
    turns.pass_on()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.wait_for(second, 1)


async def test_who_is_cancelled_when_its_patience_has_ended_passes_on_what_it_never_had() -> None:
    turns = await taken()
    refused, waiting = await asking(turns, 0.01), await asking(turns)
    # The timer that refuses it is the last thing before it is cancelled.
    time.sleep(0.02)
    loop = asyncio.get_running_loop()
    loop.call_soon(lambda: loop.call_soon(refused.cancel))
    with pytest.raises(asyncio.CancelledError):
        await refused
    await asyncio.sleep(0)
    assert not waiting.done()


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_one_at_a_time_has_it_and_the_end_is_free(seed: int) -> None:
    chance, turns, inside, had = random.Random(seed), Turns(), 0, 0

    async def work() -> None:
        nonlocal inside, had
        await turns.take(chance.choice((None, 0.0, 0.001, 0.01, LONG)))
        try:
            inside += 1
            had += 1
            assert inside == 1
            await asyncio.sleep(chance.choice((0, 0, 0.002)))
            assert inside == 1
        finally:
            inside -= 1
            turns.pass_on()

    tasks = []
    for _ in range(300):
        tasks.append(asyncio.create_task(work()))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        await asyncio.sleep(chance.choice((0, 0, 0, 0.0005)))
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
    assert {type(outcome) for outcome in outcomes} <= {type(None), TimeoutError, asyncio.CancelledError}
    assert had > 50
    assert not turns.wanted
    await asyncio.wait_for(turns.take(None), 1)
