"""Changes: each is told once with the whole object, to whoever asks and waits, and nothing personal is left of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, get_args

import orjson
import pytest
from aiohttp import ClientSession

from referral.background.holds import HoldWorker
from referral.background.mailer import MAILER
from referral.background.relay import RELAY, Relay
from referral.background.reminders import ReminderWorker
from referral.changes import PERSONAL
from referral.clock import now
from referral.config import CONFIG
from referral.database import DATABASE, Connection, Database
from referral.database.postgres import POOL_SIZE
from referral.queries import changes, codes, users
from referral.queries.changes import ChangeType, Feed
from tests.conftest import Client, Command, Eventually, Given, Mailed, MakeClient
from tests.support.feed import Change, Follower, kinds, of
from tests.support.people import API, PASSWORD, Answer, Person, Product
from tests.support.programme import SHARE, Programme
from tests.support.rows import FEED, count, everything, expire, is_at_rest, sql

pytestmark = pytest.mark.usefixtures("verified")

COUPON = {"kind": "coupon", "label": "A month"}
MakePerson = Callable[..., Awaitable[Person]]
# Those that are about webhooks.
LATER = {"webhook.disabled", "ping"}


@pytest.fixture
async def follower(client: Client) -> Follower:
    return Follower(await Product.with_key(client, "read"))


async def end_holds(database: Database, url: str) -> None:
    """Let all holds have ended, and let a worker find that."""
    await sql(url, f"UPDATE rewards SET release_at = {now() - 1} WHERE status = 'pending'")
    for table in ("rewards", "redemptions"):
        await sql(url, f"UPDATE {table} SET due_at = {now() - 1} WHERE due_at IS NOT NULL")
    await HoldWorker(database, Relay(database)).work_off()


# What is told


async def user(programme: Programme, name: str) -> dict[str, Any]:
    """A user as they are now; that their referrer has a name is not told of them."""
    found = dict((await programme.admin.get(f"/users/ext:{name}")).body)
    if found["referrer"] is not None:
        found["referrer"] = {**found["referrer"], "username": None, "name": None}
    return found


async def code(programme: Programme, name: str, text: str, ended_by: str | None = None) -> dict[str, Any]:
    """One of a user's codes as it is now, whose it is, and why it is not active."""
    items = (await programme.admin.get(f"/users/ext:{name}/codes")).body["items"]
    (found,) = [item for item in items if item["code"] == text]
    return {**found, "user_id": (await user(programme, name))["id"], "ended_by": ended_by}


async def referral(programme: Programme, referrer: str, user_id: str) -> dict[str, Any]:
    items = (await programme.admin.get(f"/users/ext:{referrer}/referrals")).body["items"]
    (found,) = [item for item in items if item["id"] == user_id]
    return {**found, "referrer_id": (await user(programme, referrer))["id"]}


async def balance(programme: Programme, name: str, unit: str = "USD") -> dict[str, Any]:
    found = {"unit": unit, **await programme.balance(name, unit)}
    return {"user_id": (await user(programme, name))["id"], **found}


async def test_that_a_user_is_there_is_told_however_they_came(
    programme: Programme,
    follower: Follower,
    person: MakePerson,
    command: Command,
    given: Given,
) -> None:
    await programme.admin.user("alice", email="a@example.com", name="Alice", username="ally", metadata={"plan": 1.5})
    (alice,) = await follower.news()
    assert (alice["type"], alice["version"], alice["seq"]) == ("user.created", 1, 1)
    assert alice["data"] == await user(programme, "alice")
    assert alice["subject_id"] == alice["data"]["id"]
    assert alice["at"] == alice["data"]["created_at"]
    await programme.come("bob", "alice")
    told = await follower.news()
    assert kinds(told) == ["code.created", "user.created", "referral.created"]
    assert of(told, "user.created")["data"] == await user(programme, "bob")
    assert of(told, "user.created")["data"]["referrer"] == {"id": alice["subject_id"], "username": None, "name": None}
    carol = await person("carol", referral_code=programme.codes["alice"])
    told = await follower.news()
    assert kinds(told) == ["user.created", "referral.created"]
    assert of(told, "user.created")["data"].items() >= {"id": carol.id, "email": carol.email, "username": "carol"}.items()
    given(f"{PASSWORD}\n".encode())
    await command("createsuperuser", "root@example.com")
    (root,) = await follower.news()
    assert (root["type"], root["data"]["email"], root["data"]["role"]) == ("user.created", "root@example.com", "admin")
    follower.check()


