"""What nobody should send: each wrong thing is answered by a problem at its pointer, never by a 500, and nothing is done."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import struct
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import orjson
import pytest
from aiohttp import web

from referral.app import create_app
from referral.metrics import METRICS
from referral.web.bodies import _load_kept
from tests.conftest import Client, Eventually, MakeConfig
from tests.support.endpoints import OAUTH, PAGES
from tests.support.people import API, PASSWORD, UNKNOWN, Person, Product
from tests.support.rows import everything, is_at_rest
from tests.support.wire import raw

MakePerson = Callable[..., Awaitable[Person]]

TOKEN = "hR2nF0cZ7v8mQx1TzYk3w5LJ9sEaBdGiUoPqXyWtVfM"
LONG = "x" * 10_000

# No text at all.
NO_TEXT: list[Any] = [0, 1.5, True, [], ["x"], {}, {"x": "y"}]
EMAILS = [
    *(*NO_TEXT, None, "", "x", "@", "a@", "@b.com", "a@b", "a b@example.com", "a@exa mple.com", "a@b@example.com"),
    *(
        "a\0@example.com",
        "a@example\0.com",
        "a\r\nBcc: b@example.com",
        "a\u202e@example.com",
        "a@-.com",
        f"{LONG}@example.com",
    ),
    *("Alice <a@example.com>", "a@example.com,b@example.com", "a@[127.0.0.1]", "a@" + "b" * 64 + ".com"),
]
PASSWORDS = [*NO_TEXT, None, "", "x" * 2_000, LONG]
NEW_PASSWORDS = [*PASSWORDS, "short", "1234567"]
USERNAMES = [
    *(
        *NO_TEXT,
        "",
        "x",
        "x" * 33,
        LONG,
        "a b",
        " ab",
        "ab ",
        "a\0b",
        "ab\0",
        "a\nb",
        "a\tb",
        "\x1b[31m",
        ".ab",
        "-ab",
        "_ab",
    ),
    # Bidi controls, zero-width and other invisible characters, an unassigned one, a private one.
    *("a\u202eb", "a\u2066b", "a\u200bb", "a\u00adb", "a\ufeffb", "a\u0378b", "a\ue000b", "\u0301ab", "a@b", "a/b", "😀😀"),
]
CODES = [
    *(*NO_TEXT, "", "abc", "x" * 33, LONG, "AB CD", "ABC\0", "ABCD\n", "ABÇD", "straße", "ＡＢＣＤ", "\u0430bcd"),
]
TIMES = [
    *(*NO_TEXT, None, "", "soon", "2033-01-31", "2033-01-31T12:00:00", "2033-02-30T12:00:00Z", "2033-01-31T25:00:00Z"),
    *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59"),
    *("0001-01-01T00:00:00+23:59", "10000-01-01T00:00:00Z", "2033-01-31T12:00:00+99:99", "20330131T120000Z"),
    *("2033-W05-1T12:00:00Z", "٢٠٣٣-01-31T12:00:00Z", "2033-01-31T12:00:00Z\0", "1990-01-01T00:00:00Z", 2_000_000_000),
]
NUMBERS: list[Any] = ["", "1", [], {}, True, False, 0, -1, 1.5, 1e30, 10**30, -(2**63), 2**64, 2**31]
DAYS = [*NUMBERS, None, 3651, 36_501]
BOOLEANS: list[Any] = [None, 0, 1, "", "true", [], {}]
SHORT_CODES = [*NO_TEXT, None, "", "1" * 65, LONG]
TOKENS = [*NO_TEXT, None, "", "x" * 4_097, LONG]

# No line that can be printed.
LINES = ["", "a\nb", "a\tb", "a\0b", "a\u202eb", "a\u200bb", "\u0378", "\ue000", LONG]
METADATA: list[Any] = [
    0,
    True,
    "x",
    [],
    ["x"],
    {"": 1},
    {"x" * 41: 1},
    {"a\nb": 1},
    {f"n{n}": n for n in range(21)},
    {"x": LONG},
]


def given(values: list[Any]) -> list[Any]:
    """The values but for null."""
    return [value for value in values if value is not None]


TEXTS: list[Any] = [*NO_TEXT, "x" * 1_001, LONG]
EXPIRY: dict[str, list[Any]] = {"expires_at": TIMES, "ttl_days": DAYS, "max_uses": NUMBERS}
# Each call that takes JSON: a body that is good but for the member, and what each member must not be.
CALLS: dict[tuple[str, str], tuple[dict[str, Any], dict[str, list[Any]]]] = {
    ("POST", "/auth/register"): (
        {"email": "new@example.com", "password": PASSWORD},
        {"email": EMAILS, "password": NEW_PASSWORDS, "username": USERNAMES, "referral_code": CODES, "click_id": TEXTS},
    ),
    ("POST", "/auth/password/change"): (
        {"current_password": PASSWORD, "new_password": PASSWORD},
        {"current_password": PASSWORDS, "new_password": NEW_PASSWORDS},
    ),
    ("POST", "/auth/password/reset"): ({"email": "new@example.com"}, {"email": EMAILS}),
    ("POST", "/auth/password/reset/confirm"): (
        {"token": TOKEN, "new_password": PASSWORD},
        {"token": TOKENS, "new_password": NEW_PASSWORDS},
    ),
    ("POST", "/auth/email/verify"): ({"token": TOKEN}, {"token": TOKENS}),
    ("POST", "/auth/email/disown"): ({"token": TOKEN}, {"token": TOKENS}),
    ("POST", "/auth/email/change"): (
        {"email": "new@example.com", "current_password": PASSWORD},
        {"email": EMAILS, "current_password": PASSWORDS},
    ),
    ("POST", "/users/me/second-factor"): ({"password": PASSWORD}, {"password": PASSWORDS}),
    ("POST", "/users/me/second-factor/confirm"): ({"code": "123456"}, {"code": SHORT_CODES}),
    ("DELETE", "/users/me/second-factor"): (
        {"password": PASSWORD, "code": "123456"},
        {"password": PASSWORDS, "code": SHORT_CODES},
    ),
    ("PATCH", "/users/me"): ({"username": "alice"}, {"username": USERNAMES}),
    ("DELETE", "/users/me"): ({"password": PASSWORD}, {"password": PASSWORDS}),
    ("POST", "/users/me/referrer"): ({"code": "ANOTHER"}, {"code": [*CODES, None]}),
    ("POST", "/codes"): ({"ttl_days": 1}, {**EXPIRY, "code": [*CODES, None, "CURRENT"], "replace": BOOLEANS}),
    ("PATCH", "/codes/current"): ({"ttl_days": 1}, EXPIRY),
    ("PATCH", "/codes/{code}"): ({"ttl_days": 1}, EXPIRY),
    ("POST", "/users/{user}/codes"): (
        {"ttl_days": 1},
        {**EXPIRY, "code": [*CODES, None, "CURRENT"], "replace": BOOLEANS},
    ),
    ("PUT", "/users/{user}"): (
        {"name": "Bob"},
        {
            "email": given(EMAILS),
            "email_verified": given(BOOLEANS),
            "name": [*NO_TEXT, *LINES, "x" * 201],
            "username": USERNAMES,
            "metadata": METADATA,
            "created_at": [*given(TIMES[:-2]), 2_000_000_000],
            "external_id": [*NO_TEXT, *LINES, "x" * 129, "another"],
            "code": [0, True, [], "CODE"],
        },
    ),
    ("POST", "/users/{user}/suspend"): ({"reason": "x"}, {"reason": [*NO_TEXT, *LINES, None, "x" * 501]}),
    ("POST", "/users/{user}/token"): ({}, {"ttl_seconds": [*NUMBERS, None, 59, 86_401]}),
    ("POST", "/keys"): (
        {"name": "x", "scope": "read"},
        {"name": [*NO_TEXT, *LINES, None, "x" * 101], "scope": [*NO_TEXT, None, "", "READ", "root"]},
    ),
    ("POST", "/events"): (
        {"id": "x", "type": "seen", "user": {"external_id": "42"}},
        {
            "id": [*NO_TEXT, *LINES, None, "x" * 129],
            "type": [*NO_TEXT, *LINES, None, "Seen", "x" * 65, "-seen", "refund "],
            "user": [0, True, [], "42", None],
            "occurred_at": [*TIMES[:-2], 2_000_000_000],
            "value": [0, True, [], "USD 5"],
            "refunds": [*NO_TEXT, *LINES, "x" * 129],
            "code": TEXTS,
            "click_id": TEXTS,
            "context": [0, True, [], "192.0.2.1"],
            "metadata": METADATA,
        },
    ),
    ("POST", "/clicks"): (
        {"code": "ANOTHER"},
        {"code": [*CODES, None], "url": [*NO_TEXT, "x" * 4_001, LONG], "context": [0, True, [], "192.0.2.1"]},
    ),
    ("POST", "/events/batch"): ({"events": [{}]}, {"events": [0, True, {}, "x", None, [], [1] * 501]}),
}
OBJECTS: list[Any] = [0, True, [], "x"]
# Those of any year are times.
NO_TIMES = [
    value for value in TIMES if not re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}(Z|[+-]23:59)", str(value)) or "25:" in value
]
AMOUNTS: list[Any] = [*NUMBERS[:-1], 2**53]
RULE: dict[str, list[Any]] = {
    "name": [*NO_TEXT, *LINES, None, "x" * 101],
    "on": [*NO_TEXT, *LINES, None, "Seen", "x" * 65, "refund"],
    "to": [*NO_TEXT, None, "both", LONG],
    "times": [value for value in NUMBERS if value is not False],
    "give": [*OBJECTS, None],
    "tiers": [0, True, "x", {}],
    "if": OBJECTS,
    "hold_days": ["", "1", [], {}, True, None, -1, 365.1, 1e30, 2**64],
    "approval": [*NO_TEXT, None, "never"],
    "limits": OBJECTS,
    "starts_at": [value for value in NO_TIMES if value is not None],
    "ends_at": [value for value in NO_TIMES if value is not None],
    "enabled": BOOLEANS,
}
GIVEN: dict[str, Any] = {"kind": "balance", "unit": "USD", "fixed": 500}
REASONS: list[Any] = [*NO_TEXT, *LINES, None, "x" * 501]
IDS: list[Any] = [*NO_TEXT, *LINES, None, "x" * 129]
CALLS |= {
    ("POST", "/rules"): ({"name": "A rule", "on": "purchase", "to": "referrer", "give": GIVEN}, RULE),
    ("PATCH", "/rules/{rule_id}"): ({}, RULE),
    ("POST", "/rules/preview"): (
        {"rule": {"name": "A rule", "on": "purchase", "to": "referrer", "give": GIVEN}, "since": "2026-01-31T12:00:00Z"},
        {"rule": [*OBJECTS, None], "since": NO_TIMES},
    ),
    ("POST", "/rewards"): (
        {"id": "x", "user": {"external_id": "42"}, "kind": "coupon", "label": "A month", "reason": "a test"},
        {
            "id": IDS,
            "user": [*OBJECTS, None],
            "kind": [*NO_TEXT, None, "gift"],
            "value": OBJECTS,
            "label": [*NO_TEXT, *LINES, "x" * 101],
            "hold_days": ["", "1", [], {}, True, None, -1, 365.1, 1e30, 2**64],
            "reason": REASONS,
        },
    ),
    ("POST", "/rewards/{reward_id}/approve"): ({}, {"now": BOOLEANS}),
    ("POST", "/rewards/{reward_id}/reject"): ({"reason": "a test"}, {"reason": REASONS}),
    ("POST", "/rewards/{reward_id}/fulfil"): ({}, {"reference": [*NO_TEXT, *LINES, "x" * 201]}),
    ("POST", "/rewards/{reward_id}/reverse"): (
        {"id": "x", "reason": "a test"},
        {"id": IDS, "amount": AMOUNTS, "reason": REASONS},
    ),
    ("POST", "/users/{user}/redemptions"): (
        {"id": "x", "unit": "USD", "amount": 5},
        {
            "id": IDS,
            "unit": [*NO_TEXT, *LINES, None, "x" * 21],
            "amount": [*AMOUNTS, None],
            "reference": [*NO_TEXT, *LINES, "x" * 201],
            "note": [*NO_TEXT, *LINES, "x" * 501],
            "hold_seconds": [*NUMBERS, 59, 86_401],
        },
    ),
}
NOTES: list[Any] = [*NO_TEXT, *LINES, "x" * 501]
CALLS |= {
    ("POST", "/reviews/{user}/clear"): ({"reason": "a test"}, {"reason": REASONS}),
    ("POST", "/reviews/{user}/reject"): ({"reason": "a test"}, {"reason": REASONS, "suspend_referrer": BOOLEANS}),
    ("POST", "/referrals/{user}/signals"): (
        {"weight": 5, "note": "a test"},
        {"weight": [*NUMBERS, None, 0, 1001], "note": [*NOTES, None]},
    ),
    ("PUT", "/blocks/{kind}/{value}"): ({}, {"note": NOTES}),
}
URLS: list[Any] = [
    *NO_TEXT,
    None,
    "",
    "x",
    "//shop.example.com/",
    "ftp://shop.example.com/",
    "https://",
    "https://a:b@shop.example.com/",
    "https://shop.example.com/#part",
    "https://shop.example.com:0/",
    "https://shop.example.com:65536/",
    "https://2130706433/",
    "https://shop example.com/",
    "https://shop.example.com/\x00",
    f"https://shop.example.com/{'x' * 2000}",
]
PATTERNS: list[Any] = [0, True, "x", {}, None, [], ["reward.*", "reward.*"]]
CALLS |= {
    ("POST", "/webhooks"): ({"url": "https://shop.example.com/", "types": ["*"]}, {"url": URLS, "types": PATTERNS}),
    ("PATCH", "/webhooks/{webhook_id}"): (
        {},
        {"url": URLS, "types": PATTERNS, "status": [*NO_TEXT, None, "", "deleted", "Enabled"]},
    ),
    ("POST", "/webhooks/{webhook_id}/replay"): (
        {"since": "2026-01-31T12:00:00Z"},
        {"since": NO_TIMES, "types": PATTERNS},
    ),
}
REQUIRED = {"email", "password", "current_password", "new_password", "token", "events", "reason"}
# Those whose body may be left out.
OPTIONAL = {
    ("DELETE", "/users/me"),
    ("POST", "/users/{user}/token"),
    ("POST", "/rewards/{reward_id}/approve"),
    ("POST", "/rewards/{reward_id}/fulfil"),
    ("PUT", "/blocks/{kind}/{value}"),
}
# What a back end calls.
BY_KEY = (
    *("/users/{user}", "/keys", "/events", "/clicks", "/rules", "/rewards", "/reviews", "/referrals", "/blocks"),
    "/webhooks",
)
# What paths name; a rule and a reward are looked for once the body is good.
NAMED = {"code": "ALICES", "user": "ext:42", "rule_id": UNKNOWN, "reward_id": UNKNOWN, "webhook_id": UNKNOWN}
NAMED |= {"kind": "email-domain", "value": "example.com"}


@pytest.fixture
def engine() -> str:
    """What is refused before a database is asked; the tests of what reaches one say so."""
    return "sqlite"


@pytest.fixture
async def alice(person: MakePerson, database_url: str, eventually: Eventually) -> AsyncIterator[Person]:
    """Somebody signed in who has a code; after the test, the database is as it was and no fault was logged."""
    alice = await person("alice")
    await alice.make_code(code="ALICES")
    await (await Product.with_key(alice.client)).user("42")
    await eventually(lambda: is_at_rest(database_url))
    before = await everything(database_url)
    yield alice
    after = await everything(database_url)
    # That somebody was refused a sign-in or a registration is on record.
    silent: dict[str, list[Any]] = {"audit_events": [], "service_keys": []}
    assert after | silent == before | silent


@pytest.fixture(autouse=True)
def no_fault_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After the test, the service and the server below it have logged no error but bodies that could not be read."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if is_fault(record)] == []


def is_fault(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return record.levelno >= logging.ERROR and not isinstance(error, web.RequestPayloadError)


def only_text_of(document: Any) -> Iterator[str]:
    for error in document["errors"]:
        yield error["detail"]


# Members


def test_every_member_of_every_body_is_in_the_tables_above(make_config: MakeConfig) -> None:
    there = {
        (route.method, str(route.resource.canonical).removeprefix(API)): {
            field.data_key or name for name, field in described["schema"].fields.items()
        }
        for route in create_app(make_config()).router.routes()
        for described in getattr(route.handler, "__schemas__", ())
        if described["location"] == "json" and route.resource
    }
    assert {call: set(members) for call, (_, members) in CALLS.items()} == there


@pytest.mark.parametrize("call", CALLS, ids="{0[0]} {0[1]}".format)
async def test_a_wrong_member_is_refused_at_its_pointer(alice: Person, call: tuple[str, str]) -> None:
    method, path = call[0], call[1].format(**NAMED)
    good, members = CALLS[call]
    caller, wrong = await caller_of(alice, call[1]), []
    for member, values in members.items():
        for value in values:
            body = {**({} if member == "expires_at" else good), member: value}
            # As the client would send it: integers beyond 64 bits, too.
            answer = await caller.call(
                method, path, data=json.dumps(body), headers={"Content-Type": "application/json", **bearer(caller)}
            )
            if answer.status != 422 or answer.pointers != [f"/{member}"] or not all(only_text_of(answer.body)):
                wrong.append((member, value, answer.status, answer.body))
    assert wrong == []


async def caller_of(alice: Person, path: str) -> Person:
    """Who may call it."""
    return await Product.with_key(alice.client, "admin") if path.startswith(BY_KEY) else alice


def bearer(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.tokens['access_token']}"}


@pytest.mark.parametrize("call", CALLS, ids="{0[0]} {0[1]}".format)
async def test_unknown_missing_and_shapeless_members_are_refused(alice: Person, call: tuple[str, str]) -> None:
    method, path = call[0], call[1].format(**NAMED)
    good, members = CALLS[call]
    caller = await caller_of(alice, call[1])
    for name in ("unknown", "role", "Email", "", "a/b", "a~b", "ключ", "\0", "__proto__"):
        answer = await caller.call(method, path, {**good, name: 1})
        assert (answer.status, answer.pointers) == (422, ["/" + name.replace("~", "~0").replace("/", "~1")]), name
    for shapeless in ([], [good], "text", 1, True):
        answer = await caller.call(method, path, shapeless)
        assert (answer.status, answer.pointers) == (422, [""]), shapeless
    for required in REQUIRED & members.keys():
        if required in good:
            answer = await caller.call(method, path, {name: value for name, value in good.items() if name != required})
            assert (answer.status, answer.pointers) == (422, [f"/{required}"])
    answer = await caller.call(method, path, {name: [] for name in members})
    wrong = {name for name, values in members.items() if [] in values}
    assert sorted(answer.pointers) == sorted(f"/{name}" for name in wrong), "each of several is named"


async def test_the_least_length_of_a_password_is_counted_in_characters(alice: Person, database_url: str) -> None:
    for password in ("1234567", "пароль1"):
        answer = await alice.post("/auth/register", {"email": "new@example.com", "password": password})
        assert answer.pointers == ["/password"]
        assert "8 characters" in answer.body["errors"][0]["detail"]


@pytest.mark.parametrize("last", ["я", "\0", "😀"])
async def test_the_last_character_of_a_long_password_matters(person: MakePerson, last: str) -> None:
    password = "пароль-" * 14 + "п" + last
    assert len(password) == 100
    alice = await person("alice", password=password)
    for other in (password[:-1], password[:-1] + "ю", password + "x"):
        assert (await alice.sign_in(other)).body["error"] == "invalid_grant"
    assert (await alice.sign_in(password)).status == 200


# Query strings


async def test_long_queries_are_not_kept_in_memory(alice: Person) -> None:
    before = _load_kept.cache_info().currsize
    for number in range(3):
        assert (await alice.get("/codes", params={"cursor": f"{number}{LONG[:4_000]}"})).pointers == ["/cursor"]
    assert _load_kept.cache_info().currsize == before


async def test_a_wrong_query_is_refused_at_its_pointer(alice: Person) -> None:
    cursors = [
        *("", "x", "nonsense", "%", "\0", "ü", "é" * 50, "AAAA", "bnVsbA==", "W10=", "WzFd", "e30=", LONG[:4_000]),
        # [1.5, "x"], [true, "x"], ["1", "x"], [-1, "x"], [2**63, "x"], [1, null], [1, "\0"], [1, "x", 2]
        *("WzEuNSwieCJd", "W3RydWUsIngiXQ==", "WyIxIiwieCJd", "Wy0xLCJ4Il0=", "WzkyMjMzNzIwMzY4NTQ3NzU4MDgsIngiXQ=="),
        *("WzEsbnVsbF0=", "WzEsIlx1MDAwMCJd", "WzEsIngiLDJd", "' OR 1=1 --"),
    ]
    limits = ["", "x", "0", "-1", "101", "1.5", "1e2", "9" * 5_000, "\0", "null", "5 or 1=1", "+1", "01", " 1", "\u0663"]
    for path in ("/codes", "/users/me/referrals", f"/users/{alice.id}/referrals"):
        for member, values in (("cursor", cursors), ("limit", limits)):
            for value in values:
                answer = await alice.get(path, params={member: value})
                assert (answer.status, answer.pointers) == (422, [f"/{member}"]), (path, member, value)
        assert (await alice.get(path, params={"offset": "1"})).pointers == ["/offset"]
        assert (await alice.get(path, params={"limit": "0", "cursor": "x"})).pointers == ["/limit", "/cursor"]
    reader = await Product.with_key(alice.client, "read")
    wrong = [limit for limit in limits if limit not in ("0", "101")]
    for member, values in (
        ("after", [*wrong, str(2**53)]),
        ("wait", [*wrong, "31"]),
        ("limit", limits),
        (
            "types",
            ["", ",", "x", "reward", "reward.", "*.created", "Reward.*", "ping,", "ping, ping", "ping\0", LONG[:4_000]],
        ),
    ):
        for value in values:
            answer = await reader.get("/changes", params={member: value})
            assert (answer.status, answer.pointers) == (422, [f"/{member}"]), (member, value)
    emails = ["", "x", "a\0@example.com", "a@example\0.com", "\u202e@example.com", LONG[:4_000] + "@example.com"]
    for email in emails:
        assert (await alice.get("/codes/by-email", params={"email": email})).pointers == ["/email"]
    for query in ("email=%FF", "email=%00", "email=%ZZ", "email", "%00=x"):
        answer = await alice.get(f"/codes/by-email?{query}")
        assert (answer.status, answer.problem) == (422, "validation-error"), query


async def test_a_cursor_of_another_list_is_harmless(alice: Person) -> None:
    for key in ([0, ""], [2**62, "~"], [1_700_000_000_000, "' OR 1=1 --"], [1_700_000_000_000, "ключ"]):
        cursor = orjson.dumps(key).hex()
        assert (await alice.get("/codes", params={"cursor": cursor})).status in (200, 422)


# Bodies


JSON = "application/json"
BODIES: list[tuple[int, str, bytes, str]] = [
    *(
        (400, "malformed-json", body, JSON)
        for body in (
            *(b"", b"  \n", b"{", b"{}}", b"{'email': 1}", b'{"email": }', b'{"email": NaN}', b'{"email": Infinity}'),
            *(b"\xff", b'{"email": "\xff"}', b'{"email": "\xed\xa0\x80"}', b'{"email": "\\ud800"}', b'{"\\udfff": 1}'),
            *(b'{"email": "a\0b"}', b"\xef\xbb\xbf{}", '{"email": "x"}'.encode("utf-16"), b"[" * 30_000, b'{"a":' * 12_000),
            *(b'{"email": "x",}', b"email=x", b"null x", b'{"email": "\x01"}', b'{"email": 01}'),
            b"[" * 30_000 + b"]" * 30_000,
        )
    ),
    *(
        (415, "unsupported-media-type", b'{"email": "x"}', kind)
        for kind in (
            *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"),
            *("application/json; charset=utf-16", "application/json; charset=latin-1", "x"),
            *("application/jsonx", "application/octet-stream", "*/*"),
        )
    ),
    *(
        (413, "payload-too-large", body, JSON)
        for body in (b" " * 65_537, b'{"email": "' + b"x" * 70_000 + b'"}', b"[" * 100_000)
    ),
]


@pytest.mark.parametrize("call", CALLS, ids="{0[0]} {0[1]}".format)
async def test_what_is_not_json_in_utf_8_is_refused_by_every_call_that_takes_it(
    alice: Person, call: tuple[str, str]
) -> None:
    method, path = call[0], call[1].format(**NAMED)
    caller = await caller_of(alice, call[1])
    for status, problem, body, kind in BODIES:
        if (not body and call in OPTIONAL) or (len(body) > 60_000 and call == ("POST", "/events/batch")):
            continue
        answer = await caller.call(method, path, data=body, headers={"Content-Type": kind, **bearer(caller)})
        assert (answer.status, answer.problem) == (status, problem), (body[:40], kind)
        assert answer.body["detail"].endswith(".")


async def test_a_body_of_exactly_64_kib_is_read_and_types_built_upon_json_are_json(alice: Person) -> None:
    for kind in (
        "application/json",
        "application/json; charset=utf-8",
        'application/json; charset="UTF-8"',
        "application/a+json",
    ):
        answer = await alice.patch("/users/me", data=b"{}".ljust(65_536), headers={"Content-Type": kind, **bearer(alice)})
        assert answer.status == 200, kind


async def test_marks_without_end_cost_no_time(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a normal form grows with the square of a run of combining marks: 30,000 held the loop for seconds."""
    lengths: list[int] = []
    normalize = unicodedata.normalize

    def noting(form: Any, text: str) -> str:
        lengths.append(len(text))
        return normalize(form, text)

    monkeypatch.setattr(unicodedata, "normalize", noting)
    marks = "a" + "\u0315\u0300\u0327" * 1_000
    calls: list[tuple[str, dict[str, Any], int]] = [
        ("/auth/token", {"grant_type": "password", "username": marks, "password": "x"}, 400),
        ("/auth/token", {"grant_type": "password", "username": f"{marks}@example.com", "password": "x"}, 400),
        ("/auth/token", {"grant_type": "password", "username": "alice", "password": marks}, 400),
        ("/auth/register", {"email": f"{marks}@example.com", "username": marks, "password": marks}, 422),
        ("/auth/password/reset", {"email": f"{marks}@example.com"}, 422),
        ("/auth/password/change", {"current_password": marks, "new_password": PASSWORD + "x"}, 422),
        ("/auth/password/reset/confirm", {"token": "x", "new_password": marks}, 422),
    ]
    for path, body, status in calls:
        answer = await alice.post(path, body)
        assert answer.status == status, (path, answer.body)
    assert (await alice.patch("/users/me", {"username": marks})).status == 422
    assert lengths
    assert max(lengths) <= 2_048


