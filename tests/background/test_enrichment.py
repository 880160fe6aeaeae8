"""Enrichment: who is asked about a new user and how, what is kept of the answer, and that neither a slow provider, a lost
worker nor the account's end in between does harm. The providers are `tests/support/vendors.py`, over real HTTP.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from referral import clock
from referral.background import profiles as profile_worker
from referral.background.profiles import PROFILE_WORKER, ProfileWorker
from referral.config import ConfigError
from referral.config.sections import Enrichment
from referral.contract.schemas.users import ProfileSchema
from referral.database import ConstraintViolation, Database
from referral.metrics import Metrics
from referral.queries import profiles, users
from referral.vendors import client as vendors
from referral.vendors.client import NoAnswer, open_vendor_session
from referral.vendors.profiles import ProfileProvider, read_profile
from tests.conftest import Client, Eventually, MakeClient, MakeConfig
from tests.support.people import PASSWORD, Person
from tests.support.rows import sql
from tests.support.service import run_py
from tests.support.vendors import (
    COMPANY,
    PERSON,
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
)

KEY = "sk_0123456789abcdef"
COMBINED = {"person": PERSON, "company": COMPANY}
FOUND = status(200, COMBINED)
PROFILE = {
    "name": "Alice Archer",
    "title": "CEO",
    "company": "Example",
    "domain": "example.com",
    "location": "San Francisco, CA, US",
    "site": "http://alice.example.com",
    "avatar": "https://pictures.example.com/v1/avatars/alice",
    "linkedin": "https://www.linkedin.com/in/alicearcher",
    "twitter": "https://twitter.com/alice_archer",
    "github": "https://github.com/aarcher",
}

# For what does not depend on the database.
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"])

MakeEnriched = Callable[..., Awaitable[Client]]


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    async with running_vendor() as running:
        yield running


@pytest.fixture
def make_enriched(make_client: MakeClient, vendor: Vendor) -> MakeEnriched:
    """`await make_enriched(enrichment_provider="hunter")`: a client of a service that asks the vendor."""

    async def make(**overrides: str) -> Client:
        settings = {"enrichment_provider": "clearbit", "enrichment_api_key": KEY, "enrichment_base_url": vendor.url}
        return await make_client(**{**settings, **overrides})

    return make


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProfileWorker, "backoff", replace(ProfileWorker.backoff, first=20))


async def queue_is_empty(database: Database) -> bool:
    async with database.reader() as conn:
        return await profiles.find_next_lookup_time(conn) is None


async def has_profile(database: Database, user_id: str) -> bool:
    """Whether a profile is stored, of an erased account too: then another one cannot be."""
    try:
        async with database.transaction() as conn:
            await profiles.insert_profile(conn, user_id, "test", "{}", 0)
            raise LookupError
    except ConstraintViolation:
        return True
    except LookupError:
        return False


async def metric(client: Client, result: str) -> float:
    async with client.get("/metrics") as response:
        for line in (await response.text()).splitlines():
            if line.startswith(f'referral_enrichments_total{{result="{result}"}}'):
                return float(line.rpartition(" ")[2])
    return 0.0


async def profile_of(alice: Person) -> Any:
    return (await alice.me())["profile"]


# --- the two providers, one shape ---


async def test_clearbit_is_asked_and_its_answer_is_the_profile(
    make_enriched: MakeEnriched, vendor: Vendor, eventually: Eventually
) -> None:
    vendor.replies_with(FOUND)
    client = await make_enriched()
    alice = await Person.register(client, "alice", email="Alice+x@example.com")
    assert await eventually(lambda: profile_of(alice)) == PROFILE
    [seen] = vendor.seen
    assert seen.path == "/v2/combined/find"
    assert seen.query == {"email": "Alice+x@example.com"}
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in seen.raw_query
    assert await metric(client, "stored") == 1


async def test_hunter_is_asked_for_clearbits_format_and_gives_the_same_profile(
    make_enriched: MakeEnriched, vendor: Vendor, eventually: Eventually
) -> None:
    person = {**PERSON, "linkedin": {"handle": "alicearcher"}}
    vendor.replies_with(status(200, {"data": {**COMBINED, "person": person}, "meta": {"email": "alice@example.com"}}))
    client = await make_enriched(enrichment_provider="hunter", enrichment_base_url=f"{vendor.url}/v2/")
    alice = await Person.register(client, "alice")
    assert await eventually(lambda: profile_of(alice)) == PROFILE
    [seen] = vendor.seen
    assert seen.path == "/v2/combined/find"
    assert seen.query == {"email": "alice@example.com", "clearbit_format": "true"}
    assert seen.headers["x-api-key"] == KEY
    assert "authorization" not in seen.headers
    assert KEY not in seen.raw_query


def test_the_profile_has_the_documented_members() -> None:
    profile = read_profile(COMBINED)
    assert profile is not None
    assert list(profile) == list(ProfileSchema().fields)


async def test_without_a_provider_nothing_is_queued(make_enriched: MakeEnriched, vendor: Vendor, database: Database) -> None:
    vendor.replies_with(FOUND)
    alice = await Person.register(await make_enriched(enrichment_provider=""), "alice")
    assert await queue_is_empty(database)
    assert await profile_of(alice) is None
    assert vendor.seen == []


@on_sqlite
@pytest.mark.parametrize("provider", ["clearbit", "hunter"])
async def test_neither_key_nor_address_is_logged(
    provider: str,
    make_enriched: MakeEnriched,
    vendor: Vendor,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
    quick_retries: None,
) -> None:
    vendor.replies_with(status(401), raw(b"junk"), hangs_up, FOUND)
    with caplog.at_level(logging.DEBUG):
        alice = await Person.register(await make_enriched(enrichment_provider=provider), "alice")
        await eventually(lambda: profile_of(alice))
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("referral")]
    assert any("is asked for again" in line for line in ours)
    # aiosqlite's own lines, at DEBUG, hold what is stored; the service mutes them.
    assert not any(KEY in record.getMessage() for record in caplog.records)
    assert not any("alice@example.com" in line for line in ours)


# --- in the background ---


async def test_a_registration_does_not_wait_for_the_provider(
    make_enriched: MakeEnriched, vendor: Vendor, eventually: Eventually
) -> None:
    vendor.replies_with(vendor.held(FOUND))
    client = await make_enriched()
    body = {"email": "alice@example.com", "password": PASSWORD}
    answer = await Person(client, "").post("/auth/register", body)
    assert answer.status == 201
    assert answer.body["user"]["profile"] is None
    alice = Person(client, "alice@example.com", tokens=answer.body)
    await eventually(lambda: vendor.seen)
    assert await profile_of(alice) is None
    vendor.released.set()
    assert await eventually(lambda: profile_of(alice)) == PROFILE


async def test_a_registration_that_fails_queues_nothing(
    make_enriched: MakeEnriched, vendor: Vendor, database: Database
) -> None:
    vendor.replies_with(FOUND)
    body = {"email": "alice@example.com", "password": PASSWORD, "referral_code": "NO-SUCH-CODE"}
    client = await make_enriched()
    assert (await Person(client, "").post("/auth/register", body)).status == 422
    assert await queue_is_empty(database)
    assert await running(client)[PROFILE_WORKER].work_off() == 0
    assert vendor.seen == []


@on_sqlite
async def test_an_account_and_its_look_up_are_made_together_or_not_at_all(
    make_enriched: MakeEnriched, vendor: Vendor, database_url: str
) -> None:
    client = await make_enriched()
    full = "CREATE TRIGGER full BEFORE INSERT ON profile_lookups BEGIN SELECT RAISE(ABORT, 'no more look-ups'); END"
    await sql(database_url, full)
    body = {"email": "alice@example.com", "password": PASSWORD}
    assert (await Person(client, "").post("/auth/register", body)).status == 500
    assert (await Person(client, "alice@example.com").sign_in()).status == 400, "there is no account"
    await sql(database_url, "DROP TRIGGER full")
    vendor.replies_with(FOUND)
    assert (await Person(client, "").post("/auth/register", body)).status == 201


def running(client: Client) -> web.Application:
    app = client.app
    assert app is not None
    return app


async def test_a_look_up_outlives_the_service_that_queued_it(
    make_enriched: MakeEnriched, vendor: Vendor, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProfileWorker, "lease", 100)
    vendor.replies_with(hangs)
    first = await make_enriched()
    alice = await Person.register(first, "alice")
    await eventually(lambda: vendor.seen)
    await first.close()
    vendor.replies_with(FOUND)
    alice.client = await make_enriched()
    assert await eventually(lambda: profile_of(alice)) == PROFILE


async def test_two_workers_ask_once(make_enriched: MakeEnriched, vendor: Vendor, eventually: Eventually) -> None:
    vendor.replies_with(vendor.held(FOUND))
    first, second = await make_enriched(), await make_enriched()
    alice = await Person.register(first, "alice")
    await eventually(lambda: vendor.seen)
    assert await running(second)[PROFILE_WORKER].work_off() == 0
    vendor.released.set()
    assert await eventually(lambda: profile_of(alice)) == PROFILE
    assert len(vendor.seen) == 1


# --- retries ---

WORTH_ANOTHER_TRY: dict[str, Reply] = {
    "queued": status(202),
    "redirect": redirect("http://127.0.0.1:1/"),
    "wrong key": status(401),
    "payment": status(402),
    "rate": status(403),
    "quota": status(429),
    "server error": status(500),
    "maintenance": status(503),
    "no JSON": raw(b"<html>"),
    "another's JSON": raw(b'{"hello": "world"}'),
    "a list": raw(b"[]"),
    "too long": padded(COMBINED, vendors.MAX_ANSWER + 1),
    "closed": hangs_up,
    "closed half-way": hangs_up_half_way,
}


@on_sqlite
@pytest.mark.parametrize("reply", WORTH_ANOTHER_TRY.values(), ids=WORTH_ANOTHER_TRY.keys())
async def test_a_look_up_without_an_answer_is_made_again(
    reply: Reply, make_enriched: MakeEnriched, vendor: Vendor, eventually: Eventually, quick_retries: None
) -> None:
    vendor.replies_with(reply, reply, FOUND)
    client = await make_enriched()
    alice = await Person.register(client, "alice")
    assert await eventually(lambda: profile_of(alice)) == PROFILE
    assert len(vendor.seen) == 3
    # aiohttp by itself repeats a GET whose kept-alive connection was closed, and so makes one try of two.
    assert await metric(client, "postponed") in ((1, 2) if reply is hangs_up else (2,))


async def test_a_hanging_provider_is_given_up_and_asked_again(
    make_enriched: MakeEnriched,
    vendor: Vendor,
    eventually: Eventually,
    quick_retries: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(profile_worker, "TIMEOUT", 0.2)
    vendor.replies_with(hangs, FOUND)
    alice = await Person.register(await make_enriched(), "alice")
    assert await eventually(lambda: profile_of(alice)) == PROFILE


NOTHING_KNOWN: dict[str, Reply] = {
    "unknown": status(404),
    "invalid for the provider": status(422),
    "bad for the provider": status(400),
    "asked not to be processed": status(451),
    "nobody": status(200, {"person": None, "company": None}),
    "nothing usable": status(200, {"person": {"name": "Alice"}, "company": []}),
}


@on_sqlite
@pytest.mark.parametrize("reply", NOTHING_KNOWN.values(), ids=NOTHING_KNOWN.keys())
async def test_an_unknown_person_is_asked_about_once(
    reply: Reply,
    make_enriched: MakeEnriched,
    vendor: Vendor,
    database: Database,
    eventually: Eventually,
    quick_retries: None,
) -> None:
    vendor.replies_with(reply)
    client = await make_enriched()
    alice = await Person.register(client, "alice")
    await eventually(lambda: queue_is_empty(database))
    assert await profile_of(alice) is None
    assert await eventually(lambda: metric(client, "unknown")) == 1
    assert len(vendor.seen) == 1


async def test_a_look_up_is_tried_with_growing_pauses_for_a_day(
    database: Database, vendor: Vendor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    moment = start = clock.now()
    monkeypatch.setattr(clock, "now", lambda: moment)
    vendor.replies_with(status(500))
    async with database.transaction() as conn:
        await users.insert_user(conn, users.NewUser("u1", "a@example.com", "a@example.com", None, None, "-", "user", start))
        await profiles.insert_lookup(conn, "u1", start)
    pauses: list[float] = []
    async with open_vendor_session() as session:
        settings = Enrichment("clearbit", KEY, vendor.url)
        worker = ProfileWorker(ProfileProvider(settings, session), database, Metrics())
        while len(pauses) < 100:
            assert await worker.work_off() == 1
            assert await worker.work_off() == 0, "not before its time"
            async with database.reader() as conn:
                due = await profiles.find_next_lookup_time(conn)
            if due is None:
                break
            pauses.append((due - moment) / 1000)
            moment = due
    for number, pause in enumerate(pauses):
        assert 0.75 <= pause / min(10 * 2**number, 3_600) <= 1.25
    assert len({pause / min(10 * 2**number, 3_600) for number, pause in enumerate(pauses)}) > len(pauses) // 2, "jitter"
    assert 22.75 < (moment - start) / 3_600_000 < 24
    assert not await has_profile(database, "u1")
    assert [record.levelname for record in caplog.records if "given up" in record.getMessage()] == ["ERROR"]


# --- erased with the account ---


async def test_the_profile_goes_with_the_account(
    make_enriched: MakeEnriched, vendor: Vendor, database: Database, eventually: Eventually
) -> None:
    vendor.replies_with(FOUND)
    alice = await Person.register(await make_enriched(), "alice")
    await eventually(lambda: profile_of(alice))
    assert await has_profile(database, alice.id)
    assert (await alice.delete("/users/me", {"password": PASSWORD})).status == 204
    assert not await has_profile(database, alice.id)


async def test_a_waiting_look_up_goes_with_the_account(
    make_enriched: MakeEnriched, vendor: Vendor, database: Database, eventually: Eventually
) -> None:
    vendor.replies_with(status(202))
    client = await make_enriched()
    alice = await Person.register(client, "alice")
    await eventually(lambda: metric(client, "postponed"))
    assert not await queue_is_empty(database)
    assert (await alice.delete("/users/me", {"password": PASSWORD})).status == 204
    assert await queue_is_empty(database)


async def test_an_erasure_that_is_refused_leaves_the_look_up(
    make_enriched: MakeEnriched, vendor: Vendor, database: Database
) -> None:
    vendor.replies_with(status(202))
    alice = await Person.register(await make_enriched(), "alice")
    assert (await alice.delete("/users/me", {"password": "wrong"})).status == 403
    assert not await queue_is_empty(database)


@pytest.mark.parametrize("late", [FOUND, status(202), status(404)], ids=["found", "queued", "unknown"])
async def test_an_answer_that_comes_after_the_accounts_end_is_not_kept(
    late: Reply, make_enriched: MakeEnriched, vendor: Vendor, database: Database, eventually: Eventually
) -> None:
    vendor.replies_with(vendor.held(late))
    client = await make_enriched()
    alice = await Person.register(client, "alice")
    await eventually(lambda: vendor.seen)
    assert (await alice.delete("/users/me", {"password": PASSWORD})).status == 204
    vendor.released.set()

    async def is_over() -> bool:
        return bool(await metric(client, "unknown") or await metric(client, "postponed"))

    await eventually(is_over)
    assert not await has_profile(database, alice.id)
    assert await queue_is_empty(database)


async def test_a_profile_being_stored_while_the_account_ends_is_erased_with_it(
    make_enriched: MakeEnriched,
    vendor: Vendor,
    database: Database,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The interleaving: a worker has taken the look-up's row, the erasure begins, the worker stores and commits."""
    caplog.set_level(logging.INFO)
    vendor.replies_with(status(202))
    client = await make_enriched()
    alice = await Person.register(client, "alice")
    await eventually(lambda: metric(client, "postponed"))
    async with database.transaction() as conn:
        assert await profiles.delete_lookup(conn, alice.id)
        erasure = asyncio.create_task(alice.delete("/users/me", {"password": PASSWORD}))
        await asyncio.sleep(0.2)
        assert not erasure.done(), "it waits for the worker"
        await profiles.insert_profile(conn, alice.id, "clearbit", "{}", clock.now())
    assert (await erasure).status == 204
    assert "deadlock" not in caplog.text
    assert not await has_profile(database, alice.id)


