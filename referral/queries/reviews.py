"""Reviews of suspicious referrals: statements of `sql/reviews*.sql`."""

from dataclasses import dataclass
from typing import Any

import orjson

from referral.database import Connection

# What a review says of a referral; `none` where there is no review.
NONE, OPEN, CLEARED, REJECTED = "none", "open", "cleared", "rejected"
STATUSES = (OPEN, CLEARED, REJECTED)


@dataclass(frozen=True, slots=True)
class KeptSignal:
    """A signal as it is kept; the evidence as JSON text, None once it is gone, and `at` in ms. `judged` (0 or 1) says that
    whoever decided the review saw it."""

    kind: str
    reference: str
    weight: int
    evidence: str | None
    at: int
    judged: int = 0


async def list_signals(conn: Connection, user_id: str) -> list[KeptSignal]:
    """The signals of a user's referral, the oldest first."""
    return await conn.page("list_signals", KeptSignal, user_id=user_id)


async def insert_signals(conn: Connection, user_id: str, signals: list[dict[str, Any]], now: int) -> None:
    """Keep signals (`kind`, `reference`, `weight` and `evidence`, JSON text) of a user's referral, but for those that are
    kept. This is deferred."""
    conn.defer("insert_signals", user_id=user_id, signals=orjson.dumps(signals).decode(), now=now)


async def open_review(conn: Connection, user_id: str, score: int, now: int) -> None:
    """This is deferred; `set_review` belongs into the same transaction."""
    conn.defer("open_review", user_id=user_id, score=score, now=now)


async def update_score(conn: Connection, user_id: str, score: int) -> None:
    """This is deferred."""
    conn.defer("update_score", user_id=user_id, score=score)


async def set_review(conn: Connection, user_id: str, review: str) -> None:
    """Let the user's referral have the word of its review. This is deferred."""
    conn.defer("set_review", user_id=user_id, review=review)
