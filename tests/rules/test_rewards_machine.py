"""A programme in which anything happens in any order, against a small model that knows no ledger: events, refunds, changes
of rules, ends of holds, approvals, rejections, reversals, redemptions, suspensions and reviews.

The service runs on a clock that stands still until a step moves it, and holds end when the machine says so. After every
step each reward and each balance is what the model says; at the end of an example, `verify` finds no difference.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import referral.clock
from referral.app import create_app
from referral.background.holds import HoldWorker
from referral.background.relay import Relay
from referral.config.weights import DEFAULT_WEIGHTS
from referral.database import DATABASE
from tests.conftest import MakeConfig
from tests.support.machines import play
from tests.support.people import Answer, Product
from tests.support.programme import Programme, differences, usd
from tests.support.serving import client_of

# A longer search: `STATE_MACHINE_EXAMPLES=1000 make test ARGS=tests/rules/test_rewards_machine.py`.
EXAMPLES, STEPS = int(os.environ.get("STATE_MACHINE_EXAMPLES", "8")), 50
HOLD, TICK = 60_000, 45_000

ANY = st.integers(0, 9_999)
AMOUNTS = st.sampled_from([0, 1, 99, 101, 1000, 1000, 4999])


@dataclass
class Reward:
    """As the model has it."""

    rule: int | None
    owner: str
    event: str | None
    value: int
    by_percentage: bool
    release_at: int
    needs_approval: bool
    status: str = "pending"
    by_hand: int = 0
    by_refunds: int = 0
    is_retracted: bool = False

    @property
    def reversed(self) -> int:
        if self.is_retracted:
            return self.value
        return min(self.value, self.by_hand + self.by_refunds)

    @property
    def rest(self) -> int:
        return self.value - self.reversed


@dataclass
class Rule:
    side: str
    fixed: int | None
    percent: int
    times: int | None
    is_held: bool
    is_manual: bool
    budget: int | None
    per_referrer: int | None
    enabled: bool = True


@dataclass
class Event:
    referee: str
    amount: int
    refunded: int = 0


@dataclass
class Redemption:
    owner: str
    amount: int
    status: str


@dataclass
class Model:
    """Who came by whom, and what became of everything."""

    now: int
    referrer_of: dict[str, str]
    rules: list[Rule] = field(default_factory=list)
    events: dict[str, Event] = field(default_factory=dict)
    rewards: dict[str, Reward] = field(default_factory=dict)
    redemptions: dict[str, Redemption] = field(default_factory=dict)
    suspended: set[str] = field(default_factory=set)
    # Of the referral of each referee: the word, and what reports since the last decision come to.
    reviews: dict[str, str] = field(default_factory=dict)
    reported: dict[str, int] = field(default_factory=dict)

    def referee(self, reward: Reward) -> str | None:
        return self.events[reward.event].referee if reward.event else None

    def is_held(self, reward: Reward) -> bool:
        """Whether something else than its time and an approval keeps it."""
        return reward.owner in self.suspended or self.reviews.get(self.referee(reward) or "") == "open"

    def counted(self, index: int) -> list[Reward]:
        """The rule's rewards that are not void."""
        return [reward for reward in self.rewards.values() if reward.rule == index and reward.status != "void"]

    def expected(self, index: int, event: Event) -> int | None:
        """What a rule gives for an event, if anything."""
        found, given = self.rules[index], self.counted(index)
        owner = self.referrer_of[event.referee] if found.side == "referrer" else event.referee
        value = found.fixed if found.fixed is not None else event.amount * found.percent // 100
        referrer = self.referrer_of[event.referee]
        of_referrer = [one for one in given if self.referrer_of[self.referee(one) or ""] == referrer]
        of_referee = [one for one in given if self.referee(one) == event.referee]
        fits = (
            found.enabled
            and (found.times is None or len(of_referee) < found.times)
            and (found.per_referrer is None or len(of_referrer) < found.per_referrer)
            and (found.budget is None or sum(one.value for one in given) + value <= found.budget)
            and owner not in self.suspended
            and self.reviews.get(event.referee) != "rejected"
            and value > 0
        )
        return value if fits else None

    def balance(self, owner: str) -> dict[str, int]:
        own = [reward for reward in self.rewards.values() if reward.owner == owner]
        approved = [reward for reward in own if reward.status in ("approved", "reversed")]
        spent = [one for one in self.redemptions.values() if one.owner == owner]
        done = sum(one.amount for one in spent if one.status == "done")
        reserved = sum(one.amount for one in spent if one.status == "reserved")
        return {
            "pending": sum(reward.rest for reward in own if reward.status == "pending"),
            "available": sum(reward.rest for reward in approved) - done - reserved,
            "reserved": reserved,
            "spent": done,
        }


