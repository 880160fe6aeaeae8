"""Every statement of `sql/`, by name, in the parameter style of a dialect."""

import functools
from dataclasses import dataclass
from pathlib import Path

import aiosql
from aiosql.adapters.aiosqlite import AioSQLiteAdapter
from aiosql.adapters.asyncpg import AsyncPGAdapter

SQL = Path(__file__).resolve().parent.parent.parent / "sql"
ADAPTERS = {"sqlite": AioSQLiteAdapter, "postgres": AsyncPGAdapter}


@dataclass(frozen=True, slots=True)
class Statement:
    """The SQL as its driver takes it, and the names of its parameters in the order of `$1, $2, …` where there is one."""

    sql: str
    parameters: tuple[str, ...]


def load_statements(dialect: str) -> dict[str, Statement]:
    """The statements of `sql/NAME.sql` and `sql/NAME.DIALECT.sql` by name; `dialect` is sqlite or postgres.

    aiosql checks each against its declared parameters. Raises ValueError for a name that stands twice.
    """
    return dict(_read(dialect))


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
            order = getattr(adapter, "var_sorted", {}).get(name, ())
            statements[name] = Statement(getattr(queries, name).sql, tuple(order))
    return statements
