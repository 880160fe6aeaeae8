"""Rewards: statements of `sql/rewards.sql` and, of those that are due, of `sql/holds.*.sql`."""

from dataclasses import dataclass
from typing import Any

import orjson

from referral.database import Connection

PENDING, APPROVED, FULFILLED, VOID, REVERSED = "pending", "approved", "fulfilled", "void", "reversed"
STATUSES = (PENDING, APPROVED, FULFILLED, VOID, REVERSED)
# The kind that moves money in the ledger; the product delivers the others.
BALANCE = "balance"


@dataclass(frozen=True, slots=True)
class NewReward:
    """A reward to insert; times in ms, `value` in the unit's smallest part."""

    id: str
    user_id: str
    kind: str
    label: str | None
    unit: str | None
    value: int | None
    created_at: int
    release_at: int
    status: str
    due_at: int | None
    approved_at: int | None
    needs_approval: int = 0
    by_percentage: int = 0
    side: str | None = None
    rule_id: str | None = None
    rule_version: int | None = None
    event_id: str | None = None
    referral_user_id: str | None = None
    referrer_id: str | None = None
    ordinal: int | None = None
    times: int | None = None
    reason: str | None = None
    caller_id: str | None = None
    body_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward as it is kept, with what keeps it waiting: `review` of its referral, and when its user was suspended (ms).
    `definition` is its rule's, as JSON text."""

    id: str
    user_id: str
    side: str | None
    kind: str
    label: str | None
    unit: str | None
    value: int | None
    by_percentage: int
    reversed: int
    reversed_by_hand: int
    status: str
    rule_id: str | None
    rule_version: int | None
    definition: str | None
    event_id: str | None
    referral_user_id: str | None
    referrer_id: str | None
    needs_approval: int
    release_at: int
    created_at: int
    approved_at: int | None
    fulfilled_at: int | None
    reason: str | None
    reference: str | None
    caller_id: str | None
    body_hash: str | None
    review: str | None = None
    suspended_at: int | None = None

    @property
    def rest(self) -> int:
        """What is left of its value."""
        return (self.value or 0) - self.reversed


@dataclass(frozen=True, slots=True)
class Reversal:
    """What somebody took back of a reward; `outcome` as JSON text."""

    id: str
    reward_id: str
    amount: int | None
    outcome: str
    body_hash: str | None


async def insert_reward(conn: Connection, reward: NewReward) -> None:
    """One by hand whose `caller_id` was used before violates rewards_caller_id. This is deferred."""
    conn.defer("insert_reward", **{name: getattr(reward, name) for name in NewReward.__slots__})


async def find_reward(conn: Connection, reward_id: str) -> Reward | None:
    return await conn.one("find_reward", Reward, reward_id=reward_id)


async def find_reward_by_caller_id(conn: Connection, caller_id: str) -> Reward | None:
    return await conn.one("find_reward_by_caller_id", Reward, caller_id=caller_id)


async def list_rewards_of_event(conn: Connection, event_id: str) -> list[Reward]:
    return await conn.page("list_rewards_of_event", Reward, event_id=event_id)


async def list_rewards_of_referral(conn: Connection, user_id: str) -> list[Reward]:
    """Those that this user's referral brought, to either side."""
    return await conn.page("list_rewards_of_referral", Reward, user_id=user_id)


async def list_rewards(conn: Connection, before: str, limit: int) -> list[Reward]:
    """Rewards made before the one of this id, newest first."""
    return await conn.page("list_rewards", Reward, before_id=before, page_size=limit)


async def list_rewards_of_user(
    conn: Connection,
    user_id: str,
    rule_id: str | None,
    event_id: str | None,
    status: str | None,
    before: tuple[int, str],
    limit: int,
) -> list[Reward]:
    """Those of a user that were made before the cursor (time in ms, id), newest first; None for what does not matter."""
    return await conn.page(
        "list_rewards_of_user",
        Reward,
        user_id=user_id,
        rule_id=rule_id,
        event_id=event_id,
        status=status,
        before_time=before[0],
        before_id=before[1],
        page_size=limit,
    )


async def list_rewards_of_rule(
    conn: Connection, rule_id: str, status: str | None, before: tuple[int, str], limit: int
) -> list[Reward]:
    return await conn.page(
        "list_rewards_of_rule",
        Reward,
        rule_id=rule_id,
        status=status,
        before_time=before[0],
        before_id=before[1],
        page_size=limit,
    )


