"""CORS: pages of the origins in `server.cors_origins` may call the API (the Fetch standard's protocol).

Requests carry no credentials: a page puts its access token into a header itself, and nothing here goes by cookies.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

# Headers that a page may send and read, beyond those that every page may.
REQUEST_HEADERS = "Authorization, Content-Type, X-Request-ID"
RESPONSE_HEADERS = "Link, Location, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-ID"
# Seconds that a browser may remember a permission.
MAX_AGE = "600"


def answering_preflights(origins: tuple[str, ...]) -> Middleware:
    """The middleware that tells a browser, before it sends a page's request, which methods and headers an address takes."""

    @web.middleware
    async def answer_preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = request.match_info.http_exception
        if (
            request.method == "OPTIONS"
            and "Access-Control-Request-Method" in request.headers
            and request.headers.get("Origin") in origins
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


def allowing(origins: tuple[str, ...]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """The signal handler (`on_response_prepare`) that lets a page of these origins read an answer."""

    async def allow_origin(request: web.Request, response: web.StreamResponse) -> None:
        # Said without permission, too: a cache must not give this answer to a page that has permission.
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin in origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = RESPONSE_HEADERS

    return allow_origin
