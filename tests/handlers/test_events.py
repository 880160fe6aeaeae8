"""Events: recorded once for each id, with what they cause, or with why they cause nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

import pytest
from orjson import dumps

from referral.clock import DAY, now, rfc_3339
from referral.rules import erasure
from tests.conftest import Client, MakeClient
from tests.support.people import Answer, Person, Product
from tests.support.rows import count, expire, sql

MakePerson = Callable[..., Awaitable[Person]]
USD = {"unit": "USD", "amount": 4900}


def attribution(answer: Answer) -> tuple[str, str | None]:
    """What became of the code, and why; said twice in each answer."""
    assert answer.status in (200, 201), answer.body
    assert answer.body["attribution"] == answer.body["event"]["attribution"]
    return answer.body["attribution"]["status"], answer.body["attribution"]["reason"]


# Recorded


async def test_an_event_makes_its_user_and_is_found_by_its_id(product: Product) -> None:
    user = {"external_id": "42", "email": "Bob@Example.com", "name": "Bob", "metadata": {"plan": "pro", "age": 7}}
    answer = await product.post(
        "/events",
        {
            "id": "in_1QXyz",
            "type": "purchase",
            "user": user,
            "occurred_at": "2026-01-31T13:00:00+01:00",
            "value": USD,
            "metadata": {"size": 2.5, "gift": False},
        },
    )
    assert answer.status == 201
    event = answer.body["event"]
    assert event == {
        "id": "in_1QXyz",
        "type": "purchase",
        "user_id": answer.body["user_id"],
        "occurred_at": "2026-01-31T12:00:00Z",
        "received_at": event["received_at"],
        "value": USD,
        "refunded": {"unit": "USD", "amount": 0},
        "refunds": None,
        "code": None,
        "click_id": None,
        "attribution": {"status": "none", "reason": None},
        "metadata": {"size": 2.5, "gift": False},
    }
    assert {name: answer.body[name] for name in ("referral", "rewards", "skipped")} == {
        "referral": None,
        "rewards": [],
        "skipped": [],
    }
    assert answer.body["ignored"] == []
    assert (await product.get("/events/in_1QXyz")).body == event
    made = (await product.get("/users/ext:42")).body
    assert made["id"] == answer.body["user_id"]
    assert (made["email"], made["email_verified"], made["name"], made["metadata"]) == (
        "Bob@example.com",
        False,
        "Bob",
        {"plan": "pro", "age": 7},
    )


async def test_an_event_changes_what_it_says_of_its_user_and_leaves_the_rest(product: Product) -> None:
    await product.user("42", email="bob@example.com", name="Bob", username="bob")
    answer = await product.post(
        "/events", {"id": "e1", "type": "seen", "user": {"external_id": "42", "name": "Robert", "username": None}}
    )
    assert answer.status == 201
    user = (await product.get("/users/ext:42")).body
    assert (user["email"], user["name"], user["username"]) == ("bob@example.com", "Robert", None)


async def test_an_event_names_its_user_by_our_id_too(product: Product) -> None:
    user = await product.user("42")
    answer = await product.post("/events", {"id": "e1", "type": "seen", "user": {"id": user["id"]}})
    assert (answer.status, answer.body["user_id"]) == (201, user["id"])
    for unknown in ("01a1fc33-b15e-7485-b662-a53a843b9176", "none"):
        assert (await product.post("/events", {"id": "e2", "type": "seen", "user": {"id": unknown}})).problem == "not-found"


async def test_what_another_user_has_does_not_keep_an_event_from_being_recorded(
    product: Product, person: MakePerson
) -> None:
    alice = await person("alice")
    await product.user("43", username="bob")
    user = {"external_id": "42", "email": "ALICE@example.com", "email_verified": True, "username": "Bob", "name": "Bob"}
    code = await alice.make_code()
    answer = await product.report("e1", "signup", user=user, code=code)
    assert attribution(answer) == ("attributed", None)
    bob = (await product.get("/users/ext:43")).body["id"]
    assert answer.body["ignored"] == [
        {"pointer": "/user/email", "reason": "email-taken", "user_id": alice.id},
        {"pointer": "/user/username", "reason": "username-taken", "user_id": bob},
    ]
    made = (await product.get("/users/ext:42")).body
    assert (made["email"], made["email_verified"], made["username"], made["name"]) == (None, False, None, "Bob")
    again = await product.report("e1", "signup", user=user, code=code)
    assert (again.status, again.body) == (200, answer.body)


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_reserved_username_does_not_keep_an_event_from_being_recorded(make_client: MakeClient) -> None:
    product = await Product.with_key(await make_client(auth_reserved_usernames="admin"))
    reserved = await product.report("e2", user={"external_id": "44", "username": "Admin", "name": "Ann"})
    assert reserved.body["ignored"] == [{"pointer": "/user/username", "reason": "username-reserved", "user_id": None}]
    made = (await product.get("/users/ext:44")).body
    assert (made["username"], made["name"]) == (None, "Ann")


# Repeated


async def test_a_repeated_report_gets_the_first_answer_whatever_its_spelling(product: Product, person: MakePerson) -> None:
    code = await (await person("alice")).make_code()
    first = await product.report("e1", code=code, value=USD, metadata={"a": 1, "b": 2})
    again = await product.call(
        "POST",
        "/events",
        data=f'{{"metadata": {{"b": 2, "a": 1.0}}, "code": "{code}", "value": {{"amount": 4900, "unit": "USD"}},'
        ' "type": "purchase", "id": "e1", "user": {"external_id": "42"}}',
        headers={"Content-Type": "application/json"},
    )
    assert first.status == 201
    assert attribution(first) == ("attributed", None)
    assert (again.status, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert "Idempotency-Replayed" not in first.headers
    assert again.body == first.body


async def test_another_report_of_the_same_id_is_refused_and_changes_nothing(product: Product, database_url: str) -> None:
    assert (await product.report("e1", value=USD)).status == 201
    for other in (
        {"value": {"unit": "USD", "amount": 4901}},
        {"value": {"unit": "EUR", "amount": 4900}},
        {"value": USD, "kind": "signup"},
        {"value": USD, "external_id": "43"},
        {"value": USD, "metadata": {}},
        {"value": USD, "user": {"external_id": "42", "name": "Mallory"}},
        {},
    ):
        answer = await product.report("e1", **other)
        assert (answer.status, answer.problem) == (409, "event-mismatch")
    assert await count(database_url, "users") == 1
    assert (await product.get("/users/ext:42")).body["name"] is None


async def test_of_32_equal_reports_at_once_one_is_recorded_and_all_get_its_answer(
    product: Product, person: MakePerson, database_url: str
) -> None:
    alice = await person("alice")
    code = await alice.make_code(max_uses=5)
    user = {"external_id": "42", "email": "bob@example.com", "name": "Bob"}
    answers = await asyncio.gather(
        *(product.report("e1", user=user, code=code, value=USD, context={"ip": "192.0.2.1"}) for _ in range(32))
    )
    assert Counter(answer.status for answer in answers) == {201: 1, 200: 31}
    assert all(answer.body == answers[0].body for answer in answers)
    assert attribution(answers[0]) == ("attributed", None)
    assert await count(database_url, "events", "type = 'purchase'") == 1
    assert await count(database_url, "event_contexts", "event_id = 'e1'") == 1
    assert (await alice.me())["referral_count"] == 1
    assert (await alice.get("/codes/current")).body["uses"] == 1


async def test_of_32_different_reports_of_one_id_at_once_one_is_recorded(product: Product, database_url: str) -> None:
    answers = await asyncio.gather(*(product.report("e1", external_id=f"user {number}", value=USD) for number in range(32)))
    assert Counter(answer.status for answer in answers) == {201: 1, 409: 31}
    assert await count(database_url, "users") == 1


async def test_of_32_events_at_once_for_the_last_uses_of_a_code_as_many_are_attributed(
    product: Product, person: MakePerson
) -> None:
    alice = await person("alice")
    code = await alice.make_code(max_uses=10)
    answers = await asyncio.gather(
        *(product.report(f"e{number}", external_id=f"u{number}", code=code) for number in range(32))
    )
    assert Counter(map(attribution, answers)) == {("attributed", None): 10, ("refused", "exhausted"): 22}
    assert (await alice.me())["referral_count"] == 10


# Attribution


async def test_each_reason_for_which_a_code_causes_nothing(
    product: Product, person: MakePerson, database_url: str, make_client: MakeClient
) -> None:
    alice, carol = await person("alice"), await person("carol")
    expired = await alice.make_code()
    await expire(database_url, expired)
    active = await alice.make_code()
    assert attribution(await product.report("unknown", code="NOSUCH01")) == ("refused", "unknown")
    for number, text in enumerate(("", " ", "\t")):
        assert attribution(await product.report(f"no text {number}", code=text)) == ("none", None)
    for number, text in enumerate(("!", "ß" * 8, "x" * 1_000, "\u202e", "'; --")):
        assert attribution(await product.report(f"text {number}", code=text)) == ("refused", "unknown")
    assert attribution(await product.report("expired", code=expired)) == ("refused", "revoked")
    used_up = await carol.make_code(max_uses=1)
    assert attribution(await product.report("last", external_id="last", code=used_up)) == ("attributed", None)
    assert attribution(await product.report("exhausted", code=used_up)) == ("refused", "exhausted")
    gone = await carol.make_code()
    await expire(database_url, gone)
    assert attribution(await product.report("expired too", code=gone)) == ("refused", "expired")
    assert attribution(
        await product.post("/events", {"id": "own", "type": "seen", "user": {"id": alice.id}, "code": active})
    ) == ("refused", "own-code")
    assert attribution(await product.report("a click", click_id="nobody's")) == ("refused", "unknown")
    # By a chain: the user whom alice brought has a code, which alice uses.
    await product.user("brought", code={"code": "BROUGHT", "ttl_days": 3})
    assert attribution(await product.report("brought", "signup", "brought", code=active)) == ("attributed", None)
    assert attribution(
        await product.post("/events", {"id": "cycle", "type": "seen", "user": {"id": alice.id}, "code": "BROUGHT"})
    ) == ("refused", "cycle")
    assert attribution(await product.report("kept", "seen", "brought", code=active.lower())) == ("kept", None)
    assert attribution(await product.report("kept too", "seen", "brought")) == ("kept", None)
    other = await carol.make_code()
    assert attribution(await product.report("another's", "seen", "brought", code=other)) == ("kept", "already-referred")
    admin = await Product.with_key(product.client, "admin")
    assert (await admin.post(f"/users/{carol.id}/suspend", {"reason": "a test"})).status == 200
    assert attribution(await product.report("suspended", code=other)) == ("refused", "suspended")
    await admin.user("suspended user")
    assert (await admin.post("/users/ext:suspended user/suspend", {"reason": "a test"})).status == 200
    assert attribution(await product.report("suspended user", "seen", "suspended user", code=active)) == (
        "refused",
        "suspended",
    )


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_whoever_is_older_than_30_days_or_has_bought_before_is_referred_too_late(
    product: Product, person: MakePerson
) -> None:
    code = await (await person("alice")).make_code()
    for days, expected in ((29, ("attributed", None)), (31, ("refused", "too-late"))):
        await product.user(f"{days}", created_at=rfc_3339(now() - days * DAY))
        assert attribution(await product.report(f"old {days}", external_id=f"{days}", code=code)) == expected
    # What counts is the time of the event.
    await product.user("late", created_at=rfc_3339(now() - 40 * DAY))
    report = {"code": code, "occurred_at": rfc_3339(now() - 20 * DAY)}
    assert attribution(await product.report("told late", external_id="late", **report)) == ("attributed", None)
    assert attribution(await product.report("first", external_id="buyer")) == ("none", None)
    assert attribution(await product.report("second", external_id="buyer", code=code)) == ("refused", "too-late")
    # A sign-up that is reported after the purchase, and happened before it.
    report = {"code": f" {code.lower()} ", "occurred_at": rfc_3339(now() - 3_600_000)}
    assert attribution(await product.report("sign-up", "signup", "buyer", **report)) == ("attributed", None)
    assert attribution(await product.report("no purchase", "seen", "looker")) == ("none", None)
    assert attribution(await product.report("then", external_id="looker", code=code)) == ("attributed", None)


async def test_the_referrer_sees_whom_events_brought(product: Product, person: MakePerson) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    user = {"external_id": "42", "email": "bob@example.com", "username": "bob", "name": "Bob Archer"}
    answer = await product.report("e1", "signup", user=user, code=code)
    referral = answer.body["referral"]
    assert referral == {
        "id": answer.body["user_id"],
        "external_id": "42",
        "username": "bob",
        "name": "Bob Archer",
        "email": "bob@example.com",
        "joined_at": referral["joined_at"],
        "code": code,
        "source": "code",
        "status": "joined",
        "review": "none",
        "converted_at": None,
    }
    assert (await product.get(f"/users/{alice.id}/referrals")).body["items"] == [referral]
    assert referral.pop("external_id")
    assert (await alice.get("/users/me/referrals")).body["items"] == [referral]
    assert (await product.get("/users/ext:42")).body["referrer"] == {"id": alice.id, "username": "alice", "name": None}


async def test_whoever_comes_again_after_an_erasure_comes_by_nobody(product: Product, person: MakePerson) -> None:
    code = await (await person("alice")).make_code()
    assert attribution(await product.report("e1", code=code)) == ("attributed", None)
    first = (await product.get("/users/ext:42")).body["id"]
    assert (await product.delete("/users/ext:42")).status == 204
    assert attribution(await product.report("e2", code=code)) == ("refused", "known-address")
    assert (await product.get("/users/ext:42")).body["id"] != first
    # By the address, too.
    await product.user("a", email="bob@example.com")
    assert (await product.delete("/users/ext:a")).status == 204
    answer = await product.report("e3", user={"external_id": "b", "email": "bob@example.com"}, code=code)
    assert attribution(answer) == ("refused", "known-address")


async def test_events_of_an_erased_user_are_remembered_without_what_is_personal(product: Product, database_url: str) -> None:
    members: dict[str, Any] = {
        "value": USD,
        "metadata": {"plan": "pro"},
        "click_id": "C",
        "context": {"ip": "192.0.2.1", "device": "d"},
    }
    user = {"external_id": "42", "name": "Bob"}
    first = await product.report("e1", user=user, **members)
    assert (await product.delete("/users/ext:42")).status == 204
    again = await product.report("e1", user=user, **members)
    assert (again.status, again.body["user_id"]) == (200, first.body["user_id"])
    assert (again.body["event"]["metadata"], again.body["event"]["click_id"]) == (None, None)
    assert (await product.report("e1", value={"unit": "USD", "amount": 1})).problem == "event-mismatch"
    assert await count(database_url, "event_contexts") == 0
    assert await count(database_url, "events", "body_hash IS NOT NULL") == 0


async def test_a_user_with_many_events_is_erased_part_by_part(
    product: Product, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "EVENTS_AT_A_TIME", 3)
    for number in range(8):
        members: dict[str, Any] = {
            "metadata": {"plan": "pro"},
            "context": {"device": "d", "ip": "192.0.2.1"},
            "code": "BOBS-OWN",
        }
        assert (await product.report(f"e{number}", **members)).status == 201
    assert (await product.report("other", external_id="43", metadata={"plan": "pro"})).status == 201
    # Received at the same moment: the parts are told by the id, too.
    await sql(database_url, "UPDATE events SET received_at = 7 WHERE id <> 'e0'")
    assert (await product.delete("/users/ext:42")).status == 204
    left = "SELECT count(*) FROM events WHERE metadata IS NOT NULL OR body_hash IS NOT NULL OR code IS NOT NULL"
    assert await sql(database_url, left) == [(1,)]
    assert await count(database_url, "event_contexts") == 0


async def test_an_erased_users_purchase_is_refunded_and_nothing_personal_comes_back(
    product: Product, database_url: str
) -> None:
    bought = await product.report("buy", value=USD)
    assert (await product.delete("/users/ext:42")).status == 204
    refund = {
        "id": "r1",
        "type": "refund",
        "refunds": "buy",
        "user": {"external_id": "42", "email": "bob@example.com"},
        "value": {"unit": "USD", "amount": 900},
        "metadata": {"card": "Bob Archer 4242"},
        "click_id": "clk",
        "code": "BOBS-OWN",
        "context": {"device": "bobs"},
    }
    first = await product.post("/events", refund)
    assert (first.status, first.body["user_id"]) == (201, bought.body["user_id"])
    event = (await product.get("/events/r1")).body
    assert (event["metadata"], event["click_id"], event["code"], event["value"]) == (None, None, None, refund["value"])
    assert (await product.get("/events/buy")).body["refunded"] == refund["value"]
    assert await count(database_url, "event_contexts") + await count(database_url, "users", "erased_at IS NULL") == 0
    again = await product.post("/events", refund)
    assert (again.status, again.body) == (200, first.body)
    assert (await product.post("/events", {**refund, "value": USD})).problem == "event-mismatch"


# Refunds


async def test_a_refund_changes_what_it_says_of_its_user(product: Product) -> None:
    await product.user("43", email="taken@example.com")
    assert (await product.report("buy", value=USD)).status == 201
    user = {"external_id": "42", "name": "Robert", "email": "taken@example.com"}
    answer = await product.post("/events", {"id": "r1", "type": "refund", "refunds": "buy", "user": user})
    assert [found["pointer"] for found in answer.body["ignored"]] == ["/user/email"]
    assert (await product.get("/users/ext:42")).body["name"] == "Robert"
    assert (await product.get("/events/buy")).body["refunded"] == USD


async def test_refunds_take_at_most_the_value_and_without_one_all_that_is_left(product: Product) -> None:
    assert (await product.report("buy", value=USD)).status == 201

    async def refund(event_id: str, **members: Any) -> Answer:
        return await product.post("/events", {"id": event_id, "type": "refund", "refunds": "buy", **members})

    part = await refund("r1", value={"unit": "USD", "amount": 1900}, user={"external_id": "42"})
    assert part.status == 201
    assert part.body["event"]["value"] == {"unit": "USD", "amount": 1900}
    assert part.body["event"]["refunds"] == "buy"
    assert (await product.get("/events/buy")).body["refunded"] == {"unit": "USD", "amount": 1900}
    assert (await refund("r2", value={"unit": "USD", "amount": 3001})).problem == "refund-too-large"
    assert (await refund("r3")).body["event"]["value"] == {"unit": "USD", "amount": 3000}
    assert (await refund("r4")).problem == "refund-too-large"
    # Repeated, when nothing is left any more.
    again = await refund("r1", value={"unit": "USD", "amount": 1900}, user={"external_id": "42"})
    assert (again.status, again.body) == (200, part.body)
    assert (await refund("r3")).status == 200
    assert (await refund("r3", value={"unit": "USD", "amount": 1})).problem == "event-mismatch"


async def test_what_cannot_be_refunded_is_refused(product: Product) -> None:
    assert (await product.report("buy", value=USD)).status == 201
    assert (await product.report("free")).status == 201
    assert (await product.post("/events", {"id": "r", "type": "refund", "refunds": "buy"})).status == 201

    async def refund(refunds: str, **members: Any) -> Answer:
        return await product.post("/events", {"id": "x", "type": "refund", "refunds": refunds, **members})

    unknown = await refund("nothing")
    assert (unknown.status, unknown.problem) == (409, "event-unknown")
    assert (await refund("free")).pointers == ["/refunds"]
    assert (await refund("r")).pointers == ["/refunds"]
    assert (await refund("buy", value={"unit": "EUR", "amount": 1})).pointers == ["/value/unit"]
    assert (await refund("buy", user={"external_id": "another"})).pointers == ["/user"]
    assert (await refund("buy", value={"unit": "USD", "amount": 0})).pointers == ["/value/amount"]


async def test_of_32_refunds_at_once_no_more_is_taken_than_there_was(product: Product) -> None:
    assert (await product.report("buy", value={"unit": "USD", "amount": 1000})).status == 201
    answers = await asyncio.gather(
        *(
            product.post(
                "/events",
                {"id": f"r{number % 16}", "type": "refund", "refunds": "buy", "value": {"unit": "USD", "amount": 100}},
            )
            for number in range(32)
        )
    )
    assert Counter(answer.status for answer in answers) == {201: 10, 200: 10, 422: 12}
    assert (await product.get("/events/buy")).body["refunded"]["amount"] == 1000


# Batches


async def test_a_batch_records_each_event_by_itself_and_in_order(product: Product, person: MakePerson) -> None:
    code = await (await person("alice")).make_code()
    events: list[Any] = [
        {"id": "b1", "type": "signup", "user": {"external_id": "42"}, "code": code},
        {"id": "b2", "type": "purchase", "user": {"external_id": "42"}, "value": USD},
        {"id": "b3", "type": "refund", "refunds": "b2"},
        {"id": "b1", "type": "signup", "user": {"external_id": "42"}, "code": code},
        {"id": "b1", "type": "signup", "user": {"external_id": "43"}},
        {"id": "b4", "type": "NO"},
        "nothing",
        {"id": "b5", "type": "refund", "refunds": "b9"},
        {"id": "b6", "type": "seen", "user": {"external_id": "42"}},
    ]
    answer = await product.post("/events/batch", {"events": events})
    assert answer.status == 200
    results = answer.body["results"]
    assert [result["status"] for result in results] == [201, 201, 201, 200, 409, 422, 422, 409, 201]
    assert results[0]["body"]["attribution"]["status"] == "attributed"
    assert results[3]["body"] == results[0]["body"]
    assert results[4]["body"]["type"] == "/problems/event-mismatch"
    assert {error["pointer"] for error in results[5]["body"]["errors"]} == {"/type"}
    again = await product.post("/events/batch", {"events": events})
    assert [result["status"] for result in again.body["results"]] == [200, 200, 200, 200, 409, 422, 422, 409, 200]


async def test_a_batch_has_500_events_and_2_mib_at_most(product: Product, database_url: str) -> None:
    event = {"type": "seen", "user": {"external_id": "42"}, "metadata": {"text": "x" * 4_000}}
    json = {"Content-Type": "application/json"}

    async def post_large(document: Any) -> Answer:
        return await product.call("POST", "/events/batch", data=BytesIO(dumps(document)), headers=json)

    answer = await post_large({"events": [{"id": f"e{n}", **event} for n in range(500)]})
    assert answer.status == 200
    assert {result["status"] for result in answer.body["results"]} == {201}
    assert await count(database_url, "events") == 500
    wrong: Any
    for wrong in ([], [{}] * 501, None, "events"):
        assert (await product.post("/events/batch", {"events": wrong})).pointers == ["/events"]
    assert (await post_large({"events": [{"id": "x" * 2 * 1024 * 1024}]})).problem == "payload-too-large"
    chunks = (b" " * 65_536 for _ in range(40))

    async def chunked() -> Any:
        for chunk in chunks:
            yield chunk

    refused = await product.call("POST", "/events/batch", data=chunked(), headers=json)
    assert refused.problem == "payload-too-large"


async def test_each_event_of_a_batch_counts_against_the_keys_limit(make_client: MakeClient) -> None:
    client = await make_client(limits_enabled="true", limits_events_by_key="10/hour", limits_request_by_address="1/hour")
    product, other = await Product.with_key(client), await Product.with_key(client)
    events = [{"id": f"e{n}", "type": "seen", "user": {"external_id": "42"}} for n in range(8)]
    assert (await product.post("/events/batch", {"events": events})).status == 200
    assert (await product.get("/events/e1")).status == 200
    refused = await product.post("/events/batch", {"events": events[:2]})
    assert refused.problem == "rate-limited"
    assert refused.headers["RateLimit"].startswith('"events_by_key"')
    # A key has its own limit, and not that of the address.
    assert (await other.get("/events/e1")).status == 200


# Lists


async def test_events_are_listed_by_user_type_and_time(product: Product, database_url: str) -> None:
    for number in range(6):
        assert (
            await product.report(f"e{number}", ("purchase", "seen")[number % 2], f"u{number % 3}", value=USD)
        ).status == 201
    await sql(database_url, "UPDATE events SET received_at = received_at - 100000 WHERE id IN ('e0', 'e1', 'e2')")

    async def ids(query: str) -> list[str]:
        found, path = [], f"/events?limit=2&{query}"
        while path:
            answer = await product.get(path)
            assert answer.status == 200, answer.body
            found += [event["id"] for event in answer.body["items"]]
            path = answer.headers.get("Link", "").partition("<")[2].partition(">")[0]
        assert answer.body["total"] == len(found)
        return found

    assert await ids("") == ["e5", "e4", "e3", "e2", "e1", "e0"]
    assert await ids("user=ext:u1") == ["e4", "e1"]
    user_id = (await product.get("/users/ext:u1")).body["id"]
    assert await ids(f"user={user_id}") == ["e4", "e1"]
    assert await ids("user=ext:u1&type=seen") == ["e1"]
    assert await ids("type=purchase") == ["e4", "e2", "e0"]
    assert await ids(f"since={rfc_3339(now() - 50_000)}") == ["e5", "e4", "e3"]
    assert await ids(f"type=seen&since={rfc_3339(now() - 50_000)}") == ["e5", "e3"]
    assert await ids("type=see") == []
    assert (await product.get("/events?user=ext:nobody")).problem == "not-found"
    for unknown in ("%00", "a%00b", "e9", "x" * 129):
        assert (await product.get(f"/events/{unknown}")).problem == "not-found"
    for wrong in ("since=yesterday", "type=NO", "user="):
        assert (await product.get(f"/events?{wrong}")).status == 422


# What accounts of our own report


async def test_accounts_of_our_own_report_their_sign_up_and_their_address(
    client: Client, product: Product, person: MakePerson, mailed: Callable[..., Awaitable[str]], database_url: str
) -> None:
    alice = await person("alice")
    event = (await product.get(f"/events/signup:{alice.id}")).body
    assert (event["type"], event["user_id"], event["value"]) == ("signup", alice.id, None)
    assert (event["attribution"], event["code"]) == ({"status": "none", "reason": None}, None)
    assert await count(database_url, "events") == 1
    # Another's report of the same id is another event.
    for user, value in (({"external_id": "foreign"}, None), ({"id": alice.id}, USD)):
        report = {"id": f"signup:{alice.id}", "type": "signup", "user": user, "value": value}
        assert (await product.post("/events", report)).problem == "event-mismatch"
    repeated = await product.post("/events", {"id": f"signup:{alice.id}", "type": "signup", "user": {"id": alice.id}})
    assert repeated.status == 200
    token = await mailed(alice.email)
    for _ in range(2):
        assert (await alice.post("/auth/email/verify", {"token": token})).status == 204
    assert (await product.get(f"/events/email-verified:{alice.id}")).body["type"] == "email-verified"
    assert await count(database_url, "events") == 2
    code = await alice.make_code()
    bob = await person("bob", referral_code=code)
    event = (await product.get(f"/events/signup:{bob.id}")).body
    assert (event["attribution"], event["code"]) == ({"status": "attributed", "reason": None}, code)


# Bad input

GOOD = {"id": "e1", "type": "purchase", "user": {"external_id": "42"}, "value": USD}


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_bad_input_is_refused_by_member_and_leaves_nothing(product: Product, database_url: str) -> None:
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("/id", {"id": ""}),
        ("/id", {"id": "x" * 129}),
        ("/id", {"id": "a\nb"}),
        ("/id", {"id": "a\0"}),
        ("/id", {"id": 7}),
        ("/id", {"id": "."}),
        ("/id", {"id": ".."}),
        ("/id", {"id": "batch"}),
        ("/type", {"type": "Purchase"}),
        ("/type", {"type": "x" * 65}),
        ("/type", {"type": "1st"}),
        ("/user", {"user": None}),
        ("/user/external_id", {"user": {}}),
        ("/user/external_id", {"user": {"external_id": "42", "id": "01a1fc33-b15e-7485-b662-a53a843b9176"}}),
        ("/user/external_id", {"user": {"external_id": "x" * 129}}),
        ("/user/external_id", {"user": {"external_id": "a\u200eb"}}),
        ("/user/email", {"user": {"external_id": "42", "email": "no address"}}),
        ("/user/email_verified", {"user": {"external_id": "42", "email_verified": True}}),
        ("/user/created_at", {"user": {"external_id": "42", "created_at": rfc_3339(now() + DAY)}}),
        ("/user/metadata", {"user": {"external_id": "42", "metadata": {"x": "y" * 4_096}}}),
        ("/occurred_at", {"occurred_at": rfc_3339(now() + 360_000)}),
        ("/occurred_at", {"occurred_at": "yesterday"}),
        ("/value/amount", {"value": {"unit": "USD", "amount": -1}}),
        ("/value/amount", {"value": {"unit": "USD", "amount": 1.5}}),
        ("/value/amount", {"value": {"unit": "USD", "amount": "1"}}),
        ("/value/amount", {"value": {"unit": "USD", "amount": 2**53}}),
        ("/value/amount", {"value": {"unit": "USD"}}),
        ("/value/unit", {"value": {"amount": 1}}),
        ("/refunds", {"refunds": "e0"}),
        ("/refunds", {"type": "refund"}),
        ("/code", {"code": "x" * 1_001}),
        ("/code", {"code": 7}),
        ("/context/ip", {"context": {"ip": 7}}),
        ("/context/shoe", {"context": {"shoe": "7"}}),
        ("/metadata", {"metadata": {f"n{number}": 1 for number in range(21)}}),
        ("/metadata", {"metadata": {"x" * 41: 1}}),
        ("/metadata", {"metadata": {"": 1}}),
        ("/metadata/a", {"metadata": {"a": None}}),
        ("/metadata/a", {"metadata": {"a": []}}),
        ("/metadata/a", {"metadata": {"a": "\0"}}),
        ("/metadata", {"metadata": []}),
        ("/reward", {"reward": 1}),
    ]
    for pointer, members in wrong:
        answer = await product.post("/events", {**GOOD, **members})
        assert pointer in answer.pointers, (pointer, members, answer.body)
    for missing in ("id", "type", "user"):
        assert (await product.post("/events", {k: v for k, v in GOOD.items() if k != missing})).pointers == [f"/{missing}"]
    unit = await product.post("/events", {**GOOD, "value": {"unit": "XYZ", "amount": 1}})
    assert (unit.status, unit.problem) == (422, "unit-unknown")
    assert await count(database_url, "events") + await count(database_url, "users") == 0


async def test_the_largest_that_is_allowed_is_taken(product: Product) -> None:
    metadata = {f"name {number:035}": "x" * 10 for number in range(20)}
    # 4096 bytes as JSON: with one more it is refused.
    metadata["filler"] = ""
    metadata.pop("name " + f"{0:035}")
    metadata["filler"] = "x" * (4_096 - len(dumps(metadata)))
    longest = {"id": "ж" * 128, "type": "x" * 64, "user": {"external_id": "漢/%2F?#..é" * 12}, "metadata": metadata}
    assert (await product.post("/events", longest)).status == 201
    metadata["filler"] += "x"
    assert (await product.post("/events", {**longest, "id": "e2"})).pointers == ["/metadata"]
    for number, extreme in enumerate((1e300, -1e300, 2**63 - 1, -(2**63), 1e18, 5e-324, 0.1)):
        report = {"id": f"n{number}", "type": "seen", "user": {"external_id": "42"}, "metadata": {"x": extreme}}
        assert (await product.post("/events", report)).status == 201, extreme
        assert (await product.post("/events", report)).body["event"]["metadata"] == {"x": extreme}
    most = {"unit": "POINTS", "amount": 2**53 - 1}
    assert (await product.report("most", value=most)).body["event"]["value"] == most
    assert (await product.post("/events", {"id": "r", "type": "refund", "refunds": "most"})).status == 201
