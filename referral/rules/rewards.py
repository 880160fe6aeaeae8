"""What becomes of rewards: approved, voided, fulfilled, reversed. Each step moves its money by a transfer, or not at all.

Whoever changes a reward has locked its row, so that each step starts from the state that it asks for.
"""

import uuid

from referral.background.holds import release
from referral.contract.problems import Problem, invalid
from referral.database import ConstraintViolation
from referral.ledger import BOUNDS, Account, Kind, move
from referral.queries import locks, rewards, rules
from referral.queries.events import ReportedEvent
from referral.queries.rewards import APPROVED, FULFILLED, PENDING, REVERSED, VOID, Reward
from referral.rules.money import remains
from referral.rules.rewarding import sum_too_large
from referral.rules.work import Work

# Why a refund ended a reward.
REFUNDED = "refunded"


def no_such_reward() -> Problem:
    return Problem("not-found", "There is no such reward.")


def reward_id_of(text: str) -> str:
    """The id that a path names. Raises `not-found` for what is none."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise no_such_reward() from None


async def locked(work: Work, reward_id: str) -> Reward:
    """The reward of this id, which nobody else changes until the end of the transaction. Raises `not-found`."""
    await locks.lock_reward(work.conn, reward_id)
    found = await rewards.find_reward(work.conn, reward_id)
    if found is None:
        raise no_such_reward()
    return found


async def again(work: Work, reward: Reward) -> Reward:
    """The reward as it is now."""
    found = await rewards.find_reward(work.conn, reward.id)
    assert found is not None
    return found


def _refuse(reward: Reward, wanted: str) -> Problem:
    return Problem("reward-state", f"The reward is {reward.status}: {wanted}.")


async def approve(work: Work, reward: Reward, *, at_once: bool) -> bool:
    """Approve a pending reward; its hold goes on unless it ends `at_once`, too. False for one that is approved already.
    Raises `reward-state`."""
    if reward.status == APPROVED:
        return False
    if reward.status != PENDING:
        raise _refuse(reward, "only a pending one is approved")
    release_at = min(reward.release_at, work.moment) if at_once else reward.release_at
    is_kept = reward.suspended_at is not None or reward.review == "open"
    if release_at > work.moment or is_kept:
        await rewards.remember_approval(work.conn, reward.id, release_at, None if is_kept else release_at)
        return True
    try:
        await release(work.conn, reward, work.moment)
    except ConstraintViolation as violation:
        if violation.constraint == BOUNDS:
            raise sum_too_large() from None
        raise
    return True


async def reject(work: Work, reward: Reward, reason: str) -> bool:
    """Void a pending reward, and give back what it took of its rule's limits. False for one that is void already. The rules
    are held. Raises `reward-state`."""
    if reward.status == VOID:
        return False
    if reward.status != PENDING:
        raise _refuse(reward, "only a pending one is rejected; one that was approved is reversed")
    await _void(work, reward, reward.reversed, reason, "void", reward.id)
    return True


async def fulfil(work: Work, reward: Reward, reference: str | None) -> bool:
    """Note that the product delivered an approved coupon, or what is custom. False if it did already, by this reference.
    Raises `reward-state`."""
    if reward.status == FULFILLED and reward.reference == reference:
        return False
    if reward.status != APPROVED or reward.kind == rewards.BALANCE:
        wanted = "a balance is redeemed" if reward.kind == rewards.BALANCE else "only an approved one is fulfilled, once"
        raise _refuse(reward, wanted)
    await rewards.fulfil_reward(work.conn, reward.id, reference, work.moment)
    return True


async def reverse(work: Work, reward: Reward, reversal_id: str, amount: int | None, reason: str) -> None:
    """Take back an amount, or all that is left, of a reward that was approved. Raises `reward-state`, and a
    `validation-error` for more than is left."""
    if reward.status not in (APPROVED, FULFILLED):
        raise _refuse(reward, "only what was approved is reversed; a pending one is rejected")
    if reward.value is None:
        if amount is not None:
            raise invalid("/amount", "The reward has no value: it is taken back as a whole.")
        await rewards.take_from_reward(work.conn, reward.id, 0, 0, REVERSED, reason)
        return
    taken = reward.rest if amount is None else amount
    if taken > reward.rest:
        raise invalid("/amount", f"Must be at most {reward.rest}, which is left of the reward.")
    await _claw_back(work, reward, taken, taken, reason, "reversal", reversal_id)


async def refund(work: Work, event: ReportedEvent, refund_id: str, refunded: int) -> list[Reward]:
    """Take from the rewards of an event what refunds of this sum leave none of; returns those that changed. The event's
    user is locked, and the rules are held."""
    assert event.amount is not None
    await locks.lock_rewards_of_event(work.conn, event.id)
    changed = []
    for reward in await rewards.list_rewards_of_event(work.conn, event.id):
        if reward.status in (VOID, REVERSED):
            continue
        if await _refund(work, reward, event.amount, refunded, f"{refund_id} {reward.id}"):
            changed.append(await again(work, reward))
    return changed


async def _refund(work: Work, reward: Reward, amount: int, refunded: int, reference: str) -> bool:
    """Whether anything was taken of the reward, whose event has this amount."""
    value = reward.value
    if value is None:
        if refunded < amount:
            return False
        target = 0
    else:
        rest = remains(value, by_percentage=reward.by_percentage == 1, amount=amount, refunded=refunded)
        target = min(value, reward.reversed_by_hand + value - rest)
        if target == reward.reversed:
            return False
    taken, is_whole = target - reward.reversed, value is None or target == value
    if reward.status != PENDING:
        await _claw_back(work, reward, taken, 0, REFUNDED if is_whole else None, "refund", reference)
    elif is_whole:
        await _void(work, reward, target, REFUNDED, "refund", reference)
    else:
        await rewards.take_from_reward(work.conn, reward.id, target, reward.reversed_by_hand, PENDING, None)
        await _move(work, reward, "refund", reference, ("pending", "programme"), taken)
    return True


async def retract(work: Work, user_id: str, reason: str) -> list[Reward]:
    """Take back whatever a user's referral brought, to either side, because there is no such referral any more; returns what
    changed."""
    await locks.lock_rewards_of_referral(work.conn, user_id)
    changed = []
    for reward in await rewards.list_rewards_of_referral(work.conn, user_id):
        if reward.status == PENDING:
            await _void(work, reward, reward.reversed, reason, "void", reward.id)
        elif reward.status in (APPROVED, FULFILLED):
            await _claw_back(work, reward, reward.rest, 0, reason, "retraction", reward.id)
        else:
            continue
        changed.append(await again(work, reward))
    return changed


async def _void(work: Work, reward: Reward, target: int, reason: str, kind: Kind, reference: str) -> None:
    """End a pending reward, of which `target` was taken by refunds: its money, its ordinal and what it took of its rule's
    limits are given back."""
    conn = work.conn
    await rewards.void_reward(conn, reward.id, target, reason)
    await _move(work, reward, kind, reference, ("pending", "programme"), reward.rest)
    if reward.rule_id is None or reward.referrer_id is None:
        return
    await rules.give_referrers_limit_back(conn, reward.rule_id, reward.referrer_id, reward.created_at)
    if reward.unit is not None and reward.value is not None:
        await rules.give_budget_back(conn, reward.rule_id, reward.unit, reward.created_at, reward.value)


async def _claw_back(
    work: Work, reward: Reward, taken: int, by_hand: int, reason: str | None, kind: Kind, reference: str
) -> None:
    """Take so much of a reward that was approved, `by_hand` of it by somebody. What was spent of it becomes a debt."""
    reversed_sum = reward.reversed + taken
    status = REVERSED if reversed_sum == (reward.value or 0) else reward.status
    by_hand += reward.reversed_by_hand
    await rewards.take_from_reward(
        work.conn, reward.id, reversed_sum, by_hand, status, reason, retracted=kind == "retraction"
    )
    await _move(work, reward, kind, reference, ("available", "programme"), taken)


async def _move(work: Work, reward: Reward, kind: Kind, reference: str, legs: tuple[Account, Account], amount: int) -> None:
    """Move a reward's money, if it has any in the ledger."""
    if reward.kind != rewards.BALANCE or reward.unit is None or amount == 0:
        return
    try:
        await move(work.conn, kind, reference, reward.user_id, reward.unit, legs, amount, work.moment, reward_id=reward.id)
    except ConstraintViolation as violation:
        if violation.constraint == BOUNDS:
            raise sum_too_large() from None
        raise
