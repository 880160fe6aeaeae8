"""Measures the service against a bare aiohttp handler: `python -m bench.run [NAME ...]`, all by default; `--help`.

The server has core 0 and the load core 1. Each round measures the bare handler before and after the service and divides by
the mean of both, so that a machine that drifts cancels out; what is written down is the median of the rounds. The service
runs as shipped: authentication, revocation check, limits (set so high that none is reached), metrics, request ids, and the
log of requests, which goes to a file.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import bcrypt

from bench.beside import beside
from bench.figures import Figure, Setting, write
from bench.fill import fill
from bench.holds import holds
from bench.links import links
from bench.load import Load, wrk
from bench.postgres import postgres
from bench.rewards import rewards
from bench.servers import (
    LOAD_CORE,
    ROOT,
    SERVER_CORE,
    bare_handler,
    free_port,
    redis_server,
    service,
    settings,
    started,
)
from bench.sizes import sizes
from bench.timing import timing
from bench.traffic import gentle_lookups, logins, pairs_of_writes, registrations
from bench.webhooks import webhooks


def against_bare(measure: Callable[[], Load], bare: str, setting: Setting) -> tuple[list[float], list[Load], list[float]]:
    """Ratios to the bare handler's rate, round by round; the loads, and the bare handler's rates."""
    ratios, loads, bares = [], [], []
    before = wrk(bare, setting.seconds, core=LOAD_CORE).rate
    for _ in range(setting.rounds):
        load = measure()
        after = wrk(bare, setting.seconds, core=LOAD_CORE).rate
        ratios.append(load.rate / ((before + after) / 2))
        loads.append(load)
        bares.append(after)
        before = after
    return ratios, loads, bares


def ratio_figure(name: str, target: str, url: str, header: str | None, bare: str, setting: Setting) -> Figure:
    headers = [header] if header else []
    ratios, loads, bares = against_bare(lambda: wrk(url, setting.seconds, *headers, core=LOAD_CORE), bare, setting)
    return Figure(
        name,
        statistics.median(ratios),
        "of the bare handler",
        target,
        ratios,
        {
            "requests_per_second": statistics.median(load.rate for load in loads),
            "p99_ms": statistics.median(load.p99 for load in loads),
            "bare_requests_per_second": statistics.median(bares),
        },
    )


def lookups(folder: Path, setting: Setting, **more: str) -> Iterator[Figure]:
    """The reads, each against the bare handler."""
    suffix = " through Redis" if "REFERRAL_CACHE_URL" in more else ""
    target = "0.30" if suffix else "0.50, p99 under 3 ms"
    with bare_handler() as bare, service(folder, **more) as running:
        email_url = f"{running.url}/codes/by-email?email=user7@example.com"
        yield ratio_figure(
            f"GET /codes/{{code}}{suffix}", target, f"{running.url}/codes/{running.code}", None, bare, setting
        )
        yield ratio_figure(f"GET /codes/by-email{suffix}", target, email_url, running.signed_in, bare, setting)
        if suffix:
            return
        from bench.fill import Population

        biggest = Population(setting.referrers, setting.referrals).id(0)
        page = f"{running.url}/users/{_biggest(folder) or biggest}/referrals?limit=50"
        yield ratio_figure("GET /users/{id}/referrals?limit=50", "0.20", page, running.signed_in, bare, setting)
        yield ratio_figure("GET /users/me", "0.30", f"{running.url}/users/me", running.signed_in, bare, setting)


@contextlib.contextmanager
def _reader(kind: str) -> Iterator[int | None]:
    """Where a log goes: None for a file, or the descriptor of a pipe or a terminal that is read on the load's core."""
    if kind == "file":
        yield None
        return
    out, into = os.pipe() if kind == "pipe" else os.openpty()
    reader = subprocess.Popen(["taskset", "-c", LOAD_CORE, "cat"], stdin=out, stdout=subprocess.DEVNULL)
    os.close(out)
    try:
        yield into
    finally:
        os.close(into)
        reader.kill()
        reader.wait()


def log(folder: Path, setting: Setting) -> Iterator[Figure]:
    """What the log of requests takes of a look-up, against the same service without it, on a copy of the database: two
    services that cache in their own memory share none."""
    beside = folder / "silent"
    beside.mkdir()
    shutil.copy(folder / "bench.db", beside)
    for form, kind in (("text", "file"), ("json", "file"), ("text", "pipe"), ("json", "pipe"), ("text", "terminal")):
        with (
            _reader(kind) as descriptor,
            service(beside, REFERRAL_LOG_LEVEL="warning") as silent,
            service(folder, log=descriptor, REFERRAL_LOG_FORMAT=form) as logging,
        ):
            shares, rates = [], []
            before = wrk(f"{silent.url}/codes/{silent.code}", setting.seconds, core=LOAD_CORE).rate
            for _ in range(setting.rounds):
                rate = wrk(f"{logging.url}/codes/{logging.code}", setting.seconds, core=LOAD_CORE).rate
                after = wrk(f"{silent.url}/codes/{silent.code}", setting.seconds, core=LOAD_CORE).rate
                shares.append(1 - rate / ((before + after) / 2))
                rates.append(rate)
                before = after
        notes = {"requests_per_second": statistics.median(rates)}
        yield Figure(
            f"the log, {form} to a {kind}", statistics.median(shares), "of a look-up's time", "at most 0.10", shares, notes
        )


