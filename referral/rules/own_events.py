"""Accounts of the service's own report themselves: their sign-up, and the verification of their address, each once."""

from typing import Literal

from referral.database import TransactionConflict
from referral.queries import events, locks
from referral.queries.events import NONE, NewEvent
from referral.rules.programme import Happened
from referral.rules.rewarding import decide, keep, meet
from referral.rules.work import Work


async def report_own(
    work: Work,
    event_type: Literal["signup", "email-verified"],
    user_id: str,
    *,
    code: str | None = None,
    attribution: str = NONE,
    reason: str | None = None,
) -> None:
    """Report an event of an account's own, which is locked or was made in this transaction, and what it earns. Nothing if
    it was reported before. Comes behind the referral that the account came by."""
    conn, event_id = work.conn, f"{event_type}:{user_id}"
    if await events.find_reported_event(conn, event_id) is not None:
        return
    await locks.hold_rules(work.conn)
    meeting = await meet(work, user_id, event_type, work.moment)
    outcome = await decide(work, event_id, Happened(event_type, work.moment, None, None), user_id, meeting)
    inserted = await events.insert_event_of_user(
        conn,
        NewEvent(
            id=event_id,
            type=event_type,
            user_id=user_id,
            received_at=work.moment,
            occurred_at=work.moment,
            code=code,
            attribution=attribution,
            reason=reason,
            **meeting.facts,
            outcome=outcome.kept(),
        ),
    )
    if not inserted:
        raise TransactionConflict("another request has just reported an event of this id")
    await keep(work, outcome)
