"""How many bytes of PostgreSQL's a user, an event and a click take, indexes included."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from bench.figures import Figure, Setting
from bench.fill import fill, pour
from bench.links import DAY, rows_of_clicks
from bench.rewards import PLAIN, VARIANTS, programme, rewarded_events
from bench.servers import new_key, postgres_server, service

REFERRERS, REFERRALS, CLICKS = 20_000, 100_000, 200_000
# Changes and deliveries are kept for a month, and are what an event takes most of.
KEPT = ("changes",)
WITH_TWO = "at-once"


def sizes(folder: Path, setting: Setting) -> Iterator[Figure]:
    """Each on a database of its own, durable."""
    for name, measure in (("users", _users), ("events", _events), ("clicks", _clicks)):
        place = folder / f"sizes-{name}"
        place.mkdir()
        with postgres_server(place) as url:
            yield from measure(url, place, setting)


def _users(url: str, folder: Path, setting: Setting) -> Iterator[Figure]:
    fill(url, REFERRERS, REFERRALS)
    size = sum(_size(url, table) for table in ("users", "codes", "referrals"))
    yield _figure("a user who came by somebody, with a sixth of a code", size / (REFERRERS + REFERRALS))


def _events(url: str, folder: Path, setting: Setting) -> Iterator[Figure]:
    more = {"REFERRAL_DATABASE_URL": url, "REFERRAL_ATTRIBUTION_CONVERTS_ON": ",".join(("purchase", PLAIN, *VARIANTS))}
    with service(folder, REFERRAL_AUTH_BCRYPT_ROUNDS="4", **more) as running:
        key = new_key(folder, "admin", **more)
        people = asyncio.run(programme(running, key))
        for kind, rewards in ((PLAIN, 0), (WITH_TWO, 2)):
            before, kept, known = _size(url), sum(_size(url, table) for table in KEPT), _count(url)
            asyncio.run(rewarded_events(running, key, kind, people, 2 * setting.seconds, rewards=rewards))
            made = _count(url) - known
            told = sum(_size(url, table) for table in KEPT) - kept
            words = "an event that two rules reward at once" if rewards else "an event that no rule rewards"
            yield _figure(words, (_size(url) - before - told) / made)
            yield _figure(f"{words}: its changes, for thirty days", told / made)


def _clicks(url: str, folder: Path, setting: Setting) -> Iterator[Figure]:
    today = int(time.time() * 1000) // DAY * DAY
    with service(folder, REFERRAL_DATABASE_URL=url):
        pass
    pour(url, rows_of_clicks(CLICKS, today))
    yield _figure("a click, for ninety days", _size(url, "clicks") / CLICKS)


def _figure(name: str, size: float) -> Figure:
    return Figure(f"bytes of {name}", size, "bytes", "", [size], {})


def _count(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT count(*) FROM events").fetchone()
    return found[0] if found else 0


def _size(url: str, table: str | None = None) -> int:
    """Bytes of a table with its indexes, or of all of them, after what VACUUM does."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM FULL")
        size = f"pg_total_relation_size('{table}')" if table else "pg_database_size(current_database())"
        found = connection.execute(f"SELECT {size}".encode()).fetchone()
    return int(found[0]) if found else 0