async def test_an_error_for_every_member_is_not_told_without_end(alice: Person) -> None:
    answer = await alice.patch("/users/me", {f"unknown{number}": 1 for number in range(3_000)})
    assert answer.status == 422
    assert len(answer.body["errors"]) == 100
    assert "2999 more" in answer.body["detail"]


async def test_a_null_byte_is_harmless_wherever_it_may_stand(alice: Person) -> None:
    nobody = Person(alice.client, "")
    for members in (
        {"grant_type": "password", "username": "alice\0", "password": PASSWORD},
        {"grant_type": "password", "username": "alice@example.com\0", "password": PASSWORD},
        {"grant_type": "password", "username": "alice", "password": PASSWORD + "\0"},
        {"grant_type": "refresh_token", "refresh_token": "\0"},
    ):
        for kind in ("data", "json"):
            assert (await nobody.call("POST", "/auth/token", **{kind: members})).body["error"] == "invalid_grant"
    for members in ({"token": "\0"}, {"token": alice.tokens["refresh_token"] + "\0"}):
        assert (await nobody.call("POST", "/auth/revoke", data=members)).status == 200
    for path, body in (
        ("/auth/email/verify", {"token": TOKEN + "\0"}),
        ("/auth/password/reset/confirm", {"token": "\0", "new_password": "new password\0"}),
    ):
        assert (await nobody.post(path, body)).problem == "token-invalid"
    assert (await alice.delete("/users/me", {"password": PASSWORD + "\0"})).problem == "wrong-password"
    for path in PAGES:
        assert (await nobody.get(f"{path}?token=%00")).status == 200
        assert (await nobody.post(path, data={"token": "\0", "new_password": PASSWORD})).status == 422


