"""What an operator does to accounts beside running services: it holds at the next request, on every worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from referral.auth.tokens import hash_token
from referral.commands import Stop
from referral.config import ConfigError
from referral.database import DATABASE, Connection
from referral.queries import locks, users
from tests.conftest import Client, Command, Eventually, Given, MakeClient
from tests.support.people import PASSWORD, Answer, Person, read_mails, text_of, token_in
from tests.support.rows import count, make_admin, outbox_is_empty, sql

NEW = "another long password"


# Each cache on either dialect; without one there is only the database to be asked, on either in the same way.
CACHES = [("sqlite", "memory"), ("postgres", "memory"), ("sqlite", "redis"), ("postgres", "redis"), ("sqlite", "none")]
with_every_cache = pytest.mark.parametrize(("engine", "cache_url"), CACHES, indirect=["cache_url"])


@pytest.fixture
async def workers(make_client: MakeClient, cache_url: str) -> list[Client]:
    """The workers of a running service: one, or two where several may serve."""
    return [await make_client(cache_url=cache_url) for _ in range(1 if cache_url == "memory://" else 2)]


def on(worker: Client, person: Person) -> Person:
    """The same person, calling this worker."""
    return Person(worker, person.email, person.id, person.password, person.tokens)


@contextlib.asynccontextmanager
async def busy(person: Person, path: str = "/users/me") -> AsyncIterator[None]:
    """Somebody's requests without a pause: whatever is cached is at hand, and was confirmed a moment ago."""

    async def ask() -> None:
        while True:
            await person.get(path)

    tasks = [asyncio.create_task(ask()) for _ in range(3)]
    await asyncio.sleep(0.05)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@with_every_cache
async def test_an_admin_who_is_demoted_is_none_at_the_next_request(
    workers: list[Client], command: Command, database_url: str
) -> None:
    root, alice = await Person.register(workers[0], "root"), await Person.register(workers[0], "alice")
    await make_admin(database_url, root.id)
    assert (await root.sign_in()).status == 200
    code = await alice.make_code()
    for worker in workers:
        assert (await on(worker, root).patch(f"/codes/{code}", {"max_uses": 5})).status == 200
    async with contextlib.AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(busy(on(worker, root)))
        assert await command("admins", "demote", "ROOT@example.com") == "root@example.com is no admin any more.\n"
        for worker in workers:
            assert (await on(worker, root).patch(f"/codes/{code}", {"max_uses": 6})).problem == "forbidden"
    assert (await root.me())["role"] == "user"
    assert await command("admins", "demote", "root@example.com") == "root@example.com is no admin.\n"
    assert await count(database_url, "audit_events", "event = 'admin-demoted'") == 1


@with_every_cache
async def test_sessions_that_are_ended_are_refused_at_the_next_request(
    workers: list[Client], command: Command, database_url: str
) -> None:
    alice, bob = await Person.register(workers[0], "alice"), await Person.register(workers[0], "bob")
    second = on(workers[-1], alice)
    assert (await second.sign_in()).status == 200
    async with busy(alice), busy(second), busy(bob):
        assert await command("sessions", "end", alice.email) == "2 sessions of alice@example.com ended.\n"
        for worker in workers:
            for mine in (alice, second):
                assert (await on(worker, mine).get("/users/me")).status == 401
    assert (await alice.refresh()).body["error"] == "invalid_grant"
    assert (await bob.get("/users/me")).status == 200
    assert await command("sessions", "end", alice.email) == "0 sessions of alice@example.com ended.\n"
    [(detail,)] = await sql(database_url, "SELECT detail FROM audit_events WHERE event = 'sessions-ended'")
    assert json.loads(detail) == {"sessions": 2}
    assert (await alice.sign_in()).status == 200


