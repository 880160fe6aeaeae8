"""Events that were reported of users: statements of `sql/events.sql`. Those of the audit are in `audit.py`."""

from dataclasses import dataclass

from referral.database import Connection

# Whether a code or a click made somebody come by its owner.
ATTRIBUTED, KEPT, NONE, REFUSED = "attributed", "kept", "none", "refused"


@dataclass(frozen=True, slots=True)
class NewEvent:
    """What is reported; times in ms, `amount` in the unit's smallest part, `metadata` and `ignored` as JSON texts."""

    id: str
    type: str
    user_id: str
    received_at: int
    occurred_at: int
    unit: str | None
    amount: int | None
    refunds: str | None
    code: str | None
    click_id: str | None
    metadata: str | None
    attribution: str
    reason: str | None
    ignored: str | None
    body_hash: str | None


@dataclass(frozen=True, slots=True)
class ReportedEvent(NewEvent):
    """An event as it is kept; `refunded` is what refunds took of its amount."""

    refunded: int = 0


@dataclass(frozen=True, slots=True)
class Reported:
    """An event's place in the list of a user's."""

    received_at: int
    id: str


async def insert_event_of_user(conn: Connection, event: NewEvent) -> bool:
    """False when the id is taken. Violates a foreign key when there is no such user."""
    inserted = await conn.value(
        "insert_event_of_user",
        str,
        id=event.id,
        type=event.type,
        user_id=event.user_id,
        received_at=event.received_at,
        occurred_at=event.occurred_at,
        unit=event.unit,
        amount=event.amount,
        refunds=event.refunds,
        code=event.code,
        click_id=event.click_id,
        metadata=event.metadata,
        attribution=event.attribution,
        reason=event.reason,
        ignored=event.ignored,
        body_hash=event.body_hash,
    )
    return inserted is not None


async def insert_own_event(
    conn: Connection,
    event_type: str,
    user_id: str,
    now: int,
    *,
    code: str | None = None,
    attribution: str = NONE,
    reason: str | None = None,
) -> None:
    """An account of the service's own reports itself, once for each type. This is deferred."""
    conn.defer(
        "insert_own_event",
        id=f"{event_type}:{user_id}",
        type=event_type,
        user_id=user_id,
        now=now,
        code=code,
        attribution=attribution,
        reason=reason,
    )


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
