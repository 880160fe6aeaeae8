"""Sessions as their owner sees them: listed, ended one by one, and ending by themselves, idle or old."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import jwt

from referral import app as app_module
from referral.background import housekeeping
from referral.clock import DAY, SECOND, now, rfc_3339
from referral.database.migrate import migrate
from tests.conftest import Client, Eventually, MakeClient
from tests.support.people import PASSWORD, Answer, Person
from tests.support.rows import count, everything, sql

MakePerson = Callable[..., Awaitable[Person]]

PHONE = "Mozilla/5.0 (Android 15; Mobile) Firefox/145"


async def sign_in(person: Person, **headers: str) -> Person:
    """The same person, signed in once more by a client that sends these headers."""
    other = Person(person.client, person.email)
    form = {"grant_type": "password", "username": person.email, "password": PASSWORD}
    answer = await other.call("POST", "/auth/token", data=form, headers=headers)
    assert answer.status == 200, answer.body
    other.tokens = answer.body
    return other


async def listed(person: Person) -> list[dict[str, Any]]:
    """The person's sessions, having checked that the page is a whole one."""
    answer = await person.get("/auth/sessions")
    assert answer.status == 200, answer.body
    assert answer.body.keys() == {"items", "total", "next_cursor"}
    assert (answer.body["total"], answer.body["next_cursor"]) == (len(answer.body["items"]), None)
    return list(answer.body["items"])


async def is_signed_in(person: Person) -> bool:
    answer = await person.get("/users/me")
    assert answer.status in (200, 401), answer.body
    return answer.status == 200


def error_of(answer: Answer) -> str:
    assert answer.status == 400, answer.body
    return str(answer.body["error"])


async def age(database_url: str, milliseconds: int) -> None:
    """Let all sessions be older by this much, and last refreshed just now."""
    await sql(database_url, f"UPDATE sessions SET created_at = created_at - {milliseconds}")


# Listed


async def test_each_sign_in_is_listed_newest_first_and_the_requests_own_is_marked(person: MakePerson) -> None:
    alice = await person("alice")
    await person("bob")
    phone = await sign_in(alice, **{"User-Agent": PHONE})
    newer, older = await listed(phone)
    assert (
        newer.keys()
        == older.keys()
        == {
            "id",
            "created_at",
            "last_used_at",
            "expires_at",
            "address",
            "client",
            "current",
        }
    )
    assert (newer["client"], newer["address"], newer["current"]) == (PHONE, "127.0.0.1", True)
    assert older["client"].startswith("Python/3")
    assert (older["address"], older["current"]) == ("127.0.0.1", False)
    assert newer["created_at"] == newer["last_used_at"] > rfc_3339(now() - 60 * SECOND)
    assert rfc_3339(now() + 30 * DAY) >= newer["expires_at"] > rfc_3339(now() + 29 * DAY)
    assert newer["id"] == jwt.decode(phone.tokens["access_token"], options={"verify_signature": False})["sid"]
    assert [session["current"] for session in await listed(alice)] == [False, True]


async def test_the_list_comes_in_pages(person: MakePerson) -> None:
    alice = await person("alice")
    for _ in range(4):
        await sign_in(alice)
    whole = await listed(alice)
    assert len(whole) == 5
    found, path = [], "/auth/sessions?limit=2"
    while path:
        answer = await alice.get(path)
        assert answer.body["total"] == 5
        found += answer.body["items"]
        cursor = answer.body["next_cursor"]
        assert ("Link" in answer.headers) == (cursor is not None)
        path = f"/auth/sessions?limit=2&cursor={cursor}" if cursor else ""
    assert found == whole
    for query, pointer in (("limit=0", "/limit"), ("limit=101", "/limit"), ("cursor=x", "/cursor")):
        assert (await alice.get(f"/auth/sessions?{query}")).pointers == [pointer]


