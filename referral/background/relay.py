"""The relay gives each announced change its place in the feed, in one line for all workers.

Transactions commit in another order than they begin, and a follower must never pass a change that is still to appear. So a
change has no number while its transaction lasts. Once that is committed, the relay gives the number, and holds the feed's
row from before it reads what waits until its own commit: whoever sees a number has seen, or can see, all smaller ones.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from aiohttp import web

from referral.background.loop import work_for_ever
from referral.contract.schemas.changes import matches
from referral.database import Connection, Database
from referral.queries import changes, deliveries, webhooks
from referral.queries.changes import Announced

# Changes of one transaction.
BATCH = 500
# How long what another process announced may go unnoticed, in seconds: a command, or a worker that was killed.
LONGEST_SLEEP = 2.0
# Between two transactions, in seconds: what is announced meanwhile shares the next one.
PAUSE = 0.05
# While somebody waits for changes, how often it is looked whether another process has told any, in seconds.
WATCH = 0.5


class Relay:
    """Moves announced changes to the feed, queues them for webhooks, and wakes those who wait for either. `deliver` is
    called with the ids of webhooks to which something was queued."""

    def __init__(self, database: Database, deliver: Callable[[set[str]], None] = lambda _: None) -> None:
        self._database = database
        self._deliver = deliver
        self._woken = asyncio.Event()
        self._advanced = asyncio.Event()
        self._is_closed = False
        # The last number that is known to be told, and when it was looked for in the database (the loop's time).
        self._last_seq = 0
        self._looked_at = float("-inf")

    def wake(self) -> None:
        """Call after the commit that announced something."""
        self._woken.set()

    async def run(self) -> None:
        """Move what is announced, for ever."""
        await work_for_ever("changes", self._turn, LONGEST_SLEEP, self._woken)

    async def _turn(self) -> float:
        told = await self.work_off()
        await asyncio.sleep(PAUSE)
        return 0.0 if told else LONGEST_SLEEP

    async def work_off(self) -> int:
        """Move up to BATCH changes, and return how many those were."""
        async with self._database.reader() as conn:
            if await changes.find_first_announcement(conn) is None:
                return 0
        async with self._database.transaction() as conn:
            last_seq = await changes.lock_feed(conn)
            announced = await changes.list_announcements(conn, BATCH)
            queued = await self._tell(conn, announced, last_seq) if announced else set()
        self._note(last_seq + len(announced))
        if queued:
            self._deliver(queued)
        return len(announced)

    async def _tell(self, conn: Connection, announced: list[Announced], last_seq: int) -> set[str]:
        counts = Counter(change.subject_id for change in announced)
        versions = {
            subject.subject_id: subject.version - counts[subject.subject_id]
            for subject in await changes.count_changes_of_subjects(conn, counts)
        }
        numbers = []
        for seq, change in enumerate(announced, last_seq + 1):
            versions[change.subject_id] += 1
            numbers.append({"number": change.number, "seq": seq, "version": versions[change.subject_id]})
        await changes.insert_changes(conn, numbers)
        await changes.delete_announcements(conn, numbers)
        await changes.advance_feed(conn, last_seq + len(announced))
        return await self._queue_deliveries(
            conn, {one["seq"]: change.type for one, change in zip(numbers, announced, strict=True)}
        )

    async def _queue_deliveries(self, conn: Connection, types: dict[int, str]) -> set[str]:
        """Have these changes sent to whoever wants them; returns the ids of those webhooks."""
        queued = [
            {"seq": seq, "webhook_id": webhook.id}
            for webhook in await webhooks.hold_enabled_webhooks(conn)
            for seq, kind in types.items()
            if matches(webhook.patterns, kind)
        ]
        if queued:
            await deliveries.insert_deliveries(conn, queued)
        return {str(one["webhook_id"]) for one in queued}

    async def wait_beyond(self, seq: int, seconds: float) -> None:
        """Wait until there are changes behind this number, but no longer than so many seconds. No connection to the database
        is held meanwhile, and one of those who wait looks for all of them. Raises DatabaseUnavailable."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._last_seq <= seq and not self._is_closed and (left := end - loop.time()) > 0:
            advanced = self._advanced
            if loop.time() - self._looked_at >= WATCH:
                self._looked_at = loop.time()
                async with self._database.reader() as conn:
                    self._note((await changes.find_feed(conn)).last_seq)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, WATCH)):
                    await advanced.wait()

    def _note(self, last_seq: int) -> None:
        if last_seq > self._last_seq:
            self._last_seq = last_seq
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        self._advanced.set()
        self._advanced = asyncio.Event()

    def close(self) -> None:
        """Nobody waits any longer: the service is about to stop."""
        self._is_closed = True
        self._wake_waiters()


RELAY = web.AppKey("relay", Relay)
