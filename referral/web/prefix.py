"""Requests for a service whose `server.public_url` has a path: proxies may take it off before they pass a request on, or
not.

Nobody has to say which: a request that begins with the path is served as without it. Everything behind this, routes, limits,
the log and the metrics, knows the service's own paths only.
"""

from collections.abc import Callable, Iterable
from typing import Any

from yarl import URL

from referral.config.public_url import PublicURL

METADATA = "oauth-authorization-server"


def stripping(public: PublicURL, routes: Iterable[str]) -> Callable[[str], str]:
    """The function that takes the prefix off a raw path, for a service with the paths `routes`.

    The prefix may look like a path of the service: with `/api`, a proxy that has taken it off asks for `/api/v1/codes`, and
    one that has not for `/api/api/v1/codes`. What remains then decides: it has to begin like a path of the service, too.
    """
    known = {_first(path) for path in routes}
    is_route, resembles_route = public.prefix in routes, _first(public.prefix) in known
    metadata = public.well_known(METADATA)

    def strip(path: str) -> str:
        if path == metadata:
            return f"/.well-known/{METADATA}"
        rest = public.inside(path)
        if rest is None or (is_route and not rest) or (resembles_route and _first(rest) not in known):
            return path
        return rest or "/"

    return strip


def _first(path: str) -> str:
    return path.split("/", 2)[1] if path else ""


def stripped_requests(make_request: Callable[..., Any], strip: Callable[[str], str]) -> Callable[..., Any]:
    """aiohttp's request factory, for requests whose path went through `strip`."""

    def make(message: Any, *arguments: Any) -> Any:
        found = message.url.raw_path
        path = strip(found)
        if path != found:
            url = URL.build(path=path, query_string=message.url.raw_query_string, encoded=True)
            message = message._replace(path=str(url), url=url)
        return make_request(message, *arguments)

    return make