def _biggest(folder: Path) -> str:
    import sqlite3

    with contextlib.closing(sqlite3.connect(folder / "bench.db")) as connection:
        return str(connection.execute("SELECT id FROM users ORDER BY referral_count DESC LIMIT 1").fetchone()[0])


def writes(folder: Path, setting: Setting) -> Iterator[Figure]:
    """Durable pairs of POST /codes and DELETE /codes/current, beside what the disk and SQLite alone give."""
    with service(folder, REFERRAL_AUTH_BCRYPT_ROUNDS="4") as running:
        loads, syncs, transactions = [], [], []
        for _ in range(setting.rounds):
            syncs.append(_syncs_per_second(folder))
            transactions.append(_transactions_per_second(folder))
            loads.append(asyncio.run(pairs_of_writes(running, setting.seconds)))
    pairs = [load.rate for load in loads]
    yield Figure(
        "POST /codes + DELETE /codes/current",
        statistics.median(pairs),
        "pairs a second",
        "2,000 or the disk's limit",
        pairs,
        {
            "fsyncs_per_second": statistics.median(syncs),
            "bare_sqlite_transactions_per_second": statistics.median(transactions),
            "share_of_bare_sqlite": statistics.median(
                2 * pair / transaction for pair, transaction in zip(pairs, transactions, strict=True)
            ),
            "p99_ms": statistics.median(load.p99 for load in loads),
        },
    )


def _syncs_per_second(folder: Path) -> float:
    """Appends of one page with fdatasync."""
    with (folder / "sync").open("wb", buffering=0) as file:
        count, end = 0, time.perf_counter() + 1
        while time.perf_counter() < end:
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            count += 1
    return float(count)


def _transactions_per_second(folder: Path) -> float:
    """Transactions of one insert through Python's sqlite3, WAL and synchronous = FULL."""
    import sqlite3

    file = folder / "bare.db"
    for old in folder.glob("bare.db*"):
        old.unlink()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE t (a TEXT PRIMARY KEY, b TEXT)")
        count, end = 0, time.perf_counter() + 1
        while time.perf_counter() < end:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO t VALUES (?, ?)", (f"{count:08}", "x" * 100))
            connection.execute("COMMIT")
            count += 1
    return float(count)


def passwords(folder: Path, setting: Setting) -> Iterator[Figure]:
    """Logins and registrations against what bcrypt itself gives on the same cores, and look-ups meanwhile."""
    cores = f"{SERVER_CORE},{LOAD_CORE}"
    with service(folder, cores) as running:
        for name, measure in (("login", logins), ("registration", registrations)):
            ratios, rates, limits = [], [], []
            before = _hashes_per_second(cores, setting.seconds)
            for _ in range(setting.rounds):
                load = asyncio.run(measure(running, setting.seconds))
                after = _hashes_per_second(cores, setting.seconds)
                ratios.append(load.rate / ((before + after) / 2))
                rates.append(load.rate)
                limits.append(after)
                before = after
            notes = {"per_second": statistics.median(rates), "bcrypt_per_second": statistics.median(limits)}
            yield Figure(name, statistics.median(ratios), "of bcrypt on the same cores", "0.95", ratios, notes)

        latencies = []
        for _ in range(setting.rounds):
            with ThreadPoolExecutor(1) as pool:
                storm = pool.submit(lambda: asyncio.run(logins(running, setting.seconds)))
                time.sleep(0.5)
                latencies.append(asyncio.run(gentle_lookups(running, max(1, setting.seconds - 2))).p99)
                storm.result()
        yield Figure(
            "look-ups while 32 clients log in: p99", statistics.median(latencies), "ms", "under 30 ms", latencies, {}
        )


def _hashes_per_second(cores: str, seconds: int) -> float:
    """bcrypt at 12 rounds, a thread a core."""
    count = len(cores.split(","))
    salt = bcrypt.gensalt(12)
    end = time.perf_counter() + seconds

    def work() -> int:
        done = 0
        while time.perf_counter() < end:
            bcrypt.hashpw(b"a password of forty-four characters, base64.", salt)
            done += 1
        return done

    started = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        done = sum(pool.map(lambda _: work(), range(count)))
    return done / (time.perf_counter() - started)


