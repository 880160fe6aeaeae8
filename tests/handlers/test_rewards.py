"""Rewards: what becomes of them, line by line as the contract has it; refunds, holds, and rewards by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from referral.background.holds import HoldWorker
from referral.background.relay import Relay
from referral.clock import now
from referral.database import DATABASE, Database
from tests.conftest import Client, Eventually, MakeClient
from tests.support.people import UNKNOWN, Person, Product
from tests.support.programme import DOLLARS, SHARE, Programme, usd
from tests.support.rows import count, sql

pytestmark = pytest.mark.usefixtures("verified")

ONCE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"])
COUPON = {"kind": "coupon", "label": "A month"}


async def end_holds(database: Database, url: str, ago: int = 1_000) -> int:
    """Let all holds have ended so long ago (ms), and let a worker find that."""
    await sql(url, f"UPDATE rewards SET release_at = {now() - ago} WHERE status = 'pending'")
    await sql(url, f"UPDATE rewards SET due_at = {now() - ago} WHERE due_at IS NOT NULL")
    return await HoldWorker(database, Relay(database)).work_off()


# What an event brings


async def test_an_event_is_answered_with_what_it_earned_for_either_side(programme: Programme) -> None:
    share = await programme.rule(give=SHARE, hold_days=30)
    dollars = await programme.rule("referee")
    coupon = await programme.rule("referee", COUPON, approval="manual")
    off = await programme.rule(enabled=False)
    await programme.come()
    answer = await programme.buy(event="order")
    assert answer.status == 201
    alice, bob = [(await programme.admin.get(f"/users/ext:{name}")).body["id"] for name in ("alice", "bob")]
    first, second, third = answer.body["rewards"]
    assert first == {
        "id": first["id"],
        "caller_id": None,
        "user_id": alice,
        "side": "referrer",
        "kind": "balance",
        "label": None,
        "value": usd(980),
        "reversed": 0,
        "status": "pending",
        "waiting_for": ["hold"],
        "rule": {"id": share["id"], "version": 1, "name": "a rule for the referrer"},
        "event_id": "order",
        "referral_user_id": bob,
        "release_at": first["release_at"],
        "approved_at": None,
        "fulfilled_at": None,
        "reason": None,
        "reference": None,
        "created_at": first["created_at"],
    }
    assert (second["user_id"], second["side"], second["status"], second["rule"]["id"]) == (
        bob,
        "referee",
        "approved",
        dollars["id"],
    )
    assert second["approved_at"] == second["created_at"]
    assert (third["kind"], third["label"], third["value"], third["waiting_for"]) == ("coupon", "A month", None, ["approval"])
    assert third["rule"]["id"] == coupon["id"]
    assert answer.body["skipped"] == [{"rule_id": off["id"], "reason": "disabled"}]
    assert answer.body["referral"]["status"] == "converted"
    for reward in (first, second, third):
        assert await programme.reward(reward["id"]) == reward
    assert await programme.balance("alice") == {
        "pending": 980,
        "available": 0,
        "reserved": 0,
        "earned": 0,
        "spent": 0,
        "reversed": 0,
    }
    assert await programme.available("bob") == 500


async def test_a_repetition_is_answered_as_the_first_time_whatever_became_of_it(programme: Programme) -> None:
    await programme.rule(give=SHARE, hold_days=30, times=None)
    await programme.rule("referee", COUPON)
    await programme.rule(enabled=False)
    await programme.come()
    first = await programme.buy(event="order")
    refund = await programme.refund("order", 900, "refund")
    reward = first.body["rewards"][0]
    await programme.step(reward, "approve", now=True)
    await programme.step(first.body["rewards"][1], "fulfil", reference="c-1")
    await programme.refund("order")
    again = await programme.buy(event="order")
    assert (again.status, again.headers["Idempotency-Replayed"]) == (200, "true")
    now_referral = again.body.pop("referral")
    assert (now_referral["status"], first.body.pop("referral")["status"]) == ("joined", "converted")
    assert again.body == first.body
    repeated = await programme.refund("order", 900, "refund")
    assert repeated.status == 200
    assert (repeated.body["rewards"], repeated.body["skipped"]) == (refund.body["rewards"], [])


@ONCE_SQLITE
async def test_what_happens_to_users_without_a_referrer_earns_nothing(programme: Programme) -> None:
    rule = await programme.rule()
    answer = await programme.buy(referee="somebody")
    assert (answer.body["rewards"], answer.body["skipped"]) == ([], [{"rule_id": rule["id"], "reason": "not-referred"}])
    assert (await programme.admin.report("seen", "seen", "somebody")).body["skipped"] == []


async def test_an_event_that_brings_its_user_is_rewarded_itself(programme: Programme) -> None:
    await programme.rule()
    answer = await programme.buy(code=await programme.code_of("alice"))
    assert answer.body["attribution"]["status"] == "attributed"
    assert [reward["value"] for reward in answer.body["rewards"]] == [usd(500)]
    assert await programme.statement("alice") == [("approval", 500, 500)]


async def test_referrers_with_more_converted_referrals_get_more(programme: Programme) -> None:
    await programme.rule(tiers=[{"from": 2, "fixed": 700}, {"from": 3, "fixed": 900}])
    await programme.rule(give=SHARE, on="signup", tiers=[{"from": 3, "percent": "50"}])

    async def bought(name: str, event: str) -> list[int]:
        return [reward["value"]["amount"] for reward in (await programme.buy(1000, name, event)).body["rewards"]]

    for name in ("b", "c", "d", "e"):
        await programme.come(name)
    assert [await bought(name, f"by {name}") for name in ("b", "c", "d")] == [[500], [700], [900]]
    # Two of them are taken back: there is one converted referral, and the next is the second.
    await programme.refund("by b")
    await programme.refund("by c")
    assert await bought("e", "by e") == [700]
    # What does not convert counts its own referral in all the same.
    await programme.come("f")
    answer = await programme.admin.report("signed up", "signup", "f", value=usd(100))
    assert [reward["value"]["amount"] for reward in answer.body["rewards"]] == [50]


async def test_a_referral_is_converted_by_its_first_purchase_until_all_of_them_are_refunded(
    programme: Programme, database_url: str
) -> None:
    await programme.come()

    async def status() -> tuple[str, bool]:
        (referral,) = (await programme.admin.get("/users/ext:alice/referrals")).body["items"]
        return referral["status"], referral["converted_at"] is not None

    assert await status() == ("joined", False)
    await programme.admin.report("seen", "seen", "bob")
    assert await status() == ("joined", False)
    for event in ("one", "two"):
        await programme.buy(event=event)
    assert await status() == ("converted", True)
    await programme.refund("one")
    await programme.refund("two", 4899)
    assert await status() == ("converted", True)
    await programme.refund("two")
    assert await status() == ("joined", False)
    assert await sql(database_url, "SELECT converted_count FROM users WHERE external_id = 'alice'") == [(0,)]
    await programme.buy(event="three")
    assert await status() == ("converted", True)
    # One without a value cannot be refunded.
    await programme.refund("three")
    await programme.buy(unit=None)
    assert await status() == ("converted", True)


@ONCE_SQLITE
async def test_accounts_of_our_own_are_rewarded_for_what_they_report_themselves(
    make_client: MakeClient, mailed: Callable[..., Awaitable[str]]
) -> None:
    client = await make_client()
    programme = Programme(await Product.with_key(client, "admin"))
    await programme.rule(on="signup")
    await programme.rule("referee", on="email-verified")
    alice = await Person.register(client, "alice")
    code = await alice.make_code()
    bob = await Person.register(client, "bob", referral_code=code)
    assert [line["amount"] for line in (await alice.get("/users/me/statement?unit=USD")).body["items"]] == [500]
    token = await mailed("bob@example.com")
    for _ in range(2):
        # A second press of the link rewards nothing.
        assert (await bob.post("/auth/email/verify", {"token": token})).status == 204
    assert [item["available"] for item in (await bob.get("/users/me/balances")).body["items"]] == [500]
    # Whoever was not referred is no reward, and a code after the registration comes too late for the sign-up.
    carol = await Person.register(client, "carol")
    assert (await carol.post("/users/me/referrer", {"code": code})).status == 201
    assert (await programme.admin.get("/rewards")).body["total"] == 2
    # What the referral of an account that nobody vouches for earned goes with it.
    dora = await Person.register(client, "dora", referral_code=code)
    assert (await alice.get("/users/me/balances")).body["items"][0]["available"] == 1000
    assert (await dora.delete("/users/me", {"password": dora.password})).status == 204
    balance = (await alice.get("/users/me/balances")).body["items"][0]
    vouched = 500 if balance["available"] == 500 else 1000
    assert (balance["available"], balance["reversed"]) == (vouched, 1000 - vouched)


# States


async def test_each_step_leads_where_the_contract_says_and_again_the_same(programme: Programme) -> None:
    await programme.rule(hold_days=30, times=None)
    await programme.rule("referee", COUPON, hold_days=30, times=None)
    await programme.come()

    async def made() -> tuple[dict[str, Any], dict[str, Any]]:
        balance, coupon = (await programme.buy()).body["rewards"]
        return balance, coupon

    async def steps(reward: dict[str, Any]) -> dict[str, int]:
        """The statuses of each step that is not to lead anywhere."""
        members: dict[str, dict[str, Any]] = {
            "approve": {},
            "reject": {"reason": "x"},
            "fulfil": {"reference": "x"},
            "reverse": {"id": f"never {reward['id']}", "reason": "x"},
        }
        found = {}
        for step, body in members.items():
            answer = await programme.step(reward, step, **body)
            if answer.status == 409:
                assert answer.problem == "reward-state"
            found[step] = answer.status
        return found

    balance, coupon = await made()
    # Pending.
    for reward in (balance, coupon):
        for step, members in (("fulfil", {}), ("reverse", {"id": "x", "reason": "x"})):
            assert (await programme.step(reward, step, **members)).problem == "reward-state"
    # Void.
    rejected = (await programme.step(balance, "reject", reason="No")).body
    assert (rejected["status"], rejected["reason"], rejected["waiting_for"]) == ("void", "No", [])
    assert await steps(balance) == {"approve": 409, "reject": 200, "fulfil": 409, "reverse": 409}
    assert (await programme.reward(balance["id"]))["reason"] == "No"
    # Approved.
    balance, other = await made()
    for reward in (balance, coupon):
        approved = (await programme.step(reward, "approve", now=True)).body
        assert (approved["status"], approved["waiting_for"], approved["approved_at"] is not None) == ("approved", [], True)
        assert (await programme.step(reward, "approve")).body == approved
        assert (await programme.step(reward, "reject", reason="x")).problem == "reward-state"
    assert (await programme.step(balance, "fulfil")).problem == "reward-state"
    # Fulfilled.
    fulfilled = (await programme.step(coupon, "fulfil", reference="c-1")).body
    assert (fulfilled["status"], fulfilled["reference"], fulfilled["fulfilled_at"] is not None) == ("fulfilled", "c-1", True)
    assert (await programme.step(coupon, "fulfil", reference="c-1")).body == fulfilled
    assert (await programme.step(coupon, "fulfil", reference="c-2")).problem == "reward-state"
    assert (await programme.step(coupon, "approve")).problem == "reward-state"
    # Reversed.
    for reward in (balance, coupon):
        reverted = (await programme.step(reward, "reverse", id=f"all of {reward['id']}", reason="Back")).body
        assert (reverted["status"], reverted["reason"]) == ("reversed", "Back")
        assert set((await steps(reward)).values()) == {409}
    assert (await programme.step(other, "reverse", id="o", reason="x")).problem == "reward-state"
    assert await programme.statement("alice") == [("approval", 500, 500), ("reversal", -500, 0)]
    assert (await programme.balance("alice"))["pending"] == 0
    for step, members in (
        ("approve", {}),
        ("reject", {"reason": "x"}),
        ("fulfil", {}),
        ("reverse", {"id": "y", "reason": "x"}),
    ):
        for nobody in (UNKNOWN, "nonsense", "%00"):
            assert (await programme.admin.post(f"/rewards/{nobody}/{step}", members)).problem == "not-found"


async def test_a_reversal_takes_a_part_or_the_rest_and_never_more_and_is_made_once(
    programme: Programme, database_url: str
) -> None:
    await programme.rule()
    await programme.come()
    (reward,) = (await programme.buy()).body["rewards"]
    first = await programme.step(reward, "reverse", id="v1", amount=200, reason="Some")
    assert (first.body["status"], first.body["reversed"], first.body["value"]) == ("approved", 200, usd(500))
    assert (await programme.step(reward, "reverse", id="v2", amount=301, reason="x")).pointers == ["/amount"]
    assert await count(database_url, "reversals") == 1, "one that is refused is not remembered"
    rest = (await programme.step(reward, "reverse", id="v2", reason="The rest")).body
    assert (rest["status"], rest["reversed"]) == ("reversed", 500)
    # The same call again, whatever has become of it.
    again = await programme.step(reward, "reverse", id="v1", amount=200, reason="Some")
    assert (again.body, again.headers["Idempotency-Replayed"]) == (first.body, "true")
    other = await programme.give("alice", 5)
    for body in ({"amount": 201, "reason": "Some"}, {"amount": 200, "reason": "Other"}, {"reason": "Some"}):
        assert (await programme.step(reward, "reverse", id="v1", **body)).problem == "id-mismatch"
    assert (await programme.step(other, "reverse", id="v1", amount=200, reason="Some")).problem == "id-mismatch"
    coupon = await programme.give("alice", 5, kind="coupon", label="A", value=None)
    assert (await programme.step(coupon, "reverse", id="c", amount=1, reason="x")).pointers == ["/amount"]


# Refunds


@pytest.mark.parametrize("is_held", [True, False])
@pytest.mark.parametrize("by_percentage", [True, False])
async def test_refunds_take_in_proportion_and_the_last_one_exactly_what_is_left(
    programme: Programme, is_held: bool, by_percentage: bool
) -> None:
    await programme.rule(give=SHARE if by_percentage else DOLLARS, hold_days=30 if is_held else 0)
    await programme.come()
    (reward,) = (await programme.buy(4999, event="order")).body["rewards"]
    value, refunded = reward["value"]["amount"], 0
    assert value == (999 if by_percentage else 500)
    for part in (1, 998, 2000, 1500):
        answer = await programme.refund("order", part)
        refunded += part
        left = value * (4999 - refunded) // 4999 if by_percentage else value
        assert [one["reversed"] for one in answer.body["rewards"]] == ([value - left] if by_percentage else [])
        kept = await programme.reward(reward["id"])
        assert (kept["reversed"], kept["value"]) == (value - left, usd(value))
        balance = await programme.balance("alice")
        assert balance["pending" if is_held else "available"] == left
    (last,) = (await programme.refund("order")).body["rewards"]
    assert (last["status"], last["reversed"], last["reason"]) == ("void" if is_held else "reversed", value, "refunded")
    balance = await programme.balance("alice")
    assert (balance["pending"], balance["available"]) == (0, 0)
    assert (await programme.refund("order")).problem == "refund-too-large"


async def test_refunds_and_reversals_add_up_and_never_pass_the_value(programme: Programme) -> None:
    await programme.rule(give=SHARE)
    await programme.come()
    (reward,) = (await programme.buy(1000, event="order")).body["rewards"]
    await programme.step(reward, "reverse", id="v1", amount=150, reason="By hand")
    await programme.refund("order", 100)
    assert (await programme.reward(reward["id"]))["reversed"] == 170
    await programme.refund("order", 500)
    assert (await programme.reward(reward["id"]))["reversed"] == 200
    # Nothing is left: what is refunded from here on takes nothing more.
    answer = await programme.refund("order")
    assert (answer.status, answer.body["rewards"]) == (201, [])
    assert await programme.statement("alice") == [
        ("approval", 200, 200),
        ("reversal", -150, 50),
        ("refund", -20, 30),
        ("refund", -30, 0),
    ]


async def test_a_claw_back_after_a_redemption_is_a_debt_that_later_rewards_pay(programme: Programme) -> None:
    await programme.rule(times=None)
    await programme.come()
    await programme.buy(event="first")
    assert (await programme.redeem("alice", 500)).status == 201
    await programme.refund("first")
    assert await programme.balance("alice") == {
        "pending": 0,
        "available": -500,
        "reserved": 0,
        "earned": 500,
        "spent": 500,
        "reversed": 500,
    }
    refused = await programme.redeem("alice", 1)
    assert (refused.problem, refused.body["available"]) == ("insufficient-balance", -500)
    await programme.buy()
    assert await programme.available("alice") == 0
    assert (await programme.redeem("alice", 1)).problem == "insufficient-balance"
    await programme.buy()
    assert (await programme.redeem("alice", 500)).status == 201
    assert await programme.statement("alice") == [
        ("approval", 500, 500),
        ("redemption", -500, 0),
        ("refund", -500, -500),
        ("approval", 500, 0),
        ("approval", 500, 500),
        ("redemption", -500, 0),
    ]


async def test_a_coupon_ends_with_the_whole_refund_alone(programme: Programme) -> None:
    await programme.rule("referee", COUPON)
    await programme.rule("referee", {**COUPON, "percent": "10"}, hold_days=30)
    await programme.come()
    plain, valued = (await programme.buy(1000, event="order")).body["rewards"]
    assert (plain["value"], valued["value"]) == (None, usd(100))
    await programme.refund("order", 500)
    assert [(await programme.reward(one["id"]))["reversed"] for one in (plain, valued)] == [0, 50]
    await programme.refund("order")
    assert [(await programme.reward(one["id"]))["status"] for one in (plain, valued)] == ["reversed", "void"]
    assert (await programme.admin.get("/users/ext:bob/balances")).body["items"] == [], "neither is in the ledger"


# Holds


async def test_a_hold_ends_by_itself_and_the_reward_is_available(
    programme: Programme, eventually: Eventually, database_url: str
) -> None:
    await programme.rule(hold_days=1.2 / 86_400)
    await programme.come()
    (reward,) = (await programme.buy()).body["rewards"]
    assert (reward["status"], reward["waiting_for"]) == ("pending", ["hold"])

    async def released() -> bool:
        return bool((await programme.reward(reward["id"]))["status"] == "approved")

    await eventually(released)
    assert await programme.statement("alice") == [("approval", 500, 500)]
    assert await programme.balance("alice") == {
        "pending": 0,
        "available": 500,
        "reserved": 0,
        "earned": 500,
        "spent": 0,
        "reversed": 0,
    }


async def test_what_is_kept_waiting_is_not_released_by_time(
    programme: Programme, database: Database, database_url: str
) -> None:
    await programme.rule(hold_days=30, times=None)
    await programme.rule("referee", hold_days=30, times=None, approval="manual")
    await programme.come()
    plain, manual = (await programme.buy()).body["rewards"]
    assert manual["waiting_for"] == ["hold", "approval"]
    # Suspended.
    await programme.admin.post("/users/ext:alice/suspend", {"reason": "Odd"})
    await end_holds(database, database_url)
    assert (await programme.reward(plain["id"]))["waiting_for"] == ["hold"]
    assert (await programme.reward(manual["id"]))["waiting_for"] == ["approval"]
    assert await HoldWorker(database, Relay(database)).work_off() == 0, "it is not looked at again and again"
    await programme.admin.post("/users/ext:alice/unsuspend")
    assert await HoldWorker(database, Relay(database)).work_off() == 1
    assert (await programme.reward(plain["id"]))["status"] == "approved"
    # Under review.
    plain, _ = (await programme.buy()).body["rewards"]
    await programme.suspect()
    at_once = (await programme.change(await programme.rule(on="seen"), times=None))["id"]
    seen = (await programme.admin.report("seen", "seen", "bob")).body["rewards"]
    assert [(one["rule"]["id"], one["waiting_for"]) for one in seen] == [(at_once, ["review"])]
    await end_holds(database, database_url)
    assert (await programme.reward(plain["id"]))["waiting_for"] == ["review"]
    assert (await programme.step(plain, "approve", now=True)).body["waiting_for"] == ["review"]
    # By hand, after its hold.
    assert (await programme.step(manual, "approve")).body["waiting_for"] == ["review"]
    assert (await programme.decide("clear")).status == 200
    assert await HoldWorker(database, Relay(database)).work_off() > 0
    for reward in (plain, manual, *seen):
        assert (await programme.reward(reward["id"]))["status"] == "approved"


async def test_an_approval_during_a_hold_is_remembered_and_can_end_it(
    programme: Programme, database: Database, database_url: str
) -> None:
    await programme.rule(hold_days=30, times=None, approval="manual")
    await programme.come()
    (first,) = (await programme.buy()).body["rewards"]
    (second,) = (await programme.buy()).body["rewards"]
    approved = (await programme.step(first, "approve")).body
    assert (approved["status"], approved["waiting_for"]) == ("pending", ["hold"])
    assert (await programme.step(second, "approve", now=True)).body["status"] == "approved"
    assert await end_holds(database, database_url) == 1
    assert (await programme.reward(first["id"]))["status"] == "approved"
    assert await programme.available("alice") == 1000


async def test_several_workers_end_each_hold_once(programme: Programme, database: Database, database_url: str) -> None:
    await programme.rule(hold_days=30, times=None)
    await programme.come()
    for _ in range(12):
        await programme.buy()
    await programme.give("carol", 900)
    for number in range(6):
        assert (await programme.redeem("carol", 100, f"d{number}", hold_seconds=60)).status == 201
    await sql(database_url, f"UPDATE rewards SET due_at = {now() - 1} WHERE due_at IS NOT NULL")
    await sql(database_url, f"UPDATE redemptions SET due_at = {now() - 1} WHERE due_at IS NOT NULL")
    others = [programme.admin.client.app[DATABASE], database]
    found = await asyncio.gather(*(HoldWorker(other, Relay(other)).work_off() for other in others * 3))
    assert sum(found) == 18
    assert await programme.available("alice") == 6000
    assert len(await programme.statement("alice")) == 12
    assert await programme.available("carol") == 900


async def test_one_reward_that_cannot_be_released_keeps_no_other_one(
    programme: Programme, database: Database, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await programme.rule(hold_days=30, times=None)
    await programme.rule("referee", hold_days=30)
    await programme.come()
    await programme.buy()
    # As if alice had earned all that can be counted.
    await sql(database_url, f"UPDATE accounts SET earned = {2**62} WHERE user_id = (SELECT referrer_id FROM referrals)")
    assert await end_holds(database, database_url) == 2
    assert await programme.available("bob") == 500
    assert "cannot be released and is left alone" in caplog.text
    await sql(database_url, f"UPDATE accounts SET earned = 0 WHERE earned = {2**62}")
    await sql(database_url, "UPDATE rewards SET due_at = release_at WHERE status = 'pending'")


# By hand


async def test_a_reward_by_hand_is_given_once_for_its_id(programme: Programme, database_url: str) -> None:
    body = {
        "id": "goodwill",
        "user": {"external_id": "carol", "name": "Carol"},
        "kind": "balance",
        "value": usd(250),
        "reason": "For the trouble",
    }
    first = await programme.admin.post("/rewards", body)
    assert first.status == 201
    assert {
        name: first.body[name] for name in ("caller_id", "side", "rule", "event_id", "referral_user_id", "status", "reason")
    } == {
        "caller_id": "goodwill",
        "side": None,
        "rule": None,
        "event_id": None,
        "referral_user_id": None,
        "status": "approved",
        "reason": "For the trouble",
    }
    assert (await programme.admin.get("/users/ext:carol")).body["name"] == "Carol"
    await programme.step(first.body, "reverse", id="v", amount=50, reason="Less")
    again = await programme.admin.post("/rewards", dict(reversed(body.items())))
    assert (again.status, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert again.body == first.body
    for change in ({"value": usd(251)}, {"reason": "Other"}, {"user": {"external_id": "dora"}}, {"hold_days": 0}):
        assert (await programme.admin.post("/rewards", {**body, **change})).problem == "id-mismatch"
    answers = await asyncio.gather(*(programme.admin.post("/rewards", {**body, "id": "once"}) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [200] * 7 + [201]
    assert len({answer.body["id"] for answer in answers}) == 1
    assert await programme.available("carol") == 450
    held = await programme.give("carol", 70, hold_days=0.5)
    assert (held["status"], held["waiting_for"]) == ("pending", ["hold"])
    await programme.admin.post("/users/ext:carol/suspend", {"reason": "Odd"})
    assert (await programme.admin.post("/rewards", {**body, "id": "late"})).problem == "user-suspended"
    assert (
        await programme.admin.post("/rewards", {**body, "id": "x", "value": {"unit": "CHF", "amount": 1}})
    ).problem == "unit-unknown"
    assert (await programme.admin.post("/rewards", {**body, "id": "x", "user": {"id": UNKNOWN}})).problem == "not-found"


@ONCE_SQLITE
async def test_a_reward_by_hand_has_what_its_kind_needs(programme: Programme) -> None:
    body = {"id": "x", "user": {"external_id": "carol"}, "kind": "balance", "reason": "x"}
    for members, pointer in (
        ({}, "/value"),
        ({"value": usd(0)}, "/value/amount"),
        ({"value": usd(2**53)}, "/value/amount"),
        ({"kind": "coupon"}, "/label"),
        ({"user": {}}, "/user/external_id"),
    ):
        assert (await programme.admin.post("/rewards", {**body, **members})).pointers == [pointer]


# Who sees and does what


async def test_users_see_their_own_rewards_and_only_the_product_others(
    client: Client, person: Callable[..., Awaitable[Person]]
) -> None:
    programme = Programme(await Product.with_key(client, "admin"))
    alice, mallory = await person("alice"), await person("mallory")
    reader, writer = await Product.with_key(client, "read"), await Product.with_key(client, "write")
    given = await programme.admin.post(
        "/rewards", {"id": "x", "user": {"id": alice.id}, "kind": "balance", "value": usd(5), "reason": "x"}
    )
    for path in ("rewards", "balances", "statement?unit=USD"):
        own = await alice.get(f"/users/me/{path}")
        assert own.status == 200
        assert len(own.body["items"]) == 1
        assert (await alice.get(f"/users/{alice.id}/{path}")).body == own.body
        assert (await reader.get(f"/users/{alice.id}/{path}")).body == own.body
        assert (await mallory.get(f"/users/{alice.id}/{path}")).problem == "forbidden"
        assert (await mallory.get(f"/users/me/{path}")).body["items"] == []
        assert (await reader.get(f"/users/{UNKNOWN}/{path}")).problem == "not-found"
        assert (await Person(client, "").get(f"/users/me/{path}")).problem == "unauthorized"
    reward_id = given.body["id"]
    for path in ("/rewards", f"/rewards/{reward_id}"):
        assert (await alice.get(path)).problem == "forbidden"
        assert (await reader.get(path)).status == 200
    for step, body in (("approve", {}), ("reject", {"reason": "x"}), ("reverse", {"id": "y", "reason": "x"})):
        for caller in (alice, reader, writer):
            assert (await caller.post(f"/rewards/{reward_id}/{step}", body)).problem == "forbidden"
    assert (await reader.post(f"/rewards/{reward_id}/fulfil", {})).problem == "forbidden"
    assert (await writer.post(f"/rewards/{reward_id}/fulfil", {})).problem == "reward-state"


async def test_rewards_are_listed_newest_first_by_user_rule_event_and_state(programme: Programme) -> None:
    rule = await programme.rule(times=None)
    other = await programme.rule("referee", hold_days=30, times=None)
    await programme.come()
    await programme.come("carol", "xavier")
    for number in range(3):
        await programme.buy(event=f"bob {number}")
    await programme.buy(referee="carol", event="carol 0")
    everything = await programme.rewards()
    assert len(everything) == 8

    async def events(**query: str) -> list[tuple[str, str]]:
        return [(one["event_id"], one["side"]) for one in await programme.rewards(**query)]

    assert await events(user="ext:alice") == [(f"bob {number}", "referrer") for number in range(3)]
    assert await events(user="ext:carol", status="pending") == [("carol 0", "referee")]
    assert await events(rule=rule["id"], status="approved") == await events(rule=rule["id"])
    assert len(await events(rule=rule["id"])) == 4
    assert sorted(await events(event="bob 1")) == [("bob 1", "referee"), ("bob 1", "referrer")]
    assert await events(event="bob 1", rule=other["id"]) == [("bob 1", "referee")]
    assert await events(event="bob 1", user="ext:alice", rule=rule["id"], status="approved") == [("bob 1", "referrer")]
    assert await events(status="void") == await events(rule=UNKNOWN) == await events(event="none") == []
    assert (await programme.admin.get("/rewards?user=ext:nobody")).problem == "not-found"
    for query in ({}, {"status": "pending"}, {"user": "ext:alice"}, {"rule": rule["id"]}, {"event": "bob 1"}):
        paged: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await programme.admin.get("/rewards", params={"limit": "1", **query, **cursor})).body
            paged += page["items"]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert list(reversed(paged)) == await programme.rewards(**query)


async def test_an_erased_user_leaves_sums_and_the_ledger_nameless(
    programme: Programme, database_url: str, database: Database
) -> None:
    await programme.rule(hold_days=30, times=None)
    await programme.come()
    (waiting,) = (await programme.buy(event="order")).body["rewards"]
    await programme.give("alice", 300, reason="Alice in person")
    given = await programme.give("alice", 40, id="known", reason="Alice again")
    await programme.step(given, "reverse", id="back", amount=5, reason="Alice was wrong")
    await programme.refund("order", 1)
    await programme.redeem("alice", 100, "spent", note="to Alice", reference="Alice's order")
    assert (await programme.admin.delete("/users/ext:alice")).status == 204
    assert await count(database_url, "rewards") == 3
    assert await count(database_url, "accounts") == 1
    tables = ("rewards", "redemptions", "reversals", "events", "audit_events", "transfers")
    assert "Alice" not in "".join([str(await sql(database_url, f"SELECT * FROM {table}")) for table in tables])
    # The ids are remembered: the same calls again do nothing, and others are refused.
    body = {"id": "known", "user": {"external_id": "alice"}, "kind": "balance", "value": usd(40), "reason": "Alice again"}
    assert (await programme.admin.post("/rewards", body)).status == 200
    assert (await programme.admin.post("/rewards", {**body, "value": usd(41)})).problem == "id-mismatch"
    alice = waiting["user_id"]
    assert (await programme.admin.post(f"/users/{alice}/redemptions", {"id": "spent", **usd(100)})).status == 200
    assert (await programme.admin.post(f"/users/{alice}/redemptions", {"id": "spent", **usd(99)})).problem == "id-mismatch"
    # The referral has ended: nothing more is earned by it, and refunds still take.
    assert [one["reason"] for one in (await programme.buy()).body["skipped"]] == ["not-referred"]
    await programme.refund("order")
    assert (await programme.reward(waiting["id"]))["status"] == "void"


async def test_a_referral_that_is_taken_back_takes_back_what_it_earned(make_client: MakeClient, database_url: str) -> None:
    """Somebody registers with an address that is not theirs, and the product says whose it is."""
    client = await make_client(auth_unverified="limited")
    programme = Programme(await Product.with_key(client, "admin"))
    await programme.rule(on="signup")
    await programme.rule("referee", on="signup", hold_days=30)
    await programme.rule(give=COUPON, on="signup")
    squatter = await Person.register(client, "victim", referral_code=await programme.code_of("alice"))
    assert len((await programme.buy(user={"id": squatter.id})).body["skipped"]) == 0
    assert sorted(reward["status"] for reward in await programme.rewards()) == ["approved", "approved", "pending"]
    product = await programme.admin.put(f"/users/{squatter.id}", {"external_id": "the-victim"})
    assert product.status == 200, product.body
    assert product.body["referrer"] is None
    assert sorted(reward["status"] for reward in await programme.rewards()) == ["reversed", "reversed", "void"]
    assert await programme.available("alice") == 0
    assert await sql(database_url, "SELECT converted_count FROM users WHERE external_id = 'alice'") == [(0,)]


async def test_a_referral_that_is_taken_back_takes_nothing_of_what_the_next_one_earns(make_client: MakeClient) -> None:
    client = await make_client(auth_unverified="limited")
    programme = Programme(await Product.with_key(client, "admin"))
    await programme.rule(on="seen")
    squatter = await Person.register(client, "victim", referral_code=await programme.code_of("alice"))
    seen = await programme.admin.report("one", "seen", user={"id": squatter.id})
    assert len(seen.body["rewards"]) == 1
    assert (await programme.admin.put(f"/users/{squatter.id}", {"external_id": "victim"})).body["referrer"] is None
    answer = await programme.admin.report("two", "seen", "victim", code=await programme.code_of("carol"))
    assert (answer.body["attribution"]["status"], len(answer.body["rewards"])) == ("attributed", 1)
    assert (await programme.available("alice"), await programme.available("carol")) == (0, 500)
