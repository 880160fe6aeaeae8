"""Transfers are never changed nor deleted: the schema refuses it, whoever tries.

This is Python, because each database has a language of its own for triggers.
"""

from typing import Any

from yoyo import step

__depends__ = {"0035.ledger"}

MESSAGE = "transfers are immutable: a correction is another transfer"
ACTIONS = ("UPDATE", "DELETE")


def apply(conn: Any) -> None:
    cursor = conn.cursor()
    if is_sqlite(conn):
        for action in ACTIONS:
            cursor.execute(
                f"CREATE TRIGGER transfers_no_{action.lower()} BEFORE {action} ON transfers "
                f"BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"
            )
        return
    cursor.execute(
        "CREATE FUNCTION refuse_change_of_transfers() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{MESSAGE}'; END $$"
    )
    for action in ACTIONS:
        cursor.execute(
            f"CREATE TRIGGER transfers_no_{action.lower()} BEFORE {action} ON transfers "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change_of_transfers()"
        )


def rollback(conn: Any) -> None:
    cursor = conn.cursor()
    for action in ACTIONS:
        cursor.execute(f"DROP TRIGGER transfers_no_{action.lower()}" + ("" if is_sqlite(conn) else " ON transfers"))
    if not is_sqlite(conn):
        cursor.execute("DROP FUNCTION refuse_change_of_transfers()")


def is_sqlite(conn: Any) -> bool:
    return type(conn).__module__.startswith("sqlite3")


steps = [step(apply, rollback)]
