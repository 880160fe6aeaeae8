"""What becomes of webhooks and their deliveries beside the sending: disabled, dropped, deleted, replayed, sealed anew. Long
work is done in small transactions, of which any worker may do the next one."""

from dataclasses import replace

import orjson

from referral import clock
from referral.auth.sealing import Seal
from referral.changes import announce, disabled_webhook_change
from referral.contract.schemas.changes import matches
from referral.database import Connection, ConstraintViolation, Database, TransactionConflict
from referral.ids import new_id
from referral.queries import changes, deliveries, locks, outbox, users, webhooks
from referral.queries.webhooks import Replay, Webhook

# Deliveries, or changes to replay, of one transaction.
BATCH = 1_000


async def disable(conn: Connection, webhook_id: str, url: str, reason: str, now: int) -> bool:
    """Disable a webhook at a time (ms) because of what became of calls of this URL, announce it, and mail it to the admins.
    False if it is disabled already, or has another URL by now."""
    await locks.lock_webhook(conn, webhook_id)
    webhook = await webhooks.find_webhook(conn, webhook_id)
    if webhook is None or webhook.url != url:
        return False
    if not await webhooks.disable_webhook(conn, webhook_id, webhooks.DISABLED, reason, now):
        return False
    webhook = replace(webhook, status=webhooks.DISABLED, disabled_at=now, disabled_reason=reason)
    await announce(conn, [disabled_webhook_change(webhook)], now)
    for admin in await users.list_admins(conn):
        if admin.email is not None and admin.suspended_at is None:
            await outbox.insert_mail(
                conn, new_id(), outbox.WEBHOOK_DISABLED, admin.id, admin.email, "en", now, url=webhook.url, reason=reason
            )
    return True


async def keep_up(database: Database, found: list[Webhook]) -> tuple[set[str], bool]:
    """One step of all that is to be done for these webhooks. Returns to which of them something was queued, and whether
    there is more to do. Raises DatabaseUnavailable."""
    has_more = False
    for webhook in found:
        if webhook.status == webhooks.DELETED:
            has_more |= await _delete_some(database, webhook)
        elif webhook.status == webhooks.DISABLED:
            has_more |= await _drop_some(database, webhook)
    queued = set()
    async with database.reader() as conn:
        waiting = await webhooks.list_replays(conn)
    for replay in waiting:
        has_more = True
        if await _replay_some(database, replay.webhook_id):
            queued.add(replay.webhook_id)
    return queued, has_more


async def _drop_some(database: Database, webhook: Webhook) -> bool:
    async with database.reader() as conn:
        if not await deliveries.count_deliveries(conn, webhook.id, deliveries.WAITING, 1):
            return False
    async with database.transaction() as conn:
        await locks.lock_webhook(conn, webhook.id)
        current = await webhooks.find_webhook(conn, webhook.id)
        if current is None or current.status != webhooks.DISABLED:
            return False
        return await deliveries.drop_deliveries(conn, webhook.id, clock.now(), BATCH) > 0


async def _delete_some(database: Database, webhook: Webhook) -> bool:
    try:
        async with database.transaction() as conn:
            await locks.lock_webhook(conn, webhook.id)
            await webhooks.delete_replay(conn, webhook.id)
            numbers = await deliveries.list_deliveries_to_delete(conn, webhook.id, BATCH)
            if not numbers:
                await webhooks.delete_webhook(conn, webhook.id)
                return False
            await deliveries.delete_failures_of_deliveries(conn, webhook.id, numbers)
            await deliveries.delete_deliveries(conn, webhook.id, numbers)
    except (ConstraintViolation, TransactionConflict):
        # The relay has just queued something more.
        pass
    return True


async def _seal_anew(database: Database, seal: Seal, webhook: Webhook) -> None:
    """After a rotation of keys: by the next one, what the key before has sealed could not be opened any more."""
    if _renewed(seal, webhook) is None:
        return
    async with database.transaction() as conn:
        await locks.lock_webhook(conn, webhook.id)
        current = await webhooks.find_webhook(conn, webhook.id)
        renewed = _renewed(seal, current) if current is not None else None
        if current is not None and renewed is not None:
            secret, previous_secret = renewed
            await webhooks.update_webhook_secrets(conn, current.id, secret, previous_secret, current.previous_until)


def _renewed(seal: Seal, webhook: Webhook) -> tuple[str, str | None] | None:
    secret = seal.renewed(webhook.secret)
    previous = None if webhook.previous_secret is None else seal.renewed(webhook.previous_secret)
    if secret is None and previous is None:
        return None
    return secret or webhook.secret, previous or webhook.previous_secret


async def seal_webhooks_anew(database: Database, seal: Seal) -> None:
    """Have every webhook's secrets sealed by the current key. Raises DatabaseUnavailable."""
    async with database.reader() as conn:
        found = await webhooks.list_all_webhooks(conn)
    for webhook in found:
        await _seal_anew(database, seal, webhook)


async def _replay_some(database: Database, webhook_id: str) -> bool:
    """Queue the next changes of a replay; whether there were any."""
    async with database.transaction() as conn:
        await locks.lock_webhook(conn, webhook_id)
        webhook, replay = await webhooks.find_webhook(conn, webhook_id), await webhooks.find_replay(conn, webhook_id)
        if replay is None or webhook is None:
            return False
        if webhook.status != webhooks.ENABLED:
            # What waits for a disabled webhook is dropped.
            await webhooks.delete_replay(conn, webhook_id)
            return False
        end = min(replay.next_seq + BATCH, replay.last_seq)
        found = await changes.list_types_since(conn, replay.next_seq, end, replay.since)
        wanted = [change.seq for change in found if _is_wanted(webhook, replay, change.type)]
        if wanted:
            await deliveries.insert_deliveries(conn, [{"seq": seq, "webhook_id": webhook_id} for seq in wanted])
        if end == replay.last_seq:
            await webhooks.delete_replay(conn, webhook_id)
        else:
            await webhooks.advance_replay(conn, webhook_id, end)
        return bool(wanted)


def _is_wanted(webhook: Webhook, replay: Replay, kind: str) -> bool:
    return matches(webhook.patterns, kind) and matches(orjson.loads(replay.types), kind)
