"""Clicks: made of a request, and found again by their ids when somebody signs up."""

import asyncio
import uuid

from aiohttp import web

from referral.background.clicks import CLICKS, LAG, NewClick
from referral.clock import SECOND, now
from referral.database import DATABASE
from referral.limits import ADDRESS
from referral.queries import clicks
from referral.queries.clicks import Click
from referral.robots import LONGEST_AGENT

# Seconds for which a request waits for clicks that another worker may still write, all of them together.
PATIENCE = 2 * LAG
# How long after it was made a click may be on its way (ms).
ON_ITS_WAY = int(PATIENCE * SECOND)
# Seconds between two looks for such a click.
PAUSE = 0.2
# Until when a request waits (the loop's time).
_DEADLINE = web.RequestKey("click_deadline", float)


def new_click(request: web.Request, click_id: str, code: str, *, is_qr: bool, is_robot: bool | None) -> NewClick:
    """The click that a request makes on the link of a code; whether that is a robot's says the agent if `is_robot` does
    not."""
    agent = request.headers.get("User-Agent", "")[:LONGEST_AGENT]
    return NewClick(click_id, code, now(), request[ADDRESS], agent, is_qr, is_robot)


async def find_click(request: web.Request, text: str, *, waits: bool) -> Click | None:
    """The click of the id that a page was given; None for what is none, or is kept no longer. One that this process has
    still to write is written; one of this moment that another worker may have is waited for, if the caller `waits`. No
    connection is held meanwhile."""
    made_at = _time_of(text)
    if made_at is None:
        return None
    click_id, loop = str(uuid.UUID(text.strip())), asyncio.get_running_loop()
    if request.app[CLICKS].has(click_id):
        await request.app[CLICKS].flush()
    while True:
        async with request.app[DATABASE].reader() as conn:
            found = await clicks.find_click(conn, click_id)
        if found is not None or not waits or now() - made_at > ON_ITS_WAY:
            return found
        deadline = request.setdefault(_DEADLINE, loop.time() + PATIENCE)
        if loop.time() >= deadline:
            return None
        await asyncio.sleep(PAUSE)


def _time_of(text: str) -> int | None:
    """When an id was made (ms), which a UUIDv7 says (RFC 9562 section 5.7); None for other texts."""
    try:
        made = uuid.UUID(text.strip())
    except ValueError:
        return None
    return made.int >> 80 if made.version == 7 else None
