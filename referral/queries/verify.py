"""What is kept beside what the rows say: statements of `sql/verify.sql`. Each page begins behind a key."""

from dataclasses import dataclass

from referral.database import Connection


@dataclass(frozen=True, slots=True)
class SummedAccount:
    """An account as it is kept, and as its transfers say."""

    user_id: str
    unit: str
    programme: int
    pending: int
    available: int
    reserved: int
    spent: int
    earned: int
    reversed: int
    lines: int
    to_programme: int
    to_pending: int
    to_available: int
    to_reserved: int
    to_spent: int
    all_earned: int
    all_reversed: int
    all_lines: int
    transfers: int


@dataclass(frozen=True, slots=True)
class StatementLine:
    """A line of a statement: what it added, and what is kept as available after it."""

    user_id: str
    unit: str
    line: int
    amount: int
    available_after: int


@dataclass(frozen=True, slots=True)
class SummedReward:
    """A reward, the sums of its transfers by what they did, and what its event and its reversals say."""

    id: str
    kind: str
    value: int | None
    by_percentage: int
    reversed: int
    reversed_by_hand: int
    retracted: int
    status: str
    rule_id: str | None
    ordinal: int | None
    times: int | None
    fulfilled_at: int | None
    side: str | None
    user_id: str
    referrer_id: str | None
    referral_user_id: str | None
    needs_approval: int
    release_at: int
    due_at: int | None
    suspended_at: int | None
    review: str | None
    amount: int | None
    refunded: int | None
    strayed: int
    reversals: int
    by_hand: int
    made: int
    approved: int
    unearned: int
    clawed_back: int


@dataclass(frozen=True, slots=True)
class DoubledOrdinal:
    rule_id: str
    referral_user_id: str
    side: str
    ordinal: int


@dataclass(frozen=True, slots=True)
class WrongRefund:
    id: str
    refunded: int
    all_refunds: int


@dataclass(frozen=True, slots=True)
class WrongConversions:
    user_id: str
    conversions: int
    converted_at: int | None
    all_conversions: int


@dataclass(frozen=True, slots=True)
class WrongReview:
    """What a referral and its review say, and what there is: `all_signals` is the score, `left_rewards` counts those
    that are neither void nor taken back."""

    user_id: str
    review: str
    status: str
    score: int
    all_signals: int
    conversions: int
    left_rewards: int


@dataclass(frozen=True, slots=True)
class CountedReferrer:
    id: str
    referral_count: int
    converted_count: int
    all_referrals: int
    all_converted: int


@dataclass(frozen=True, slots=True)
class UsagePeriod:
    rule_id: str
    starts_at: int
    ends_at: int


@dataclass(frozen=True, slots=True)
class CountedBudget:
    used: int
    unit: str


@dataclass(frozen=True, slots=True)
class WrongLimit:
    subject: str
    used: int
    all_rewards: int


@dataclass(frozen=True, slots=True)
class MovedRedemption:
    """A redemption, and the amounts of the transfers that it caused, None for each that it did not."""

    id: str
    amount: int
    status: str
    strayed: int
    redeemed: int | None
    reserved: int | None
    captured: int | None
    released: int | None
    cancelled: int | None


@dataclass(frozen=True, slots=True)
class WrongRule:
    id: str
    version: int
    latest: int


@dataclass(frozen=True, slots=True)
class SummedDays:
    """The first and the last day (ms) that are summed; None without any."""

    first: int | None
    last: int | None


@dataclass(frozen=True, slots=True)
class WrongClickDay:
    code: str
    clicks: int
    visitors: int
    robots: int
    all_clicks: int
    all_visitors: int
    all_robots: int


async def list_summed_accounts(conn: Connection, after: tuple[str, str], limit: int) -> list[SummedAccount]:
    return await conn.page("list_summed_accounts", SummedAccount, after_user=after[0], after_unit=after[1], page_size=limit)


async def list_lines(conn: Connection, after: tuple[str, str, int], limit: int) -> list[StatementLine]:
    return await conn.page(
        "list_lines", StatementLine, after_user=after[0], after_unit=after[1], after_line=after[2], page_size=limit
    )


async def list_summed_rewards(conn: Connection, after: str, limit: int) -> list[SummedReward]:
    return await conn.page("list_summed_rewards", SummedReward, after_id=after, page_size=limit)


async def list_doubled_ordinals(conn: Connection) -> list[DoubledOrdinal]:
    return await conn.page("list_doubled_ordinals", DoubledOrdinal)


async def list_wrong_refunds(conn: Connection, after: str, limit: int) -> list[WrongRefund]:
    return await conn.page("list_wrong_refunds", WrongRefund, after_id=after, page_size=limit)


async def list_wrong_conversions(conn: Connection, after: str, limit: int) -> list[WrongConversions]:
    return await conn.page("list_wrong_conversions", WrongConversions, after_user=after, page_size=limit)


async def list_wrong_reviews(conn: Connection, after: str, limit: int) -> list[WrongReview]:
    return await conn.page("list_wrong_reviews", WrongReview, after_user=after, page_size=limit)


async def list_counted_referrers(conn: Connection, after: str, limit: int) -> list[CountedReferrer]:
    return await conn.page("list_counted_referrers", CountedReferrer, after_user=after, page_size=limit)


async def list_usage_periods(conn: Connection) -> list[UsagePeriod]:
    return await conn.page("list_usage_periods", UsagePeriod)


async def find_counted_budget(conn: Connection, rule_id: str, starts_at: int) -> CountedBudget | None:
    return await conn.one("find_counted_budget", CountedBudget, rule_id=rule_id, starts_at=starts_at)


async def list_wrong_referrers_limits(conn: Connection, rule_id: str, starts_at: int, ends_at: int) -> list[WrongLimit]:
    return await conn.page("list_wrong_referrers_limits", WrongLimit, rule_id=rule_id, starts_at=starts_at, ends_at=ends_at)


async def list_moved_redemptions(conn: Connection, after: str, limit: int) -> list[MovedRedemption]:
    return await conn.page("list_moved_redemptions", MovedRedemption, after_id=after, page_size=limit)


async def list_wrong_rules(conn: Connection) -> list[WrongRule]:
    return await conn.page("list_wrong_rules", WrongRule)


async def find_summed_days(conn: Connection) -> SummedDays | None:
    return await conn.one("find_summed_days", SummedDays)


async def list_wrong_click_days(conn: Connection, day: int, limit: int) -> list[WrongClickDay]:
    return await conn.page("list_wrong_click_days", WrongClickDay, day=day, page_size=limit)
