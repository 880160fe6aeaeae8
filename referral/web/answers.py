"""Answers: JSON, and large bodies that many get."""

from contextlib import suppress
from typing import Any

import orjson
from aiohttp import web

from referral.web.headers import JSON_HEADERS

# Bytes of a large body that are handed to a connection at a time.
PIECE = 16_384

# RFC 6749 section 5.1: tokens are not to be kept by any cache.
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def answer(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    found = JSON_HEADERS.copy()
    if headers:
        found.update(headers)
    return web.Response(body=orjson.dumps(document), status=status, headers=found)


async def answer_in_pieces(request: web.Request, body: bytes, headers: dict[str, str]) -> web.StreamResponse:
    """An answer with a large body, which all who get it share: each connection holds the piece that its client reads.

    Whole, it would be copied for each client and kept until the slowest has read it.
    """
    response = web.StreamResponse(headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    # The client may be gone, and aiohttp finds that out at the end, too.
    with suppress(ConnectionError):
        for start in range(0, len(body), PIECE):
            await response.write(memoryview(body)[start : start + PIECE])
            await request.writer.drain()
    return response
