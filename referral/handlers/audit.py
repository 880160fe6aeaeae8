"""The record of security events: who did what to whose account, when and from where."""

from aiohttp import web
from aiohttp_apispec import docs, querystring_schema, response_schema

from referral.contract.access import Access, allow
from referral.contract.schemas.audit import AuditPageSchema, AuditQuerySchema
from referral.handlers import API
from referral.web.lists import answer_audit

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
    return await answer_audit(request)
