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


@dataclass(frozen=True, slots=True)
class Review:
    """A referral's review, with who came, by whom, and who decided it: a user, or a key of this name. Times in ms."""

    user_id: str
    username: str | None
    name: str | None
    external_id: str | None
    referrer_id: str
    referrer_username: str | None
    referrer_name: str | None
    status: str
    score: int
    opened_at: int
    reminded_at: int | None
    decided_at: int | None
    decided_by_user: str | None
    decider_username: str | None
    decider_name: str | None
    decided_by_key: str | None
    reason: str | None
    suspends: int

    @property
    def decider(self) -> str:
        """What whoever decided it is called."""
        if self.decided_by_key is not None:
            return f"the key {self.decided_by_key}"
        return self.decider_username or self.decider_name or f"the user {self.decided_by_user}"


@dataclass(frozen=True, slots=True)
class KindOfSignal:
    """That a user's referral has signals of a kind; of a report, what somebody wrote, in JSON text."""

    user_id: str
    kind: str
    evidence: str | None = None


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


async def find_review(conn: Connection, user_id: str) -> Review | None:
    """None for a referral that was never reviewed."""
    return await conn.one("find_review", Review, user_id=user_id)


async def list_reviews(conn: Connection, before: tuple[int, str], limit: int) -> list[Review]:
    """Reviews that were opened before the cursor (time in ms, user id), newest first."""
    return await conn.page("list_reviews", Review, before_time=before[0], before_id=before[1], page_size=limit)


async def list_reviews_in_state(conn: Connection, status: str, before: tuple[int, str], limit: int) -> list[Review]:
    return await conn.page(
        "list_reviews_in_state", Review, status=status, before_time=before[0], before_id=before[1], page_size=limit
    )


async def count_reviews(conn: Connection, most: int) -> int:
    """How many reviews there are, counted up to `most`."""
    return await conn.value("count_reviews", int, sample_size=most) or 0


async def count_reviews_in_state(conn: Connection, status: str, most: int) -> int:
    return await conn.value("count_reviews_in_state", int, status=status, sample_size=most) or 0


async def list_kinds_of_signals(conn: Connection, user_ids: list[str]) -> list[KindOfSignal]:
    """Which kinds of signals the referrals of these users have."""
    return await conn.page("list_kinds_of_signals", KindOfSignal, user_ids=orjson.dumps(user_ids).decode())


async def decide_review(
    conn: Connection,
    user_id: str,
    status: str,
    now: int,
    decided_by_user: str | None,
    decided_by_key: str | None,
    reason: str,
    *,
    suspends: bool,
) -> None:
    """Decide an open review. The referral gets the word by `set_review` or `reject_referral`."""
    await conn.run(
        "decide_review",
        user_id=user_id,
        status=status,
        now=now,
        decided_by_user=decided_by_user,
        decided_by_key=decided_by_key,
        reason=reason,
        suspends=int(suspends),
    )


async def judge_signals(conn: Connection, user_id: str) -> None:
    """What is known of the referral opens no review again."""
    await conn.run("judge_signals", user_id=user_id)


async def reject_referral(conn: Connection, user_id: str) -> None:
    """The user's referral is rejected, and converted by nothing any more."""
    await conn.run("reject_referral", user_id=user_id)


async def find_first_unreminded(conn: Connection) -> int | None:
    """When the first review was opened (ms) that waits and of which nobody was reminded; None without any."""
    return await conn.value("find_first_unreminded", int)


async def mark_reminded(conn: Connection, before: int, now: int, batch_size: int) -> list[str]:
    """Mark so many reviews that have waited since before then (ms) as reminded of, and return whose they are."""
    return await conn.values("mark_reminded", str, before=before, now=now, batch_size=batch_size)


async def forget_old_evidence(conn: Connection, kind: str, before: int, batch_size: int) -> int:
    """Take the evidence from so many signals of a kind from before then (ms), and return how many there were."""
    return len(await conn.values("forget_old_evidence", str, kind=kind, before=before, batch_size=batch_size))


async def forget_signals_of_user(conn: Connection, user_id: str) -> None:
    await conn.run("forget_signals_of_user", user_id=user_id)


async def forget_reason_of_review(conn: Connection, user_id: str) -> None:
    await conn.run("forget_reason_of_review", user_id=user_id)


@dataclass(frozen=True, slots=True)
class MoneyOfReferral:
    """What rewards of a user's referral come to that are in a state; without a unit, the product delivers them."""

    user_id: str
    unit: str | None
    status: str
    number: int
    amount: int


@dataclass(frozen=True, slots=True)
class Undone:
    """What a rejection did to the money of a reward; `available_after` is what its user had then."""

    reward_id: str
    user_id: str
    unit: str
    debit: str
    amount: int
    available_after: int | None


async def list_longest_waiting(conn: Connection, status: str, after: tuple[int, str], limit: int) -> list[Review]:
    """Reviews in a state that were opened after the cursor (time in ms, user id), the oldest first."""
    return await conn.page(
        "list_longest_waiting", Review, status=status, after_time=after[0], after_id=after[1], page_size=limit
    )


async def list_money_of_referrals(conn: Connection, user_ids: list[str]) -> list[MoneyOfReferral]:
    """What the rewards of these users' referrals come to, by unit and state."""
    return await conn.page("list_money_of_referrals", MoneyOfReferral, user_ids=orjson.dumps(user_ids).decode())


async def list_money_undone(conn: Connection, user_ids: list[str], reason: str) -> list[MoneyOfReferral]:
    """What rejections of these users' referrals took of rewards, which have this reason, by unit and state; without a unit,
    how many the product delivers."""
    return await conn.page("list_money_undone", MoneyOfReferral, user_ids=orjson.dumps(user_ids).decode(), reason=reason)


async def list_undone(conn: Connection, user_id: str, at: int) -> list[Undone]:
    """What the rejection of that time (ms) did to the rewards of a user's referral."""
    return await conn.page("list_undone", Undone, user_id=user_id, at=at)