@with_every_cache
async def test_a_suspended_account_can_nothing_at_the_next_request_and_everything_afterwards_but_by_its_tokens(
    workers: list[Client], command: Command, database_url: str
) -> None:
    alice, bob = await Person.register(workers[0], "alice"), await Person.register(workers[0], "bob")
    code = await alice.make_code()
    for worker in workers:
        assert (await on(worker, bob).get(f"/codes/{code}")).status == 200
    async with busy(alice), busy(on(workers[-1], bob), f"/codes/{code}"):
        assert await command("users", "suspend", alice.email, "--reason", "chargebacks") == f"{alice.email} is suspended.\n"
        for worker in workers:
            assert (await on(worker, alice).get("/users/me")).status == 401
            assert (await on(worker, bob).get(f"/codes/{code}")).problem == "not-found"
            by_email = await on(worker, bob).get("/codes/by-email", params={"email": alice.email})
            assert by_email.problem == "not-found"
            refused = await on(worker, bob).post("/users/me/referrer", {"code": code})
            assert (refused.problem, refused.body["reason"]) == ("referral-code-invalid", "suspended")
            newcomer = {"email": "carol@example.com", "password": PASSWORD, "referral_code": code}
            refused = await Person(worker, "").post("/auth/register", newcomer)
            assert (refused.problem, refused.body["reason"]) == ("referral-code-invalid", "suspended")
    refused = await alice.sign_in()
    assert (refused.status, refused.body["error"]) == (400, "invalid_grant")
    assert refused.body["error_description"] == "The account is suspended."
    # Whoever does not know the password is not told.
    assert "suspended" not in (await alice.sign_in("wrong")).body["error_description"]
    assert (await alice.refresh()).body["error"] == "invalid_grant"

    again = await command("users", "suspend", alice.email, "--reason", "something else")
    assert again == f"{alice.email} is suspended already.\n"
    assert await sql(database_url, "SELECT suspended_reason FROM users WHERE suspended_at IS NOT NULL") == [("chargebacks",)]

    assert await command("users", "unsuspend", alice.email) == f"{alice.email} is not suspended any more.\n"
    for worker in workers:
        assert (await on(worker, bob).get(f"/codes/{code}")).status == 200
        assert (await on(worker, alice).get("/users/me")).status == 401
    assert (await alice.refresh()).status == 400
    assert (await alice.sign_in()).status == 200
    assert (await bob.post("/users/me/referrer", {"code": code})).status == 201
    assert await command("users", "unsuspend", alice.email) == f"{alice.email} is not suspended.\n"
    recorded = await sql(database_url, "SELECT event, detail FROM audit_events WHERE event LIKE 'account-%' ORDER BY at")
    assert recorded == [("account-suspended", '{"reason":"chargebacks"}'), ("account-unsuspended", "{}")]


async def test_no_mailed_link_of_a_suspended_account_works_neither_then_nor_afterwards(
    client: Client, command: Command, mail_folder: Path, eventually: Eventually, database_url: str
) -> None:
    alice = await Person.register(client, "alice")
    await alice.post("/auth/password/reset", {"email": alice.email})
    await eventually(lambda: len(read_mails(mail_folder)) == 2)
    verify, reset = (token_in(mail_with(mail_folder, f"/{page}?token=")) for page in ("verify", "reset"))
    await command("users", "suspend", alice.email, "--reason", "x")
    # A reset that is asked for now is answered as ever, and mails nothing.
    assert (await Person(client, "").post("/auth/password/reset", {"email": alice.email})).status == 202
    await eventually(lambda: outbox_is_empty(database_url))
    assert len(read_mails(mail_folder)) == 2
    for _ in range(2):
        nobody = Person(client, "")
        assert (await nobody.post("/auth/email/verify", {"token": verify})).problem == "token-invalid"
        answer = await nobody.post("/auth/password/reset/confirm", {"token": reset, "new_password": NEW})
        assert answer.problem == "token-invalid"
        await command("users", "unsuspend", alice.email)
    assert (await alice.sign_in()).status == 200


def mail_with(folder: Path, text: str) -> EmailMessage:
    [mail] = [mail for mail in read_mails(folder) if text in text_of(mail)]
    return mail