async def list_rewards_in_state(conn: Connection, status: str, before: tuple[int, str], limit: int) -> list[Reward]:
    return await conn.page(
        "list_rewards_in_state", Reward, status=status, before_time=before[0], before_id=before[1], page_size=limit
    )


async def count_rewards(conn: Connection, most: int) -> int:
    """How many rewards there are, counted up to `most`."""
    return await conn.value("count_rewards", int, sample_size=most) or 0


async def count_rewards_of_user(
    conn: Connection, user_id: str, rule_id: str | None, event_id: str | None, status: str | None, most: int
) -> int:
    found = await conn.value(
        "count_rewards_of_user",
        int,
        user_id=user_id,
        rule_id=rule_id,
        event_id=event_id,
        status=status,
        sample_size=most,
    )
    return found or 0


async def count_rewards_of_rule(conn: Connection, rule_id: str, status: str | None, most: int) -> int:
    found = await conn.value("count_rewards_of_rule", int, rule_id=rule_id, status=status, sample_size=most)
    return found or 0


async def count_rewards_in_state(conn: Connection, status: str, most: int) -> int:
    return await conn.value("count_rewards_in_state", int, status=status, sample_size=most) or 0


async def approve_rewards(conn: Connection, reward_ids: list[str], now: int) -> list[str]:
    """Those of them that were pending."""
    return await conn.values("approve_rewards", str, reward_ids=orjson.dumps(reward_ids).decode(), now=now)


async def remember_approval(conn: Connection, reward_id: str, release_at: int, due_at: int | None) -> None:
    """Somebody approved a pending reward, which waits on for its release (ms)."""
    await conn.run("remember_approval", reward_id=reward_id, release_at=release_at, due_at=due_at)


async def update_rewards(conn: Connection, changes: list[dict[str, Any]]) -> None:
    """Set what was taken of rewards and what became of them: `id`, `status`, `reversed`, `reversed_by_hand`, `retracted` and
    `keeps_ordinal` (0 or 1), and `reason`, of which None leaves the one that there is."""
    await conn.run("update_rewards", changes=orjson.dumps(changes).decode())


async def fulfil_reward(conn: Connection, reward_id: str, reference: str | None, now: int) -> bool:
    """False for one that is not approved."""
    return await conn.value("fulfil_reward", str, reward_id=reward_id, reference=reference, now=now) is not None


async def find_next_due_reward(conn: Connection) -> int | None:
    return await conn.value("find_next_due_reward", int)


async def claim_due_rewards(conn: Connection, now: int, batch_size: int) -> list[Reward]:
    """Rewards whose time has come; their rows are this transaction's until its end."""
    return await conn.page("claim_due_rewards", Reward, now=now, batch_size=batch_size)


async def park_waiting_reward(conn: Connection, reward_id: str) -> None:
    """Leave alone a due reward of a suspended user, or of a referral under review, unless that has just ended."""
    await conn.run("park_waiting_reward", reward_id=reward_id)


async def park_reward(conn: Connection, reward_id: str) -> None:
    await conn.run("park_reward", reward_id=reward_id)


async def resume_rewards_of_user(conn: Connection, user_id: str, soon: int) -> None:
    """What kept the user's rewards has ended: those that were left alone, or are due until then (ms), are due at their
    times."""
    await conn.run("resume_rewards_of_user", user_id=user_id, soon=soon)


async def resume_rewards_of_referral(conn: Connection, user_id: str, soon: int) -> None:
    """As `resume_rewards_of_user`, those that this user's referral brought, whose review has ended."""
    await conn.run("resume_rewards_of_referral", user_id=user_id, soon=soon)


async def forget_rewards_of_user(conn: Connection, user_id: str) -> None:
    await conn.run("forget_rewards_of_user", user_id=user_id)


async def insert_reversal(
    conn: Connection,
    reversal_id: str,
    reward_id: str,
    amount: int | None,
    reason: str,
    now: int,
    outcome: str,
    body_hash: str,
) -> None:
    """Violates reversals_pkey when the id is taken."""
    await conn.run(
        "insert_reversal",
        id=reversal_id,
        reward_id=reward_id,
        amount=amount,
        reason=reason,
        now=now,
        outcome=outcome,
        body_hash=body_hash,
    )


async def forget_reversals_of_user(conn: Connection, user_id: str) -> None:
    await conn.run("forget_reversals_of_user", user_id=user_id)


async def find_reversal(conn: Connection, reversal_id: str) -> Reversal | None:
    return await conn.one("find_reversal", Reversal, id=reversal_id)
