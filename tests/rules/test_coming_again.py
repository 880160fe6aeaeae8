"""One address counts once: who comes again by one that had an account comes by nobody, then and later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from referral.auth.fair_queue import Asker
from referral.auth.passwords import PASSWORDS
from referral.background.housekeeping import _delete_expired
from referral.clock import DAY, now
from referral.config import CONFIG
from referral.database import DATABASE
from tests.conftest import Client, MakeClient
from tests.support.people import PASSWORD, Answer, Person, read_mails, token_in
from tests.support.rows import count, sql

MakePerson = Callable[..., Awaitable[Person]]
ADDRESS = "Returner@bücher.example"
SPELLINGS = [ADDRESS, "returner@xn--bcher-kva.example", "RETURNER@BÜCHER.EXAMPLE"]


async def register(client: Client, address: str, code: str | None = None, **body: Any) -> tuple[Person, Answer]:
    person = Person(client, address)
    given = {"email": address, "password": PASSWORD, **({"referral_code": code} if code else {}), **body}
    answer = await person.post("/auth/register", given)
    if answer.status == 201:
        person.tokens = answer.body
    return person, answer


async def leave(person: Person) -> None:
    assert (await person.delete("/users/me", {"password": PASSWORD})).status == 204


async def test_an_address_counts_once_however_often_it_is_erased(client: Client, person: MakePerson) -> None:
    referrer = await person("referrer")
    code = await referrer.make_code(max_uses=2)
    returner, answer = await register(client, ADDRESS, code)
    assert answer.body["attribution"] == {"status": "attributed", "reason": None}
    for spelling in SPELLINGS * 2:
        await leave(returner)
        returner, answer = await register(client, spelling, code)
        assert answer.body["attribution"] == {"status": "refused", "reason": "known-address"}
        assert answer.body["user"]["referrer"] is None
    assert (await referrer.me())["referral_count"] == 1
    assert (await referrer.get("/codes/current")).body["uses"] == 1
    # Nor later, by any code.
    refused = await returner.post("/users/me/referrer", {"code": code})
    assert (refused.status, refused.problem) == (409, "known-address")
    assert (await referrer.me())["referral_count"] == 1
    # Others are referred as before, and so are the returner's own.
    assert (await register(client, "somebody@example.com", code))[1].body["attribution"]["status"] == "attributed"
    own = await returner.make_code()
    assert (await register(client, "friend@example.com", own))[1].body["attribution"]["status"] == "attributed"


async def test_the_code_of_whoever_has_just_left_the_address_is_no_code(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They leave between the look at the code and the account."""
    owner, _ = await register(client, ADDRESS)
    code = await owner.make_code()
    hasher = client.app[PASSWORDS]
    hash_word = hasher.hash

    async def leave_first(password: str, asker: Asker) -> str:
        await leave(owner)
        return await hash_word(password, asker)

    monkeypatch.setattr(hasher, "hash", leave_first)
    _, answer = await register(client, ADDRESS, code)
    assert (answer.status, answer.problem, answer.body["reason"]) == (422, "referral-code-invalid", "revoked")
    monkeypatch.undo()
    assert (await register(client, ADDRESS))[1].status == 201


async def test_who_came_without_a_code_cannot_come_by_one_later(client: Client, person: MakePerson) -> None:
    code = await (await person("referrer")).make_code()
    await leave((await register(client, ADDRESS))[0])
    returner, answer = await register(client, ADDRESS)
    assert answer.body["attribution"] == {"status": "none", "reason": None}
    assert (await returner.post("/users/me/referrer", {"code": code})).problem == "known-address"
    assert (await returner.post("/users/me/referrer", {"code": "NOSUCH"})).problem == "referral-code-invalid"