async def test_a_link_that_was_mailed_at_the_moment_of_the_suspension_is_no_good_either(
    client: Client, command: Command, database_url: str
) -> None:
    alice = await Person.register(client, "alice")
    await command("users", "suspend", alice.email, "--reason", "x")
    hashed = hash_token("test")
    for purpose, path, body in (
        ("verify-email", "/auth/email/verify", {"token": "test"}),
        ("reset-password", "/auth/password/reset/confirm", {"token": "test", "new_password": NEW}),
        ("change-email", "/auth/email/verify", {"token": "test"}),
    ):
        columns = "token_hash, user_id, purpose, email, created_at, expires_at"
        values = f"'{hashed}', '{alice.id}', '{purpose}', 'alice@example.com'"
        await sql(database_url, f"INSERT INTO one_time_tokens ({columns}) VALUES ({values}, 1, {2**60})")
        assert (await Person(client, "").post(path, body)).problem == "token-invalid"
        await command("users", "unsuspend", alice.email)
        assert await count(database_url, "one_time_tokens", f"token_hash = '{hashed}'") == 0
        await command("users", "suspend", alice.email, "--reason", "x")


async def test_signing_in_while_an_account_is_suspended_leaves_no_session(
    client: Client, command: Command, database_url: str
) -> None:
    alice = await Person.register(client, "alice")
    people = [Person(client, alice.email) for _ in range(12)]
    answers = await asyncio.gather(
        *(person.sign_in() for person in people[:6]),
        command("users", "suspend", alice.email, "--reason", "x"),
        *(person.sign_in() for person in people[6:]),
    )
    assert {answer.status for answer in answers if isinstance(answer, Answer)} <= {200, 400}
    assert await count(database_url, "sessions") == 0
    assert [(await person.get("/users/me")).status for person in people] == [401] * 12


async def test_coming_by_somebody_while_they_are_suspended_counts_what_was_answered(
    client: Client, command: Command, database_url: str
) -> None:
    alice = await Person.register(client, "alice")
    code = await alice.make_code()
    others = [await Person.register(client, f"other{number}") for number in range(8)]
    answers = await asyncio.gather(
        *(other.post("/users/me/referrer", {"code": code}) for other in others[:4]),
        command("users", "suspend", alice.email, "--reason", "x"),
        *(other.post("/users/me/referrer", {"code": code}) for other in others[4:]),
    )
    came = [answer for answer in answers if isinstance(answer, Answer) and answer.status == 201]
    assert await count(database_url, "referrals") == len(came)
    assert await sql(database_url, f"SELECT referral_count FROM users WHERE id = '{alice.id}'") == [(len(came),)]


async def test_an_erased_account_is_not_suspended(client: Client, command: Command, database_url: str) -> None:
    alice = await Person.register(client, "alice")
    await sql(database_url, f"UPDATE users SET suspended_at = 1, suspended_reason = 'her name' WHERE id = '{alice.id}'")
    [(password_hash,)] = await sql(database_url, "SELECT password_hash FROM users")
    async with client.app[DATABASE].transaction() as conn:
        assert await users.erase_user(conn, alice.id, password_hash, 2)
    assert await sql(database_url, "SELECT suspended_at, suspended_reason FROM users") == [(None, None)]
    with pytest.raises(ConfigError):
        await command("users", "unsuspend", alice.email)


@pytest.mark.parametrize(
    "arguments",
    [
        ("admins", "demote"),
        ("sessions", "end"),
        ("users", "suspend", "--reason", "x"),
        ("users", "unsuspend"),
    ],
)
@pytest.mark.parametrize("email", ["nobody@example.com", "alice", ""])
@pytest.mark.parametrize("engine", ["sqlite"])
async def test_an_account_that_does_not_exist_is_told_in_one_line(
    client: Client, command: Command, arguments: tuple[str, ...], email: str
) -> None:
    await Person.register(client, "alice")
    with pytest.raises(
        ConfigError,
        match=r"^(EMAIL: there is no account with this address|USER: there is no such user) \(read from the command line\)$",
    ):
        await command(*arguments, email)


@pytest.mark.parametrize("reason", ["", " ", "x" * 501, "two\nlines"])
@pytest.mark.parametrize("engine", ["sqlite"])
async def test_a_reason_is_a_line(client: Client, command: Command, reason: str, database_url: str) -> None:
    alice = await Person.register(client, "alice")
    with pytest.raises(ConfigError, match=r"^--reason: must be a line of 1 to 500 characters"):
        await command("users", "suspend", alice.email, "--reason", reason)
    assert await count(database_url, "users", "suspended_at IS NOT NULL") == 0