class Machine(RuleBasedStateMachine):
    """One example: its people, its rules and its type of events are its own."""

    harness: Harness

    def __init__(self) -> None:
        super().__init__()
        number = next(self.harness.examples)
        self.kind = f"buy{number}"
        self.names = {name: f"{name}{number}" for name in ("ann", "ben", "cat", "dan", "eve")}
        ann, ben, cat, dan, eve = self.names.values()
        self.model = Model(self.harness.clock, {ben: ann, cat: ann, dan: ann, ann: eve})
        self.numbers = itertools.count(1)
        self.made: list[dict[str, Any]] = []
        self.seen: dict[str, dict[str, int]] = {}
        for referee, referrer in self.model.referrer_of.items():
            self.run(self.programme.come(referee, referrer))

    @property
    def programme(self) -> Programme:
        return self.harness.programme

    def run(self, work: Any) -> Any:
        return self.harness.run(work)

    def step(self, reward_id: str, step: str, **members: Any) -> Answer:
        return self.run(self.programme.step({"id": reward_id}, step, **members))  # type: ignore[no-any-return]

    def some_reward(self, number: int) -> tuple[str, Reward] | None:
        # Rather a late one: early ones have ended.
        rewards = list(self.model.rewards.items())[-4:]
        return rewards[number % len(rewards)] if rewards else None

    def body_of(self, found: Rule) -> dict[str, Any]:
        percent = {"kind": "balance", "percent": str(found.percent)}
        fixed = {"kind": "balance", "unit": "USD", "fixed": found.fixed}
        budget = {"unit": "USD", "amount": found.budget, "period": "ever"} if found.budget else None
        per_referrer = {"count": found.per_referrer, "period": "ever"} if found.per_referrer else None
        return {
            "give": percent if found.fixed is None else fixed,
            "times": found.times,
            "hold_days": HOLD / 86_400_000 if found.is_held else 0,
            "approval": "manual" if found.is_manual else "automatic",
            "limits": {"budget": budget, "per_referrer": per_referrer},
            "enabled": found.enabled,
        }

    any_rule = st.builds(
        Rule,
        side=st.sampled_from(["referrer", "referee"]),
        fixed=st.none() | st.sampled_from([1, 50, 500]),
        percent=st.sampled_from([1, 20, 33, 100]),
        times=st.sampled_from([None, None, 1, 2]),
        is_held=st.booleans(),
        is_manual=st.booleans(),
        budget=st.sampled_from([None, None, 500, 1500]),
        per_referrer=st.sampled_from([None, None, 2]),
    )

    @initialize(found=any_rule)
    def there_is_a_rule(self, found: Rule) -> None:
        self.a_rule_is_made(found)

    @rule(found=any_rule)
    def a_rule_is_made(self, found: Rule) -> None:
        if len(self.made) < 3:
            body = {"to": found.side, "on": self.kind, **self.body_of(found)}
            self.made.append(self.run(self.programme.rule(**body)))
            self.model.rules.append(found)

    @rule(number=ANY, found=any_rule, enabled=st.booleans())
    def a_rule_is_changed(self, number: int, found: Rule, enabled: bool) -> None:
        if self.made:
            index = number % len(self.made)
            changed = replace(found, side=self.model.rules[index].side, enabled=enabled)
            self.run(self.programme.change(self.made[index], **self.body_of(changed)))
            self.model.rules[index] = changed

    @rule(who=ANY, amount=AMOUNTS)
    def somebody_buys(self, who: int, amount: int) -> None:
        self.buy(who, amount)

    @rule(amount=AMOUNTS, times=st.integers(1, 3))
    def one_buys_again_and_again(self, amount: int, times: int) -> None:
        for _ in range(times):
            self.buy(0, amount)

    def buy(self, who: int, amount: int) -> None:
        model, referees = self.model, list(self.model.referrer_of)
        event_id, event = f"{self.kind} {next(self.numbers)}", Event(referees[who % len(referees)], amount)
        expected = {index: model.expected(index, event) for index in range(len(model.rules))}
        answer = self.run(self.programme.admin.report(event_id, self.kind, event.referee, value=usd(amount)))
        assert answer.status == 201, answer.body
        model.events[event_id] = event
        is_reviewed = model.reviews.get(event.referee) == "open"
        given = {}
        for reward in answer.body["rewards"]:
            index = next(i for i, made in enumerate(self.made) if made["id"] == reward["rule"]["id"])
            found = model.rules[index]
            given[index] = reward["value"]["amount"]
            model.rewards[reward["id"]] = Reward(
                index,
                model.referrer_of[event.referee] if found.side == "referrer" else event.referee,
                event_id,
                reward["value"]["amount"],
                found.fixed is None,
                model.now + (HOLD if found.is_held else 0),
                found.is_manual,
                "pending" if found.is_held or found.is_manual or is_reviewed else "approved",
            )
        assert given == {index: value for index, value in expected.items() if value is not None}

    @rule(number=ANY, amount=st.none() | AMOUNTS)
    def an_event_is_refunded(self, number: int, amount: int | None) -> None:
        model = self.model
        if not model.events or amount == 0:
            return
        event_id = list(model.events)[-4:][number % min(len(model.events), 4)]
        event = model.events[event_id]
        answer = self.run(self.programme.refund(event_id, amount, f"{self.kind} {next(self.numbers)}"))
        left = event.amount - event.refunded
        if left == 0 or (amount is not None and amount > left):
            assert answer.problem == "refund-too-large"
            return
        assert answer.status == 201
        event.refunded += left if amount is None else amount
        for reward in model.rewards.values():
            if reward.event == event_id and reward.status in ("pending", "approved"):
                remains = event.amount - event.refunded
                rest = reward.value if remains else 0
                if reward.by_percentage:
                    rest = reward.value * remains // event.amount
                reward.by_refunds = reward.value - rest
                self.settle(reward)

    def settle(self, reward: Reward) -> None:
        if reward.reversed == reward.value:
            reward.status = "void" if reward.status == "pending" else "reversed"

    @rule()
    def time_goes_by(self) -> None:
        self.model.now = self.harness.move_clock(TICK)
        self.run(self.harness.end_holds())
        for reward in self.model.rewards.values():
            is_due = reward.status == "pending" and reward.release_at <= self.model.now and not reward.needs_approval
            if is_due and not self.model.is_held(reward):
                reward.status = "approved"

    @rule(number=ANY, at_once=st.booleans())
    def a_reward_is_approved(self, number: int, at_once: bool) -> None:
        found = self.some_reward(number)
        if found is None:
            return
        reward_id, reward = found
        answer = self.step(reward_id, "approve", now=at_once)
        if reward.status not in ("pending", "approved"):
            assert answer.problem == "reward-state"
            return
        assert answer.status == 200
        if reward.status == "pending":
            reward.needs_approval = False
            reward.release_at = min(reward.release_at, self.model.now) if at_once else reward.release_at
            if reward.release_at <= self.model.now and not self.model.is_held(reward):
                reward.status = "approved"

    @rule(number=ANY)
    def a_reward_is_rejected(self, number: int) -> None:
        found = self.some_reward(number)
        if found is None:
            return
        reward_id, reward = found
        answer = self.step(reward_id, "reject", reason="No")
        assert answer.status == (200 if reward.status in ("pending", "void") else 409)
        if reward.status == "pending":
            reward.status = "void"

    @rule(number=ANY, amount=st.none() | st.sampled_from([1, 50, 400]))
    def a_reward_is_reversed(self, number: int, amount: int | None) -> None:
        found = self.some_reward(number)
        if found is None:
            return
        reward_id, reward = found
        reversal_id = f"{self.kind} {next(self.numbers)}"
        answer = self.step(reward_id, "reverse", id=reversal_id, amount=amount, reason="Back")
        if reward.status != "approved":
            assert answer.problem == "reward-state"
        elif amount is not None and amount > reward.rest:
            assert answer.pointers == ["/amount"]
        else:
            assert answer.status == 200
            # What refunds took counts beside it, up to the value.
            reward.by_hand += reward.rest if amount is None else amount
            self.settle(reward)

    @rule(who=ANY, amount=st.sampled_from([5, 500]))
    def a_reward_is_given_by_hand(self, who: int, amount: int) -> None:
        owner = list(self.names.values())[who % len(self.names)]
        body = {"id": f"{self.kind} {next(self.numbers)}", "user": {"external_id": owner}, "kind": "balance"}
        answer = self.run(self.programme.admin.post("/rewards", {**body, "value": usd(amount), "reason": "x"}))
        if owner in self.model.suspended:
            assert answer.problem == "user-suspended"
            return
        given = Reward(None, owner, None, amount, False, self.model.now, False, "approved")
        self.model.rewards[answer.body["id"]] = given

    @rule(who=ANY, amount=st.sampled_from([1, 60, 500]), is_reserved=st.booleans())
    def somebody_spends(self, who: int, amount: int, is_reserved: bool) -> None:
        owner = list(self.names.values())[who % len(self.names)]
        redemption_id = f"{self.kind}-{next(self.numbers)}"
        members = {"hold_seconds": 86_400} if is_reserved else {}
        answer = self.run(self.programme.redeem(owner, amount, redemption_id, **members))
        if owner in self.model.suspended:
            assert answer.problem == "user-suspended"
        elif self.model.balance(owner)["available"] < amount:
            assert answer.problem == "insufficient-balance"
        else:
            assert answer.status == 201
            self.model.redemptions[redemption_id] = Redemption(owner, amount, "reserved" if is_reserved else "done")

    @rule(number=ANY, step=st.sampled_from(["cancel", "capture", "release"]))
    def a_redemption_ends(self, number: int, step: str) -> None:
        if not self.model.redemptions:
            return
        redemption_id = list(self.model.redemptions)[number % len(self.model.redemptions)]
        redemption = self.model.redemptions[redemption_id]
        answer = self.run(self.programme.admin.post(f"/redemptions/{redemption_id}/{step}"))
        ends = {
            ("reserved", "cancel"): "released",
            ("reserved", "capture"): "done",
            ("reserved", "release"): "released",
            ("done", "cancel"): "cancelled",
            ("done", "capture"): "done",
            ("released", "release"): "released",
            ("cancelled", "cancel"): "cancelled",
        }
        end = ends.get((redemption.status, step))
        assert answer.status == (200 if end else 409)
        redemption.status = end or redemption.status

    @rule(who=ANY)
    def somebody_is_suspended_or_is_not_any_more(self, who: int) -> None:
        owner = list(self.names.values())[who % len(self.names)]
        suspended = self.model.suspended
        step, body = ("unsuspend", None) if owner in suspended else ("suspend", {"reason": "Odd"})
        assert self.run(self.programme.admin.post(f"/users/ext:{owner}/{step}", body)).status == 200
        suspended.symmetric_difference_update({owner})

    @rule(who=ANY, weight=st.sampled_from([20, 50]))
    def somebody_is_reported(self, who: int, weight: int) -> None:
        model, referees = self.model, list(self.model.referrer_of)
        referee = referees[who % len(referees)]
        self.run(self.programme.suspect(referee, weight))
        if model.reviews.get(referee) != "rejected":
            model.reported[referee] = model.reported.get(referee, 0) + weight
            if model.reported[referee] >= 50:
                model.reviews[referee] = "open"

    @rule(who=ANY, step=st.sampled_from(["clear", "clear", "reject"]))
    def a_review_is_decided(self, who: int, step: str) -> None:
        # Of those that were opened: of the others there is nothing to decide.
        model, referees = self.model, list(self.model.reviews)
        if not referees:
            return
        referee = referees[who % len(referees)]
        answer = self.run(self.programme.decide(step, referee))
        wanted = {"clear": "cleared", "reject": "rejected"}[step]
        if model.reviews[referee] != "open":
            assert answer.status == (200 if model.reviews[referee] == wanted else 409)
            return
        assert answer.status == 200, answer.body
        model.reviews[referee], model.reported[referee] = wanted, 0
        for reward in model.rewards.values():
            if wanted == "rejected" and model.referee(reward) == referee:
                if reward.status == "approved":
                    reward.status, reward.is_retracted = "reversed", True
                elif reward.status == "pending":
                    reward.status = "void"

    @invariant()
    def rewards_and_balances_are_what_the_model_says(self) -> None:
        async def look() -> tuple[dict[str, tuple[str, int]], dict[str, dict[str, int]]]:
            # Those of other examples are older.
            newest = (await self.programme.admin.get("/rewards?limit=100")).body["items"]
            mine = {reward["id"]: (reward["status"], reward["reversed"]) for reward in newest}
            changed = [owner for owner in self.names.values() if self.model.balance(owner) != self.seen.get(owner)]
            balances = {owner: await self.programme.balance(owner) for owner in changed}
            return {reward_id: mine[reward_id] for reward_id in list(self.model.rewards)[-100:]}, balances

        rewards, balances = self.run(look())
        for reward_id, found in rewards.items():
            expected = self.model.rewards[reward_id]
            assert found == (expected.status, expected.reversed)
        for owner, balance in balances.items():
            self.seen[owner] = self.model.balance(owner)
            assert {name: balance[name] for name in self.seen[owner]} == self.seen[owner], owner

    def teardown(self) -> None:
        self.seen.clear()
        self.rewards_and_balances_are_what_the_model_says()
        assert self.run(self.harness.differences()) == []


