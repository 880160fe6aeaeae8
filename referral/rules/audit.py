"""The record of security events (`run.py audit` prints it): what changes an account or a code, and what was refused.

Look-ups are not recorded, and neither is the refreshing of tokens, which says no more than that a session goes on.
"""

from typing import Any

import orjson
from aiohttp import web

from referral.auth.identity import IDENTITY
from referral.clock import now
from referral.database import DATABASE, Connection
from referral.ids import REQUEST_ID, new_id
from referral.limits import ADDRESS
from referral.queries.audit import Event, EventName, insert_event


async def record(
    request: web.Request,
    conn: Connection,
    event: EventName,
    *,
    actor: str | None = None,
    user: str | None = None,
    email: str | None = None,
    **detail: Any,
) -> None:
    """Record an event in the transaction of what happened. By default the actor is who is signed in, the user the actor.

    `email` is for where no account is known. `detail` becomes JSON, without what is None; no password or token may be in it.
    """
    identity = request.get(IDENTITY)
    actor_id = actor or (identity.user_id if identity else None)
    found = Event(
        id=new_id(),
        at=now(),
        event=event,
        actor_id=actor_id,
        user_id=user or actor_id,
        email=email,
        address=request[ADDRESS],
        request_id=request[REQUEST_ID],
        detail=orjson.dumps({name: value for name, value in detail.items() if value is not None}).decode(),
    )
    await insert_event(conn, found)


async def record_refusal(
    request: web.Request, event: EventName, *, user: str | None = None, email: str | None = None
) -> None:
    """Record in a transaction of its own what was refused. Raises DatabaseUnavailable: then the refusal waits, too."""
    async with request.app[DATABASE].transaction() as conn:
        await record(request, conn, event, user=user, email=email)
