"""`python -m tests.soak --minutes 10`: plays faults, one after the other, under load, and says what was lost or stale."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from tests.soak.faults import FAULTS, RESTARTS
from tests.soak.load import Load, Record
from tests.soak.surroundings import NAME, Surroundings
from tests.support.rows import sql

PEOPLE = 12
# Seconds in which everything has to be well again after a fault; a Redis that was killed is a replica after ten.
SETTLED = 60.0
# Seconds of quiet between two faults.
QUIET = 1.5


class Soak:
    """One run over a whole set. What is wrong is in `found`, a line each; `faults` counts what was played."""

    def __init__(self, folder: Path, seconds: float, seed: int, names: list[str] | None = None) -> None:
        self.found: list[str] = []
        self.faults: Counter[str] = Counter()
        self.record = Record()
        self._folder, self._seconds, self._seed = folder, seconds, seed
        self._names = names or [*FAULTS, *RESTARTS]

    async def run(self) -> None:
        these = Surroundings(self._folder)
        await asyncio.to_thread(these.__enter__)
        try:
            await self._play(these)
        finally:
            await asyncio.to_thread(these.__exit__)

    async def _play(self, these: Surroundings) -> None:
        key = these.services[0].command("keys", "create", "soak", "--scope", "admin").stdout.strip()
        async with ClientSession(timeout=ClientTimeout(30), connector=TCPConnector(limit=0)) as session:
            load = Load(session, these.address, key, self._seed)
            self.record = load.record
            for side in ("referrer", "referee"):
                give = {"kind": "balance", "unit": "USD", "fixed": 100}
                rule = {"name": "a dollar", "on": "purchase", "to": side, "hold_days": 0, "give": give}
                assert (await load.insist("POST", "/rules", rule, key))[0] == 201
            loading = asyncio.create_task(load.run(PEOPLE))
            try:
                await self._break(these, loading)
                await asyncio.sleep(QUIET)
            finally:
                load.end()
                await loading
            await self._compare(these, load, key)
        for service in these.services:
            if "Traceback" in service.log.read_text():
                self.found.append(f"a traceback in {service.log}")

    async def _break(self, these: Surroundings, loading: asyncio.Task[None]) -> None:
        choose, over, queue = random.Random(self._seed), time.monotonic() + self._seconds, list[str]()
        while time.monotonic() < over and not loading.done():
            if not queue:
                queue = choose.sample(self._names, len(self._names))
            name = queue.pop()
            await asyncio.sleep(choose.uniform(QUIET / 2, QUIET))
            before, begun = Counter(self.record.statuses), time.monotonic()
            try:
                await asyncio.to_thread((FAULTS | RESTARTS)[name], these)
            except Exception as error:
                self.found.append(f"{name}: {error!r}")
            answered = self.record.answered
            while not await asyncio.to_thread(these.is_settled) or self.record.answered < answered + PEOPLE:
                if time.monotonic() - begun > SETTLED:
                    self.found.append(f"{name}: not well after {SETTLED:.0f} s")
                    return
                await asyncio.sleep(0.2)
            self.faults[name] += 1
            new = self.record.statuses - before
            failed = {status: count for status, count in new.items() if status >= 500 or status == 0}
            if name in RESTARTS and failed:
                self.found.append(f"{name} was noticed: {failed}")
            print(f"{name}: {time.monotonic() - begun:.1f} s, {sum(new.values())} answers, of which {failed}", flush=True)

    async def _compare(self, these: Surroundings, load: Load, key: str) -> None:
        """Hold what was acknowledged against the rows, and the rows against themselves."""
        record, url = self.record, these.primary.url(NAME)
        self.found += [f"wrong: {wrong}" for wrong in record.wrong]
        rows: dict[str, set[Any]] = {}
        for name, statement in {
            "users": "SELECT id FROM users",
            "codes": "SELECT code FROM codes",
            "ended codes": "SELECT code FROM codes WHERE revoked_at IS NOT NULL",
            "events": "SELECT id FROM events",
            "rewards": "SELECT id FROM rewards",
            "redemptions": "SELECT id FROM redemptions",
        }.items():
            rows[name] = {value for (value,) in await sql(url, statement)}
        certain = {text: code for text, code in record.codes.items() if not code.is_in_doubt}
        lost = {
            "users": record.users.keys() - rows["users"],
            "codes": certain.keys() - rows["codes"],
            "ended codes": {text for text, code in certain.items() if code.is_ended} - rows["ended codes"],
            "events": record.events.keys() - rows["events"],
            "rewards": {reward for rewards in record.events.values() for reward in rewards} - rows["rewards"],
            "redemptions": record.redemptions.keys() - rows["redemptions"],
        }
        self.found += [f"lost {name}: {sorted(gone)[:5]}" for name, gone in lost.items() if gone]
        for event in random.Random(self._seed).sample(sorted(record.events), min(50, len(record.events))):
            user = (await sql(url, f"SELECT user_id FROM events WHERE id = '{event}'"))[0][0]
            body = {"id": event, "type": "purchase", "user": {"id": user}, "value": {"unit": "USD", "amount": 1000}}
            status, again = await load.insist("POST", "/events", body, key)
            if status != 200 or sorted(reward["id"] for reward in again["rewards"]) != record.events[event]:
                self.found.append(f"the event {event} has another answer: {status} {again}")
        for service in these.services:
            done = await asyncio.to_thread(service.command, "verify")
            if done.returncode:
                self.found.append(f"verify: {done.stdout} {done.stderr}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--only", action="append", metavar="FAULT", help=", ".join([*FAULTS, *RESTARTS]))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="referral-soak-", ignore_cleanup_errors=True) as folder:
        soak = Soak(Path(folder), arguments.minutes * 60, arguments.seed, arguments.only)
        asyncio.run(soak.run())
    record = soak.record
    print(f"{sum(soak.faults.values())} faults of {len(soak.faults)} kinds")
    print(f"{record.answered} answers, {record.failures} failures")
    print(
        f"{len(record.users)} users, {len(record.codes)} codes, {len(record.events)} events, "
        f"{len(record.redemptions)} redemptions, {len(record.ended_tokens)} ended sessions"
    )
    print("\n".join(found[:500] for found in soak.found[:50]) or "nothing lost, nothing stale, verify clean")
    return 1 if soak.found else 0


if __name__ == "__main__":
    sys.exit(main())
