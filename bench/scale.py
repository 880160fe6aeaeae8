"""The same work at ten thousand users and at millions: `python -m bench.scale [--engine sqlite|postgres] [--referrers N]`.

Fills two databases, runs the service on both at once, and asks them in turns, so that a machine that drifts slows both.
Writes `bench/results/scale-ENGINE.json`. PostgreSQL is one of its own, as Debian installs it, on the load's core.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.figures import RESULTS
from bench.fill import Population, code_of, fill, pour
from bench.ledger import UNIT, Ledger
from bench.load import wrk
from bench.servers import LOAD_CORE, Service, new_key, postgres_server, service
from bench.traffic import logins, pairs_of_writes, registrations
from referral import queries
from referral.database.opening import open_database
from referral.queries import programme_stats

# How often statistics are asked for, one after the other.
STATS_TIMES = 100
# Referrers, their referrals, and transfers.
SMALL = (2_000, 8_000, 10_000)


@dataclass
class Place:
    """A service, the people and the ledger in its database, how long it took to fill, and a key that may read."""

    running: Service
    population: Population
    ledger: Ledger
    fill_seconds: float
    key: str
    database_url: str


@contextlib.contextmanager
def place(engine: str, folder: Path, referrers: int, referrals: int, transfers: int) -> Iterator[Place]:
    folder.mkdir()
    url = f"sqlite:///{folder / 'bench.db'}"
    with contextlib.ExitStack() as stack:
        if engine == "postgres":
            url = stack.enter_context(postgres_server(folder))
        began = time.perf_counter()
        population = fill(url, referrers, referrals)
        ledger = Ledger(population, transfers)
        pour(url, ledger.tables())
        seconds = time.perf_counter() - began
        # What the filling left to be written must not be written while the service is measured.
        os.sync()
        running = stack.enter_context(service(folder, REFERRAL_DATABASE_URL=url, REFERRAL_AUTH_BCRYPT_ROUNDS="4"))
        key = new_key(folder, "read", REFERRAL_DATABASE_URL=url)
        yield Place(running, population, ledger, seconds, key, url)


def last_cursor(there: Place) -> str:
    """The cursor before the last fifty referrals of the biggest referrer."""
    from referral.contract.paging import encode_cursor

    population = there.population
    numbers = [number for number, referrer in enumerate(population.referrer_of, population.referrers) if referrer == 0]
    number = numbers[50]
    return encode_cursor((population.moment(number), population.id(number)))


def last_line_cursor() -> str:
    """The cursor before the oldest fifty lines of a statement."""
    from referral.contract.paging import encode_cursor

    return encode_cursor((51, ""))


def kinds_of_work(there: Place, seconds: int) -> dict[str, Callable[[], float]]:
    """What measures each kind of work, in answers a second."""
    running, population = there.running, there.population
    page = f"{running.url}/users/{population.id(0)}/referrals?limit=50"
    first = f"{running.url}/users/{population.id(0)}"
    statement = f"{first}/statement?unit={UNIT}&limit=50"
    some = population.referrers // 2

    def asking(url: str, header: str = running.signed_in) -> Callable[[], float]:
        return lambda: wrk(url, seconds, header, core=LOAD_CORE).rate

    def reading(url: str) -> Callable[[], float]:
        return asking(url, f"Authorization: Bearer {there.key}")

    def registering(code: str | None) -> Callable[[], float]:
        return lambda: asyncio.run(registrations(running, seconds, code)).rate

    return {
        "GET /codes/{code}": asking(f"{running.url}/codes/{code_of(some)}"),
        "GET /codes/by-email": asking(f"{running.url}/codes/by-email?email=user{some}@example.com"),
        "GET /users/me": asking(f"{running.url}/users/me"),
        "first page of the biggest referrer": asking(page),
        "last page of the biggest referrer": asking(f"{page}&cursor={last_cursor(there)}"),
        "GET /users/{user}/balances": reading(f"{first}/balances"),
        "first page of the longest statement": reading(statement),
        "last page of the longest statement": reading(f"{statement}&cursor={last_line_cursor()}"),
        "POST /codes + DELETE /codes/current": lambda: asyncio.run(pairs_of_writes(running, seconds)).rate,
        "login": lambda: asyncio.run(logins(running, seconds)).rate,
        "registration by nobody's code": registering(None),
        "registration by somebody's code": registering(code_of(some)),
        "registration by the biggest referrer's code": registering(code_of(0)),
    }


def latencies(there: Place, path: str, times: int) -> list[float]:
    """What answers to one question take, one after the other, in ms, the first one left out."""
    request = urllib.request.Request(f"{there.running.url}{path}", headers={"Authorization": f"Bearer {there.key}"})
    found = []
    for _ in range(times + 1):
        began = time.perf_counter()
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
        found.append((time.perf_counter() - began) * 1000)
    return found[1:]


def summed(there: Place) -> float:
    """Wait until the service has added to its sums what the filling changed of them; how many seconds that took."""
    began = time.perf_counter()
    while asyncio.run(_has_deltas(there.database_url)):
        time.sleep(0.5)
    return time.perf_counter() - began


async def _has_deltas(url: str) -> bool:
    database = await open_database(url, queries.records())
    try:
        async with database.reader() as conn:
            return await programme_stats.find_oldest_delta(conn) is not None
    finally:
        await database.close()


# A year by day, as it is asked for by whoever looks at the programme.
YEAR_OF_STATS = f"/stats?from={datetime.now(UTC).date() - timedelta(days=365)}&interval=day"


def measured(small: Place, big: Place, seconds: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Of each kind of work and round, the rates at both. One kind after the other, each at both in every round: the mail
    that registrations leave behind is sent while others are measured, and must burden both alike."""
    here, there = kinds_of_work(small, seconds), kinds_of_work(big, seconds)
    return {name: [(here[name](), there[name]()) for _ in range(rounds)] for name in here}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--referrers", type=int, default=1_000_000)
    parser.add_argument("--referrals", type=int, default=5_000_000)
    parser.add_argument("--transfers", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="referral-scale-"))
    try:
        with (
            place(arguments.engine, folder / "small", *SMALL) as small,
            place(arguments.engine, folder / "big", arguments.referrers, arguments.referrals, arguments.transfers) as big,
        ):
            sum_seconds = summed(big)
            stats = latencies(big, YEAR_OF_STATS, STATS_TIMES)
            found = measured(small, big, arguments.seconds, arguments.rounds)
            document = {
                "engine": arguments.engine,
                "users": {"small": small.population.users, "big": big.population.users},
                "transfers": {"small": small.ledger.transfers, "big": big.ledger.transfers},
                "longest_statement": {"small": small.ledger.longest, "big": big.ledger.longest},
                "fill_seconds": big.fill_seconds,
                "sum_seconds": sum_seconds,
                "stats_milliseconds": {"median": statistics.median(stats), "longest": max(stats)},
                "work": {
                    name: {
                        "small_per_second": statistics.median(here for here, _ in rates),
                        "big_per_second": statistics.median(there for _, there in rates),
                        "cost": statistics.median(here / there for here, there in rates),
                    }
                    for name, rates in found.items()
                },
            }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"scale-{arguments.engine}.json").write_text(json.dumps(document, indent=1) + "\n")
    filled = f"{big.population.users:,} users and {big.ledger.transfers:,} transfers"
    print(f"{filled} filled in {big.fill_seconds:.0f} s, and summed in {sum_seconds:.0f} s after it")
    print(f"GET /stats, a year by day: {statistics.median(stats):.1f} ms, {max(stats):.1f} at the longest of {STATS_TIMES}")
    for name, figures in document["work"].items():
        print(f"{name:45} {figures['big_per_second']:>9,.0f} a second, {figures['cost']:.2f} of the cost at ten thousand")


if __name__ == "__main__":
    main()
