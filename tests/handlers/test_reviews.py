"""Reviews: what opens one, what it holds, how it is decided, and what that does to either side."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from referral.background.holds import HoldWorker
from referral.background.relay import Relay
from referral.clock import now
from referral.database import Database
from tests.conftest import Client, Eventually, MakeClient
from tests.support.feed import Follower, kinds, of
from tests.support.people import UNKNOWN, Answer, Person, Product
from tests.support.programme import COUPON, Programme, usd
from tests.support.rows import count, make_admin, sql

pytestmark = pytest.mark.usefixtures("verified")

ONCE_SQLITE = pytest.mark.parametrize("engine", ["sqlite"])
ON_POSTGRES = pytest.mark.parametrize("engine", ["postgres"])
# Words that a page or a database may stumble over.
ODD = ["<script>alert(1)</script>", "=HYPERLINK(1)", "Ж" * 500, "'; DROP TABLE reviews; --"]


@pytest.fixture
async def follower(client: Client) -> Follower:
    return Follower(await Product.with_key(client, "read"))


async def referral_of(programme: Programme, user: str = "bob", referrer: str = "alice") -> dict[str, Any]:
    found = (await programme.admin.get(f"/users/ext:{user}")).body["id"]
    items = (await programme.admin.get(f"/users/ext:{referrer}/referrals")).body["items"]
    return next(item for item in items if item["id"] == found)


async def end_holds(database: Database, url: str) -> int:
    """Let all holds have ended, and let a worker find that."""
    await sql(url, f"UPDATE rewards SET release_at = {now() - 1} WHERE status = 'pending'")
    await sql(url, f"UPDATE rewards SET due_at = {now() - 1} WHERE due_at IS NOT NULL")
    return await HoldWorker(database, Relay(database)).work_off()


async def admin_person(client: Client, database_url: str, name: str = "root") -> Person:
    """Somebody signed in who is an admin."""
    person = await Person.register(client, name)
    await make_admin(database_url, person.id)
    assert (await person.sign_in()).status == 200
    return person


# What opens one


async def test_reports_open_a_review_once_they_come_to_the_threshold(programme: Programme, follower: Follower) -> None:
    await programme.come()
    first = await programme.suspect(weight=49, note="Charged back")
    assert first == {"kind": "reported", "weight": 49, "evidence": {"note": "Charged back"}, "at": first["at"]}
    assert (await programme.admin.get("/reviews/ext:bob")).problem == "not-found"
    assert (await referral_of(programme))["review"] == "none"
    await follower.news()
    second = await programme.suspect(weight=1)
    review = await programme.review()
    alice, bob = [(await programme.admin.get(f"/users/ext:{name}")).body["id"] for name in ("alice", "bob")]
    assert review == {
        "user": {"id": bob, "username": None, "name": None},
        "external_id": "bob",
        "referrer": {"id": alice, "username": None, "name": None},
        "status": "open",
        "score": 50,
        "kinds": ["reported"],
        "opened_at": review["opened_at"],
        "reminded_at": None,
        "decided_at": None,
        "decided_by": None,
        "reason": None,
        "suspends_referrer": False,
        "signals": [first, second],
        "rewards": [],
    }
    (told,) = await follower.news()
    assert (told["type"], told["subject_id"], told["data"]["review"]) == ("review.opened", bob, "open")
    assert told["data"] == {**await referral_of(programme), "referrer_id": alice}
    # Further ones change the score alone.
    await programme.suspect(weight=1000)
    assert (await programme.review())["score"] == 1050
    assert await follower.news() == []


@ONCE_SQLITE
async def test_whom_nobody_referred_nobody_reports(programme: Programme) -> None:
    await programme.admin.user("carol")
    body = {"weight": 50, "note": "Odd"}
    for user in ("ext:carol", "ext:nobody", UNKNOWN, "carol"):
        assert (await programme.admin.post(f"/referrals/{user}/signals", body)).problem == "not-found"
    for path in ("/reviews/ext:carol", "/reviews/ext:nobody", f"/reviews/{UNKNOWN}", "/reviews/ext:carol/preview"):
        assert (await programme.admin.get(path)).problem == "not-found"
    for step in ("clear", "reject"):
        assert (await programme.decide(step, "carol")).problem == "not-found"


@ONCE_SQLITE
async def test_a_threshold_of_zero_opens_none(make_client: MakeClient) -> None:
    programme = Programme(await Product.with_key(await make_client(fraud_review_at="0"), "admin"))
    await programme.come()
    await programme.suspect(weight=1000)
    assert (await programme.admin.get("/reviews")).body["items"] == []


# What it holds


async def test_a_review_holds_the_rewards_of_both_sides_until_it_is_cleared(
    programme: Programme, database: Database, database_url: str, follower: Follower
) -> None:
    await programme.rule(times=None)
    await programme.rule("referee", COUPON, times=None)
    held = await programme.rule(hold_days=30, times=None, give={"kind": "balance", "unit": "USD", "fixed": 7})
    await programme.come()
    earned = (await programme.buy()).body["rewards"]
    assert [reward["status"] for reward in earned] == ["approved", "approved", "pending"]
    await programme.suspect()
    # What comes now waits, and what waited goes on waiting, whatever its hold.
    later = (await programme.buy()).body["rewards"]
    assert [reward["waiting_for"] for reward in later] == [["review"], ["review"], ["hold", "review"]]
    await end_holds(database, database_url)
    assert await HoldWorker(database, Relay(database)).work_off() == 0, "it is not looked at again and again"
    assert (await programme.balance("alice"))["available"] == 500
    assert (await programme.balance("alice"))["pending"] == 514
    assert {reward["id"] for reward in (await programme.review())["rewards"]} == {one["id"] for one in earned + later}
    await follower.news()
    cleared = await programme.decide("clear")
    assert (cleared.status, cleared.body["status"], cleared.body["reason"]) == (200, "cleared", "Looked at")
    assert cleared.body["decided_by"] == {"user": None, "key": "a admin key"}
    assert (await referral_of(programme))["review"] == "cleared"
    await HoldWorker(database, Relay(database)).work_off()
    assert {reward["status"] for reward in (await programme.review())["rewards"]} == {"approved"}
    assert (await programme.balance("alice"))["available"] == 1014
    assert kinds(await follower.news())[:1] == ["review.cleared"]
    # Afterwards nothing waits.
    assert (await programme.buy()).body["rewards"][0]["status"] == "approved"
    assert held["id"] in {reward["rule"]["id"] for reward in earned}


async def test_what_a_cleared_review_held_is_earned_within_seconds(programme: Programme, eventually: Eventually) -> None:
    await programme.rule()
    await programme.come()
    await programme.suspect()
    (reward,) = (await programme.buy()).body["rewards"]
    assert reward["status"] == "pending"
    await programme.decide("clear")

    async def is_earned() -> bool:
        return bool((await programme.reward(reward["id"]))["status"] == "approved")

    assert await eventually(is_earned)


# Deciding


async def test_a_rejection_takes_back_what_was_foretold_from_both_sides(programme: Programme, follower: Follower) -> None:
    await programme.rule(times=None)
    await programme.rule("referee", {"kind": "balance", "unit": "EUR", "fixed": 200}, hold_days=30, times=None)
    await programme.rule("referee", COUPON, times=None)
    await programme.come()
    first = (await programme.buy(event="order")).body["rewards"]
    await programme.step(first[2], "fulfil", reference="c-1")
    await programme.redeem("alice", 400)
    await programme.suspect()
    later = (await programme.buy()).body["rewards"]
    assert (await referral_of(programme))["status"] == "converted"
    foretold = await programme.foretold()
    assert {(one["id"], one["effect"]) for one in foretold["rewards"]} == {
        (first[0]["id"], "reversed"),
        (first[1]["id"], "void"),
        (first[2]["id"], "reversed"),
        *((one["id"], "void") for one in later),
    }
    values = {one["id"]: one["value"] for one in foretold["rewards"]}
    assert (values[first[0]["id"]], values[first[1]["id"]], values[first[2]["id"]]) == (
        usd(500),
        {"unit": "EUR", "amount": 200},
        None,
    )
    assert await programme.foretold() == foretold, "nothing is changed by it"
    await follower.news()

    answer = await programme.decide("reject", reason="One person")
    assert (answer.status, answer.body["status"], answer.body["reason"]) == (200, "rejected", "One person")
    assert {reward["id"]: reward["status"] for reward in answer.body["rewards"]} == {
        one["id"]: one["effect"] for one in foretold["rewards"]
    }
    assert {reward["reason"] for reward in answer.body["rewards"]} == {"the referral was rejected"}
    for balance in foretold["balances"]:
        user = "alice" if balance["user_id"] == first[0]["user_id"] else "bob"
        found = await programme.balance(user, balance["unit"])
        assert {"user_id": balance["user_id"], "unit": balance["unit"], **found} == balance
    # What was spent is a debt.
    assert await programme.balance("alice") == {
        "pending": 0,
        "available": -400,
        "reserved": 0,
        "earned": 500,
        "spent": 400,
        "reversed": 500,
    }
    assert (await programme.statement("alice"))[-1] == ("retraction", -500, -400)
    referral = await referral_of(programme)
    assert (referral["status"], referral["review"], referral["converted_at"]) == ("rejected", "rejected", None)
    told = await follower.news()
    assert kinds(told)[0] == "referral.rejected"
    assert sorted(kinds(told)) == sorted(
        ["referral.rejected", *["reward.reversed"] * 2, *["reward.voided"] * 4, *["balance.changed"] * 2]
    )
    assert of(told, "referral.rejected")["data"]["status"] == "rejected"
    # The debt is eaten by what comes next; nothing comes of this referral.
    await programme.give("alice", 450)
    assert await programme.available("alice") == 50
    late = await programme.buy()
    assert (late.body["rewards"], {one["reason"] for one in late.body["skipped"]}) == ([], {"rejected"})
    assert late.body["referral"]["status"] == "rejected"
    assert (await programme.refund("order")).status == 201
    assert (await programme.foretold()) == {"rewards": [], "balances": []}
    assert await programme.available("alice") == 50


async def test_a_rejection_gives_limits_and_the_referrers_tier_back(programme: Programme, database_url: str) -> None:
    limits = {"budget": {"unit": "USD", "amount": 1000, "period": "ever"}, "per_referrer": {"count": 2, "period": "ever"}}
    await programme.rule(hold_days=30, limits=limits)
    for referee in ("bob", "carol", "dave"):
        await programme.come(referee)
        await programme.suspect(referee)
    for referee in ("bob", "carol"):
        assert len((await programme.buy(referee=referee)).body["rewards"]) == 1
    assert (await programme.buy(referee="dave")).body["skipped"][0]["reason"] == "per-referrer"
    converted = "SELECT converted_count FROM users WHERE external_id = 'alice'"
    assert await sql(database_url, converted) == [(3,)]
    await programme.decide("reject", "bob")
    assert await sql(database_url, converted) == [(2,)]
    assert len((await programme.buy(referee="dave")).body["rewards"]) == 1


async def test_a_rejection_can_suspend_the_referrer(
    programme: Programme, client: Client, database_url: str, follower: Follower
) -> None:
    alice = await Person.register(client, "alice")
    await programme.admin.put(f"/users/{alice.id}", {"external_id": "alice"})
    await programme.come()
    await programme.suspect()
    await follower.news()
    answer = await programme.decide("reject", suspend_referrer=True)
    assert (answer.status, answer.body["suspends_referrer"]) == (200, True)
    assert (await alice.get("/users/me")).problem == "unauthorized"
    assert (await programme.admin.get("/users/ext:alice")).body["status"] == "suspended"
    assert kinds(await follower.news()) == ["user.suspended", "code.ended", "referral.rejected"]
    events = await sql(database_url, "SELECT event FROM audit_events WHERE event LIKE '%suspended' OR event LIKE 'review%'")
    assert sorted(row[0] for row in events) == ["account-suspended", "review-rejected"]


@ONCE_SQLITE
async def test_an_admin_does_not_suspend_themself_by_a_rejection(
    programme: Programme, client: Client, database_url: str
) -> None:
    root = await admin_person(client, database_url)
    await sql(database_url, f"UPDATE users SET email_verified_at = created_at WHERE id = '{root.id}'")
    await programme.admin.put(f"/users/{root.id}", {"external_id": "root"})
    assert (await root.sign_in()).status == 200
    await programme.come("bob", "root")
    await programme.suspect()
    answer = await root.post("/reviews/ext:bob/reject", {"reason": "x", "suspend_referrer": True})
    assert answer.problem == "forbidden"
    assert (await programme.review())["status"] == "open"
    assert (await root.post("/reviews/ext:bob/reject", {"reason": "x"})).status == 200


async def test_the_same_decision_again_changes_nothing_and_another_one_is_told_who_decided(
    programme: Programme, client: Client, database_url: str, follower: Follower
) -> None:
    root = await admin_person(client, database_url)
    for referee, step, other in (("bob", "clear", "reject"), ("carol", "reject", "clear")):
        await programme.come(referee)
        await programme.suspect(referee)
        first = await root.post(f"/reviews/ext:{referee}/{step}", {"reason": "First"})
        assert first.status == 200, first.body
        assert first.body["decided_by"]["user"]["username"] == "root"
        await follower.news()
        again = await programme.decide(step, referee, reason="Second")
        assert (again.status, again.body) == (200, first.body)
        refused = await programme.decide(other, referee)
        assert refused.problem == "review-state"
        word, when = first.body["status"], first.body["decided_at"]
        assert refused.body["detail"] == f"The referral was {word} by root at {when}."
        assert await follower.news() == []


async def test_a_cleared_review_opens_again_only_for_what_is_new(programme: Programme) -> None:
    await programme.come()
    await programme.suspect(weight=60)
    await programme.decide("clear")
    await programme.suspect(weight=49)
    assert (await programme.review())["status"] == "cleared"
    await programme.suspect(weight=1)
    again = await programme.review()
    assert (again["status"], again["score"], again["decided_at"], again["reason"]) == ("open", 110, None, None)
    assert (await programme.decide("reject")).status == 200
    await programme.suspect(weight=1000)
    assert (await programme.review())["status"] == "rejected"
    assert len((await programme.review())["signals"]) == 4


# Who may


async def test_who_may_do_what(programme: Programme, client: Client) -> None:
    reader, writer = await Product.with_key(client, "read"), await Product.with_key(client, "write")
    user = await Person.register(client, "somebody")
    await programme.come()
    await programme.suspect()
    for path in ("/reviews", "/reviews/ext:bob", "/reviews/ext:bob/preview"):
        assert (await reader.get(path)).status == 200
        assert (await user.get(path)).problem == "forbidden"
    assert (await reader.post("/referrals/ext:bob/signals", {"weight": 1, "note": "x"})).problem == "forbidden"
    assert (await writer.post("/referrals/ext:bob/signals", {"weight": 1, "note": "x"})).status == 201
    for step in ("clear", "reject"):
        for caller in (user, reader, writer):
            assert (await caller.post(f"/reviews/ext:bob/{step}", {"reason": "x"})).problem == "forbidden"
    assert (await programme.review())["status"] == "open"


@ON_POSTGRES
async def test_whoever_is_put_out_while_they_decide_decides_nothing(
    programme: Programme, client: Client, database_url: str, eventually: Eventually
) -> None:
    root, key = await admin_person(client, database_url), await Product.with_key(client, "admin")
    await programme.come()
    await programme.suspect()
    (bob,) = (await sql(database_url, "SELECT id FROM users WHERE external_id = 'bob'"))[0]
    for decider, put_out in (
        (root, f"UPDATE users SET role = 'user' WHERE id = '{root.id}'"),
        (key, "DELETE FROM service_keys WHERE id = (SELECT max(id) FROM service_keys)"),
    ):
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            # The decision waits for the referee, or for the admin, until they are put out.
            await other.execute("SELECT id FROM users WHERE id = ANY(%s) FOR UPDATE", ([bob, root.id],))
            deciding = asyncio.create_task(decider.post("/reviews/ext:bob/reject", {"reason": "x"}))
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

            async def waits(asked: str = waiting) -> bool:
                return int((await sql(database_url, asked))[0][0]) > 0

            await eventually(waits)
            await other.execute(put_out.encode())
        assert (await deciding).problem == "unauthorized"
        assert (await programme.review())["status"] == "open"


# At once


async def test_of_32_who_decide_at_once_one_decides_and_the_others_see_it(programme: Programme, database_url: str) -> None:
    await programme.rule(times=None)
    await programme.come()
    await programme.buy()
    await programme.suspect()
    await programme.buy()
    answers = await asyncio.gather(*(programme.decide("reject" if i % 2 else "clear", reason=f"{i}") for i in range(32)))
    review = await programme.review()
    for i, answer in enumerate(answers):
        if answer.status == 200:
            assert (answer.body["status"], answer.body["reason"]) == (review["status"], review["reason"])
            assert (review["status"] == "rejected") == bool(i % 2)
        else:
            assert answer.problem == "review-state"
            assert review["status"] in answer.body["detail"]
    assert sum(answer.status == 200 for answer in answers) == 16
    assert await count(database_url, "audit_events", "event IN ('review-cleared', 'review-rejected')") == 1


async def test_of_32_reports_at_once_each_counts_and_one_opens(programme: Programme, follower: Follower) -> None:
    await programme.come()
    await follower.news()
    await asyncio.gather(*(programme.suspect(weight=10 + i) for i in range(32)))
    review = await programme.review()
    assert (review["score"], len(review["signals"])) == (sum(10 + i for i in range(32)), 32)
    assert kinds(await follower.news()) == ["review.opened"]


async def test_decisions_events_refunds_and_erasures_at_once_leave_everything_right(
    programme: Programme, client: Client, database: Database
) -> None:
    await programme.rule(times=None, limits={"budget": {"unit": "USD", "amount": 9000, "period": "ever"}})
    await programme.rule("referee", times=None)
    names = [f"user{i}" for i in range(8)]
    for name in names:
        await programme.come(name)
        await programme.buy(referee=name, event=f"first {name}")
        await programme.suspect(name)
        await programme.buy(referee=name, event=f"second {name}")

    async def of(name: str, number: int) -> list[Answer]:
        work = [
            programme.decide("reject" if number % 2 else "clear", name),
            programme.buy(referee=name, event=f"third {name}"),
            programme.refund(f"first {name}", refund=f"back {name}"),
            programme.admin.delete(f"/users/ext:{name}") if number % 4 == 3 else programme.redeem("alice", 1),
        ]
        return list(await asyncio.gather(*work))

    answers = await asyncio.gather(*(of(name, number) for number, name in enumerate(names)))
    await HoldWorker(database, Relay(database)).work_off()
    assert {answer.status for some in answers for answer in some} <= {200, 201, 204, 404, 409, 422}
    found = {review["status"] for review in (await programme.admin.get("/reviews")).body["items"]}
    assert found <= {"open", "cleared", "rejected"}


# Lists


async def test_the_list_has_pages_newest_first_and_those_of_a_state(programme: Programme, database_url: str) -> None:
    names = ["bob", "carol", "dave", "erin"]
    for number, name in enumerate(names):
        await programme.come(name)
        await programme.suspect(name)
        await sql(database_url, f"UPDATE reviews SET opened_at = {1000 * number} WHERE opened_at > 1000000")
    await programme.decide("clear", "carol")
    await programme.decide("reject", "erin")

    async def listed(query: str) -> list[str]:
        found: list[str] = []
        cursor = ""
        while True:
            body = (await programme.admin.get(f"/reviews?limit=1{query}{cursor}")).body
            found += [item["external_id"] for item in body["items"]]
            if body["next_cursor"] is None:
                assert body["total"] == len(found)
                return found
            cursor = f"&cursor={body['next_cursor']}"

    assert await listed("") == names[::-1]
    assert await listed("&status=open") == ["dave", "bob"]
    assert await listed("&status=rejected") == ["erin"]
    assert (await programme.admin.get("/reviews?status=none")).pointers == ["/status"]
    assert (await programme.admin.get("/reviews")).body["items"][0]["kinds"] == ["reported"]


# Words of people


@ONCE_SQLITE
async def test_odd_words_come_back_as_they_are(programme: Programme) -> None:
    await programme.come()
    for word in ODD:
        assert (await programme.suspect(note=word))["evidence"] == {"note": word}
    assert (await programme.decide("clear", reason=ODD[0])).body["reason"] == ODD[0]
    refused_words: list[Any] = ["nul\0", "x" * 4096, "", "two\nlines", None, 7, ["x"]]
    for word in refused_words:
        assert (await programme.decide("clear", reason=word)).pointers == ["/reason"]
        refused = await programme.admin.post("/referrals/ext:bob/signals", {"weight": 5, "note": word})
        assert refused.pointers == ["/note"]
    weights: list[Any] = [0, 1001, -5, "5", None, 2**64]
    for weight in weights:
        refused = await programme.admin.post("/referrals/ext:bob/signals", {"weight": weight, "note": "x"})
        assert refused.pointers == ["/weight"]


# Blocks


async def test_a_block_suspects_who_has_the_value_at_once(programme: Programme, follower: Follower) -> None:
    for name in ("bob", "carol", "dave"):
        await programme.come(name)
    await programme.admin.user("carol", email="Carol@Example.com")
    await programme.admin.user("dave", email="dave@example.com")
    await follower.news()
    blocked = await programme.admin.put("/blocks/external-id/bob", {"note": "Chargebacks"})
    assert (blocked.status, blocked.headers["Location"]) == (201, "/api/v1/blocks/external-id/bob")
    assert blocked.body == {
        "kind": "external-id",
        "value": "bob",
        "note": "Chargebacks",
        "created_at": blocked.body["created_at"],
    }
    assert (await programme.admin.put("/blocks/email/CAROL@example.COM")).body["value"] == "carol@example.com"
    assert (await programme.admin.put("/blocks/email-domain/EXAMPLE.com")).body["value"] == "example.com"
    for name, block in (("bob", "external-id"), ("carol", "email")):
        (signal,) = (await programme.review(name))["signals"]
        assert (signal["kind"], signal["weight"], signal["evidence"]) == ("blocked", 100, {"blocks": [block]})
    assert (await programme.admin.get("/reviews/ext:dave")).problem == "not-found"
    assert kinds(await follower.news()) == ["review.opened"] * 2


@ONCE_SQLITE
async def test_a_block_is_put_again_and_deleted(programme: Programme, database_url: str) -> None:
    for value, shown in (("bücher.example.com", "xn--bcher-kva.example.com"), ("Example.COM", "example.com")):
        path = f"/blocks/email-domain/{value}"
        assert (await programme.admin.get(path)).problem == "not-found"
        assert (await programme.admin.delete(path)).problem == "not-found"
        first = await programme.admin.put(path, {"note": "one"})
        assert (first.status, first.body["value"]) == (201, shown)
        again = await programme.admin.put(path, {"note": "two"})
        assert (again.status, again.body) == (200, {**first.body, "note": "two"})
        assert (await programme.admin.put(path)).body["note"] is None
        assert (await programme.admin.get(path)).body["value"] == shown
        assert (await programme.admin.delete(path)).status == 204
        assert (await programme.admin.get(path)).problem == "not-found"
    assert await count(database_url, "audit_events", "event = 'block-made'") == 2
    assert await count(database_url, "audit_events", "event = 'block-deleted'") == 2
    # Case counts for ids of the product's own, which may have any printable character.
    assert (await programme.admin.put("/blocks/external-id/a%2Fb%20%3Cb%3E")).body["value"] == "a/b <b>"
    assert (await programme.admin.get("/blocks/external-id/A%2Fb%20%3Cb%3E")).problem == "not-found"


@ONCE_SQLITE
async def test_what_cannot_be_blocked(programme: Programme, client: Client) -> None:
    for path in ("email/nobody", "email/a%00@example.com", "email-domain/a@b.com", "email-domain/com", "external-id/%00"):
        assert (await programme.admin.put(f"/blocks/{path}")).pointers == [""], path
        assert (await programme.admin.get(f"/blocks/{path}")).problem == "not-found"
        assert (await programme.admin.delete(f"/blocks/{path}")).problem == "not-found"
    long = "x" * 129
    assert (await programme.admin.put(f"/blocks/external-id/{long}")).pointers == [""]
    assert (await programme.admin.put("/blocks/ip/192.0.2.1")).problem == "not-found"
    reader, writer = await Product.with_key(client, "read"), await Product.with_key(client)
    for caller in (reader, writer):
        assert (await caller.get("/blocks")).status == 200
        assert (await caller.put("/blocks/external-id/x")).problem == "forbidden"
        assert (await caller.delete("/blocks/external-id/x")).problem == "forbidden"


async def test_blocks_are_listed_newest_first_and_by_kind(programme: Programme, database_url: str) -> None:
    values = [("external-id", "a b"), ("email", "z@example.com"), ("external-id", "B"), ("email-domain", "example.com")]
    for number, (kind, value) in enumerate(values):
        await programme.admin.put(f"/blocks/{kind}/{value.replace(' ', '%20')}")
        # Two of them at one time.
        await sql(database_url, f"UPDATE blocks SET created_at = {max(number, 1)} WHERE created_at > 1000")

    async def listed(query: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        cursor = ""
        while True:
            body = (await programme.admin.get(f"/blocks?limit=1{query}{cursor}")).body
            found += [(item["kind"], item["value"]) for item in body["items"]]
            if body["next_cursor"] is None:
                assert body["total"] == len(found)
                return found
            cursor = f"&cursor={body['next_cursor']}"

    assert await listed("") == [values[3], values[2], values[0], values[1]]
    assert await listed("&kind=external-id") == [values[2], values[0]]
    assert (await programme.admin.get("/blocks?kind=ip")).pointers == ["/kind"]


async def test_of_32_who_block_the_same_at_once_one_makes_it(programme: Programme) -> None:
    await programme.come()
    answers = await asyncio.gather(*(programme.admin.put("/blocks/external-id/bob") for _ in range(32)))
    assert sorted(answer.status for answer in answers) == [200] * 31 + [201]
    assert len((await programme.review())["signals"]) == 1
