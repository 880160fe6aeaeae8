"""Triggers that write into `stat_deltas` what each change of a row changes of the programme's sums.

This is Python, because each database has a language of its own for triggers. A trigger sees every change, whoever makes it,
and so also a version that knows nothing of the sums.

PostgreSQL locks each table for it, in the order in which transactions of the service come to them. Whoever has written to
one is waited for, 50 ms at most; then all of it is undone and made again.
"""

from typing import Any, NamedTuple

from yoyo import step

__depends__ = {"0049.programme-stats"}


class Part(NamedTuple):
    """What one row adds to a sum: expressions over the row."""

    what: str
    day: str
    unit: str = "''"
    count: str = "1"
    amount: str = "0"
    condition: str = "true"


class Source(NamedTuple):
    """What each row of a table adds, and which of its columns say so."""

    parts: tuple[Part, ...]
    columns: tuple[str, ...]


def day_of(moment: str) -> str:
    return f"{moment} - {moment} % 86400000"


SOURCES = {
    "referrals": Source(
        (
            Part("'referral'", day_of("row.joined_at")),
            Part("'converted'", day_of("row.converted_at"), condition="row.converted_at IS NOT NULL"),
        ),
        ("joined_at", "converted_at"),
    ),
    "events": Source(
        (
            Part(
                "row.type",
                day_of("row.occurred_at"),
                "coalesce(row.unit, '')",
                "1",
                "coalesce(row.amount, 0)",
                "row.type IN ('signup', 'purchase', 'refund')",
            ),
        ),
        ("type", "occurred_at", "unit", "amount"),
    ),
    "rewards": Source(
        (
            Part(
                "'reward'",
                day_of("row.created_at"),
                "coalesce(row.unit, '')",
                "1",
                "coalesce(row.value, 0) - row.reversed",
                "row.status <> 'void'",
            ),
        ),
        ("created_at", "unit", "value", "reversed", "status"),
    ),
    "accounts": Source(
        (
            Part("'pending'", "0", "row.unit", "0", "row.pending", "row.pending <> 0"),
            Part("'available'", "0", "row.unit", "0", "row.available", "row.available <> 0"),
        ),
        ("unit", "pending", "available"),
    ),
    "click_days": Source(
        (
            Part("'click'", "row.day", count="row.clicks", condition="row.clicks <> 0"),
            Part("'visitor'", "row.day", count="row.visitors", condition="row.visitors <> 0"),
            Part("'robot'", "row.day", count="row.robots", condition="row.robots <> 0"),
        ),
        ("day", "clicks", "visitors", "robots"),
    ),
}
ACTIONS = ("INSERT", "UPDATE", "DELETE")

# A row that keeps its day and unit is one difference of each sum, and not two.
NETTED = """
SELECT d.day, d.what, d.unit, sum(d.count), sum(d.amount) FROM (SIDES) AS d
GROUP BY d.day, d.what, d.unit HAVING sum(d.count) <> 0 OR sum(d.amount) <> 0
"""


def added(source: Source, row: str, sign: str) -> str:
    """A SELECT of what a row, NEW or OLD, adds; `sign` is '' or '-'."""
    selects = (
        f"SELECT {part.day} AS day, {part.what} AS what, {part.unit} AS unit, {sign}({part.count}) AS count, "
        f"{sign}({part.amount}) AS amount WHERE {part.condition}"
        for part in source.parts
    )
    return " UNION ALL ".join(selects).replace("row.", f"{row}.")


def insertion(source: Source, action: str) -> str:
    """The statement that writes what the action adds, and takes away. What comes to nothing is not written."""
    insert = "INSERT INTO stat_deltas (day, what, unit, count, amount) "
    if action == "INSERT":
        return insert + added(source, "NEW", "")
    if action == "DELETE":
        return insert + added(source, "OLD", "-")
    return insert + NETTED.replace("SIDES", f"{added(source, 'OLD', '-')} UNION ALL {added(source, 'NEW', '')}")


def condition(source: Source, action: str, is_sqlite: bool) -> str:
    """When the trigger is asked at all: most updates of a row leave its part as it is."""
    if action == "UPDATE":
        differs = "IS NOT" if is_sqlite else "IS DISTINCT FROM"
        return f"WHEN ({' OR '.join(f'OLD.{column} {differs} NEW.{column}' for column in source.columns)})"
    conditions = {part.condition for part in source.parts}
    if len(source.parts) > 1:
        return ""
    row = "NEW" if action == "INSERT" else "OLD"
    return f"WHEN ({conditions.pop()})".replace("row.", f"{row}.")


def name_of(table: str, action: str) -> str:
    return f"stat_{table}_{action.lower()}"


def apply(conn: Any) -> None:
    cursor = conn.cursor()
    is_sqlite = type(conn).__module__.startswith("sqlite3")
    for table, source in SOURCES.items():
        for action in ACTIONS:
            name, written = name_of(table, action), insertion(source, action)
            of = f" OF {', '.join(source.columns)}" if action == "UPDATE" else ""
            head = f"CREATE TRIGGER {name} AFTER {action}{of} ON {table} FOR EACH ROW {condition(source, action, is_sqlite)}"
            if is_sqlite:
                cursor.execute(f"{head} BEGIN {written}; END")
            else:
                cursor.execute(
                    f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {written}; RETURN NULL; END $$"
                )
                cursor.execute(f"{head} EXECUTE FUNCTION {name}()")
    # What is empty has its sums already.
    cursor.execute("UPDATE stat_state SET filled = 1 WHERE NOT EXISTS (SELECT 1 FROM users)")


def rollback(conn: Any) -> None:
    """The sums go, too: they would miss what comes afterwards."""
    cursor = conn.cursor()
    is_sqlite = type(conn).__module__.startswith("sqlite3")
    for table in SOURCES:
        for action in ACTIONS:
            name = name_of(table, action)
            cursor.execute(f"DROP TRIGGER {name}" + ("" if is_sqlite else f" ON {table}"))
            if not is_sqlite:
                cursor.execute(f"DROP FUNCTION {name}()")
    cursor.execute("DELETE FROM stat_deltas")
    cursor.execute("DELETE FROM stat_days")
    cursor.execute("UPDATE stat_state SET filled = 0")


steps = [step(apply, rollback)]
