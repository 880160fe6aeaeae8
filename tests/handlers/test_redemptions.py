"""Redemptions: what is spent, reserved, captured, released and cancelled; never more than is there, and once for each id."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from referral.background.holds import HoldWorker
from referral.background.relay import Relay
from referral.clock import now
from referral.database import Database
from tests.conftest import Client, MakeClient
from tests.support.people import UNKNOWN, Person, Product
from tests.support.programme import Programme, usd
from tests.support.rows import count, sql

pytestmark = pytest.mark.usefixtures("verified")

ONCE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"])


def balance(available: int, reserved: int = 0, spent: int = 0, earned: int = 1000) -> dict[str, Any]:
    sums = {"pending": 0, "available": available, "reserved": reserved, "earned": earned, "spent": spent, "reversed": 0}
    return {"unit": "USD", **sums}


async def test_what_is_spent_is_answered_with_the_balance_after_it_and_again_the_same(programme: Programme) -> None:
    await programme.give("carol", 1000)
    carol = (await programme.admin.get("/users/ext:carol")).body["id"]
    first = await programme.redeem("carol", 300, "order/17", reference="Order 17", note="Taken off")
    assert first.status == 201
    assert first.body == {
        "id": "order/17",
        "user_id": carol,
        **usd(300),
        "status": "done",
        "reference": "Order 17",
        "note": "Taken off",
        "created_at": first.body["created_at"],
        "expires_at": None,
        "balance": balance(700, spent=300),
    }
    await programme.redeem("carol", 700)
    again = await programme.redeem("carol", 300, "order/17", reference="Order 17", note="Taken off")
    assert (again.status, again.headers["Idempotency-Replayed"], again.body) == (200, "true", first.body)
    for amount, members in ((301, {"reference": "Order 17", "note": "Taken off"}), (300, {}), (300, {"hold_seconds": 60})):
        assert (await programme.redeem("carol", amount, "order/17", **members)).problem == "id-mismatch"
    await programme.give("dora", 1000)
    other = await programme.redeem("dora", 300, "order/17", reference="Order 17", note="Taken off")
    assert other.problem == "id-mismatch"
    statement = (await programme.admin.get("/users/ext:carol/statement?unit=USD")).body
    assert [(line["redemption_id"], line["reference"], line["note"]) for line in statement["items"][1:2]] == [
        ("order/17", "Order 17", "Taken off")
    ]
    assert statement["total"] == 3


async def test_more_than_is_available_is_refused_and_its_id_is_free(programme: Programme, database_url: str) -> None:
    refused = await programme.redeem("carol", 1, "first")
    assert refused.problem == "not-found"
    await programme.admin.user("carol")
    for amount in (1, 2**53 - 1):
        refused = await programme.redeem("carol", amount, "first")
        assert (refused.problem, refused.body["available"]) == ("insufficient-balance", 0)
    await programme.give("carol", 100)
    refused = await programme.redeem("carol", 101, "first")
    assert (refused.problem, refused.body["available"]) == ("insufficient-balance", 100)
    assert await count(database_url, "redemptions") == 0
    assert (await programme.redeem("carol", 100, "first")).status == 201
    body = {"id": "x", "unit": "CHF", "amount": 1}
    assert (await programme.admin.post("/users/ext:carol/redemptions", body)).problem == "unit-unknown"
    assert (await programme.redeem("carol", 1, unit="EUR")).body["available"] == 0, "units are apart"


@ONCE_SQLITE
async def test_a_unit_that_is_none_any_more_can_be_spent_refunded_and_switched_off(make_client: MakeClient) -> None:
    programme = Programme(await Product.with_key(await make_client(), "admin"))
    rule = await programme.rule(times=None)
    await programme.come()
    await programme.buy(event="order")
    await programme.redeem("alice", 100, "first")
    programme.admin.client = await make_client(rewards_units="EUR")
    assert (await programme.buy()).problem == "unit-unknown"
    assert (await programme.redeem("alice", 100, "first")).status == 200
    assert (await programme.redeem("alice", 100)).status == 201
    assert (await programme.refund("order", 100)).status == 201
    assert (await programme.change(rule, enabled=False))["enabled"] is False
    other = {"give": {"kind": "balance", "unit": "GBP", "fixed": 5}}
    assert (await programme.admin.patch(f"/rules/{rule['id']}", other)).problem == "unit-unknown"


async def test_a_cancelled_redemption_is_given_back_once(programme: Programme) -> None:
    await programme.give("carol", 1000)
    await programme.redeem("carol", 400, "one")
    for _ in range(2):
        cancelled = await programme.admin.post("/redemptions/one/cancel")
        assert (cancelled.status, cancelled.body["status"], cancelled.body["balance"]) == (200, "cancelled", balance(1000))
    for step in ("capture", "release"):
        assert (await programme.admin.post(f"/redemptions/one/{step}")).problem == "redemption-state"
    # The first call again is answered as the first time: nothing is spent by it.
    again = await programme.redeem("carol", 400, "one")
    assert (again.status, again.body["status"], again.body["balance"]) == (200, "done", balance(600, spent=400))
    assert await programme.available("carol") == 1000
    assert await programme.statement("carol") == [
        ("approval", 1000, 1000),
        ("redemption", -400, 600),
        ("cancellation", 400, 1000),
    ]


async def test_a_reservation_is_captured_or_released_or_cancelled(programme: Programme) -> None:
    await programme.give("carol", 1000)
    reserved = await programme.redeem("carol", 400, "one", hold_seconds=60)
    assert (reserved.status, reserved.body["status"]) == (201, "reserved")
    assert reserved.body["expires_at"] > reserved.body["created_at"]
    assert reserved.body["balance"] == balance(600, reserved=400)
    assert (await programme.redeem("carol", 601)).problem == "insufficient-balance"
    for _ in range(2):
        captured = (await programme.admin.post("/redemptions/one/capture")).body
        assert (captured["status"], captured["expires_at"]) == ("done", None)
        assert captured["balance"] == balance(600, spent=400)
    assert (await programme.admin.post("/redemptions/one/release")).problem == "redemption-state"
    assert (await programme.admin.post("/redemptions/one/cancel")).body["balance"] == balance(1000)
    for name, step in (("two", "release"), ("three", "cancel")):
        await programme.redeem("carol", 100, name, hold_seconds=86_400)
        for _ in range(2):
            released = await programme.admin.post(f"/redemptions/{name}/{step}")
            assert (released.body["status"], released.body["balance"]) == ("released", balance(1000))
        assert (await programme.admin.post(f"/redemptions/{name}/capture")).problem == "redemption-state"
    again = await programme.redeem("carol", 100, "two", hold_seconds=86_400)
    assert (again.status, again.body["status"], again.body["expires_at"] is None) == (200, "reserved", False)
    assert [kind for kind, _, _ in await programme.statement("carol")] == [
        "approval",
        "reservation",
        "cancellation",
        "reservation",
        "release",
        "reservation",
        "release",
    ]


async def test_a_reservation_ends_by_itself_and_is_not_captured_after_its_time(
    programme: Programme, database: Database, database_url: str
) -> None:
    await programme.give("carol", 1000)
    await programme.redeem("carol", 400, "one", hold_seconds=60)
    await programme.redeem("carol", 100, "two", hold_seconds=60)
    await sql(database_url, f"UPDATE redemptions SET due_at = {now() - 1} WHERE id = 'one'")
    late = await programme.admin.post("/redemptions/one/capture")
    assert late.status == 409
    await HoldWorker(database, Relay(database)).work_off()
    assert (await programme.admin.post("/redemptions/one/capture")).problem == "redemption-state"
    assert (await programme.admin.post("/redemptions/one/release")).body["status"] == "released"
    assert (await programme.admin.post("/redemptions/two/capture")).body["balance"] == balance(900, spent=100)


@pytest.mark.parametrize("members", [{}, {"hold_seconds": 60}])
async def test_many_at_once_never_overdraw(programme: Programme, members: dict[str, Any]) -> None:
    await programme.give("carol", 1000)
    answers = await asyncio.gather(*(programme.redeem("carol", 90, **members) for _ in range(32)))
    statuses = [answer.status for answer in answers]
    assert (statuses.count(201), statuses.count(409)) == (11, 21)
    assert {answer.problem for answer in answers if answer.status == 409} == {"insufficient-balance"}
    assert await programme.available("carol") == 10
    assert [after for _, _, after in await programme.statement("carol")] == list(range(1000, 0, -90))


async def test_equal_ones_at_once_spend_once(programme: Programme) -> None:
    await programme.give("carol", 1000)
    answers = await asyncio.gather(*(programme.redeem("carol", 90, "once") for _ in range(32)))
    assert sorted(answer.status for answer in answers) == [200] * 31 + [201]
    assert len({str(answer.body) for answer in answers}) == 1
    assert await programme.available("carol") == 910
    ends = await asyncio.gather(*(programme.admin.post("/redemptions/once/cancel") for _ in range(8)))
    assert [answer.status for answer in ends] == [200] * 8
    assert await programme.available("carol") == 1000


@ONCE_SQLITE
async def test_whoever_is_suspended_or_gone_spends_nothing(programme: Programme) -> None:
    await programme.give("carol", 1000)
    await programme.admin.post("/users/ext:carol/suspend", {"reason": "Odd"})
    assert (await programme.redeem("carol", 1)).problem == "user-suspended"
    await programme.admin.post("/users/ext:carol/unsuspend")
    assert (await programme.redeem("carol", 1)).status == 201
    await programme.admin.delete("/users/ext:carol")
    for path in ("/users/ext:carol", f"/users/{UNKNOWN}"):
        answer = await programme.admin.post(f"{path}/redemptions", {"id": "x", **usd(1)})
        assert answer.problem == "not-found"


@ONCE_SQLITE
async def test_users_spend_themselves_only_where_that_is_on(
    make_client: MakeClient, client: Client, person: Callable[..., Awaitable[Person]]
) -> None:
    alice = await person("alice")
    programme = Programme(await Product.with_key(client, "admin"))
    body = {"id": "g", "user": {"id": alice.id}, "kind": "balance", "value": usd(500), "reason": "x"}
    await programme.admin.post("/rewards", body)
    spend = {"id": "mine", **usd(100)}
    assert (await alice.post("/users/me/redemptions", spend)).problem == "forbidden"
    assert (await alice.post("/redemptions/mine/cancel")).problem == "forbidden"
    on = await make_client(redemptions_by_user="true")
    alice.client = on
    mallory = await Person.register(on, "mallory")
    assert (await alice.post("/users/me/redemptions", spend)).status == 201
    assert (await alice.post("/users/me/redemptions", {**spend, "id": "r", "hold_seconds": 60})).problem == "forbidden"
    assert (await mallory.post(f"/users/{alice.id}/redemptions", {**spend, "id": "theirs"})).problem == "forbidden"
    assert (await mallory.post("/redemptions/mine/cancel")).problem == "not-found"
    assert (await mallory.get("/redemptions/mine")).problem == "not-found"
    assert (await alice.get("/redemptions/mine")).body["status"] == "done"
    # What the product redeemed, and has delivered for, is not the user's to cancel.
    for name, members in (("order", {}), ("held", {"hold_seconds": 60})):
        made = await programme.admin.post(f"/users/{alice.id}/redemptions", {"id": name, **usd(10), **members})
        assert made.headers["Location"].endswith(f"/redemptions/{name}")
        assert (await alice.post(f"/redemptions/{name}/cancel")).problem == "forbidden"
    for step in ("capture", "release"):
        assert (await alice.post(f"/redemptions/mine/{step}")).problem == "forbidden"
    assert (await alice.post("/redemptions/mine/cancel")).body["status"] == "cancelled"
    for scope in ("read",):
        reader = await Product.with_key(on, scope)
        assert (await reader.post("/users/ext:x/redemptions", spend)).problem == "forbidden"
    for name in (".", ".."):
        assert (await programme.admin.post(f"/users/{alice.id}/redemptions", {"id": name, **usd(1)})).pointers == ["/id"]
    for name in ("none", "%00", "x" * 129, "%0A"):
        assert (await programme.admin.post(f"/redemptions/{name}/cancel")).problem == "not-found"


async def test_a_statement_comes_in_pages(programme: Programme) -> None:
    for number in range(7):
        await programme.give("carol", 100 + number)
    lines: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await programme.admin.get("/users/ext:carol/statement", params={"unit": "USD", "limit": "3", **cursor})).body
        assert page["total"] == 7
        lines += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert [line["amount"] for line in lines] == list(range(106, 99, -1))
    assert lines[0]["balance_after"] == sum(range(100, 107))
    empty = (await programme.admin.get("/users/ext:carol/statement?unit=POINTS")).body
    assert (empty["items"], empty["total"]) == ([], 0)