async def test_a_suspension_and_its_end_are_told_with_what_becomes_of_the_code(
    programme: Programme, follower: Follower, command: Command
) -> None:
    await programme.admin.user("alice", email="alice@example.com")
    text = await programme.code_of("alice")
    await follower.news()
    suspend: list[Callable[[], Awaitable[Any]]] = [
        lambda: programme.admin.post("/users/ext:alice/suspend", {"reason": "odd"}),
        lambda: command("users", "suspend", "alice@example.com", "--reason", "odd"),
    ]
    unsuspend: list[Callable[[], Awaitable[Any]]] = [
        lambda: programme.admin.post("/users/ext:alice/unsuspend"),
        lambda: command("users", "unsuspend", "alice@example.com"),
    ]
    for do, undo in zip(suspend, unsuspend, strict=True):
        await do()
        told = await follower.news()
        assert kinds(told) == ["user.suspended", "code.ended"]
        assert told[0]["data"] == await user(programme, "alice")
        assert told[0]["data"]["status"] == "suspended"
        assert told[1]["data"] == await code(programme, "alice", text, "suspended")
        new = await programme.admin.post("/users/ext:alice/codes", {"ttl_days": 3, "replace": True})
        if new.status == 201:
            text = new.body["code"]
            assert (await follower.news())[-1]["data"] == await code(programme, "alice", text, "suspended")
        await undo()
        told = await follower.news()
        assert kinds(told) == ["user.unsuspended", "code.updated"]
        assert told[0]["data"] == await user(programme, "alice")
        assert told[1]["data"] == await code(programme, "alice", text)
    follower.check()


async def test_what_becomes_of_codes_is_told(
    programme: Programme, follower: Follower, person: MakePerson, mailed: Mailed, database_url: str
) -> None:
    first = await programme.code_of("alice")
    told = await follower.news()
    assert of(told, "code.created")["data"] == await code(programme, "alice", first)
    assert of(told, "code.created")["subject_id"] == first
    await programme.admin.patch(f"/codes/{first}", {"max_uses": 2})
    (changed,) = await follower.news()
    assert (changed["type"], changed["data"]) == ("code.updated", await code(programme, "alice", first))
    assert (changed["version"], changed["data"]["max_uses"]) == (2, 2)
    answer = await programme.admin.post("/users/ext:alice/codes", {"ttl_days": 3, "max_uses": 1, "replace": True})
    programme.codes["alice"] = second = answer.body["code"]
    told = await follower.news()
    assert kinds(told) == ["code.ended", "code.created"]
    assert told[0]["data"] == await code(programme, "alice", first, "revoked")
    assert told[1]["data"] == await code(programme, "alice", second)
    # Used up, and given a use back, because whoever has the address of who came by it knows nothing of that.
    bob = await person("bob", referral_code=second)
    told = await follower.news()
    assert kinds(told) == ["user.created", "referral.created", "code.ended"]
    assert told[2]["data"] == await code(programme, "alice", second, "exhausted")
    assert (await Person(bob.client, "").post("/auth/email/disown", {"token": await mailed(bob.email)})).status == 204
    told = await follower.news()
    assert kinds(told) == ["referral.retracted", "code.updated", "user.erased"]
    assert told[1]["data"] == await code(programme, "alice", second)
    # One that had expired comes back.
    await expire(database_url, second)
    await programme.admin.patch(f"/codes/{second}", {"ttl_days": 9})
    (changed,) = await follower.news()
    assert (changed["type"], changed["data"]) == ("code.updated", await code(programme, "alice", second))
    await programme.admin.delete(f"/codes/{second}")
    (ended,) = await follower.news()
    assert (ended["type"], ended["data"]) == ("code.ended", await code(programme, "alice", second, "revoked"))
    # What users do themselves.
    carol = await person("carol")
    third = await carol.make_code()
    assert (await carol.patch("/codes/current", {"max_uses": 5})).status == 200
    assert (await carol.delete("/codes/current")).status == 204
    told = await follower.news()
    assert kinds(told) == ["user.created", "code.created", "code.updated", "code.ended"]
    assert [change["data"]["max_uses"] for change in told[1:]] == [None, 5, 5]
    assert {change["subject_id"] for change in told[1:]} == {third}
    follower.check()


async def test_what_becomes_of_a_referral_is_told(programme: Programme, follower: Follower) -> None:
    await programme.rule(times=None)
    await programme.come("bob", "alice")
    created = of([change for change in await follower.news() if change["data"].get("source")], "referral.created")
    bob = (await user(programme, "bob"))["id"]
    assert (created["subject_id"], created["data"]) == (bob, await referral(programme, "alice", bob))
    assert created["data"]["status"] == "joined"
    await programme.buy(event="order")
    told = await follower.news()
    assert kinds(told) == ["referral.converted", "reward.created", "reward.approved", "balance.changed"]
    assert told[0]["data"] == await referral(programme, "alice", bob)
    assert told[0]["data"]["status"] == "converted"
    await programme.buy(event="another")
    assert "referral.converted" not in kinds(await follower.news()), "once"
    await programme.refund("another")
    assert "referral.retracted" not in kinds(await follower.news())
    await programme.refund("order")
    told = await follower.news()
    assert sorted(kinds(told)) == ["balance.changed", "referral.retracted", "reward.reversed"]
    assert of(told, "referral.retracted")["data"] == await referral(programme, "alice", bob)
    assert of(told, "referral.retracted")["data"]["status"] == "joined"
    follower.check()