async def test_admins_are_listed(client: Client, command: Command, database_url: str) -> None:
    assert await command("admins", "list") == "Nobody is an admin.\n"
    alice, root = await Person.register(client, "alice"), await Person.register(client, "root")
    await make_admin(database_url, root.id)
    await command("users", "suspend", root.email, "--reason", "x")
    header, line = (await command("admins", "list")).splitlines()
    assert header.split() == ["ID", "SINCE", "STATUS", "USERNAME", "E-MAIL"]
    identifier, _, status, username, email = line.split()
    assert (identifier, status, username, email) == (root.id, "suspended", "root", root.email)
    assert alice.email not in line


@with_every_cache
async def test_createsuperuser_makes_an_account_that_exists_an_admin_and_keeps_its_password(
    workers: list[Client], command: Command, given: Given, database_url: str
) -> None:
    alice = await Person.register(workers[0], "alice")
    given(b"")
    # Whoever registered may be a stranger, who would be an admin now.
    with pytest.raises(Stop, match=r"alice@example\.com is not verified"):
        await command("createsuperuser", alice.email)
    await sql(database_url, "UPDATE users SET email_verified_at = 1")
    async with busy(alice):
        given(b"")
        assert await command("createsuperuser", "Alice@Example.com") == "alice@example.com is an admin now.\n"
        for worker in workers:
            assert (await on(worker, alice).me())["role"] == "admin"
    assert (await alice.sign_in()).status == 200
    given(b"")
    await command("createsuperuser", alice.email, "--username", "alicia")
    assert (await alice.me())["username"] == "alicia"
    recorded = await sql(database_url, "SELECT event FROM audit_events WHERE actor_id IS NULL AND user_id IS NOT NULL")
    assert sorted(event for (event,) in recorded) == ["admin-promoted", "username-changed"]


async def test_createsuperuser_gives_an_account_that_exists_another_password_if_there_is_one(
    client: Client, command: Command, given: Given
) -> None:
    alice = await Person.register(client, "alice")
    given(f"{NEW}\n".encode())
    await command("createsuperuser", alice.email)
    # Whoever had the password before may be signed in: those sessions end, as by a change.
    assert (await alice.get("/users/me")).status == 401
    assert (await alice.sign_in()).status == 400
    assert (await alice.sign_in(NEW)).status == 200
    assert (await alice.me())["role"] == "admin"


async def test_createsuperuser_refuses_a_suspended_account_and_a_username_of_somebody_else(
    client: Client, command: Command, given: Given, database_url: str
) -> None:
    alice = await Person.register(client, "alice")
    await sql(database_url, "UPDATE users SET email_verified_at = 1")
    await Person.register(client, "bob")
    given(b"")
    with pytest.raises(ConfigError, match="the username is taken"):
        await command("createsuperuser", alice.email, "--username", "BOB")
    await command("users", "suspend", alice.email, "--reason", "x")
    with pytest.raises(Stop, match="is suspended"):
        await command("createsuperuser", alice.email)
    await command("users", "unsuspend", alice.email)
    await alice.sign_in()
    assert (await alice.me())["role"] == "user"


@pytest.mark.parametrize("engine", ["postgres"])
async def test_createsuperuser_makes_nobody_an_admin_who_is_just_leaving_the_address(
    client: Client, command: Command, given: Given, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = await Person.register(client, "stranger", email="operator@example.com")
    lock_user = locks.lock_user

    async def lock_later(conn: Connection, user_id: str) -> None:
        monkeypatch.setattr(locks, "lock_user", lock_user)
        # The link of a change of address is pressed between the look at the account and its lock.
        await sql(database_url, "UPDATE users SET email = 'evil@example.org', email_key = 'evil@example.org'")
        await lock_user(conn, user_id)

    given(f"{NEW}\n".encode())
    monkeypatch.setattr(locks, "lock_user", lock_later)
    await command("createsuperuser", "operator@example.com")
    assert await sql(database_url, "SELECT email FROM users WHERE role = 'admin'") == [("operator@example.com",)]
    assert await sql(database_url, f"SELECT role FROM users WHERE id = '{stranger.id}'") == [("user",)]
