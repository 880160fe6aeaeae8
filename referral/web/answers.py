"""Answers: JSON, and large bodies that many get."""

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


def not_modified(request: web.Request, headers: dict[str, str]) -> web.Response | None:
    """304 where the client has what these headers tag (RFC 9110 section 13.1.2); None where it has to be sent."""
    known = {tag.value for tag in request.if_none_match or ()}
    return web.Response(status=304, headers=headers) if {headers["ETag"].strip('"'), "*"} & known else None


class _InPieces(web.StreamResponse):
    """An answer that sends its body while aiohttp finishes it, outside of what a request is timed for, and where it knows
    what to do when the client has gone."""

    def __init__(self, request: web.Request, body: bytes, headers: dict[str, str]) -> None:
        super().__init__(headers=headers)
        self.content_length = len(body)
        self._writer = request.writer
        self._rest = memoryview(body if request.method != "HEAD" else b"")

    async def write_eof(self, data: bytes = b"") -> None:
        rest, self._rest = self._rest, self._rest[:0]
        for start in range(0, len(rest), PIECE):
            await self.write(rest[start : start + PIECE])
            await self._writer.drain()
        await super().write_eof(data)


def answer_in_pieces(request: web.Request, body: bytes, headers: dict[str, str]) -> web.StreamResponse:
    """An answer with a large body, which all who get it share: each connection holds the piece that its client reads.

    Whole, it would be copied for each client and kept until the slowest has read it.
    """
    return _InPieces(request, body, headers)