# --- what is kept of an answer ---


def changed(path: str, value: Any) -> dict[str, Any]:
    """COMBINED with the member at `path` replaced."""
    document = copy.deepcopy(COMBINED)
    *parents, last = path.split(".")
    place: Any = document
    for parent in parents:
        place = place[parent]
    place[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "member"),
    [
        ("person.name.fullName", 7, "name"),
        ("person.name.fullName", "", "name"),
        ("person.name.fullName", "A" * 201, "name"),
        ("person.name.fullName", "Alice\r\nBcc: bob", "name"),
        ("person.name.fullName", "Alice\u202eevil", "name"),
        ("person.name", "Alice", "name"),
        ("person.employment.title", ["CEO"], "title"),
        ("person.location", {"city": "London"}, "location"),
        ("person.avatar", "javascript:alert(1)", "avatar"),
        ("person.avatar", "data:image/png;base64,AAAA", "avatar"),
        ("person.avatar", "//pictures.example.com/a.png", "avatar"),
        ("person.avatar", "https://pictures.example.com/" + "a" * 2_048, "avatar"),
        ("person.site", "ftp://example.com/", "site"),
        ("person.site", 'https://example.com/"><script>', "site"),
        ("person.site", True, "site"),
        ("person.linkedin.handle", "in/alice?x=<script>", "linkedin"),
        ("person.linkedin", None, "linkedin"),
        ("person.twitter.handle", 15, "twitter"),
        ("person.twitter.handle", "alice\n", "twitter"),
        ("person.github.handle", "a" * 151, "github"),
        ("person.github.handle", None, "github"),
    ],
)
def test_a_member_that_is_not_what_it_should_be_counts_as_unknown(path: str, value: Any, member: str) -> None:
    assert read_profile(changed(path, value)) == {**PROFILE, member: None}


