"""What following a link costs with its click counted, what that does to look-ups beside it, and what stats of a code cost
once there are ten million clicks."""

from __future__ import annotations

import asyncio
import contextlib
import re
import statistics
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.figures import Figure, Setting
from bench.fill import fill, pour, user_id
from bench.load import Caller, Load, wrk
from bench.servers import LOAD_CORE, Service, bare_handler, new_key, postgres_server, service
from bench.traffic import gentle_lookups
from referral.database.migrate import migrate

PERSON = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"
LINKS = {"REFERRAL_LINKS_DESTINATION": "https://shop.example.com/welcome?campaign=friends"}
# Links followed in a second beside look-ups.
BESIDE = 1_000
FEW, MANY = 10_000, 10_000_000
DAY = 86_400_000
# Clicks of the code in question on the day in question, however many there are.
OF_DAY = 1_000


def links(folder: Path, setting: Setting) -> Iterator[Figure]:
    """On SQLite and on PostgreSQL, one worker."""
    for engine in ("SQLite", "PostgreSQL"):
        with contextlib.ExitStack() as stack:
            place = folder / f"links-{engine}"
            place.mkdir()
            url = f"sqlite:///{place / 'bench.db'}"
            if engine == "PostgreSQL":
                url = stack.enter_context(postgres_server(place))
            fill(url, setting.referrers, setting.referrals)
            more = {**LINKS, "REFERRAL_DATABASE_URL": url}
            with bare_handler() as bare, service(place, **more) as running:
                yield _redirects(engine, running, bare, setting)
                yield _lookups_beside(engine, running, setting)
        yield _stats(engine, folder, setting)


def _redirects(engine: str, running: Service, bare: str, setting: Setting) -> Figure:
    link = f"http://127.0.0.1:{running.port}/r/{running.code}"
    ratios, loads, counted = [], [], []
    before = wrk(bare, setting.seconds, core=LOAD_CORE).rate
    for _ in range(setting.rounds):
        so_far = _counted(running)
        load = wrk(link, setting.seconds, PERSON, core=LOAD_CORE)
        # What waits is written within the next seconds.
        time.sleep(4)
        counted.append((_counted(running) - so_far) / (load.rate * setting.seconds))
        after = wrk(bare, setting.seconds, core=LOAD_CORE).rate
        ratios.append(load.rate / ((before + after) / 2))
        loads.append(load)
        before = after
    notes = {
        "requests_per_second": statistics.median(load.rate for load in loads),
        "p99_ms": statistics.median(load.p99 for load in loads),
        "counted": statistics.median(counted),
    }
    name = f"{engine}: /r/{{code}}, counted"
    return Figure(name, statistics.median(ratios), "of the bare handler", "0.45, p99 under 3 ms", ratios, notes)


