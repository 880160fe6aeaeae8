"""PostgreSQL in particular: races between transactions and the locks that end them, conflicts that are made again, and
servers that are restarted, hung, full, read-only, replaced or not to be reached."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

import asyncpg
import orjson
import pytest

import referral.database
from referral.background.expiries import ExpiryWorker
from referral.background.holds import HoldWorker
from referral.background.mailer import Mailer
from referral.background.queue import LONGEST_SLEEP
from referral.background.relay import Relay
from referral.background.webhooks import Webhooks
from referral.cache.epoch import EPOCH_LEASE
from referral.clock import now
from referral.database import (
    DATABASE,
    ConstraintViolation,
    Database,
    DatabaseUnavailable,
    TransactionConflict,
    postgres,
    postgres_connecting,
    postgres_connections,
)
from referral.database import migrate as migrations
from referral.database.opening import open_database
from referral.database.statements import Statement, load_statements
from referral.handlers import service as handlers_service
from referral.queries import locks, profiles, programme_stats, users
from tests.conftest import Client, Eventually, MakeClient
from tests.support.people import PASSWORD, Answer, Person
from tests.support.servers import PostgresServer, RedisServer
from tests.support.service import run_py

MakePerson = Callable[..., Awaitable[Person]]

# Statements that lock, and what locks in them, to show what happens without it.
LOCKING = ("lock_user", "hold_live_session", "insert_session", "lock_referrers")
LOCKS = re.compile(r"\bFOR (?:NO KEY UPDATE|UPDATE|SHARE)(?: OF \w)?")


@pytest.fixture
def engine() -> str:
    return "postgres"


@pytest.fixture
def waiting(database_url: str, eventually: Eventually) -> Callable[[int], Awaitable[None]]:
    """`await waiting(2)`: until so many transactions of the service wait for a lock."""

    async def wait(number: int) -> None:
        connection = await asyncpg.connect(database_url)

        async def reached() -> bool:
            query = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'referral' AND wait_event_type = 'Lock'"
            )
            return bool(await connection.fetchval(query) == number)

        try:
            await eventually(reached)
        finally:
            await connection.close()

    return wait


@pytest.fixture
def quiet(eventually: Eventually) -> Callable[[Client], Awaitable[None]]:
    """`await quiet(client)`: until the service's own workers have nothing to do."""

    async def wait(client: Client) -> None:
        database: Any = client.app[DATABASE]
        nothing = Statement("SELECT NOT EXISTS (SELECT FROM outbox)", ())
        database._statements["nothing_waits"] = nothing

        # Several times in a row: a worker that has just been started, or told of mail, may be about to begin.
        in_a_row = 0

        async def reached() -> bool:
            nonlocal in_a_row
            async with database.reader() as conn:
                sent = await conn.value("nothing_waits", bool)
            await asyncio.sleep(0)
            in_a_row = in_a_row + 1 if sent and database._pool.get_idle_size() == database._pool.get_size() else 0
            return in_a_row == 4

        # Longer than mail may lie unnoticed: what came too late to be told of is waited for, too.
        await eventually(reached, 2 * LONGEST_SLEEP)

    return wait


def statements(client: Client) -> dict[str, Statement]:
    """What the application's database runs, by name."""
    found: dict[str, Statement] = client.app[DATABASE]._statements  # type: ignore[attr-defined]
    return found


def without_locks(client: Client) -> None:
    known = statements(client)
    for name in LOCKING:
        assert LOCKS.search(known[name].sql), name
        known[name] = replace(known[name], sql=LOCKS.sub("", known[name].sql))


# Races. Each is held open half-way by somebody else's lock, first without the lock of the service, then with it.


