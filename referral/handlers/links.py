"""Share links: where one leads, and its QR code."""

import asyncio
import hashlib

from aiohttp import web
from multidict import CIMultiDict

from referral import qr
from referral.background.clicks import CLICKS
from referral.cache.codes import CODE_CACHE
from referral.contract.access import Access, Limit, allow
from referral.contract.openapi import undocumented
from referral.contract.problems import Problem, invalid
from referral.contract.schemas.links import QRQuerySchema
from referral.database import DatabaseUnavailable
from referral.ids import new_id
from referral.limits import ADDRESS, LIMITER
from referral.links import LINKS, QR, VIA, Links, Target, is_qr
from referral.metrics import METRICS
from referral.queries.codes import ActiveCode
from referral.robots import is_fetched_ahead
from referral.rules.clicking import new_click
from referral.rules.codes import loading
from referral.texts import code_in
from referral.web.answers import not_modified
from referral.web.bodies import load_query
from referral.web.headers import HEADERS

routes = web.RouteTableDef()

# Seconds that a visitor waits for the database, where the cache does not know the code.
PATIENCE = 1.0
QR_QUERY = QRQuerySchema()
# What a redirect has beside its Location. Where a visitor came from, the page that the link leads to may know as far as it
# would without the link in between.
REDIRECT_HEADERS = CIMultiDict({**HEADERS, "X-Robots-Tag": "noindex", "Referrer-Policy": "strict-origin-when-cross-origin"})


@routes.get("/r/{code}")
# It is counted in the handler, which lets nobody stand before a closed door: beyond the limit a link leads on.
@allow(Access.ANYBODY, Limit.EXEMPT)
@undocumented("a link, for a browser")
async def follow_link(request: web.Request) -> web.Response:
    """Lead a visitor on, and count the click. A HEAD request counts nowhere."""
    app = request.app
    links = _links(request)
    target, code = _target(request, links), code_in(request.match_info["code"])
    if code is None:
        return _redirect(target.plain)
    if not await app[LIMITER].allows("redirects_by_address", request[ADDRESS]):
        app[METRICS].clicks.labels("limited").inc()
        return _redirect(target.by(code, None))
    try:
        active = app[CODE_CACHE].at_hand(code)
        if active is None:
            async with asyncio.timeout(PATIENCE):
                active = await _active(request, code)
    except (DatabaseUnavailable, TimeoutError):
        # Whether the code is good is seen when it is used.
        app[METRICS].clicks.labels("unknown").inc()
        return _redirect(target.by(code, None))
    if active is None:
        return _redirect(target.plain)
    click_id = new_id()
    if request.method == "GET":
        is_robot = True if is_fetched_ahead(request.headers) else None
        app[CLICKS].add(
            new_click(request, click_id, active.code, is_qr=is_qr(request.rel_url.raw_query_string), is_robot=is_robot)
        )
    return _redirect(target.by(active.code, click_id), links.cookie(active.code, click_id))


def _links(request: web.Request) -> Links:
    links = request.app[LINKS]
    if links.target is None:
        raise Problem("not-found", "There are no share links here: links.destination is not set.")
    return links


def _target(request: web.Request, links: Links) -> Target:
    assert links.target is not None
    if not request.rel_url.raw_query_string:
        return links.target
    return links.target_to(request.rel_url.query.get("to", "")) or links.target


async def _active(request: web.Request, code: str) -> ActiveCode | None:
    return await request.app[CODE_CACHE].by_code(code, loading(request.app, code))


def _redirect(url: str, cookie: str | None = None) -> web.Response:
    headers = REDIRECT_HEADERS.copy()
    headers["Location"] = url
    if cookie:
        headers["Set-Cookie"] = cookie
    return web.Response(status=302, headers=headers)


@routes.get("/r/{code}/qr.svg")
@allow(Access.ANYBODY, Limit.LOOKUP)
@undocumented("an image")
async def get_qr_svg(request: web.Request) -> web.Response:
    """The QR code of an active code's link, as SVG."""
    link = await _link_of(request)
    return _image(request, "image/svg+xml", await asyncio.to_thread(qr.svg, link, _size(request)))


@routes.get("/r/{code}/qr.png")
@allow(Access.ANYBODY, Limit.LOOKUP)
@undocumented("an image")
async def get_qr_png(request: web.Request) -> web.Response:
    """The QR code of an active code's link, as PNG."""
    link = await _link_of(request)
    try:
        image = await asyncio.to_thread(qr.png, link, _size(request))
    except ValueError as error:
        raise invalid("/size", f"Must be larger: {error}.") from None
    return _image(request, "image/png", image)


async def _link_of(request: web.Request) -> str:
    """Where the QR code leads. Raises `not-found` for a code that is not active."""
    links, code = _links(request), code_in(request.match_info["code"])
    active = await _active(request, code) if code else None
    if active is None:
        raise Problem("not-found", "There is no such active code.")
    return f"{links.url_of(active.code)}?{VIA}={QR}"


def _size(request: web.Request) -> int:
    size: int = load_query(QR_QUERY, request.rel_url.raw_query_string)["size"]
    return size


def _image(request: web.Request, kind: str, body: bytes) -> web.Response:
    """An image that any page may show. It is asked for anew each time: the code may have ended."""
    tag = hashlib.sha256(body).hexdigest()[:16]
    headers = {
        "Content-Type": kind,
        "Cache-Control": "no-cache",
        "ETag": f'"{tag}"',
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    return not_modified(request, headers) or web.Response(body=body, headers=headers)