def _counted(running: Service) -> float:
    """How many clicks are written, as the metrics say."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics").read().decode()
    found = re.search(r'referral_clicks_total\{result="click"\} ([\d.e+]+)', text)
    return float(found[1]) if found else 0.0


async def _follow(running: Service, seconds: float) -> int:
    """Follow links at a steady rate, and return how many were."""
    callers = [Caller(running.port) for _ in range(8)]
    pause, end, done = len(callers) / BESIDE, time.perf_counter() + seconds, 0

    async def keep_on(caller: Caller) -> None:
        nonlocal done
        due = time.perf_counter()
        while due < end:
            await caller.call("GET", f"/r/{running.code}")
            done += 1
            due += pause
            await asyncio.sleep(max(0, due - time.perf_counter()))

    await asyncio.gather(*map(keep_on, callers))
    return done


def _lookups_beside(engine: str, running: Service, setting: Setting) -> Figure:
    alone, beside, followed = [], [], []
    for _ in range(setting.rounds):
        alone.append(asyncio.run(gentle_lookups(running, setting.seconds)).p99)
        with ThreadPoolExecutor(1) as pool:
            links = pool.submit(lambda: asyncio.run(_follow(running, setting.seconds + 1)))
            time.sleep(0.5)
            beside.append(asyncio.run(gentle_lookups(running, setting.seconds)).p99)
            followed.append(links.result() / (setting.seconds + 1))
    notes = {"alone_ms": statistics.median(alone), "links_per_second": statistics.median(followed)}
    name = f"{engine}: look-ups beside {BESIDE:,} links a second: p99"
    return Figure(name, statistics.median(beside), "ms", "that of look-ups alone", beside, notes)


def rows_of_clicks(clicks: int, today: int) -> list[Any]:
    """One referrer with many codes, and so many clicks on them, each with its sums; OF_DAY of them on the first code
    today."""
    codes = max(clicks // 10_000, 10)
    owner = user_id(0, 0)
    user = (owner, "owner@example.com", "owner@example.com", "owner", "owner", None, "user", codes, 1)
    columns = "id", "email", "email_key", "username", "username_key", "password_hash", "role", "code_count", "created_at"
    texts = [f"CODE-{number:05}" for number in range(codes)]

    def of_click(number: int) -> tuple[str, str, int, int]:
        if number < OF_DAY:
            return user_id(number, today), texts[0], today + number, 0
        at = today - (1 + number % 89) * DAY + number % DAY
        return user_id(number, at), texts[number % codes], at, 0

    sums: dict[tuple[str, int], int] = {}
    for number in range(clicks):
        _, text, at, _ = of_click(number)
        place = text, at - at % DAY
        sums[place] = sums.get(place, 0) + 1
    days = ((text, day, owner, count, count, 0, 0) for (text, day), count in sums.items())
    return [
        ("users", columns, iter([user]), 1),
        (
            "codes",
            ("code", "code_key", "referrer_id", "created_at", "expires_at", "revoked_at"),
            ((text, text.replace("O", "0"), owner, 1, 2, None if number == 0 else 2) for number, text in enumerate(texts)),
            codes,
        ),
        ("clicks", ("id", "code", "clicked_at", "robot"), (of_click(number) for number in range(clicks)), clicks),
        ("click_days", ("code", "day", "referrer_id", "clicks", "visitors", "qr", "robots"), days, len(sums)),
    ]


def _stats(engine: str, folder: Path, setting: Setting) -> Figure:
    """The rate of one day's stats of one code with many clicks, as a part of that with few."""
    today = int(time.time() * 1000) // DAY * DAY
    date = datetime.fromtimestamp(today / 1000, UTC).date().isoformat()
    loads: dict[int, list[Load]] = {}
    with contextlib.ExitStack() as stack:
        urls = {}
        for clicks in (FEW, MANY):
            place = folder / f"stats-{engine}-{clicks}"
            place.mkdir()
            url = f"sqlite:///{place / 'bench.db'}"
            if engine == "PostgreSQL":
                url = stack.enter_context(postgres_server(place))
            migrate(url)
            pour(url, rows_of_clicks(clicks, today))
            running = stack.enter_context(service(place, **LINKS, REFERRAL_DATABASE_URL=url, REFERRAL_CACHE_URL="none://"))
            key = new_key(place, "read", REFERRAL_DATABASE_URL=url)
            query = f"from={date}&code=CODE-00000"
            urls[clicks] = f"{running.url}/users/{user_id(0, 0)}/stats?{query}", f"Authorization: Bearer {key}"
            loads[clicks] = []
        for _ in range(setting.rounds):
            for clicks, (address, header) in urls.items():
                loads[clicks].append(wrk(address, setting.seconds, header, core=LOAD_CORE))
    ratios = [many.rate / few.rate for few, many in zip(loads[FEW], loads[MANY], strict=True)]
    notes = {
        "requests_per_second": statistics.median(load.rate for load in loads[MANY]),
        "p99_ms": statistics.median(load.p99 for load in loads[MANY]),
    }
    name = f"{engine}: stats of a code and day, {MANY:,} clicks"
    return Figure(name, statistics.median(ratios), f"of the rate with {FEW:,}", "1", ratios, notes)