async def test_a_refresh_records_when_where_from_and_by_which_client(make_client: MakeClient, database_url: str) -> None:
    client = await make_client(server_trusted_proxies="127.0.0.1")
    alice = await Person.register(client, "alice")
    (before,) = await listed(alice)
    await sql(database_url, "UPDATE sessions SET last_used_at = last_used_at - 5000, expires_at = expires_at - 86400000")
    form = {"grant_type": "refresh_token", "refresh_token": alice.tokens["refresh_token"]}
    headers = {"User-Agent": PHONE, "X-Forwarded-For": "203.0.113.7"}
    answer = await Person(client, "").call("POST", "/auth/token", data=form, headers=headers)
    assert answer.status == 200
    (after,) = await listed(alice)
    assert (after["client"], after["address"]) == (PHONE, "203.0.113.7")
    assert (after["id"], after["created_at"], after["current"]) == (before["id"], before["created_at"], True)
    assert after["last_used_at"] >= before["last_used_at"]
    assert after["expires_at"] >= before["expires_at"]


async def test_whatever_a_client_calls_itself_is_kept_short_and_printable(client: Client, person: MakePerson) -> None:
    alice = await person("alice")
    for given, kept in (
        ("x" * 5_000, "x" * 200),
        ("a\tb", "ab"),
        ("right\u202eleft", "rightleft"),
        ("Браузер", "Браузер"),
        ("<script>'--", "<script>'--"),
        ("", None),
        (" ", None),
    ):
        (newest, *_) = await listed(await sign_in(alice, **{"User-Agent": given}))
        assert newest["client"] == kept, given


