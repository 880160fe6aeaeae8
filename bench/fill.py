"""Fills an empty database with referrers, their codes and referrals: `python -m bench.fill URL REFERRERS REFERRALS`.

Every referral is one more user, since nobody comes by two people. The first referrer has a fifth of all referrals, the
others' numbers fall off as a power law does. Ids, codes and times are what
the service would have made over two years.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from referral.database import is_postgres, sqlite_path
from referral.database.migrate import migrate
from referral.texts import fold_code

Progress = Callable[[str, int, int], None]
# A table's name, the columns that are filled, its rows, and how many they are.
Table = tuple[str, tuple[str, ...], Iterator[tuple[Any, ...]], int]

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
BATCH = 20_000
YEAR = 365 * 86_400_000
# What nobody's password has: nobody signs in to these accounts. The bench registers its own.
NO_PASSWORD = "$2b$12$" + "." * 53

USERS = (
    "id",
    "email",
    "email_key",
    "username",
    "username_key",
    "password_hash",
    "role",
    "referral_count",
    "code_count",
    "created_at",
)
CODES = ("code", "code_key", "referrer_id", "created_at", "expires_at", "uses")
REFERRALS = ("user_id", "referrer_id", "code", "joined_at")
# Those of SQLite that were created: the others belong to their tables.
INDEXES_OF = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"


def user_id(number: int, moment: int) -> str:
    """A UUIDv7 of a time (ms), the same for the same number."""
    scattered = number * 0x9E3779B97F4A7C15F39C % 2**74
    value = moment << 80 | 0x7 << 76 | (scattered >> 62) << 64 | 0b10 << 62 | scattered & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def code_of(number: int) -> str:
    """Eight characters, another for each number; F first, so that none is mistaken for a made one."""
    text, value = "", number * 2_654_435_761 % 2**34
    for _ in range(7):
        text, value = ALPHABET[value % 32] + text, value // 32
    return "F" + text


class Population:
    """`referrers` people with a code, and `referrals` who came by them. The first has a fifth of all referrals."""

    def __init__(self, referrers: int, referrals: int) -> None:
        self.referrers = referrers
        self.users = referrers + referrals
        self.start = int(time.time() * 1000) - 2 * YEAR
        self.step = 2 * YEAR / self.users
        draw = random.Random(1)
        # By whom each came, mixed in time as they come.
        self.referrer_of = [
            0 if draw.random() < 0.2 else min(int(draw.paretovariate(0.4)), referrers - 1) for _ in range(referrals)
        ]
        self.counts = Counter(self.referrer_of)

    def moment(self, number: int) -> int:
        """When this user came, in ms: referrers first, then their referrals."""
        return self.start + int(number * self.step)

    def id(self, number: int) -> str:
        return user_id(number, self.moment(number))

    def user_rows(self) -> Iterator[tuple[Any, ...]]:
        for number in range(self.users):
            name, moment = f"user{number}", self.moment(number)
            email = f"{name}@example.com"
            counts = self.counts[number], int(number < self.referrers)
            yield user_id(number, moment), email, email, name, name, NO_PASSWORD, "user", *counts, moment

    def code_rows(self) -> Iterator[tuple[Any, ...]]:
        for number in range(self.referrers):
            moment = self.moment(number)
            text = code_of(number)
            yield text, fold_code(text), user_id(number, moment), moment, moment + 5 * YEAR, self.counts[number]

    def referral_rows(self) -> Iterator[tuple[Any, ...]]:
        for number, referrer in enumerate(self.referrer_of, self.referrers):
            moment = self.moment(number)
            yield user_id(number, moment), self.id(referrer), code_of(referrer), moment

    def tables(self) -> list[Table]:
        return [
            ("users", USERS, self.user_rows(), self.users),
            ("codes", CODES, self.code_rows(), self.referrers),
            ("referrals", REFERRALS, self.referral_rows(), len(self.referrer_of)),
        ]


def bar(table: str, done: int, total: int) -> None:
    """A progress bar on standard error."""
    width = 40 * done // max(total, 1)
    end = "\n" if done == total else ""
    print(f"\r{table:13} [{'#' * width:<40}] {done:>10,} of {total:,}", end=end, file=sys.stderr, flush=True)


def fill(url: str, referrers: int, referrals: int, progress: Progress = bar) -> Population:
    """Migrate the database at `url` and fill it; it must be empty."""
    migrate(url)
    population = Population(referrers, referrals)
    pour(url, population.tables(), progress)
    return population


def pour(url: str, tables: list[Table], progress: Progress = bar) -> None:
    """Fill these empty tables of a migrated database, each after those that it refers to."""
    if is_postgres(url):
        asyncio.run(_pour_into_postgres(url, tables, progress))
    else:
        _pour_into_sqlite(url, tables, progress)


def _pour_into_sqlite(url: str, tables: list[Table], progress: Progress) -> None:
    connection = sqlite3.connect(sqlite_path(url), isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = OFF", "cache_size = -500000", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    for table, columns, rows, total in tables:
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        indexes = connection.execute(INDEXES_OF, (table,)).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        done = 0
        while batch := list(islice(rows, BATCH)):
            connection.execute("BEGIN")
            connection.executemany(statement, batch)
            connection.execute("COMMIT")
            done += len(batch)
            progress(table, done, total)
        # To sort millions of rows once is faster than to find each one's place.
        for _, definition in indexes:
            connection.execute(definition)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("PRAGMA optimize = 0x10002")
    connection.close()


async def _pour_into_postgres(url: str, tables: list[Table], progress: Progress) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    for table, columns, rows, total in tables:
        done = 0
        while batch := list(islice(rows, BATCH)):
            await connection.copy_records_to_table(table, records=batch, columns=columns)
            done += len(batch)
            progress(table, done, total)
        await connection.execute(f"ANALYZE {table}")
    await connection.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("referrers", type=int)
    parser.add_argument("referrals", type=int)
    arguments = parser.parse_args()
    began = time.perf_counter()
    fill(arguments.url, arguments.referrers, arguments.referrals)
    print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr)
