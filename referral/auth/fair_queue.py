"""A queue of work for threads that is fair: what waits is taken in turn by those who wait, so that nobody's flood holds the
others up (fair queueing, round robin)."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class Overloaded(Exception):
    """Too much waits."""


class FairQueue:
    """Does work in threads; `close()` ends them."""

    def __init__(self, threads: int, limit: int, name: str) -> None:
        """At most `limit` pieces of work are done or wait at a time."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = threads
        self._room = limit - threads
        # Who waits, in the order of their turns, each with what waits, oldest first.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def run(self, who: str, work: Callable[[], T]) -> T:
        """What the work returns, which is done in its turn of those of `who`.

        Raises Overloaded when there is no room; room is made at the cost of whoever has the most waiting.
        """
        if self._free:
            self._free -= 1
        else:
            await self._wait(who)
        done = self._pool.submit(work)
        loop = asyncio.get_running_loop()

        def free_thread(_: object) -> None:
            # The loop may have been closed meanwhile.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._pass_on)

        # Not when the caller gives up: the thread goes on.
        done.add_done_callback(free_thread)
        return await asyncio.wrap_future(done)

    async def _wait(self, who: str) -> None:
        if not self._room:
            self._make_room(who)
        turn = asyncio.get_running_loop().create_future()
        self._room -= 1
        self._waiting.setdefault(who, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._drop(who, turn)
            elif turn.exception() is None:
                self._pass_on()
            raise

    def _make_room(self, who: str) -> None:
        busiest = max(self._waiting, key=lambda name: len(self._waiting[name]), default=who)
        if len(self._waiting.get(busiest, ())) <= len(self._waiting.get(who, ())) + 1:
            raise Overloaded
        latest = self._waiting[busiest][-1]
        latest.set_exception(Overloaded())
        self._drop(busiest, latest)

    def _drop(self, who: str, turn: asyncio.Future[None]) -> None:
        self._waiting[who].remove(turn)
        self._room += 1
        if not self._waiting[who]:
            del self._waiting[who]

    def _pass_on(self) -> None:
        """Give a free thread to whoever's turn it is."""
        if not self._waiting:
            self._free += 1
            return
        who = next(iter(self._waiting))
        turns = self._waiting.pop(who)
        turns.popleft().set_result(None)
        self._room += 1
        if turns:
            # Back to the end of the line.
            self._waiting[who] = turns

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
