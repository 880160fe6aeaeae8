"""Which rewards follow from an event: tables of cases, and what is true of any."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from referral.clock import DAY, NEVER
from referral.queries.rules import SKIP_REASONS
from referral.rules.money import WHOLE, millionths, remains, share_of
from referral.rules.periods import period_of
from referral.rules.programme import Earned, Happened, History, Met, Rule, Used, rewards_for, rule_of

DEFINITION: dict[str, Any] = {
    "name": "a rule",
    "on": "purchase",
    "to": "referrer",
    "times": 1,
    "give": {"kind": "balance", "label": None, "unit": "USD", "fixed": 500, "percent": None, "max": None},
    "tiers": [],
    "if": None,
    "hold_days": 30,
    "approval": "automatic",
    "limits": None,
    "starts_at": None,
    "ends_at": None,
    "enabled": True,
}
JOINED = 1_000 * DAY
MOST = 2**53 - 1


@pytest.fixture
def engine() -> str:
    """Nothing here knows a database."""
    return "sqlite"


def rule(rule_id: str = "r", **members: Any) -> Rule:
    return rule_of(rule_id, 1, orjson.dumps({**DEFINITION, **members}).decode())


def percentage(percent: str, most: int | None = None) -> dict[str, Any]:
    return {"kind": "balance", "label": None, "unit": None, "fixed": None, "percent": percent, "max": most}


def tier(since: int, **given: Any) -> dict[str, Any]:
    return {"from": since, "fixed": None, "percent": None, **given}


def bought(amount: int | None = 4900, unit: str = "USD", at: int = JOINED, **metadata: Any) -> Happened:
    return Happened("purchase", at, None if amount is None else unit, amount, metadata)


def outcome(the_rule: Rule, event: Happened, history: History | None = None) -> int | str | None:
    """The value of what the rule gives, or the reason why it gives nothing."""
    earned, skipped = rewards_for([the_rule], event, history or History(Met(JOINED, 1)))
    assert len(earned) + len(skipped) == 1
    return earned[0].value if earned else skipped[0].reason


def met(tier_of_it: int = 1, *barred: str, **used: int) -> History:
    return History(Met(JOINED, tier_of_it, frozenset(barred)), {"r": Used(**used)})


LIMITS: dict[str, Any] = {
    "per_referrer": {"count": 10, "period": "month"},
    "budget": {"unit": "USD", "amount": 1000, "period": "ever"},
}
CONDITIONS: dict[str, Any] = {
    "min_amount": {"unit": "USD", "amount": 2000},
    "within_days": 90,
    "metadata": {"plan": "pro", "seats": 5},
}
PRO: dict[str, Any] = {"plan": "pro", "seats": 5}


@pytest.mark.parametrize(
    ("members", "event", "history", "expected"),
    [
        # What is given.
        ({}, bought(), met(), 500),
        ({"give": percentage("20")}, bought(4900), met(), 980),
        ({"give": percentage("12.5")}, bought(999), met(), 124),
        ({"give": percentage("0.0001")}, bought(999_999), met(), "nothing"),
        ({"give": percentage("0.0001")}, bought(1_000_000), met(), 1),
        ({"give": percentage("100")}, bought(MOST), met(), MOST),
        ({"give": percentage("33.3333")}, bought(MOST), met(), MOST * 333_333 // WHOLE),
        ({"give": percentage("20", most=500)}, bought(4900), met(), 500),
        ({"give": percentage("20", most=5000)}, bought(4900), met(), 980),
        ({"give": percentage("20")}, bought(0), met(), "nothing"),
        ({"give": percentage("20")}, bought(None), met(), "nothing"),
        ({}, bought(None), met(), 500),
        ({}, bought(0), met(), 500),
        (
            {"give": {**DEFINITION["give"], "kind": "coupon", "label": "A month", "unit": None, "fixed": None}},
            bought(),
            met(),
            None,
        ),
        # Tiers go by the referrer's converted referrals, this one included.
        ({"tiers": [tier(2, fixed=700), tier(5, fixed=900)]}, bought(), met(1), 500),
        ({"tiers": [tier(2, fixed=700), tier(5, fixed=900)]}, bought(), met(2), 700),
        ({"tiers": [tier(2, fixed=700), tier(5, fixed=900)]}, bought(), met(4), 700),
        ({"tiers": [tier(2, fixed=700), tier(5, fixed=900)]}, bought(), met(5), 900),
        ({"give": percentage("20"), "tiers": [tier(5, percent="25")]}, bought(4900), met(6), 1225),
        ({"give": percentage("20", most=1000), "tiers": [tier(5, percent="25")]}, bought(4900), met(6), 1000),
        # When.
        ({"enabled": False}, bought(), met(), "disabled"),
        ({"starts_at": JOINED + 1}, bought(), met(), "not-yet"),
        ({"starts_at": JOINED}, bought(), met(), 500),
        ({"ends_at": JOINED}, bought(), met(), "ended"),
        ({"ends_at": JOINED + 1}, bought(), met(), 500),
        # For what.
        ({"if": CONDITIONS}, bought(2000, **PRO), met(), 500),
        ({"if": CONDITIONS}, bought(1999, **PRO), met(), "condition"),
        ({"if": CONDITIONS}, bought(None, **PRO), met(), "condition"),
        ({"if": CONDITIONS}, bought(2000, "EUR", **PRO), met(), "unit"),
        ({"if": CONDITIONS}, bought(1, "EUR", **PRO), met(), "unit"),
        ({"if": CONDITIONS}, bought(2000, at=JOINED + 90 * DAY, **PRO), met(), 500),
        ({"if": CONDITIONS}, bought(2000, at=JOINED + 90 * DAY + 1, **PRO), met(), "condition"),
        ({"if": CONDITIONS}, bought(2000, at=JOINED - DAY, **PRO), met(), 500),
        ({"if": CONDITIONS}, bought(2000, plan="pro"), met(), "condition"),
        ({"if": CONDITIONS}, bought(2000, plan="pro", seats="5"), met(), "condition"),
        ({"if": CONDITIONS}, bought(2000, plan="pro", seats=5.0), met(), 500),
        ({"if": {"min_amount": None, "within_days": None, "metadata": {"n": 1}}}, bought(n=True), met(), "condition"),
        ({"if": {"min_amount": None, "within_days": None, "metadata": {"n": True}}}, bought(n=1), met(), "condition"),
        ({"if": {"min_amount": None, "within_days": None, "metadata": {"n": True}}}, bought(n=True), met(), 500),
        # How often, and how much.
        ({}, bought(), met(given=1), "times"),
        ({"times": 3}, bought(), met(given=2), 500),
        ({"times": 3}, bought(), met(given=3), "times"),
        ({"times": None}, bought(), met(given=999), 500),
        ({"limits": LIMITS}, bought(), met(by_referrer=9), 500),
        ({"limits": LIMITS}, bought(), met(by_referrer=10), "per-referrer"),
        ({"limits": LIMITS}, bought(), met(spent=500), 500),
        ({"limits": LIMITS}, bought(), met(spent=501), "budget"),
        ({"limits": LIMITS, "give": percentage("20")}, bought(4900, "EUR"), met(), "unit"),
        # Whom.
        ({}, bought(), History(None), "not-referred"),
        ({}, bought(), met(1, "rejected"), "rejected"),
        ({}, bought(), met(1, "referrer"), "suspended"),
        ({}, bought(), met(1, "referee"), 500),
        ({"to": "referee"}, bought(), met(1, "referee"), "suspended"),
        ({"to": "referee"}, bought(), met(1, "referrer"), 500),
    ],
)
def test_a_rule_gives_or_says_why_not(members: dict[str, Any], event: Happened, history: History, expected: Any) -> None:
    assert outcome(rule(**members), event, history) == expected


# Whatever speaks against a reward, worst first: of several, the first is told.
AGAINST: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("not-referred", {}, {}, {"referral": None}),
    ("disabled", {"enabled": False}, {}, {}),
    ("not-yet", {"starts_at": JOINED + 1}, {}, {}),
    ("ended", {"ends_at": JOINED}, {}, {}),
    ("condition", {"if": {"min_amount": None, "within_days": None, "metadata": {"plan": "pro"}}}, {}, {}),
    ("unit", {"limits": {"per_referrer": None, "budget": {"unit": "EUR", "amount": 1, "period": "ever"}}}, {}, {}),
    ("times", {}, {}, {"given": 1}),
    ("per-referrer", {"limits": LIMITS}, {}, {"by_referrer": 10}),
    ("budget", {"limits": LIMITS}, {}, {"spent": 1001}),
    ("rejected", {}, {}, {"barred": "rejected"}),
    ("suspended", {}, {}, {"barred": "referrer"}),
    ("nothing", {"give": percentage("0.0001")}, {"amount": 1}, {}),
]


def test_of_several_reasons_the_first_of_the_contract_is_told() -> None:
    assert tuple(reason for reason, *_ in AGAINST) == SKIP_REASONS
    for first in range(len(AGAINST)):
        members: dict[str, Any] = {}
        barred: set[str] = set()
        used: dict[str, int] = {}
        amount, referral = 4900, True
        # Those behind come first, so that the members of the first one stand.
        for _, said, happened, history in reversed(AGAINST[first:]):
            members |= said
            amount = happened.get("amount", amount)
            barred |= {history["barred"]} if "barred" in history else set()
            used |= {name: value for name, value in history.items() if name in ("given", "by_referrer", "spent")}
            referral = referral and "referral" not in history
        known = Met(JOINED, 1, frozenset(barred)) if referral else None
        found = outcome(rule(**members), bought(amount), History(known, {"r": Used(**used)}))
        assert found == AGAINST[first][0]


def test_each_rule_is_judged_by_itself_and_in_order() -> None:
    rules = [rule("a"), rule("b", enabled=False), rule("c", give=percentage("10")), rule("d")]
    earned, skipped = rewards_for(rules, bought(), History(Met(JOINED, 1), {"d": Used(given=1)}))
    assert [(one.rule.id, one.unit, one.value) for one in earned] == [("a", "USD", 500), ("c", "USD", 490)]
    assert [tuple(one) for one in skipped] == [("b", "disabled"), ("d", "times")]


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("20", 200_000),
        ("100", WHOLE),
        ("100.0000", WHOLE),
        ("0.0001", 1),
        ("12.5", 125_000),
        ("099.9", 999_000),
        *(
            (text, None)
            for text in ("0", "0.0000", "100.0001", "101", "1e9", "1.23456", "-1", "+1", "", ".5", "5.", "1,5", "٢٠", "NaN")
        ),
    ],
)
def test_a_percentage_is_a_whole_number_of_millionths(text: str, share: int | None) -> None:
    assert millionths(text) == share


AMOUNTS = st.integers(0, MOST)
VALUES = st.integers(1, MOST)


@given(AMOUNTS, st.integers(1, WHOLE))
def test_a_share_is_rounded_down_and_never_more_than_the_whole(amount: int, share: int) -> None:
    value = share_of(amount, share)
    assert 0 <= value <= amount
    assert value * WHOLE <= amount * share < (value + 1) * WHOLE


@given(VALUES, VALUES, st.data(), st.booleans())
def test_refunds_never_give_back_and_the_last_one_takes_exactly_what_is_left(
    value: int, amount: int, data: st.DataObject, by_percentage: bool
) -> None:
    refunded, left = 0, value
    for _ in range(data.draw(st.integers(0, 5))):
        refunded += data.draw(st.integers(0, amount - refunded))
        rest = remains(value, by_percentage=by_percentage, amount=amount, refunded=refunded)
        assert 0 <= rest <= left
        if by_percentage and refunded < amount:
            # Floored, and not a part more or less: what the sum of the refunds leaves counts, not each of them.
            assert rest * amount <= value * (amount - refunded) < (rest + 1) * amount
        elif refunded < amount:
            assert rest == value
        left = rest
    assert remains(value, by_percentage=by_percentage, amount=amount, refunded=amount) == 0


@given(st.lists(st.tuples(st.integers(1, 100), VALUES), max_size=6, unique_by=lambda one: one[0]), st.integers(1, 120))
def test_the_highest_tier_that_is_reached_counts(steps: list[tuple[int, int]], reached: int) -> None:
    rising = sorted(steps)
    found = outcome(rule(tiers=[tier(since, fixed=fixed) for since, fixed in rising]), bought(), met(reached))
    assert found == next((fixed for since, fixed in reversed(rising) if since <= reached), 500)


@given(AMOUNTS, st.integers(0, 5), st.integers(0, 20), st.integers(0, 2_000), st.sampled_from(["20", "0.5", "100"]))
def test_what_is_given_fits_all_limits(amount: int, given_before: int, by_referrer: int, spent: int, percent: str) -> None:
    the_rule = rule(times=3, limits=LIMITS, give=percentage(percent))
    earned, skipped = rewards_for([the_rule], bought(amount), met(given=given_before, by_referrer=by_referrer, spent=spent))
    for one in earned:
        assert isinstance(one, Earned)
        assert one.value is not None
        assert one.value > 0
        assert (given_before < 3, by_referrer < 10, spent + one.value <= 1000) == (True, True, True)
    for _, reason in skipped:
        assert reason in SKIP_REASONS


@pytest.mark.parametrize(
    ("period", "begins", "ends"),
    [
        ("day", "2027-01-31T00:00:00", "2027-02-01T00:00:00"),
        ("week", "2027-01-25T00:00:00", "2027-02-01T00:00:00"),
        ("month", "2027-01-01T00:00:00", "2027-02-01T00:00:00"),
    ],
)
def test_periods_are_those_of_the_calendar_in_utc(period: str, begins: str, ends: str) -> None:
    def ms(text: str) -> int:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)

    for moment in (begins, "2027-01-31T12:00:00", "2027-01-31T23:59:59.999"):
        assert period_of(period, ms(moment)) == (ms(begins), ms(ends))
    assert period_of(period, ms(ends))[0] == ms(ends)


@given(st.sampled_from(["day", "week", "month", "ever"]), st.integers(0, 4_000_000_000_000))
def test_each_moment_lies_in_one_period_and_periods_touch(period: str, moment: int) -> None:
    start, end = period_of(period, moment)
    assert start <= moment < end
    assert period_of(period, start) == (start, end)
    if period == "ever":
        assert (start, end) == (0, NEVER)
    else:
        assert period_of(period, end)[0] == end