def test_the_company_is_the_persons_employer_or_else_the_one_of_the_address() -> None:
    profile = read_profile(changed("person.employment", None))
    assert profile == {**PROFILE, "title": None, "company": "Example Ltd", "domain": "example.net"}


def test_a_company_without_a_person_is_a_profile() -> None:
    profile = read_profile({"person": None, "company": COMPANY})
    assert profile == {**dict.fromkeys(PROFILE), "company": "Example Ltd", "domain": "example.net"}


@pytest.mark.parametrize("document", [None, 7, "text", [], {}, {"error": {"type": "x"}}, {"data": None}, {"data": [1]}])
def test_what_is_no_answer_of_a_provider_is_told_apart_from_an_unknown_person(document: Any) -> None:
    with pytest.raises(NoAnswer):
        read_profile(document)


# --- settings ---


@pytest.mark.parametrize("provider", ["clearbit", "hunter"])
def test_a_provider_without_a_key_stops_the_start_with_one_line(provider: str, tmp_path: Any) -> None:
    environ = {
        "REFERRAL_ENRICHMENT_PROVIDER": provider,
        "REFERRAL_DATABASE_URL": f"sqlite:///{tmp_path}/referral.db",
        "REFERRAL_SERVER_PORT": "0",
    }
    run = subprocess.run(run_py(), env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2
    [line] = run.stderr.splitlines()
    assert "enrichment.api_key" in line
    assert not (tmp_path / "referral.db").exists(), "before anything is done"


def test_an_unknown_provider_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match=r"enrichment\.provider"):
        make_config(enrichment_provider="fullcontact", enrichment_api_key=KEY)


def test_the_key_is_not_in_the_settings_text(make_config: MakeConfig) -> None:
    assert KEY not in repr(make_config(enrichment_provider="hunter", enrichment_api_key=KEY))


@pytest.mark.parametrize(
    ("provider", "url"),
    [("clearbit", "https://person.clearbit.com/v2/combined/find"), ("hunter", "https://api.hunter.io/v2/combined/find")],
)
async def test_without_a_base_url_the_providers_own_is_asked(provider: str, url: str) -> None:
    async with open_vendor_session() as session:
        assert ProfileProvider(Enrichment(provider, KEY, ""), session).url == url
