"""Security events: statements of `sql/audit.sql`."""

from dataclasses import dataclass
from typing import Literal

import orjson

from referral.database import Connection

EventName = Literal[
    "registered",
    "registration-refused",
    "admin-created",
    "admin-promoted",
    "admin-demoted",
    "signed-in",
    "sign-in-refused",
    "sign-in-limited",
    "refresh-token-reused",
    "signed-out",
    "session-ended",
    "sessions-ended",
    "password-changed",
    "password-change-refused",
    "reset-requested",
    "password-reset",
    "second-factor-on",
    "second-factor-off",
    "second-factor-refused",
    "second-factor-reset",
    "recovery-code-used",
    "email-verified",
    "email-change-requested",
    "email-change-refused",
    "email-changed",
    "username-changed",
    "code-made",
    "code-edited",
    "code-ended",
    "referrer-set",
    "identity-joined",
    "stranger-put-out",
    "email-disowned",
    "external-id-changed",
    "user-token-made",
    "user-exported",
    "key-made",
    "key-revoked",
    "account-suspended",
    "account-unsuspended",
    "account-erased",
    "account-disowned",
    "erasure-refused",
    "rule-made",
    "rule-changed",
    "reward-made",
    "reward-approved",
    "reward-rejected",
    "reward-fulfilled",
    "reward-reversed",
    "referral-reported",
    "review-cleared",
    "review-rejected",
    "block-made",
    "block-deleted",
    "webhook-made",
    "webhook-changed",
    "webhook-rotated",
    "webhook-replayed",
    "webhook-retried",
    "webhook-deleted",
    "mail-retried",
    "events-left-out",
]


@dataclass(frozen=True, slots=True)
class Event:
    """`at` is in ms. `user_id` is whose account it is about, `actor_id` who did it, None for somebody who was not signed in;
    `email` is None where an account is known. `detail` is a JSON object; it never holds a password or a token."""

    id: str
    at: int
    event: str
    actor_id: str | None
    user_id: str | None
    email: str | None
    address: str | None
    request_id: str | None
    detail: str


async def insert_event(conn: Connection, event: Event) -> None:
    """Record the event in the caller's transaction: it is kept if and only if what it records is."""
    conn.defer(
        "insert_event",
        id=event.id,
        at=event.at,
        event=event.event,
        actor_id=event.actor_id,
        user_id=event.user_id,
        email=event.email,
        address=event.address,
        request_id=event.request_id,
        detail=event.detail,
    )


async def count_left_out(
    conn: Connection, event_id: str, at: int, user_id: str | None, address: str | None, count: int
) -> None:
    """Record that so many events were left out since then (ms), about an account or from a network. The event of this id is
    there once: it gets the new count. This is deferred."""
    detail = orjson.dumps({"count": count}).decode()
    conn.defer("count_left_out", id=event_id, at=at, user_id=user_id, address=address, detail=detail)


async def find_events(conn: Connection, event: str | None, since: int, limit: int) -> list[Event]:
    """The latest events since a time (ms), of one kind or of all, newest first."""
    return await conn.all("find_events", Event, event=event, since=since, page_size=limit)


async def find_events_of_user(
    conn: Connection, user_id: str | None, email_key: str | None, event: str | None, since: int, limit: int
) -> list[Event]:
    """As `find_events`, those that the user did, those about the account, and those about the address alone."""
    return await conn.all(
        "find_events_of_user", Event, user_id=user_id, email_key=email_key, event=event, since=since, page_size=limit
    )


async def list_events_about_user(conn: Connection, user_id: str, before: tuple[int, str], limit: int) -> list[Event]:
    """What the user did, and what befell their account, before the cursor (time in ms, id), newest first."""
    return await conn.page(
        "list_events_about_user", Event, user_id=user_id, before_time=before[0], before_id=before[1], page_size=limit
    )


async def list_audit(conn: Connection, event: str | None, since: int, before: tuple[int, str], limit: int) -> list[Event]:
    """Events since a time (ms), of one kind or of all, before the cursor (time in ms, id), newest first."""
    return await conn.page(
        "list_audit", Event, event=event, since=since, before_time=before[0], before_id=before[1], page_size=limit
    )


async def list_audit_of_user(
    conn: Connection, user_id: str, event: str | None, since: int, before: tuple[int, str], limit: int
) -> list[Event]:
    """As `list_audit`, what the user did and what befell their account."""
    return await conn.page(
        "list_audit_of_user",
        Event,
        user_id=user_id,
        event=event,
        since=since,
        before_time=before[0],
        before_id=before[1],
        page_size=limit,
    )


async def list_acts_on_reward(conn: Connection, user_id: str, reward_id: str, limit: int) -> list[Event]:
    """What somebody did to a reward of a user's, the latest acts, oldest first."""
    return await conn.page("list_acts_on_reward", Event, user_id=user_id, reward_id=reward_id, page_size=limit)


async def count_audit(conn: Connection, event: str | None, since: int, most: int) -> int:
    """How many events `list_audit` has in all, counted no further than `most`."""
    return await conn.value("count_audit", int, event=event, since=since, sample_size=most) or 0


async def count_audit_of_user(conn: Connection, user_id: str, event: str | None, since: int, most: int) -> int:
    """As `count_audit`, for `list_audit_of_user`."""
    total = await conn.value("count_audit_of_user", int, user_id=user_id, event=event, since=since, sample_size=most)
    return total or 0


async def erase_addresses(conn: Connection, user_id: str) -> None:
    """Take the network addresses from the events of an account that ends, this transaction's own included."""
    await conn.run("erase_addresses", user_id=user_id)


async def adopt_events(conn: Connection, user_id: str, email_key: str) -> None:
    """Let what was recorded of an address be about the account that had it until now."""
    await conn.run("adopt_events", user_id=user_id, email_key=email_key)


async def erase_email(conn: Connection, email_key: str) -> None:
    """Take both addresses from the events that have this e-mail address."""
    await conn.run("erase_email", email_key=email_key)


async def delete_old_events_of_nobody(conn: Connection, before: int, batch_size: int) -> int:
    """As `delete_old_events`, those that belong to no account."""
    return len(await conn.values("delete_old_events_of_nobody", str, before=before, batch_size=batch_size))


async def delete_old_events(conn: Connection, before: int, batch_size: int) -> int:
    """Delete so many of the events before then (ms) at most, and return how many there were."""
    return len(await conn.values("delete_old_events", str, before=before, batch_size=batch_size))
