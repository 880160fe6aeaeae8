"""Who is put out of an account, or holds one with somebody else's address, keeps nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from referral.auth.tokens import hash_token
from referral.background.mailer import Mailer
from referral.clock import now
from referral.queries.outbox import Mail
from referral.queries.users import Contact
from referral.vendors.hunter import EMAIL_VERIFIER
from tests.conftest import Client, Command, Given, Mailed, MakeClient
from tests.support.people import API, PASSWORD, Person
from tests.support.rows import count, sql

LIMITED = {"auth_unverified": "limited"}
NEW_PASSWORD = "another good pass phrase"
THIEF = "thief@example.org"
VICTIM = "victim@example.com"


async def change(person: Person, address: str) -> int:
    return (await person.post("/auth/email/change", {"email": address, "current_password": person.password})).status


async def confirm(person: Person, token: str) -> int:
    return (await person.post("/auth/email/verify", {"token": token})).status


async def ask_for_reset(person: Person) -> None:
    assert (await person.post("/auth/password/reset", {"email": person.email})).status == 202


async def reset(person: Person, token: str) -> int:
    body = {"token": token, "new_password": NEW_PASSWORD}
    return (await person.post("/auth/password/reset/confirm", body)).status


async def erase(person: Person) -> None:
    assert (await person.delete("/users/me", {"password": person.password})).status == 204


@pytest.mark.parametrize("by", ["reset", "password", "sessions", "admin", "suspension"])
async def test_a_change_of_address_that_was_under_way_takes_the_account_back_for_nobody(
    client: Client,
    command: Command,
    given: Given,
    mailed: Mailed,
    monkeypatch: pytest.MonkeyPatch,
    database_url: str,
    by: str,
) -> None:
    owner = await Person.register(client, "owner")
    thief = Person(client, owner.email, password=owner.password)
    assert (await thief.sign_in()).status == 200
    asked, answered = asyncio.Event(), asyncio.Event()

    async def check(email: str) -> None:
        asked.set()
        await answered.wait()

    assert client.app
    # Hunter takes its time.
    monkeypatch.setattr(client.app[EMAIL_VERIFIER], "check", check)
    under_way = asyncio.create_task(change(thief, THIEF))
    await asyncio.wait_for(asked.wait(), 10)
    if by == "reset":
        await ask_for_reset(owner)
        assert await reset(owner, await mailed(owner.email, "reset")) == 204
    elif by == "password":
        body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
        assert (await owner.post("/auth/password/change", body)).status == 204
    elif by == "sessions":
        await command("sessions", "end", owner.email)
    elif by == "admin":
        given(f"{NEW_PASSWORD}\n".encode())
        await command("createsuperuser", owner.email)
    else:
        await command("users", "suspend", owner.email, "--reason", "stolen")
        await command("users", "unsuspend", owner.email)
    answered.set()
    assert await under_way == 401
    assert await count(database_url, "outbox", "kind = 'change-email'") == 0
    # Nor by a mail that was queued at the very moment, of which whoever puts out knows nothing.
    await sql(
        database_url,
        "INSERT INTO one_time_tokens (token_hash, user_id, purpose, email, generation, created_at, expires_at) "
        f"SELECT '{hash_token('late')}', id, 'change-email', '{THIEF}', 0, 1, {now() + 60_000} FROM users",
    )
    assert await confirm(thief, "late") == 422
    assert (await owner.sign_in(PASSWORD if by in ("sessions", "suspension") else NEW_PASSWORD)).status == 200
    assert (await owner.me())["email"] == owner.email


SLOW = {
    "referrer": ("POST", "/users/me/referrer", {"code": "STRANGERS"}),
    "username": ("PATCH", "/users/me", {"username": "stranger"}),
    "code": ("POST", "/codes", {"ttl_days": 1}),
    "edit": ("PATCH", "/codes/current", {"ttl_days": 2}),
    "edit by text": ("PATCH", "/codes/VICTIMS-1", {"ttl_days": 2}),
    "password": ("POST", "/auth/password/change", {"current_password": PASSWORD, "new_password": "a third pass phrase"}),
}


@pytest.mark.parametrize("by", ["reset", "sessions", "suspension"])
async def test_a_body_that_comes_slowly_does_nothing_for_whoever_was_put_out_meanwhile(
    make_client: MakeClient, command: Command, mailed: Mailed, database_url: str, by: str
) -> None:
    client = await make_client(**LIMITED)
    stranger = await Person.register(client, "stranger")
    await stranger.make_code(code="STRANGERS")
    made = await Person.register(client, "made", email=VICTIM, referral_code="STRANGERS")
    await made.make_code(code="VICTIMS-1")
    owner = Person(client, VICTIM, password=made.password)
    await ask_for_reset(owner)
    link = await mailed(VICTIM, "reset")
    under_way = []
    for method, path, body in SLOW.values():
        text = orjson.dumps(body)
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        head = (
            f"{method} {API}{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
            f"Authorization: Bearer {made.tokens['access_token']}\r\n\r\n"
        )
        writer.write(head.encode() + text[:-1])
        await writer.drain()
        under_way.append((reader, writer, text[-1:]))
    await asyncio.sleep(0.2)
    if by == "reset":
        assert await reset(owner, link) == 204
    elif by == "sessions":
        await command("sessions", "end", VICTIM)
    else:
        await command("users", "suspend", VICTIM, "--reason", "made by a stranger")
    statuses = []
    for reader, writer, rest in under_way:
        writer.write(rest)
        statuses.append(int((await reader.readline()).split()[1]))
        writer.close()
    # Of the reset, the password is another one, too.
    assert dict(zip(SLOW, statuses, strict=True)) == dict.fromkeys(SLOW, 401) | ({"password": 403} if by == "reset" else {})
    [(name, codes)] = await sql(
        database_url,
        f"SELECT username, (SELECT count(*) FROM codes c WHERE c.referrer_id = u.id) FROM users u WHERE email = '{VICTIM}'",
    )
    assert (name, codes) == ("made", 1)
    assert (await stranger.me())["referral_count"] == (by != "reset")


async def test_one_account_is_no_way_to_write_to_any_number_of_strangers(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    client = await make_client(limits_enabled="true", limits_mail_by_account="2/hour", mail_url="smtp://127.0.0.1:1")
    alice = await Person.register(client, "alice")
    checked: list[str] = []

    async def check(email: str) -> None:
        checked.append(email)

    assert client.app
    monkeypatch.setattr(client.app[EMAIL_VERIFIER], "check", check)
    strangers = [f"stranger{number}@example.org" for number in range(4)]
    assert [await change(alice, stranger) for stranger in strangers] == [202, 202, 429, 429]
    assert checked == strangers[:2], "nor is a verifier asked for nothing"
    assert await count(database_url, "outbox", "kind = 'change-email'") == 2


@pytest.mark.parametrize("way", ["erasure", "change"])
async def test_whoever_holds_an_address_that_is_not_theirs_keeps_its_owner_from_no_reset(
    make_client: MakeClient, mailed: Mailed, database_url: str, way: str
) -> None:
    client = await make_client(**LIMITED)
    owner = Person(client, VICTIM)
    squatter = await Person.register(client, "squatter", email=VICTIM)
    await ask_for_reset(owner)
    link = await mailed(VICTIM, "reset")
    # As often as they like.
    for number in range(2):
        if way == "erasure":
            await erase(squatter)
        else:
            assert await change(squatter, f"squatter{number}@example.org") == 202
            assert await confirm(squatter, await mailed(f"squatter{number}@example.org")) == 204
        assert await reset(owner, link) == 422, "nobody has the address"
        assert await count(database_url, "one_time_tokens", f"email = '{VICTIM}' AND purpose = 'reset-password'") == 0
        squatter = await Person.register(client, f"squatter{number}", email=VICTIM)
    assert await reset(owner, link) == 204
    assert (await squatter.get("/users/me")).status == 401
    assert (await squatter.sign_in()).status == 400
    assert (await owner.sign_in(NEW_PASSWORD)).status == 200
    assert (await owner.me())["email_verified"]
    assert await reset(squatter, link) == 204, "a second press"


async def test_a_reset_that_is_being_mailed_while_the_account_is_left_is_for_the_next_one(
    make_client: MakeClient, mailed: Mailed, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    client = await make_client(**LIMITED)
    squatter = await Person.register(client, "squatter", email=VICTIM)
    await mailed(VICTIM)
    find, at_work, go_on = Mailer._find_contact, asyncio.Event(), asyncio.Event()

    async def hold(mailer: Mailer, mail: Mail) -> Contact | None:
        contact = await find(mailer, mail)
        at_work.set()
        await go_on.wait()
        return contact

    monkeypatch.setattr(Mailer, "_find_contact", hold)
    owner = Person(client, VICTIM)
    await ask_for_reset(owner)
    await asyncio.wait_for(at_work.wait(), 10)
    await erase(squatter)
    squatter = await Person.register(client, "again", email=VICTIM)
    go_on.set()
    link = await mailed(VICTIM, "reset")
    assert await count(database_url, "one_time_tokens", f"email = '{VICTIM}' AND user_id <> '{squatter.id}'") == 0
    assert await reset(owner, link) == 204
    assert (await squatter.get("/users/me")).status == 401


@pytest.mark.parametrize("unverified", ["limited", "full"])
async def test_another_spelling_of_the_address_is_no_other_one_to_a_reset(
    make_client: MakeClient, mailed: Mailed, unverified: str
) -> None:
    client = await make_client(auth_unverified=unverified)
    owner = await Person.register(client, "owner", email=VICTIM)
    await ask_for_reset(owner)
    link = await mailed(VICTIM, "reset")
    assert await change(owner, "Victim@example.com") == 202
    assert await confirm(owner, await mailed("Victim@example.com")) == 204
    assert await reset(owner, link) == 204


async def test_a_reset_that_waits_to_be_mailed_waits_for_the_owner_of_the_address(
    make_client: MakeClient, mailed: Mailed, database_url: str, eventually: Callable[..., Awaitable[Any]]
) -> None:
    waiting = await make_client(**LIMITED, mail_url="smtp://127.0.0.1:1")
    squatter = await Person.register(waiting, "squatter", email=VICTIM)
    await ask_for_reset(squatter)
    # From here on the mail worker rests. A reset that it looks at while nobody has the address is dropped.
    await eventually(lambda: count(database_url, "outbox", "last_error IS NOT NULL"))
    await erase(squatter)
    again = await Person.register(waiting, "again", email=VICTIM)
    await waiting.close()
    # The mail server is back.
    await sql(database_url, "UPDATE outbox SET next_attempt_at = 1")
    client = await make_client(**LIMITED)
    owner = Person(client, VICTIM)
    assert await reset(owner, await mailed(VICTIM, "reset")) == 204
    assert (await Person(client, VICTIM, tokens=again.tokens).get("/users/me")).status == 401


@pytest.mark.parametrize("unverified", ["limited", "full"])
async def test_by_whom_a_stranger_said_that_the_account_comes_is_taken_back_by_the_owners_reset(
    make_client: MakeClient, mailed: Mailed, unverified: str
) -> None:
    client = await make_client(auth_unverified=unverified)
    stranger, friend = await Person.register(client, "stranger"), await Person.register(client, "friend")
    code, friends = await stranger.make_code(max_uses=1), await friend.make_code()
    await Person.register(client, "made-by-stranger", email=VICTIM, referral_code=code)
    owner = Person(client, VICTIM)
    await ask_for_reset(owner)
    assert await reset(owner, await mailed(VICTIM, "reset")) == 204
    assert (await owner.sign_in(NEW_PASSWORD)).status == 200
    counted = unverified == "full"
    assert (await stranger.me())["referral_count"] == counted
    assert (await client.get(f"/api/v1/codes/{code}")).status == (404 if counted else 200)
    answer = await owner.post("/users/me/referrer", {"code": friends})
    assert answer.status == (409 if counted else 201)
    # The address is verified now: a later reset takes nothing back.
    await ask_for_reset(owner)
    assert await reset(owner, await mailed(VICTIM, "reset")) == 204
    assert (await friend.me())["referral_count"] == (not counted)


async def test_an_address_that_had_an_account_counts_no_more_by_a_change_to_it(client: Client, mailed: Mailed) -> None:
    referrer = await Person.register(client, "referrer")
    code = await referrer.make_code(max_uses=3)
    one = await Person.register(client, "one", email=VICTIM, referral_code=code)
    await erase(one)
    assert (await referrer.me())["referral_count"] == 1
    for number in range(2):
        again = await Person.register(client, f"junk{number}", referral_code=code)
        assert (await referrer.me())["referral_count"] == 2
        assert await change(again, VICTIM) == 202
        assert await confirm(again, await mailed(VICTIM)) == 204
        assert (await referrer.me())["referral_count"] == 1
        answer = await again.post("/users/me/referrer", {"code": code})
        assert (answer.status, answer.problem) == (409, "known-address")
        await erase(again)
    assert (await referrer.get("/codes/current")).body["uses"] == 1


async def test_whoever_comes_back_to_an_address_of_their_own_still_counts(
    client: Client, mailed: Mailed, database_url: str
) -> None:
    referrer = await Person.register(client, "referrer")
    alice = await Person.register(client, "alice", referral_code=await referrer.make_code())
    former = alice.email
    assert await mailed(former)
    for address in ("alice@example.org", former):
        assert await change(alice, address) == 202
        assert await confirm(alice, await mailed(address)) == 204
    assert (await alice.me())["email"] == former
    assert (await referrer.me())["referral_count"] == 1
    await erase(alice)
    assert await sql(database_url, "SELECT DISTINCT user_id FROM former_addresses") == [(None,)]
