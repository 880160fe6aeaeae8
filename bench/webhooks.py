"""What webhooks cost the events that they tell of, how many deliveries a core makes, and what a backlog of a million does
to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.figures import Figure, Setting
from bench.fill import pour, user_id
from bench.load import Caller
from bench.rewards import PLAIN, REFEREES, REFERRERS, rewarded_events
from bench.servers import (
    API,
    LOAD_CORE,
    ROOT,
    Service,
    free_port,
    new_key,
    postgres_server,
    run_command,
    service,
    settings,
    started,
)
from referral.auth.sealing import open_seal
from referral.config import load_config
from referral.webhooks.signing import new_secret

# The type that one rule rewards: a reward that is made, and a balance that is changed by it.
WATCHED = "watched"
# Seconds in which deliveries are counted, one time after the other, and how many wait: few, so that they just last, and
# many.
TIMED = 2
TIMES = 3
SMALL, LARGE = 30_000, 1_000_000
LOCAL = {"REFERRAL_WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.0/8", "REFERRAL_AUTH_BCRYPT_ROUNDS": "4"}
CHANGE = json.dumps({"user_id": "01a1fc33-b15e-7485-b662-a53a843b9176", "unit": "USD", "pending": 980, "available": 500})


def webhooks(folder: Path, setting: Setting) -> Iterator[Figure]:
    """On SQLite and on PostgreSQL, one worker, with a receiver on the load's core."""
    port = free_port()
    address = f"http://127.0.0.1:{port}/"
    with started([sys.executable, "-m", "bench.receiver", str(port)], ROOT, {}, address, LOAD_CORE):
        for engine in ("SQLite", "PostgreSQL"):
            with contextlib.ExitStack() as stack:
                place = folder / f"webhooks-{engine}"
                place.mkdir()
                url = f"sqlite:///{place / 'bench.db'}"
                if engine == "PostgreSQL":
                    url = stack.enter_context(postgres_server(place))
                yield _events(engine, place, url, address, setting)
                yield from _deliveries(engine, place, url, address)


def told(address: str) -> tuple[int, float]:
    """What the receiver got since it was last asked: how many, and in how many seconds."""
    count, first, last = urllib.request.urlopen(address).read().split()
    return int(count), float(last) - float(first)


def _wait_until_quiet(address: str, running: Service) -> int:
    """Wait until nothing is delivered any more; how many deliveries that took."""
    total, quiet = 0, 0
    while quiet < 2:
        time.sleep(1)
        count = told(address)[0]
        total, quiet = total + count, quiet + 1 if count == 0 else 0
    return total


def _events(engine: str, folder: Path, url: str, address: str, setting: Setting) -> Figure:
    """The rate of events with two changes each with one webhook, as a part of that without, round by round."""
    more = {**LOCAL, "REFERRAL_DATABASE_URL": url, "REFERRAL_ATTRIBUTION_CONVERTS_ON": f"purchase,{PLAIN},{WATCHED}"}
    with service(folder, **more) as running:
        key = new_key(folder, "admin", **more)
        people = asyncio.run(_programme(running, key))

        def rate() -> float:
            return asyncio.run(rewarded_events(running, key, WATCHED, people, setting.seconds, rewards=1)).rate

        ratios, rates, plain, meanwhile = [], [], [], []
        rate()
        before = rate()
        for _ in range(setting.rounds):
            webhook = asyncio.run(_call(running, key, "POST", "/webhooks", {"url": address, "types": ["*"]}))
            time.sleep(0.5)
            told(address)
            found = rate()
            meanwhile.append(told(address)[0] / setting.seconds)
            _wait_until_quiet(address, running)
            asyncio.run(_call(running, key, "DELETE", f"/webhooks/{webhook['id']}"))
            # Its deliveries are cleared up.
            time.sleep(3)
            after = rate()
            ratios.append(found / ((before + after) / 2))
            rates.append(found)
            plain.append(after)
            before = after
    notes = {
        "requests_per_second": statistics.median(rates),
        "plain_per_second": statistics.median(plain),
        "delivered_per_second": statistics.median(meanwhile),
    }
    name = f"{engine}: an event with two changes and a webhook"
    return Figure(name, statistics.median(ratios), "of the rate without a webhook", "0.8", ratios, notes)


