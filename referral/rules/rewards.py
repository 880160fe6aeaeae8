"""What becomes of rewards: approved, voided, fulfilled, reversed. Each step moves its money by a transfer, or not at all.

Whoever changes a reward has locked its row, so that each step starts from the state that it asks for.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from referral.background.holds import release
from referral.changes import balance_changes, reward_change
from referral.contract.problems import Problem, invalid, translated
from referral.contract.schemas.rewards import REFUNDED
from referral.ledger import Account, Kind, Movement, move
from referral.queries import locks, rewards, rules
from referral.queries.events import ReportedEvent
from referral.queries.rewards import APPROVED, FULFILLED, PENDING, REVERSED, VOID, Reward
from referral.rules.money import remains
from referral.rules.rewarding import BOUNDS_PASSED
from referral.rules.work import Work

# What is told of rewards whose referral is taken back as if it had never been.
RETRACTED = "the referral was taken back"


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a reward: its state, what was taken of it in all and by hand of that, and the movement of its money. A
    reason of None leaves the one that it has."""

    reward: Reward
    status: str
    reversed: int
    reversed_by_hand: int
    reason: str | None
    movement: Movement | None
    is_retracted: bool = False


def no_such_reward() -> Problem:
    return Problem("not-found", "There is no such reward.")


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
    with translated(BOUNDS_PASSED):
        work.announce(*await release(work.conn, [reward], work.moment))
    return True


async def reject(work: Work, reward: Reward, reason: str) -> bool:
    """Void a pending reward, and give back what it took of its rule's limits. False for one that is void already. The rules
    are held. Raises `reward-state`."""
    if reward.status == VOID:
        return False
    if reward.status != PENDING:
        raise _refuse(reward, "only a pending one is rejected; one that was approved is reversed")
    await _apply(work, [_void(reward, reward.reversed, reason, "void", reward.id)])
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
    fulfilled = replace(reward, status=FULFILLED, reference=reference, fulfilled_at=work.moment)
    work.announce(reward_change("reward.fulfilled", fulfilled, work.moment))
    return True


async def reverse(work: Work, reward: Reward, reversal_id: str, amount: int | None, reason: str) -> None:
    """Take back an amount, or all that is left, of a reward that was approved. Raises `reward-state`, and a
    `validation-error` for more than is left."""
    if reward.status not in (APPROVED, FULFILLED):
        raise _refuse(reward, "only what was approved is reversed; a pending one is rejected")
    if reward.value is None:
        if amount is not None:
            raise invalid("/amount", "The reward has no value: it is taken back as a whole.")
        await _apply(work, [_claw_back(reward, 0, 0, reason, "reversal", reversal_id)])
        return
    taken = reward.rest if amount is None else amount
    if taken > reward.rest:
        raise invalid("/amount", f"Must be at most {reward.rest}, which is left of the reward.")
    await _apply(work, [_claw_back(reward, taken, taken, reason, "reversal", reversal_id)])


async def refund(work: Work, event: ReportedEvent, refund_id: str, refunded: int) -> list[Reward]:
    """Take from the rewards of an event what refunds of this sum leave none of; returns those that changed. The event's
    user is locked, and the rules are held."""
    assert event.amount is not None
    await locks.lock_rewards_of_event(work.conn, event.id)
    changes = []
    for reward in await rewards.list_rewards_of_event(work.conn, event.id):
        if reward.status not in (VOID, REVERSED):
            change = _refund(reward, event.amount, refunded, f"{refund_id} {reward.id}")
            if change is not None:
                changes.append(change)
    if not changes:
        return []
    await _apply(work, changes)
    changed = {change.reward.id for change in changes}
    return [reward for reward in await rewards.list_rewards_of_event(work.conn, event.id) if reward.id in changed]


