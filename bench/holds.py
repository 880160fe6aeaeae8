"""Many holds that end at once: how long the service takes to approve them, and what look-ups feel of it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.figures import Figure, Setting
from bench.fill import fill, pour
from bench.ledger import Pending
from bench.load import Load
from bench.servers import postgres_server, run_command, service
from bench.traffic import gentle_lookups
from referral.database import is_postgres, sqlite_path

REWARDS = 100_000
# All become due within so many milliseconds.
WITHIN = 60_000
# Milliseconds before the first one is due, in which the service starts and is looked at while it is quiet.
BEFORE = 30_000
DAY = 86_400_000
# Nobody waits longer than this for the last one, in seconds.
PATIENCE = 600

Ask = Callable[[str], Any]


def holds(folder: Path, setting: Setting) -> Iterator[Figure]:
    """On SQLite and on PostgreSQL, one worker."""
    for engine in ("SQLite", "PostgreSQL"):
        place = folder / f"holds-{engine}"
        place.mkdir()
        with contextlib.ExitStack() as stack:
            url = f"sqlite:///{place / 'bench.db'}"
            if engine == "PostgreSQL":
                url = stack.enter_context(postgres_server(place))
            yield from _figures(engine, place, url, setting)


def _figures(engine: str, folder: Path, url: str, setting: Setting) -> Iterator[Figure]:
    population = fill(url, setting.referrers, setting.referrals)
    tomorrow = _now() + DAY
    pour(url, Pending(population, REWARDS, tomorrow, WITHIN).tables())
    # Fails if anything is kept that is not so.
    run_command(folder, "verify", REFERRAL_DATABASE_URL=url)
    with _asking(url) as ask:
        first_due = _now() + BEFORE
        sooner = f"due_at - {tomorrow - first_due}"
        ask(f"UPDATE rewards SET due_at = {sooner}, release_at = {sooner} WHERE due_at IS NOT NULL RETURNING 1")
        with service(folder, REFERRAL_AUTH_BCRYPT_ROUNDS="4", REFERRAL_DATABASE_URL=url) as running:

            def measured() -> Load:
                return asyncio.run(gentle_lookups(running, setting.seconds))

            quiet = []
            while _now() + 1_000 * (setting.seconds + 1) < first_due:
                quiet.append(measured())
            assert quiet, "the service took too long to start"
            time.sleep(max(0, (first_due - _now()) / 1000))
            busy, last = [], 0
            while not last:
                busy.append(measured())
                last = ask("SELECT CASE WHEN min(due_at) IS NULL THEN max(approved_at) ELSE 0 END FROM rewards")
                assert _now() < first_due + PATIENCE * 1_000
    run_command(folder, "verify", REFERRAL_DATABASE_URL=url)
    seconds = (last - first_due) / 1000
    yield Figure(
        f"{engine}: {REWARDS:,} holds end within a minute", seconds, "s until all are approved", "under 120 s", [seconds], {}
    )
    times = [load.p99 for load in busy]
    notes = {
        "requests_per_second": statistics.median(load.rate for load in busy),
        "quiet_p99_ms": statistics.median(load.p99 for load in quiet),
        "worst_p99_ms": max(times),
    }
    yield Figure(f"{engine}: look-ups while holds end: p99", statistics.median(times), "ms", "under 30 ms", times, notes)


def _now() -> int:
    """Now, in ms."""
    return int(time.time() * 1000)


@contextlib.contextmanager
def _asking(url: str) -> Iterator[Ask]:
    """What a database answers to a statement: the first column of the first row."""
    if is_postgres(url):
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            yield lambda statement: _first(connection.execute(statement.encode()).fetchall())
        return
    with contextlib.closing(sqlite3.connect(sqlite_path(url), isolation_level=None)) as file:
        yield lambda statement: _first(file.execute(statement).fetchall())


def _first(rows: list[Any]) -> Any:
    return rows[0][0]
