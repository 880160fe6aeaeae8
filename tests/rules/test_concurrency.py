"""Many requests at once: the rules hold in any order, passwords hold nobody up, a broken-off request leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import bcrypt
import psycopg
import pytest

from referral.auth import passwords
from referral.database import is_postgres, sqlite_path
from tests.conftest import Client, Eventually, MakeClient
from tests.support.people import PASSWORD, Answer, Person, read_mails, token_in
from tests.support.rows import count, expire, sql

MakePerson = Callable[..., Awaitable[Person]]

NEW_PASSWORD = "another horse, another battery"


async def at_once(*calls: Awaitable[Answer]) -> tuple[list[Answer], Counter[int]]:
    """All answers, and how many there are of each status."""
    answers = await asyncio.gather(*calls)
    return answers, Counter(answer.status for answer in answers)


# Codes


@pytest.mark.parametrize("current", ["none", "expired", "exhausted"])
async def test_of_thirty_new_codes_at_once_one_is_made(person: MakePerson, database_url: str, current: str) -> None:
    alice = await person("alice")
    if current != "none":
        code = await alice.make_code(max_uses=1)
        if current == "expired":
            await expire(database_url, code)
        else:
            await person("bob", referral_code=code)
    answers, statuses = await at_once(*(alice.post("/codes", {"ttl_days": 1}) for _ in range(30)))
    assert statuses == {201: 1, 409: 29}
    assert {answer.problem for answer in answers if answer.status == 409} == {"active-code-exists"}
    assert await count(database_url, "codes", "revoked_at IS NULL") == 1


async def test_of_replacements_at_once_each_is_made_and_one_stays(person: MakePerson, database_url: str) -> None:
    alice = await person("alice")
    answers, statuses = await at_once(*(alice.post("/codes", {"ttl_days": 1, "replace": True}) for _ in range(10)))
    assert statuses == {201: 10}
    left = await sql(database_url, "SELECT code FROM codes WHERE revoked_at IS NULL")
    assert len(left) == 1
    found = [answer.body["code"] for answer in answers if (await alice.get(f"/codes/{answer.body['code']}")).status == 200]
    assert [(code,) for code in found] == left


async def test_one_text_at_once_becomes_one_persons(person: MakePerson) -> None:
    people = [await person() for _ in range(6)]
    answers, statuses = await at_once(*(one.post("/codes", {"code": "spring", "ttl_days": 1}) for one in people))
    assert statuses == {201: 1, 409: 5}
    assert {answer.problem for answer in answers if answer.status == 409} == {"code-taken"}


# Uses


async def register_at_once(client: Client, number: int, **members: Any) -> tuple[list[Answer], Counter[int]]:
    nobody = Person(client, "")
    return await at_once(
        *(
            nobody.post("/auth/register", {"email": f"new{index}@example.com", "password": PASSWORD, **members})
            for index in range(number)
        )
    )


async def test_registrations_at_once_never_overrun_a_codes_limit_and_every_one_is_counted(
    client: Client, person: MakePerson, database_url: str
) -> None:
    alice = await person("alice")
    code = await alice.make_code(max_uses=5)
    answers, statuses = await register_at_once(client, 20, referral_code=code)
    assert statuses == {201: 5, 422: 15}
    assert {answer.body["reason"] for answer in answers if answer.status == 422} == {"exhausted"}
    me = await alice.me()
    assert (me["referral_count"], me["code"]["uses"], me["code"]["status"]) == (5, 5, "exhausted")
    assert await count(database_url, "referrals", f"referrer_id = '{alice.id}'") == 5
    assert await count(database_url, "users") == 6
    assert await count(database_url, "sessions") == 6


async def test_the_last_use_is_somebodys_whether_at_or_after_registration(
    client: Client, person: MakePerson, database_url: str
) -> None:
    alice = await person("alice")
    others = [await person() for _ in range(5)]
    code = await alice.make_code(max_uses=1)
    body = {"password": PASSWORD, "referral_code": code}
    nobody = Person(client, "")
    _, statuses = await at_once(
        *(one.post("/users/me/referrer", {"code": code}) for one in others),
        *(nobody.post("/auth/register", {"email": f"new{number}@example.com", **body}) for number in range(5)),
    )
    assert statuses == {201: 1, 422: 9}
    assert (await alice.me())["referral_count"] == await count(database_url, "referrals") == 1


async def test_a_limit_that_is_lowered_meanwhile_is_never_below_the_uses(
    client: Client, person: MakePerson, database_url: str
) -> None:
    alice = await person("alice")
    code = await alice.make_code(max_uses=20)
    results = await asyncio.gather(
        register_at_once(client, 6, referral_code=code),
        *(alice.patch("/codes/current", {"max_uses": 3}) for _ in range(6)),
    )
    assert {answer.status for answer in results[1:] if isinstance(answer, Answer)} <= {200, 422}
    ((uses, limit),) = await sql(database_url, "SELECT uses, max_uses FROM codes")
    assert uses <= limit
    assert uses == await count(database_url, "referrals") == (await alice.me())["referral_count"]


@pytest.mark.parametrize(
    ("members", "problem"),
    [({"email": "same@example.com"}, "email-taken"), ({"username": "same"}, "username-taken")],
)
async def test_of_registrations_with_one_address_or_name_at_once_one_succeeds(
    client: Client, database_url: str, members: dict[str, str], problem: str
) -> None:
    answers, statuses = await register_at_once(client, 8, **members)
    assert statuses == {201: 1, 409: 7}
    assert {answer.problem for answer in answers if answer.status == 409} == {problem}
    assert await count(database_url, "users") == await count(database_url, "sessions") == 1


# Referrers


@pytest.mark.parametrize("length", [2, 3, 4])
async def test_a_circle_that_is_closed_from_all_sides_at_once_stays_open_at_one(
    person: MakePerson, database_url: str, length: int
) -> None:
    for _ in range(3):
        people = [await person() for _ in range(length)]
        codes = [await one.make_code() for one in people]
        ring = zip(people, codes[1:] + codes[:1], strict=True)
        answers, statuses = await at_once(*(one.post("/users/me/referrer", {"code": code}) for one, code in ring))
        assert statuses == {201: length - 1, 409: 1}
        assert {answer.problem for answer in answers if answer.status == 409} == {"referral-cycle"}
        assert sum([(await one.me())["referral_count"] for one in people]) == length - 1
    assert await count(database_url, "referrals") == 3 * (length - 1)


async def test_nobody_gets_two_referrers_at_once(person: MakePerson, database_url: str) -> None:
    alice = await person("alice")
    codes = [await (await person()).make_code() for _ in range(8)]
    answers, statuses = await at_once(*(alice.post("/users/me/referrer", {"code": code}) for code in codes))
    assert statuses == {201: 1, 409: 7}
    assert {answer.problem for answer in answers if answer.status == 409} == {"referrer-already-set"}
    assert await sql(database_url, "SELECT sum(referral_count) FROM users") == [(1,)]
    assert await sql(database_url, "SELECT sum(uses) FROM codes") == [(1,)]


# Sessions and links


async def test_two_tabs_that_refresh_at_once_both_go_on(person: MakePerson, database_url: str) -> None:
    alice = await person("alice")
    answers, statuses = await at_once(alice.refresh(), alice.refresh(), alice.refresh())
    assert statuses == {200: 3}
    assert len({answer.body["refresh_token"] for answer in answers}) == 3
    assert await count(database_url, "sessions") == 1
    for answer in answers:
        assert (await alice.refresh(answer.body["refresh_token"])).status == 200


@pytest.mark.parametrize("page", ["reset", "verify"])
async def test_a_link_that_is_used_twice_at_once_works_once(
    person: MakePerson, mail_folder: Any, eventually: Eventually, page: str
) -> None:
    alice = await person("alice")
    if page == "reset":
        assert (await alice.post("/auth/password/reset", {"email": alice.email})).status == 202

    def tokens() -> list[str]:
        return [token_in(mail) for mail in read_mails(mail_folder) if f"/account/{page}?" in mail.as_string()]

    (token,) = await eventually(tokens)
    if page == "reset":
        chosen = [f"{NEW_PASSWORD} {number}" for number in range(6)]
        calls = [alice.post("/auth/password/reset/confirm", {"token": token, "new_password": one}) for one in chosen]
    else:
        calls = [alice.post("/auth/email/verify", {"token": token}) for _ in range(6)]
    answers, statuses = await at_once(*calls)
    # A second press of the button of a verification says that it is done.
    assert statuses == ({204: 1, 422: 5} if page == "reset" else {204: 6})
    assert {answer.problem for answer in answers if answer.status == 422} <= {"token-invalid"}
    if page == "reset":
        winner = [answer.status for answer in answers].index(204)
        signed_in = [(await alice.sign_in(one)).status for one in chosen]
        assert signed_in == [200 if number == winner else 400 for number in range(6)]


async def test_of_password_changes_at_once_one_succeeds_and_no_session_of_the_old_password_stays(
    person: MakePerson, database_url: str
) -> None:
    alice = await person("alice")
    bodies = [{"current_password": PASSWORD, "new_password": f"{NEW_PASSWORD} {number}"} for number in range(4)]
    other = Person(alice.client, alice.email)
    results = await asyncio.gather(
        *(alice.post("/auth/password/change", body) for body in bodies), *(other.sign_in() for _ in range(4))
    )
    assert Counter(answer.status for answer in results[:4]) == {204: 1, 403: 3}
    assert {answer.status for answer in results[4:]} <= {200, 400}
    assert (await alice.get("/users/me")).status == 200
    # Whoever signed in by the old password before the change was signed out by it; later nobody could.
    assert await count(database_url, "sessions") == 1


async def test_whatever_happens_at_once_with_an_erasure_leaves_no_code_and_no_session(
    person: MakePerson, database_url: str
) -> None:
    for number in range(3):
        name = f"alice{number}"
        alice = await person(name)
        other = Person(alice.client, alice.email)
        results = await asyncio.gather(
            *(alice.post("/codes", {"ttl_days": 1, "replace": True}) for _ in range(3)),
            alice.delete("/users/me", {"password": PASSWORD}),
            *(other.sign_in() for _ in range(3)),
            alice.patch("/users/me", {"username": f"renamed{number}"}),
            alice.post("/codes/current/email"),
        )
        assert results[3].status == 204
        assert {answer.status for answer in results} <= {200, 201, 202, 204, 400, 401, 404}
        assert await count(database_url, "codes", "revoked_at IS NULL") == 0
        assert await count(database_url, "sessions") == 0
        assert await count(database_url, "users", "username IS NOT NULL OR email IS NOT NULL") == 0


# Passwords


class Gate:
    """bcrypt's own checkpw behind a gate: `threads` names the threads that wait at it, until `open()`."""

    def __init__(self) -> None:
        self.threads: list[str] = []
        self._opened = threading.Event()
        self._checkpw = bcrypt.checkpw

    def checkpw(self, password: bytes, hashed: bytes) -> bool:
        self.threads.append(threading.current_thread().name)
        assert self._opened.wait(30)
        return self._checkpw(password, hashed)

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(bcrypt, "checkpw", gate.checkpw)
    yield gate
    # Whatever failed, no thread is left waiting.
    gate.open()