def memory(folder: Path, setting: Setting) -> Iterator[Figure]:
    """Resident memory after each quarter of a million look-ups of every sort."""
    with service(folder) as running:
        sizes = []
        kinds = [
            (f"{running.url}/codes/{running.code}", None),
            (f"{running.url}/codes/by-email?email=user7@example.com", running.signed_in),
            (f"{running.url}/users/me", running.signed_in),
        ]
        asked = 0.0
        while asked < 1_000_000:
            for url, header in kinds:
                load = wrk(url, 8, *([header] if header else []), core=LOAD_CORE)
                asked += load.rate * 8
            sizes.append(running.memory())
    yield Figure("memory after a million requests", sizes[-1], "MB", "under 90 MB, and flat", sizes, {"first": sizes[0]})


def start(folder: Path, setting: Setting) -> Iterator[Figure]:
    """Seconds from the start of run.py to its first answer, on a migrated database."""
    with service(folder):
        pass
    times = []
    for _ in range(setting.rounds):
        port = free_port()
        began = time.perf_counter()
        with started(
            [sys.executable, str(ROOT / "run.py")], folder, settings(folder, port), f"http://127.0.0.1:{port}/health/live"
        ):
            times.append(time.perf_counter() - began)
    yield Figure("start to first answer", statistics.median(times), "s", "under 0.6 s", times, {})


def redis(folder: Path, setting: Setting) -> Iterator[Figure]:
    """The look-ups through a Redis on the load's core."""
    with redis_server() as url:
        yield from lookups(folder, setting, REFERRAL_CACHE_URL=url)


def workers(folder: Path, setting: Setting) -> Iterator[Figure]:
    """Two workers on both cores, which the load generator shares, against one worker with a core of its own; and what two
    bare handlers make of the same cores.

    Without a cache: each look-up is the service's own work alone, not Redis's, which would want a third core.
    """
    both = f"{SERVER_CORE},{LOAD_CORE}"
    with (
        service(folder, REFERRAL_CACHE_URL="none://") as one,
        service(folder, both, REFERRAL_CACHE_URL="none://", REFERRAL_SERVER_WORKERS="2") as two,
        bare_handler() as bare,
        bare_handler(2, both) as bare_pair,
    ):

        def doubled(single: str, double: str) -> tuple[float, Load, Load]:
            """The rate of the double for each core that the load left it, as a part of the single one's; and both."""
            alone, load = wrk(single, setting.seconds, core=LOAD_CORE), wrk(double, setting.seconds)
            return load.rate / alone.rate / (2 - load.load_share), alone, load

        ratios, rates, shares, ones, bares = [], [], [], [], []
        for _ in range(setting.rounds):
            ratio, alone, load = doubled(f"{one.url}/codes/{one.code}", f"{two.url}/codes/{two.code}")
            ratios.append(ratio)
            rates.append(load.rate)
            ones.append(alone.rate)
            shares.append(load.load_share)
            bares.append(doubled(bare, bare_pair)[0])
    notes = {
        "requests_per_second": statistics.median(rates),
        "one_worker_per_second": statistics.median(ones),
        "load_generator_cores": statistics.median(shares),
        "two_bare_handlers": statistics.median(bares),
    }
    unit = "of one worker's rate for each core that the load left"
    yield Figure("two workers on two cores", statistics.median(ratios), unit, "1", ratios, notes)


PARTS: dict[str, Callable[[Path, Setting], Iterator[Figure]]] = {
    "lookups": lookups,
    "redis": redis,
    "log": log,
    "links": links,
    "writes": writes,
    "beside": beside,
    "rewards": rewards,
    "webhooks": webhooks,
    "holds": holds,
    "passwords": passwords,
    "memory": memory,
    "start": start,
    "workers": workers,
    "postgres": postgres,
    "sizes": sizes,
    "timing": timing,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=", ".join(PARTS))
    defaults = Setting()
    for name, value in asdict(defaults).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--output", default="results", help="the name of the file in bench/results")
    arguments = parser.parse_args()
    setting = Setting(**{name: getattr(arguments, name) for name in asdict(defaults)})
    folder = Path(tempfile.mkdtemp(prefix="referral-bench-"))
    figures = []
    try:
        fill(f"sqlite:///{folder / 'bench.db'}", setting.referrers, setting.referrals)
        for part in arguments.parts or PARTS:
            for figure in PARTS[part](folder, setting):
                figures.append(figure)
                notes = ", ".join(f"{name} {value:,.2f}" for name, value in figure.notes.items())
                print(
                    f"{figure.name:45} {figure.value:>9,.2f} {figure.unit} (to reach: {figure.target}; {notes})", flush=True
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    write(f"{arguments.output}.json", setting, figures)


if __name__ == "__main__":
    main()
