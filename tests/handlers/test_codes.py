"""Codes over HTTP: made, listed, edited, replaced, ended, looked up by text and by e-mail, and mailed to their owner."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from referral.clock import DAY, now, rfc_3339
from tests.conftest import Client, Eventually, MakeClient
from tests.support.people import PASSWORD, Answer, Person, read_mails, text_of
from tests.support.rows import count, everything, expire, make_admin

MakePerson = Callable[..., Awaitable[Person]]


def in_days(days: float) -> str:
    return rfc_3339(now() + int(days * DAY))


def days_until(time: str) -> float:
    """Days from now to an RFC 3339 time."""
    return (datetime.fromisoformat(time) - datetime.now(UTC)) / timedelta(days=1)


async def status_of(person: Person, code: str) -> str:
    """The status of one of the person's codes, as the list of them says."""
    items = (await person.get("/codes")).body["items"]
    return next(str(item["status"]) for item in items if item["code"] == code)


# Made


async def test_a_code_is_made_of_eight_unmistakable_characters(person: MakePerson) -> None:
    alice = await person("alice")
    answer = await alice.post("/codes", {"ttl_days": 30})
    assert answer.status == 201
    code = answer.body["code"]
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{8}", code)
    assert answer.headers["Location"] == f"/api/v1/codes/{code}"
    assert answer.body.keys() == {"code", "status", "expires_at", "created_at", "max_uses", "uses"}
    assert (answer.body["status"], answer.body["max_uses"], answer.body["uses"]) == ("active", None, 0)
    assert 29.99 < days_until(answer.body["expires_at"]) <= 30
    assert abs(days_until(answer.body["created_at"])) < 0.01
    assert (await alice.get("/codes/current")).body == answer.body
    assert (await alice.me())["code"] == answer.body
    assert (await alice.get(answer.headers["Location"])).body["code"] == code
    others = {await alice.make_code(replace=True) for _ in range(20)}
    assert len(others | {code}) == 21


async def test_the_length_of_codes_is_a_setting(make_client: MakeClient) -> None:
    alice = await Person.register(await make_client(codes_length="12"), "alice")
    assert len(await alice.make_code()) == 12


async def test_an_expiry_is_given_as_a_time_of_any_zone_or_as_days(person: MakePerson) -> None:
    alice = await person("alice")
    for given, expected in (
        ({"expires_at": "2033-01-31T12:00:00Z"}, "2033-01-31T12:00:00Z"),
        ({"expires_at": "2033-01-31t15:30:00.999+03:30"}, "2033-01-31T12:00:00Z"),
        ({"expires_at": "2033-01-31 12:00:00z"}, "2033-01-31T12:00:00Z"),
        ({"ttl_days": 3650}, in_days(3650)),
        ({"ttl_days": 1, "max_uses": 2_147_483_647}, in_days(1)),
    ):
        answer = await alice.post("/codes", {**given, "replace": True})
        assert answer.status == 201, given
        assert abs(days_until(answer.body["expires_at"]) - days_until(expected)) < 0.001
        assert answer.body["max_uses"] == given.get("max_uses")


async def test_a_custom_code_is_kept_in_upper_case_and_reserved_words_are_nobodys(person: MakePerson) -> None:
    alice = await person("alice")
    for given, kept in (("abcd", "ABCD"), ("Spring_2-7", "SPRING_2-7"), ("-" * 32, "-" * 32), ("currents", "CURRENTS")):
        answer = await alice.post("/codes", {"code": given, "ttl_days": 1, "replace": True})
        assert (answer.status, answer.body["code"]) == (201, kept)
        assert answer.headers["Location"].endswith(f"/{kept}")
    for word in ("current", "CURRENT", "by-email", "By-Email", "by-emai1", "BY-EMAII"):
        answer = await alice.post("/codes", {"code": word, "ttl_days": 1, "replace": True})
        assert (answer.status, answer.pointers) == (422, ["/code"])


