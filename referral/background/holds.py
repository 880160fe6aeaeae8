"""Holds end by themselves: pending rewards are released, and reservations are given back, each exactly once.

A batch is one transaction: it claims rows that are due, changes the state of each on condition of the former one, and moves
the money. Workers that run at once pass over each other's rows, and a batch that is rolled back is due as before.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from referral import clock
from referral.background.loop import work_for_ever
from referral.background.relay import Relay
from referral.changes import Change, announce, balance_changes, redemption_change, reward_change
from referral.database import Connection, ConstraintViolation, Database, TransactionConflict
from referral.ledger import Movement, move
from referral.queries import ledger, rewards
from referral.queries.ledger import Redemption
from referral.queries.rewards import Reward

log = logging.getLogger(__name__)

# How long a hold may end unnoticed that another process made, in seconds.
LONGEST_SLEEP = 4.0
# Rows of one transaction: the database is not kept from others for long.
BATCH = 100
# Between two batches, so that requests get their turn, in seconds.
PAUSE = 0.002


class HoldWorker:
    """Ends holds when their times come. Nobody has to wake it: it looks every few seconds."""

    def __init__(self, database: Database, relay: Relay) -> None:
        self._database = database
        self._relay = relay

    async def run(self) -> None:
        """End holds that are due, for ever."""
        await work_for_ever("holds", self._turn, LONGEST_SLEEP)

    async def _turn(self) -> float:
        await self.work_off()
        return await self._pause()

    async def work_off(self) -> int:
        """End all holds that are due, and return how many rows that were."""
        ended, size = 0, BATCH
        while True:
            try:
                found = await self._end_some(size)
            except TransactionConflict:
                await asyncio.sleep(PAUSE)
                continue
            except ConstraintViolation:
                if size == 1:
                    raise
                # One of them cannot be released: they go one by one, and that one is left alone.
                size = 1
                continue
            if not found:
                return ended
            ended += found
            self._relay.wake()
            await asyncio.sleep(PAUSE)

    async def _end_some(self, size: int) -> int:
        now = clock.now()
        async with self._database.reader() as conn:
            next_reward = await rewards.find_next_due_reward(conn)
            next_redemption = await ledger.find_next_due_redemption(conn)
        found = 0
        if next_reward is not None and next_reward <= now:
            found += await self._release_some(now, size)
        if next_redemption is not None and next_redemption <= now:
            async with self._database.transaction() as conn:
                due = await ledger.claim_due_redemptions(conn, now, size)
                # Accounts are taken in one order, by whoever takes several.
                told: list[Change] = []
                for redemption in sorted(due, key=lambda one: (one.user_id, one.unit)):
                    told += await give_back(conn, redemption, now)
                await announce(conn, told, now)
            found += len(due)
        return found

    async def _release_some(self, now: int, size: int) -> int:
        claimed: list[Reward] = []
        try:
            async with self._database.transaction() as conn:
                claimed = await rewards.claim_due_rewards(conn, now, size)
                kept = [reward for reward in claimed if reward.suspended_at is not None or reward.review == "open"]
                for reward in kept:
                    # If what kept it has just ended, it stays due, and the next batch releases it.
                    await rewards.park_waiting_reward(conn, reward.id)
                released = await release(conn, [reward for reward in claimed if reward not in kept], now)
                await announce(conn, released, now)
        except ConstraintViolation as violation:
            if size > 1 or not claimed:
                raise
            log.error("reward %s cannot be released and is left alone: %s", claimed[0].id, violation)
            async with self._database.transaction() as conn:
                await rewards.park_reward(conn, claimed[0].id)
        return len(claimed)

    async def _pause(self) -> float:
        async with self._database.reader() as conn:
            times = (await rewards.find_next_due_reward(conn), await ledger.find_next_due_redemption(conn))
        due = min((time for time in times if time is not None), default=None)
        return LONGEST_SLEEP if due is None else min(max((due - clock.now()) / 1000, 0.0), LONGEST_SLEEP)


async def release(conn: Connection, due: Sequence[Reward], now: int) -> list[Change]:
    """Approve pending rewards whose rows are this transaction's, and make what is left of them available: those that are
    pending no more are left as they are. Returns what is to be announced. Raises ConstraintViolation for sums that the
    ledger cannot hold."""
    approved = set(await rewards.approve_rewards(conn, [reward.id for reward in due], now))
    movements = [
        Movement(
            "approval",
            reward.id,
            reward.user_id,
            reward.unit,
            ("pending", "available"),
            reward.value - reward.reversed,
            reward_id=reward.id,
        )
        for reward in due
        if reward.id in approved and reward.kind == rewards.BALANCE and reward.unit is not None and reward.value is not None
    ]
    moved = await move(conn, movements, now)
    told = [
        reward_change("reward.approved", replace(reward, status=rewards.APPROVED, approved_at=now, needs_approval=0), now)
        for reward in due
        if reward.id in approved
    ]
    return [*told, *balance_changes(moved)]


async def give_back(conn: Connection, redemption: Redemption, now: int) -> list[Change]:
    """End a reservation whose row is this transaction's, and make what it held available, unless it has ended already.
    Returns what is to be announced."""
    if not await ledger.end_redemption(conn, redemption.id, ledger.RESERVED, ledger.RELEASED):
        return []
    back = Movement(
        "release",
        redemption.id,
        redemption.user_id,
        redemption.unit,
        ("reserved", "available"),
        redemption.amount,
        redemption_id=redemption.id,
    )
    moved = await move(conn, [back], now)
    ended = replace(redemption, status=ledger.RELEASED, due_at=None)
    return [redemption_change("redemption.cancelled", ended, moved[0]), *balance_changes(moved)]
