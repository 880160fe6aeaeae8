"""Deliveries of changes to webhooks: statements of `sql/deliveries*.sql`."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from referral.database import Connection
from referral.queries.changes import ToldChange

WAITING, DELIVERED, FAILED, DROPPED = "waiting", "delivered", "failed", "dropped"
STATUSES = (WAITING, DELIVERED, FAILED, DROPPED)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a change that is sent to a webhook; times in ms, `next_attempt_at` 0 for at once."""

    seq: int
    webhook_id: str
    change_id: str
    type: str
    status: str
    attempts: int
    next_attempt_at: int | None
    leased_until: int | None
    last_status: int | None
    last_error: str | None
    delivered_at: int | None


@dataclass(frozen=True, slots=True)
class DeliveryFailure:
    """An attempt that failed, at a time (ms), after so many milliseconds: the answer's status, None without one, and the
    beginning of its body, or why there was none."""

    at: int
    status: int | None
    error: str
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Turn:
    """When a webhook's next delivery is due, and until when some are leased (ms); None for none."""

    next_attempt_at: int | None
    leased_until: int | None


class Claimed(NamedTuple):
    """A delivery that is this worker's, and how often it was tried, this time included."""

    seq: int
    attempts: int


async def insert_deliveries(conn: Connection, deliveries: list[dict[str, Any]]) -> None:
    """Have changes (`seq`) sent to webhooks (`webhook_id`), at once; those that were sent are sent again. One that is being
    sent is left as it is."""
    await conn.run("insert_deliveries", deliveries=orjson.dumps(deliveries).decode())


async def list_deliveries(conn: Connection, webhook_id: str, status: str, before: int, limit: int) -> list[Delivery]:
    """Those of a webhook in a state, of changes before a number, newest first."""
    return await conn.page(
        "list_deliveries", Delivery, webhook_id=webhook_id, status=status, before_seq=before, page_size=limit
    )


async def count_deliveries(conn: Connection, webhook_id: str, status: str, most: int) -> int:
    """How many there are, counted up to `most`."""
    found = await conn.value("count_deliveries", int, webhook_id=webhook_id, status=status, sample_size=most)
    return found or 0


async def find_delivery(conn: Connection, webhook_id: str, change_id: str) -> Delivery | None:
    return await conn.one("find_delivery", Delivery, webhook_id=webhook_id, change_id=change_id)


async def list_delivery_failures(conn: Connection, webhook_id: str, seq: int) -> list[DeliveryFailure]:
    """Oldest first."""
    return await conn.page("list_delivery_failures", DeliveryFailure, webhook_id=webhook_id, seq=seq)


async def find_turn(conn: Connection, webhook_id: str, longest: int) -> Turn:
    """Leases that end later (ms) than any can are left out: they were made before the clock was set back."""
    found = await conn.one("find_turn", Turn, webhook_id=webhook_id, longest=longest)
    assert found is not None
    return found


async def claim_deliveries(conn: Connection, webhook_id: str, now: int, lease_until: int, limit: int) -> list[Claimed]:
    """Take what is due by a lease until then (ms). The webhook is locked."""
    return await conn.page(
        "claim_deliveries", Claimed, webhook_id=webhook_id, now=now, lease_until=lease_until, batch_size=limit
    )


async def list_changes_of(conn: Connection, numbers: list[int]) -> list[ToldChange]:
    """The changes of these numbers, in any order."""
    return await conn.page("list_changes_of", ToldChange, numbers=orjson.dumps(numbers).decode())


async def end_attempts(conn: Connection, webhook_id: str, attempts: list[dict[str, Any]]) -> list[int]:
    """Keep what became of attempts: `seq`, `claimed` (the count of attempts by which it was claimed), and the delivery's
    columns. Returns the numbers of those that were still this worker's."""
    return await conn.values("end_attempts", int, webhook_id=webhook_id, attempts=orjson.dumps(attempts).decode())


async def hand_back_deliveries(conn: Connection, webhook_id: str, claimed: list[dict[str, int]]) -> None:
    """Leave deliveries (`seq`, `claimed`) that were not begun to whoever comes next."""
    await conn.run("hand_back_deliveries", webhook_id=webhook_id, deliveries=orjson.dumps(claimed).decode())


async def insert_delivery_failures(conn: Connection, failures: list[dict[str, Any]]) -> None:
    await conn.run("insert_delivery_failures", failures=orjson.dumps(failures).decode())


async def retry_delivery(conn: Connection, webhook_id: str, seq: int) -> bool:
    """Have a delivery sent again, at once, with all its attempts. False for one that is being sent."""
    return await conn.value("retry_delivery", int, webhook_id=webhook_id, seq=seq) is not None


async def drop_deliveries(conn: Connection, webhook_id: str, now: int, limit: int) -> int:
    """Drop so many that wait, and are not being sent; how many those were."""
    return len(await conn.values("drop_deliveries", int, webhook_id=webhook_id, now=now, batch_size=limit))


async def delete_deliveries_to(conn: Connection, seq: int) -> None:
    await conn.run("delete_deliveries_to", seq=seq)


async def delete_failures_to(conn: Connection, seq: int) -> None:
    await conn.run("delete_failures_to", seq=seq)


async def list_deliveries_to_delete(conn: Connection, webhook_id: str, limit: int) -> list[int]:
    """The numbers of so many deliveries of a webhook, in any state."""
    return await conn.values("list_deliveries_to_delete", int, webhook_id=webhook_id, batch_size=limit)


async def delete_failures_of_deliveries(conn: Connection, webhook_id: str, numbers: Collection[int]) -> None:
    await conn.run("delete_failures_of_deliveries", webhook_id=webhook_id, numbers=orjson.dumps(list(numbers)).decode())


async def delete_deliveries(conn: Connection, webhook_id: str, numbers: Collection[int]) -> None:
    await conn.run("delete_deliveries", webhook_id=webhook_id, numbers=orjson.dumps(list(numbers)).decode())


async def forget_answers_about_user(conn: Connection, user_id: str) -> None:
    await conn.run("forget_answers_about_user", user_id=user_id)


async def forget_failures_about_user(conn: Connection, user_id: str) -> None:
    await conn.run("forget_failures_about_user", user_id=user_id)


async def count_waiting_deliveries(conn: Connection, most: int) -> int:
    """How many wait, counted up to `most`."""
    return await conn.value("count_waiting_deliveries", int, sample_size=most) or 0


async def find_oldest_waiting_delivery(conn: Connection) -> int | None:
    """When the change happened (ms) that has waited longest; None if none waits."""
    return await conn.value("find_oldest_waiting_delivery", int)
