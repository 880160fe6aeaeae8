"""Events that were reported of users: statements of `sql/events.sql`. Those of the audit are in `audit.py`."""

from dataclasses import dataclass
from typing import NamedTuple

from referral.database import Connection

# Whether a code or a click made somebody come by its owner.
ATTRIBUTED, KEPT, NONE, REFUSED = "attributed", "kept", "none", "refused"
# The type of which refunds say something.
PURCHASE = "purchase"


class Attribution(NamedTuple):
    """What became of a code or click: the status, and why it caused nothing."""

    status: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """What is reported; times in ms, `amount` in the unit's smallest part, `metadata`, `ignored` and `outcome` as JSON
    texts.

    The event's user had come by `referrer_id` at `joined_at`, `tier` says how many converted referrals that one had, and
    `barred` who earns nothing. `converts` says that it counts as a conversion of the referral.
    """

    id: str
    type: str
    user_id: str
    received_at: int
    occurred_at: int
    attribution: str
    unit: str | None = None
    amount: int | None = None
    refunds: str | None = None
    code: str | None = None
    click_id: str | None = None
    metadata: str | None = None
    reason: str | None = None
    ignored: str | None = None
    body_hash: str | None = None
    referrer_id: str | None = None
    joined_at: int | None = None
    tier: int | None = None
    barred: str | None = None
    converts: int = 0
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class ReportedEvent:
    """An event as it is kept; `refunded` is what refunds took of its amount."""

    id: str
    type: str
    user_id: str
    received_at: int
    occurred_at: int
    unit: str | None
    amount: int | None
    refunded: int
    refunds: str | None
    code: str | None
    click_id: str | None
    metadata: str | None
    attribution: str
    reason: str | None
    ignored: str | None
    body_hash: str | None
    converts: int
    outcome: str | None


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event, or a refund, with what it met."""

    id: str
    user_id: str
    received_at: int
    occurred_at: int
    type: str
    unit: str | None
    amount: int | None
    refunds: str | None
    metadata: str | None
    referrer_id: str | None
    joined_at: int | None
    tier: int | None
    barred: str | None


@dataclass(frozen=True, slots=True)
class Reported:
    """An event's place in the list of a user's."""

    received_at: int
    id: str


# What the second one violates of two that insert an event of one id, or what belongs to it.
ONCE = ("events_pkey", "event_contexts_pkey", "rewards_once")


async def insert_event_of_user(conn: Connection, event: NewEvent) -> bool:
    """False when the id is taken. Violates a foreign key when there is no such user."""
    values = {name: getattr(event, name) for name in NewEvent.__slots__}
    return await conn.value("insert_event_of_user", str, **values) is not None


async def insert_event_once(conn: Connection, event: NewEvent) -> None:
    """This is deferred: if the id is taken, a later statement or the commit violates one of ONCE."""
    conn.defer("insert_event_once", **{name: getattr(event, name) for name in NewEvent.__slots__})


async def find_reported_event(conn: Connection, event_id: str) -> ReportedEvent | None:
    return await conn.one("find_reported_event", ReportedEvent, id=event_id)


async def refund_event(conn: Connection, event_id: str, amount: int | None) -> int | None:
    """Take this amount, or with None all that is left, of the event's, and return the sum of what was taken. None when
    there is not as much."""
    return await conn.value("refund_event", int, id=event_id, amount=amount)


async def has_bought(conn: Connection, user_id: str, before: int) -> bool:
    """Whether a purchase of the user's was reported that happened before then (ms)."""
    return await conn.value("has_bought", str, user_id=user_id, before=before) is not None


async def list_events(conn: Connection, since: int, before: tuple[int, str], limit: int) -> list[ReportedEvent]:
    """Events received since a time (ms) and before the cursor (time in ms, id), newest first."""
    return await conn.page(
        "list_events", ReportedEvent, since=since, before_time=before[0], before_id=before[1], page_size=limit
    )


async def list_events_of_type(
    conn: Connection, event_type: str, since: int, before: tuple[int, str], limit: int
) -> list[ReportedEvent]:
    """As `list_events`, those of a type."""
    return await conn.page(
        "list_events_of_type",
        ReportedEvent,
        type=event_type,
        since=since,
        before_time=before[0],
        before_id=before[1],
        page_size=limit,
    )


async def list_events_of_user(
    conn: Connection, user_id: str, event_type: str | None, since: int, before: tuple[int, str], limit: int
) -> list[ReportedEvent]:
    """As `list_events`, those of a user, of one type or of all."""
    return await conn.page(
        "list_events_of_user",
        ReportedEvent,
        user_id=user_id,
        type=event_type,
        since=since,
        before_time=before[0],
        before_id=before[1],
        page_size=limit,
    )


async def count_events(conn: Connection, since: int, most: int) -> int:
    """How many events there are, counted up to `most`."""
    return await conn.value("count_events", int, since=since, sample_size=most) or 0


async def count_events_of_type(conn: Connection, event_type: str, since: int, most: int) -> int:
    return await conn.value("count_events_of_type", int, type=event_type, since=since, sample_size=most) or 0


async def count_events_of_user(conn: Connection, user_id: str, event_type: str | None, since: int, most: int) -> int:
    found = await conn.value("count_events_of_user", int, user_id=user_id, type=event_type, since=since, sample_size=most)
    return found or 0


async def forget_events_of_user(conn: Connection, user_id: str, before: tuple[int, str], batch_size: int) -> list[Reported]:
    """Take what is personal from so many events, at most, of a user who is erased: those before the cursor (time in ms, id),
    newest first. Returns which they were, in any order."""
    return await conn.page(
        "forget_events_of_user",
        Reported,
        user_id=user_id,
        before_time=before[0],
        before_id=before[1],
        batch_size=batch_size,
    )


async def list_past_events(conn: Connection, event_type: str, after: tuple[int, str], limit: int) -> list[PastEvent]:
    """Events of a type behind the cursor (time in ms, id), the oldest report first."""
    return await conn.page(
        "list_past_events", PastEvent, type=event_type, after_time=after[0], after_id=after[1], page_size=limit
    )


async def forget_conversions(conn: Connection, user_id: str) -> None:
    """None of the user's events converts a referral any more."""
    await conn.run("forget_conversions", user_id=user_id)
