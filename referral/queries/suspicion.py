"""What is known of suspicious referrals: statements of `sql/suspicion*.sql`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from referral.clock import NEVER
from referral.database import Connection


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact of a referral.

    `review`: the word (`kind`) of its review. `noted`: it has a signal of a `kind`. `email`: the referrer's (`subject`).
    `block`: it meets one of a `kind`. `joined`: how many (`number`) came by the referrer. `address`: from where (`subject`)
    the referrer was seen. `referrer`, `sibling`, `referee`: the referrer, another referral of the referrer, and a referral
    of the user themselves (`subject`) have the same as the user, which is a signal of a `kind`; the `number` of these says
    whether they have it.
    """

    fact: str
    kind: str | None
    subject: str | None
    number: int | None


@dataclass(frozen=True, slots=True)
class ReviewOf:
    """What a review says of the referral of a user."""

    user_id: str
    review: str


@dataclass(frozen=True, slots=True)
class Refunds:
    """How many purchases of a referrer's referrals were refunded wholly, of how many; `tipped` is not 0 if one of those has
    the signal."""

    refunded: int
    purchases: int
    tipped: int


# Purchases and refunds that are counted: more of them say nothing else.
MOST_REFUNDS = 1_000


async def list_facts(
    conn: Connection,
    user_id: str,
    referrer_id: str | None,
    *,
    given: Iterable[dict[str, Any]] = (),
    with_stored: bool = False,
    with_address: bool = False,
    blocks: Iterable[dict[str, str]] = (),
    joined_since: int | None = None,
    most_joined: int = 0,
    seen_since: int | None = None,
) -> list[Fact]:
    """The facts of a user who came by the referrer, or by nobody.

    Each of `given` is an HMAC that the user has: `hash`, the `kind` of signal that it is to have the same, and the times
    (ms) `since` and `until` when the others had it. `with_stored` adds those that are kept of the user. `blocks` are those
    that the user would meet, each `kind` and `value`; how many joined since a time is counted up to `most_joined`. What is
    None is not asked for.
    """
    return await conn.page(
        "list_facts",
        Fact,
        user_id=user_id,
        referrer_id=referrer_id,
        given=_json(given),
        with_stored=int(with_stored),
        with_address=int(with_address),
        blocks=_json(blocks),
        joined_since=NEVER if joined_since is None else joined_since,
        joined_size=most_joined,
        seen_since=NEVER if seen_since is None else seen_since,
    )


async def list_reviews_of(conn: Connection, user_ids: list[str]) -> list[ReviewOf]:
    """What reviews say of the referrals of users, in the order of their ids; nothing of those who are erased."""
    return await conn.all("list_reviews_of", ReviewOf, user_ids=_json(user_ids))


async def find_refunds(conn: Connection, referrer_id: str) -> Refunds:
    found = await conn.one(
        "find_refunds",
        Refunds,
        referrer_id=referrer_id,
        refunds_size=MOST_REFUNDS,
        purchases_size=2 * MOST_REFUNDS + 1,
    )
    assert found is not None
    return found


def _json(values: Iterable[Any]) -> str:
    return orjson.dumps(list(values)).decode()
