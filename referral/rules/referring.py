"""Who comes by whom: the one way to use a code."""

from referral.changes import code_change
from referral.contract.problems import Problem, translated
from referral.database import Connection, TransactionConflict
from referral.queries import codes, locks, product_users, referrals, users
from referral.rules.accounts import erased
from referral.rules.event_contexts import own_context, traces_of
from referral.rules.suspecting import Joined, suspect_referral
from referral.rules.work import Work


async def come_by(work: Work, user_id: str, code: str) -> codes.UsedCode:
    """Let the user who makes the request come by the owner of a code, as `refer` does. Raises as `refer`."""
    await locks.lock_referrers(work.conn)
    # An account that ends takes its referral back at this very moment, if nobody has verified its address.
    await work.hold_caller()
    used = await refer(work, user_id, code)
    user = await product_users.find_product_user(work.conn, user_id)
    if user is not None:
        traces = await traces_of(work, own_context(work.request), work.moment)
        await suspect_referral(work, user, used.referrer_id, Joined(at=work.moment, click=None, is_new=False), traces)
    return used


async def refer(work: Work, user_id: str, code: str, source: referrals.Source = "code") -> codes.UsedCode:
    """Let the user come by the owner of a code, for good, and count one use of the code; `source` is by what they came.

    The steps always have this order: the owner's row, the code, the referral. In any other order two transactions could
    deadlock. From the first step on, everybody who comes by the same owner waits for this transaction. Before it, the user
    is locked and, before that and unless they were made in this very transaction, the graph of referrals, so that no cycle
    is closed.

    Raises a problem, after which the transaction must be rolled back: `referral-code-invalid`, `own-code`,
    `referrer-already-set`, `known-address` or `referral-cycle`.
    """
    conn = work.conn
    own = Problem("own-code", "The code is your own: nobody comes by themselves.")
    refused = {
        "referrals_pkey": Problem("referrer-already-set", "You have a referrer already, and for good."),
        "referrals_not_self": own,
    }
    counted = await users.increment_referral_count(conn, code)
    used = await codes.use_code(conn, code, work.moment) if counted else None
    if used is None:
        found = await codes.find_code(conn, code)
        if found and found.referrer_id == user_id:
            raise own
        raise _refusal(found, work.moment, is_suspended=await _is_suspended(conn, found))
    with translated(refused):
        if not await referrals.insert_referral(conn, user_id, used.referrer_id, used.code, work.moment, source):
            if await users.find_contact(conn, user_id) is None:
                raise erased()
            if not await users.is_attributable(conn, user_id):
                raise Problem("known-address", "Your e-mail address had an account before, so that you come by nobody.")
            raise Problem("referral-cycle", "The code's owner came by you, directly or through others.")
    work.announce_referral("referral.created", user_id, used.referrer_id)
    _end_if_exhausted(work, used)
    return used


async def come_first(
    work: Work, user_id: str, code: codes.OwnedCode, source: referrals.Source
) -> tuple[referrals.Owner, referrals.Standing]:
    """Let a user whom this transaction makes come by the owner of a code, as far as one can before it is used.

    From here on everybody who comes by the same owner waits. `use_last` follows, with as little as can be between them. The
    owner's row is the first of those that others want, as in `refer`. Returns the owner, and how the referral stands. Raises
    `referral-code-invalid`.
    """
    owner = await referrals.insert_first_referral(work.conn, user_id, code.referrer_id, code.code, work.moment, source)
    if owner is None:
        raise _refusal(code, work.moment, is_suspended=True)
    return owner, referrals.Standing(owner.id, work.moment, source, "none", 0, None, owner.converted_count, None, None, None)


async def use_last(work: Work, code: codes.OwnedCode) -> None:
    """Count the referral that `come_first` has made, and one use of the code, behind everything else. Raises
    `referral-code-invalid` when it has none left, after which the transaction must be rolled back."""
    await users.add_to_referral_count(work.conn, code.referrer_id)
    used = await codes.use_code(work.conn, code.code, work.moment)
    if used is None:
        raise _refusal(await codes.find_code(work.conn, code.code), work.moment, is_suspended=False)
    _end_if_exhausted(work, used)


def _end_if_exhausted(work: Work, used: codes.UsedCode) -> None:
    if used.is_exhausted:
        work.invalidates_code(used.code)
        # The owner is locked, and not suspended.
        work.announce(code_change("code.ended", used, used.referrer_id, work.moment))


async def check_code(conn: Connection, code: str, moment: int) -> codes.OwnedCode:
    """The code of this text. Raises `referral-code-invalid` for one that is not active at `moment` (ms). One that is may
    have ended when it is used."""
    found = await codes.find_told_code(conn, code)
    is_suspended = found is not None and found.suspended_at is not None
    if found is None or is_suspended or found.status(moment) != "active":
        raise _refusal(found, moment, is_suspended=is_suspended)
    return found


async def _is_suspended(conn: Connection, found: codes.OwnedCode | None) -> bool:
    owner = await users.find_contact(conn, found.referrer_id) if found else None
    return owner is not None and owner.suspended_at is not None


def _refusal(found: codes.OwnedCode | None, moment: int, *, is_suspended: bool) -> Problem:
    """The problem of a code that could not be used at `moment` (ms), with the reason; whether its owner `is_suspended`.

    Raises TransactionConflict when the code could be used by now: then the request is made again.
    """
    if found is None:
        return Problem("referral-code-invalid", "There is no such referral code.", reason="unknown")
    reason = found.status(moment)
    if reason == "active" and is_suspended:
        reason = "suspended"
    if reason == "active":
        raise TransactionConflict("the code's owner has just brought it back to life")
    sentences = {
        "expired": "The referral code has expired.",
        "revoked": "The referral code was ended by its owner.",
        "exhausted": "The referral code has been used as often as it may be.",
        "suspended": "The account that the referral code belongs to is suspended.",
    }
    return Problem("referral-code-invalid", sentences[reason], reason=reason)
