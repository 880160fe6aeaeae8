"""A user's timeline: every step once, in the order in which one led to the other, however it is paged."""

from __future__ import annotations

import pytest

from referral.database import DATABASE
from referral.rules.timeline import Step, steps_of
from tests.conftest import Client
from tests.support.people import Product
from tests.support.programme import SHARE, Programme
from tests.support.rows import sql

BEGINNING = (2**62, "~")


@pytest.fixture
async def busy(programme: Programme) -> Programme:
    """Bob came by a click on Alice's link, bought, and got a part of it back."""
    await programme.rule(give=SHARE, hold_days=0, times=None)
    await programme.rule("referee", give={"kind": "coupon", "label": "A month"}, hold_days=30)
    code = await programme.code_of("alice")
    admin = programme.admin
    click = (await admin.post("/clicks", {"code": code})).body["click_id"]
    await admin.report("s1", "signup", "bob", click_id=click)
    first = (await programme.buy(5000, event="p1")).body["rewards"]
    await programme.refund("p1", 1000, "r1")
    await programme.redeem("alice", 100, "d1")
    await programme.step(first[0], "reverse", id="by hand", amount=50, reason="A mistake")
    await admin.post("/users/ext:alice/suspend", {"reason": "a look"})
    await admin.post("/users/ext:alice/unsuspend")
    return programme


async def timeline(admin: Product, external_id: str, size: int = 100) -> list[Step]:
    """All of it, read in pages of this size."""
    user = await admin.user(external_id)
    found: list[Step] = []
    place = BEGINNING
    while True:
        async with admin.client.app[DATABASE].reader() as conn:
            page = await steps_of(conn, user["id"], place, size)
        found += page
        if len(page) < size:
            return found
        place = page[-1].place


def kinds(steps: list[Step]) -> list[str]:
    """Oldest first."""
    return [step.kind for step in reversed(steps)]


async def test_each_step_of_a_referral_is_there_with_its_reason(busy: Programme) -> None:
    bob = await timeline(busy.admin, "bob")
    assert sorted(kinds(bob)) == sorted(
        # He signed up as fast as no person does.
        ["act", "click", "joined", "signal", "event", "event", "reward", "event"]
    )
    assert [step.about.type for step in bob if step.kind == "event"] == ["refund", "purchase", "signup"]
    (joined,) = [step.about for step in bob if step.kind == "joined"]
    assert (joined.source, joined.review, joined.name) == ("click", "none", None)
    alice = await timeline(busy.admin, "alice")
    told = [kind for kind in kinds(alice) if kind != "act"]
    assert told == ["code-made", "brought", "reward", "approval", "taking", "spending", "taking"]
    takings = [step.about for step in alice if step.kind == "taking"]
    assert [(one.kind, one.amount, one.debit, one.reason) for one in takings] == [
        ("reversal", 50, "available", "A mistake"),
        ("refund", 200, "available", takings[1].reason),
    ]
    acts = [(step.about.event) for step in alice if step.kind == "act"]
    assert acts == ["account-unsuspended", "account-suspended", "reward-reversed", "registered"]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
async def test_pages_of_any_size_show_each_step_once(busy: Programme, size: int) -> None:
    for name in ("alice", "bob"):
        whole = await timeline(busy.admin, name)
        assert await timeline(busy.admin, name, size) == whole
        assert len({step.place for step in whole}) == len(whole)


async def test_steps_of_one_moment_are_not_lost_between_pages(busy: Programme, database_url: str) -> None:
    """All rewards, and what became of them, at one time: ranks and ids alone tell what was shown."""
    admin, moment = busy.admin, 1_700_000_000_000
    for number in range(4):
        await busy.buy(100, event=f"more {number}")
    await sql(database_url, f"UPDATE rewards SET created_at = {moment}")
    await sql(database_url, f"UPDATE rewards SET approved_at = {moment} WHERE approved_at IS NOT NULL")
    whole = await timeline(admin, "alice")
    assert kinds(whole)[:10] == ["reward"] * 5 + ["approval"] * 5
    for size in (1, 2, 7):
        assert await timeline(admin, "alice", size) == whole


async def test_somebody_whom_nothing_befell_has_been_registered(client: Client) -> None:
    admin = await Product.with_key(client, "admin")
    assert kinds(await timeline(admin, "nobody")) == ["act"]