@pytest.mark.parametrize(("locked", "expected"), [(False, [201, 409]), (True, [201, 201])])
async def test_two_replacements_at_once_are_made_one_after_the_other(
    client: Client, person: MakePerson, other: Any, waiting: Any, quiet: Any, locked: bool, expected: list[int]
) -> None:
    alice = await person("alice")
    await alice.make_code(code="FIRST")
    await quiet(client)
    if not locked:
        without_locks(client)
    async with other.transaction():
        await other.execute("SELECT FROM codes FOR UPDATE")
        tasks = [asyncio.create_task(alice.post("/codes", {"ttl_days": 1, "replace": True})) for _ in range(2)]
        await waiting(2)
    answers = await asyncio.gather(*tasks)
    assert sorted(answer.status for answer in answers) == expected
    assert await other.fetchval("SELECT count(*) FROM codes WHERE revoked_at IS NULL") == 1


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("length", [2, 3, 4])
async def test_of_a_cycle_that_is_closed_from_all_sides_at_once_one_link_is_refused(
    client: Client, person: MakePerson, other: Any, waiting: Any, quiet: Any, length: int, locked: bool
) -> None:
    people = [await person() for _ in range(length)]
    texts = [await one.make_code() for one in people]
    if not locked:
        without_locks(client)
    outsider = await Person.register(client, "outsider")
    await quiet(client)
    transaction = other.transaction()
    await transaction.start()
    # Whoever has looked for cycles waits for this before the link is in.
    link = "INSERT INTO referrals SELECT u.id, $1, $2, 1 FROM users u WHERE u.id <> $1"
    await other.execute(link, outsider.id, texts[0])
    tasks = [
        asyncio.create_task(one.post("/users/me/referrer", {"code": text}))
        for one, text in zip(people, [*texts[1:], texts[0]], strict=True)
    ]
    await waiting(length)
    await transaction.rollback()
    answers = await asyncio.gather(*tasks)
    refused = [answer.problem for answer in answers if answer.status != 201]
    assert refused == (["referral-cycle"] if locked else []), [answer.body for answer in answers]
    counted = await other.fetchrow("SELECT sum(referral_count), (SELECT count(*) FROM referrals) FROM users")
    assert tuple(counted) == (length - len(refused),) * 2


@pytest.mark.parametrize(("locked", "expected"), [(False, 201), (True, 401)])
async def test_an_account_that_is_being_erased_gets_no_code(
    client: Client, person: MakePerson, other: Any, waiting: Any, quiet: Any, locked: bool, expected: int
) -> None:
    alice = await person("alice")
    await quiet(client)
    if not locked:
        without_locks(client)
    async with other.transaction():
        await other.execute("SELECT FROM sessions FOR UPDATE")
        erasure = asyncio.create_task(alice.delete("/users/me", {"password": PASSWORD}))
        await waiting(1)
        creation = asyncio.create_task(alice.post("/codes", {"ttl_days": 1}))
        await waiting(2)
    assert (await erasure).status == 204
    assert (await creation).status == expected
    assert await other.fetchval("SELECT count(*) FROM codes WHERE revoked_at IS NULL") == (0 if locked else 1)


@pytest.mark.parametrize(("locked", "left"), [(False, 1), (True, 0)])
async def test_an_account_that_is_being_erased_gets_no_session(
    client: Client, person: MakePerson, other: Any, waiting: Any, quiet: Any, locked: bool, left: int
) -> None:
    alice = await person("alice")
    await quiet(client)
    if not locked:
        without_locks(client)
    async with other.transaction():
        await other.execute("SELECT FROM sessions FOR UPDATE")
        erasure = asyncio.create_task(alice.delete("/users/me", {"password": PASSWORD}))
        await waiting(1)
        sign_in = asyncio.create_task(alice.sign_in())
        await waiting(2)
    assert (await erasure).status == 204
    assert (await sign_in).status == (400 if locked else 200)
    assert await other.fetchval("SELECT count(*) FROM sessions") == left


@pytest.mark.parametrize(("locked", "left"), [(False, 2), (True, 1)])
async def test_a_password_that_is_being_changed_opens_no_session(
    client: Client, person: MakePerson, other: Any, waiting: Any, quiet: Any, locked: bool, left: int
) -> None:
    alice = await person("alice")
    await quiet(client)
    await Person(client, alice.email).sign_in()
    if not locked:
        without_locks(client)
    async with other.transaction():
        await other.execute("SELECT FROM sessions FOR UPDATE")
        body = {"current_password": PASSWORD, "new_password": "another horse battery"}
        change = asyncio.create_task(alice.post("/auth/password/change", body))
        await waiting(1)
        late = Person(client, alice.email)
        sign_in = asyncio.create_task(late.sign_in())
        if locked:
            await waiting(2)
        else:
            # Nothing holds it up: it has looked at the password that still is.
            assert (await sign_in).status == 200
    assert (await change).status == 204
    assert (await sign_in).status == (400 if locked else 200)
    assert await other.fetchval("SELECT count(*) FROM sessions") == left


@pytest.mark.parametrize(("kept_apart", "left"), [(False, 1), (True, 0)])
async def test_an_account_that_is_being_erased_gets_no_profile(
    make_client: MakeClient, database: Database, other: Any, waiting: Any, quiet: Any, kept_apart: bool, left: int
) -> None:
    # A provider that cannot be reached: what its worker would store is stored by the test.
    client = await make_client(
        enrichment_provider="hunter", enrichment_api_key="key", enrichment_base_url="http://127.0.0.1:1"
    )
    alice = await Person.register(client, "alice")
    await quiet(client)
    if not kept_apart:
        peek = Statement("SELECT user_id FROM profile_lookups WHERE user_id = $1", ("user_id",))
        database._statements["delete_lookup"] = peek  # type: ignore[attr-defined]
    async with database.transaction() as conn:
        assert await profiles.delete_lookup(conn, alice.id)
        erasure = asyncio.create_task(alice.delete("/users/me", {"password": PASSWORD}))
        if kept_apart:
            await waiting(1)
        else:
            assert (await erasure).status == 204
        await profiles.insert_profile(conn, alice.id, "hunter", "{}", now())
    assert (await erasure).status == 204
    assert await other.fetchval("SELECT count(*) FROM profiles") == left