async def test_a_look_up_is_answered_while_logins_are_at_work_in_threads_of_their_own(
    person: MakePerson, gate: Gate, eventually: Eventually
) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    cores = len(os.sched_getaffinity(0))
    logins = [asyncio.create_task(Person(alice.client, alice.email).sign_in()) for _ in range(cores + 3)]
    await eventually(lambda: len(gate.threads) == cores)
    assert (await alice.get(f"/codes/{code}")).status == 200
    assert (await alice.get("/users/me")).status == 200
    # As many as there are cores are at work, the others wait for their turn; none is answered.
    assert len(gate.threads) == cores
    assert not any(login.done() for login in logins)
    gate.open()
    assert [answer.status for answer in await asyncio.gather(*logins)] == [200] * (cores + 3)
    assert all(name.startswith("bcrypt") for name in gate.threads)


async def test_no_branch_of_a_session_is_refreshed_past_a_password_change(person: MakePerson) -> None:
    for number in range(5):
        alice = await person(f"alice{number}")
        first = alice.tokens["refresh_token"]
        stolen = [(await alice.refresh()).body["refresh_token"] for _ in range(3)]
        alice.tokens = (await alice.refresh(first)).body

        async def go_on(token: str, alice: Person = alice) -> None:
            while (answer := await alice.refresh(token)).status == 200:
                token = answer.body["refresh_token"]

        thieves = [asyncio.create_task(go_on(token)) for token in stolen]
        await asyncio.sleep(0.03)
        change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
        assert (await alice.post("/auth/password/change", change)).status == 204
        # Whoever got past it would go on for ever.
        async with asyncio.timeout(5):
            await asyncio.gather(*thieves)
        assert (await alice.refresh()).status == 200