async def test_an_address_that_was_changed_counts_no_second_time_either(
    client: Client, person: MakePerson, mail_folder: Path, eventually: Callable[..., Any]
) -> None:
    referrer = await person("referrer")
    code = await referrer.make_code()
    first, _ = await register(client, "first@example.com", code)

    async def change(account: Person, address: str) -> None:
        known = len(read_mails(mail_folder, address))
        await account.post("/auth/email/change", {"email": address, "current_password": PASSWORD})
        mails = await eventually(lambda: read_mails(mail_folder, address)[known:])
        assert (await account.post("/auth/email/verify", {"token": token_in(mails[-1])})).status == 204

    await change(first, "second@example.com")
    again, answer = await register(client, "first@example.com", code)
    assert answer.body["attribution"]["status"] == "refused"
    # The mark is the account's: another address does not take it away.
    await change(again, "third@example.com")
    assert (await again.post("/users/me/referrer", {"code": code})).problem == "known-address"
    assert (await referrer.me())["referral_count"] == 1


async def test_after_so_many_days_it_counts_again_and_nothing_is_kept(
    client: Client, person: MakePerson, database_url: str
) -> None:
    code = await (await person("referrer")).make_code()
    await leave((await register(client, ADDRESS, code))[0])
    await sql(database_url, f"UPDATE former_addresses SET left_at = {now() - 90 * DAY + 60_000}")
    returner, answer = await register(client, ADDRESS, code)
    assert answer.body["attribution"]["status"] == "refused"
    await leave(returner)
    assert client.app
    await sql(database_url, f"UPDATE former_addresses SET left_at = {now() - 90 * DAY - 1}")
    returner, answer = await register(client, ADDRESS, code)
    assert answer.body["attribution"]["status"] == "attributed"
    assert await count(database_url, "former_addresses") == 1
    await _delete_expired(client.app[CONFIG], client.app[DATABASE])
    assert await count(database_url, "former_addresses") == 0


async def test_it_can_be_switched_off(make_client: MakeClient, database_url: str) -> None:
    client = await make_client(attribution_readdress_days="0")
    code = await (await Person.register(client, "referrer")).make_code()
    for _ in range(3):
        returner, answer = await register(client, ADDRESS, code)
        assert answer.body["attribution"]["status"] == "attributed"
        await leave(returner)
    assert await count(database_url, "former_addresses") == 0


async def test_what_is_kept_tells_no_address_and_outlives_a_rotation(make_client: MakeClient, database_url: str) -> None:
    old, new = "the first secret of 32 characters", "the second secret of 32 characters"
    client = await make_client(auth_secret=old)
    code = await (await Person.register(client, "referrer")).make_code()
    await leave((await register(client, ADDRESS, code))[0])
    [(kept,)] = await sql(database_url, "SELECT address_hash FROM former_addresses")
    await client.close()
    client = await make_client(auth_secret=new, auth_previous_secret=old)
    returner, answer = await register(client, ADDRESS, code)
    assert answer.body["attribution"]["status"] == "refused"
    await leave(returner)
    found = await sql(database_url, "SELECT address_hash FROM former_addresses ORDER BY left_at")
    # By another key, it is another hash.
    assert [len(each) for (each,) in found] == [64, 64]
    assert kept == found[0][0] != found[1][0]


async def test_who_registers_while_the_account_is_being_erased_comes_by_nobody(client: Client, person: MakePerson) -> None:
    referrer = await person("referrer")
    code = await referrer.make_code()
    attributed = 0
    for number in range(6):
        address = f"returner{number}@example.com"
        returner, _ = await register(client, address, code)
        attributed += 1

        async def come_back(address: str = address) -> Answer:
            while (answer := (await register(client, address, code))[1]).status == 409:
                pass
            return answer

        _, answer = await asyncio.gather(leave(returner), come_back())
        assert answer.body["attribution"]["status"] == "refused"
    assert (await referrer.me())["referral_count"] == attributed


# What a refusal tells, and what it leaves


