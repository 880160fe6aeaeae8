"""Reading what comes in: JSON bodies, forms and query strings."""

import asyncio
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, cast
from urllib.parse import parse_qsl

import orjson
from aiohttp import web
from marshmallow import Schema, ValidationError

from referral.contract.access import MAX_BODY
from referral.contract.problems import Problem, invalid_members

# A body that has not arrived after so many seconds is cut.
BODY_TIMEOUT = 20.0
# Characters of a query string that is cached, longer than any of the service's own: 20,000 of them must not fill the memory.
LONGEST_KEPT = 400
# Members of a form at most.
MOST_MEMBERS = 20
# RFC 9110 section 12.5.3: a 415 names the encodings that are taken.
ENCODING_REFUSED = {"Accept-Encoding": "identity", "Connection": "close"}


def refuse_unreadable(request: web.Request) -> None:
    """Raises a problem for a body that no call reads, whatever it holds: one that is encoded, and one that is declared
    larger than its endpoint reads. The connection ends with the answer.

    Inflating on the event loop would let two slow clients stop everybody: 1 KB of gzip is 1 MB of zeros.
    """
    if not request.body_exists:
        return
    encodings = ",".join(request.headers.getall("Content-Encoding", ())).lower().split(",")
    if {encoding.strip() for encoding in encodings} - {"", "identity"}:
        raise Problem("unsupported-encoding", "Send the body without Content-Encoding.", headers=ENCODING_REFUSED)
    most = _most_of(request)
    if (request.content_length or 0) > most:
        raise too_large(most)


def _most_of(request: web.Request) -> int:
    """How many bytes the endpoint reads."""
    declared = getattr(request.match_info.handler, "__declaration__", None)
    return MAX_BODY if declared is None else declared.max_body


def too_large(most: int = MAX_BODY) -> Problem:
    """The problem of a body of more bytes than these, whose rest is not waited for."""
    return Problem("payload-too-large", f"The body is larger than {most // 1024} KiB.", headers={"Connection": "close"})


async def read_body(request: web.Request) -> bytes:
    """The whole body. Raises a problem when it is too large or malformed, or does not arrive within
    BODY_TIMEOUT seconds."""
    try:
        # Most bodies have arrived with their heads.
        async with nullcontext() if request.content.is_eof() else asyncio.timeout(BODY_TIMEOUT):
            most = _most_of(request)
            return await (request.read() if most == MAX_BODY else _read_large(request, most))
    except TimeoutError:
        # The rest of the body may still come, so that the connection cannot be used again.
        raise Problem(
            "request-timeout",
            f"The body did not arrive within {BODY_TIMEOUT:.0f} seconds.",
            headers={"Connection": "close"},
        ) from None
    except (web.RequestPayloadError, ConnectionError):
        # The chunks are malformed, or the client hung up: the service is not to blame, and logs no fault.
        raise Problem(
            "bad-request", "The body breaks off or is not encoded as its headers say.", headers={"Connection": "close"}
        ) from None


async def _read_large(request: web.Request, most: int) -> bytes:
    """The body, of more than the application's own limit; kept, because a request may be made again."""
    if LARGE_BODY not in request:
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > most:
                raise too_large(most)
        request[LARGE_BODY] = bytes(body)
    return request[LARGE_BODY]


def parse_json(body: bytes) -> Any:
    """The document. Raises a problem for what is not JSON in UTF-8 (RFC 8259), empty, or nested deeper than 1,000."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not body.strip():
            raise Problem("malformed-json", "The body is empty; a JSON object is due.") from None
        raise Problem("malformed-json", f"The body is not JSON in UTF-8: {error}.") from None


def is_json(request: web.Request) -> bool:
    """Whether the body says that it is JSON: application/json, or a type built upon it (RFC 6839)."""
    kind = request.content_type
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def parse_form(body: bytes, most: int = MOST_MEMBERS) -> list[tuple[str, str]]:
    """The members of a URL-encoded form, empty and repeated ones included. Raises ValueError for what is none in UTF-8, and
    for more than so many."""
    return parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=most, errors="strict")


async def read_form(request: web.Request, most: int = MOST_MEMBERS) -> dict[str, str]:
    """The members of a page's form, so many at most. Raises a problem for a body that is not one."""
    try:
        return dict(parse_form(await read_body(request), most))
    except ValueError:
        raise Problem("bad-request", "The body must be a URL-encoded form in UTF-8.") from None


async def read_json(request: web.Request) -> Any:
    """The document of a JSON body. Raises a problem for another media type, and as `read_body` and `parse_json` do."""
    if not is_json(request):
        raise Problem("unsupported-media-type", "Send JSON with the header Content-Type: application/json.")
    if (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        raise Problem("unsupported-media-type", "Send JSON in UTF-8.")
    return parse_json(await read_body(request))


def load(schema: Schema, given: Any) -> dict[str, Any]:
    """What the schema makes of the input. Raises a `validation-error` with the JSON Pointer of every bad member."""
    try:
        return cast(dict[str, Any], schema.load(given))
    except ValidationError as error:
        raise invalid_members(list(_flat("", error.messages))) from None


def load_query(schema: Schema, query_string: str) -> dict[str, Any]:
    """What the schema makes of a query string; of a repeated member the last one counts. Do not change the result: it is
    cached. Raises as `load` does."""
    return (_load_kept if len(query_string) <= LONGEST_KEPT else _load_query)(schema, query_string)


def _load_query(schema: Schema, query_string: str) -> dict[str, Any]:
    return load(schema, dict(parse_qsl(query_string, keep_blank_values=True)))


# Cached, because the same addresses and pages are asked for again and again, and parsing an e-mail address costs as much as
# everything else in a look-up.
_load_kept = lru_cache(maxsize=20_000)(_load_query)


def _flat(pointer: str, messages: Any) -> Any:
    """(JSON Pointer, sentence) of each message in marshmallow's tree."""
    if isinstance(messages, dict):
        for key, inner in messages.items():
            escaped = str(key).replace("~", "~0").replace("/", "~1")
            yield from _flat(pointer if key == "_schema" else f"{pointer}/{escaped}", inner)
    else:
        for message in messages if isinstance(messages, list) else [messages]:
            yield pointer, str(message)


LARGE_BODY = web.RequestKey("large_body", bytes)
# What the schemas of a handler made of the body and of the query string.
BODY = web.RequestKey("body", dict[str, Any])
QUERY = web.RequestKey("query", dict[str, Any])