async def test_who_would_wait_too_long_for_a_password_is_told_to_come_back(
    person: MakePerson, gate: Gate, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, make_client: MakeClient
) -> None:
    monkeypatch.setattr(passwords, "MAX_WAITING_PER_CORE", 1)
    alice = await Person.register(await make_client(), "alice")
    cores = len(os.sched_getaffinity(0))
    logins = [asyncio.create_task(Person(alice.client, alice.email).sign_in()) for _ in range(cores)]
    await eventually(lambda: len(gate.threads) == cores)
    answer = await Person(alice.client, alice.email).sign_in()
    assert (answer.status, answer.oauth_error) == (503, "temporarily_unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    for answer in (
        await alice.post("/auth/register", {"email": "bob@example.com", "password": PASSWORD}),
        await alice.delete("/users/me", {"password": PASSWORD}),
        await alice.post("/auth/password/change", {"current_password": PASSWORD, "new_password": NEW_PASSWORD}),
    ):
        assert (answer.status, answer.problem) == (503, "overloaded")
        assert int(answer.headers["Retry-After"]) > 0
    gate.open()
    assert [answer.status for answer in await asyncio.gather(*logins)] == [200] * cores
    assert (await alice.sign_in()).status == 200


# Requests that are broken off


@contextlib.asynccontextmanager
async def writes_held_up(url: str) -> AsyncIterator[None]:
    """Hold the lock that a registration's transaction has to wait for."""
    if is_postgres(url):
        async with await psycopg.AsyncConnection.connect(url) as server:
            await server.execute("LOCK TABLE users IN EXCLUSIVE MODE")
            yield
            await server.rollback()
        return
    file = sqlite3.connect(sqlite_path(url), isolation_level=None, check_same_thread=False)
    with contextlib.closing(file):
        # In a thread, because a transaction that is under way at the start needs the loop to end.
        await asyncio.to_thread(file.execute, "BEGIN IMMEDIATE")
        yield
        file.execute("ROLLBACK")