async def test_a_referral_that_is_taken_back_is_told_as_ended_without_a_name(
    programme: Programme, follower: Follower, person: MakePerson, mailed: Mailed
) -> None:
    bob = await person("bob", referral_code=await programme.code_of("alice"))
    created = of([change for change in await follower.news() if change["subject_id"] == bob.id], "referral.created")
    assert created["data"].items() >= {"email": bob.email, "username": "bob", "status": "joined"}.items()
    token = await mailed(bob.email)
    assert (await Person(bob.client, "").post("/auth/email/disown", {"token": token})).status == 204
    told = await follower.news()
    assert kinds(told)[0] == "referral.retracted"
    nobody = {"email": None, "external_id": None, "username": None, "name": None}
    assert of(told, "referral.retracted")["data"] == {**created["data"], **nobody, "status": "ended"}
    assert of(told, "user.erased")["data"] == {"id": bob.id, "username": None, "name": None}
    follower.check()


async def test_what_becomes_of_rewards_is_told_with_the_balances_that_they_change(
    programme: Programme, follower: Follower, database: Database, database_url: str
) -> None:
    await programme.rule(times=None)
    await programme.rule("referee", COUPON, times=None)
    await programme.rule(give=SHARE, hold_days=3, times=None)
    await programme.come()
    await follower.news()

    async def next_of(reward: dict[str, Any], *expected: str) -> None:
        """These changes are told, of this reward and its user's balance, as both are now."""
        told = await follower.news()
        assert kinds(told) == list(expected)
        for change in told:
            if change["type"] == "balance.changed":
                assert change["subject_id"] == reward["user_id"]
                assert change["data"] == await balance(programme, "alice")
            else:
                assert change["subject_id"] == reward["id"]
                assert change["data"] == await programme.reward(reward["id"])

    made = (await programme.buy(1000, event="order")).body["rewards"]
    told = [change for change in await follower.news() if change["type"] != "referral.converted"]
    assert sorted(kinds(told)) == ["balance.changed", *["reward.approved"] * 2, *["reward.created"] * 3]
    for change in told[:-1]:
        assert change["data"] == await programme.reward(change["subject_id"])
    assert told[-1]["data"] == await balance(programme, "alice")
    fixed, coupon, share = (next(one for one in made if one["rule"]["version"] and _is(one, kind)) for kind in KINDS)
    await end_holds(database, database_url)
    await next_of(share, "reward.approved", "balance.changed")
    await programme.step(coupon, "fulfil", reference="c-1")
    await next_of(coupon, "reward.fulfilled")
    await programme.step(fixed, "reverse", id="some", amount=100, reason="a part")
    await next_of(fixed, "reward.reversed", "balance.changed")
    await programme.step(fixed, "reverse", id="all", reason="the rest")
    await next_of(fixed, "reward.reversed", "balance.changed")
    # A part of a share that waits is taken by a refund, then all of it.
    waits = next(one for one in (await programme.buy(1000, event="second")).body["rewards"] if _is(one, KINDS[2]))
    await follower.news()
    await programme.refund("second", 500)
    await next_of(waits, "reward.reversed", "balance.changed")
    await programme.refund("second")
    told = await follower.news()
    assert of(told, "reward.voided")["data"] == await programme.reward(waits["id"])
    by_hand = await programme.give("alice", 70, hold_days=1)
    await next_of(by_hand, "reward.created", "balance.changed")
    await programme.step(by_hand, "approve", now=True)
    await next_of(by_hand, "reward.approved", "balance.changed")
    by_hand = await programme.give("alice", 70, hold_days=1)
    await follower.news()
    await programme.step(by_hand, "reject", reason="no")
    await next_of(by_hand, "reward.voided", "balance.changed")
    follower.check()


# A fixed sum, a coupon, and a share.
KINDS = (("balance", 500), ("coupon", None), ("balance", 200))


def _is(reward: dict[str, Any], kind: tuple[str, int | None]) -> bool:
    return (reward["kind"], (reward["value"] or {}).get("amount")) == kind


async def test_what_becomes_of_redemptions_is_told_with_the_balance(
    programme: Programme, follower: Follower, database: Database, database_url: str
) -> None:
    await programme.give("alice", 1000)
    await follower.news()

    async def next_of(redemption: str, kind: str) -> None:
        told = await follower.news()
        assert kinds(told) == [kind, "balance.changed"]
        assert told[0]["subject_id"] == redemption
        assert told[0]["data"] == (await programme.admin.get(f"/redemptions/{redemption}")).body
        assert told[1]["data"] == await balance(programme, "alice")

    await programme.redeem("alice", 100, "at-once", reference="r", note="n")
    await next_of("at-once", "redemption.created")
    await programme.admin.post("/redemptions/at-once/cancel")
    await next_of("at-once", "redemption.cancelled")
    for name, step in (("one", "capture"), ("two", "release"), ("three", "cancel")):
        await programme.redeem("alice", 100, name, hold_seconds=60)
        await next_of(name, "redemption.created")
        await programme.admin.post(f"/redemptions/{name}/{step}")
        await next_of(name, "redemption.captured" if step == "capture" else "redemption.cancelled")
    await programme.redeem("alice", 100, "late", hold_seconds=60)
    await follower.news()
    await end_holds(database, database_url)
    await next_of("late", "redemption.cancelled")
    follower.check()


