"""Races of rewards, between requests and the worker of holds, of two services on one database: whatever comes first,
nothing is given, taken or spent twice."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import Any

import pytest

from referral.background.holds import HoldWorker
from referral.background.relay import Relay
from referral.clock import now
from referral.database import DATABASE
from tests.conftest import MakeClient
from tests.support.people import Answer, Product
from tests.support.programme import SHARE, Programme
from tests.support.rows import sql

pytestmark = pytest.mark.usefixtures("verified")

AT_ONCE = 32
ROUNDS = 6


class Pair:
    """Two services on one database, which are asked in turns."""

    def __init__(self, programmes: list[Programme], url: str) -> None:
        self.programmes = programmes
        self.url = url
        self._turns = itertools.cycle(programmes)

    @property
    def one(self) -> Programme:
        """Whichever is next."""
        return next(self._turns)

    @property
    def first(self) -> Programme:
        return self.programmes[0]

    async def end_holds(self) -> int:
        """Both workers find at once that all holds are over."""
        await sql(self.url, f"UPDATE rewards SET due_at = {now() - 1} WHERE due_at IS NOT NULL")
        workers = [
            HoldWorker(programme.admin.client.app[DATABASE], Relay(programme.admin.client.app[DATABASE]))
            for programme in self.programmes
        ]
        return sum(await asyncio.gather(*(worker.work_off() for worker in workers)))

    async def make_due(self) -> None:
        await sql(self.url, f"UPDATE rewards SET release_at = {now() - 1}, due_at = {now() - 1} WHERE due_at IS NOT NULL")


@pytest.fixture
async def pair(make_client: MakeClient, database_url: str) -> Pair:
    # So many refunds of one referrer's would open a review, which holds what these tests are to see given.
    clients = [await make_client(cache_url="none://", fraud_review_at="0") for _ in range(2)]
    admin = await Product.with_key(clients[0], "admin")
    programmes = [Programme(Product(client, "", tokens=admin.tokens)) for client in clients]
    programmes[1].codes, programmes[1].numbers = programmes[0].codes, programmes[0].numbers
    return Pair(programmes, database_url)


async def done(answers: list[Answer], *allowed: int) -> Counter[int]:
    """How often each status was answered, which are these."""
    found = Counter(answer.status for answer in answers)
    assert found.keys() <= set(allowed), [answer.body for answer in answers if answer.status not in allowed]
    return found


async def test_equal_events_at_once_are_rewarded_once(pair: Pair) -> None:
    await pair.first.rule(times=None)
    await pair.first.rule("referee", times=None, hold_days=1)
    await pair.first.come()
    answers = await asyncio.gather(*(pair.one.buy(event="the one") for _ in range(AT_ONCE)))
    assert await done(answers, 200, 201) == {200: AT_ONCE - 1, 201: 1}
    assert len({str(answer.body) for answer in answers}) == 1
    assert len(await pair.first.rewards()) == 2
    assert await pair.first.available("alice") == 500


async def test_events_at_once_on_a_budget_for_ten_are_rewarded_ten_times(pair: Pair) -> None:
    budget = {"budget": {"unit": "USD", "amount": 5000, "period": "ever"}}
    rule = await pair.first.rule(times=None, limits=budget)
    await pair.first.come()
    answers = await asyncio.gather(*(pair.one.buy(event=f"e{number}") for number in range(AT_ONCE)))
    assert await done(answers, 201) == {201: AT_ONCE}
    given = [answer for answer in answers if answer.body["rewards"]]
    assert len(given) == 10
    assert {one["reason"] for answer in answers for one in answer.body["skipped"]} == {"budget"}
    assert (await pair.first.admin.get(f"/rules/{rule['id']}")).body["spent"] == {"unit": "USD", "amount": 5000, "count": 10}
    assert await pair.first.available("alice") == 5000


async def test_events_at_once_of_one_referee_are_rewarded_as_often_as_the_rule_says(pair: Pair) -> None:
    await pair.first.rule(times=3, hold_days=1)
    await pair.first.come()
    answers = await asyncio.gather(*(pair.one.buy(event=f"e{number}") for number in range(AT_ONCE)))
    assert sum(len(answer.body["rewards"]) for answer in answers) == 3
    assert sorted(await sql(pair.url, "SELECT ordinal FROM rewards")) == [(1,), (2,), (3,)]


async def test_a_refund_against_an_approval_leaves_nothing_whichever_comes_first(pair: Pair) -> None:
    await pair.first.rule(hold_days=1, times=None)
    await pair.first.come()
    ends = set()
    for number in range(ROUNDS):
        (reward,) = (await pair.first.buy(event=f"e{number}")).body["rewards"]
        approval, refund = await asyncio.gather(
            pair.one.step(reward, "approve", now=True), pair.one.refund(f"e{number}", refund=f"r{number}")
        )
        await done([approval], 200, 409)
        await done([refund], 201)
        kept = await pair.first.reward(reward["id"])
        assert (kept["status"], approval.status) in (("reversed", 200), ("void", 409))
        ends.add(kept["status"])
        balance = await pair.first.balance("alice")
        assert (balance["pending"], balance["available"]) == (0, 0)


async def test_two_refunds_at_once_take_no_more_than_there_is(pair: Pair) -> None:
    await pair.first.rule(give=SHARE, times=None)
    await pair.first.come()
    for number in range(ROUNDS):
        (reward,) = (await pair.first.buy(1000, event=f"e{number}")).body["rewards"]
        answers = await asyncio.gather(
            *(pair.one.refund(f"e{number}", 600, f"r{number} {part}") for part in range(2)),
            *(pair.one.refund(f"e{number}", 400, f"s{number}") for _ in range(2)),
        )
        await done(answers, 200, 201, 422)
        refunded = (await pair.first.admin.get(f"/events/e{number}")).body["refunded"]["amount"]
        assert refunded == 1000
        assert (await pair.first.reward(reward["id"]))["status"] == "reversed"
        assert await pair.first.available("alice") == 0


async def test_a_rejection_against_the_end_of_a_hold_is_one_of_both(pair: Pair) -> None:
    await pair.first.rule(hold_days=1, times=None)
    await pair.first.come()
    available = 0
    for number in range(ROUNDS):
        (reward,) = (await pair.first.buy(event=f"e{number}")).body["rewards"]
        rejection, *_ = await asyncio.gather(pair.one.step(reward, "reject", reason="No"), pair.end_holds())
        await done([rejection], 200, 409)
        kept = await pair.first.reward(reward["id"])
        assert (kept["status"], rejection.status) in (("void", 200), ("approved", 409))
        available += 500 if kept["status"] == "approved" else 0
        balance = await pair.first.balance("alice")
        assert (balance["pending"], balance["available"], balance["earned"]) == (0, available, available)


async def test_a_refund_against_the_end_of_a_hold_leaves_nothing(pair: Pair) -> None:
    await pair.first.rule(hold_days=1, times=None)
    await pair.first.rule("referee", hold_days=1, times=None)
    await pair.first.come()
    for number in range(ROUNDS):
        await pair.first.buy(event=f"e{number}")
        await pair.make_due()
        refund, *_ = await asyncio.gather(pair.one.refund(f"e{number}"), pair.end_holds())
        await done([refund], 201)
        for name in ("alice", "bob"):
            balance = await pair.first.balance(name)
            assert (balance["pending"], balance["available"]) == (0, 0)


async def test_a_redemption_against_a_claw_back_spends_what_is_there_or_nothing(pair: Pair) -> None:
    await pair.first.rule(times=None)
    await pair.first.come()
    for number in range(ROUNDS):
        await pair.first.buy(event=f"e{number}")
        before = await pair.first.available("alice")
        # What earlier rounds left as a debt is made good.
        await pair.first.give("alice", 500 - before) if before < 500 else None
        spent, refund = await asyncio.gather(
            pair.one.redeem("alice", 500, f"d{number}"), pair.one.refund(f"e{number}", refund=f"r{number}")
        )
        await done([spent], 201, 409)
        await done([refund], 201)
        assert await pair.first.available("alice") == (-500 if spent.status == 201 else 0)


async def test_redemptions_against_releases_and_cancellations_never_overdraw(pair: Pair) -> None:
    await pair.first.give("carol", 1000)
    steps = ("capture", "release", "cancel")
    for number in range(3):
        reserved = await asyncio.gather(
            *(pair.one.redeem("carol", 300, f"d{number} {part}", hold_seconds=60) for part in range(5))
        )
        held = [answer.body["id"] for answer in reserved if answer.status == 201]
        assert len(held) == (await pair.first.available("carol") + 300 * len(held)) // 300
        await sql(pair.url, f"UPDATE redemptions SET due_at = {now() - 1} WHERE due_at IS NOT NULL AND id LIKE '% 1'")
        ends: list[Any] = [
            pair.one.admin.post(f"/redemptions/{name.replace(' ', '%20')}/{step}") for name in held for step in steps
        ]
        answers = await asyncio.gather(*ends, pair.end_holds(), *(pair.one.redeem("carol", 100) for _ in range(4)))
        await done([answer for answer in answers if isinstance(answer, Answer)], 200, 201, 409)
        assert (await pair.first.balance("carol"))["available"] >= 0
        await pair.end_holds()
        assert (await pair.first.balance("carol"))["reserved"] == 0


async def test_a_suspension_against_the_end_of_a_hold_and_its_own_end_loses_no_reward(pair: Pair) -> None:
    await pair.first.rule(hold_days=1, times=None)
    await pair.first.come()
    for number in range(ROUNDS):
        await pair.first.buy(event=f"e{number}")
        await pair.first.admin.post("/users/ext:alice/suspend", {"reason": "Odd"})
        await pair.make_due()
        await asyncio.gather(pair.one.admin.post("/users/ext:alice/unsuspend"), pair.end_holds())
        # Whatever was left alone meanwhile is due again.
        await pair.end_holds()
        assert (await pair.first.rewards())[-1]["status"] == "approved"


async def test_reversals_refunds_and_steps_at_once_end_where_one_after_the_other_would(pair: Pair) -> None:
    await pair.first.rule(give=SHARE, times=None, hold_days=1)
    await pair.first.rule("referee", times=None)
    await pair.first.come()
    for number in range(ROUNDS):
        held, given = (await pair.first.buy(1000, event=f"e{number}")).body["rewards"]
        answers = await asyncio.gather(
            pair.one.step(held, "approve", now=True),
            pair.one.step(held, "reject", reason="No"),
            *(pair.one.step(given, "reverse", id=f"v{number}", amount=200, reason="Some") for _ in range(4)),
            *(pair.one.step(given, "reverse", id=f"w{number} {part}", amount=200, reason="Some") for part in range(2)),
            pair.one.refund(f"e{number}", 300, f"r{number}"),
            pair.one.refund(f"e{number}", 300, f"r{number}"),
        )
        await done(answers, 200, 201, 409, 422)
        kept = await pair.first.reward(held["id"])
        assert kept["status"] in ("void", "approved")
        assert kept["reversed"] in ((60,) if kept["status"] == "approved" else (0, 60))
        taken = await pair.first.reward(given["id"])
        # Three ids ask for 200 each, and two fit; a refund of a part takes nothing of what is fixed.
        assert taken["reversed"] == 400


async def test_what_gives_limits_back_and_what_takes_them_wait_for_each_other_in_one_order(pair: Pair) -> None:
    """Refunds and rejections against events of other referees: on PostgreSQL nobody is undone by a deadlock."""
    limits = {"budget": {"unit": "USD", "amount": 10**9, "period": "ever"}, "per_referrer": {"count": 999, "period": "day"}}
    await pair.first.rule(times=None, hold_days=1)
    await pair.first.rule(times=None, hold_days=1, limits=limits)
    await pair.first.rule("referee", times=None, hold_days=1, limits=limits)
    for number in range(6):
        await pair.first.come(f"b{number}")
    for turn in range(3):
        bought = [await pair.one.buy(1000, f"b{number}", f"e{turn} {number}") for number in range(6)]
        answers = await asyncio.gather(
            *(pair.one.refund(f"e{turn} {number}", refund=f"r{turn} {number}") for number in range(3)),
            *(pair.one.step(bought[number].body["rewards"][1], "reject", reason="No") for number in range(3, 6)),
            *(pair.one.buy(1000, f"b{number}", f"f{turn} {number}") for number in range(6)),
        )
        await done(answers, 200, 201)
    if "postgres" in pair.url:
        found = await sql(pair.url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert found == [(0,)]
