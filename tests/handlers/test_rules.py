"""Rules: made, changed, versioned; what is refused; and how their limits count."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from referral.clock import now, rfc_3339
from tests.conftest import Client
from tests.support.people import UNKNOWN, Product
from tests.support.programme import DOLLARS, SHARE, Programme, usd
from tests.support.rows import count, sql

pytestmark = pytest.mark.usefixtures("verified")

ONCE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"])
MOST = 2**53 - 1

WHOLE: dict[str, Any] = {
    "name": "Give 20 %",
    "on": "purchase",
    "to": "referrer",
    "times": 3,
    "give": {"kind": "balance", "percent": "20", "max": 5000},
    "tiers": [{"from": 5, "percent": "25"}],
    "if": {"min_amount": {"unit": "USD", "amount": 2000}, "within_days": 90, "metadata": {"plan": "pro"}},
    "hold_days": 0.5,
    "approval": "manual",
    "limits": {
        "per_referrer": {"count": 10, "period": "month"},
        "budget": {"unit": "USD", "amount": 1_000_000, "period": "ever"},
    },
    "starts_at": "2027-01-01T01:00:00+01:00",
    "ends_at": "2028-01-01T00:00:00Z",
    "enabled": False,
}


async def test_a_rule_is_told_as_it_was_made_with_what_was_left_out(programme: Programme) -> None:
    admin = programme.admin
    answer = await admin.post("/rules", WHOLE)
    assert answer.status == 201
    made = answer.body
    assert answer.headers["Location"].endswith(f"/api/v1/rules/{made['id']}")
    give = {"kind": "balance", "label": None, "unit": None, "fixed": None, "percent": "20", "max": 5000}
    assert made == {
        **WHOLE,
        "give": give,
        "tiers": [{"from": 5, "fixed": None, "percent": "25"}],
        "starts_at": "2027-01-01T00:00:00Z",
        "id": made["id"],
        "version": 1,
        "created_at": made["created_at"],
        "changed_at": made["created_at"],
        "spent": {"unit": "USD", "amount": 0, "count": 0},
        "warnings": [],
    }
    assert (await admin.get(f"/rules/{made['id']}")).body == made
    small = (await admin.post("/rules", {"name": "Small", "on": "signup", "to": "referee", "give": DOLLARS})).body
    defaults = {
        "times": 1,
        "tiers": [],
        "if": None,
        "hold_days": 30,
        "approval": "automatic",
        "limits": None,
        "starts_at": None,
        "ends_at": None,
        "enabled": True,
    }
    assert {name: small[name] for name in defaults} == defaults
    assert small["spent"] == {"unit": "USD", "amount": 0, "count": 0}
    listed = (await admin.get("/rules")).body
    assert [one["id"] for one in listed["items"]] == [small["id"], made["id"]]
    assert listed["total"] == 2
    for path in (f"/rules/{UNKNOWN}", "/rules/nonsense", f"/rules/{UNKNOWN}/versions"):
        assert (await admin.get(path)).problem == "not-found"
    assert (await admin.patch(f"/rules/{UNKNOWN}", {"enabled": True})).problem == "not-found"


@ONCE_SQLITE
async def test_a_rule_on_sign_ups_without_a_hold_is_made_with_a_warning(programme: Programme) -> None:
    assert (await programme.rule(on="signup"))["warnings"] != []
    assert (await programme.rule(on="signup", hold_days=1))["warnings"] == []
    assert (await programme.rule(on="signup", approval="manual"))["warnings"] == []


async def test_each_change_is_a_version_and_rewards_keep_theirs(programme: Programme) -> None:
    rule = await programme.rule(give=SHARE, times=None, hold_days=30)
    await programme.come()
    first = (await programme.buy(1000)).body["rewards"][0]
    assert (await programme.change(rule, name="a rule for the referrer"))["version"] == 1, "nothing is changed"
    changed = await programme.change(rule, name="Less", give={"kind": "balance", "percent": "10"})
    assert (changed["version"], changed["give"]["percent"], changed["times"]) == (2, "10", None)
    second = (await programme.buy(1000)).body["rewards"][0]
    assert [(one["rule"]["version"], one["rule"]["name"], one["value"]["amount"]) for one in (first, second)] == [
        (1, "a rule for the referrer", 200),
        (2, "Less", 100),
    ]
    # The reward that waits is what it was.
    assert await programme.reward(first["id"]) == first
    versions = (await programme.admin.get(f"/rules/{rule['id']}/versions")).body
    assert [(one["version"], one["name"]) for one in versions["items"]] == [(2, "Less"), (1, "a rule for the referrer")]
    assert versions["total"] == 2
    page = (await programme.admin.get(f"/rules/{rule['id']}/versions", params={"limit": "1"})).body
    behind = await programme.admin.get(f"/rules/{rule['id']}/versions", params={"limit": "1", "cursor": page["next_cursor"]})
    assert (behind.body["items"][0]["version"], behind.body["next_cursor"]) == (1, None)
    assert (await programme.change(rule, times=1, tiers=None, limits=None))["version"] == 3


def _with(**members: Any) -> dict[str, Any]:
    return {**WHOLE, **members}


def _give(**members: Any) -> dict[str, Any]:
    return _with(give={"kind": "balance", **members}, tiers=[], limits=None)


REFUSED: list[tuple[dict[str, Any], str]] = [
    *((_give(unit="USD", fixed=amount), "/give/fixed") for amount in (0, -1, 2**53, 2**63, 1.5, "5", True)),
    *(
        (_give(percent=percent), "/give/percent")
        for percent in ("0", "100.0001", "1e9", "1.23456", "-1", "", "20%", 20, 1e9, "٢٠", "0.0000")
    ),
    (_give(percent="20", max=0), "/give/max"),
    (_give(percent="20", max=2**53), "/give/max"),
    (_give(unit="USD", fixed=500, max=100), "/give/max"),
    (_give(percent="20", unit="USD"), "/give/unit"),
    (_give(fixed=5), "/give/unit"),
    (_give(unit="USD", fixed=5, percent="20"), "/give"),
    (_give(), "/give"),
    (_with(give={"kind": "coupon", "percent": "20"}), "/give/label"),
    (_with(give={"kind": "custom"}, tiers=[], limits=None), "/give/label"),
    (_with(give={"kind": "gift", "percent": "20"}), "/give/kind"),
    (_with(give={"kind": "custom", "label": "A month"}, limits=None), "/tiers/0"),
    (_with(give={"kind": "custom", "label": "A month"}, tiers=[]), "/limits/budget"),
    (_with(on="refund"), "/on"),
    (_with(on="Purchase"), "/on"),
    (_with(to="both"), "/to"),
    (_with(times=0), "/times"),
    (_with(times=1001), "/times"),
    (_with(times="1"), "/times"),
    (_with(tiers=[{"from": 5, "percent": "25"}, {"from": 3, "percent": "30"}]), "/tiers/1/from"),
    (_with(tiers=[{"from": 5, "percent": "25"}, {"from": 5, "percent": "30"}]), "/tiers/1/from"),
    (_with(tiers=[{"from": 0, "percent": "25"}]), "/tiers/0/from"),
    (_with(tiers=[{"from": 5, "fixed": 25}]), "/tiers/0"),
    (_with(tiers=[{"from": 5}]), "/tiers/0"),
    (_with(tiers=[{"from": n, "percent": "25"} for n in range(1, 22)]), "/tiers"),
    (_with(hold_days=-1), "/hold_days"),
    (_with(hold_days=365.1), "/hold_days"),
    (_with(hold_days="30"), "/hold_days"),
    (_with(hold_days=True), "/hold_days"),
    (_with(approval="never"), "/approval"),
    (_with(enabled=1), "/enabled"),
    (_with(limits={"budget": {"unit": "USD", "amount": 4999, "period": "ever"}}), "/limits/budget/amount"),
    (_with(limits={"budget": {"unit": "USD", "amount": 0, "period": "ever"}}), "/limits/budget/amount"),
    (_with(limits={"budget": {"unit": "USD", "amount": 9000, "period": "year"}}), "/limits/budget/period"),
    (_with(limits={"per_referrer": {"count": 0, "period": "ever"}}), "/limits/per_referrer/count"),
    (_with(limits={"per_referrer": {"count": 1}}), "/limits/per_referrer/period"),
    (_with(ends_at="2027-01-01T00:00:00Z"), "/ends_at"),
    (_with(ends_at="2026-01-01T00:00:00Z"), "/ends_at"),
    (_with(starts_at="soon"), "/starts_at"),
    ({**_with(), "if": {"within_days": -1}}, "/if/within_days"),
    ({**_with(), "if": {"metadata": {"a": []}}}, "/if/metadata/a"),
    ({**_with(), "if": {"min_amount": {"unit": "USD", "amount": -1}}}, "/if/min_amount/amount"),
    ({**_with(), "if": {"country": "DE"}}, "/if/country"),
    (_with(name=""), "/name"),
    (_with(name="a\u202eb"), "/name"),
    (_with(pays=1), "/pays"),
    ({name: value for name, value in WHOLE.items() if name != "give"}, "/give"),
]


@ONCE_SQLITE
async def test_a_rule_that_cannot_be_is_refused_where_it_is_wrong(programme: Programme, database_url: str) -> None:
    for body, pointer in REFUSED:
        answer = await programme.admin.post("/rules", body)
        assert pointer in answer.pointers, (body, answer.body)
        preview = await programme.admin.post("/rules/preview", {"rule": body, "since": "2026-01-01T00:00:00Z"})
        assert f"/rule{pointer}" in preview.pointers
    assert await count(database_url, "rules") == 0


@ONCE_SQLITE
async def test_units_have_to_be_those_of_the_settings(programme: Programme) -> None:
    other = {"unit": "CHF", "amount": 10}
    for body in (
        _give(unit="CHF", fixed=5),
        _give(percent="20") | {"limits": {"budget": {**other, "period": "ever"}}},
        _give(percent="20") | {"if": {"min_amount": other}},
    ):
        assert (await programme.admin.post("/rules", body)).problem == "unit-unknown"
    points = _give(unit="POINTS", fixed=5) | {"limits": {"budget": {"unit": "USD", "amount": 9, "period": "ever"}}}
    assert (await programme.admin.post("/rules", points)).pointers == ["/limits/budget/unit"]


@ONCE_SQLITE
async def test_a_change_is_judged_as_the_whole_rule(programme: Programme) -> None:
    rule = await programme.rule(limits={"budget": {"unit": "USD", "amount": 500, "period": "ever"}})
    admin, path = programme.admin, f"/rules/{rule['id']}"
    assert (await admin.patch(path, {"give": {"kind": "balance", "unit": "USD", "fixed": 501}})).pointers == [
        "/limits/budget/amount"
    ]
    assert (await admin.patch(path, {"give": {"kind": "balance", "unit": "EUR", "fixed": 1}})).pointers == [
        "/limits/budget/unit"
    ]
    assert (await admin.patch(path, {"times": 0})).pointers == ["/times"]
    assert (await admin.patch(path, {})).body == rule
    assert (await admin.get(path)).body == rule


@ONCE_SQLITE
async def test_only_admins_make_rules_and_keys_that_read_see_them(client: Client, programme: Programme) -> None:
    rule = await programme.rule()
    for scope in ("read", "write"):
        caller = await Product.with_key(client, scope)
        assert (await caller.get("/rules")).body["items"] == [rule]
        assert (await caller.get(f"/rules/{rule['id']}")).body == rule
        assert (await caller.get(f"/rules/{rule['id']}/versions")).status == 200
        for answer in (
            await caller.post("/rules", WHOLE),
            await caller.patch(f"/rules/{rule['id']}", {"enabled": False}),
            await caller.post("/rules/preview", {"rule": WHOLE, "since": "2026-01-01T00:00:00Z"}),
        ):
            assert answer.problem == "forbidden"
            assert "admin" in answer.body["detail"]


# Limits


async def skipped(programme: Programme, referee: str, amount: int = 4900) -> list[str]:
    return [one["reason"] for one in (await programme.buy(amount, referee)).body["skipped"]]


async def test_a_referee_is_rewarded_for_as_often_as_the_rule_says_and_a_void_one_is_given_back(
    programme: Programme, database_url: str
) -> None:
    await programme.rule(times=2, hold_days=30)
    await programme.come()
    first, second = [(await programme.buy()).body["rewards"][0] for _ in range(2)]
    assert await skipped(programme, "bob") == ["times"]
    # The ordinal of the first is free again, and taken by the third.
    await programme.step(first, "reject", reason="No")
    third = (await programme.buy()).body["rewards"][0]
    assert await skipped(programme, "bob") == ["times"]
    ordinals = dict(await sql(database_url, "SELECT id, ordinal FROM rewards"))
    assert [ordinals[reward["id"]] for reward in (first, second, third)] == [None, 2, 1]
    # Somebody else has times of their own.
    await programme.come("carol")
    assert len((await programme.buy(referee="carol")).body["rewards"]) == 1


async def test_a_rule_without_times_gives_each_time(programme: Programme) -> None:
    await programme.rule(times=None)
    await programme.come()
    for _ in range(5):
        assert len((await programme.buy()).body["rewards"]) == 1
    assert await programme.available("alice") == 2500


async def test_a_referrer_gets_as_many_rewards_in_a_period_as_the_rule_says(programme: Programme) -> None:
    rule = await programme.rule(hold_days=30, limits={"per_referrer": {"count": 2, "period": "month"}})
    for name in ("b", "c", "d", "e"):
        await programme.come(name)
    first = (await programme.buy(referee="b")).body["rewards"][0]
    await programme.buy(referee="c")
    assert await skipped(programme, "d") == ["per-referrer"]
    await programme.come("x", "xavier")
    assert await skipped(programme, "x") == [], "another referrer has a limit of their own"
    await programme.step(first, "reject", reason="No")
    assert await skipped(programme, "d") == []
    assert await skipped(programme, "e") == ["per-referrer"]
    # A limit that is lowered below what is used up takes nothing more; one that is raised does.
    await programme.change(rule, limits={"per_referrer": {"count": 1, "period": "month"}})
    assert await skipped(programme, "e") == ["per-referrer"]
    await programme.change(rule, limits={"per_referrer": {"count": 3, "period": "month"}})
    assert await skipped(programme, "e") == []


async def test_a_budget_is_taken_whole_never_exceeded_and_given_back_by_a_void_alone(programme: Programme) -> None:
    rule = await programme.rule(
        give=SHARE, times=None, hold_days=30, limits={"budget": {"unit": "USD", "amount": 1000, "period": "ever"}}
    )
    await programme.come()
    first = (await programme.buy(3000, event="first")).body["rewards"][0]
    assert await skipped(programme, "bob", 2001 + 4) == ["budget"], "401 do not fit, and are not trimmed"
    assert await skipped(programme, "bob", 2000) == []
    spent = (await programme.admin.get(f"/rules/{rule['id']}")).body["spent"]
    assert spent == {"unit": "USD", "amount": 1000, "count": 2}
    # Half of a refund gives nothing back, and neither does taking back what was approved.
    await programme.refund("first", 1500)
    assert await skipped(programme, "bob", 5) == ["budget"]
    await programme.refund("first")
    assert (await programme.reward(first["id"]))["status"] == "void"
    assert await skipped(programme, "bob", 3000) == []
    assert await skipped(programme, "bob", 5) == ["budget"]


@pytest.mark.parametrize("period", ["day", "week", "month", "ever"])
async def test_a_limit_with_another_period_counts_what_was_given_in_it(programme: Programme, period: str) -> None:
    rule = await programme.rule(times=None)
    await programme.come()
    for _ in range(3):
        await programme.buy()
    limits = {
        "budget": {"unit": "USD", "amount": 2000, "period": period},
        "per_referrer": {"count": 4, "period": period},
    }
    await programme.change(rule, limits=limits)
    assert await skipped(programme, "bob") == []
    assert await skipped(programme, "bob") == ["per-referrer"]
    await programme.change(rule, limits={"budget": limits["budget"]})
    assert await skipped(programme, "bob") == ["budget"]
    await programme.change(rule, limits=None)
    assert await skipped(programme, "bob") == []
    # Whatever was given meanwhile counts again.
    await programme.change(rule, limits={"per_referrer": {"count": 5, "period": period}})
    assert await skipped(programme, "bob") == ["per-referrer"]


async def test_a_new_period_has_a_limit_of_its_own_and_a_void_one_is_given_back_to_its_period(
    programme: Programme, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = now()
    monkeypatch.setattr("referral.rules.work.now", lambda: at)
    await programme.rule(hold_days=30, limits={"budget": {"unit": "USD", "amount": 500, "period": "day"}})
    for name in ("b", "c", "d"):
        await programme.come(name)
    first = (await programme.buy(referee="b")).body["rewards"][0]
    assert await skipped(programme, "c") == ["budget"]
    at += 86_400_000
    assert await skipped(programme, "c") == []
    assert await skipped(programme, "d") == ["budget"]
    await programme.step(first, "reject", reason="Late")
    assert await skipped(programme, "d") == ["budget"], "yesterday's budget is of no use today"
    # The clock is set back: yesterday's is counted again.
    at -= 86_400_000
    assert await skipped(programme, "d") == []


@pytest.mark.parametrize("most", [1, 3])
async def test_rewards_at_once_never_exceed_a_budget_or_a_referrers_limit(programme: Programme, most: int) -> None:
    await programme.rule(limits={"budget": {"unit": "USD", "amount": 500 * most, "period": "ever"}})
    await programme.rule("referee", limits={"per_referrer": {"count": most, "period": "day"}})
    names = [f"b{number}" for number in range(16)]
    for name in names:
        await programme.come(name)
    answers = await asyncio.gather(*(programme.buy(referee=name) for name in names))
    assert [answer.status for answer in answers] == [201] * 16
    given = [reward["side"] for answer in answers for reward in answer.body["rewards"]]
    assert (given.count("referrer"), given.count("referee")) == (most, most)
    reasons = [one["reason"] for answer in answers for one in answer.body["skipped"]]
    assert (reasons.count("budget"), reasons.count("per-referrer")) == (16 - most, 16 - most)


async def test_a_rule_that_is_changed_amid_events_counts_each_of_them(programme: Programme) -> None:
    rule = await programme.rule(times=None)
    names = [f"b{number}" for number in range(12)]
    for name in names:
        await programme.come(name)

    async def change() -> None:
        for period in ("day", "week", "month", "ever"):
            await programme.change(rule, limits={"budget": {"unit": "USD", "amount": 9000, "period": period}})

    answers = await asyncio.gather(change(), *(programme.buy(referee=name) for name in names * 2))
    given = sum(len(answer.body["rewards"]) for answer in answers if answer)
    assert given == 18, "9,000 are 18 times 500, whatever the period"


@ONCE_SQLITE
async def test_sums_that_the_ledger_cannot_hold_are_refused_with_nothing_half_done(
    programme: Programme, database_url: str
) -> None:
    rule = await programme.rule(times=None, give={"kind": "balance", "unit": "USD", "fixed": MOST})
    await programme.come()
    await programme.buy()
    # As if it had gone on for long: 2^62 is the bound.
    most = 2**62
    await sql(database_url, f"UPDATE accounts SET programme = {-most}, available = {most}, earned = {most}")
    before = await count(database_url, "transfers")
    answer = await programme.buy(event="too much")
    assert answer.problem == "sum-too-large"
    assert (await programme.admin.get("/events/too%20much")).problem == "not-found"
    by_hand = {"id": "x", "user": {"external_id": "alice"}, "kind": "balance", "value": usd(1), "reason": "More"}
    assert (await programme.admin.post("/rewards", by_hand)).problem == "sum-too-large"
    assert await count(database_url, "transfers") == before
    assert (await programme.admin.get(f"/rules/{rule['id']}")).body["spent"]["count"] == 1
    await sql(database_url, f"UPDATE accounts SET programme = {-MOST}, available = {MOST}, earned = {MOST}")


@ONCE_SQLITE
async def test_what_a_rule_gave_is_counted_beyond_64_bits(programme: Programme, database_url: str) -> None:
    rule = await programme.rule(times=None, give={"kind": "coupon", "label": "A", "unit": "USD", "fixed": MOST})
    await programme.come()
    await programme.buy(event="one")
    columns = (
        "user_id, side, kind, label, unit, value, status, rule_id, rule_version, referral_user_id, referrer_id, release_at, "
        "created_at, approved_at"
    )
    await sql(
        database_url,
        "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 1100) "
        "INSERT INTO events (id, type, user_id, received_at, occurred_at, attribution) "
        "SELECT 'more ' || i, 'purchase', (SELECT user_id FROM events WHERE id = 'one'), 1, 1, 'none' FROM n",
    )
    await sql(
        database_url,
        f"WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 1100) "
        f"INSERT INTO rewards (id, event_id, ordinal, {columns}) "
        f"SELECT 'more ' || i, 'more ' || i, i, {columns} FROM n CROSS JOIN rewards WHERE event_id = 'one'",
    )
    spent = (await programme.admin.get(f"/rules/{rule['id']}")).body["spent"]
    assert spent == {"unit": "USD", "amount": 2**63 - 1, "count": 1100}
    budget = {"limits": {"budget": {"unit": "USD", "amount": MOST, "period": "ever"}}}
    assert (await programme.admin.patch(f"/rules/{rule['id']}", budget)).problem == "sum-too-large"
    assert (await programme.admin.get(f"/rules/{rule['id']}")).body["version"] == 1


# Previews


async def test_a_preview_gives_what_switching_it_on_before_would_have_given_and_changes_nothing(
    programme: Programme, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One rule is there from the beginning, and the same one is previewed at the end."""
    at = now() - 40 * 86_400_000
    monkeypatch.setattr("referral.rules.work.now", lambda: at)
    since = rfc_3339(at)
    rule: dict[str, Any] = {
        "give": SHARE,
        "times": 2,
        "hold_days": 5,
        "tiers": [{"from": 2, "percent": "30"}, {"from": 4, "percent": "50"}],
        "if": {"min_amount": usd(100), "within_days": 20},
        "limits": {
            "budget": {"unit": "USD", "amount": 2500, "period": "week"},
            "per_referrer": {"count": 4, "period": "week"},
        },
    }
    made = await programme.rule(**rule)
    names = ["b", "c", "d", "e", "f"]
    for name in names:
        await programme.come(name, "alice" if name != "f" else "frank")
    await programme.admin.report("unreferred", external_id="somebody", value=usd(1000))
    for day in range(30):
        at += 86_400_000
        name = names[day % 5]
        await programme.buy(50 + 97 * day, name, f"bought on day {day}")
        if day % 4 == 3:
            await programme.refund(f"bought on day {day - 3}", 60 if day % 8 == 3 else None)
        if day % 7 == 6:
            await programme.refund(f"bought on day {day - 6}", 1)
        if day == 12:
            suspended = await programme.admin.post("/users/ext:frank/suspend", {"reason": "Odd"})
            assert suspended.status == 200
    kept = [reward for reward in await programme.rewards() if reward["status"] != "void"]
    assert len(kept) > 5, "the history is one to learn from"
    before = await everything(database_url)
    body = {"name": "previewed", "on": "purchase", "to": "referrer", **rule}
    answer = await programme.admin.post("/rules/preview", {"rule": body, "since": since})
    assert answer.status == 200
    assert await everything(database_url) == before
    assert answer.body["events"] == 31
    assert answer.body["rewards"] == len(kept)
    assert answer.body["cost"] == [usd(sum(reward["value"]["amount"] - reward["reversed"] for reward in kept))]
    examples = {(one["event_id"], one["user_id"], one["value"]["amount"]) for one in answer.body["examples"]}
    assert len(examples) == min(10, len(kept))
    assert examples <= {(one["event_id"], one["user_id"], one["value"]["amount"]) for one in kept}
    assert made["version"] == 1


async def everything(database_url: str) -> list[list[tuple[Any, ...]]]:
    tables = ("rules", "rule_versions", "rule_usage", "events", "rewards", "accounts", "transfers", "referrals")
    return [sorted(await sql(database_url, f"SELECT * FROM {table}"), key=repr) for table in tables]


@ONCE_SQLITE
async def test_a_preview_of_too_much_is_refused(programme: Programme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("referral.rules.previewing.MOST_EVENTS", 2)
    rule = {"name": "previewed", "on": "purchase", "to": "referee", "give": DOLLARS}
    await programme.come()
    for _ in range(2):
        await programme.buy()
    body = {"rule": rule, "since": "2020-01-01T00:00:00Z"}
    assert (await programme.admin.post("/rules/preview", body)).body["rewards"] == 1
    await programme.buy()
    assert (await programme.admin.post("/rules/preview", body)).pointers == ["/since"]
    assert (await programme.admin.post("/rules/preview", {"rule": rule, "since": "now"})).pointers == ["/since"]
    assert (await programme.admin.post("/rules/preview", {"since": "2020-01-01T00:00:00Z"})).pointers == ["/rule"]
