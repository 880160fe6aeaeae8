"""Signals and what they come to; what a rejection does is what was foretold, whatever happened before; what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from referral.background import housekeeping
from referral.background.holds import HoldWorker
from referral.background.relay import Relay
from referral.clock import DAY, now
from referral.config import CONFIG
from referral.config.weights import DEFAULT_WEIGHTS, weights_of
from referral.database import DATABASE, Database
from referral.queries.reviews import KeptSignal
from referral.rules.reviewing import score_of
from tests.conftest import Client, MakeClient, MakeConfig
from tests.rules.test_rewards_machine import Harness
from tests.support.people import Person, Product
from tests.support.programme import COUPON, Programme, usd
from tests.support.rows import count, sql


def signal(kind: str, weight: int, reference: str = "") -> KeptSignal:
    return KeptSignal(kind, reference, weight, None, 1)


@pytest.mark.parametrize(
    ("signals", "score"),
    [
        ([], 0),
        ([signal("burst", 40)], 40),
        ([signal("burst", 40), signal("too-fast", 20)], 60),
        ([signal("same-device", 60, "a"), signal("same-device", 60, "b")], 60),
        ([signal("same-device", 30, "a"), signal("same-device", 60, "b")], 60),
        ([signal("reported", 10, "a"), signal("reported", 10, "b")], 20),
        ([signal("reported", 10, "a"), signal("same-device", 10, "a"), signal("same-device", 7, "b")], 20),
    ],
)
def test_each_kind_counts_once_and_each_report(signals: list[KeptSignal], score: int) -> None:
    assert score_of(signals) == score_of(signals[::-1]) == score


def test_weights_are_those_of_the_contract_but_for_the_settings() -> None:
    assert weights_of(()) == DEFAULT_WEIGHTS
    assert weights_of(("burst=0", "too-fast=7")) == DEFAULT_WEIGHTS | {"burst": 0, "too-fast": 7}


# What was foretold


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("buy"), st.sampled_from([99, 1000, 4999])),
        st.tuples(st.just("refund"), st.sampled_from([None, 1, 500])),
        st.tuples(st.just("spend"), st.sampled_from([5, 60, 400])),
        st.tuples(st.just("reserve"), st.sampled_from([5, 60])),
        st.tuples(st.just("approve"), st.booleans()),
        st.tuples(st.just("reject"), st.none()),
        st.tuples(st.just("reverse"), st.sampled_from([None, 1, 30])),
        st.tuples(st.just("fulfil"), st.none()),
        st.tuples(st.just("suspect"), st.sampled_from([20, 50])),
        st.tuples(st.just("clear"), st.none()),
        st.tuples(st.just("wait"), st.none()),
    ),
    min_size=3,
    max_size=14,
)


class History:
    """One referral, what happens to it in any order, and its rejection."""

    def __init__(self, harness: Harness, number: int) -> None:
        self.programme, self._harness, self._number = harness.programme, harness, number
        self.referee, self.referrer, self.kind = f"ben{number}", f"ann{number}", f"buy{number}"
        self.events: list[str] = []
        self.rewards: list[dict[str, Any]] = []

    async def begin(self) -> None:
        rules: tuple[dict[str, Any], ...] = (
            {"to": "referrer", "give": {"kind": "balance", "percent": "20"}},
            {"to": "referee", "give": {"kind": "balance", "unit": "USD", "fixed": 70}, "hold_days": 1},
            {"to": "referee", "give": COUPON},
            {"to": "referrer", "give": {"kind": "custom", "label": "x", "percent": "1"}, "approval": "manual"},
        )
        for rule in rules:
            await self.programme.rule(**{"on": self.kind, "times": None, "hold_days": 0, **rule})
        await self.programme.come(self.referee, self.referrer)

    async def step(self, step: str, argument: Any) -> None:
        admin, programme = self.programme.admin, self.programme
        name = f"{self.kind} {next(programme.numbers)}"
        if step == "buy":
            answer = await admin.report(name, self.kind, self.referee, value=usd(argument))
            assert answer.status == 201, answer.body
            self.events.append(name)
            self.rewards += answer.body["rewards"]
        elif step == "refund" and self.events:
            await programme.refund(self.events[-1], argument, name)
        elif step in ("spend", "reserve"):
            members = {"hold_seconds": 60} if step == "reserve" else {}
            await programme.redeem(self.referrer, argument, name.replace(" ", "-"), **members)
        elif step in ("approve", "reject", "reverse", "fulfil") and self.rewards:
            members = {
                "approve": {"now": argument},
                "reject": {"reason": "x"},
                "reverse": {"id": name, "amount": argument, "reason": "x"},
                "fulfil": {},
            }[step]
            await programme.step(self.rewards[len(self.events) * 7 % len(self.rewards)], step, **members)
        elif step == "suspect":
            await programme.suspect(self.referee, argument)
        elif step == "clear":
            await programme.decide("clear", self.referee)
        elif step == "wait":
            self._harness.move_clock(DAY)
            await self._harness.end_holds()

    async def balances(self) -> dict[tuple[str, str], dict[str, Any]]:
        found = {}
        for user in (self.referee, self.referrer):
            user_id = (await self.programme.admin.get(f"/users/ext:{user}")).body["id"]
            for item in (await self.programme.admin.get(f"/users/ext:{user}/balances")).body["items"]:
                found[user_id, item["unit"]] = {"user_id": user_id, **item}
        return found

    async def reject(self) -> None:
        programme = self.programme
        await programme.suspect(self.referee, 1000)
        before, balances = await programme.review(self.referee), await self.balances()
        lines = {user: await programme.statement(user) for user in (self.referee, self.referrer)}
        foretold = await programme.foretold(self.referee)
        answer = await programme.decide("reject", self.referee)
        assert answer.status == 200, answer.body
        # Rewards.
        effects = {one["id"]: one for one in foretold["rewards"]}
        states = {reward["id"]: reward for reward in before["rewards"]}
        for reward in answer.body["rewards"]:
            was = states[reward["id"]]
            if reward["id"] in effects:
                effect = effects[reward["id"]]
                assert reward["status"] == effect["effect"] != was["status"]
                assert effect["user_id"] == reward["user_id"]
                left = None if was["value"] is None else was["value"]["amount"] - was["reversed"]
                assert (effect["value"] or {}).get("amount") == left
            else:
                assert reward == was
                assert reward["status"] in ("void", "reversed")
        # Balances: those foretold, and no other.
        assert await self.balances() == balances | {(one["user_id"], one["unit"]): one for one in foretold["balances"]}
        # Lines: one for each amount that is taken from what is available.
        for user in lines:
            new = (await programme.statement(user))[len(lines[user]) :]
            user_id = (await programme.admin.get(f"/users/ext:{user}")).body["id"]
            taken = [
                -one["value"]["amount"]
                for one in foretold["rewards"]
                if one["effect"] == "reversed" and one["user_id"] == user_id and one["value"] is not None
                if states[one["id"]]["kind"] == "balance"
            ]
            assert [(kind, amount) for kind, amount, _ in new] == [("retraction", amount) for amount in taken]
        assert await programme.foretold(self.referee) == {"rewards": [], "balances": []}
        # And later events and refunds change nothing.
        after = await self.balances()
        for event in self.events:
            await programme.refund(event, None, f"late {event}")
        late = await programme.admin.report(f"{self.kind} late", self.kind, self.referee, value=usd(500))
        assert (late.status, late.body["rewards"]) == (201, [])
        assert await self.balances() == after


@pytest.fixture
def harness(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    harness = Harness(make_config, monkeypatch)
    yield harness
    harness.close()


def test_a_rejection_does_what_was_foretold_whatever_happened_before(harness: Harness) -> None:
    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def check(steps: list[tuple[str, Any]]) -> None:
        history = History(harness, next(harness.examples))

        async def play() -> None:
            await history.begin()
            for step, argument in steps:
                await history.step(step, argument)
            await history.reject()

        harness.run(play())

    check()
    assert harness.run(harness.differences()) == []


async def test_a_rejection_and_releases_at_once_leave_nothing(
    programme: Programme, database: Database, database_url: str
) -> None:
    """Holds that end at the very moment of the decision."""
    await programme.rule(hold_days=1, times=None)
    await programme.come()
    for _ in range(20):
        await programme.buy()
    await programme.suspect()
    await programme.decide("clear")
    await programme.suspect()
    await sql(database_url, f"UPDATE rewards SET release_at = {now() - 1}, due_at = {now() - 1}")
    workers = [HoldWorker(database, Relay(database)) for _ in range(4)]
    await asyncio.gather(programme.decide("reject"), *(worker.work_off() for worker in workers))
    assert {reward["status"] for reward in (await programme.review())["rewards"]} <= {"void", "reversed"}
    balance = await programme.balance("alice")
    assert (balance["pending"], balance["available"]) == (0, 0)


# What is kept


async def test_evidence_of_contexts_goes_with_their_keys_and_the_verdict_stays(
    programme: Programme, client: Client, database_url: str
) -> None:
    await programme.come()
    await programme.suspect()
    (bob,) = (await sql(database_url, "SELECT id FROM users WHERE external_id = 'bob'"))[0]
    for kind, age in (("same-device", 91), ("same-network", 89), ("same-payment", 91), ("burst", 900)):
        at = now() - age * DAY
        await sql(
            database_url,
            "INSERT INTO signals (user_id, kind, reference, weight, evidence, at) "
            f"VALUES ('{bob}', '{kind}', '', 0, '{{\"seen\": 2}}', {at})",
        )
    await housekeeping._delete_old_contexts(client.app[CONFIG], client.app[DATABASE])
    kept = {one["kind"]: one["evidence"] for one in (await programme.review())["signals"]}
    assert kept == {
        "burst": {"seen": 2},
        "same-device": None,
        "same-payment": None,
        "same-network": {"seen": 2},
        "reported": {"note": "Odd"},
    }
    assert len((await programme.review())["signals"]) == 5


async def test_an_erasure_takes_evidence_and_reasons_and_leaves_the_verdict(
    programme: Programme, client: Client, database_url: str
) -> None:
    await programme.rule(hold_days=30)
    await programme.come()
    await programme.buy()
    await programme.suspect(note="Bob Archer again")
    await programme.decide("clear", reason="Bob Archer is fine")
    await programme.suspect(note="Bob Archer once more")
    bob = (await programme.review())["user"]["id"]
    assert (await programme.admin.delete("/users/ext:bob")).status == 204
    review = (await programme.admin.get(f"/reviews/{bob}")).body
    assert (review["status"], review["score"], review["reason"]) == ("open", 100, None)
    assert [one["evidence"] for one in review["signals"]] == [None, None]
    assert (review["user"], review["external_id"]) == ({"id": bob, "username": None, "name": None}, None)
    left = await sql(database_url, "SELECT evidence FROM signals WHERE evidence IS NOT NULL")
    assert left == []
    # What waits is still to be decided.
    refused = await programme.admin.post(f"/referrals/{bob}/signals", {"weight": 5, "note": "Bob"})
    assert refused.problem == "not-found"
    decided = await programme.admin.post(f"/reviews/{bob}/reject", {"reason": "x"})
    assert (decided.status, [reward["status"] for reward in decided.body["rewards"]]) == (200, ["void"])


async def test_a_referral_that_is_taken_back_takes_its_review_along(make_client: MakeClient, database_url: str) -> None:
    """Of an account whose address was never verified, as if it had never been."""
    client = await make_client(auth_unverified="limited")
    admin = await Product.with_key(client, "admin")
    alice = await Person.register(client, "alice")
    bob = await Person.register(client, "bob", referral_code=await alice.make_code())
    await admin.post(f"/referrals/{bob.id}/signals", {"weight": 60, "note": "x"})
    assert (await admin.get(f"/reviews/{bob.id}")).status == 200
    assert (await bob.delete("/users/me", {"password": bob.password})).status == 204
    for table in ("signals", "reviews", "referrals"):
        assert await count(database_url, table) == 0


async def test_an_export_has_the_review_of_the_user(programme: Programme) -> None:
    await programme.come()
    assert (await programme.admin.get("/users/ext:bob/export")).body["review"] is None
    await programme.suspect()
    await programme.decide("clear", reason="A family")
    document = (await programme.admin.get("/users/ext:bob/export")).body
    review, (signal,) = await programme.review(), document["signals"]
    assert document["review"] == {
        "status": "cleared",
        "score": 50,
        "opened_at": review["opened_at"],
        "decided_at": review["decided_at"],
        "reason": "A family",
    }
    assert signal == {"kind": "reported", "weight": 50, "at": review["signals"][0]["at"]}
