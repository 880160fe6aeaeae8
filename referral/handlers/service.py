"""Documentation, health and metrics."""

import asyncio
from functools import cache

import orjson
from aiohttp import web

from referral.cache import CACHES
from referral.cache.codes import CODE_CACHE
from referral.config import CONFIG
from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, Limit, allow
from referral.contract.openapi import build_openapi, undocumented
from referral.database import DATABASE, Database, DatabaseUnavailable
from referral.metrics import METRICS
from referral.queries import cache_epoch, service
from referral.web.answers import answer, answer_in_pieces
from referral.web.assets import asset
from referral.web.drain import LEAVING
from referral.web.pages import html

routes = web.RouteTableDef()

# Seconds for the database to answer; one that takes longer is not ready.
READY_TIMEOUT = 2.0

# Swagger UI styles elements through the DOM and shows images of its own as data: URLs; the calls go to this service.
DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
# ReDoc searches in a worker that it makes of a blob.
REDOC_POLICY = f"{DOCS_POLICY}; worker-src blob:"


@routes.get("/")
@allow(Access.ANYBODY, Limit.EXEMPT)
@undocumented("the documentation, for a reader")
async def get_root(request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": request.app[PUBLIC_URL].path("/docs")})


@routes.get("/docs")
@allow(Access.ANYBODY, Limit.EXEMPT)
@undocumented("the documentation, for a reader")
async def get_docs(request: web.Request) -> web.Response:
    return html(request, "docs.html", policy=DOCS_POLICY)


@routes.get("/redoc")
@allow(Access.ANYBODY, Limit.EXEMPT)
@undocumented("the documentation, for a reader")
async def get_redoc(request: web.Request) -> web.Response:
    return html(request, "redoc.html", policy=REDOC_POLICY)


@routes.get("/assets/{asset}")
@allow(Access.ANYBODY, Limit.EXEMPT)
@undocumented("files of the pages")
async def get_asset(request: web.Request) -> web.StreamResponse:
    """A file of the pages."""
    return asset(request, request.match_info["asset"])


@routes.get("/openapi.json")
@allow(Access.ANYBODY, Limit.EXEMPT)
@undocumented("the document itself")
async def get_openapi(request: web.Request) -> web.StreamResponse:
    return answer_in_pieces(request, _openapi_bytes(request.app), {"Content-Type": "application/json"})


@cache
def _openapi_bytes(app: web.Application) -> bytes:
    # Built when it is first asked for, so that a start need not wait for it.
    return orjson.dumps(build_openapi(app, app[CONFIG]))


@routes.get("/health/live")
@allow(Access.ANYBODY, Limit.EXEMPT)
@undocumented("a probe, for what keeps the service running")
async def get_live(request: web.Request) -> web.Response:
    return answer({"status": "ok", "checks": {}}, headers={"Cache-Control": "no-store"})


@routes.get("/health/ready")
@allow(Access.ANYBODY, Limit.EXEMPT)
@undocumented("a probe, for what keeps the service running")
async def get_ready(request: web.Request) -> web.Response:
    """`degraded` when requests can be answered, but more slowly, because the cache is out; `details` says what Redis has
    against the service, if anything. `stopping` when the next requests had better go elsewhere."""
    no_store = {"Cache-Control": "no-store"}
    if request.app[LEAVING].has_begun:
        return answer({"status": "stopping", "checks": {}}, 503, no_store)
    checks = {"database": "ok", "cache": "ok" if await request.app[CODE_CACHE].healthy() else "unavailable"}
    status = "ok" if checks["cache"] == "ok" else "degraded"
    try:
        async with asyncio.timeout(READY_TIMEOUT):
            await _check_database(request.app[DATABASE])
    except (DatabaseUnavailable, TimeoutError):
        checks["database"] = status = "unavailable"
    body: dict[str, object] = {"status": status, "checks": checks}
    if trouble := request.app[CACHES].trouble:
        body["details"] = {"cache": trouble}
    return answer(body, 503 if status == "unavailable" else 200, no_store)


async def _check_database(database: Database) -> None:
    """Raises DatabaseUnavailable when the database cannot be read or written. Nothing is written to find that out, unless
    the latest write failed: a service that gets no requests until it is ready would never find out that it can write
    again."""
    async with database.reader() as conn:
        await service.ping(conn)
    await database.check_writable()
    if database.write_failed:
        # A change that does no harm: SQLite writes nothing for a value that stays the same.
        async with database.transaction() as conn:
            await cache_epoch.advance_epoch(conn)


@routes.get("/metrics")
@allow(Access.ANYBODY, Limit.EXEMPT)
@undocumented("a probe, for what keeps the service running")
async def get_metrics(request: web.Request) -> web.StreamResponse:
    headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    return answer_in_pieces(request, request.app[METRICS].text(), headers)
