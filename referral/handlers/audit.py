"""The record of security events: who did what to whose account, when and from where."""

from typing import Any

from aiohttp import web
from aiohttp_apispec import docs, querystring_schema, response_schema

from referral.contract.access import Access, allow
from referral.contract.paging import MOST_COUNTED, page, read_cursor
from referral.contract.schemas.audit import AuditPageSchema, AuditQuerySchema, audit_event_view
from referral.database import DATABASE, Connection
from referral.handlers import API
from referral.queries import audit
from referral.rules.audit import newest_events
from referral.rules.named_user import id_of_named
from referral.web.answers import answer
from referral.web.bodies import QUERY

routes = web.RouteTableDef()


@routes.get(f"{API}/audit")
@allow(Access.ADMIN)
@docs(
    tags=["Operations"],
    operationId="listAuditEvents",
    summary="Security events: who did what",
    description="Newest first; kept for `audit.keep_days`. `total` counts no further than 10,000.",
    problems=("not-found",),
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(AuditQuerySchema)
@response_schema(AuditPageSchema, 200, description="A page of events")
async def list_audit_events(request: web.Request) -> web.Response:
    query = request[QUERY]
    limit = query["limit"]
    async with request.app[DATABASE].replica() as conn:
        found, total = await _find(conn, query, limit + 1)
    document, headers = page(request, found, limit, total, key=lambda event: (event.at, event.id), view=audit_event_view)
    return answer(document, headers=headers)


async def _find(conn: Connection, query: dict[str, Any], limit: int) -> tuple[list[audit.Event], int]:
    event, since, before = query.get("event"), query.get("since", 0), read_cursor(query)
    found = await newest_events(conn, query.get("user"), event, since, before, limit)
    if "user" in query:
        user_id = await id_of_named(conn, query["user"])
        return found, await audit.count_audit_of_user(conn, user_id, event, since, MOST_COUNTED)
    return found, await audit.count_audit(conn, event, since, MOST_COUNTED)
