"""How reviews are decided: a referral is cleared, and its rewards go on, or rejected, and what it brought is taken back.

Whoever decides has locked the referee, so that of two who decide at once the second sees what the first did. What a
rejection takes back is planned by the very function that foretells it.
"""

from dataclasses import dataclass, replace

from referral.auth.identity import callers_of
from referral.clock import rfc_3339
from referral.contract.problems import Problem
from referral.database import Connection
from referral.ledger import deltas
from referral.queries import events, ledger, locks, referrals, reviews, rewards, users
from referral.queries.ledger import Balance
from referral.queries.reviews import CLEARED, OPEN, REJECTED, Review
from referral.rules.product_users import check_role, lock_known
from referral.rules.rewards import Change, retract, retraction
from referral.rules.suspension import SOON, suspend_known
from referral.rules.work import Work

# What is told of rewards that a rejection takes back. The reviewer's own words are for reviewers.
REASON = "the referral was rejected"


@dataclass(frozen=True, slots=True)
class Preview:
    """What a rejection would do: what would become of rewards, and what each user would have in a unit after it."""

    changes: list[Change]
    balances: list[tuple[str, Balance]]


def no_such_review() -> Problem:
    return Problem("not-found", "There is no review: either nobody came by somebody here, or nothing was suspicious of it.")


async def known_review(conn: Connection, user_id: str) -> Review:
    """The review of a user's referral. Raises `not-found`."""
    found = await reviews.find_review(conn, user_id)
    if found is None:
        raise no_such_review()
    return found


async def preview(conn: Connection, user_id: str) -> Preview:
    """What a rejection of the user's referral would take back, read at one moment (`DATABASE.snapshot()`). Raises
    `not-found`."""
    await known_review(conn, user_id)
    changes = retraction(await rewards.list_rewards_of_referral(conn, user_id), REASON)
    movements = [change.movement for change in changes if change.movement is not None]
    places = sorted({(movement.user_id, movement.unit) for movement in movements})
    balances: dict[tuple[str, str], Balance] = {}
    for place in places:
        found = await ledger.find_balance(conn, *place)
        assert found is not None
        balances[place] = found
    for movement in movements:
        place, change = (movement.user_id, movement.unit), deltas(*movement.legs, movement.amount)
        before = balances[place]
        balances[place] = replace(
            before,
            pending=before.pending + change["pending"],
            available=before.available + change["available"],
            reversed=before.reversed + change["reversed"],
        )
    return Preview(changes, [(user_id, balance) for (user_id, _), balance in balances.items()])


async def clear(work: Work, user_id: str, reason: str) -> Review:
    """Decide that nothing is wrong with the user's referral: its rewards go on, those whose hold is over within seconds.
    Returns the review, which is as it was if it was cleared before. Raises `not-found` and `review-state`."""
    review = await _locked(work, user_id)
    if review.status == CLEARED:
        return review
    _check_open(review)
    conn = work.conn
    await _decide(work, user_id, CLEARED, reason)
    await reviews.set_review(conn, user_id, CLEARED)
    await rewards.resume_rewards_of_referral(conn, user_id, work.moment + SOON)
    work.announce_referral("review.cleared", user_id, review.referrer_id)
    await work.record("review-cleared", user=user_id, referrer_id=review.referrer_id, score=review.score)
    return await known_review(conn, user_id)


async def reject(work: Work, user_id: str, reason: str, *, suspends: bool) -> Review:
    """Decide that the user's referral is a fraud, for good: its rewards are void or taken back from both sides, what it
    converted is given back, and it earns nothing more. The referrer is suspended with it if it `suspends`. Returns the
    review, which is as it was if it was rejected before. Raises `not-found`, `review-state`, `sum-too-large`, and
    `forbidden` for an admin who would suspend themself."""
    review = await _locked(work, user_id)
    if review.status == REJECTED:
        return review
    _check_open(review)
    conn, referrer_id = work.conn, review.referrer_id
    standing = await referrals.find_standing(conn, user_id)
    assert standing is not None
    # The referrer's row comes before rewards, limits and accounts, as it does in events.
    if standing.conversions > 0:
        await referrals.decrement_converted_count(conn, referrer_id)
    is_suspended = suspends and standing.erased_at is None
    if is_suspended:
        await _suspend(work, referrer_id, reason)
    await _decide(work, user_id, REJECTED, reason, suspends=is_suspended)
    await reviews.reject_referral(conn, user_id)
    await events.forget_conversions(conn, user_id)
    work.announce_referral("referral.rejected", user_id, referrer_id)
    await retract(work, user_id, REASON)
    await work.record(
        "review-rejected", user=user_id, referrer_id=referrer_id, score=review.score, suspends=is_suspended or None
    )
    return await known_review(conn, user_id)


async def _locked(work: Work, user_id: str) -> Review:
    """The review of a user's referral, who is locked. Events hold the rules before they lock their user, too."""
    await locks.hold_rules(work.conn)
    await work.hold_caller()
    await locks.lock_user(work.conn, user_id)
    return await known_review(work.conn, user_id)


def _check_open(review: Review) -> None:
    if review.status != OPEN:
        assert review.decided_at is not None
        when = rfc_3339(review.decided_at)
        raise Problem("review-state", f"The referral was {review.status} by {review.decider} at {when}.")


async def _decide(work: Work, user_id: str, status: str, reason: str, *, suspends: bool = False) -> None:
    me, key = callers_of(work.request)
    await reviews.decide_review(
        work.conn,
        user_id,
        status,
        work.moment,
        me.user_id if me is not None else None,
        key.name if key is not None else None,
        reason,
        suspends=suspends,
    )
    await reviews.judge_signals(work.conn, user_id)


async def _suspend(work: Work, referrer_id: str, reason: str) -> None:
    referrer = await lock_known(work, referrer_id)
    await check_role(work, referrer_id)
    contact = users.Contact(
        referrer.id, referrer.email, referrer.username, referrer.email_verified_at, referrer.suspended_at
    )
    await suspend_known(work, contact, referrer.external_id, reason)