@pytest.mark.parametrize("state", ["unknown", "revoked", "expired", "exhausted"])
async def test_a_bad_code_is_told_whether_or_not_the_address_is_taken(
    client: Client, person: MakePerson, database_url: str, state: str
) -> None:
    referrer = await person("referrer")
    code = "UNKNOWN1" if state == "unknown" else await referrer.make_code(max_uses=1)
    if state == "revoked":
        await referrer.delete("/codes/current")
    elif state == "exhausted":
        await register(client, "quick@example.com", code)
    elif state == "expired":
        await sql(database_url, f"UPDATE codes SET created_at = 1, expires_at = {now() - 1}")
    for address, name in (("free@example.com", "free"), (referrer.email, "free"), ("free@example.com", "referrer")):
        _, answer = await register(client, address, code, username=name)
        assert (answer.status, answer.problem, answer.body["reason"]) == (422, "referral-code-invalid", state)
        [(email, detail)] = await sql(
            database_url,
            "SELECT email, detail FROM audit_events WHERE event = 'registration-refused' ORDER BY at DESC, id DESC LIMIT 1",
        )
        assert email == address
        assert '"reason":"referral-code-invalid"' in detail
        assert f'"code":"{code}"' in detail


async def test_a_taken_address_and_a_taken_name_leave_a_trace(client: Client, person: MakePerson, database_url: str) -> None:
    alice = await person("alice")
    assert (await register(client, "ALICE@example.com"))[1].problem == "email-taken"
    assert (await register(client, "new@example.com", username="Alice"))[1].problem == "username-taken"
    found = await sql(
        database_url, "SELECT email, detail FROM audit_events WHERE event = 'registration-refused' ORDER BY at, id"
    )
    assert [email for email, _ in found] == [alice.email, "new@example.com"]
    assert [reason in detail for (_, detail), reason in zip(found, ("email-taken", "username-taken"), strict=True)] == [
        True
    ] * 2
    # With the account, what was tried with its address goes, too.
    await leave(alice)
    found = await sql(database_url, "SELECT email FROM audit_events WHERE event = 'registration-refused' ORDER BY at, id")
    assert [email for (email,) in found] == [None, "new@example.com"]


# Where addresses have to be verified


async def test_a_stranger_burns_nobodys_address_and_counts_by_nobodys(make_client: MakeClient, database_url: str) -> None:
    client = await make_client(auth_unverified="limited")
    stranger, friend = await Person.register(client, "stranger"), await Person.register(client, "friend")
    own, code = await stranger.make_code(), await friend.make_code()
    for referral_code in (None, own):
        squatter, answer = await register(client, ADDRESS, referral_code)
        assert answer.status == 201
        await leave(squatter)
    assert (await stranger.me())["referral_count"] == 0
    assert (await stranger.get("/codes/current")).body["uses"] == 0
    assert await count(database_url, "former_addresses") == 0
    _, answer = await register(client, ADDRESS, code)
    assert answer.body["attribution"] == {"status": "attributed", "reason": None}
    assert (await friend.me())["referral_count"] == 1


async def test_a_verified_address_counts_once_there_too(
    make_client: MakeClient, mail_folder: Path, eventually: Callable[..., Any]
) -> None:
    client = await make_client(auth_unverified="limited")
    friend = await Person.register(client, "friend")
    code = await friend.make_code()
    returner, _ = await register(client, "returner@example.com", code)
    [mail] = await eventually(lambda: read_mails(mail_folder, "returner@example.com"))
    assert (await returner.post("/auth/email/verify", {"token": token_in(mail)})).status == 204
    await leave(returner)
    assert (await register(client, "returner@example.com", code))[1].body["attribution"]["status"] == "refused"
    assert (await friend.me())["referral_count"] == 1


async def test_who_has_just_been_erased_is_told_so_and_nothing_of_cycles(person: MakePerson) -> None:
    code = await (await person("referrer")).make_code()
    for number in range(6):
        alice = await person(f"alice{number}")
        used, _ = await asyncio.gather(alice.post("/users/me/referrer", {"code": code}), leave(alice))
        assert used.status in (201, 401)