def _refund(reward: Reward, amount: int, refunded: int, reference: str) -> Change | None:
    """What is taken of the reward, whose event has this amount; None if nothing is."""
    value = reward.value
    if value is None:
        if refunded < amount:
            return None
        target = 0
    else:
        rest = remains(value, by_percentage=reward.by_percentage == 1, amount=amount, refunded=refunded)
        target = min(value, reward.reversed_by_hand + value - rest)
        if target == reward.reversed:
            return None
    taken, is_whole = target - reward.reversed, value is None or target == value
    if reward.status != PENDING:
        return _claw_back(reward, taken, 0, REFUNDED if is_whole else None, "refund", reference)
    if is_whole:
        return _void(reward, target, REFUNDED, "refund", reference)
    movement = _movement(reward, "refund", reference, ("pending", "programme"), taken)
    return Change(reward, PENDING, target, reward.reversed_by_hand, None, movement)


async def retract(work: Work, user_id: str, reason: str) -> None:
    """Take back whatever a user's referral brought, to either side, because there is no such referral any more. The rules
    are held."""
    await locks.lock_rewards_of_referral(work.conn, user_id)
    changes = retraction(await rewards.list_rewards_of_referral(work.conn, user_id), reason)
    if changes:
        await _apply(work, changes)


def retraction(found: Iterable[Reward], reason: str) -> list[Change]:
    """What becomes of all rewards of a referral that is taken back or rejected. Pure, so that it can be foretold: what is
    pending is void, and of what was approved all that is left is taken."""
    return [
        _void(reward, reward.reversed, reason, "void", reward.id)
        if reward.status == PENDING
        else _claw_back(reward, reward.rest, 0, reason, "retraction", reward.id)
        for reward in found
        if reward.status in (PENDING, APPROVED, FULFILLED)
    ]


def _void(reward: Reward, target: int, reason: str, kind: Kind, reference: str) -> Change:
    """The end of a pending reward, of which `target` was taken by refunds: its money, its ordinal and what it took of its
    rule's limits are given back."""
    movement = _movement(reward, kind, reference, ("pending", "programme"), reward.rest)
    return Change(reward, VOID, target, reward.reversed_by_hand, reason, movement)


def _claw_back(reward: Reward, taken: int, by_hand: int, reason: str | None, kind: Kind, reference: str) -> Change:
    """So much is taken of a reward that was approved, `by_hand` of it by somebody. What was spent of it becomes a debt."""
    target = reward.reversed + taken
    return Change(
        reward,
        REVERSED if target == (reward.value or 0) else reward.status,
        target,
        reward.reversed_by_hand + by_hand,
        reason,
        _movement(reward, kind, reference, ("available", "programme"), taken),
        is_retracted=kind == "retraction",
    )


def _movement(reward: Reward, kind: Kind, reference: str, legs: tuple[Account, Account], amount: int) -> Movement | None:
    """The movement of a reward's money, if it has any in the ledger."""
    if reward.kind != rewards.BALANCE or reward.unit is None or amount == 0:
        return None
    return Movement(kind, reference, reward.user_id, reward.unit, legs, amount, reward_id=reward.id)


async def _apply(work: Work, changes: list[Change]) -> None:
    """Make changes of rewards whose rows are this transaction's: first what they become, then the limits, then the
    accounts, in the order in which events take them. Raises `sum-too-large`."""
    conn = work.conn
    await rewards.update_rewards(
        conn,
        [
            {
                "id": change.reward.id,
                "status": change.status,
                "reversed": change.reversed,
                "reversed_by_hand": change.reversed_by_hand,
                "retracted": int(change.is_retracted),
                "reason": change.reason,
                "keeps_ordinal": int(change.status != VOID and not change.is_retracted),
            }
            for change in changes
        ],
    )
    given = [
        {
            "rule_id": change.reward.rule_id,
            "referrer_id": change.reward.referrer_id,
            "unit": change.reward.unit,
            "value": change.reward.value,
            "made_at": change.reward.created_at,
        }
        for change in changes
        if change.status == VOID and change.reward.rule_id is not None
    ]
    if given:
        await locks.lock_usage(conn, given)
        await rules.give_limits_back(conn, given)
    with translated(BOUNDS_PASSED):
        moved = await move(conn, [change.movement for change in changes if change.movement is not None], work.moment)
    for change in changes:
        changed = replace(
            change.reward,
            status=change.status,
            reversed=change.reversed,
            reason=change.reward.reason if change.reason is None else change.reason,
        )
        work.announce(reward_change("reward.voided" if change.status == VOID else "reward.reversed", changed, work.moment))
    work.announce(*balance_changes(moved))