# The tests' server cancels the request of a client that hangs up; the service's own does so when it is made to stop at once.


async def test_a_request_that_is_cancelled_in_its_transaction_leaves_none_open(
    client: Client, database_url: str, eventually: Eventually
) -> None:
    nobody = Person(client, "")
    body = {"email": "alice@example.com", "password": PASSWORD}
    before = len(asyncio.all_tasks())
    async with writes_held_up(database_url):
        calls = [asyncio.create_task(nobody.post("/auth/register", body)) for _ in range(5)]
        await asyncio.sleep(0.2)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.sleep(0.1)
    assert all(call.cancelled() for call in calls)
    # The service's own tasks for them end, whatever they were at.
    await eventually(lambda: len(asyncio.all_tasks()) <= before)
    assert await count(database_url, "users") == 0
    if is_postgres(database_url):
        idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        assert await sql(database_url, idle) == [(0,)]
    _, statuses = await at_once(nobody.post("/auth/register", body), nobody.post("/auth/register", body))
    assert statuses == {201: 1, 409: 1}


async def test_wherever_a_request_is_broken_off_its_account_is_whole_or_not_there(
    client: Client, person: MakePerson, database_url: str
) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    nobody = Person(client, "")
    for number in range(40):
        body = {"email": f"new{number}@example.com", "password": PASSWORD, "referral_code": code}
        call = asyncio.create_task(nobody.post("/auth/register", body))
        await asyncio.sleep(0.0005 * number)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await person("last", referral_code=code)
    kept = await count(database_url, "users")
    assert kept >= 2
    for table, where, number in (
        ("sessions", "1 = 1", kept),
        ("refresh_tokens", "1 = 1", kept),
        ("referrals", "1 = 1", kept - 1),
        ("codes", f"uses = {kept - 1}", 1),
        ("users", f"referral_count = {kept - 1}", 1),
    ):
        assert await count(database_url, table, where) == number, table
