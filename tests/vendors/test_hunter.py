"""Hunter's Email Verifier at the registration: which addresses pass, what a failing Hunter costs, and what is kept secret.

Hunter is `tests/support/vendors.py`, over real HTTP. Where the service stands still in front of it is seen by counting
requests.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest
from aiohttp import web

from referral.auth.passwords import PASSWORDS
from referral.config import ConfigError
from referral.vendors import client as vendors
from referral.vendors import hunter
from tests.conftest import Client, MakeClient, MakeConfig
from tests.support.people import PASSWORD, Answer, Person
from tests.support.vendors import (
    Reply,
    Vendor,
    hangs,
    hangs_up,
    hangs_up_half_way,
    padded,
    raw,
    redirect,
    running_vendor,
    status,
    verdict,
)

KEY = "0123456789abcdef-hunter-key"
VALID = {"data": {"status": "valid"}}

MakeChecked = Callable[..., Awaitable[Client]]


@pytest.fixture
def engine() -> str:
    """Nothing here depends on the database."""
    return "sqlite"


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    async with running_vendor() as running:
        yield running


@pytest.fixture
def make_checked(make_client: MakeClient, vendor: Vendor) -> MakeChecked:
    """`await make_checked(hunter_timeout="0.5")`: a client of a service that asks the vendor."""

    async def make(**overrides: str) -> Client:
        return await make_client(**{"hunter_api_key": KEY, "hunter_base_url": f"{vendor.url}/v2", **overrides})

    return make


async def register(client: Client, email: str = "alice@example.com", **members: Any) -> Answer:
    nobody = Person(client, email)
    return await nobody.post("/auth/register", {"email": email, "password": PASSWORD, **members})


def app(client: Client) -> web.Application:
    running = client.app
    assert running is not None
    return running


async def metric(client: Client, result: str) -> float:
    async with client.get("/metrics") as response:
        for line in (await response.text()).splitlines():
            if line.startswith(f'referral_email_checks_total{{result="{result}"}}'):
                return float(line.rpartition(" ")[2])
    return 0.0


# --- the question ---


async def test_the_address_is_asked_about_with_the_key_in_a_header(make_checked: MakeChecked, vendor: Vendor) -> None:
    vendor.replies_with(verdict("valid"))
    answer = await register(await make_checked(), "alice+news&api_key=x@example.com")
    assert answer.status == 201
    [seen] = vendor.seen
    assert seen.path == "/v2/email-verifier"
    assert seen.query == {"email": "alice+news&api_key=x@example.com"}
    assert seen.headers["x-api-key"] == KEY
    assert KEY not in seen.path + seen.raw_query
    assert "authorization" not in seen.headers


async def test_without_a_key_nobody_is_asked(make_checked: MakeChecked, vendor: Vendor) -> None:
    vendor.replies_with(verdict("invalid"))
    assert (await register(await make_checked(hunter_api_key=""))).status == 201
    assert vendor.seen == []


@pytest.mark.parametrize("bad", [status(401), raw(b"junk"), hangs_up, redirect("http://127.0.0.1:1/")])
async def test_neither_key_nor_address_is_in_a_log_or_an_answer(
    bad: Reply, make_checked: MakeChecked, vendor: Vendor, caplog: pytest.LogCaptureFixture
) -> None:
    vendor.replies_with(bad)
    client = await make_checked(hunter_on_unavailable="reject")
    with caplog.at_level(logging.DEBUG):
        answer = await register(client)
    # Without aiohttp's access log: it is the test's own servers'.
    records = [record for record in caplog.records if record.name != "aiohttp.access"]
    logged = "\n".join(f"{record.getMessage()} {record.exc_info}" for record in records)
    assert "Hunter gave no verdict" in logged
    for secret in (KEY, "alice@example.com", "alice%40example.com"):
        assert secret not in logged
        assert secret not in str(answer.body)


# --- the verdicts ---


@pytest.mark.parametrize("word", ["valid", "accept_all", "webmail", "unknown"])
async def test_an_address_that_may_be_reached_is_registered(word: str, make_checked: MakeChecked, vendor: Vendor) -> None:
    vendor.replies_with(verdict(word))
    client = await make_checked()
    assert (await register(client)).status == 201
    assert await metric(client, "passed") == 1


@pytest.mark.parametrize("word", ["invalid", "disposable"])
async def test_an_address_that_cannot_be_reached_is_refused(word: str, make_checked: MakeChecked, vendor: Vendor) -> None:
    vendor.replies_with(verdict(word))
    client = await make_checked()
    answer = await register(client, username="alice")
    assert (answer.status, answer.problem) == (422, "email-undeliverable")
    assert await metric(client, "refused") == 1
    assert (await Person(client, "alice@example.com").sign_in()).status == 400, "there is no account"


async def test_which_verdicts_are_refused_is_a_setting(make_checked: MakeChecked, vendor: Vendor) -> None:
    vendor.replies_with(verdict("webmail"), verdict("disposable"))
    client = await make_checked(hunter_refuse="webmail, unknown")
    assert (await register(client, "a@example.com")).status == 422
    assert (await register(client, "b@example.com")).status == 201


async def test_who_asked_not_to_be_processed_is_refused_without_a_reason(make_checked: MakeChecked, vendor: Vendor) -> None:
    vendor.replies_with(status(451), verdict("invalid"))
    client = await make_checked()
    claimed = await register(client, "claimed@example.com")
    assert (claimed.status, claimed.problem) == (422, "email-undeliverable")
    invalid = await register(client, "invalid@example.com")
    differing = {name for name in claimed.body if claimed.body[name] != invalid.body.get(name)}
    assert differing == {"request_id"}
    assert claimed.body.keys() == invalid.body.keys()


async def test_who_asked_not_to_be_processed_is_registered_where_the_settings_do_not_refuse_it(
    make_checked: MakeChecked, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hunter, "POLL_PAUSE", 0.02)
    vendor.replies_with(status(202), status(451))
    client = await make_checked(hunter_refuse="invalid, disposable", hunter_on_unavailable="reject", hunter_timeout="10")
    assert (await register(client, "claimed@example.com")).status == 201
    assert await metric(client, "passed") == 1
    # Such an answer is a verdict, and remembered as one.
    assert (await register(client, "Claimed@example.com")).problem == "email-taken"
    assert len(vendor.seen) == 2


async def test_a_refusal_stands_before_any_password_is_hashed(make_checked: MakeChecked, vendor: Vendor) -> None:
    vendor.replies_with(verdict("invalid"))
    client = await make_checked()
    app(client)[PASSWORDS].close()
    assert (await register(client)).status == 422
    vendor.replies_with(verdict("valid"))
    assert (await register(client, "bob@example.com")).status == 500, "nothing can be hashed any more"


# --- without a verdict ---

FAILURES = {
    "odd mail server": status(222),
    "bad request": status(400),
    "unprocessable request": status(422),
    "wrong key": status(401),
    "rate": status(403),
    "quota": status(429),
    "server error": status(500),
    "maintenance": status(503),
    "no JSON": raw(b"<html>"),
    "empty": raw(b""),
    "a list": raw(b"[]"),
    "null": raw(b"null"),
    "no data": raw(b'{"meta": {}}'),
    "data of a wrong type": raw(b'{"data": "valid"}'),
    "status of a wrong type": raw(b'{"data": {"status": ["valid"]}}'),
    "a status that Hunter does not have": raw(b'{"data": {"status": "splendid"}}'),
    "not UTF-8": raw(b'{"data": {"status": "valid\xff"}}'),
    "deeply nested": raw(b"[" * 60_000),
    "too long": padded(VALID, vendors.MAX_ANSWER + 1),
    "compressed": raw(gzip.compress(orjson.dumps(VALID)), headers={"Content-Encoding": "gzip"}),
    "closed": hangs_up,
    "closed half-way": hangs_up_half_way,
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_without_a_verdict_the_policy_decides(failure: Reply, make_checked: MakeChecked, vendor: Vendor) -> None:
    vendor.replies_with(failure)
    accepting = await make_checked(hunter_on_unavailable="accept")
    assert (await register(accepting)).status == 201
    assert await metric(accepting, "unavailable") == 1
    rejecting = await make_checked(hunter_on_unavailable="reject")
    answer = await register(rejecting, "bob@example.com")
    assert (answer.status, answer.problem) == (503, "email-check-unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert (await Person(rejecting, "bob@example.com").sign_in()).status == 400, "there is no account"


async def test_an_answer_just_short_enough_is_read(make_checked: MakeChecked, vendor: Vendor) -> None:
    vendor.replies_with(padded(VALID, vendors.MAX_ANSWER))
    assert (await register(await make_checked(hunter_on_unavailable="reject"))).status == 201


async def test_nobody_there_leaves_it_to_the_policy(make_checked: MakeChecked) -> None:
    nowhere = {"hunter_base_url": "http://127.0.0.1:1"}
    assert (await register(await make_checked(**nowhere))).status == 201
    assert (await register(await make_checked(**nowhere, hunter_on_unavailable="reject"), "b@example.com")).status == 503


async def test_a_hanging_hunter_holds_a_registration_no_longer_than_the_timeout(
    make_checked: MakeChecked, vendor: Vendor
) -> None:
    vendor.replies_with(hangs)
    client = await make_checked(hunter_timeout="0.2")
    async with asyncio.timeout(5):
        assert (await register(client)).status == 201
    assert len(vendor.seen) == 1


async def test_a_redirect_is_not_followed(make_checked: MakeChecked, vendor: Vendor) -> None:
    vendor.replies_with(redirect(f"{vendor.url}/elsewhere"), verdict("valid"))
    assert (await register(await make_checked(hunter_on_unavailable="reject"))).status == 503
    assert [seen.path for seen in vendor.seen] == ["/v2/email-verifier"]


# --- still verifying ---


async def test_an_address_being_verified_is_asked_about_again(
    make_checked: MakeChecked, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hunter, "POLL_PAUSE", 0.02)
    vendor.replies_with(status(202), status(202), verdict("disposable"))
    assert (await register(await make_checked())).problem == "email-undeliverable"
    assert len(vendor.seen) == 3


async def test_an_address_being_verified_for_too_long_leaves_it_to_the_policy(
    make_checked: MakeChecked, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hunter, "POLL_PAUSE", 0.05)
    vendor.replies_with(status(202))
    client = await make_checked(hunter_timeout="0.5", hunter_on_unavailable="reject")
    assert (await register(client)).problem == "email-check-unavailable"
    assert len(vendor.seen) > 1


# --- credits ---


async def test_a_form_that_is_sent_twice_costs_one_credit(make_checked: MakeChecked, vendor: Vendor) -> None:
    vendor.replies_with(verdict("valid"))
    client = await make_checked()
    assert (await register(client, referral_code="NO-SUCH-CODE")).problem == "referral-code-invalid"
    assert (await register(client, "Alice@Example.com")).status == 201
    assert (await register(client)).problem == "email-taken"
    assert len(vendor.seen) == 1


async def test_a_refusal_is_remembered_too(make_checked: MakeChecked, vendor: Vendor) -> None:
    vendor.replies_with(status(451), verdict("valid"))
    client = await make_checked()
    for _ in range(2):
        assert (await register(client)).problem == "email-undeliverable"
    assert len(vendor.seen) == 1


async def test_verdicts_are_remembered_for_a_day_and_no_longer(
    make_checked: MakeChecked, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hunter.REMEMBERED == 24 * 60 * 60
    monkeypatch.setattr(hunter, "REMEMBERED", 0.05)
    vendor.replies_with(verdict("invalid"), verdict("valid"))
    client = await make_checked()
    assert (await register(client)).status == 422
    await asyncio.sleep(0.1)
    assert (await register(client)).status == 201


async def test_a_failure_is_not_remembered(make_checked: MakeChecked, vendor: Vendor) -> None:
    vendor.replies_with(status(429), verdict("valid"))
    client = await make_checked(hunter_on_unavailable="reject")
    assert (await register(client)).status == 503
    assert (await register(client)).status == 201


async def test_two_registrations_at_once_ask_once(
    make_checked: MakeChecked, vendor: Vendor, eventually: Callable[..., Awaitable[Any]]
) -> None:
    vendor.replies_with(vendor.held(verdict("valid")))
    client = await make_checked()
    both = [asyncio.create_task(register(client)) for _ in range(2)]
    await eventually(lambda: vendor.seen)
    await _in_progress(client, eventually, 2)
    vendor.released.set()
    assert sorted([answer.status for answer in await asyncio.gather(*both)]) == [201, 409]
    assert len(vendor.seen) == 1


async def test_who_shares_a_question_with_a_client_that_hangs_up_still_gets_the_answer(
    make_checked: MakeChecked, vendor: Vendor, eventually: Callable[..., Awaitable[Any]]
) -> None:
    vendor.replies_with(vendor.held(verdict("valid")))
    client = await make_checked()
    impatient = asyncio.create_task(register(client))
    await eventually(lambda: vendor.seen)
    patient = asyncio.create_task(register(client))
    await _in_progress(client, eventually, 2)
    impatient.cancel()
    await asyncio.wait([impatient])
    vendor.released.set()
    assert (await patient).status in (201, 409)
    assert len(vendor.seen) == 1


async def _in_progress(client: Client, eventually: Callable[..., Awaitable[Any]], requests: int) -> None:
    async def reached() -> bool:
        async with client.get("/metrics") as response:
            # The one that asks is in progress, too.
            return f"referral_requests_in_progress {requests + 1}.0" in await response.text()

    await eventually(reached)


@pytest.mark.parametrize("reply", [status(202), hangs], ids=["still verifying", "hanging"])
async def test_the_end_of_the_service_ends_its_questions(
    reply: Reply, make_checked: MakeChecked, vendor: Vendor, eventually: Callable[..., Awaitable[Any]]
) -> None:
    vendor.replies_with(reply)
    tasks_before = asyncio.all_tasks()
    client = await make_checked(hunter_timeout="30")
    waiting = asyncio.create_task(register(client))
    await eventually(lambda: vendor.seen)
    waiting.cancel()
    await asyncio.wait([waiting])
    async with asyncio.timeout(5):
        await client.close()
    left = asyncio.all_tasks() - tasks_before
    assert not [task for task in left if "EmailVerifier" in repr(task.get_coro())]


# --- the breaker ---


async def test_a_hunter_that_is_down_is_left_alone_for_a_while(
    make_checked: MakeChecked,
    vendor: Vendor,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    passed = 1_000.0
    monkeypatch.setattr(vendors, "monotonic", lambda: passed)
    vendor.replies_with(status(500))
    client = await make_checked(hunter_on_unavailable="reject")
    for number in range(vendors.FAILURES + 3):
        assert (await register(client, f"person{number}@example.com")).status == 503
    assert len(vendor.seen) == vendors.FAILURES
    assert await metric(client, "unavailable") == vendors.FAILURES + 3
    passed += vendors.PAUSE
    vendor.replies_with(vendor.held(status(500)))
    probe = asyncio.create_task(register(client, "probe@example.com"))
    await eventually(lambda: len(vendor.seen) > vendors.FAILURES)
    assert (await register(client, "during@example.com")).status == 503
    vendor.released.set()
    assert (await probe).status == 503
    assert (await register(client, "after@example.com")).status == 503
    assert vendor.emails[vendors.FAILURES :] == ["probe@example.com"], "one try a pause"
    passed += vendors.PAUSE
    vendor.replies_with(verdict("valid"))
    for number in range(3):
        assert (await register(client, f"later{number}@example.com")).status == 201
    assert len(vendor.seen) == vendors.FAILURES + 4


async def test_an_answer_between_failures_keeps_hunter_in_use(make_checked: MakeChecked, vendor: Vendor) -> None:
    client = await make_checked()
    for number in range(vendors.FAILURES + 2):
        vendor.replies_with(verdict("valid") if number == vendors.FAILURES - 1 else status(500))
        await register(client, f"person{number}@example.com")
    assert len(vendor.seen) == vendors.FAILURES + 2


@pytest.mark.parametrize("code", [202, 222, 400])
async def test_addresses_that_hunter_cannot_judge_do_not_stop_the_checks(
    code: int,
    make_checked: MakeChecked,
    vendor: Vendor,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    # Else anybody could switch the checks off, by a few addresses of a slow or odd mail server.
    monkeypatch.setattr(hunter, "POLL_PAUSE", 0.05)
    monkeypatch.setattr(vendors, "FAILURES", 2)
    monkeypatch.setattr(vendors, "PAUSE", 60.0)
    vendor.replies_with(status(code))
    client = await make_checked(hunter_timeout="0.25")
    for number in range(3):
        await register(client, f"person{number}@example.com")
    vendor.replies_with(verdict("invalid"))

    async def refused() -> bool:
        return (await register(client, "last@example.com")).status == 422

    await eventually(refused)


# --- settings ---


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("hunter.on_unavailable", "maybe"),
        ("hunter.timeout", "0"),
        ("hunter.refuse", "invalid,valid"),
        ("hunter.base_url", "ftp://api.hunter.io"),
        ("hunter.api_key", "two words"),
    ],
)
def test_a_wrong_setting_stops_the_start_by_name(setting: str, value: str, make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=setting.replace(".", r"\.")) as caught:
        make_config(**{setting.replace(".", "_"): value})
    assert "\n" not in str(caught.value)


def test_the_key_is_not_in_the_settings_text(make_config: MakeConfig) -> None:
    assert KEY not in repr(make_config(hunter_api_key=KEY))


def test_the_first_choices_are_the_documented_ones(make_config: MakeConfig) -> None:
    settings = make_config().hunter
    assert (settings.api_key, settings.base_url) == ("", "https://api.hunter.io/v2")
    assert (settings.refuse, settings.on_unavailable, settings.timeout) == (
        ("invalid", "disposable", "unprocessable"),
        "accept",
        3.0,
    )
