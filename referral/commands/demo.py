"""A believable demo: an installation that has been running for ten weeks, made by real calls under a clock of its own.

Nothing is written past the API, so that whatever the demo shows is what the service does.
"""

import argparse
import asyncio
import logging
import secrets
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
from aiohttp import web

from referral import clock
from referral.auth.service_keys import new_key
from referral.auth.tokens import hash_token
from referral.background.clicks import CLICKS
from referral.background.holds import HoldWorker
from referral.background.relay import RELAY
from referral.commands import Stop, opened
from referral.commands.accounts import create_admin
from referral.commands.demo_story import DAYS, Story
from referral.config import Config
from referral.database import DATABASE
from referral.database.migrate import migrate
from referral.database.service_lock import service_lock
from referral.ids import new_id
from referral.log import REQUESTS
from referral.queries import service_keys, users

ADMIN = "admin@kettle.example"


def make_demo(config: Config, arguments: argparse.Namespace) -> None:
    """Fill an empty database with a demo, and print how an admin signs in to it. Raises Stop for a database that has users,
    ServiceRunning, MigrationError, DatabaseUnavailable, or ConfigError."""
    # The caches of a running service would know nothing of what changes here.
    with service_lock(config.database.url, alone=True):
        migrate(config.database.url)
        asyncio.run(_refuse_used(config))
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(_fill(_apart(config, folder)))
        password = secrets.token_urlsafe(12)
        asyncio.run(create_admin(config, ADMIN, None, password))
    print("The demo is made. Start the service, and sign in as an admin:")
    print(f"  page      {config.server.public_url.rstrip('/')}/admin")
    print(f"  e-mail    {ADMIN}")
    print(f"  password  {password}")


async def _refuse_used(config: Config) -> None:
    async with opened(config) as database, database.reader() as conn:
        if await users.find_any_user(conn) is not None:
            raise Stop(f"{config.database.url.partition('://')[0]}: the database has users; the demo takes an empty one")


def _apart(config: Config, folder: str) -> Config:
    """The settings under which the demo is made: nothing goes out to anybody, and nothing is limited."""
    return replace(
        config,
        server=replace(config.server, host="127.0.0.1", port=0, public_url="http://127.0.0.1", trusted_proxies=()),
        database=replace(config.database, replica_url=""),
        cache=replace(config.cache, url="memory://"),
        auth=replace(config.auth, bcrypt_rounds=4),
        mail=replace(config.mail, url=f"file:{folder}"),
        hunter=replace(config.hunter, api_key=""),
        enrichment=replace(config.enrichment, provider=""),
        links=replace(config.links, destination="https://kettle.example/welcome"),
        limits=replace(config.limits, enabled=False),
        rewards=replace(config.rewards, units=tuple(dict.fromkeys((*config.rewards.units, "USD", "POINTS:0")))),
    )


class Clock:
    """A clock that begins in the past and is set forward, day by day, until it is the real one again."""

    def __init__(self) -> None:
        self.behind = 0

    def read(self) -> int:
        """Nanoseconds since 1970-01-01 UTC."""
        return time.time_ns() - self.behind

    def set_back_to(self, at: int) -> None:
        """It is this time (ms) now, or the real one if this is later."""
        self.behind = max(time.time_ns() - at * 1_000_000, 0)


async def _fill(config: Config) -> None:
    # Thousands of calls, which say nothing to whoever waits for the demo.
    logging.getLogger(REQUESTS).setLevel(logging.WARNING)
    own = Clock()
    clock.live_by(own.read)
    start = clock.now()
    own.set_back_to(start - DAYS * clock.DAY)
    async with _serving(config) as (app, address):
        text = new_key()
        async with app[DATABASE].transaction() as conn:
            await service_keys.insert_service_key(conn, new_id(), "shop back end", "admin", hash_token(text), clock.now())
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {text}"}) as http:
            await _tell(app, Story(Client(http, address)), own, start)


async def _tell(app: web.Application, story: Story, own: Clock, start: int) -> None:
    holds = HoldWorker(app[DATABASE], app[RELAY])
    await story.begin()
    for day in range(DAYS, -1, -1):
        morning = (start // clock.DAY - day) * clock.DAY
        for at, happen in story.day(day):
            # The rest of today has not happened yet.
            if morning + at <= start:
                own.set_back_to(morning + at)
                await happen()
        await app[CLICKS].flush()
        await holds.work_off()


class Client:
    """The product's back end, which calls the API."""

    def __init__(self, http: aiohttp.ClientSession, address: str) -> None:
        self._http = http
        self._address = address

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """What the call answers. Raises Stop for a problem, which would be a fault of the demo."""
        async with self._http.request(method, f"{self._address}/api/v1{path}", json=body) as answer:
            document = await answer.json(content_type=None) if answer.status != 204 else None
            if answer.status >= 400:
                raise Stop(f"the demo is not complete: {method} {path} answers {answer.status} {document}")
            return document

    async def visit(self, code: str, agent: str) -> None:
        """Follow the share link of a code as this user agent."""
        async with self._http.get(f"{self._address}/r/{code}", headers={"User-Agent": agent}, allow_redirects=False):
            pass


@asynccontextmanager
async def _serving(config: Config) -> AsyncIterator[tuple[web.Application, str]]:
    from referral.app import create_app

    app = create_app(config)
    runner = web.AppRunner(app, access_log=None)
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield app, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
