"""Webhooks, as admins make and change them."""

from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from referral.auth.sealing import SEAL, SealBroken
from referral.background.webhooks import WEBHOOKS
from referral.changes import disabled_webhook_change
from referral.clock import DAY, now
from referral.contract.parameters import id_in_path
from referral.contract.problems import Problem, invalid
from referral.database import DATABASE, Connection
from referral.ids import new_id
from referral.queries import changes, locks, webhooks
from referral.queries.changes import ToldChange
from referral.queries.webhooks import DELETED, DISABLED, ENABLED, Replay, Webhook
from referral.rules.work import Work
from referral.webhooks.guard import GUARD, url_error
from referral.webhooks.sending import Sent
from referral.webhooks.signing import new_secret

# Each has a task of its own in every worker.
MOST_WEBHOOKS = 100
# How long the secret before a rotation signs, too (ms).
OVERLAP = DAY


def no_such_webhook() -> Problem:
    return Problem("not-found", "There is no such webhook.")


def webhook_id_of(request: web.Request) -> str:
    """The id that the path names. Raises `not-found` for what is none."""
    return id_in_path(request, "webhook_id", no_such_webhook())


async def known_webhook(conn: Connection, webhook_id: str) -> Webhook:
    """The webhook of this id. Raises `not-found`."""
    found = await webhooks.find_webhook(conn, webhook_id)
    if found is None:
        raise no_such_webhook()
    return found


async def locked_webhook(work: Work, webhook_id: str) -> Webhook:
    """The webhook of this id, which nobody else changes until the end of the transaction. Raises `not-found`."""
    await work.hold_caller()
    await locks.lock_webhook(work.conn, webhook_id)
    return await known_webhook(work.conn, webhook_id)


async def check_url(request: web.Request, url: str) -> None:
    """Raises a `validation-error` for what is no URL, and `url-not-allowed`. Comes before the transaction: it asks the
    domain name system."""
    error = url_error(url)
    if error is not None:
        raise invalid("/url", f"{error[0].upper()}{error[1:]}.")
    refusal = await request.app[GUARD].check_url(url)
    if refusal is not None:
        raise Problem("url-not-allowed", f"{refusal}.")


class MadeBefore(Exception):
    """There is one of this id: the same form was sent twice."""


async def make_webhook(work: Work, webhook_id: str, body: dict[str, Any]) -> tuple[Webhook, str]:
    """Make the webhook that `body` (WebhookCreationSchema) says, and return it with its secret. Raises MadeBefore, and
    `too-many-webhooks`."""
    await work.hold_caller()
    await locks.lock_webhooks(work.conn)
    secret = new_secret()
    sealed = work.request.app[SEAL].seal(secret)
    types = orjson.dumps(body["types"]).decode()
    if not await webhooks.insert_webhook(work.conn, webhook_id, body["url"], types, sealed, work.moment):
        raise MadeBefore
    if await webhooks.count_webhooks(work.conn) > MOST_WEBHOOKS:
        raise Problem("too-many-webhooks", f"There are {MOST_WEBHOOKS} webhooks: delete one first.")
    await work.record("webhook-made", webhook_id=webhook_id, url=body["url"])
    work.wakes(work.request.app[WEBHOOKS])
    return await known_webhook(work.conn, webhook_id), secret


async def change_webhook(work: Work, webhook: Webhook, body: dict[str, Any]) -> Webhook:
    """Change a webhook, which is locked, as `body` (WebhookChangeSchema) says, and return it as it is then."""
    types = orjson.dumps(body["types"]).decode() if "types" in body else webhook.types
    wanted = replace(webhook, url=body.get("url", webhook.url), types=types)
    if wanted != webhook:
        await webhooks.update_webhook(work.conn, webhook.id, wanted.url, wanted.types)
    if body.get("status") == ENABLED:
        await webhooks.enable_webhook(work.conn, webhook.id)
    elif body.get("status") == DISABLED:
        await webhooks.disable_webhook(work.conn, webhook.id, DISABLED, "An admin disabled it.", work.moment)
    changed = await known_webhook(work.conn, webhook.id)
    if changed != webhook:
        if changed.status == DISABLED != webhook.status:
            work.announce(disabled_webhook_change(changed))
        await work.record("webhook-changed", webhook_id=webhook.id, url=changed.url, status=changed.status)
        work.wakes(work.request.app[WEBHOOKS])
    return changed


async def end_webhook(work: Work, webhook: Webhook) -> None:
    """Delete a webhook, which is locked. Its deliveries are cleared up behind it."""
    await webhooks.disable_webhook(work.conn, webhook.id, DELETED, "An admin deleted it.", work.moment)
    await work.record("webhook-deleted", webhook_id=webhook.id, url=webhook.url)
    work.wakes(work.request.app[WEBHOOKS])


async def rotate_secret(work: Work, webhook: Webhook) -> str:
    """Give a webhook, which is locked, another secret, and return it. The one before signs, too, for a day."""
    secret = new_secret()
    sealed = work.request.app[SEAL].seal(secret)
    await webhooks.update_webhook_secrets(work.conn, webhook.id, sealed, webhook.secret, work.moment + OVERLAP)
    await work.record("webhook-rotated", webhook_id=webhook.id)
    return secret


async def ping(request: web.Request, webhook_id: str) -> Sent:
    """Send a webhook a message of the type `ping`, once, whatever types it wants and whether or not it is enabled, and
    return what its receiver answered. Raises `not-found`, and `webhook-sealed`."""
    sender = request.app[WEBHOOKS]
    async with request.app[DATABASE].reader() as conn:
        webhook = await known_webhook(conn, webhook_id)
    try:
        secrets = sender.secrets_of(webhook)
    except SealBroken:
        raise Problem("webhook-sealed", "The secret was sealed by a key that is no more: rotate it.") from None
    change = ToldChange(new_id(), 0, "ping", now(), webhook.id, 0, f'{{"webhook_id":"{webhook.id}"}}')
    return await sender.post(webhook.url, secrets, change)


async def replay(work: Work, webhook: Webhook, since: int, types: list[str]) -> Replay:
    """Have what changed since a time (ms) sent again. Raises `webhook-disabled`, and `replay-under-way`."""
    check_enabled(webhook)
    since = max(since, 0)
    feed = await changes.find_feed(work.conn)
    asked = Replay(webhook.id, since, orjson.dumps(types).decode(), feed.gone_seq, feed.last_seq)
    if not await webhooks.insert_replay(work.conn, asked):
        raise Problem("replay-under-way", "Another replay of this webhook is under way: wait until it has been queued.")
    await work.record("webhook-replayed", webhook_id=webhook.id, since=since)
    work.wakes(work.request.app[WEBHOOKS])
    return asked


def check_enabled(webhook: Webhook) -> None:
    """Raises `webhook-disabled`."""
    if webhook.status != ENABLED:
        raise Problem("webhook-disabled", "The webhook is disabled: enable it first, by a PATCH of its status.")
