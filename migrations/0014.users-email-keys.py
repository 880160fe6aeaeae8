"""Addresses are compared by local part and domain, no longer by a folding of the whole.

This is Python, because SQL has no A-labels. Only addresses that are not ASCII get another key: of the others both foldings
make the same. No two rows get one key: what the new folding takes for the same, the old one did, too.
"""

import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

import idna
from yoyo import step

__depends__ = {"0013.open-words"}

# Rows read at a time.
ROWS = 10_000


def new_key(address: str) -> str:
    local, _, domain = address.rpartition("@")
    return f"{unicodedata.normalize('NFC', local.lower())}@{idna.encode(domain).decode().lower()}"


def old_key(address: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", address).casefold())


def apply(conn: Any) -> None:
    rekey(conn, new_key)


def rollback(conn: Any) -> None:
    rekey(conn, old_key)


def rekey(conn: Any, key_of: Callable[[str], str]) -> None:
    """Give every address that is not ASCII this key, and what is kept under its former key, too.

    Going back, an address keeps its key where the old folding would give two accounts one key.
    """
    # SQLite's driver marks parameters by ?, psycopg by %s.
    mark = "?" if type(conn).__module__.startswith("sqlite3") else "%s"

    def run(text: str, *values: Any) -> Any:
        cursor = conn.cursor()
        cursor.execute(text.replace("?", mark), values)
        return cursor

    for user_id, address, former in list(international(run)):
        key = key_of(address)
        if key == former or run("SELECT 1 FROM users WHERE email_key = ?", key).fetchone():
            continue
        run("UPDATE users SET email_key = ? WHERE id = ?", key, user_id)
        run("UPDATE audit_events SET email = ? WHERE email = ?", key, former)
        run("UPDATE outbox SET recipient = ? WHERE recipient = ? AND user_id IS NULL", key, former)


def international(run: Callable[..., Any]) -> Iterator[tuple[str, str, str]]:
    """The id, the address and its key of each account whose address is not ASCII."""
    last = ""
    while rows := run("SELECT id, email, email_key FROM users WHERE id > ? ORDER BY id LIMIT ?", last, ROWS).fetchall():
        for user_id, address, former in rows:
            if address is not None and not address.isascii():
                yield user_id, address, former
        last = rows[-1][0]


steps = [step(apply, rollback)]
