"""JSON answers."""

from typing import Any

import orjson
from aiohttp import web

from referral.web.headers import JSON_HEADERS

# RFC 6749 section 5.1: tokens are not to be kept by any cache.
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def answer(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    found = JSON_HEADERS.copy()
    if headers:
        found.update(headers)
    return web.Response(body=orjson.dumps(document), status=status, headers=found)
