"""Webhooks, and their replays: statements of `sql/webhooks*.sql`."""

from dataclasses import dataclass
from typing import Literal

import orjson

from referral.database import Connection

WebhookStatus = Literal["enabled", "disabled", "deleted"]
ENABLED: WebhookStatus = "enabled"
DISABLED: WebhookStatus = "disabled"
DELETED: WebhookStatus = "deleted"


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where changes are sent; times in ms. `types` is a JSON array, and the secrets are sealed."""

    id: str
    url: str
    types: str
    status: str
    secret: str
    previous_secret: str | None
    previous_until: int | None
    created_at: int
    failing_since: int | None
    disabled_at: int | None
    disabled_reason: str | None

    @property
    def patterns(self) -> list[str]:
        """The types and groups of types that are wanted."""
        found: list[str] = orjson.loads(self.types)
        return found


@dataclass(frozen=True, slots=True)
class Replay:
    """Changes since a time (ms) that are sent again: those behind `next_seq`, up to `last_seq`, are still to be queued.
    `types` is a JSON array."""

    webhook_id: str
    since: int
    types: str
    next_seq: int
    last_seq: int


async def insert_webhook(conn: Connection, webhook_id: str, url: str, types: str, secret: str, now: int) -> bool:
    """False where there is one of this id."""
    made = await conn.value("insert_webhook", str, id=webhook_id, url=url, types=types, secret=secret, now=now)
    return made is not None


async def count_webhooks(conn: Connection) -> int:
    return await conn.value("count_webhooks", int) or 0


async def list_webhooks(conn: Connection, before: tuple[int, str], limit: int) -> list[Webhook]:
    """Webhooks made before the cursor (time in ms, id), newest first."""
    return await conn.page("list_webhooks", Webhook, before_time=before[0], before_id=before[1], page_size=limit)


async def list_all_webhooks(conn: Connection) -> list[Webhook]:
    """Deleted ones, too."""
    return await conn.page("list_all_webhooks", Webhook)


async def hold_enabled_webhooks(conn: Connection) -> list[Webhook]:
    """The webhooks that are enabled, none of which is taken away before the end of the transaction."""
    return await conn.page("hold_enabled_webhooks", Webhook)


async def find_webhook(conn: Connection, webhook_id: str) -> Webhook | None:
    return await conn.one("find_webhook", Webhook, webhook_id=webhook_id)


async def update_webhook(conn: Connection, webhook_id: str, url: str, types: str) -> None:
    await conn.run("update_webhook", webhook_id=webhook_id, url=url, types=types)


async def enable_webhook(conn: Connection, webhook_id: str) -> None:
    await conn.run("enable_webhook", webhook_id=webhook_id)


async def disable_webhook(conn: Connection, webhook_id: str, status: WebhookStatus, reason: str, now: int) -> bool:
    """Disable or delete a webhook. False for one that is disabled, or deleted, already."""
    disabled = await conn.value("disable_webhook", str, webhook_id=webhook_id, status=status, reason=reason, now=now)
    return disabled is not None


async def update_webhook_secrets(
    conn: Connection, webhook_id: str, secret: str, previous_secret: str | None, previous_until: int | None
) -> None:
    await conn.run(
        "update_webhook_secrets",
        webhook_id=webhook_id,
        secret=secret,
        previous_secret=previous_secret,
        previous_until=previous_until,
    )


async def note_webhook_success(conn: Connection, webhook_id: str) -> None:
    await conn.run("note_webhook_success", webhook_id=webhook_id)


async def note_webhook_failure(conn: Connection, webhook_id: str, now: int) -> int | None:
    """Since when (ms) everything has failed, this time included. None for a webhook that is not enabled."""
    return await conn.value("note_webhook_failure", int, webhook_id=webhook_id, now=now)


async def delete_webhook(conn: Connection, webhook_id: str) -> None:
    """Take the row of a deleted webhook away; nothing must be left that refers to it."""
    await conn.run("delete_webhook", webhook_id=webhook_id)


async def find_replay(conn: Connection, webhook_id: str) -> Replay | None:
    return await conn.one("find_replay", Replay, webhook_id=webhook_id)


async def list_replays(conn: Connection) -> list[Replay]:
    return await conn.page("list_replays", Replay)


async def insert_replay(conn: Connection, replay: Replay) -> bool:
    """False while another replay of the webhook is under way."""
    values = {name: getattr(replay, name) for name in Replay.__slots__}
    return await conn.value("insert_replay", str, **values) is not None


async def advance_replay(conn: Connection, webhook_id: str, next_seq: int) -> None:
    await conn.run("advance_replay", webhook_id=webhook_id, next_seq=next_seq)


async def delete_replay(conn: Connection, webhook_id: str) -> None:
    await conn.run("delete_replay", webhook_id=webhook_id)


async def count_ailing_webhooks(conn: Connection) -> int:
    """Of those that are disabled, or whose last attempts have all failed."""
    return await conn.value("count_ailing_webhooks", int) or 0
