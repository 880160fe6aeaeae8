"""Mail that waits to be sent: statements of `sql/outbox.sql`."""

from dataclasses import dataclass
from typing import Any, Literal

import orjson

from referral.database import Connection

MailKind = Literal[
    "verify-email", "change-email", "email-changed", "reset-password", "code", "webhook-disabled", "reviews-overdue"
]

VERIFY_EMAIL: MailKind = "verify-email"
CHANGE_EMAIL: MailKind = "change-email"
EMAIL_CHANGED: MailKind = "email-changed"
RESET_PASSWORD: MailKind = "reset-password"
CODE: MailKind = "code"
WEBHOOK_DISABLED: MailKind = "webhook-disabled"
REVIEWS_OVERDUE: MailKind = "reviews-overdue"


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail to be composed; `user_id` is None for a password reset, whose account is found by `recipient`. `params` is a
    JSON object."""

    id: str
    kind: str
    user_id: str | None
    recipient: str
    language: str
    params: str
    created_at: int
    attempts: int


@dataclass(frozen=True, slots=True)
class MailOfUser:
    """What an export tells of a mail; `created_at` in ms."""

    kind: str
    recipient: str
    created_at: int


@dataclass(frozen=True, slots=True)
class QueuedMail:
    """What an operator sees of a mail; `failed_at` is None while it waits. Times in ms."""

    id: str
    kind: str
    recipient: str
    attempts: int
    created_at: int
    next_attempt_at: int
    failed_at: int | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class OutboxCount:
    """How many mails wait, and how many failed."""

    waiting: int
    failed: int


async def insert_mail(
    conn: Connection,
    mail_id: str,
    kind: MailKind,
    user_id: str | None,
    recipient: str,
    language: str,
    now: int,
    **params: Any,
) -> None:
    """Queue a mail in the caller's transaction: it is sent if and only if that is committed. This is deferred."""
    conn.defer(
        "insert_mail",
        id=mail_id,
        kind=kind,
        user_id=user_id,
        recipient=recipient,
        language=language,
        params=orjson.dumps(params).decode(),
        now=now,
    )


async def claim_mail(conn: Connection, now: int, lease_until: int, batch_size: int) -> list[Mail]:
    """Take what is due until `lease_until` (ms), when it is due again unless it was deleted, postponed or failed."""
    return await conn.all("claim_mail", Mail, now=now, lease_until=lease_until, batch_size=batch_size)


async def delete_mail(conn: Connection, mail_id: str) -> None:
    await conn.run("delete_mail", id=mail_id)


async def postpone_mail(conn: Connection, mail_id: str, next_attempt_at: int, attempts: int, error: str) -> None:
    """Make the mail due at `next_attempt_at` (ms) and set its count of attempts, which claiming it had raised."""
    await conn.run("postpone_mail", id=mail_id, next_attempt_at=next_attempt_at, attempts=attempts, error=error)


async def fail_mail(conn: Connection, mail_id: str, now: int, error: str) -> None:
    await conn.run("fail_mail", id=mail_id, now=now, error=error)


async def find_next_mail_time(conn: Connection) -> int | None:
    """When the next mail is due (ms); None when none waits."""
    return await conn.value("find_next_mail_time", int)


async def delete_mail_of_user(conn: Connection, user_id: str, email_key: str | None) -> None:
    """Forget what waits to be mailed for the user and, unless the address is left out, the resets that were asked for by
    it."""
    await conn.run("delete_mail_of_user", user_id=user_id, email_key=email_key)


async def delete_resets(conn: Connection, email_key: str) -> None:
    """Forget the password resets that wait to be mailed to this address."""
    await conn.run("delete_resets", kind=RESET_PASSWORD, email_key=email_key)


async def delete_mail_of_kind(conn: Connection, user_id: str, kind: MailKind) -> None:
    """Forget what of this kind waits to be mailed for the user."""
    await conn.run("delete_mail_of_kind", user_id=user_id, kind=kind)


async def hold_mail(conn: Connection, mail_id: str) -> bool:
    """Keep others from deleting the mail until the end of the transaction. False when it is gone."""
    return await conn.value("hold_mail", str, id=mail_id) is not None


async def list_mail_of_user(conn: Connection, user_id: str) -> list[MailOfUser]:
    """What waits to be mailed for the user, and what failed."""
    return await conn.all("list_mail_of_user", MailOfUser, user_id=user_id)


async def find_mail(conn: Connection) -> list[QueuedMail]:
    """All that waits and all that failed, oldest first."""
    return await conn.all("find_mail", QueuedMail)


async def list_outbox(conn: Connection, before: tuple[int, str], limit: int) -> list[QueuedMail]:
    """What waits and what failed, before the cursor (time in ms, id), newest first."""
    return await conn.page("list_outbox", QueuedMail, before_time=before[0], before_id=before[1], page_size=limit)


async def list_failed_mail(conn: Connection, before: tuple[int, str], limit: int) -> list[QueuedMail]:
    """As `list_outbox`, what failed."""
    return await conn.page("list_failed_mail", QueuedMail, before_time=before[0], before_id=before[1], page_size=limit)


async def list_waiting_mail(conn: Connection, before: tuple[int, str], limit: int) -> list[QueuedMail]:
    """As `list_outbox`, what waits."""
    return await conn.page("list_waiting_mail", QueuedMail, before_time=before[0], before_id=before[1], page_size=limit)


async def find_queued_mail(conn: Connection, mail_id: str) -> QueuedMail | None:
    return await conn.one("find_queued_mail", QueuedMail, id=mail_id)


async def count_outbox(conn: Connection, most: int) -> OutboxCount:
    """How many mails there are of each status, counted no further than `most`."""
    found = await conn.one("count_outbox", OutboxCount, sample_size=most)
    assert found is not None
    return found


async def retry_mail(conn: Connection, mail_id: str, now: int) -> bool:
    """Make the mail due, as if it had been queued now. False when there is no such mail."""
    return await conn.value("retry_mail", str, id=mail_id, now=now) is not None


async def retry_failed_mail(conn: Connection, now: int) -> int:
    """Make all failed mail due, as if it had been queued now, and return how many they are."""
    return len(await conn.values("retry_failed_mail", str, now=now))


async def delete_failed_mail(conn: Connection, before: int) -> None:
    """Delete what was given up before then (ms)."""
    await conn.run("delete_failed_mail", before=before)


async def count_waiting_mail(conn: Connection, most: int) -> int:
    """How many mails wait to be sent, counted up to `most`."""
    return await conn.value("count_waiting_mail", int, sample_size=most) or 0


async def count_failed_mail(conn: Connection, most: int) -> int:
    """How many of so many oldest mails were given up."""
    return await conn.value("count_failed_mail", int, sample_size=most) or 0
