"""CORS: pages of the origins in `server.cors_origins` may call the API, and those of `links.allowed_origins` may report
clicks (the Fetch standard's protocol).

Requests carry no credentials: a page puts its access token into a header itself, and nothing here goes by cookies.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

# Headers that a page may send and read, beyond those that every page may.
REQUEST_HEADERS = "Authorization, Content-Type, X-Request-ID"
RESPONSE_HEADERS = "Link, Location, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-ID"
# Seconds that a browser may remember a permission.
MAX_AGE = "600"

# Whether a page of this origin may call a path.
Permitted = Callable[[str, str | None], bool]


def permitting(everywhere: Iterable[str], more: Mapping[str, Iterable[str]]) -> Permitted:
    """What permits pages of these origins to call every path, and those of `more` to call its path."""
    origins = frozenset(everywhere)
    at = {path: origins | frozenset(others) for path, others in more.items()}
    return lambda path, origin: origin in at.get(path, origins)


def answering_preflights(permitted: Permitted) -> Middleware:
    """The middleware that tells a browser, before it sends a page's request, which methods and headers an address takes."""

    @web.middleware
    async def answer_preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = request.match_info.http_exception
        if (
            request.method == "OPTIONS"
            and "Access-Control-Request-Method" in request.headers
            and permitted(request.path, request.headers.get("Origin"))
            and isinstance(refusal, web.HTTPMethodNotAllowed)
        ):
            permissions = {
                "Access-Control-Allow-Methods": ", ".join(sorted(refusal.allowed_methods)),
                "Access-Control-Allow-Headers": REQUEST_HEADERS,
                "Access-Control-Max-Age": MAX_AGE,
            }
            return web.Response(status=204, headers=permissions)
        return await handler(request)

    return answer_preflight


def allowing(permitted: Permitted) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """The signal handler (`on_response_prepare`) that lets pages which are permitted read an answer."""

    async def allow_origin(request: web.Request, response: web.StreamResponse) -> None:
        # Said without permission, too: a cache must not give this answer to a page that has permission.
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin is not None and permitted(request.path, origin):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = RESPONSE_HEADERS

    return allow_origin
