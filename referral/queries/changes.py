"""Changes that the product is told of: statements of `sql/changes*.sql`."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import orjson

from referral.database import Connection

ChangeType = Literal[
    "user.created",
    "user.suspended",
    "user.unsuspended",
    "user.erased",
    "code.created",
    "code.updated",
    "code.ended",
    "referral.created",
    "referral.converted",
    "referral.retracted",
    "referral.rejected",
    "review.opened",
    "review.cleared",
    "review.overdue",
    "reward.created",
    "reward.approved",
    "reward.fulfilled",
    "reward.voided",
    "reward.reversed",
    "balance.changed",
    "redemption.created",
    "redemption.captured",
    "redemption.cancelled",
    "webhook.disabled",
    "ping",
]


@dataclass(frozen=True, slots=True)
class Feed:
    """The number of the change that was told last, and of the last one that is no longer kept; 0 for none."""

    last_seq: int
    gone_seq: int


class Announced(NamedTuple):
    """A change that has no place in the feed yet. `number` is that of its writing."""

    number: int
    id: str
    type: str
    subject_id: str


@dataclass(frozen=True, slots=True)
class Subject:
    """A thing that changes, and how often it has."""

    subject_id: str
    version: int


class ToldChange(NamedTuple):
    """A change in its place in the feed; `at` is in ms, and `data` JSON text."""

    id: str
    seq: int
    type: str
    at: int
    subject_id: str
    version: int
    data: str


class ToldType(NamedTuple):
    """A change's place in the feed, and its type."""

    seq: int
    type: str


async def insert_announcements(conn: Connection, changes: list[dict[str, Any]], at: int) -> None:
    """Announce changes (`id`, `type`, `subject_id`, `user_id` and `data`, JSON text) in this order, made at a time (ms).
    This is deferred."""
    conn.defer("insert_announcements", changes=orjson.dumps(changes).decode(), at=at)


async def find_feed(conn: Connection) -> Feed:
    found = await conn.one("find_feed", Feed)
    assert found is not None
    return found


async def find_first_announcement(conn: Connection) -> int | None:
    """The least number of what waits for its place; None if nothing does."""
    return await conn.value("find_first_announcement", int)


async def lock_feed(conn: Connection) -> int:
    """Keep others from giving numbers to changes until the transaction ends; returns the last number that was given."""
    return await conn.value("lock_feed", int) or 0


async def list_announcements(conn: Connection, limit: int) -> list[Announced]:
    """What waits for its place, in the order of its writing."""
    return await conn.page("list_announcements", Announced, batch_size=limit)


async def count_changes_of_subjects(conn: Connection, counts: dict[str, int]) -> list[Subject]:
    """Count so many changes more of each subject; returns the versions that they have with them."""
    given = [{"subject_id": subject_id, "changes": count} for subject_id, count in counts.items()]
    return await conn.all("count_changes_of_subjects", Subject, counts=orjson.dumps(given).decode())


async def insert_changes(conn: Connection, numbers: list[dict[str, int]]) -> None:
    """Give announced changes (`number`) their place (`seq`) and `version`."""
    await conn.run("insert_changes", numbers=orjson.dumps(numbers).decode())


async def delete_announcements(conn: Connection, numbers: list[dict[str, int]]) -> None:
    """Take announcements away that `insert_changes` got. This is deferred."""
    conn.defer("delete_announcements", numbers=orjson.dumps(numbers).decode())


async def advance_feed(conn: Connection, last_seq: int) -> None:
    """This is deferred."""
    conn.defer("advance_feed", last_seq=last_seq)


async def list_changes(conn: Connection, after: int, up_to: int, limit: int) -> list[ToldChange]:
    """The changes behind a number, up to another one, oldest first."""
    return await conn.page("list_changes", ToldChange, after=after, up_to=up_to, page_size=limit)


async def list_types_since(conn: Connection, after: int, up_to: int, since: int) -> list[ToldType]:
    """What the changes behind a number, up to another one, are, as far as they happened since a time (ms)."""
    return await conn.page("list_types_since", ToldType, after=after, up_to=up_to, since=since)


async def find_end_of_old(conn: Connection, before: int, limit: int) -> int | None:
    """The number of the last of so many oldest changes, as far as they are older than a time (ms); None if none is."""
    return await conn.value("find_end_of_old", int, before=before, batch_size=limit)


async def delete_changes_to(conn: Connection, seq: int) -> None:
    await conn.run("delete_changes_to", seq=seq)


async def forget_changes_to(conn: Connection, seq: int) -> None:
    """Changes up to this number are no longer kept."""
    await conn.run("forget_changes_to", seq=seq)


async def forget_announcements_of_user(conn: Connection, user_id: str, names: list[str]) -> None:
    """Members of these names become null in what is announced of the user."""
    await conn.run("forget_announcements_of_user", user_id=user_id, names=orjson.dumps(names).decode())


async def forget_changes_of_user(conn: Connection, user_id: str, names: list[str], after: int, limit: int) -> list[int]:
    """As `forget_announcements_of_user`, of so many changes behind a number; returns their numbers."""
    return await conn.values(
        "forget_changes_of_user",
        int,
        user_id=user_id,
        names=orjson.dumps(names).decode(),
        after=after,
        batch_size=limit,
    )
