"""What happened around a user: statements of `sql/timeline.sql`. Times are in ms, amounts in the unit's smallest part."""

from dataclasses import dataclass
from typing import Any

from referral.database import Connection
from referral.queries.audit import Event

# The place behind which a page of a list begins: time in ms, id.
Place = tuple[int, str]


@dataclass(frozen=True, slots=True)
class NamedClick:
    """A click that an event named; `owner_id` is whose code it was."""

    id: str
    at: int
    code: str
    robot: int
    owner_id: str | None


@dataclass(frozen=True, slots=True)
class Approval:
    """That a reward was approved."""

    id: str
    at: int
    kind: str
    label: str | None
    unit: str | None
    value: int | None
    created_at: int


@dataclass(frozen=True, slots=True)
class Fulfilment:
    """That the product delivered a reward."""

    id: str
    at: int
    kind: str
    label: str | None
    unit: str | None
    value: int | None
    reference: str | None


@dataclass(frozen=True, slots=True)
class Taking:
    """That so much was taken of a reward: `debit` says of which account, `pending` or `available`. What the rejection of a
    referral took has the `review`, its status, and who decided it."""

    id: str
    at: int
    kind: str
    unit: str
    amount: int
    debit: str
    available_after: int | None
    reward_id: str
    reason: str | None
    referral_user_id: str | None
    review: str | None = None
    decided_by_user: str | None = None
    decided_by_key: str | None = None
    review_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Spending:
    """A redemption, as it is now."""

    id: str
    at: int
    unit: str
    amount: int
    status: str
    reference: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Joining:
    """By whom a user came; the referrer has no names once erased."""

    at: int
    code: str
    source: str
    review: str
    converted_at: int | None
    referrer_id: str
    external_id: str | None
    username: str | None
    name: str | None
    erased_at: int | None


@dataclass(frozen=True, slots=True)
class Decision:
    """How the review of somebody was decided, whose id this is, by a user or by a key of this name."""

    id: str
    at: int
    status: str
    decided_by_user: str | None
    decided_by_key: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class ReviewCourse:
    """A referral's review: who decided it is a user, or a key of this name."""

    status: str
    score: int
    opened_at: int
    decided_at: int | None
    decided_by_user: str | None
    decided_by_key: str | None
    reason: str | None
    suspends: int


async def list_clicks_of_user(conn: Connection, user_id: str, before: Place, limit: int) -> list[NamedClick]:
    return await conn.page("list_clicks_of_user", NamedClick, **_page(user_id, before, limit))


async def list_approvals_of_user(conn: Connection, user_id: str, before: Place, limit: int) -> list[Approval]:
    return await conn.page("list_approvals_of_user", Approval, **_page(user_id, before, limit))


async def list_deliveries_of_user(conn: Connection, user_id: str, before: Place, limit: int) -> list[Fulfilment]:
    return await conn.page("list_deliveries_of_user", Fulfilment, **_page(user_id, before, limit))


async def list_takings_of_user(conn: Connection, user_id: str, before: Place, limit: int) -> list[Taking]:
    return await conn.page("list_takings_of_user", Taking, **_page(user_id, before, limit))


async def list_spendings_of_user(conn: Connection, user_id: str, before: Place, limit: int) -> list[Spending]:
    return await conn.page("list_spendings_of_user", Spending, **_page(user_id, before, limit))


async def list_acts_about_user(conn: Connection, user_id: str, before: Place, limit: int) -> list[Event]:
    return await conn.page("list_acts_about_user", Event, **_page(user_id, before, limit))


async def list_decisions_on_referrals(conn: Connection, referrer_id: str, most_referrals: int, limit: int) -> list[Decision]:
    """How the reviews were decided of those whom a user brought, among so many who came last; the latest decision first."""
    return await conn.page(
        "list_decisions_on_referrals", Decision, referrer_id=referrer_id, referrals_size=most_referrals, page_size=limit
    )


async def find_joining(conn: Connection, user_id: str) -> Joining | None:
    """None for a user who came by nobody."""
    return await conn.one("find_joining", Joining, user_id=user_id)


async def find_review_course(conn: Connection, user_id: str) -> ReviewCourse | None:
    """None for a referral that was never reviewed."""
    return await conn.one("find_review_course", ReviewCourse, user_id=user_id)


def _page(user_id: str, before: Place, limit: int) -> dict[str, Any]:
    return {"user_id": user_id, "before_time": before[0], "before_id": before[1], "page_size": limit}
