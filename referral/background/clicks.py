"""Writes clicks behind the redirects that they come from: a bounded buffer, and a worker that writes it in batches.

Nobody who follows a link waits for the database. A click is written a second later at most, and at the end of the process;
one that dies takes the last second along. Where more come than can be written the buffer drops clicks, and says so.
"""

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections import Counter
from itertools import islice
from typing import Any, NamedTuple

from aiohttp import web

from referral import clock
from referral.auth.context_keys import ContextKeys, LiveKey
from referral.background.loop import work_for_ever
from referral.config import Config
from referral.database import Connection, Database, DatabaseUnavailable, committed
from referral.metrics import Metrics
from referral.networks import is_local, network_in
from referral.queries import clicks
from referral.robots import is_robot

log = logging.getLogger(__name__)

# Seconds for which clicks are gathered.
LAG = 1.0
# Clicks of one transaction, which holds up other writes of SQLite for some 16 ms.
BATCH = 2_000
# Clicks that wait; about 27 MB when full.
BUFFER = 50_000
# Seconds for which clicks are looked at before others get their turn: what an agent is may take a while to find out.
SLICE = 0.0005
# Seconds between two looks when there is nothing to do: keys are forgotten then.
LONGEST_SLEEP = 60.0
# Seconds after which the last clicks are given up at the end, if the database does not take them.
END_TIMEOUT = 5.0
# Housekeeping, which comes once an hour and takes its time, throws the key of a day away before it is 48 hours old (ms).
KEY_KEPT = 46 * 3_600 * clock.SECOND
# Hexadecimal digits of a visitor's HMAC.
VISITOR = 32
# What kind of text a network is among those of an event's context, with which it is compared.
NETWORK = "ip"


class NewClick(NamedTuple):
    """A click that is still to be written. `address` and `agent` say who it was, and are not kept; an `address` that is the
    click's own id says nothing. `is_robot` is None where the agent says that."""

    id: str
    code: str
    at: int
    address: str
    agent: str
    is_qr: bool
    is_robot: bool | None


def first_key_kept(now: int) -> int:
    """The earliest day (ms) whose key is not to be thrown away at this time (ms)."""
    return now - KEY_KEPT


def first_day_kept(config: Config, now: int) -> int:
    """The earliest day (ms) whose clicks are kept at this time (ms): all of them, so that they can be counted."""
    oldest = now - config.clicks.keep_days * clock.DAY
    return oldest - oldest % clock.DAY


class Clicks:
    """Takes clicks and writes them."""

    def __init__(self, database: Database, metrics: Metrics, context_keys: ContextKeys) -> None:
        self._database = database
        self._context_keys = context_keys
        self._counted = metrics.clicks
        # In the order in which they came.
        self._waiting: dict[str, NewClick] = {}
        self._woken = asyncio.Event()
        self._writing = asyncio.Lock()
        self._keys: dict[int, bytes] = {}

    def add(self, click: NewClick) -> None:
        """Take a click, unless too many wait."""
        if len(self._waiting) >= BUFFER:
            self._counted.labels("dropped").inc()
            return
        self._waiting[click.id] = click
        if not self._woken.is_set():
            self._woken.set()

    def has(self, click_id: str) -> bool:
        """Whether this click waits to be written."""
        return click_id in self._waiting

    async def run(self) -> None:
        """Write what comes, for ever."""
        # The list of robots takes its time to load.
        await asyncio.to_thread(is_robot, "-")
        await work_for_ever("clicks", self._turn, LAG, self._woken)

    async def _turn(self) -> float:
        self._forget_keys()
        if not self._waiting:
            return LONGEST_SLEEP
        await asyncio.sleep(LAG)
        await self.flush()
        return 0.0

    async def flush(self) -> None:
        """Write everything that waits now. Raises DatabaseUnavailable, after which it still waits."""
        async with self._writing:
            left = len(self._waiting)
            while left > 0:
                left -= await self._write(list(islice(self._waiting.values(), min(BATCH, left))))

    async def end(self) -> None:
        """Write what waits at the end of the process, as far as the database takes it."""
        try:
            async with asyncio.timeout(END_TIMEOUT):
                await self.flush()
        except (DatabaseUnavailable, TimeoutError) as error:
            log.error("%d clicks are lost: %s", len(self._waiting), error)
        except Exception:
            log.exception("%d clicks are lost", len(self._waiting))

    async def _write(self, batch: list[NewClick]) -> int:
        """Write the first clicks that wait, and return how many those are. Nothing else takes clicks out of the buffer: what
        is broken off is written again, and the database knows which ones it has."""
        prepared = await self._prepared(batch)
        results = await committed(self._database, prepared.insert)
        for click in batch:
            del self._waiting[click.id]
        for result, count in results.items():
            self._counted.labels(result).inc(count)
        return len(batch)

    async def _prepared(self, batch: list[NewClick]) -> "_Batch":
        prepared, began = _Batch(), time.perf_counter()
        context_key: LiveKey | None = None
        for click in batch:
            day, network = click.at - click.at % clock.DAY, _network(click)
            if network is not None and context_key is None:
                context_key = await self._context_key()
            digest = context_key.digest(NETWORK, network) if network is not None and context_key is not None else None
            visitor = _visitor(click, self._keys.get(day) or await self._key(day))
            prepared.add(click, day, visitor, _From(digest, context_key.id) if digest and context_key else NOWHERE)
            if time.perf_counter() - began > SLICE:
                await asyncio.sleep(0)
                began = time.perf_counter()
        return prepared

    async def _key(self, day: int) -> bytes:
        """The key of the day's visitors, which all processes share."""

        async def find_or_make(conn: Connection) -> str | None:
            await clicks.insert_click_key(conn, day, secrets.token_hex(32))
            return await clicks.find_click_key(conn, day)

        secret = await committed(self._database, find_or_make)
        assert secret is not None
        key = self._keys[day] = bytes.fromhex(secret)
        return key

    async def _context_key(self) -> LiveKey:
        """The key of the networks that clicks come from."""
        now = clock.now()
        keys = self._context_keys.at_hand(now)
        if keys is None:
            keys = await committed(self._database, lambda conn: self._context_keys.live(conn, now))
        return keys[0]

    def _forget_keys(self) -> None:
        first = first_key_kept(clock.now())
        self._keys = {day: key for day, key in self._keys.items() if day >= first}


