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
import json
import os
import platform
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import bcrypt

from bench.fill import fill
from bench.load import CONNECTIONS, Caller, Load, in_turns, wrk

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
API = "/api/v1"
PASSWORD = "a password of the bench"
SERVER_CORE, LOAD_CORE = "0", "1"
# So high that the bench never reaches one, and each is still counted.
NO_LIMIT = "1000000000/minute"


@dataclass
class Setting:
    """How long and how often to measure, and on how much data."""

    seconds: int = 4
    rounds: int = 5
    referrers: int = 2_000
    referrals: int = 8_000


@dataclass
class Figure:
    """One line of the table: the medians, and every round's value."""

    name: str
    value: float
    unit: str
    target: str
    rounds: list[float]
    notes: dict[str, float]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def bare_handler(processes: int = 1, cores: str = SERVER_CORE) -> Iterator[str]:
    """The bare handler on the server's core, or on these by several processes; its URL."""
    port = free_port()
    command, url = [sys.executable, "-m", "bench.bare", str(port)], f"http://127.0.0.1:{port}/"
    with contextlib.ExitStack() as stack:
        for _ in range(processes):
            stack.enter_context(_process(command, ROOT, {}, url, cores))
        if processes > 1:
            # The first may have answered for all.
            time.sleep(1)
        yield url


@dataclass
class Service:
    """A running service and somebody who is signed in."""

    port: int
    pid: int
    token: str = ""
    code: str = ""
    user_id: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{API}"

    @property
    def signed_in(self) -> str:
        return f"Authorization: Bearer {self.token}"

    def memory(self) -> float:
        """Resident megabytes of the serving process."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("no VmRSS")


def settings(folder: Path, port: int, **more: str) -> dict[str, str]:
    limits = {f"REFERRAL_LIMITS_{name.upper()}": NO_LIMIT for name in _limit_names()}
    return {
        "REFERRAL_SERVER_PORT": str(port),
        "REFERRAL_SERVER_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "REFERRAL_DATABASE_URL": f"sqlite:///{folder / 'bench.db'}",
        "REFERRAL_MAIL_URL": f"file:{folder / 'mail'}",
        "REFERRAL_AUTH_SECRET": "a secret of the bench, long enough to be one",
        **limits,
        **more,
    }


def _limit_names() -> list[str]:
    from dataclasses import fields

    from referral.config.sections import Limits

    return [item.name for item in fields(Limits) if item.name != "enabled"]


@contextlib.contextmanager
def service(folder: Path, cores: str = SERVER_CORE, log: int | None = None, **more: str) -> Iterator[Service]:
    """The service on the server's core, with a user who has a code; its log goes to a file, or to this descriptor."""
    port = free_port()
    environment = settings(folder, port, **more)
    with _process(
        [sys.executable, str(ROOT / "run.py")], folder, environment, f"http://127.0.0.1:{port}/health/live", cores, log
    ) as process:
        running = Service(port, process.pid)
        asyncio.run(_settle_in(running))
        yield running


async def _settle_in(running: Service) -> None:
    caller = Caller(running.port)
    name = f"bench{time.time_ns()}"
    status, document = await caller.call(
        "POST", f"{API}/auth/register", {"email": f"{name}@example.com", "password": PASSWORD}
    )
    assert status == 201, document
    running.token, running.user_id = document["access_token"], document["user"]["id"]
    status, document = await caller.call("POST", f"{API}/codes", {"ttl_days": 365}, running.token)
    assert status == 201, document
    running.code = document["code"]