async def test_one_current_code_at_a_time_unless_it_is_replaced(person: MakePerson) -> None:
    alice = await person("alice")
    first = await alice.make_code()
    for members in ({"ttl_days": 1}, {"ttl_days": 1, "replace": False}, {"ttl_days": 1, "code": "another"}):
        answer = await alice.post("/codes", members)
        assert (answer.status, answer.problem) == (409, "active-code-exists")
    second = await alice.make_code(replace=True)
    assert (await status_of(alice, first), await status_of(alice, second)) == ("revoked", "active")
    assert (await alice.get(f"/codes/{first}")).status == 404
    third = await alice.make_code(replace=True, code="third")
    assert (await alice.get("/codes/current")).body["code"] == third == "THIRD"


async def test_a_code_text_is_taken_for_good_and_a_failed_replacement_changes_nothing(
    person: MakePerson, database_url: str
) -> None:
    alice, bob = await person("alice"), await person("bob")
    revoked = await alice.make_code(code="ALICE-1")
    current = await alice.make_code(code="ALICE-2", replace=True)
    own = await bob.make_code()
    before = (await everything(database_url))["codes"]
    for who, text in ((bob, revoked), (bob, current), (bob, current.lower()), (alice, revoked), (alice, current)):
        answer = await who.post("/codes", {"code": text, "ttl_days": 1, "replace": True})
        assert (answer.status, answer.problem) == (409, "code-taken")
    assert (await everything(database_url))["codes"] == before
    assert (await bob.get(f"/codes/{own}")).status == 200


async def test_an_expired_or_used_up_code_is_no_obstacle_to_a_new_one(person: MakePerson, database_url: str) -> None:
    alice = await person("alice")
    expired = await alice.make_code()
    await expire(database_url, expired)
    assert (await status_of(alice, expired), (await alice.me())["code"]) == ("expired", None)
    assert (await alice.get("/codes/current")).problem == "not-found"
    used_up = await alice.make_code(max_uses=1)
    assert await status_of(alice, expired) == "revoked"
    await person("bob", referral_code=used_up)
    assert await status_of(alice, used_up) == "exhausted"
    assert (await alice.get("/codes/current")).body["status"] == "exhausted"
    fresh = await alice.make_code()
    assert (await status_of(alice, used_up), await status_of(alice, fresh)) == ("revoked", "active")
    assert await count(database_url, "codes", "revoked_at IS NULL") == 1


# Listed


async def test_all_codes_that_the_caller_ever_had_are_listed_page_by_page(person: MakePerson) -> None:
    alice, bob = await person("alice"), await person("bob")
    await bob.make_code()
    made = [await alice.make_code(replace=True) for _ in range(5)]
    pages = [await alice.get("/codes", params={"limit": "2"})]
    while "Link" in pages[-1].headers:
        pages.append(await alice.get(pages[-1].headers["Link"].removeprefix("<").partition(">")[0]))
    assert {page.body["total"] for page in pages} == {5}
    assert [len(page.body["items"]) for page in pages] == [2, 2, 1]
    items = [item for page in pages for item in page.body["items"]]
    assert [item["code"] for item in items] == made[::-1]
    assert [item["status"] for item in items] == ["active", *["revoked"] * 4]
    assert pages[-1].body["next_cursor"] is None


async def test_the_total_is_how_many_there_are_whatever_is_tried_at_once(person: MakePerson, database_url: str) -> None:
    alice, bob = await person("alice"), await person("bob")
    await bob.make_code(code="TAKEN")
    bodies = [{"ttl_days": 1, "replace": True, **({"code": "taken"} if number % 4 == 0 else {})} for number in range(24)]
    bodies += [{"ttl_days": 1}] * 8
    answers = await asyncio.gather(*(alice.post("/codes", body) for body in bodies))
    assert {answer.status for answer in answers} == {201, 409}
    made = sum(answer.status == 201 for answer in answers)
    assert made >= 18
    assert (
        (await alice.get("/codes")).body["total"]
        == await count(database_url, "codes", f"referrer_id = '{alice.id}'")
        == made
    )
    assert (await bob.get("/codes")).body["total"] == 1


# Edited


