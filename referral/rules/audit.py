"""The record of security events (`run.py audit` prints it): what changes an account or a code, and what was refused.

A change is recorded by its unit of work (`Work.record`). Look-ups are not recorded, and neither is the refreshing of
tokens, which says only that a session goes on.
"""

from typing import Any

from aiohttp import web

from referral.database import Connection
from referral.queries import audit
from referral.queries.audit import Event, EventName
from referral.rules.named_user import id_of_named
from referral.rules.work import work_on


async def newest_events(
    conn: Connection, user: str | None, event: EventName | None, since: int, before: tuple[int, str], limit: int
) -> list[Event]:
    """So many events since a time (ms) and before a cursor (time in ms, id), of one kind or of all, newest first. `user` is
    named as paths name one: of what they did, and what befell their account. Raises `not-found`."""
    if user is None:
        return await audit.list_audit(conn, event, since, before, limit)
    return await audit.list_audit_of_user(conn, await id_of_named(conn, user), event, since, before, limit)


async def record_refusal(
    request: web.Request, event: EventName, *, user: str | None = None, email: str | None = None, **detail: Any
) -> None:
    """Record a refusal, in a transaction of its own. Raises DatabaseUnavailable: then the refusal waits, too."""
    async with work_on(request) as work:
        await work.record(event, user=user, email=email, **detail)
