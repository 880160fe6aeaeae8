"""Several statements in one round trip: PostgreSQL takes those that change something as common table expressions (CTEs) of
the statement behind them.

All of them see what was there before any of them ran, and nobody says in which order they run. So only statements are joined
that have nothing to do with each other: none names a table that another one changes.
"""

import functools
import re

from referral.database.statements import QUOTED, Statement

CHANGED = re.compile(r"\b(?:INSERT INTO|UPDATE|DELETE FROM)\s+(?!(?:SET|OF|SKIP)\b)(\w+)")
PLAIN_INSERT = re.compile(r"\s*INSERT INTO \w+ \([^()]*\)\s*VALUES\b(?!.*\b(?:SELECT|DO UPDATE)\b)", re.DOTALL)
# What a CTE can stand before.
TAKES_CTES = re.compile(r"\s*(?:SELECT|INSERT|UPDATE|DELETE)\b")
PLACEHOLDER = re.compile(r"\$(\d+)")


@functools.cache
def joinable(first: Statement, second: Statement) -> bool:
    """Whether the first statement, whose rows nobody wants, can run in one round trip with the second one."""
    if first.columns or not TAKES_CTES.match(_bare(first)) or not TAKES_CTES.match(_bare(second)):
        return False
    if _is_plain_insert(first) and _is_plain_insert(second):
        return True
    return not (_changed(first) & _words(second) or _changed(second) & _words(first))


@functools.cache
def joined(statements: tuple[Statement, ...]) -> Statement:
    """One statement that does what these do, any two of which are `joinable`. It returns the rows of the last one. Each
    parameter has the number of its statement before its name."""
    texts: list[str] = []
    parameters: list[str] = []
    for number, statement in enumerate(statements):
        texts.append(_renumbered(statement.sql, len(parameters)))
        parameters += [prefixed(number, name) for name in statement.parameters]
    ctes = ", ".join(f"joined_{number} AS (\n{text}\n)" for number, text in enumerate(texts[:-1]))
    return Statement(f"WITH {ctes}\n{texts[-1]}", tuple(parameters), statements[-1].columns)


def prefixed(number: int, name: str) -> str:
    """The name that a parameter of the n-th statement has in the joined one."""
    return f"{number}.{name}"


def _renumbered(sql: str, offset: int) -> str:
    return PLACEHOLDER.sub(lambda found: f"${int(found[1]) + offset}", sql).rstrip().removesuffix(";")


@functools.cache
def _bare(statement: Statement) -> str:
    return QUOTED.sub("", statement.sql)


def _is_plain_insert(statement: Statement) -> bool:
    return PLAIN_INSERT.match(_bare(statement)) is not None


@functools.cache
def _changed(statement: Statement) -> frozenset[str]:
    return frozenset(CHANGED.findall(_bare(statement)))


@functools.cache
def _words(statement: Statement) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", _bare(statement)))
