"""The account of whoever looks: who they are, and where they are signed in."""

from typing import Any

from aiohttp import web

from referral.auth.identity import IDENTITY
from referral.clock import now
from referral.config import CONFIG
from referral.contract.access import Access, allow
from referral.contract.openapi import undocumented
from referral.contract.paging import read_cursor
from referral.contract.parameters import id_in_path
from referral.contract.problems import Problem
from referral.database import DATABASE
from referral.queries import sessions
from referral.rules.accounts import own_contact
from referral.rules.password_changes import change_password
from referral.rules.second_factors import own_second_factor
from referral.rules.work import work_on
from referral.web.admin_pages import LOGIN, admin_page, confirm_page, problem_beside, refused_form, see_other
from referral.web.admin_sessions import ACCOUNT, FORM, drop_cookie
from referral.web.admin_texts import texts_of

routes = web.RouteTableDef()

PAGE = "a page of the back office"
SESSION = f"{ACCOUNT}/sessions/{{session_id}}"
PASSWORD = f"{ACCOUNT}/password"
# Of the sessions, the newest; who has more of them ends all others.
MOST_SESSIONS = 50


@routes.get(ACCOUNT)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_account(request: web.Request) -> web.Response:
    """Who looks, and where they are signed in."""
    me = request[IDENTITY]
    contact = await own_contact(request)
    async with request.app[DATABASE].reader() as conn:
        found = await sessions.list_sessions(conn, me.user_id, now(), read_cursor({}), MOST_SESSIONS)
    factor = await own_second_factor(request)
    return admin_page(request, "account.html", contact=contact, sessions=found, current_id=me.session_id, factor=factor)


@routes.get(PASSWORD)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def get_password_form(request: web.Request) -> web.Response:
    """What a change of the password does, and the form for it."""
    return admin_page(request, "password.html", **_password_facts(request))


def _password_facts(request: web.Request) -> dict[str, Any]:
    return {"least": request.app[CONFIG].auth.password_min_length}


@routes.post(PASSWORD)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def set_password(request: web.Request) -> web.Response:
    """As `POST /auth/password/change`, and this session ends, too: somebody else may have its cookie."""
    form = request[FORM]
    try:
        current, new = form.get("current_password", ""), form.get("new_password", "")
        await change_password(request, current, new, ends_own_session=True)
    except Problem as problem:
        if problem.kind.name not in ("wrong-password", "validation-error"):
            raise
        told = problem_beside("current_password", problem) if problem.kind.name == "wrong-password" else problem
        return refused_form(request, "password.html", told, {}, **_password_facts(request))
    led = see_other(request, LOGIN, "password-changed")
    drop_cookie(led)
    return led


@routes.get(f"{SESSION}/end")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_session_end(request: web.Request) -> web.Response:
    """What the end of a session does, before it is done."""
    _ = texts_of(request)
    session_id = _session_in(request)
    return confirm_page(
        request,
        title=_("End a session"),
        effects=[_("Whoever uses it is signed out at once, on every device that has it.")],
        action=f"{ACCOUNT}/sessions/{session_id}/end",
        button=_("End the session"),
        cancel=ACCOUNT,
    )


@routes.post(f"{SESSION}/end")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def end_session(request: web.Request) -> web.Response:
    """As `DELETE /auth/sessions/{session_id}`."""
    session_id = _session_in(request)
    async with work_on(request) as work:
        await work.hold_caller()
        if not await sessions.delete_own_session(work.conn, request[IDENTITY].user_id, session_id):
            raise _gone()
        work.ends_sessions(session_id)
        await work.record("session-ended", session_id=session_id)
    return see_other(request, ACCOUNT, "session-ended")


@routes.get(f"{ACCOUNT}/sessions/end")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def confirm_other_sessions_end(request: web.Request) -> web.Response:
    _ = texts_of(request)
    return confirm_page(
        request,
        title=_("End all other sessions"),
        effects=[_("Everybody who is signed in to this account is signed out at once, but for you, here.")],
        action=f"{ACCOUNT}/sessions/end",
        button=_("End all other sessions"),
        cancel=ACCOUNT,
    )


@routes.post(f"{ACCOUNT}/sessions/end")
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def end_other_sessions(request: web.Request) -> web.Response:
    """Each of them as `DELETE /auth/sessions/{session_id}` ends it."""
    me = request[IDENTITY]
    async with work_on(request) as work:
        await work.hold_caller()
        ended = await sessions.delete_other_sessions(work.conn, me.user_id, me.session_id)
        work.ends_sessions(*ended)
        if ended:
            await work.record("sessions-ended", sessions=len(ended))
    return see_other(request, ACCOUNT, "sessions-ended")


def _session_in(request: web.Request) -> str:
    return id_in_path(request, "session_id", _gone())


def _gone() -> Problem:
    return Problem("not-found", "You have no such session.")
