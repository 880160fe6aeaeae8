"""The worker that asks a provider about new users and keeps the answer as the `profile` of the account."""

import asyncio
import logging

import orjson
from aiohttp import web

from referral import clock
from referral.background.queue import Backoff, QueueWorker
from referral.database import Connection, Database
from referral.metrics import Metrics
from referral.queries import profiles, users
from referral.vendors.client import NoAnswer
from referral.vendors.profiles import ProfileProvider

log = logging.getLogger(__name__)

# Seconds for one answer: nobody waits for it.
TIMEOUT = 10.0


class ProfileWorker(QueueWorker[profiles.Lookup]):
    """Makes the look-ups that wait."""

    name = "the profile look-ups"
    batch_size = 10
    # Longer than a batch of hanging answers.
    lease = 300 * clock.SECOND
    backoff = Backoff(10 * clock.SECOND, 3_600 * clock.SECOND, clock.DAY)

    def __init__(self, provider: ProfileProvider, database: Database, metrics: Metrics) -> None:
        super().__init__(database)
        self._provider = provider
        self._metrics = metrics

    async def run(self) -> None:
        """As every worker; without a provider, do nothing."""
        if self._provider.is_set:
            await super().run()

    async def find_next_time(self, conn: Connection) -> int | None:
        return await profiles.find_next_lookup_time(conn)

    async def claim(self, conn: Connection, now: int, lease_until: int) -> list[profiles.Lookup]:
        return await profiles.claim_lookups(conn, now, lease_until, self.batch_size)

    async def process(self, batch: list[profiles.Lookup]) -> None:
        for lookup in batch:
            await self._look_up(lookup)

    async def _look_up(self, lookup: profiles.Lookup) -> None:
        async with self.database.reader() as conn:
            contact = await users.find_contact(conn, lookup.user_id)
        if contact is None:
            return None  # erased since it was claimed, and the row with it
        if contact.email is None:
            return await self.give_up(lookup, "the user has no address any more")
        try:
            async with asyncio.timeout(TIMEOUT):
                profile = await self._provider.ask(contact.email)
        except NoAnswer as error:
            await self.retry_or_give_up(lookup, str(error))
        except TimeoutError:
            await self.retry_or_give_up(lookup, "no answer in time")
        else:
            await self._keep(lookup, profile)

    async def _keep(self, lookup: profiles.Lookup, profile: dict[str, str | None] | None) -> None:
        async with self.database.transaction() as conn:
            ours = await profiles.delete_lookup(conn, lookup.user_id, lookup.created_at)
            if ours and profile:
                text = orjson.dumps(profile).decode()
                await profiles.insert_profile(conn, lookup.user_id, self._provider.name, text, clock.now())
        self._metrics.enrichments.labels("stored" if ours and profile else "unknown").inc()

    async def postpone(self, item: profiles.Lookup, error: str, pause: int, attempts: int) -> None:
        async with self.database.transaction() as conn:
            await profiles.postpone_lookup(conn, item.user_id, clock.now() + pause)
        log.info("the profile of user %s is asked for again in %d s: %s", item.user_id, pause // 1000, error)
        self._metrics.enrichments.labels("postponed").inc()

    async def give_up(self, item: profiles.Lookup, error: str) -> None:
        async with self.database.transaction() as conn:
            await profiles.delete_lookup(conn, item.user_id, item.created_at)
        log.error("the profile of user %s is given up: %s", item.user_id, error)
        self._metrics.enrichments.labels("failed").inc()


PROFILE_WORKER = web.AppKey("profile_worker", ProfileWorker)