class Harness:
    """The service in an event loop of its own, on a clock that the machine moves; nothing ends holds but the machine."""

    def __init__(self, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        async def rest(_: HoldWorker) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(HoldWorker, "run", rest)
        self._loop = asyncio.Runner()
        self.clock = time.time_ns() // 1_000_000
        monkeypatch.setattr(referral.clock, "time", SimpleNamespace(time_ns=lambda: self.clock * 1_000_000))
        self.examples = itertools.count(1)
        self.programme: Programme = self.run(self._open(make_config))

    async def _open(self, make_config: MakeConfig) -> Programme:
        # Nothing is suspicious but what somebody reports.
        weights = ",".join(f"{kind}=0" for kind in DEFAULT_WEIGHTS)
        client = client_of(create_app(make_config(fraud_weights=weights)))
        await client.start_server()
        return Programme(await Product.with_key(client, "admin"))

    def run(self, work: Any) -> Any:
        return self._loop.run(work)

    def move_clock(self, milliseconds: int) -> int:
        self.clock += milliseconds
        return self.clock

    async def end_holds(self) -> None:
        await HoldWorker(
            self.programme.admin.client.app[DATABASE], Relay(self.programme.admin.client.app[DATABASE])
        ).work_off()

    async def differences(self) -> list[str]:
        return await differences(self.programme.admin.client.app[DATABASE])

    def close(self) -> None:
        self.run(self.programme.admin.client.close())
        self._loop.close()


@pytest.fixture
def harness(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    harness = Harness(make_config, monkeypatch)
    yield harness
    harness.close()


def test_the_programme_keeps_to_its_rules_whatever_happens(harness: Harness) -> None:
    service = harness

    class Here(Machine):
        harness = service

    play(Here, EXAMPLES, STEPS)
