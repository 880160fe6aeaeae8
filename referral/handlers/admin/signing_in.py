"""The sign-in of the back office, by the password of an admin, and its end."""

from aiohttp import web

from referral.auth.identity import IDENTITY
from referral.contract.access import Access, Errors, allow
from referral.contract.openapi import undocumented
from referral.queries import sessions, users
from referral.rules.credentials import SuspendedAccount, WrongCredentials, check_credentials
from referral.rules.work import work_on
from referral.web.admin_pages import ADMIN, LOGIN, admin_page, is_next, see_other
from referral.web.admin_sessions import FORM, drop_cookie, keeps_cookies, open_cookie_session, set_cookie

routes = web.RouteTableDef()

PAGE = "a page of the back office"


@routes.get(LOGIN)
@allow(Access.ANYBODY, errors=Errors.HTML)
@undocumented(PAGE)
async def get_login_page(request: web.Request) -> web.Response:
    return _login_page(request, request.query.get("next", ""))


def _login_page(request: web.Request, wanted: str, name: str | None = None) -> web.Response:
    """The form; once more if somebody of this name was refused, whatever the reason."""
    return admin_page(
        request,
        "login.html",
        200 if name is None else 401,
        given={"username": name or "", "next": wanted if is_next(wanted) else ""},
        is_refused=name is not None,
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
    cookie = None
    if name and password and keeps_cookies(request):
        try:
            shown = await check_credentials(request, name, password, admits=_is_admin)
        except (WrongCredentials, SuspendedAccount):
            return _login_page(request, wanted, name)
        async with work_on(request) as work:
            cookie = await open_cookie_session(work, shown)
    if cookie is None:
        return _login_page(request, wanted, name)
    led = see_other(request, wanted if is_next(wanted) else ADMIN)
    set_cookie(led, cookie)
    return led


def _is_admin(account: users.Credentials) -> bool:
    # To everybody else a right password is a wrong one, so that this page tells nothing of any account.
    return account.role == "admin" and account.suspended_at is None


@routes.post("/admin/logout")
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
