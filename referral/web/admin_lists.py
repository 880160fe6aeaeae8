"""Lists of the back office: a part of them at a time, and times as browsers' fields give them."""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from aiohttp import web

from referral.contract.paging import Key, encode_cursor, read_cursor

T = TypeVar("T")

# Rows of a page.
ROWS = 25
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MINUTE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d", re.ASCII)


def cursor_in(request: web.Request) -> Key:
    """The key behind which the page of a list starts. Raises a `validation-error`."""
    cursor = request.query.get("cursor")
    return read_cursor({"cursor": cursor} if cursor else {})


def part_of(found: Sequence[T], key: Callable[[T], Key]) -> tuple[Sequence[T], str | None]:
    """The rows of a page, of those found (ask for one more than ROWS), and the cursor of the next page, if there is one."""
    rows = found[:ROWS]
    return rows, encode_cursor(key(rows[-1])) if len(found) > ROWS else None


def utc_text(text: str) -> str:
    """RFC 3339 of what a field for a day or a minute gives, in UTC; any other text as it is, for a schema to judge."""
    if _DAY.fullmatch(text):
        return f"{text}T00:00:00Z"
    return f"{text}:00Z" if _MINUTE.fullmatch(text) else text.strip()
