"""The queue of work for threads: who floods it waits for themselves, and nobody else waits longer than a turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from referral.auth.fair_queue import Asker, FairQueue, Overloaded

THREADS = 2


class Gate:
    """Work that waits until it is let through, and remembers in which order it began."""

    def __init__(self, queue: FairQueue) -> None:
        self._queue = queue
        self._passes = threading.Semaphore(0)
        self.began: list[str] = []
        self.gone: set[str] = set()

    async def work(self, who: str, what: str = "") -> str:
        def wait() -> str:
            self.began.append(who + what)
            assert self._passes.acquire(timeout=20)
            return who + what

        return await self._queue.run(Asker(who, lambda: who + what in self.gone), wait)

    def start(self, *names: str) -> list[asyncio.Task[str]]:
        return [asyncio.create_task(self.work(name[0], name[1:])) for name in names]

    def let_through(self, count: int) -> None:
        self._passes.release(count)


@pytest.fixture
async def queue() -> AsyncIterator[FairQueue]:
    found = FairQueue(THREADS, 8, "tests")
    yield found
    found.close()


@pytest.fixture
def gate(queue: FairQueue) -> Gate:
    return Gate(queue)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_wait_take_turns(gate: Gate) -> None:
    tasks = gate.start("a1", "a2", "a3", "a4", "a5", "b1", "c1", "b2")
    await settle()
    gate.let_through(8)
    assert await asyncio.gather(*tasks) == ["a1", "a2", "a3", "a4", "a5", "b1", "c1", "b2"]
    # Two threads may write their order down the other way about.
    assert set(gate.began[:2]) == {"a1", "a2"}
    assert set(gate.began[2:5]) <= {"a3", "b1", "c1", "a4"}
    assert gate.began.index("c1") < gate.began.index("a5")
    assert gate.began.index("b1") < gate.began.index("a5")


async def test_a_flood_makes_room_for_others_and_is_refused_itself(gate: Gate) -> None:
    flood = gate.start(*(f"a{number}" for number in range(8)))
    await settle()
    with pytest.raises(Overloaded):
        await gate.work("a", "9")
    [other] = gate.start("b1")
    await settle()
    # The latest of the flood had to go.
    assert [task.done() for task in flood] == [False] * 7 + [True]
    with pytest.raises(Overloaded):
        await flood[-1]
    gate.let_through(8)
    assert await other == "b1"
    assert await asyncio.gather(*flood[:-1]) == [f"a{number}" for number in range(7)]
    assert gate.began.index("b1") <= 4


async def test_when_all_have_as_much_waiting_one_of_them_goes_by_chance(gate: Gate) -> None:
    """A flood from more networks than there is room for keeps nobody out for good."""
    tasks = gate.start("a1", "a2", "a3", "b1", "c1", "d1", "e1", "f1")
    refused = set()
    for number in range(40):
        [latest] = gate.start(f"g{number}")
        await settle()
        assert not latest.done(), "whoever is new gets in"
        with pytest.raises(Overloaded):
            await gate.work("g", "more")
        latest.cancel()
        tasks += gate.start(f"h{number}")
        await settle()
        for task in [task for task in tasks if task.done() and not task.cancelled()]:
            with pytest.raises(Overloaded):
                await task
            tasks.remove(task)
            refused.add(task)
    # Who was there first, and who came in between.
    assert len(refused) >= 3
    gate.let_through(20)
    assert len(await asyncio.gather(*tasks)) == 8


async def test_who_has_gone_takes_no_turn_and_makes_room(gate: Gate) -> None:
    tasks = gate.start("a1", "a2", "a3", "b1", "c1", "d1", "e1", "f1")
    await settle()
    gate.gone |= {"b1", "d1"}
    [latest] = gate.start("g1")
    await settle()
    assert [task.done() for task in tasks] == [task in (tasks[3], tasks[5]) for task in tasks]
    gate.gone.add("c1")
    gate.let_through(20)
    done = await asyncio.gather(*tasks, latest, return_exceptions=True)
    assert [type(found) is Overloaded for found in done] == [False, False, False, True, True, True, False, False, False]
    assert gate.began.count("c1") == 0


async def test_who_gives_up_takes_no_turn_and_holds_no_thread(
    queue: FairQueue, gate: Gate, eventually: Callable[..., Awaitable[Any]]
) -> None:
    tasks = gate.start("a1", "a2", "a3", "b1", "b2", "c1")
    await settle()
    # One that is being done, one that waits, and one whose turn comes while it is given up.
    tasks[0].cancel()
    tasks[3].cancel()
    await settle()
    gate.let_through(20)
    tasks[2].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [done[1], done[4], done[5]] == ["a2", "b2", "c1"]
    assert "b1" not in gate.began
    await eventually(lambda: queue._free == THREADS)
    # All threads are free, and all the room is there: as much as before can be done.
    assert await asyncio.gather(*gate.start(*(f"{name}1" for name in "stuvwxyz"))) == [f"{name}1" for name in "stuvwxyz"]


async def test_who_is_put_out_and_gives_up_at_once_frees_nothing_that_is_not_theirs(gate: Gate) -> None:
    flood = gate.start(*(f"a{number}" for number in range(8)))
    await settle()
    [other] = gate.start("b1")
    # Its task has not yet been told that it was put out.
    await asyncio.sleep(0)
    flood[-1].cancel()
    await settle()
    assert len(gate.began) == THREADS
    gate.let_through(8)
    assert await other == "b1"


async def test_what_the_work_raises_is_raised_and_its_thread_goes_on(queue: FairQueue) -> None:
    def fail() -> None:
        raise ValueError("no")

    for _ in range(10):
        with pytest.raises(ValueError, match="no"):
            await queue.run(Asker("a"), fail)
    assert await queue.run(Asker("a"), lambda: 1) == 1