async def test_a_refresh_that_waits_for_its_session_holds_nothing_that_the_sessions_end_needs(
    client: Client, person: MakePerson, other: Any, waiting: Any, quiet: Any
) -> None:
    # Otherwise a sign-out, which takes the session and then its tokens, would wait for the refresh, and that for it.
    alice = await person("alice")
    await quiet(client)
    async with other.transaction():
        await other.execute("SELECT FROM sessions FOR UPDATE")
        refresh = asyncio.create_task(alice.refresh())
        await waiting(1)
        await other.execute("SELECT FROM refresh_tokens FOR UPDATE NOWAIT")
    assert (await refresh).status == 200


async def test_users_and_codes_are_locked_in_one_order_by_registration_creation_referrer_and_erasure(
    client: Client, person: MakePerson, other: Any, waiting: Any, quiet: Any
) -> None:
    alice, bob = await person("alice"), await person("bob")
    code = await alice.make_code()
    await quiet(client)
    async with other.transaction():
        await other.execute("SELECT FROM users WHERE username = 'alice' FOR UPDATE")
        tasks = [
            asyncio.create_task(Person.register(client, "carol", referral_code=code)),
            asyncio.create_task(bob.post("/users/me/referrer", {"code": code})),
            asyncio.create_task(alice.post("/codes", {"ttl_days": 1, "replace": True})),
            asyncio.create_task(alice.delete("/users/me", {"password": PASSWORD})),
        ]
        await waiting(4)
        # All of them wait for the user, and none of them has the code already.
        await other.execute("SELECT FROM codes FOR UPDATE NOWAIT")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# Conflicts


async def test_a_request_that_is_the_victim_of_a_deadlock_is_made_again(
    database_url: str, make_client: MakeClient, other: Any, waiting: Any, quiet: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    # Looked for once, this long after the waiting began: the circle must be closed by then.
    await other.execute(f"ALTER DATABASE {urlsplit(database_url).path[1:]} SET deadlock_timeout = '500ms'")
    client = await make_client()
    alice, bob = await Person.register(client, "alice"), await Person.register(client, "bob")
    code = await alice.make_code()
    await quiet(client)
    async with other.transaction():
        await other.execute("SELECT FROM users WHERE username = 'alice' FOR UPDATE")
        request = asyncio.create_task(bob.post("/users/me/referrer", {"code": code}))
        await waiting(1)
        # The request holds this and waits for alice: one of the two has to give way.
        await other.execute(statements(client)["lock_referrers"].sql)
    assert (await request).status == 201
    assert "attempt 1: deadlock detected" in caplog.text
    assert (await alice.me())["referral_count"] == 1


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_the_isolation_level_is_the_services_own(
    database_url: str,
    make_client: MakeClient,
    other: Any,
    waiting: Any,
    quiet: Any,
    caplog: pytest.LogCaptureFixture,
    level: str,
) -> None:
    caplog.set_level(logging.INFO)
    name = urlsplit(database_url).path[1:]
    await other.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    client = await make_client()
    alice = await Person.register(client, "alice")
    await quiet(client)
    async with other.transaction():
        await other.execute("UPDATE users SET referral_count = 0")
        request = asyncio.create_task(alice.post("/codes", {"ttl_days": 1}))
        await waiting(1)
    # It waited for the other one, and goes on from what that left.
    assert (await request).status == 201
    assert "attempt 1" not in caplog.text
    code = (await alice.get("/codes/current")).body["code"]
    people = [await Person.register(client, f"person{number}") for number in range(20)]
    answers = await asyncio.gather(*(person.post("/users/me/referrer", {"code": code}) for person in people))
    assert {answer.status for answer in answers} == {201}
    assert (await alice.me())["referral_count"] == 20
    assert "attempt 1" not in caplog.text


async def test_a_statement_whose_result_a_migration_changed_is_prepared_again(
    client: Client, person: MakePerson, other: Any
) -> None:
    alice = await person("alice")
    for column in ("max_uses", "uses"):
        assert (await alice.post("/codes", {"ttl_days": 1, "replace": True})).status == 201
        await other.execute(f"ALTER TABLE codes ALTER COLUMN {column} TYPE integer")
        assert (await alice.post("/codes", {"ttl_days": 1, "replace": True})).status == 201


async def test_a_transaction_idle_for_too_long_is_given_up_and_can_be_made_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_connecting, "IDLE_TRANSACTION_TIMEOUT", "20ms")
    database = await open_database(database_url)

    async def work() -> None:
        async with database.transaction() as conn:
            await asyncio.sleep(0.2)
            await locks.lock_user(conn, "alice")

    with pytest.raises(TransactionConflict):
        await work()
    await database.close()