async def test_bytes_in_a_user_agent_that_are_no_text_do_no_harm(client: Client, person: MakePerson) -> None:
    alice = await person("alice")
    body = f"grant_type=password&username={alice.email}&password={PASSWORD.replace(' ', '+')}".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(
        b"POST /api/v1/auth/token HTTP/1.1\r\nHost: x\r\nUser-Agent: caf\xe9 \xff\r\nConnection: close\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert (await listed(alice))[0]["client"] == "caf"


async def test_the_list_is_only_for_somebody_signed_in(client: Client) -> None:
    for method, path in (("GET", "/auth/sessions"), ("DELETE", "/auth/sessions/01a1fc33-b15e-7485-b662-a53a843b9176")):
        assert (await Person(client, "").call(method, path)).problem == "unauthorized"


# Ended by their owner


async def test_a_session_that_its_owner_ends_is_over_at_once_and_the_others_go_on(person: MakePerson) -> None:
    alice = await person("alice")
    phone, laptop = await sign_in(alice), await sign_in(alice)
    assert await is_signed_in(phone)
    own = next(session["id"] for session in await listed(phone) if session["current"])
    answer = await alice.delete(f"/auth/sessions/{own.upper()}")
    assert (answer.status, answer.body) == (204, b"")
    assert not await is_signed_in(phone)
    assert error_of(await phone.refresh()) == "invalid_grant"
    assert await is_signed_in(laptop)
    assert (await laptop.refresh()).status == 200
    assert own not in {session["id"] for session in await listed(alice)}
    assert (await alice.delete(f"/auth/sessions/{own}")).problem == "not-found"


async def test_one_can_end_the_session_one_is_in(person: MakePerson) -> None:
    alice = await person("alice")
    (session,) = await listed(alice)
    assert (await alice.delete(f"/auth/sessions/{session['id']}")).status == 204
    assert not await is_signed_in(alice)
    assert (await alice.sign_in()).status == 200


async def test_another_persons_session_looks_like_none(person: MakePerson, database_url: str) -> None:
    alice, bob = await person("alice"), await person("bob")
    await sql(database_url, f"UPDATE users SET role = 'admin' WHERE id = '{bob.id}'")
    (session,) = await listed(alice)
    before = await count(database_url, "sessions")
    for session_id in (session["id"], alice.id, "00000000-0000-0000-0000-000000000000", "x", "%00", "'; --"):
        answer = await bob.delete(f"/auth/sessions/{session_id}")
        assert (answer.status, answer.problem) == (404, "not-found"), session_id
    assert await count(database_url, "sessions") == before
    assert await is_signed_in(alice)


# Ending by themselves


async def test_a_session_that_nobody_refreshes_ends_and_leaves_the_list(person: MakePerson, database_url: str) -> None:
    alice = await person("alice")
    phone = await sign_in(alice)
    own = next(session["id"] for session in await listed(phone) if session["current"])
    await sql(database_url, f"UPDATE sessions SET expires_at = {now()} WHERE id = '{own}'")
    assert [session["id"] == own for session in await listed(alice)] == [False]
    assert error_of(await phone.refresh()) == "invalid_grant"
    assert await is_signed_in(alice)


async def test_no_refresh_takes_a_session_past_its_end(make_client: MakeClient, database_url: str) -> None:
    client = await make_client(auth_session_ttl="172800", auth_refresh_token_ttl="86400")
    alice = await Person.register(client, "alice")
    (before,) = await listed(alice)
    assert before["expires_at"] <= rfc_3339(now() + DAY)
    # A day and a half old, it has twelve hours left, however short a time ago it was refreshed.
    await age(database_url, 3 * DAY // 2)
    answer = await alice.refresh()
    assert answer.status == 200
    alice.tokens = answer.body
    (after,) = await listed(alice)
    assert rfc_3339(now() + DAY // 2 - 60 * SECOND) < after["expires_at"] <= rfc_3339(now() + DAY // 2)
    await age(database_url, DAY)
    answer = await alice.refresh()
    assert error_of(answer) == "invalid_grant"


async def test_a_shorter_session_ttl_reaches_sessions_that_are_already_there(
    make_client: MakeClient, database_url: str
) -> None:
    alice = await Person.register(await make_client(), "alice")
    await age(database_url, 2 * DAY)
    alice.client = await make_client(auth_session_ttl="86400")
    assert error_of(await alice.refresh()) == "invalid_grant"


async def test_a_session_shorter_than_its_idle_time_is_as_short_from_the_start(make_client: MakeClient) -> None:
    client = await make_client(auth_session_ttl="3600")
    alice = await Person.register(client, "alice")
    (session,) = await listed(alice)
    assert session["expires_at"] <= rfc_3339(now() + 3_600 * SECOND)


async def test_no_access_token_outlives_its_session(make_client: MakeClient, database_url: str) -> None:
    client = await make_client(auth_session_ttl="600", auth_access_token_ttl="900")
    alice = await Person.register(client, "alice")
    assert alice.tokens["expires_in"] == 600
    await age(database_url, 500 * SECOND)
    answer = await alice.refresh()
    assert 90 <= answer.body["expires_in"] <= 100
    claims = jwt.decode(answer.body["access_token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == answer.body["expires_in"]


async def test_housekeeping_deletes_what_has_ended_and_nothing_else(
    make_client: MakeClient, database_url: str, eventually: Eventually
) -> None:
    first = await make_client()
    alice, bob = await Person.register(first, "alice"), await Person.register(first, "bob")
    await sql(database_url, f"UPDATE sessions SET expires_at = {now()} WHERE user_id = '{alice.id}'")
    # It begins with the application's start.
    assert housekeeping.INTERVAL > 60
    await make_client()

    async def gone() -> bool:
        return await count(database_url, "sessions", f"user_id = '{alice.id}'") == 0

    await eventually(gone)
    assert await count(database_url, "refresh_tokens") == 1
    assert await is_signed_in(bob)


# What is kept


async def test_addresses_and_clients_go_with_the_account(make_client: MakeClient, database_url: str) -> None:
    client = await make_client(server_trusted_proxies="127.0.0.1")
    alice = await Person.register(client, "alice")
    await sign_in(alice, **{"User-Agent": "PRIVATE client", "X-Forwarded-For": "203.0.113.99"})
    kept = repr((await everything(database_url))["sessions"])
    assert "PRIVATE client" in kept
    assert "203.0.113.99" in kept
    assert (await alice.delete("/users/me", {"password": PASSWORD})).status == 204
    left = await everything(database_url)
    assert left["sessions"] == []
    assert "PRIVATE client" not in repr(left)


def test_sessions_from_before_are_listed_with_what_is_known(tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    migrate(f"sqlite:///{file}")
    migration = Path(app_module.__file__).parent.parent / "migrations" / "0010.sessions-where-from"
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.executescript(Path(f"{migration}.rollback.sql").read_text())
        database.execute(
            "INSERT INTO users (id, email, email_key, password_hash, role, created_at) SELECT 'u', 'x', 'x', 'x', 'user', 7"
        )
        database.execute("INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES ('s', 'u', 7, 9)")
        database.executescript(Path(f"{migration}.sql").read_text())
        row = database.execute("SELECT id, created_at, last_used_at, expires_at, address, client FROM sessions").fetchone()
    assert row == ("s", 7, 7, 9, None, None)
