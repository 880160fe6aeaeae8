"""Attribution: by whom a user came, as a code or a click says. A bad one is no error: it causes nothing, and the answer says
why. The code comes first; the click is for whoever gives no code, or one that cannot be used."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from aiohttp import web

from referral.cache.codes import CODE_CACHE
from referral.clock import DAY
from referral.config import CONFIG
from referral.contract.problems import Problem
from referral.queries import codes, events, users
from referral.queries.clicks import Click
from referral.queries.events import ATTRIBUTED, KEPT, NONE, REFUSED, Attribution
from referral.queries.product_users import ProductUser
from referral.queries.referrals import Source
from referral.rules.clicking import find_click
from referral.rules.codes import loading
from referral.rules.product_users import CLOCK_LEEWAY
from referral.rules.referring import refer
from referral.rules.work import Work
from referral.texts import code_in, fold_code

# What `refer` refuses a code for, in the words of attribution.
WORDS = {
    "own-code": "own-code",
    "referrer-already-set": "already-referred",
    "known-address": "known-address",
    "referral-cycle": "cycle",
}


class Came(NamedTuple):
    """That a user came by a referrer's code, at a time (ms)."""

    referrer_id: str
    code: str
    joined_at: int


class Way(NamedTuple):
    """A way by which a user may have come: a code as it was given, or that of a click. `reason` says why it causes nothing,
    once that is known."""

    source: Source
    code: str | None
    reason: str | None = None
    click: Click | None = None


class Refused(Exception):
    """A way was refused half-way: the transaction has to be rolled back, and made again without the attempt."""

    def __init__(self, way: Way, reason: str) -> None:
        super().__init__(reason)
        self.way = way
        self.reason = reason

    def without_it(self, ways: Sequence[Way]) -> tuple[Way, ...]:
        """The ways, of which this one is not tried again."""
        return tuple(way._replace(reason=self.reason) if way == self.way else way for way in ways)


async def ways_of(request: web.Request, code: str | None, click_id: str | None, at: int) -> tuple[Way, ...]:
    """The ways that a code and a click say, of what happened at a time (ms). Comes before the transaction, because it may
    wait for a click that is still to be written. Raises DatabaseUnavailable."""
    # As people paste a code, and as a form sends none.
    code, click_id = (code or "").strip(), (click_id or "").strip()
    ways = [Way("code", code)] if code else []
    if click_id:
        # Behind a code that can be used, nobody waits for it.
        click = await find_click(request, click_id, waits=not await _is_active(request, code))
        ways.append(_way_of_click(click, at, request.app[CONFIG].attribution.window_days * DAY))
    return tuple(ways)


async def _is_active(request: web.Request, code: str) -> bool:
    text = code_in(code)
    return text is not None and await request.app[CODE_CACHE].by_code(text, loading(request.app, text)) is not None


def _way_of_click(click: Click | None, at: int, window: int) -> Way:
    if click is None:
        return Way("click", None, "unknown")
    if at - click.clicked_at > window:
        return Way("click", click.code, "click-expired", click)
    # What happened before the click did not come of it, unless two clocks differ.
    return Way("click", click.code, "too-late" if at < click.clicked_at - CLOCK_LEEWAY else None, click)


def click_on(ways: Sequence[Way], code: str) -> Click | None:
    """The click on the link of the code by which somebody came. A page gives both: then the code is what counts, and the
    click tells more of it."""
    clicks = (way.click for way in ways if way.click is not None)
    return next((click for click in clicks if fold_code(click.code) == fold_code(code)), None)


def attribution_of(way: Way | None, *, is_known: bool) -> Attribution:
    """What becomes of the way by which a new account is to come; `is_known` says that its address had an account before."""
    if way is None:
        return Attribution(NONE)
    reason = "known-address" if is_known else way.reason
    return Attribution(ATTRIBUTED) if reason is None else Attribution(REFUSED, reason)


def may_lead(ways: Sequence[Way]) -> bool:
    """Whether there is a way that is to be tried."""
    return any(way.reason is None for way in ways)


def came_by(user: ProductUser) -> Came | None:
    """By whom the user came until now."""
    if user.referrer_id is None or user.referral_code is None or user.joined_at is None:
        return None
    return Came(user.referrer_id, user.referral_code, user.joined_at)


async def attribute(
    work: Work, user: ProductUser, ways: Sequence[Way], occurred_at: int, *, is_new: bool
) -> tuple[Attribution, Came | None]:
    """Let the user, who is locked, come by the first way that they may, and say what became of it.

    `is_new` says that the user was made in this transaction; for others the graph of referrals is locked, if a way is to be
    tried. Raises Refused.
    """
    if (came := came_by(user)) is not None:
        return Attribution(KEPT, await _kept_for(work, user, ways)), came
    first: str | None = None
    for way in ways:
        reason = way.reason
        if reason is None:
            assert way.code is not None
            reason = await _objection(work, user, way.code, occurred_at, is_new=is_new)
        if reason is None:
            used = await come_by_way(work, user.id, way)
            await work.record("referrer-set", user=user.id, code=used.code, referrer_id=used.referrer_id)
            return Attribution(ATTRIBUTED), Came(used.referrer_id, used.code, work.moment)
        first = first or reason
    return Attribution(NONE) if first is None else Attribution(REFUSED, first), came


async def come_by_way(work: Work, user_id: str, way: Way) -> codes.UsedCode:
    """Let the user come by this way, as `refer` does. Raises Refused."""
    assert way.code is not None
    with refusing(way):
        return await refer(work, user_id, way.code.upper(), way.source)


@contextmanager
def refusing(way: Way) -> Iterator[None]:
    """Raises Refused where the block raises the problem of a code that cannot be used."""
    try:
        yield
    except Problem as problem:
        raise Refused(way, problem.members.get("reason") or WORDS[problem.kind.name]) from None


async def _find(work: Work, code: str) -> codes.OwnedCode | None:
    """The code of this text, whatever it is."""
    text = code_in(code)
    return await codes.find_code(work.conn, text) if text else None


async def _kept_for(work: Work, user: ProductUser, ways: Sequence[Way]) -> str | None:
    """Why nothing follows for a user who came by somebody; None where the first way leads to that referrer, too, and where
    there is none."""
    if not ways:
        return None
    code = ways[0].code
    if code is None:
        return ways[0].reason
    if code.upper() == user.referral_code:
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
