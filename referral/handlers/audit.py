"""The record of security events: who did what to whose account, when and from where."""

from aiohttp import web
from aiohttp_apispec import docs, querystring_schema, response_schema

from referral.contract.access import Access, allow
from referral.contract.paging import MOST_COUNTED, Key
from referral.contract.schemas.audit import AuditEventSchema, AuditPageSchema, AuditQuerySchema, audit_event_view
from referral.database import Connection
from referral.handlers import API
from referral.queries import audit
from referral.queries.audit import Event
from referral.rules.audit import newest_events
from referral.rules.named_user import id_of_named
from referral.web.bodies import QUERY
from referral.web.csv_answers import answer_list

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
async def list_audit_events(request: web.Request) -> web.StreamResponse:
    query = request[QUERY]
    event, since = query.get("event"), query.get("since", 0)

    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[Event], int]:
        found = await newest_events(conn, query.get("user"), event, since, before, limit)
        if "user" in query:
            user_id = await id_of_named(conn, query["user"])
            return found, await audit.count_audit_of_user(conn, user_id, event, since, MOST_COUNTED)
        return found, await audit.count_audit(conn, event, since, MOST_COUNTED)

    return await answer_list(
        request, "audit", AuditEventSchema, read, key=lambda one: (one.at, one.id), view=audit_event_view
    )