# Connections


class Proxy:
    """Between the service and the server: cuts the connection at a chosen message, and leads elsewhere when told to."""

    def __init__(self, url: str) -> None:
        self.upstream = self.address(url)
        self.path = urlsplit(url).path
        # Cut at the message that contains this, or at this many from now; before or after it has got through.
        self.marker: bytes | None = None
        self.countdown = -1
        self.passes = False
        self._server: asyncio.Server | None = None

    @staticmethod
    def address(url: str) -> tuple[str, int]:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        return parts.hostname, parts.port

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"postgresql://referral@127.0.0.1:{self._server.sockets[0].getsockname()[1]}{self.path}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()

    def _cuts(self, message: bytes) -> bool:
        self.countdown -= 1
        found = self.countdown == 0 or bool(self.marker and self.marker in message)
        if found:
            self.marker = None
        return found

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self.upstream)

        async def answers() -> None:
            while data := await up_reader.read(65_536):
                writer.write(data)
            writer.close()

        back = asyncio.create_task(answers())
        try:
            while data := await reader.read(65_536):
                if not self._cuts(data):
                    up_writer.write(data)
                    continue
                back.cancel()
                if self.passes:
                    up_writer.write(data)
                    # Its answer has come when the client hears that there is no connection any more.
                    await up_reader.read(65_536)
                writer.transport.abort()
                break
        except ConnectionError:
            pass
        finally:
            back.cancel()
            writer.close()
            up_writer.close()


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(database_url) as opened:
        yield opened


async def registration(client: Client, name: str, **members: Any) -> Answer:
    body = {"email": f"{name}@example.com", "password": PASSWORD, "username": name, **members}
    return await Person(client, body["email"]).post("/auth/register", body)