async def test_a_form_of_a_page_that_is_none_is_a_problem(alice: Person) -> None:
    for path in PAGES:
        for body in (b"token=\xff", b"token=%FF", b"token=%ED%A0%80", b"&".join(b"a=b" for _ in range(100))):
            answer = await alice.post(path, data=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
            assert (answer.status, answer.problem) == (400, "bad-request"), body[:30]
        assert (await alice.post(path, data=b"x" * 70_000)).problem == "payload-too-large"


# Addresses and methods


async def test_addresses_that_lead_nowhere_are_not_found(alice: Person) -> None:
    for path in (
        *("/nowhere", "/codes/", "/codes/x/y", "//codes", "/users/me/", "/auth/token/", "/codes/current/emails"),
        *("/codes/%00", "/codes/AB%00CD", "/codes/%FF%FE", "/codes/%C0%80", "/codes/%ZZ", "/codes/%", "/codes/ABCD%0A"),
        *("/codes/%ED%A0%80", "/codes/ALICES%2F", "/codes/ALIC%C4%99S", "/codes/%EF%BC%A1LICES", "/codes/" + LONG[:6_000]),
        *("/users/%00/referrals", "/users/%FF/referrals", f"/users/{alice.id}%00/referrals", "/users/%2e%2e/referrals"),
        *("/problems/%00", "/problems/nothing"),
    ):
        for url in (f"{API}{path}", path):
            answer = await raw(alice.client, f"GET {url} HTTP/1.1\r\nHost: x\r\n{authorization(alice)}\r\n")
            assert (answer.status, answer.problem) == (404, "not-found"), url
    for path in ("/assets/..%2f..%2fconfig.toml", "/assets/%2e%2e/%2e%2e/config.toml", "/assets/%00"):
        answer = await raw(alice.client, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (answer.status, answer.problem) == (404, "not-found"), path


async def test_a_wrong_method_is_told_the_right_ones(alice: Person) -> None:
    for method, path, allowed in (
        ("PUT", "/codes", {"GET", "HEAD", "POST"}),
        ("DELETE", "/codes", {"GET", "HEAD", "POST"}),
        ("GET", "/auth/register", {"POST"}),
        ("POST", "/users/me", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("OPTIONS", "/users/me", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("PROPFIND", "/codes/ALICES", {"GET", "HEAD", "PATCH", "DELETE"}),
        ("PATCH", "/health/live", {"GET", "HEAD"}),
    ):
        answer = await alice.call(method, path)
        assert (answer.status, answer.problem) == (405, "method-not-allowed"), (method, path)
        assert set(answer.headers["Allow"].split(",")) | {"HEAD"} == allowed | {"HEAD"}
        for name in allowed - {"HEAD"}:
            assert name in answer.body["detail"]


# On the wire


def authorization(person: Person) -> str:
    return f"Authorization: Bearer {person.tokens['access_token']}\r\n"


def post(path: str, headers: str = "", length: int = 2) -> str:
    headers = f"Host: x\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n"
    return f"POST {API}{path} HTTP/1.1\r\n{headers}\r\n"


async def test_headers_of_any_bytes_are_harmless(alice: Person) -> None:
    for header in (
        b"Bearer \xff\xfe",
        b"Bearer a.\xff.b",
        b"\xff",
        b"Bearer",
        b"Bearer  ",
        b"Bearer a b",
        "Bearer ключ".encode(),
    ):
        request = b"GET /api/v1/users/me HTTP/1.1\r\nHost: x\r\nAuthorization: " + header + b"\r\n\r\n"
        answer = await raw(alice.client, request)
        assert (answer.status, answer.problem) == (401, "unauthorized"), header
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    for name in (b"X-Request-ID", b"Accept-Language", b"Cookie", b"Accept"):
        for value in (b"\xff\xfe", b"a" * 200, b"; q=x,,;=;", b"<script>"):
            request = b"GET /api/v1/users/me HTTP/1.1\r\nHost: x\r\n" + name + b": " + value + b"\r\n"
            answer = await raw(alice.client, request + authorization(alice).encode() + b"\r\n")
            assert answer.status == 200, (name, value)
            assert answer.headers["X-Request-ID"].isascii()
            assert answer.headers["X-Request-ID"] not in ("a" * 200, "<script>")
    answer = await alice.get("/users/me", headers={"X-Request-ID": "trace-1:2/3", **bearer(alice)})
    assert answer.headers["X-Request-ID"] == "trace-1:2/3"


async def test_an_expectation_that_cannot_be_met_is_a_problem(alice: Person) -> None:
    for path in ("/auth/register", "/users/me/referrer"):
        answer = await raw(alice.client, post(path, "Expect: the-unexpected\r\n") + "{}", closes=True)
        assert (answer.status, answer.problem) == (417, "expectation-failed")
    nowhere = await raw(alice.client, f"GET {API}/nowhere HTTP/1.1\r\nHost: x\r\nExpect: the-unexpected\r\n\r\n")
    assert nowhere.status == 417
    reader, writer = await asyncio.open_connection("127.0.0.1", alice.client.port)
    writer.write(post("/auth/register", "Expect: 100-continue\r\n").encode())
    async with asyncio.timeout(10):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        # Python 3.13 has another phrase for this status.
        assert (await reader.readline()).startswith(b"HTTP/1.1 422 ")
    writer.close()


@pytest.mark.parametrize("path", [f"{API}/auth/register", "/nowhere"])
async def test_a_client_that_hangs_up_before_it_is_told_to_go_on_is_no_error(
    alice: Person, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    for _ in range(20):
        connection = socket.create_connection(("127.0.0.1", alice.client.port))
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        connection.sendall(f"{head}{{}}".encode())
        # Closed with a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert (await alice.get("/users/me")).status == 200
    await asyncio.sleep(0.1)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("referral.web.bodies.BODY_TIMEOUT", 0.2)


@pytest.mark.usefixtures("short_patience")
async def test_a_body_that_stalls_half_way_is_cut(alice: Person) -> None:
    for path in ("/auth/register", "/auth/token", "/auth/revoke", "/users/me/referrer"):
        answer = await raw(alice.client, post(path, authorization(alice), length=100) + '{"email": "new@exa')
        is_oauth = f"{API}{path}" in OAUTH
        name = answer.oauth_error if is_oauth else answer.problem
        assert (answer.status, name) == (408, "temporarily_unavailable" if is_oauth else "request-timeout"), path
        assert answer.headers["Connection"] == "close"
    chunked = post("/auth/register").replace("Content-Length: 2", "Transfer-Encoding: chunked")
    assert (await raw(alice.client, chunked + '5\r\n{"ema')).problem == "request-timeout"


async def test_a_client_that_hangs_up_half_way_leaves_nothing(alice: Person, client: Client, eventually: Eventually) -> None:
    assert client.app
    metrics = client.app[METRICS]
    before = len(asyncio.all_tasks())
    for path in ("/auth/register", "/auth/token", "/codes"):
        for length in (100, 60_000):
            _, writer = await asyncio.open_connection("127.0.0.1", client.port)
            writer.write((post(path, authorization(alice), length=length) + '{"email": "new@example.com", ').encode())
            await eventually(lambda: b"referral_requests_in_progress 1.0" in metrics.text())
            writer.transport.abort()
            await eventually(lambda: b"referral_requests_in_progress 0.0" in metrics.text())
    await eventually(lambda: len(asyncio.all_tasks()) <= before)
    assert (await alice.get("/users/me")).status == 200