async def test_every_type_there_is_is_told_by_these_calls(
    programme: Programme,
    follower: Follower,
    person: MakePerson,
    mailed: Mailed,
    database: Database,
    database_url: str,
) -> None:
    """One history, in which each object's versions grow by one, and its latest data is what the object is at the end."""
    await history(programme, person, mailed, database, database_url)
    await reviewed(programme, database_url)
    await follower.news()
    follower.check()
    assert set(kinds(follower.seen)) == set(get_args(ChangeType)) - LATER
    for change in follower.seen:
        assert change.keys() == {"id", "seq", "type", "at", "subject_id", "version", "data"}
    last: dict[str, Change] = {change["subject_id"]: change for change in follower.seen if _whose(change) == "object"}
    for subject, change in last.items():
        kind = change["type"].partition(".")[0]
        if kind in ("reward", "redemption"):
            there = (await programme.admin.get(f"/{kind}s/{subject}")).body
            assert _without_balance(change["data"]) == _without_balance(there)
    balances = {change["subject_id"]: change["data"] for change in follower.seen if change["type"] == "balance.changed"}
    for data in balances.values():
        items = (await programme.admin.get(f"/users/{data['user_id']}/balances")).body["items"]
        assert [{"user_id": data["user_id"], **item} for item in items] == [data]


def _whose(change: Change) -> str:
    return "user" if change["type"].startswith(("user.", "balance.", "referral.", "review.")) else "object"


def _without_balance(document: dict[str, Any]) -> dict[str, Any]:
    """The balance after it is that of its time, in a change, and that of now in an answer."""
    return {name: value for name, value in document.items() if name != "balance"}


async def history(programme: Programme, person: MakePerson, mailed: Mailed, database: Database, database_url: str) -> None:
    """Calls by which all there is happens."""
    await programme.rule(times=None)
    await programme.rule("referee", COUPON, times=None)
    await programme.rule(give=SHARE, hold_days=3, times=None)
    await programme.come()
    await programme.buy(1000, event="order")
    coupon = next(one for one in await programme.rewards() if one["kind"] == "coupon")
    await programme.step(coupon, "fulfil", reference="c-1")
    await programme.refund("order")
    await programme.give("alice", 900)
    for name in ("one", "two"):
        await programme.redeem("alice", 100, name, hold_seconds=60)
    await programme.admin.post("/redemptions/one/capture")
    await end_holds(database, database_url)
    await programme.admin.patch(f"/codes/{programme.codes['alice']}", {"max_uses": 9})
    for step in ("suspend", "unsuspend"):
        await programme.admin.post(f"/users/ext:alice/{step}", {"reason": "odd"} if step == "suspend" else None)
    bob = await person("robert", referral_code=programme.codes["alice"])
    token = await mailed(bob.email)
    assert (await Person(bob.client, "").post("/auth/email/disown", {"token": token})).status == 204


async def reviewed(programme: Programme, database_url: str) -> None:
    """Two referrals that are suspected, of one of which nobody decides for long."""
    for referee, step in (("carol", "clear"), ("dave", "reject")):
        await programme.come(referee)
        await programme.buy(referee=referee)
        await programme.suspect(referee)
        if step == "clear":
            await sql(database_url, "UPDATE reviews SET opened_at = 1")
            app = programme.admin.client.app
            await ReminderWorker(app[CONFIG].fraud, app[DATABASE], app[RELAY], app[MAILER]).work_off()
        await programme.decide(step, referee)


# How it is asked for


async def test_the_feed_is_read_in_pages_oldest_first_and_nothing_is_passed_or_repeated(
    programme: Programme, follower: Follower
) -> None:
    for number in range(7):
        await programme.admin.user(f"user {number}")
    everything_told = await follower.news()
    assert [change["data"]["external_id"] for change in everything_told] == [f"user {number}" for number in range(7)]
    other = Follower(follower.reader)
    assert await other.read(limit=3) == everything_told[:3]
    assert other.after == everything_told[2]["seq"]
    assert await other.read(limit=3) == everything_told[3:6]
    assert await other.read() == everything_told[6:]
    assert await other.read() == []
    assert other.after == 7
    assert other.seen == follower.seen
    # As if it had never been asked for.
    assert (await follower.ask(after=2, limit=1)).body == {"items": [everything_told[2]], "last_seq": 3}