@contextlib.contextmanager
def _process(
    command: list[str],
    folder: Path,
    environment: dict[str, str],
    ready: str,
    cores: str = SERVER_CORE,
    log_to: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    import urllib.request

    environ = {**{key: value for key, value in os.environ.items() if not key.startswith("REFERRAL_")}, **environment}
    environ["PYTHONPATH"] = str(ROOT)
    with (folder / "server.log" if folder != ROOT else Path(os.devnull)).open("ab") as log:
        errors = log if log_to is None else log_to
        process = subprocess.Popen(["taskset", "-c", cores, *command], cwd=folder, env=environ, stdout=log, stderr=errors)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(ready, timeout=1).read()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"no start: see {folder}/server.log") from None
                time.sleep(0.005)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


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
    """What the log of requests takes of a look-up, against the same service without it."""
    for form, kind in (("text", "file"), ("json", "file"), ("text", "pipe"), ("json", "pipe"), ("text", "terminal")):
        with (
            _reader(kind) as descriptor,
            service(folder, REFERRAL_LOG_LEVEL="warning") as silent,
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


async def _people(running: Service, count: int) -> list[tuple[Caller, str]]:
    """So many people, registered and signed in, each on a connection of their own."""

    async def join(number: int) -> tuple[Caller, str]:
        caller = Caller(running.port)
        email = f"person{number}.{time.time_ns()}@example.com"
        status, document = await caller.call("POST", f"{API}/auth/register", {"email": email, "password": PASSWORD})
        assert status == 201, document
        return caller, document["access_token"]

    return list(await asyncio.gather(*map(join, range(count))))


async def pairs_of_writes(running: Service, seconds: float) -> Load:
    """Each of 32 people makes a code and ends it, again and again."""
    people = await _people(running, CONNECTIONS)

    async def turn(who: tuple[Caller, str]) -> None:
        caller, token = who
        status, document = await caller.call("POST", f"{API}/codes", {"ttl_days": 1}, token)
        assert status == 201, document
        status, document = await caller.call("DELETE", f"{API}/codes/current", None, token)
        assert status == 204, document

    return await in_turns(people, turn, seconds)


async def logins(running: Service, seconds: float) -> Load:
    """32 clients sign in to one account, again and again."""
    callers = [Caller(running.port) for _ in range(CONNECTIONS)]
    email = f"login{time.time_ns()}@example.com"
    await callers[0].call("POST", f"{API}/auth/register", {"email": email, "password": PASSWORD})
    body = {"grant_type": "password", "username": email, "password": PASSWORD}

    async def turn(caller: Caller) -> None:
        status, document = await caller.call("POST", f"{API}/auth/token", body)
        assert status == 200, document

    return await in_turns(callers, turn, seconds)


async def registrations(running: Service, seconds: float, code: str | None = None) -> Load:
    """32 clients register, each time as somebody new; by a code if one is given."""

    async def turn(caller: Caller) -> None:
        body = {"email": f"new{time.time_ns()}@example.com", "password": PASSWORD}
        if code:
            body["referral_code"] = code
        status, document = await caller.call("POST", f"{API}/auth/register", body)
        assert status == 201, document

    return await in_turns([Caller(running.port) for _ in range(CONNECTIONS)], turn, seconds)


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
                latencies.append(_gentle_lookups(running, max(1, setting.seconds - 2)))
                storm.result()
        yield Figure(
            "look-ups while 32 clients log in: p99", statistics.median(latencies), "ms", "under 30 ms", latencies, {}
        )


def _gentle_lookups(running: Service, seconds: float) -> float:
    """The 99th percentile in ms of look-ups that one client makes, two hundred a second."""

    async def measure() -> Load:
        path = f"{API}/codes/{running.code}"

        async def turn(caller: Caller) -> None:
            status, _ = await caller.call("GET", path)
            assert status == 200

        async def paced(caller: Caller) -> None:
            await turn(caller)

        times = []
        caller = Caller(running.port)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            started = time.perf_counter()
            await paced(caller)
            times.append(time.perf_counter() - started)
            await asyncio.sleep(0.005)
        times.sort()
        return Load(len(times) / seconds, times[int(len(times) * 0.99)] * 1000)

    return asyncio.run(measure()).p99


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
        with _process(
            [sys.executable, str(ROOT / "run.py")], folder, settings(folder, port), f"http://127.0.0.1:{port}/health/live"
        ):
            times.append(time.perf_counter() - began)
    yield Figure("start to first answer", statistics.median(times), "s", "under 0.6 s", times, {})


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """A Redis on the load's core; its URL."""
    port = free_port()
    server = subprocess.Popen(
        ["taskset", "-c", LOAD_CORE, "redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
    )
    try:
        time.sleep(0.5)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()


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


def timing(folder: Path, setting: Setting) -> Iterator[Figure]:
    """The time of an answer for an account that exists, against one that does not: a stranger must not tell them apart."""
    with service(folder) as running:

        async def measure() -> dict[str, tuple[list[float], list[float]]]:
            caller = Caller(running.port)
            await caller.call("POST", f"{API}/auth/register", {"email": "known@example.com", "password": PASSWORD})

            def login(email: str) -> tuple[str, dict[str, Any], int]:
                return "token", {"grant_type": "password", "username": email, "password": "a wrong password"}, 400

            def reset(email: str) -> tuple[str, dict[str, Any], int]:
                return "password/reset", {"email": email}, 202

            def register(email: str) -> tuple[str, dict[str, Any], int]:
                return "register", {"email": email, "password": PASSWORD}, 409 if email.startswith("known") else 201

            kinds = {"login": (login, 10), "password reset": (reset, 40), "registration": (register, 10)}
            times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in kinds}
            order = random.Random(1)
            for name, (ask, count) in kinds.items():
                for _ in range(setting.rounds * count):
                    for known in order.sample((0, 1), 2):
                        # Mail that a call before caused is written by now.
                        await asyncio.sleep(0.25)
                        email = "known@example.com" if known else f"nobody{time.time_ns()}@example.com"
                        path, body, expected = ask(email)
                        began = time.perf_counter()
                        status, document = await caller.call("POST", f"{API}/auth/{path}", body)
                        times[name][known].append((time.perf_counter() - began) * 1000)
                        assert status == expected, document
            return times

        for name, (unknown, known) in asyncio.run(measure()).items():
            quarters = statistics.quantiles(unknown, n=4)
            notes = {
                "known_ms": statistics.median(known),
                "unknown_ms": statistics.median(unknown),
                "quartiles_apart_ms": quarters[2] - quarters[0],
                "requests": float(len(known) + len(unknown)),
            }
            ratio = statistics.median(known) / statistics.median(unknown)
            yield Figure(f"{name}: known against unknown account", ratio, "of the time", "1", [ratio], notes)


PARTS: dict[str, Callable[[Path, Setting], Iterator[Figure]]] = {
    "lookups": lookups,
    "redis": redis,
    "log": log,
    "writes": writes,
    "passwords": passwords,
    "memory": memory,
    "start": start,
    "workers": workers,
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


def write(name: str, setting: Setting, figures: list[Figure]) -> None:
    """Put the figures into the file, each in the place of its former one: parts may be measured by themselves."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / name
    kept = json.loads(file.read_text())["figures"] if file.exists() else []
    found = {figure["name"]: figure for figure in kept} | {figure.name: asdict(figure) for figure in figures}
    document: dict[str, Any] = {
        "python": platform.python_version(),
        "setting": asdict(setting),
        "figures": list(found.values()),
    }
    file.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
