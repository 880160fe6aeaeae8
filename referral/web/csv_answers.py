"""Lists as CSV (RFC 4180) for spreadsheets: all rows that match, page by page, in columns that the JSON view has, too.

An answer is written as its client reads it, and is never silently short: where a page cannot be read, the connection is cut.
"""

import csv
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from decimal import Decimal
from io import StringIO
from typing import Any, TypeVar

import orjson
from aiohttp import ClientConnectionResetError, web
from marshmallow import Schema, fields

from referral.config import CONFIG
from referral.contract.paging import Key, page, read_cursor
from referral.contract.schemas.pages import CSV
from referral.database import DATABASE, Connection, Database, TransactionConflict
from referral.rules.units import known_exponent_of
from referral.web.answers import answer
from referral.web.bodies import QUERY
from referral.web.headers import HEADERS

T = TypeVar("T")

# Reads so many items at most behind a key, and says how many there are in all.
Read = Callable[[Connection, Key, int], Awaitable[tuple[Sequence[T], int]]]
# The decimal of an amount (int) in a unit, where it is known.
Decimals = Callable[[int, str], Decimal | None]

# Items of a page.
ROWS = 250
# Without it, spreadsheets take the text for that of an older encoding.
BOM = "\ufeff"
# What is a number beside a unit, and no amount of it.
COUNT = "count"
# What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection).
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def is_csv(request: web.Request) -> bool:
    """Whether the query asks for `format=csv`."""
    return bool(request[QUERY].get("format") == CSV)


async def answer_list(
    request: web.Request,
    name: str,
    schema: type[Schema],
    read: Read[T],
    *,
    key: Callable[[T], Key],
    view: Callable[[T], dict[str, Any]],
    snapshot: bool = False,
) -> web.StreamResponse:
    """The page of a list that the query asks for or, with `format=csv`, all from its cursor on.

    `name` is that of the file, and `schema` of an item's view. Whatever `read` raises for the first page is an answer's
    problem. A list of which a page takes several statements of one moment needs a `snapshot`.
    """
    query, database = request[QUERY], request.app[DATABASE]
    before = read_cursor(query)
    if is_csv(request):
        return await answer_rows(request, name, schema, _pages(database, read, before, key, view))
    limit = query["limit"]
    async with database.replica(snapshot=snapshot) as conn:
        found, total = await read(conn, before, limit + 1)
    document, headers = page(request, found, limit, total, key=key, view=view)
    return answer(document, headers=headers)


async def _pages(
    database: Database, read: Read[T], before: Key, key: Callable[[T], Key], view: Callable[[T], dict[str, Any]]
) -> AsyncIterator[list[dict[str, Any]]]:
    has_more = True
    while has_more:
        found = await _page(database, read, before)
        items, has_more = found[:ROWS], len(found) > ROWS
        yield [view(item) for item in items]
        before = key(items[-1]) if items else before


async def _page(database: Database, read: Read[T], before: Key) -> Sequence[T]:
    """One more item than a page has. Nobody who reads slowly holds a connection."""
    try:
        # At one moment: of a list that takes two statements, none is lost in between.
        async with database.replica(snapshot=True) as conn:
            found, _ = await read(conn, before, ROWS + 1)
    except TransactionConflict:
        async with database.snapshot() as conn:
            found, _ = await read(conn, before, ROWS + 1)
    return found


async def answer_all(
    request: web.Request, name: str, schema: type[Schema], views: list[dict[str, Any]]
) -> web.StreamResponse:
    """A list that comes as a whole, `{items}`, or its CSV."""
    if is_csv(request):
        return await answer_rows(request, name, schema, one_page(views))
    return answer({"items": views})


async def one_page(views: list[dict[str, Any]]) -> AsyncIterator[list[dict[str, Any]]]:
    """The pages of what comes as a whole."""
    yield views


async def answer_rows(
    request: web.Request,
    name: str,
    schema: type[Schema],
    pages: AsyncIterator[list[dict[str, Any]]],
    units: Sequence[str] = (),
) -> web.StreamResponse:
    """A file `NAME.csv` of views, which come page by page. A list of amounts has columns for each of these units."""
    config = request.app[CONFIG]

    def decimal(amount: int, unit: str) -> Decimal | None:
        exponent = known_exponent_of(unit, config)
        return None if exponent is None else Decimal(amount).scaleb(-exponent)

    shape = schema()
    first = await anext(pages)
    disposition = f'attachment; filename="{name}.csv"'
    headers = {**HEADERS, "Content-Type": "text/csv; charset=utf-8", "Content-Disposition": disposition}
    response = web.StreamResponse(headers=headers)
    try:
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        header = [column for column, _ in cells(shape, {}, decimal, units)]
        await response.write((BOM + _lines([header])).encode())
        await response.write(_lines(_row(shape, view, decimal, units) for view in first).encode())
        async for views in pages:
            await response.write(_lines(_row(shape, view, decimal, units) for view in views).encode())
        await response.write_eof()
    except ClientConnectionResetError:
        # The client has hung up: the service is not to blame, and logs no fault.
        return response
    except Exception:
        # What has begun as an answer cannot end as a problem.
        if request.transport is not None:
            request.transport.abort()
        raise
    return response


def cells(
    schema: Schema, view: dict[str, Any], decimal: Decimals, units: Sequence[str], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """The columns of a schema, each with what the view has there. What is nested has its parent's name before its own, and
    amounts have a decimal beside them."""
    for member, field in schema.fields.items():
        name, value = field.data_key or member, view.get(field.data_key or member)
        column = f"{prefix}{name}"
        if isinstance(field, fields.Nested):
            yield from cells(field.schema, value or {}, decimal, units, f"{column}_")
        elif isinstance(field, fields.List) and _are_amounts(field.inner):
            amounts = {one["unit"]: one["amount"] for one in value or ()}
            for unit in units:
                amount = amounts.get(unit, 0)
                yield f"{column}_{unit}", amount
                yield f"{column}_{unit}_decimal", decimal(amount, unit)
        else:
            yield column, value
            if "unit" in schema.fields and isinstance(field, fields.Integer) and name != COUNT:
                # A percentage has a greatest amount, and no unit of its own.
                own_unit = view.get("unit")
                yield f"{column}_decimal", None if value is None or own_unit is None else decimal(value, own_unit)


def _are_amounts(inner: fields.Field[Any]) -> bool:
    return isinstance(inner, fields.Nested) and "unit" in inner.schema.fields


def _row(schema: Schema, view: dict[str, Any], decimal: Decimals, units: Sequence[str]) -> list[str]:
    return [cell(value) for _, value in cells(schema, view, decimal, units)]


def cell(value: Any) -> str:
    """The text of a value. What is no number is never a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, list) and not any(isinstance(one, dict) for one in value):
        value = " ".join(map(str, value))
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    # Some spreadsheets look for it behind blanks, too.
    return f"'{text}" if text.startswith(FORMULA) or text.lstrip().startswith(FORMULA) else text


def _lines(rows: Any) -> str:
    buffer = StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerows(rows)
    return buffer.getvalue()
