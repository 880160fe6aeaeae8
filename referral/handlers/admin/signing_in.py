"""The sign-in of the back office, by the password of an admin, and its end."""

from aiohttp import web

from referral.auth.identity import IDENTITY
from referral.contract.access import Access, Errors, allow
from referral.contract.openapi import undocumented
from referral.queries import sessions, users
from referral.rules.credentials import (
    Shown,
    SuspendedAccount,
    WrongCredentials,
    check_credentials,
    find_proved,
    prove_password,
)
from referral.rules.second_factors import SecondFactorNeeded, WrongCode, proving
from referral.rules.work import work_on
from referral.web.admin_pages import ADMIN, LOGIN, LOGIN_CODE, admin_page, is_next, see_other
from referral.web.admin_sessions import FORM, LOGOUT, drop_cookie, keeps_cookies, open_cookie_session, set_cookie

routes = web.RouteTableDef()

PAGE = "a page of the back office"


@routes.get(LOGIN)
@allow(Access.ANYBODY, errors=Errors.HTML)
@undocumented(PAGE)
async def get_login_page(request: web.Request) -> web.Response:
    return _login_page(request, request.query.get("next", ""))


def _login_page(request: web.Request, wanted: str, name: str | None = None, *, is_late: bool = False) -> web.Response:
    """The form; once more if somebody of this name was refused, whatever the reason, or came with a code too late."""
    return admin_page(
        request,
        "login.html",
        401 if name is not None or is_late else 200,
        given={"username": name or "", "next": wanted if is_next(wanted) else ""},
        is_refused=name is not None,
        is_late=is_late,
        keeps_cookies=keeps_cookies(request),
    )


@routes.post(LOGIN)
@allow(Access.ANYBODY, errors=Errors.HTML)
@undocumented(PAGE)
async def sign_in(request: web.Request) -> web.Response:
    """The button of the form. That it comes from a page of the service's own keeps others from signing a browser in to an
    account of theirs."""
    form = request[FORM]
    name, password, wanted = form.get("username", "").strip(), form.get("password", ""), form.get("next", "")
    if not name or not password or not keeps_cookies(request):
        return _login_page(request, wanted, name)
    try:
        shown = await check_credentials(request, name, password, admits=_is_admin)
        return await _let_in(request, shown, None, wanted)
    except SecondFactorNeeded:
        return _code_page(request, prove_password(request, shown.account), wanted)
    except (WrongCredentials, SuspendedAccount):
        return _login_page(request, wanted, name)


def _code_page(request: web.Request, proof: str, wanted: str, *, is_refused: bool = False) -> web.Response:
    """The second page, for whoever has shown the password."""
    target = wanted if is_next(wanted) else ""
    return admin_page(
        request, "login_code.html", 401 if is_refused else 200, proof=proof, next=target, is_refused=is_refused
    )


@routes.post(LOGIN_CODE)
@allow(Access.ANYBODY, errors=Errors.HTML)
@undocumented(PAGE)
async def sign_in_with_code(request: web.Request) -> web.Response:
    """The button of the second page, whose form proves that the password was shown."""
    form = request[FORM]
    proof, wanted = form.get("proof", ""), form.get("next", "")
    account = await find_proved(request, proof)
    if account is None or not _is_admin(account) or not keeps_cookies(request):
        return _login_page(request, wanted, is_late=True)
    try:
        return await _let_in(request, Shown(account, None), form.get("code", "").strip() or "-", wanted)
    except WrongCode:
        return _code_page(request, proof, wanted, is_refused=True)


async def _let_in(request: web.Request, shown: Shown, code: str | None, wanted: str) -> web.Response:
    """Start the session, and lead on. Raises SecondFactorNeeded and WrongCode."""
    async with proving(request, shown.account, code) as use_code, work_on(request) as work:
        await use_code(work)
        cookie = await open_cookie_session(work, shown)
    if cookie is None:
        return _login_page(request, wanted, is_late=True)
    led = see_other(request, wanted if is_next(wanted) else ADMIN)
    set_cookie(led, cookie)
    return led


def _is_admin(account: users.Credentials) -> bool:
    # To everybody else a right password is a wrong one, so that this page tells nothing of any account.
    return account.role == "admin" and account.suspended_at is None


@routes.post(LOGOUT)
@allow(Access.ADMIN_PAGE)
@undocumented(PAGE)
async def sign_out(request: web.Request) -> web.Response:
    """The button of every page."""
    session_id = request[IDENTITY].session_id
    async with work_on(request) as work:
        if await sessions.delete_session(work.conn, session_id):
            work.ends_sessions(session_id)
            await work.record("signed-out", session_id=session_id)
    led = see_other(request, LOGIN, "signed-out")
    drop_cookie(led)
    return led