@pytest.mark.parametrize("by_text", [False, True])
async def test_the_owner_edits_a_codes_expiry_and_limit_of_uses(person: MakePerson, by_text: bool) -> None:
    alice = await person("alice")
    code = await alice.make_code(max_uses=5)
    path = f"/codes/{code.lower()}" if by_text else "/codes/current"
    answer = await alice.patch(path, {"ttl_days": 60})
    assert (answer.status, answer.body["max_uses"]) == (200, 5)
    assert 59.99 < days_until(answer.body["expires_at"]) <= 60
    kept = answer.body["expires_at"]
    for members, limit in (({"max_uses": 7}, 7), ({}, 7), ({"max_uses": None}, None), ({"max_uses": 1}, 1)):
        answer = await alice.patch(path, members)
        assert (answer.status, answer.body["max_uses"], answer.body["expires_at"]) == (200, limit, kept)
        assert (await alice.get("/codes/current")).body == answer.body
    answer = await alice.patch(path, {"expires_at": "2033-01-31T12:00:00Z", "max_uses": 2})
    assert (answer.body["expires_at"], answer.body["max_uses"]) == ("2033-01-31T12:00:00Z", 2)
    await person("bob", referral_code=code)
    await person("carol", referral_code=code)
    assert (await alice.get("/codes/current")).body["status"] == "exhausted"
    assert (await alice.patch(path, {"max_uses": 1, "ttl_days": 1})).pointers == ["/max_uses"]
    answer = await alice.patch(path, {"max_uses": 3})
    assert (answer.body["status"], answer.body["uses"], answer.body["expires_at"]) == (
        "active",
        2,
        "2033-01-31T12:00:00Z",
    )
    assert (await alice.get(f"/codes/{code}")).status == 200


async def test_an_expired_code_comes_back_by_a_new_expiry_and_an_ended_one_never(
    person: MakePerson, database_url: str
) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    await expire(database_url, code)
    assert (await alice.patch("/codes/current", {"ttl_days": 1})).problem == "not-found"
    assert (await alice.patch(f"/codes/{code}", {"ttl_days": 1})).body["status"] == "active"
    assert (await alice.get("/codes/current")).body["code"] == code
    assert (await alice.delete(f"/codes/{code}")).status == 204
    answer = await alice.patch(f"/codes/{code}", {"ttl_days": 1})
    assert (answer.status, answer.problem) == (409, "code-ended")
    assert await status_of(alice, code) == "revoked"


# Ended


async def test_an_ended_code_is_nowhere_to_be_found_and_ending_it_again_changes_nothing(
    person: MakePerson, database_url: str
) -> None:
    alice = await person("alice")
    for path in ("/codes/current", "/codes/{}", "/codes/{}"):
        code = await alice.make_code()
        answer = await alice.delete(path.format(code.lower()))
        assert (answer.status, answer.body) == (204, b"")
        assert (await alice.get("/codes/current")).problem == "not-found"
        assert (await alice.get(f"/codes/{code}")).problem == "not-found"
        assert (await alice.me())["code"] is None
        before = await everything(database_url)
        assert (await alice.delete(f"/codes/{code}")).status == 204
        assert (await everything(database_url))["codes"] == before["codes"]


async def test_without_a_current_code_there_is_nothing_to_get_edit_end_or_mail(person: MakePerson) -> None:
    alice = await person("alice")
    for answer in (
        await alice.get("/codes/current"),
        await alice.patch("/codes/current", {"ttl_days": 1}),
        await alice.delete("/codes/current"),
        await alice.post("/codes/current/email"),
    ):
        assert (answer.status, answer.problem) == (404, "not-found")
    assert (await alice.get("/codes")).body == {"items": [], "total": 0, "next_cursor": None}


async def test_codes_are_their_owners_to_edit_and_end_and_admins(
    client: Client, person: MakePerson, database_url: str
) -> None:
    alice, bob, admin = await person("alice"), await person("bob"), await person("admin")
    await make_admin(database_url, admin.id)
    code = await alice.make_code()
    assert (await bob.get(f"/codes/{code}")).status == 200
    for answer in (await bob.patch(f"/codes/{code}", {"ttl_days": 1}), await bob.delete(f"/codes/{code}")):
        assert (answer.status, answer.problem) == (403, "forbidden")
    for who in (alice, bob, admin):
        for unknown in ("NOBODYS", "x", "%00%00%00%00", "a" * 33, "stra%C3%9Fe"):
            for answer in (await who.patch(f"/codes/{unknown}", {"ttl_days": 1}), await who.delete(f"/codes/{unknown}")):
                assert (answer.status, answer.problem) == (404, "not-found")
    nobody = Person(client, "")
    for answer in (await nobody.patch(f"/codes/{code}", {"ttl_days": 1}), await nobody.delete(f"/codes/{code}")):
        assert answer.problem == "unauthorized"
    assert (await alice.get("/codes/current")).body["status"] == "active"
    edited = await admin.patch(f"/codes/{code}", {"expires_at": "2033-01-31T12:00:00Z"})
    assert edited.status == 200
    assert (await bob.get(f"/codes/{code}")).body["expires_at"] == "2033-01-31T12:00:00Z"
    assert (await admin.delete(f"/codes/{code}")).status == 204
    assert (await bob.get(f"/codes/{code}")).status == 404
    assert (await admin.patch(f"/codes/{code}", {"ttl_days": 1})).problem == "code-ended"
    assert (await bob.patch(f"/codes/{code}", {"ttl_days": 1})).problem == "forbidden"