def _visitor(click: NewClick, key: bytes) -> str | None:
    """The HMAC of who clicked, by the key of the day; None for a robot."""
    if is_robot(click.agent) if click.is_robot is None else click.is_robot:
        return None
    text = f"{click.code}\n{click.address}\n{click.agent}"
    # An agent in no encoding must not hold up the others.
    return hmac.digest(key, text.encode(errors="surrogatepass"), hashlib.sha256).hex()[:VISITOR]


def _network(click: NewClick) -> str | None:
    """Where the click came from; None where the address says nothing of that."""
    network = network_in(click.address)
    return None if not network or click.address == click.id or is_local(network) else network


class _From(NamedTuple):
    """The HMAC of a network, and the id of its key."""

    network: str | None
    key_id: str | None


NOWHERE = _From(None, None)


class _Batch:
    """Clicks as they are inserted: the rows, their visitors, and the sums that they add to."""

    def __init__(self) -> None:
        self.results: Counter[str] = Counter()
        self._added: list[tuple[NewClick, int, str | None, _From]] = []
        self._rows: list[dict[str, Any]] = []
        self._visitors: list[dict[str, Any]] = []
        # By code and day.
        self._sums: dict[tuple[str, int], dict[str, Any]] = {}

    def add(self, click: NewClick, day: int, visitor: str | None, origin: _From) -> None:
        """Add a click of this day, its visitor, None for a robot, and where it came from."""
        self._added.append((click, day, visitor, origin))
        sums = self._sums.get((click.code, day))
        if sums is None:
            sums = {"code": click.code, "day": day, "clicks": 0, "qr": 0, "robots": 0}
            self._sums[click.code, day] = sums
        if visitor is None:
            sums["robots"] += 1
            self.results["robot"] += 1
        else:
            sums["clicks"] += 1
            sums["qr"] += click.is_qr
            self.results["click"] += 1
            self._visitors.append({"day": day, "code": click.code, "hash": visitor})
        row = {"id": click.id, "code": click.code, "at": click.at, "robot": int(visitor is None)}
        self._rows.append({**row, "network": origin.network, "network_key": origin.key_id})

    async def insert(self, conn: Connection) -> Counter[str]:
        """Insert it in a transaction, but for what was inserted before, and return how many clicks were whose."""
        inserted = await clicks.insert_clicks(conn, self._rows)
        if len(inserted) < len(self._rows):
            return await self._only(set(inserted))._count(conn)
        return await self._count(conn)

    def _only(self, ids: set[str]) -> "_Batch":
        rest = _Batch()
        for click, day, visitor, origin in self._added:
            if click.id in ids:
                rest.add(click, day, visitor, origin)
        return rest

    async def _count(self, conn: Connection) -> Counter[str]:
        first_seen = Counter(await clicks.insert_visitors(conn, self._visitors))
        await clicks.add_click_sums(
            conn,
            [{**sums, "visitors": first_seen[clicks.NewVisitor(code, day)]} for (code, day), sums in self._sums.items()],
        )
        return self.results


CLICKS = web.AppKey("clicks", Clicks)
