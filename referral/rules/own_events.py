"""Accounts of the service's own report themselves: their sign-up, and the verification of their address, each once."""

from typing import Literal

from referral.database import TransactionConflict
from referral.queries import events, referrals
from referral.queries.events import NONE, Attribution, NewEvent
from referral.queries.referrals import Standing
from referral.rules.event_contexts import NO_TRACES, Traces, keep_traces
from referral.rules.programme import Happened
from referral.rules.rewarding import Meeting, Outcome, Weighed, decide, keep, meet, weigh
from referral.rules.work import Work

Own = Literal["signup", "email-verified"]
UNTRIED = Attribution(NONE)


async def report_own(
    work: Work,
    event_type: Own,
    user_id: str,
    attribution: Attribution = UNTRIED,
    traces: Traces = NO_TRACES,
) -> None:
    """Report an event of an account's own, which is locked or was made in this transaction, what it earns, and what its
    context leaves. Nothing if it was reported before. Comes behind the referral that the account came by."""
    conn, event_id = work.conn, f"{event_type}:{user_id}"
    if await events.find_reported_event(conn, event_id) is not None:
        return
    standing = await referrals.find_standing(conn, user_id)
    weighed = await weigh(work, event_type, user_id, standing.referrer_id if standing else None)
    meeting = Meeting() if standing is None else await meet(work, user_id, event_type, work.moment, standing)
    outcome = await _decide(work, event_type, user_id, meeting, weighed)
    event = _event(work, event_type, user_id, meeting, outcome, attribution)
    if not await events.insert_event_of_user(conn, event):
        raise TransactionConflict("another request has just reported an event of this id")
    await keep_traces(work, event_id, user_id, event.referrer_id, traces)
    await keep(work, outcome)


async def report_sign_up(
    work: Work,
    user_id: str,
    weighed: Weighed,
    standing: Standing | None,
    code: str | None,
    attribution: Attribution,
    traces: Traces,
) -> None:
    """Report that somebody signed up whom this transaction makes, and what it earns by the rules that it meets;
    `standing` is by whom they come, `code` the one that was tried, and `traces` what the request's context leaves."""
    meeting = Meeting() if standing is None else await meet(work, user_id, "signup", work.moment, standing)
    outcome = await _decide(work, "signup", user_id, meeting, weighed)
    event = _event(work, "signup", user_id, meeting, outcome, attribution, code)
    await events.insert_event_once(work.conn, event)
    await keep_traces(work, event.id, user_id, event.referrer_id, traces)
    await keep(work, outcome)


async def _decide(work: Work, event_type: Own, user_id: str, meeting: Meeting, weighed: Weighed) -> Outcome:
    happened = Happened(event_type, work.moment, None, None)
    return await decide(work, f"{event_type}:{user_id}", happened, user_id, meeting, weighed)


def _event(
    work: Work,
    event_type: Own,
    user_id: str,
    meeting: Meeting,
    outcome: Outcome,
    attribution: Attribution,
    code: str | None = None,
) -> NewEvent:
    return NewEvent(
        id=f"{event_type}:{user_id}",
        type=event_type,
        user_id=user_id,
        received_at=work.moment,
        occurred_at=work.moment,
        code=code,
        attribution=attribution.status,
        reason=attribution.reason,
        **meeting.facts,
        outcome=outcome.kept(),
    )
