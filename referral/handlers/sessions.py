"""Where an account is signed in: its sessions, listed and ended by their owner."""

from aiohttp import web
from aiohttp_apispec import docs, querystring_schema, response_schema

from referral.auth.identity import IDENTITY
from referral.clock import now
from referral.contract.access import Access, allow
from referral.contract.paging import page, read_cursor
from referral.contract.parameters import id_in_path
from referral.contract.problems import Problem
from referral.contract.schemas.pages import PageQuerySchema
from referral.contract.schemas.sessions import SessionPageSchema, session_view
from referral.database import DATABASE
from referral.handlers import API
from referral.queries import sessions
from referral.rules.work import work_on
from referral.web.answers import answer
from referral.web.bodies import QUERY

routes = web.RouteTableDef()


@routes.get(f"{API}/auth/sessions")
@allow(Access.USER)
@docs(
    tags=["Authentication"],
    operationId="listSessions",
    summary="Where I am signed in",
    description="The sessions of the account that have not ended, newest first: since when, last refreshed when, from which "
    "address and by which client.",
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(PageQuerySchema)
@response_schema(SessionPageSchema, 200, description="A page of sessions")
async def list_sessions(request: web.Request) -> web.Response:
    me, query, moment = request[IDENTITY], request[QUERY], now()
    before, limit = read_cursor(query), query["limit"]
    async with request.app[DATABASE].reader() as conn:
        total = await sessions.count_sessions(conn, me.user_id, moment)
        found = await sessions.list_sessions(conn, me.user_id, moment, before, limit + 1)
    document, headers = page(
        request,
        found,
        limit,
        total,
        key=lambda session: (session.created_at, session.id),
        view=lambda session: session_view(session, me.session_id),
    )
    return answer(document, headers=headers)


@routes.delete(f"{API}/auth/sessions/{{session_id}}")
@allow(Access.USER)
@docs(
    tags=["Authentication"],
    operationId="deleteSession",
    summary="End one of my sessions",
    description="Its access and refresh tokens stop working at once. It may be the session of this very request.",
    responses={204: {"description": "The session is over"}},
    problems=("not-found",),
)
async def delete_session(request: web.Request) -> web.Response:
    gone = Problem("not-found", "You have no such session.")
    session_id = id_in_path(request, "session_id", gone)
    async with work_on(request) as work:
        await work.hold_caller()
        if not await sessions.delete_own_session(work.conn, request[IDENTITY].user_id, session_id):
            raise gone
        work.ends_sessions(session_id)
        await work.record("session-ended", session_id=session_id)
    return web.Response(status=204)
