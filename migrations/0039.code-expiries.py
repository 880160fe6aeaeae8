"""How far the ends of codes have been told that end by time.

This is Python, because what has expired before is not told, and each database has a clock of its own.
"""

import time
from typing import Any

from yoyo import step

__depends__ = {"0038.webhooks"}

# One row. Codes are told in the order of their expiry, and of their texts where that is the same: up to this one.
TABLE = """
CREATE TABLE code_expiries (
    id BIGINT NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL,
    code TEXT NOT NULL,
    CONSTRAINT code_expiries_one_row CHECK (id = 1)
)
"""
INDEX = "CREATE INDEX codes_by_expiry ON codes (expires_at, code) WHERE revoked_at IS NULL"


def apply(conn: Any) -> None:
    cursor = conn.cursor()
    cursor.execute(TABLE)
    now = int(time.time() * 1000)
    cursor.execute(f"INSERT INTO code_expiries (id, expires_at, code) VALUES (1, {now}, '')")  # noqa: S608 - a number
    cursor.execute(INDEX)


def rollback(conn: Any) -> None:
    cursor = conn.cursor()
    cursor.execute("DROP INDEX codes_by_expiry")
    cursor.execute("DROP TABLE code_expiries")


steps = [step(apply, rollback)]