# Looked up


async def test_anybody_finds_an_active_code_by_its_text_in_any_case(client: Client, person: MakePerson) -> None:
    alice = await person("alice")
    code = await alice.make_code(code="Spring-27", max_uses=3)
    nobody = Person(client, "")
    expected = {
        "code": "SPRING-27",
        "expires_at": (await alice.get("/codes/current")).body["expires_at"],
        "referrer": {"id": alice.id, "username": "alice", "name": None},
    }
    for text in (code, "spring-27", "sPrInG-27"):
        answer = await nobody.get(f"/codes/{text}")
        assert (answer.status, answer.body) == (200, expected)
    await alice.patch("/users/me", {"username": None})
    assert (await nobody.get(f"/codes/{code}")).body["referrer"] == {"id": alice.id, "username": None, "name": None}


async def test_a_code_that_is_not_active_is_not_found_by_its_text(
    client: Client, person: MakePerson, database_url: str
) -> None:
    codes = {name: await (await person()).make_code(max_uses=1) for name in ("revoked", "exhausted")}
    nobody = Person(client, "")
    admin = await person("admin", referral_code=codes["exhausted"])
    await make_admin(database_url, admin.id)
    assert (await admin.delete(f"/codes/{codes['revoked']}")).status == 204
    for text in (codes["revoked"], codes["exhausted"], "NOBODYS", "x", "a" * 33, "%C5%BFPRING", "SPR%C4%B0NG"):
        answer = await nobody.get(f"/codes/{text}")
        assert (answer.status, answer.problem) == (404, "not-found"), text


async def by_email(person: Person, email: str) -> Answer:
    return await person.get("/codes/by-email", params={"email": email})


@pytest.mark.parametrize("public", [False, True])
async def test_a_code_is_found_by_its_owners_address_by_users_or_by_anybody_where_that_is_set(
    make_client: MakeClient, public: bool
) -> None:
    client = await make_client(codes_public_lookup=str(public).lower())
    alice, bob = await Person.register(client, "alice"), await Person.register(client, "bob")
    nobody = Person(client, "")
    code = await alice.make_code()
    for who in (alice, bob, nobody):
        for email in ("alice@example.com", "ALICE@EXAMPLE.COM"):
            answer = await by_email(who, email)
            if who is nobody and not public:
                assert (answer.status, answer.problem) == (401, "unauthorized")
            else:
                assert (answer.status, answer.body) == (200, (await nobody.get(f"/codes/{code}")).body)
    seeker = nobody if public else bob
    for email in ("bob@example.com", "nobody@example.com"):
        assert (await by_email(seeker, email)).problem == "not-found"
    await alice.delete("/codes/current")
    assert (await by_email(seeker, alice.email)).problem == "not-found"
    for params in ({}, {"email": ""}, {"email": "x"}, {"email": "a\0b@example.com"}):
        answer = await seeker.get("/codes/by-email", params=params)
        assert (answer.status, answer.pointers) == (422, ["/email"])


async def test_an_address_with_a_percent_sign_is_looked_up_as_it_is(person: MakePerson) -> None:
    alice, other = await person(), await person("other", email="100%41@example.com")
    code = await other.make_code()
    assert (await by_email(alice, other.email)).body["code"] == code
    assert (await by_email(alice, "100A@example.com")).problem == "not-found"


