"""Attribution: by whom a user came, as the code or click of an event says. A bad one is no error: it causes nothing, and the
answer says why."""

from typing import NamedTuple

from referral.clock import DAY
from referral.config import CONFIG
from referral.contract.problems import Problem
from referral.contract.schemas.fields import CODE
from referral.queries import codes, events, users
from referral.queries.events import ATTRIBUTED, KEPT, NONE, REFUSED
from referral.queries.product_users import ProductUser
from referral.rules.referring import refer
from referral.rules.work import Work

# What `refer` refuses a code for, in the words of attribution.
WORDS = {
    "own-code": "own-code",
    "referrer-already-set": "already-referred",
    "known-address": "known-address",
    "referral-cycle": "cycle",
}


class Attribution(NamedTuple):
    """What became of a code or click: the status, and why it caused nothing."""

    status: str
    reason: str | None = None


class Came(NamedTuple):
    """That a user came by a code, at a time (ms)."""

    code: str
    joined_at: int


class Refused(Exception):
    """The code was refused half-way: the transaction has to be rolled back, and made again without the attempt."""

    def __init__(self, attribution: Attribution) -> None:
        super().__init__(attribution.reason)
        self.attribution = attribution


async def attribute(
    work: Work, user: ProductUser, code: str | None, click_id: str | None, occurred_at: int, *, is_new: bool
) -> tuple[Attribution, Came | None]:
    """Let the user, who is locked, come by the owner of the code, if they may, and say what became of it.

    `is_new` says that the user was made in this transaction; for others the graph of referrals is locked, if a code is
    given. Raises Refused.
    """
    # As people paste a code, and as a form sends none.
    code = (code or "").strip() or None
    came = Came(user.referral_code, user.joined_at) if user.referral_code and user.joined_at is not None else None
    if user.referrer_id is not None:
        return Attribution(KEPT, await _kept_for(work, user, code)), came
    if code is None:
        # There are no clicks yet that could be known.
        return Attribution(REFUSED, "unknown") if click_id is not None else Attribution(NONE), came
    reason = await _objection(work, user, code, occurred_at, is_new=is_new)
    if reason is not None:
        return Attribution(REFUSED, reason), came
    try:
        used = await refer(work, user.id, code.upper())
    except Problem as problem:
        raise Refused(Attribution(REFUSED, problem.members.get("reason") or WORDS[problem.kind.name])) from None
    await work.record("referrer-set", user=user.id, code=used.code, referrer_id=used.referrer_id)
    return Attribution(ATTRIBUTED), Came(used.code, work.moment)


async def _find(work: Work, code: str) -> codes.OwnedCode | None:
    """The code of this text, whatever it is."""
    is_code = code.isascii() and CODE.fullmatch(code.upper())
    return await codes.find_code(work.conn, code.upper()) if is_code else None


async def _kept_for(work: Work, user: ProductUser, code: str | None) -> str | None:
    """Why a code causes nothing for a user who came by somebody; None for that referrer's own, and without one."""
    if code is None or code.upper() == user.referral_code:
        return None
    found = await _find(work, code)
    return None if found and found.referrer_id == user.referrer_id else "already-referred"


async def _objection(work: Work, user: ProductUser, code: str, occurred_at: int, *, is_new: bool) -> str | None:
    """Why the user cannot come by this code; None if they may."""
    found = await _find(work, code)
    if found is None:
        return "unknown"
    if found.referrer_id == user.id:
        return "own-code"
    status = found.status(work.moment)
    if status != "active":
        return status
    owner = await users.find_contact(work.conn, found.referrer_id)
    if user.suspended_at is not None or owner is None or owner.suspended_at is not None:
        return "suspended"
    if user.unattributable_at is not None:
        return "known-address"
    days = work.request.app[CONFIG].attribution.after_signup_days
    if occurred_at - user.known_since > days * DAY:
        return "too-late"
    return "too-late" if not is_new and await events.has_bought(work.conn, user.id, occurred_at) else None
