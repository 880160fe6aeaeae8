"""Keyset paging: an opaque cursor names the last item of a page, and the next one starts behind it."""

import base64
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

import orjson
from aiohttp import web

from referral.config.public_url import PUBLIC_URL
from referral.contract.problems import Problem, invalid

T = TypeVar("T")
Key = tuple[int, str]

# The total of a list of events or rewards counts no further.
MOST_COUNTED = 10_000
# The key before the first page: it sorts behind every real item.
BEGINNING: Key = (2**62, "~")


def read_cursor(query: dict[str, Any]) -> Key:
    """The key (time in ms, text) behind which the page starts. Raises a problem for a cursor this service did not make."""
    cursor = query.get("cursor")
    if cursor is None:
        return BEGINNING
    try:
        time, text = orjson.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
        if type(time) is int and 0 <= time <= BEGINNING[0] and type(text) is str and text.isprintable():
            return time, text
    except (ValueError, TypeError):
        pass
    raise cursor_refused()


def cursor_refused() -> Problem:
    """For a cursor that this list did not make."""
    return invalid("/cursor", "Must be the next_cursor of a page before, unchanged.")


def encode_cursor(key: Key) -> str:
    """The cursor of a page that starts behind this key."""
    return base64.b64encode(orjson.dumps(key), altchars=b"-_").decode()


def cursor_length(longest: int) -> tuple[int, int]:
    """Characters of a cursor with so long a text, at least and at most."""
    return len(encode_cursor((0, ""))), len(encode_cursor((BEGINNING[0], "\U0010ffff" * longest)))


def page(
    request: web.Request,
    found: Sequence[T],
    limit: int,
    total: int,
    key: Callable[[T], Key],
    view: Callable[[T], dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, str]]:
    """The Page document of up to `limit` of the items found (ask for one more), and its Link header (RFC 8288), which
    asks for the same things."""
    items, headers, next_cursor = found[:limit], {}, None
    if len(found) > limit:
        next_cursor = encode_cursor(key(items[-1]))
        # A query may hold all of the cursor's characters (RFC 3986 section 3.4).
        filters = [(name, value) for name, value in request.query.items() if name not in ("limit", "cursor")]
        asked = f"{urlencode(filters)}&" if filters else ""
        path = request.app[PUBLIC_URL].path(request.rel_url.raw_path)
        headers["Link"] = f'<{path}?{asked}limit={limit}&cursor={next_cursor}>; rel="next"'
    return {"items": [view(item) for item in items], "total": total, "next_cursor": next_cursor}, headers
