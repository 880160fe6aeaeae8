"""Announces that codes have ended by time: nobody ends them, so that no transaction of a request can.

A batch is one transaction. It keeps its codes as they are, announces them, and notes how far that was done, so that each
expiry is told once by however many workers. A code that gets another expiry has another place in the order.
"""

from referral import clock
from referral.background.loop import work_for_ever
from referral.background.relay import Relay
from referral.changes import announce, code_change
from referral.database import Connection, Database, committed
from referral.queries import code_expiries, locks
from referral.queries.code_expiries import Expiry

# How long an expiry may go untold that was set meanwhile, in seconds.
LONGEST_SLEEP = 5.0
# Codes of one transaction.
BATCH = 100


class ExpiryWorker:
    """Looks every few seconds which codes have expired."""

    def __init__(self, database: Database, relay: Relay) -> None:
        self._database = database
        self._relay = relay

    async def run(self) -> None:
        """Announce expired codes, for ever."""
        await work_for_ever("expired codes", self._turn, LONGEST_SLEEP)

    async def _turn(self) -> float:
        while await self.work_off():
            pass
        return await self._pause()

    async def work_off(self) -> int:
        """Announce up to BATCH codes that have expired, and return how many those were."""
        now = clock.now()
        async with self._database.reader() as conn:
            told = await code_expiries.find_told_expiry(conn)
            due = await code_expiries.find_next_expiry(conn, told)
        if told.expires_at <= now and (due is None or due > now):
            return 0
        count = await committed(self._database, lambda conn: self._tell(conn, now))
        if count:
            self._relay.wake()
        return count

    async def _tell(self, conn: Connection, now: int) -> int:
        await locks.lock_code_expiries(conn)
        told = await code_expiries.find_told_expiry(conn)
        if told.expires_at > now:
            # The clock was set back: what expires from now on is to be told.
            await code_expiries.update_told_expiry(conn, Expiry(now, ""))
            return 0
        found = await code_expiries.list_expired_codes(conn, told, now, BATCH)
        if found:
            # Of one that was used up it was told when that happened.
            ended = [code for code in found if code.max_uses is None or code.uses < code.max_uses]
            await announce(conn, [code_change("code.ended", code, code.referrer_id, now) for code in ended], now)
            await code_expiries.update_told_expiry(conn, Expiry(found[-1].expires_at, found[-1].code))
        return len(found)

    async def _pause(self) -> float:
        async with self._database.reader() as conn:
            due = await code_expiries.find_next_expiry(conn, await code_expiries.find_told_expiry(conn))
        return LONGEST_SLEEP if due is None else min(max((due - clock.now()) / 1000, 0.0), LONGEST_SLEEP)