async def test_only_types_and_groups_that_are_asked_for_are_told_and_the_others_are_counted(
    programme: Programme, follower: Follower, person: MakePerson, mailed: Mailed, database: Database, database_url: str
) -> None:
    await history(programme, person, mailed, database, database_url)
    told = await follower.news()
    for types, wanted in (
        ("user.created", {"user.created"}),
        ("reward.*", {kind for kind in kinds(told) if kind.startswith("reward.")}),
        ("balance.changed,redemption.*,user.erased", {kind for kind in kinds(told) if kind.startswith(("bal", "red"))}),
        ("*", set(kinds(told))),
        ("*,user.created", set(kinds(told))),
        ("webhook.disabled", set()),
    ):
        if "erased" in types:
            wanted.add("user.erased")
        expected = [change for change in told if change["type"] in wanted]
        answer = await follower.ask(types=types, limit=100)
        assert answer.body == {"items": expected, "last_seq": told[-1]["seq"]}, types
        # In small pages, too: the last one may be empty.
        other = Follower(follower.reader)
        while other.after < told[-1]["seq"]:
            await other.read(types=types, limit=2)
        assert other.seen == expected, types
    for types in ("user", "user.", "users.*", "user.created;code.*", "*.*"):
        assert (await follower.ask(types=types)).pointers == ["/types"], types


