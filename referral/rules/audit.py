"""The record of security events (`run.py audit` prints it): what changes an account or a code, and what was refused.

A change is recorded by its unit of work (`Work.record`). Look-ups are not recorded, and neither is the refreshing of
tokens, which says only that a session goes on.
"""

from typing import Any

from aiohttp import web

from referral.queries.audit import EventName
from referral.rules.work import work_on


async def record_refusal(
    request: web.Request, event: EventName, *, user: str | None = None, email: str | None = None, **detail: Any
) -> None:
    """Record a refusal, in a transaction of its own. Raises DatabaseUnavailable: then the refusal waits, too."""
    async with work_on(request) as work:
        await work.record(event, user=user, email=email, **detail)
