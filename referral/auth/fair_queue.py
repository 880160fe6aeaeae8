"""A queue of work for threads that is fair: what waits is taken in turn by those who wait, so that nobody's flood holds the
others up (fair queueing, round robin)."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


class Overloaded(Exception):
    """Too much waits."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants work done: turns are taken by `name`, and the work is not done once they have `gone`."""

    name: str
    gone: Callable[[], bool] = lambda: False


class FairQueue:
    """Does work in threads; `close()` ends them."""

    def __init__(self, threads: int, limit: int, name: str) -> None:
        """At most `limit` pieces of work are done or wait at a time."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = threads
        self._room = limit - threads
        # Who waits, in the order of their turns, each with what waits, oldest first.
        self._waiting: dict[str, deque[tuple[asyncio.Future[None], Asker]]] = {}

    async def run(self, asker: Asker, work: Callable[[], T]) -> T:
        """What the work returns, which is done in its turn of those of the asker.

        Raises Overloaded when there is no room, and for who has gone. Room is made at the cost of whoever has the most
        waiting and, where all have as much, of one of them by chance: a flood from more askers than there is room for keeps
        others waiting, and not out for good.
        """
        if self._free:
            self._free -= 1
        else:
            await self._wait(asker)
        done = self._pool.submit(work)
        loop = asyncio.get_running_loop()

        def free_thread(_: object) -> None:
            # The loop may have been closed meanwhile.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._pass_on)

        # Not when the caller gives up: the thread goes on.
        done.add_done_callback(free_thread)
        return await asyncio.wrap_future(done)

    async def _wait(self, asker: Asker) -> None:
        if not self._room:
            self._make_room(asker.name)
        turn = asyncio.get_running_loop().create_future()
        self._room -= 1
        self._waiting.setdefault(asker.name, deque()).append((turn, asker))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._drop(turn, asker)
            elif turn.exception() is None:
                self._pass_on()
            raise

    def _make_room(self, name: str) -> None:
        for turn, asker in [each for turns in self._waiting.values() for each in turns if each[1].gone()]:
            self._refuse(turn, asker)
        if self._room:
            return
        most = max(map(len, self._waiting.values()), default=0)
        own = len(self._waiting.get(name, ())) + 1
        if own > most:
            raise Overloaded
        busiest = [other for other, turns in self._waiting.items() if len(turns) == most and other != name]
        self._refuse(*self._waiting[random.choice(busiest)][-1])

    def _refuse(self, turn: asyncio.Future[None], asker: Asker) -> None:
        turn.set_exception(Overloaded())
        self._drop(turn, asker)

    def _drop(self, turn: asyncio.Future[None], asker: Asker) -> None:
        turns = self._waiting[asker.name]
        turns.remove((turn, asker))
        self._room += 1
        if not turns:
            del self._waiting[asker.name]

    def _pass_on(self) -> None:
        """Give a free thread to whoever's turn it is."""
        while self._waiting:
            name = next(iter(self._waiting))
            turns = self._waiting.pop(name)
            turn, asker = turns.popleft()
            self._room += 1
            if turns:
                # Back to the end of the line.
                self._waiting[name] = turns
            if not asker.gone():
                turn.set_result(None)
                return
            turn.set_exception(Overloaded())
        self._free += 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