async def test_of_very_many_changes_one_call_looks_at_a_part(
    programme: Programme, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("referral.handlers.changes.MOST_LOOKED_AT", 5)
    for number in range(12):
        await programme.admin.user(f"user {number}")
    await programme.code_of("user 3")
    told = await follower.news()
    assert (await follower.ask(types="code.*")).body == {"items": [], "last_seq": 5}
    assert (await follower.ask(types="code.*", after=5)).body == {"items": [], "last_seq": 10}
    assert (await follower.ask(types="code.*", after=10)).body == {"items": told[-1:], "last_seq": 13}
    # A call that waits looks further.
    started = time.monotonic()
    assert (await follower.ask(types="code.*", wait=20)).body == {"items": told[-1:], "last_seq": 13}
    assert time.monotonic() - started < 5


async def test_only_keys_that_may_read_and_admins_are_told(client: Client, person: MakePerson, database_url: str) -> None:
    alice = await person("alice")
    assert (await alice.get("/changes")).problem == "forbidden"
    assert (await Person(client, "").get("/changes")).problem == "unauthorized"
    for scope in ("read", "write", "admin"):
        assert (await (await Product.with_key(client, scope)).get("/changes")).status == 200
    browser = (await (await Product.with_key(client)).post(f"/users/{alice.id}/token")).body
    assert (await Person(client, "", tokens=browser).get("/changes")).problem == "forbidden"
    await sql(database_url, f"UPDATE users SET role = 'admin' WHERE id = '{alice.id}'")
    await alice.sign_in()
    assert (await alice.get("/changes")).status == 200


async def test_what_is_told_last_of_a_code_is_so_whoever_changed_it_and_its_owner_at_once(
    programme: Programme, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them takes its time between what it has read for its announcement and the end of its transaction."""

    def slowly(really: Any) -> Any:
        async def read(*arguments: Any) -> Any:
            found = await really(*arguments)
            await asyncio.sleep(0.1)
            return found

        return read

    text = await programme.code_of("alice")
    monkeypatch.setattr(codes, "find_code", slowly(codes.find_code))
    monkeypatch.setattr(users, "find_contact", slowly(users.find_contact))
    for turn in range(3):
        for step, ended_by in (("suspend", "suspended"), ("unsuspend", None)):
            answers = await asyncio.gather(
                programme.admin.post(f"/users/ext:alice/{step}", {"reason": "odd"} if ended_by else None),
                programme.admin.patch(f"/codes/{text}", {"max_uses": 10 * turn + (5 if ended_by else 7)}),
            )
            assert [answer.status for answer in answers] == [200, 200]
            told = [change for change in await follower.news() if change["subject_id"] == text]
            assert told[-1]["data"] == await code(programme, "alice", text, ended_by)
    await asyncio.gather(
        programme.admin.post("/users/ext:alice/suspend", {"reason": "odd"}), programme.admin.delete(f"/codes/{text}")
    )
    told = [change for change in await follower.news() if change["subject_id"] == text]
    assert told[-1]["data"] == await code(programme, "alice", text, told[-1]["data"]["ended_by"])
    assert told[-1]["data"]["status"] == "revoked"
    follower.check()


# Waiting


async def taken(awaitable: Awaitable[Answer]) -> tuple[Answer, float]:
    """An answer, and how many seconds it took."""
    started = time.monotonic()
    answer = await awaitable
    return answer, time.monotonic() - started


async def test_a_call_that_waits_is_answered_at_once_when_something_happens(
    programme: Programme,
    follower: Follower,
    make_client: MakeClient,
    command: Command,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = Product(await make_client(cache_url="none://"), "", tokens=programme.admin.tokens)
    # From here on, no relay looks by itself in the time of this test.
    monkeypatch.setattr("referral.background.relay.LONGEST_SLEEP", 60.0)
    await other.user("first")
    await programme.admin.user("alice", email="alice@example.com")
    await follower.news()

    async def is_answered(happen: Callable[[], Awaitable[Any]], kind: str, seconds: float) -> None:
        waiting = asyncio.create_task(follower.ask(after=follower.after, wait=25))
        await asyncio.sleep(0.7)
        assert not waiting.done()
        await happen()
        answer, waited = await taken(waiting)
        assert waited < seconds
        assert kinds(answer.body["items"]) == [kind]
        assert answer.body["last_seq"] == follower.after + 1
        await follower.news()

    await is_answered(lambda: programme.admin.user("bob"), "user.created", 0.4)
    # Another process looks into the database for this one's waiters.
    await is_answered(lambda: other.user("carol"), "user.created", 1.5)
    # Nobody wakes a service for a command.
    monkeypatch.undo()
    assert client.app
    client.app[RELAY].wake()
    await asyncio.sleep(0.2)
    await is_answered(lambda: command("users", "suspend", "alice@example.com", "--reason", "x"), "user.suspended", 4.0)


async def test_a_call_that_waits_for_some_types_is_not_ended_by_others(programme: Programme, follower: Follower) -> None:
    waiting = asyncio.create_task(follower.ask(types="code.*", wait=25))
    await programme.admin.user("alice")
    await programme.admin.user("bob")
    await asyncio.sleep(1)
    assert not waiting.done()
    text = await programme.code_of("alice")
    answer, seconds = await taken(waiting)
    assert [change["subject_id"] for change in answer.body["items"]] == [text]
    assert answer.body["last_seq"] == 3
    assert seconds < 5


async def test_a_call_that_waits_in_vain_ends_with_its_time(programme: Programme, follower: Follower) -> None:
    await programme.admin.user("alice")
    await follower.news()
    answer, seconds = await taken(follower.ask(after=1, wait=1))
    assert answer.body == {"items": [], "last_seq": 1}
    assert 0.9 < seconds < 10
    # What did happen, but is not asked for, is passed.
    waiting = asyncio.create_task(follower.ask(types="code.*", after=1, wait=2))
    await asyncio.sleep(0.1)
    await programme.admin.user("bob")
    answer = await waiting
    assert answer.body == {"items": [], "last_seq": 2}
    answer, seconds = await taken(follower.ask(after=0, wait=25))
    assert len(answer.body["items"]) == 2
    assert seconds < 5


async def test_calls_that_wait_hold_no_connection_to_the_database(
    programme: Programme, follower: Follower, database_url: str
) -> None:
    await programme.admin.user("alice")
    await follower.news()
    async with asyncio.timeout(30):
        waiting = [asyncio.create_task(follower.ask(after=1, wait=25)) for _ in range(3 * POOL_SIZE)]
        await asyncio.sleep(1)
        for _ in range(20):
            answer, seconds = await taken(programme.admin.get("/users/ext:alice"))
            assert answer.status == 200
            assert seconds < 5
        assert not any(task.done() for task in waiting)
        if "postgres" in database_url:
            busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'"
            assert (await sql(database_url, busy))[0][0] <= 2, "the one that asks, and one of those that wait for all"
        await programme.admin.user("bob")
        answers = await asyncio.gather(*waiting)
    assert [answer.body["last_seq"] for answer in answers] == [2] * len(answers)
    assert {len(answer.body["items"]) for answer in answers} == {1}


async def test_calls_that_wait_end_at_once_when_the_service_stops(make_client: MakeClient) -> None:
    client = await make_client()
    reader = await Product.with_key(client, "read")
    headers = {"Authorization": f"Bearer {reader.tokens['access_token']}"}
    async with ClientSession(headers=headers) as session:

        async def wait() -> Answer:
            async with session.get(client.make_url(f"{API}/changes?wait=30")) as response:
                return await Answer.of(response)

        waiting = [asyncio.create_task(wait()) for _ in range(5)]
        await asyncio.sleep(0.5)
        started = time.monotonic()
        await client.close()
        answers = await asyncio.gather(*waiting)
        assert time.monotonic() - started < 10
    assert [(answer.status, answer.body) for answer in answers] == [(200, {"items": [], "last_seq": 0})] * 5


# What is no longer there


async def forget(database: Database, seq: int) -> None:
    async with database.transaction() as conn:
        await changes.delete_changes_to(conn, seq)
        await changes.forget_changes_to(conn, seq)


async def test_whoever_is_behind_what_is_kept_or_beyond_what_there_is_is_told_so(
    programme: Programme, follower: Follower, database: Database, database_url: str
) -> None:
    for number in range(5):
        await programme.admin.user(f"user {number}")
    told = await follower.news()
    await forget(database, 2)
    for after in (0, 1):
        for query in ({}, {"wait": 25}, {"types": "code.*"}):
            answer, seconds = await taken(follower.ask(after=after, **query))
            assert (answer.status, answer.problem, answer.body["last_seq"]) == (410, "gone", 5)
            assert seconds < 5
    assert (await follower.ask(after=2)).body["items"] == told[2:]
    # As if the database had been restored to a time before.
    assert (await follower.ask(after=5)).body == {"items": [], "last_seq": 5}
    answer, seconds = await taken(follower.ask(after=6, wait=25))
    assert (answer.status, answer.problem, answer.body["last_seq"]) == (410, "gone", 5)
    assert seconds < 5
    await forget(database, 5)
    assert (await follower.ask(after=5)).body == {"items": [], "last_seq": 5}
    assert (await follower.ask(after=4)).problem == "gone"
    # Versions go on where they were.
    await programme.admin.post("/users/ext:user%200/suspend", {"reason": "x"})
    (change,) = await follower.news()
    assert (change["seq"], change["version"]) == (6, 2)


async def test_what_is_deleted_while_it_is_read_is_gone_and_not_passed(
    programme: Programme, follower: Follower, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        await programme.admin.user(f"user {number}")
    await follower.news()
    really, to = changes.find_feed, 4

    async def then_forget(conn: Connection) -> Feed:
        found = await really(conn)
        await forget(database, to)
        return found

    monkeypatch.setattr(changes, "find_feed", then_forget)
    answer = await follower.ask(after=0)
    assert (answer.status, answer.problem) == (410, "gone")
    to = 9
    answer = await follower.ask(after=5)
    assert (answer.status, answer.problem) == (410, "gone")


# What is not told


async def test_what_is_rolled_back_is_not_told(
    programme: Programme, follower: Follower, person: MakePerson, database_url: str, eventually: Eventually
) -> None:
    await programme.give("alice", 100)
    await programme.admin.user("alice", email="alice@example.com", username="alice")
    await programme.code_of("alice")
    bob = await person("bob", referral_code=programme.codes["alice"])
    await follower.news()
    taken_code = {"code": programme.codes["alice"], "ttl_days": 3}
    registration = {"email": "c@example.com", "password": PASSWORD, "username": "bob"}
    refusals = [
        # It would have made somebody first.
        await programme.admin.put("/users/ext:new", {"email": "alice@example.com"}),
        await programme.admin.put("/users/ext:new", {"code": taken_code}),
        await programme.redeem("alice", 200),
        await programme.admin.post("/users/ext:alice/codes", {"ttl_days": 3}),
        await programme.admin.report("refund", "refund", "new", refunds="nothing"),
        await Person(bob.client, "").post("/auth/register", registration),
        await bob.post("/users/me/referrer", {"code": programme.codes["alice"]}),
        await programme.admin.patch(f"/codes/{programme.codes['alice']}", {"max_uses": 0}),
    ]
    assert all(400 <= answer.status < 500 for answer in refusals), [answer.body for answer in refusals]
    assert await follower.news() == []
    await eventually(lambda: is_at_rest(database_url))
    assert await count(database_url, "changes") == follower.after


async def test_what_is_asked_for_again_is_told_once(programme: Programme, follower: Follower) -> None:
    await programme.rule(times=None)
    await programme.rule("referee", COUPON, times=None)
    await programme.come()
    given = await programme.give("alice", 500, hold_days=1)
    by_hand = {"id": "by hand", "user": {"external_id": "alice"}, **COUPON, "reason": "For the trouble"}
    coupon = next(one for one in (await programme.buy(event="order")).body["rewards"] if one["kind"] == "coupon")
    text = await programme.code_of("carol")
    repeated: list[Callable[[], Awaitable[Answer]]] = [
        lambda: programme.buy(event="order"),
        lambda: programme.admin.post("/rewards", by_hand),
        lambda: programme.step(given, "approve", now=True),
        lambda: programme.step(coupon, "fulfil", reference="c"),
        lambda: programme.redeem("alice", 100, "one", hold_seconds=60),
        lambda: programme.admin.post("/redemptions/one/capture"),
        lambda: programme.admin.post("/redemptions/one/cancel"),
        lambda: programme.step(given, "reverse", id="v", amount=5, reason="x"),
        lambda: programme.refund("order", refund="refund"),
        lambda: programme.admin.put("/users/ext:dora", {"name": "Dora"}),
        lambda: programme.admin.post("/users/ext:carol/suspend", {"reason": "odd"}),
        lambda: programme.admin.post("/users/ext:carol/unsuspend"),
        lambda: programme.admin.delete(f"/codes/{text}"),
    ]
    for ask in repeated:
        assert (await ask()).status < 300
        await follower.news()
        assert (await ask()).status < 300
        assert await follower.news() == []
    follower.check()


# Erasure

SECRET = "wilhelmina"
NUMBERS = {
    "email": f"{SECRET}@example.com",
    "float": 0.1 + 0.2,
    "large": 1e300,
    "int": 2**62,
    "yes": True,
    "no": False,
    "null": None,
    "text": 'a "quoted" \\ line\n of ü\u2028',
    "empty": {},
    "list": [],
    "deep": {"a": [True, None, {"name": 1.25, "reason": -0.5}], "b": "true"},
    "number": "17",
}


async def test_nothing_personal_of_whoever_is_erased_is_left_in_changes_and_the_rest_stays_as_it_was(
    programme: Programme, follower: Follower, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await programme.rule("referee", COUPON, times=None)
    await programme.come("bob", "alice")
    described = {
        "email": f"{SECRET}@example.com",
        "name": f"Name of {SECRET}",
        "username": SECRET,
        "metadata": {"plan": SECRET, "size": 1.5},
    }
    new = {"external_id": SECRET, **described}
    seen = await programme.admin.report("came", "came", user=new, code=programme.codes["alice"])
    assert seen.body["attribution"]["status"] == "attributed"
    whose = seen.body["user_id"]

    async def live() -> None:
        """Everything with words that somebody chose."""
        (coupon,) = (await programme.admin.report(f"e{time.monotonic()}", "purchase", SECRET)).body["rewards"]
        await programme.step(coupon, "fulfil", reference=f"sent to {SECRET}")
        given = await programme.give(SECRET, 500, reason=f"for {SECRET}")
        await programme.step(given, "reverse", id=f"v{given['id']}", amount=10, reason=f"of {SECRET}")
        for name in ("done", "held"):
            held = {"hold_seconds": 60} if name == "held" else {}
            await programme.redeem(SECRET, 5, f"{name} {given['id']}", reference=SECRET, note=f"note of {SECRET}", **held)
        await programme.admin.post(f"/users/ext:{SECRET}/suspend", {"reason": f"{SECRET} is odd"})
        await programme.admin.post(f"/users/ext:{SECRET}/unsuspend")

    await live()
    await sql(
        database_url,
        "INSERT INTO announcements (id, type, at, subject_id, user_id, data) "
        f"VALUES ('made up', 'reward.created', 1, 'made up', '{whose}', '{orjson.dumps(NUMBERS).decode()}')",
    )
    before = await follower.news()
    # What is not told yet goes, too.
    monkeypatch.setattr(Relay, "work_off", _nothing)
    await live()
    announced = await told_rows(database_url, "announcements")
    assert len(announced) > 5
    # What each change says of others, or of itself, is no secret.
    kept = repr([await everything(database_url)])
    assert kept.count(SECRET) > 20
    assert (await programme.admin.delete(f"/users/{whose}")).status == 204

    left = await everything(database_url)
    assert SECRET not in repr([left[table] for table in FEED]).casefold()
    now_announced = await told_rows(database_url, "announcements")
    for change_id, announced_data in announced.items():
        assert now_announced[change_id] == forgotten(announced_data)
    monkeypatch.undo()
    told = {change["id"]: change["data"] for change in before}
    again = Follower(follower.reader)
    await again.news()
    for change in again.seen:
        data = told.get(change["id"])
        if data is not None:
            is_theirs = whose in (data.get("user_id"), change["subject_id"]) or change["subject_id"] == "made up"
            assert change["data"] == (forgotten(data) if is_theirs else data)
    assert again.seen[len(before) + len(announced) :] != []
    assert SECRET not in repr(again.seen)
    assert of(again.seen, "user.erased")["data"] == {"id": whose, "username": None, "name": None}
    again.check()
    bobs = [change for change in again.seen if change["data"].get("external_id") == "bob"]
    assert len(bobs) == 2, "bob is who he was"


async def test_nothing_of_what_a_disowned_account_earned_is_announced_with_its_end(
    programme: Programme, follower: Follower, person: MakePerson, mailed: Mailed, database_url: str
) -> None:
    await programme.rule("referee", COUPON)
    bob = await person("bob", referral_code=await programme.code_of("alice"))
    event = {"id": "order", "type": "purchase", "user": {"id": bob.id}}
    (coupon,) = (await programme.admin.post("/events", event)).body["rewards"]
    await programme.step(coupon, "fulfil", reference=f"sent to {SECRET}")
    assert SECRET in repr(await follower.news())
    token = await mailed(bob.email)
    assert (await Person(bob.client, "").post("/auth/email/disown", {"token": token})).status == 204
    told = await follower.news()
    assert of(told, "reward.reversed")["data"] == await programme.reward(coupon["id"])
    left = await everything(database_url)
    assert not [table for table, rows in left.items() if SECRET in repr(rows)]
    follower.check()


async def _nothing(relay: Relay) -> int:
    return 0


def forgotten(data: dict[str, Any]) -> dict[str, Any]:
    """What is left of a change's data: the members stay, and what is personal in them goes."""
    return {name: None if name in PERSONAL else value for name, value in data.items()}


async def told_rows(url: str, table: str) -> dict[str, Any]:
    """The data of each announcement or change, by its id."""
    return {change: orjson.loads(data) for change, data in await sql(url, f"SELECT id, data FROM {table}")}