async def _call(running: Service, key: str, method: str, path: str, body: Any = None) -> Any:
    status, document = await Caller(running.port).call(method, f"{API}{path}", body, key)
    assert status in (200, 201, 202, 204), document
    return document


async def _programme(running: Service, key: str) -> list[str]:
    """A rule whose rewards are held, and people who came by others; the external ids of these."""
    give = {"kind": "balance", "unit": "USD", "fixed": 500}
    rule = {"name": "watched", "on": WATCHED, "to": "referrer", "times": None, "give": give, "hold_days": 30}
    await _call(running, key, "POST", "/rules", rule)
    people = []
    for referrer in range(REFERRERS):
        await _call(running, key, "PUT", f"/users/ext:r{referrer}", {"code": {"ttl_days": 30, "code": f"R{referrer:04}"}})
        for referee in range(REFEREES):
            name = f"r{referrer}-{referee}"
            body = {"id": f"in_{name}", "type": PLAIN, "user": {"external_id": name}, "code": f"R{referrer:04}"}
            await _call(running, key, "POST", "/events", body)
            people.append(name)
    return people


def _deliveries(engine: str, folder: Path, url: str, address: str) -> Iterator[Figure]:
    """Deliveries a second, and memory, with a small and with a large backlog."""
    rates, sizes, rounds = {}, {}, {}
    for backlog in (SMALL, LARGE):
        place = folder / str(backlog)
        place.mkdir()
        with contextlib.ExitStack() as stack:
            here = f"sqlite:///{place / 'bench.db'}" if engine == "SQLite" else stack.enter_context(postgres_server(place))
            more = {**LOCAL, "REFERRAL_DATABASE_URL": here}
            run_command(place, "migrate", **more)
            _fill(here, backlog, address, settings(place, free_port(), **more))
            with service(place, **more) as running:
                told(address)
                rounds[backlog] = []
                for _ in range(TIMES):
                    time.sleep(TIMED)
                    count, seconds = told(address)
                    rounds[backlog].append(count / seconds)
                rates[backlog], sizes[backlog] = statistics.median(rounds[backlog]), running.memory()
    notes = {"per_second": rates[SMALL], "megabytes": sizes[SMALL]}
    name = f"{engine}: deliveries to a local receiver"
    yield Figure(name, rates[SMALL], "a second on one core", "1,000", rounds[SMALL], notes)
    notes = {"per_second": rates[LARGE], "megabytes": sizes[LARGE], "megabytes_before": sizes[SMALL]}
    name = f"{engine}: deliveries with a backlog of a million"
    yield Figure(
        name, rates[LARGE] / rates[SMALL], "of the rate with thirty thousand", "1", [rates[LARGE] / rates[SMALL]], notes
    )


WEBHOOK_ID = user_id(0, 0)


def _fill(url: str, backlog: int, address: str, environ: dict[str, str]) -> None:
    """A webhook, and so many changes and deliveries that wait for it."""
    now = int(time.time() * 1000)
    secret = open_seal(load_config(environ=environ).auth).seal(new_secret())
    changes = (
        (seq, user_id(seq, now), "balance.changed", now, f"user{seq % 1000}", seq // 1000 + 1, None, CHANGE)
        for seq in range(1, backlog + 1)
    )
    waiting = ((seq, WEBHOOK_ID, "waiting", 0) for seq in range(1, backlog + 1))
    webhook = (WEBHOOK_ID, address, '["*"]', "enabled", secret, now)
    columns = ("seq", "id", "type", "at", "subject_id", "version", "user_id", "data")
    pour(
        url,
        [
            ("changes", columns, changes, backlog),
            ("webhooks", ("id", "url", "types", "status", "secret", "created_at"), iter([webhook]), 1),
            ("deliveries", ("seq", "webhook_id", "status", "next_attempt_at"), waiting, backlog),
        ],
    )
    _settle(url, backlog)
    # What the filling left to be written must not be written while the service is measured.
    os.sync()


def _settle(url: str, seq: int) -> None:
    """The feed goes to this number, and the database has its statistics."""
    statement = f"UPDATE feed SET last_seq = {seq}"
    if url.startswith("postgresql:"):
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement.encode())
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")
        return
    import sqlite3

    from referral.database import sqlite_path

    with contextlib.closing(sqlite3.connect(sqlite_path(url), isolation_level=None)) as file:
        file.execute(statement)
