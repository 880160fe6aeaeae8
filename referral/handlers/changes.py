"""The feed of changes, which a product follows by their numbers."""

import asyncio
from typing import Any

from aiohttp import web
from aiohttp_apispec import docs, querystring_schema, response_schema

from referral.background.relay import RELAY
from referral.contract.access import Access, allow
from referral.contract.problems import Problem
from referral.contract.schemas.changes import ChangeQuerySchema, ChangesSchema, change_view, matches
from referral.database import DATABASE, Connection, read_from_replica
from referral.handlers import API
from referral.queries import changes
from referral.queries.changes import Feed, ToldChange
from referral.web.answers import answer
from referral.web.bodies import QUERY

routes = web.RouteTableDef()

# Changes that one call looks at, for the few types that it wants, and that it has in memory meanwhile.
MOST_LOOKED_AT, MOST_AT_ONCE = 5_000, 500


@routes.get(f"{API}/changes")
@allow(Access.READ)
@docs(
    tags=["Changes"],
    operationId="listChanges",
    summary="What has changed since",
    description="Everything that happened behind `after`, oldest first. Ask again with the `last_seq` of the answer: "
    "whoever does so misses nothing, and gets nothing twice. An answer without items may still have a `last_seq` that is "
    "larger than `after`. With `wait`, a call that would find nothing is answered as soon as there is something, or when "
    "its time is over. Changes are kept for `webhooks.keep_days` days.",
    problems=("gone",),
)
@querystring_schema(ChangeQuerySchema)
@response_schema(ChangesSchema, 200, description="The changes, and where to go on")
async def list_changes(request: web.Request) -> web.Response:
    loop, query = asyncio.get_running_loop(), request[QUERY]
    end = loop.time() + query["wait"]
    found, last_seq = await _find(request, query["after"])
    while not found and (left := end - loop.time()) > 0:
        await request.app[RELAY].wait_beyond(last_seq, left)
        found, seen = await _find(request, last_seq)
        if seen == last_seq:
            break
        last_seq = seen
    return answer({"items": [change_view(change) for change in found], "last_seq": last_seq})


async def _find(request: web.Request, after: int) -> tuple[list[ToldChange], int]:
    """The changes that are asked for behind a number, and the number of the last one that was looked at. Raises `gone`."""
    # A call that has waited must not begin to wait anew because a standby fails.
    return await read_from_replica(request.app[DATABASE], lambda conn: _find_by(conn, request[QUERY], after))


async def _find_by(conn: Connection, query: dict[str, Any], after: int) -> tuple[list[ToldChange], int]:
    patterns, limit = query.get("types", ["*"]), query["limit"]
    # Where few are wanted, many are looked at.
    at_once = limit if "types" not in query else MOST_AT_ONCE
    found: list[ToldChange] = []
    # First how far it goes: whatever is told meanwhile is left for the next call.
    feed = await changes.find_feed(conn)
    if not feed.gone_seq <= after <= feed.last_seq:
        raise _gone(feed)
    seen, end = after, min(feed.last_seq, after + MOST_LOOKED_AT)
    while seen < end and len(found) < limit:
        page = await changes.list_changes(conn, seen, end, at_once)
        if not page or page[0].seq != seen + 1:
            # The numbers have no gaps: what is not there was deleted since the first look.
            raise _gone(await changes.find_feed(conn))
        for change in page:
            if len(found) == limit:
                break
            seen = change.seq
            if matches(patterns, change.type):
                found.append(change)
    return found, seen


def _gone(feed: Feed) -> Problem:
    return Problem(
        "gone",
        f"Changes are kept from {feed.gone_seq} to {feed.last_seq}: read everything anew, and go on from last_seq.",
        last_seq=feed.last_seq,
    )