@pytest.mark.parametrize("url", ["memory://", "none://"])
async def test_a_code_that_expired_meanwhile_is_found_by_neither_way(
    make_client: MakeClient, database_url: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client(cache_url=url)
    alice = await Person.register(client, "alice")
    code = await alice.make_code()
    for answer in (await alice.get(f"/codes/{code}"), await by_email(alice, alice.email)):
        assert answer.status == 200
    # The only way around the cache's copy of the expiry is to let the time come.
    later = now() + 31 * DAY
    monkeypatch.setattr("referral.cache.codes.now", lambda: later)
    monkeypatch.setattr("referral.rules.codes.now", lambda: later)
    monkeypatch.setattr("referral.handlers.codes.now", lambda: later)
    monkeypatch.setattr("referral.handlers.code_lookups.now", lambda: later)
    for answer in (await alice.get(f"/codes/{code}"), await by_email(alice, alice.email)):
        assert answer.problem == "not-found"
    assert (await alice.get("/codes/current")).problem == "not-found"
    assert await status_of(alice, code) == "expired"


# Mailed


async def test_the_callers_code_goes_to_the_callers_own_address(
    person: MakePerson, mail_folder: Path, eventually: Eventually
) -> None:
    alice, bob = await person("alice"), await person("bob")
    code = await alice.make_code()
    answer = await alice.post("/codes/current/email")
    assert (answer.status, answer.body) == (202, b"")

    def mails() -> list[str]:
        return [text for mail in read_mails(mail_folder, alice.email) if code in (text := text_of(mail))]

    (text,) = await eventually(mails)
    assert (await alice.get("/codes/current")).body["expires_at"][:10] in text
    assert not any(code in mail.as_string() for mail in read_mails(mail_folder, bob.email))


# Refused


@pytest.mark.parametrize("path", ["/codes", "/codes/current", "/codes/{}"])
async def test_an_expiry_that_is_missing_doubled_past_or_too_far_off_is_refused(
    person: MakePerson, database_url: str, path: str
) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    before = (await everything(database_url))["codes"]
    method, more = ("POST", {"replace": True}) if path == "/codes" else ("PATCH", {})
    cases: list[tuple[dict[str, Any], str]] = [
        ({"expires_at": in_days(1), "ttl_days": 1}, "/expires_at"),
        ({"expires_at": in_days(-1)}, "/expires_at"),
        ({"expires_at": rfc_3339(now())}, "/expires_at"),
        ({"expires_at": in_days(3651)}, "/expires_at"),
        ({"expires_at": "0001-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "0001-01-01T00:00:00+23:59"}, "/expires_at"),
        ({"expires_at": "9999-12-31T23:59:59Z"}, "/expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, "/expires_at"),
        ({"ttl_days": 3651}, "/ttl_days"),
        ({"ttl_days": 0}, "/ttl_days"),
        *([({}, "/expires_at"), ({"max_uses": 1}, "/expires_at")] if path == "/codes" else []),
    ]
    for members, pointer in cases:
        answer = await alice.call(method, path.format(code), {**members, **more})
        assert (answer.status, answer.pointers) == (422, [pointer]), members
    assert (await everything(database_url))["codes"] == before


async def test_the_furthest_expiry_is_a_setting(make_client: MakeClient) -> None:
    alice = await Person.register(await make_client(codes_max_ttl_days="10"), "alice")
    assert (await alice.post("/codes", {"ttl_days": 11})).pointers == ["/ttl_days"]
    assert (await alice.post("/codes", {"expires_at": in_days(10.5)})).pointers == ["/expires_at"]
    assert (await alice.post("/codes", {"ttl_days": 10})).status == 201
    assert (await alice.patch("/codes/current", {"expires_at": in_days(9.5)})).status == 200


async def test_everything_about_ones_own_codes_needs_signing_in(client: Client) -> None:
    nobody = Person(client, "")
    for method, path in (
        ("POST", "/codes"),
        ("GET", "/codes"),
        ("GET", "/codes/current"),
        ("PATCH", "/codes/current"),
        ("DELETE", "/codes/current"),
        ("POST", "/codes/current/email"),
    ):
        answer = await nobody.call(method, path, {"password": PASSWORD} if method != "GET" else None)
        assert (answer.status, answer.problem) == (401, "unauthorized"), (method, path)
