"""Sends changes to webhooks: a queue of its own for each, so that one which is slow or dead holds up no other.

A delivery is sent at least once. Who claims a batch has a lease on each of its deliveries, and meanwhile nobody else claims
any of that webhook: so there are never more under way than `webhooks.concurrency`, on however many workers. If the worker
dies between sending and marking, the delivery is sent again when the lease ends, under the same `webhook-id`.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import web

from referral import clock
from referral.auth.sealing import Seal, SealBroken
from referral.background.loop import work_for_ever
from referral.background.mailer import Mailer
from referral.background.queue import LONGEST_SLEEP, QueueWorker, Rest, finish
from referral.background.sealing import seal_all_anew
from referral.background.webhook_upkeep import disable, keep_up
from referral.config.sections import Webhooks as Settings
from referral.contract.schemas.changes import delivered_view
from referral.database import Connection, Database, DatabaseUnavailable, committed
from referral.ids import new_id
from referral.metrics import Metrics
from referral.queries import deliveries, locks, webhooks
from referral.queries.changes import ToldChange
from referral.queries.deliveries import DELIVERED, FAILED, WAITING
from referral.queries.webhooks import Webhook
from referral.webhooks.sending import Sender, Sent
from referral.webhooks.signing import headers_for

log = logging.getLogger(__name__)

# Pauses before the second to the tenth attempt (ms), each a fifth shorter or longer: then a delivery has failed.
PAUSES = tuple(seconds * clock.SECOND for seconds in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400))
# No delivery of a batch is begun later than this (ms). What was not begun is due again for any worker.
BATCH_TIME = 10 * clock.SECOND
# Beyond that and the time of a call: for marking what was sent, with a database that is slow (ms).
MARGIN = 20 * clock.SECOND
# Seconds between two transactions that mark: as many deliveries share one as end meanwhile.
MARK_PAUSE = 0.25
# Seconds between two batches of a webhook, unless the first one was full: what comes meanwhile shares a claim and a mark.
BATCH_PAUSE = 0.1
# Everything has failed for so long that the webhook is disabled (ms).
LONGEST_FAILURE = 5 * clock.DAY
# Seconds that a worker which is stopped goes on with what it has begun, as the mailer does.
STOP_GRACE = 5.0
# Seconds between two steps of what is to be cleared up or replayed, so that requests get their turn.
UPKEEP_PAUSE = 0.01
# Seconds between two counts of what waits, and how far it is counted.
MEASURE_PAUSE = 10.0
MOST_MEASURED = 100_000
# Seconds before secrets are tried again that another key has sealed.
SEALED_REST = 60.0


class Outgoing:
    """A delivery that this worker has claimed, and what becomes of the attempt."""

    __slots__ = ("attempts", "change", "sent")

    def __init__(self, change: ToldChange, attempts: int) -> None:
        self.change = change
        self.attempts = attempts
        self.sent: Sent | None = None

    @property
    def created_at(self) -> int:
        return self.change.at


class WebhookQueue(QueueWorker[Outgoing]):
    """Works off what waits for one webhook."""

    batch_size = 100

    def __init__(self, webhook_id: str, parts: "Webhooks") -> None:
        super().__init__(parts.database)
        self.name = f"webhook {webhook_id}"
        self.lease = BATCH_TIME + int(parts.settings.timeout * clock.SECOND) + MARGIN
        self._id = webhook_id
        self._parts = parts
        self._webhook: Webhook | None = None
        self._secrets: list[str] = []
        self._sent: dict[int, ToldChange] = {}
        self._ended: list[dict[str, Any]] = []
        self._failures: list[dict[str, Any]] = []
        # The receiver wants nothing more; nothing could be marked; the worker is about to stop: nothing more is begun.
        self._is_gone = self._is_unmarked = self.is_stopping = False

    async def find_next_time(self, conn: Connection) -> int | None:
        turn = await self._find_turn(conn)
        return None if turn.next_attempt_at is None else max(turn.next_attempt_at, turn.leased_until or 0)

    async def _find_turn(self, conn: Connection) -> deliveries.Turn:
        # No lease is longer than ours.
        return await deliveries.find_turn(conn, self._id, clock.now() + self.lease)

    async def claim(self, conn: Connection, now: int, lease_until: int) -> list[Outgoing]:
        await locks.lock_webhook(conn, self._id)
        webhook = await webhooks.find_webhook(conn, self._id)
        if webhook is None or webhook.status != webhooks.ENABLED:
            return []
        if ((await self._find_turn(conn)).leased_until or 0) > now:
            return []
        claimed = await deliveries.claim_deliveries(conn, self._id, now, lease_until, self.batch_size)
        attempts = dict(claimed)
        found = await deliveries.list_changes_of(conn, list(attempts))
        self._webhook = webhook
        return [Outgoing(change, attempts[change.seq]) for change in sorted(found, key=lambda change: change.seq)]

    async def process(self, batch: list[Outgoing]) -> None:
        """Send the batch, so many at once, and mark what became of each. Raises Rest when nothing can be signed."""
        if batch:
            await finish(self._process(batch), STOP_GRACE)
        if len(batch) < self.batch_size:
            await asyncio.sleep(BATCH_PAUSE)

    async def _process(self, batch: list[Outgoing]) -> None:
        assert self._webhook is not None
        try:
            self._secrets = self._parts.secrets_of(self._webhook)
        except SealBroken:
            log.error("the secret of webhook %s was sealed by another key: rotate it, or give that key back", self._id)
            await self._hand_back(batch)
            raise Rest(SEALED_REST) from None
        self._is_unmarked = self._is_gone = False
        self._sent = {item.change.seq: item.change for item in batch}
        todo, end = deque(batch), clock.now() + BATCH_TIME
        senders = [asyncio.create_task(self._send_some(todo, end)) for _ in range(self._parts.settings.concurrency)]
        try:
            # While some are marked, others are sent.
            while not all(task.done() for task in senders):
                await asyncio.wait(senders, timeout=MARK_PAUSE)
                with suppress(DatabaseUnavailable):
                    await self._mark()
            for task in senders:
                task.result()
            await self._mark_at_last()
        finally:
            for task in senders:
                task.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
            with suppress(DatabaseUnavailable):
                await self._hand_back(list(todo))

    async def _send_some(self, todo: deque[Outgoing], end: int) -> None:
        while todo and clock.now() < end and not (self.is_stopping or self._is_gone or self._is_unmarked):
            await self._send(todo.popleft())

    async def _send(self, item: Outgoing) -> None:
        assert self._webhook is not None
        item.sent = sent = await self._parts.post(self._webhook.url, self._secrets, item.change)
        counted = self._parts.metrics.deliveries
        if sent.is_success:
            counted.labels("delivered").inc()
            self._end(item, DELIVERED, None)
            return
        self._failures.append(
            {
                "id": new_id(),
                "seq": item.change.seq,
                "webhook_id": self._id,
                "at": clock.now(),
                "status": sent.status,
                "error": sent.error or "",
                "milliseconds": sent.milliseconds,
            }
        )
        self._is_gone = self._is_gone or sent.is_gone
        if sent.is_gone or item.attempts > len(PAUSES):
            await self.give_up(item, sent.error or "")
        else:
            pause = int(PAUSES[item.attempts - 1] * random.uniform(0.8, 1.2))
            await self.postpone(item, sent.error or "", max(pause, sent.retry_after or 0), item.attempts)

    async def postpone(self, item: Outgoing, error: str, pause: int, attempts: int) -> None:
        self._parts.metrics.deliveries.labels("postponed").inc()
        self._end(item, WAITING, clock.now() + pause)

    async def give_up(self, item: Outgoing, error: str) -> None:
        self._parts.metrics.deliveries.labels("failed").inc()
        log.warning("webhook %s: the delivery of change %s has failed", self._id, item.change.id)
        self._end(item, FAILED, None)

    def _end(self, item: Outgoing, status: str, next_attempt_at: int | None) -> None:
        assert item.sent is not None
        self._ended.append(
            {
                "seq": item.change.seq,
                "claimed": item.attempts,
                "status": status,
                "attempts": item.attempts,
                "next_attempt_at": next_attempt_at,
                "last_status": item.sent.status,
                "last_error": item.sent.error,
                "delivered_at": clock.now() if status == DELIVERED else None,
            }
        )

    async def _mark_at_last(self) -> None:
        """Mark the rest, and wait for a database that is out until the leases end: what is not marked is sent again. Raises
        DatabaseUnavailable."""
        patience = MARGIN // clock.SECOND // 2
        while True:
            try:
                return await self._mark()
            except DatabaseUnavailable:
                if not patience:
                    raise
                patience -= 1
                await asyncio.sleep(1.0)

    async def _mark(self) -> None:
        """Keep what became of the attempts that have ended. Raises DatabaseUnavailable, and can be called again."""
        ended, self._ended = self._ended, []
        failures, self._failures = self._failures, []
        if not ended:
            return
        try:
            await self._keep(ended, failures)
        except DatabaseUnavailable:
            self._ended, self._failures, self._is_unmarked = ended + self._ended, failures + self._failures, True
            raise

    async def _keep(self, ended: list[dict[str, Any]], failures: list[dict[str, Any]]) -> None:
        failed, now = len(failures) == len(ended), clock.now()

        async def change(conn: Connection) -> int | None:
            await locks.lock_webhook(conn, self._id)
            forgotten = await self._forgotten(conn, failures)
            told = [{**one, "last_error": None} if one["seq"] in forgotten else one for one in ended]
            kept = set(await deliveries.end_attempts(conn, self._id, told))
            if failures:
                rows = [{**one, "error": ""} if one["seq"] in forgotten else one for one in failures if one["seq"] in kept]
                await deliveries.insert_delivery_failures(conn, rows)
            if not failed:
                await webhooks.note_webhook_success(conn, self._id)
                return None
            return await webhooks.note_webhook_failure(conn, self._id, now)

        failing_since = await committed(self.database, change)
        if self._is_gone:
            await self._disable("The receiver answered 410: it wants nothing more.")
        elif failing_since is not None and now - failing_since >= LONGEST_FAILURE:
            await self._disable("Every delivery has failed for five days.")

    async def _disable(self, reason: str) -> None:
        assert self._webhook is not None
        await self._parts.disable(self._webhook, reason)

    async def _forgotten(self, conn: Connection, failures: list[dict[str, Any]]) -> set[int]:
        """The numbers of changes that are not as they were sent: their user was erased meanwhile, and the answer may quote
        what is forgotten. The webhook is locked."""
        if not failures:
            return set()
        numbers = {failure["seq"] for failure in failures}
        now = {change.seq: change for change in await deliveries.list_changes_of(conn, list(numbers))}
        return {seq for seq in numbers if now.get(seq) != self._sent.get(seq)}

    async def _hand_back(self, rest: list[Outgoing]) -> None:
        if rest:
            claimed = [{"seq": item.change.seq, "claimed": item.attempts} for item in rest]
            await committed(self.database, lambda conn: deliveries.hand_back_deliveries(conn, self._id, claimed))


async def post_change(sender: Sender, url: str, secrets: list[str], change: ToldChange) -> Sent:
    """Send a change once, signed now by these secrets."""
    body = orjson.dumps(delivered_view(change))
    return await sender.post(url, headers_for(secrets, change.id, clock.now() // clock.SECOND, body), body)


class Webhooks:
    """Keeps a queue for each webhook that is enabled, and clears up behind those that are not."""

    def __init__(
        self, settings: Settings, database: Database, seal: Seal, sender: Sender, mailer: Mailer, metrics: Metrics
    ) -> None:
        self.settings = settings
        self.database = database
        self.metrics = metrics
        self._seal = seal
        self._sender = sender
        self._mailer = mailer
        self._woken = asyncio.Event()
        self._queues: dict[str, tuple[WebhookQueue, asyncio.Task[None]]] = {}
        # Queues that are ended, and finish what they have begun.
        self._ending: set[asyncio.Task[None]] = set()
        self._measured_at = float("-inf")
        # The key that seals is another one after a restart only.
        self._is_sealed_anew = False

    def wake(self) -> None:
        """Call after the commit that changed a webhook."""
        self._woken.set()

    def deliver(self, webhook_ids: Collection[str]) -> None:
        """Call after the commit that queued deliveries to these."""
        for webhook_id in webhook_ids:
            if webhook_id in self._queues:
                self._queues[webhook_id][0].wake()
            else:
                self.wake()

    async def run(self) -> None:
        """Send what waits, for ever."""
        try:
            await work_for_ever("webhooks", self._turn, LONGEST_SLEEP, self._woken)
        finally:
            self._stop(list(self._queues))
            await asyncio.gather(*self._ending, return_exceptions=True)

    async def _turn(self) -> float:
        if not self._is_sealed_anew:
            await seal_all_anew(self.database, self._seal)
            self._is_sealed_anew = True
        return UPKEEP_PAUSE if await self._look() else LONGEST_SLEEP

    async def _look(self) -> bool:
        """Begin and end queues, and clear up for a moment. Returns whether there is more to clear up."""
        async with self.database.reader() as conn:
            found = await webhooks.list_all_webhooks(conn)
        enabled = {webhook.id for webhook in found if webhook.status == webhooks.ENABLED}
        # One that ended by itself is begun anew.
        ended = [key for key, (_, task) in self._queues.items() if key not in enabled or task.done()]
        self._stop(ended)
        for webhook_id in enabled - self._queues.keys():
            queue = WebhookQueue(webhook_id, self)
            self._queues[webhook_id] = queue, asyncio.create_task(queue.run())
        queued, has_more = await keep_up(self.database, found)
        self.deliver(queued)
        await self._measure()
        return has_more

    async def _measure(self) -> None:
        """Have `/metrics` say how much waits, and for how long."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._measured_at + MEASURE_PAUSE:
            return
        self._measured_at = loop.time()
        async with self.database.reader() as conn:
            self.metrics.deliveries_waiting.set(await deliveries.count_waiting_deliveries(conn, MOST_MEASURED))
            oldest = await deliveries.find_oldest_waiting_delivery(conn)
        self.metrics.delivery_age.set(0 if oldest is None else max(clock.now() - oldest, 0) / clock.SECOND)

    def _stop(self, webhook_ids: list[str]) -> None:
        """End these queues. Nobody waits for them: a receiver may be slow. Their leases keep another one of the same webhook
        from sending meanwhile."""
        for webhook_id in webhook_ids:
            queue, task = self._queues.pop(webhook_id)
            queue.is_stopping = True
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        # What it has handed back is dropped.
        self.wake()

    def secrets_of(self, webhook: Webhook) -> list[str]:
        """The secrets that sign: after a rotation the one before, too, for a while. Raises SealBroken."""
        secrets = [self._seal.open(webhook.secret)]
        if webhook.previous_secret is not None and (webhook.previous_until or 0) > clock.now():
            # One that nobody can open any more is what a rotation is the remedy for.
            with suppress(SealBroken):
                secrets.append(self._seal.open(webhook.previous_secret))
        return secrets

    async def post(self, url: str, secrets: list[str], change: ToldChange) -> Sent:
        """Send a change once, signed now."""
        return await post_change(self._sender, url, secrets, change)

    async def disable(self, webhook: Webhook, reason: str) -> None:
        """Disable a webhook that was called, unless it is already, and tell the admins. Raises DatabaseUnavailable."""
        now = clock.now()
        if await committed(self.database, lambda conn: disable(conn, webhook.id, webhook.url, reason, now)):
            log.warning("webhook %s is disabled: %s", webhook.id, reason)
            self._mailer.wake()
        self.wake()


WEBHOOKS = web.AppKey("webhooks", Webhooks)
