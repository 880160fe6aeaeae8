"""Who is signed in at the back office, and whose form it is that a browser sends.

A session is held by a cookie, which nothing but pages under /admin take; they take no token and no key. The database is
asked on every request: pages are asked for seldom, and whatever ends a session is seen by the next one on every worker.
"""

import hmac
from contextlib import suppress
from ipaddress import ip_address

from aiohttp import web
from yarl import URL

from referral.auth.identity import IDENTITY
from referral.auth.tokens import SIGNER, hash_token, new_token
from referral.clock import SECOND, now
from referral.config import CONFIG
from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, Declaration
from referral.contract.problems import Problem
from referral.database import DATABASE, DatabaseUnavailable
from referral.limits import ADDRESS, LIMITER
from referral.queries import session_cookies
from referral.rules.credentials import Shown
from referral.rules.signing_in import begin_session, origin_of
from referral.rules.work import Work
from referral.web.bodies import read_form
from referral.web.callers import second_factor_required

# Browsers take a cookie of this name from this host alone, over https, for all of its paths.
COOKIE = "__Host-referral-admin"
# A session ends when it was not used for so long.
IDLE_TTL = 12 * 3600 * SECOND
# When it was last used is kept to the minute, so that not every request writes.
USE_KEPT = 60 * SECOND
# What the form token of a session is made for.
FORMS = b"referral.admin-forms.v1"
FORM_TOKEN = "form_token"
ACCOUNT, LOGOUT = "/admin/account", "/admin/logout"
# Members of a form at most.
MOST_MEMBERS = 100


async def prepare_page(request: web.Request, declared: Declaration, limits: tuple[str, str] | None) -> None:
    """See to all that a page of the back office needs before its handler is called: that a form comes from a page of the
    service's own, who is signed in, under IDENTITY, and what the form has, under FORM.

    Raises `unauthorized` for nobody who is signed in, whom the answer leads to the sign-in, and `forbidden` for whoever is
    no admin any more and for a form that no page of this session has sent.
    """
    sends = request.method not in ("GET", "HEAD")
    if sends:
        _check_origin(request)
    if declared.access is Access.ADMIN_PAGE:
        await _identify(request, limits)
    elif limits:
        await request.app[LIMITER].hit(limits[1], request[ADDRESS])
    if sends:
        form = request[FORM] = await read_form(request, MOST_MEMBERS)
        token = form.pop(FORM_TOKEN, "")
        if declared.access is Access.ADMIN_PAGE and not _is_own(request, token):
            raise Problem("forbidden", "This form belongs to another session. Nothing was done. Open the page again.")


def _check_origin(request: web.Request) -> None:
    """Raises `forbidden` for what was not sent from a page of this service, as browsers say it."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    is_own = origin in _origins(request) if origin is not None else site == "same-origin"
    if not is_own or site not in (None, "same-origin"):
        raise Problem("forbidden", "This form was not sent from a page of this service. Nothing was done.")


def _origins(request: web.Request) -> tuple[str, ...]:
    public = request.app[PUBLIC_URL].origin
    # Over plain http, which is for trying things out, the machine may be called by several names. One that leads a browser
    # here from elsewhere has none of this host's cookies.
    return (public,) if public.startswith("https:") else (public, f"http://{request.host}")


async def _identify(request: web.Request, limits: tuple[str, str] | None) -> None:
    app, moment = request.app, now()
    text = request.cookies.get(COOKIE)
    session = None
    # Bytes that are no UTF-8 come as halves of characters, which have no hash.
    if text and text.isascii():
        async with app[DATABASE].reader() as conn:
            session = await session_cookies.find_session_of_cookie(conn, hash_token(text), moment)
    if session is None:
        await app[LIMITER].hit("request_by_address", request[ADDRESS])
        raise Problem("unauthorized", "Sign in first.")
    if limits:
        await app[LIMITER].hit(limits[0], session.user_id)
    if not session.is_admin:
        raise Problem("forbidden", "These pages are for admins, and this account is none any more.")
    request[IDENTITY] = session
    if app[CONFIG].admin.require_totp and not session.has_second_factor and not _is_own_account(request.path):
        raise second_factor_required()
    if session.last_used_at <= moment - USE_KEPT:
        # A database that takes no writes still answers questions.
        with suppress(DatabaseUnavailable):
            async with app[DATABASE].transaction() as conn:
                await session_cookies.touch_session(
                    conn,
                    session.session_id,
                    moment,
                    moment - USE_KEPT,
                    IDLE_TTL,
                    app[CONFIG].auth.session_ttl * SECOND,
                    origin_of(request),
                )


def _is_own_account(path: str) -> bool:
    """Whether the page is about the account of whoever looks: there a second factor is switched on."""
    return path in (ACCOUNT, LOGOUT) or path.startswith(f"{ACCOUNT}/")


def form_token_of(request: web.Request) -> str:
    """The token that each form of a page has: an HMAC of the session, whose key is made of the signing key. Empty where
    nobody is signed in."""
    return _form_tokens(request)[0] if IDENTITY in request else ""


def _form_tokens(request: web.Request) -> tuple[str, str]:
    session = request[IDENTITY]
    return request.app[SIGNER].keyed_hashes(FORMS, session.session_id)


def _is_own(request: web.Request, token: str) -> bool:
    given = token.encode()
    # Each is compared, however the first turns out.
    current, previous = (hmac.compare_digest(given, expected.encode()) for expected in _form_tokens(request))
    return current or previous


async def open_cookie_session(work: Work, shown: Shown) -> str | None:
    """Start a session of an account, which a cookie of the text returned holds; None when the credentials have just become
    void."""
    account = await shown.renewed(work)
    ttl = min(IDLE_TTL, work.request.app[CONFIG].auth.session_ttl * SECOND)
    session = await begin_session(work, account, work.moment + ttl)
    if session is None:
        return None
    text = new_token()
    await session_cookies.insert_session_cookie(work.conn, hash_token(text), session.session_id, work.moment)
    await work.record("signed-in", actor=account.user_id)
    return text


def set_cookie(response: web.Response, text: str) -> None:
    """Let the browser keep the session's cookie until it is closed; no script sees it, and no other site's page sends it."""
    response.set_cookie(COOKIE, text, secure=True, httponly=True, samesite="Strict")


def drop_cookie(response: web.Response) -> None:
    """Let the browser forget the session's cookie."""
    response.del_cookie(COOKIE, secure=True, httponly=True, samesite="Strict")


def keeps_cookies(request: web.Request) -> bool:
    """Whether a browser keeps the cookie: over https, or on its own machine."""
    return request.app[PUBLIC_URL].origin.startswith("https:") or _is_loopback(URL.build(authority=request.host).host or "")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


# What the form of a page has, without its token.
FORM = web.RequestKey("form", dict[str, str])