@pytest.mark.parametrize(("passes", "users_made"), [(True, 1), (False, 0)])
async def test_a_commit_without_an_answer_is_never_made_again(
    make_client: MakeClient,
    proxy: Proxy,
    other: Any,
    quiet: Any,
    passes: bool,
    users_made: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    client = await make_client(database_url=proxy.url)
    await quiet(client)
    proxy.marker, proxy.passes = b"COMMIT\0", passes
    answer = await registration(client, "alice")
    assert (answer.status, answer.problem) == (503, "unavailable")
    assert answer.headers["Retry-After"]
    assert "attempt" not in caplog.text
    assert await other.fetchval("SELECT count(*) FROM users") == users_made
    assert (await registration(client, "bob")).status == 201


async def _asleep(worker: Any) -> None:
    await asyncio.Event().wait()


async def test_wherever_the_connection_breaks_a_registration_is_made_once_or_not_at_all(
    make_client: MakeClient, proxy: Proxy, other: Any, quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The messages counted are to be the registration's, not those of what it causes, nor of whoever looks by the clock.
    for worker in (Relay, Webhooks, HoldWorker, ExpiryWorker):
        monkeypatch.setattr(worker, "run", _asleep)
    monkeypatch.setattr(Mailer, "wake", lambda mailer: None)
    client = await make_client(database_url=proxy.url)
    alice = await Person.register(client, "alice")
    code = await alice.make_code()
    outcomes = []
    for passes in (False, True):
        for message in range(1, 30):
            name = f"p{message}{'x' * passes}"
            # A mail whose sending was hit would be tried again later only.
            await other.execute("DELETE FROM outbox")
            proxy.countdown = 0
            await quiet(client)
            proxy.countdown, proxy.passes = message, passes
            answer = await registration(client, name, referral_code=code)
            outcomes.append(answer.status)
            made = await other.fetchval("SELECT count(*) FROM users WHERE username = $1", name)
            # Only a commit that got no answer is 503.
            assert (answer.status, made) in ((201, 1), (503, 0), (503, 1)), (message, answer.body)
            if proxy.countdown > 0:
                break
        assert proxy.countdown > 0, "the sweep goes past the last message"
    assert outcomes.count(503) == 2
    assert len(outcomes) > 15
    rows = await other.fetchval("SELECT count(*) FROM referrals")
    assert rows == await other.fetchval("SELECT referral_count FROM users WHERE username = 'alice'")
    assert rows == await other.fetchval("SELECT uses FROM codes")


async def test_connections_that_were_terminated_are_replaced_unnoticed(person: MakePerson, other: Any) -> None:
    people = [await person() for _ in range(10)]
    await asyncio.gather(*(one.me() for one in people))
    await other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'referral'")
    answers = await asyncio.gather(*(one.post("/codes", {"ttl_days": 1}) for one in people))
    assert [answer.status for answer in answers] == [201] * 10


async def test_a_connection_that_is_terminated_in_a_statement_is_replaced_unnoticed(
    client: Client, person: MakePerson, other: Any, waiting: Any, quiet: Any
) -> None:
    alice = await person("alice")
    await quiet(client)
    async with other.transaction():
        await other.execute("SELECT FROM users FOR UPDATE")
        request = asyncio.create_task(alice.post("/codes", {"ttl_days": 1}))
        await waiting(1)
        await other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    assert (await request).status == 201


async def test_the_pool_is_bounded_and_serves_more_requests_than_it_has_connections(
    client: Client, person: MakePerson, other: Any, waiting: Any, quiet: Any
) -> None:
    people = [await person() for _ in range(postgres.POOL_SIZE + 5)]
    await quiet(client)
    async with other.transaction():
        await other.execute("SELECT FROM users FOR UPDATE")
        tasks = [asyncio.create_task(one.post("/codes", {"ttl_days": 1})) for one in people]
        await waiting(postgres.POOL_SIZE)
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'referral' AND datname = current_database()"
        assert await other.fetchval(query) == postgres.POOL_SIZE
    assert {answer.status for answer in await asyncio.gather(*tasks)} == {201}


async def test_without_a_free_connection_requests_are_told_so_instead_of_hanging(
    client: Client, person: MakePerson, quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await person("alice")
    await quiet(client)
    async with AsyncExitStack() as stack:
        for _ in range(postgres.POOL_SIZE):
            await stack.enter_async_context(client.app[DATABASE].reader())
        monkeypatch.setattr(postgres, "ACQUIRE_TIMEOUT", 0.05)
        answer = await alice.get("/users/me")
        assert (answer.status, answer.problem) == (503, "unavailable")
    monkeypatch.undo()
    assert (await alice.get("/users/me")).status == 200


async def all_connections_work(database: Database) -> None:
    """None of the pool's connections is lost, in a transaction, or busy."""
    async with asyncio.timeout(5), AsyncExitStack() as stack:
        for _ in range(postgres.POOL_SIZE):
            conn: Any = await stack.enter_async_context(database.reader())
            await users.find_contact(conn, "x")
            assert not conn._raw.is_in_transaction()


async def test_wherever_a_cancellation_strikes_the_pool_stays_whole(database: Database) -> None:
    async def work() -> None:
        async with database.reader() as conn:
            await users.find_contact(conn, "x")
        async with database.transaction() as conn:
            await locks.lock_user(conn, "x")
            await users.find_contact(conn, "x")

    for steps in range(80):
        task = asyncio.create_task(work())
        for _ in range(steps // 2):
            await asyncio.sleep(0.0001)
        for _ in range(steps % 4):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await all_connections_work(database)


async def test_cancelled_statements_do_not_go_on_in_the_server_and_are_rolled_back(
    database: Database, other: Any, waiting: Any, caplog: pytest.LogCaptureFixture
) -> None:
    transaction = other.transaction()
    await transaction.start()
    await other.execute("SELECT FROM referrers_lock FOR UPDATE")

    async def work() -> None:
        async with database.transaction() as conn:
            await locks.lock_referrers(conn)

    tasks = [asyncio.create_task(work()) for _ in range(postgres.POOL_SIZE)]
    await waiting(postgres.POOL_SIZE)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await waiting(0)
    await transaction.rollback()
    await all_connections_work(database)
    # What asyncpg says when it has to roll back itself.
    assert "active transaction" not in caplog.text


# Statements


async def test_parameters_are_texts_and_whole_numbers_whatever_postgres_infers(other: Any) -> None:
    for name, statement in load_statements("postgres").items():
        prepared = await other.prepare(statement.sql)
        # A list of ids is a text, too, for asyncpg.
        assert {parameter.name for parameter in prepared.get_parameters()} <= {"text", "int8", "jsonb"}, name


async def test_a_wrong_parameter_looks_like_the_bug_it_is_and_is_not_made_again(database: Database) -> None:
    for parameters in ({"user_id": 7}, {"user_id": "x", "more": "y"}):
        statement = Statement("SELECT id FROM users WHERE id = $1", tuple(parameters))
        database._statements["wrong"] = statement  # type: ignore[attr-defined]
        with pytest.raises((asyncpg.DataError, asyncpg.InterfaceError)):
            async with database.transaction() as conn:
                await conn.run("wrong", **parameters)


async def test_an_error_that_is_ignored_is_not_taken_for_a_commit(database: Database) -> None:
    alice = users.NewUser("alice", "a@example.com", "a@example.com", None, None, "hash", "user", now())

    async def work() -> None:
        async with database.transaction() as conn:
            await users.insert_user(conn, alice)
            with suppress(ConstraintViolation):
                await users.insert_user(conn, alice)

    with pytest.raises(RuntimeError, match="nothing was committed"):
        await work()
    async with database.reader() as conn:
        assert await users.find_contact(conn, "alice") is None


async def test_slow_statements_are_logged_by_name_without_values(
    client: Client,
    person: MakePerson,
    other: Any,
    waiting: Any,
    quiet: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(referral.database, "SLOW_STATEMENT", 0.1)
    alice = await person("alice")
    await quiet(client)
    caplog.clear()
    async with other.transaction():
        await other.execute("SELECT FROM users FOR UPDATE")
        request = asyncio.create_task(alice.post("/codes", {"ttl_days": 1}))
        await waiting(1)
        await asyncio.sleep(0.1)
    assert (await request).status == 201
    slow = [record.getMessage() for record in caplog.records if "slow" in record.getMessage()]
    assert len(slow) == 1
    assert slow[0].startswith("slow statement hold_live_session: ")
    assert slow[0].endswith(" ms (parameters session_id, now)")
    assert alice.id not in slow[0]


async def test_a_lock_is_held_as_soon_as_it_is_taken(database: Database, other: Any, person: MakePerson) -> None:
    alice = await person("alice")
    async with database.transaction() as conn:
        await locks.lock_user(conn, alice.id)
        with pytest.raises(asyncpg.LockNotAvailableError):
            await other.execute("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE NOWAIT", alice.id)
        await locks.lock_referrers(conn)
        with pytest.raises(asyncpg.LockNotAvailableError):
            await other.execute("SELECT FROM referrers_lock FOR NO KEY UPDATE NOWAIT")
    await other.execute("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE NOWAIT", alice.id)


async def test_a_connection_that_breaks_before_the_rollback_hides_no_error(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = asyncpg.Connection.execute

    async def execute(self: Any, query: str, *arguments: Any, **options: Any) -> Any:
        if query == "ROLLBACK":
            # As asyncpg does while the server's farewell has arrived, and the end of the connection has not.
            raise asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress")
        return await really(self, query, *arguments, **options)

    async def fail() -> None:
        async with database.transaction() as conn:
            await locks.lock_referrers(conn)
            raise ZeroDivisionError

    monkeypatch.setattr(asyncpg.Connection, "execute", execute)
    with pytest.raises(ZeroDivisionError):
        await fail()
    monkeypatch.undo()
    async with database.transaction() as conn:
        await locks.lock_referrers(conn)


# Servers, which the tests have for themselves


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server with a migrated database, `referral`, on which no other test depends; it wants `locked`'s password."""
    server = PostgresServer(tmp_path_factory.mktemp("own"))
    rules = server.folder / "data" / "pg_hba.conf"
    rules.write_text(f"host all locked 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    server.start()
    try:
        server.make_database("referral")
        yield server
    finally:
        server.resume()
        server.kill()


@pytest.fixture
def server(own_server: PostgresServer) -> PostgresServer:
    own_server.execute("TRUNCATE users CASCADE", "referral")
    return own_server


async def test_a_server_that_hangs_is_told_of_within_seconds_and_used_again_when_it_is_back(
    server: PostgresServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ACQUIRE_TIMEOUT", "STATEMENT_TIMEOUT", "ROLLBACK_TIMEOUT"):
        monkeypatch.setattr(postgres, name, 0.3)
    monkeypatch.setattr(postgres_connections, "ROLLBACK_TIMEOUT", 0.3)
    client = await make_client(database_url=server.url("referral"))
    people = [await Person.register(client, f"person{number}") for number in range(3)]
    server.hang()
    try:
        async with asyncio.timeout(5):
            answers = await asyncio.gather(
                *(one.post("/codes", {"ttl_days": 1}) for one in people),
                *(registration(client, f"late{number}") for number in range(20)),
            )
            assert {answer.status for answer in answers} == {503}
            assert (await people[0].get("/health/ready")).status == 503
        with pytest.raises(DatabaseUnavailable, match="cannot connect to PostgreSQL"):
            await asyncio.to_thread(migrations.migrate, f"{server.url('referral')}?connect_timeout=1")
    finally:
        server.resume()
    answers = await asyncio.gather(*(one.post("/codes", {"ttl_days": 1}) for one in people))
    assert [answer.status for answer in answers] == [201] * 3
    monkeypatch.undo()
    await all_connections_work(client.app[DATABASE])


async def test_while_it_hangs_readiness_waits_for_it_once_though_redis_is_well(
    server: PostgresServer, make_client: MakeClient, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which Redis is believed stands in the database, too."""
    client = await make_client(database_url=server.url("referral"), cache_url=redis.url)
    person = Person(client, "")
    assert (await person.get("/health/ready")).status == 200
    # The lease of what was read has ended by then.
    await asyncio.sleep(2 * EPOCH_LEASE)
    monkeypatch.setattr(handlers_service, "READY_TIMEOUT", 0.5)
    server.hang()
    try:
        # Its own time, and that of giving the connection back; a statement has twice as long.
        async with asyncio.timeout(4):
            answer = await person.get("/health/ready")
        assert (answer.status, answer.body["checks"]) == (503, {"database": "unavailable", "cache": "ok"})
    finally:
        server.resume()


async def test_a_hanging_server_does_not_keep_the_service_from_ending(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "CLOSE_TIMEOUT", 0.2)
    database = await open_database(server.url("referral"))
    server.hang()
    try:
        async with asyncio.timeout(5):
            await database.close()
    finally:
        server.resume()


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_no_acknowledged_registration_is_lost_in_a_restart(
    server: PostgresServer, make_client: MakeClient, how: str
) -> None:
    client = await make_client(database_url=server.url("referral"))
    alice = await Person.register(client, "alice")
    code = await alice.make_code()
    acknowledged: set[str] = set()
    statuses: set[int] = set()
    over = asyncio.Event()

    async def register_one_after_the_other(worker: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            answer = await registration(client, f"w{worker}n{number}", referral_code=code)
            statuses.add(answer.status)
            if answer.status == 201:
                acknowledged.add(answer.body["user"]["id"])

    async with asyncio.TaskGroup() as tasks:
        for worker in range(6):
            tasks.create_task(register_one_after_the_other(worker))
        while len(acknowledged) < 20:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(getattr(server, how))
        before = len(acknowledged)
        await asyncio.to_thread(server.start)
        while len(acknowledged) < before + 20:
            await asyncio.sleep(0.01)
        over.set()
    assert statuses <= {201, 503}
    connection = await asyncpg.connect(server.url("referral"))
    kept = {row[0] for row in await connection.fetch("SELECT user_id FROM referrals")}
    counted = await connection.fetchrow("SELECT referral_count, uses FROM users u JOIN codes c ON c.referrer_id = u.id")
    await connection.close()
    assert acknowledged <= kept
    assert tuple(counted) == (len(kept), len(kept))


async def test_after_a_fail_over_the_new_primary_gets_the_writes(
    server: PostgresServer, postgres_server: PostgresServer, make_client: MakeClient
) -> None:
    async with Proxy(server.url("referral")) as proxy:
        client = await make_client(database_url=proxy.url)
        await Person.register(client, "alice")
        # The former primary lives on, read-only, and keeps its connections; the address leads to another server.
        server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        server.execute("SELECT pg_reload_conf()")
        postgres_server.execute("CREATE DATABASE referral TEMPLATE migrated")
        try:
            proxy.upstream = Proxy.address(postgres_server.url(""))
            answer = await registration(client, "bob")
            assert answer.status == 201, answer.body
        finally:
            postgres_server.execute("DROP DATABASE referral WITH (FORCE)")
            server.execute("ALTER SYSTEM RESET default_transaction_read_only")
            server.execute("SELECT pg_reload_conf()")


async def test_a_read_only_database_answers_reads_and_refuses_writes(
    server: PostgresServer, make_client: MakeClient
) -> None:
    client = await make_client(database_url=server.url("referral"))
    alice = await Person.register(client, "alice")
    server.execute("ALTER DATABASE referral SET default_transaction_read_only = on")
    try:
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'referral'")
        assert (await alice.get("/users/me")).status == 200
        answer = await alice.post("/codes", {"ttl_days": 1})
        assert (answer.status, answer.problem) == (503, "unavailable")
    finally:
        server.execute("ALTER DATABASE referral RESET default_transaction_read_only")
    assert (await alice.post("/codes", {"ttl_days": 1})).status == 201


async def test_with_few_connections_requests_wait_for_each_other_and_with_none_they_are_told(
    server: PostgresServer, make_client: MakeClient, quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for statement in (
        "CREATE ROLE few LOGIN CONNECTION LIMIT 2",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO few",
    ):
        server.execute(statement, "referral")
    client = await make_client(database_url=server.url("referral").replace("referral@", "few@"))
    answers = await asyncio.gather(*(registration(client, f"person{number}") for number in range(20)))
    assert {answer.status for answer in answers} == {201}
    monkeypatch.setattr(postgres, "ACQUIRE_TIMEOUT", 0.2)
    database = client.app[DATABASE]
    await quiet(client)
    async with database.reader(), database.reader():
        answer = await registration(client, "alice")
        assert (answer.status, answer.problem) == (503, "unavailable")
        assert answer.headers["Retry-After"]
    assert (await registration(client, "alice")).status == 201
    await client.close()
    server.execute("DROP OWNED BY few; DROP ROLE few", "referral")


def start(url: str) -> tuple[int, str]:
    """What `run.py serve` ends with on this database, and what it says."""
    environ = {"PATH": os.environ["PATH"], "REFERRAL_SERVER_PORT": "0", "REFERRAL_DATABASE_URL": url}
    ended = subprocess.run(run_py(), env=environ, capture_output=True, text=True, timeout=30, check=False)
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://locked:hunter2@127.0.0.1:{port}/referral", 'password authentication failed for user "locked"'),
        ("postgresql://referral:hunter2@127.0.0.1:{port}/missing", 'database "missing" does not exist'),
        ("postgresql://referral:hunter2@127.0.0.1:1/referral", "Connection refused"),
        ("postgresql://referral:hunter2@nowhere.invalid/referral", "nowhere.invalid"),
        ("postgresql://referral:hunter2@127.0.0.1:{port}/referral?sslmode=require", "does not support SSL"),
        ("postgresql://referral:hunter2@127.0.0.1:{port}/referral?colour=red", "colour"),
    ],
)
def test_a_wrong_address_stops_the_start_with_one_line_and_without_the_password(
    server: PostgresServer, url: str, reason: str
) -> None:
    returned, said = start(url.format(port=server.port))
    assert returned == 2
    assert said.startswith("run.py: ")
    assert reason in said
    assert said.count("\n") == 1
    assert "hunter2" not in said


async def test_a_password_may_have_any_character(server: PostgresServer) -> None:
    password = "p@ss/w:rd %?#ö"
    server.execute(f"CREATE ROLE locked LOGIN SUPERUSER PASSWORD '{password}'")
    url = server.url("referral").replace("referral@", f"locked:{quote(password, safe='')}@")
    assert migrations.migrate(url) == []
    database = await open_database(url)
    await database.close()
    server.execute("DROP ROLE locked")


async def test_reads_keep_their_plans_and_transactions_choose_theirs(database: Database) -> None:
    async def plans(conn: Any) -> list[tuple[int, int]]:
        query = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = $1"
        rows = await conn._raw.fetch(query, load_statements("postgres")["find_contact"].sql)
        return [(row[0], row[1]) for row in rows]

    async with database.reader() as conn:
        for _ in range(3):
            await users.find_contact(conn, "x")
        assert await plans(conn) == [(3, 0)]
    async with database.transaction() as conn:
        await users.find_contact(conn, "x")
        # By itself, PostgreSQL plans anew five times before it decides.
        assert await plans(conn) == [(3, 1)]
    async with database.reader() as conn:
        await users.find_contact(conn, "x")
        assert await plans(conn) == [(4, 1)]


async def test_differences_that_were_added_to_the_sums_are_not_read_again(database: Database) -> None:
    """Until PostgreSQL has cleaned up, what was deleted lies in the table before what waits."""
    fill = "INSERT INTO stat_deltas (day, what, unit, count, amount) SELECT 0, 'seen', '', 1, 0 FROM generate_series(1, $1)"
    async with database.transaction() as conn:
        raw: Any = conn
        # What other tests left there is none of this one's.
        await raw._raw.execute("TRUNCATE stat_deltas")
        await raw._raw.execute("ALTER TABLE stat_deltas SET (autovacuum_enabled = false)")
        await raw._raw.fetch(fill, 30_000)
    async with database.transaction() as conn:
        assert len(await programme_stats.take_deltas(conn, 50_000)) == 30_000
    async with database.transaction() as conn:
        raw = conn
        await raw._raw.fetch(fill, 3)
    async with database.reader() as conn:
        raw = conn
        for statement in ("sum_stats", "find_oldest_delta"):
            explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {load_statements('postgres')[statement].sql}"
            parameters = (0, 0) if statement == "sum_stats" else ()
            # The first to pass by marks in the index what is deleted.
            for _ in range(2):
                plan = orjson.loads(await raw._raw.fetchval(explained, *parameters))[0]["Plan"]
            pages = await raw._raw.fetchval("SELECT pg_relation_size('stat_deltas') / 8192")
            assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < pages / 2, statement
        found = await programme_stats.sum_stats(conn, 0, 0)
        assert [(one.what, one.count) for one in found] == [("seen", 3)]
