"""The shop's own data: its settings, and a SQLite file."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHOP_URL = os.environ.get("SHOP_URL", "http://127.0.0.1:8001")
DATA = Path(os.environ.get("SHOP_DATA", HERE / "var"))
SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT NOT NULL UNIQUE COLLATE NOCASE, name TEXT NOT NULL,
    salt BLOB NOT NULL, password BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (token_hash TEXT PRIMARY KEY, user_id INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, user_id INTEGER NOT NULL, cents INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS reports (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, event TEXT NOT NULL, answer TEXT);
"""


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """A transaction, which is committed at the end of the block, and undone by an exception."""
    db = sqlite3.connect(DATA / "shop.db", timeout=10)
    db.row_factory = sqlite3.Row
    try:
        with db:
            yield db
    finally:
        db.close()


DATA.mkdir(parents=True, exist_ok=True)
with database() as first:
    first.executescript(SCHEMA)
