"""The statements of `sql/` by name: their SQL in the parameter style of a dialect, and the names of their columns.

Rows become objects by the names of their columns. This module reads the names off the SQL, so that statements and records
are compared when statements are loaded, before any statement has run.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiosql
from aiosql.adapters.aiosqlite import AioSQLiteAdapter
from aiosql.adapters.asyncpg import AsyncPGAdapter

R = TypeVar("R")

SQL = Path(__file__).resolve().parent.parent.parent / "sql"
ADAPTERS = {"sqlite": AioSQLiteAdapter, "postgres": AsyncPGAdapter}

# Texts between quotes and comments are no words of the statement.
QUOTED = re.compile(r"'(?:[^']|'')*'|--[^\n]*")
INNERMOST = re.compile(r"\([^()]*\)")
# Stands for whatever was in parentheses. No column's name contains it.
PARENTHESES = "\0"
RESULT = re.compile(
    r"\bRETURNING\b(?P<returned>.*)|\A(?!.*\bRETURNING\b)\s*(?:WITH\b.*?)?\bSELECT\b(?P<selected>.*?)(?:\bFROM\b|\Z)",
    re.DOTALL,
)
COLUMN = re.compile(r"(?:.*\bAS\s+|\s*(?:\w+\.)?)(\w+)\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Statement:
    """The SQL as the driver takes it; the names of its parameters in the order of `$1, $2, …`, where there is one; the
    names of its columns, none for a statement that returns no rows."""

    sql: str
    parameters: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


def load_statements(dialect: str, records: Mapping[str, type] | None = None) -> dict[str, Statement]:
    """Load the statements of `sql/NAME.sql` and `sql/NAME.DIALECT.sql`, by name; `dialect` is sqlite or postgres.

    `records` says which record the rows of a statement become. Raises ValueError when a name stands twice, when a column
    has no name, and when the fields of a record are not the columns of its statement. aiosql checks each statement against
    the parameters that it declares.
    """
    statements = dict(_read(dialect))
    for name, record in (records or {}).items():
        if name not in statements:
            raise ValueError(f"{record.__name__}: there is no statement {name}")
        try:
            builder_of(record, statements[name].columns)
        except ValueError as error:
            raise ValueError(f"statement {name}: {error}") from None
    return statements


@functools.cache  # Reading takes 16 ms.
def _read(dialect: str) -> dict[str, Statement]:
    others = tuple(f".{other}.sql" for other in ADAPTERS if other != dialect)
    statements: dict[str, Statement] = {}
    for file in sorted(SQL.glob("*.sql")):
        if file.name.endswith(others):
            continue
        adapter = ADAPTERS[dialect]()
        queries = aiosql.from_path(file, lambda adapter=adapter: adapter)
        for name in queries.available_queries:
            if name.endswith("_cursor"):
                continue
            if name in statements:
                raise ValueError(f"{file.name}: statement {name} stands in another file, too")
            sql = getattr(queries, name).sql
            order = getattr(adapter, "var_sorted", {}).get(name, ())
            try:
                statements[name] = Statement(sql, tuple(order), columns_of(sql))
            except ValueError as error:
                raise ValueError(f"{file.name}: statement {name}: {error}") from None
    return statements


def columns_of(sql: str) -> tuple[str, ...]:
    """The names of the columns that a statement returns, in their order.

    Raises ValueError for a column without a name: each database names expressions in its own way, so that AS has to name
    them.
    """
    text, nested = QUOTED.sub("", sql).rstrip().removesuffix(";"), 1
    while nested:
        text, nested = INNERMOST.subn(PARENTHESES, text)
    result = RESULT.search(text)
    if result is None:
        return ()
    columns = []
    for number, column in enumerate((result["returned"] or result["selected"]).split(","), 1):
        found = COLUMN.fullmatch(column)
        if found is None:
            raise ValueError(f"column {number} has no name; say AS")
        columns.append(found[1])
    return tuple(columns)


def builder_of(record: type[R], columns: tuple[str, ...]) -> Callable[[Sequence[Any]], R]:
    """A function that makes an object of a row: each column goes to the field of its name.

    `record` is a dataclass or a NamedTuple. Raises ValueError when its fields are not these columns.
    """
    kind: Any = record
    build: Callable[[Sequence[Any]], R] = _builder(kind, columns)
    return build


@functools.cache
def _builder(record: Any, columns: tuple[str, ...]) -> Callable[[Sequence[Any]], Any]:
    names = tuple(item.name for item in fields(record)) if is_dataclass(record) else tuple(getattr(record, "_fields", ()))
    if sorted(names) != sorted(columns):
        raise ValueError(f"its columns are {', '.join(columns) or 'none'}; {record.__name__} has {', '.join(names)}")
    if names == columns:
        # A row in the order of a NamedTuple's fields needs no more checks: this takes two thirds of the time.
        return partial(tuple.__new__, record) if issubclass(record, tuple) else lambda row: record(*row)
    order = [columns.index(name) for name in names]
    return lambda row: record(*(row[place] for place in order))
