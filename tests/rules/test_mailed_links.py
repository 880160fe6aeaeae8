"""What mailed links do: a change of address, "it was not me", and second presses of their buttons."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from referral.auth.tokens import hash_token
from referral.background.mailer import Mailer
from referral.clock import SECOND, now
from referral.rules import mailed_links
from tests.conftest import Client, Command, Given, Mailed, MakeClient
from tests.support.people import PASSWORD, Person, read_mails, text_of
from tests.support.rows import count, outbox_is_empty, sql

MakePerson = Callable[..., Awaitable[Person]]
NEW = "new@example.org"
OTHER_PASSWORD = "another good pass phrase"


async def change(person: Person, address: str = NEW) -> int:
    body = {"email": address, "current_password": person.password}
    return (await person.post("/auth/email/change", body)).status


async def use(client: Client, token: str, path: str = "/auth/email/verify") -> int:
    return (await Person(client, "").post(path, {"token": token})).status


# A change of address


async def test_an_address_is_changed_by_the_link_that_is_mailed_to_the_new_one(
    client: Client, person: MakePerson, mailed: Mailed, mail_folder: Path, eventually: Callable[..., Any]
) -> None:
    alice = await person("alice")
    assert await use(client, await mailed(alice.email)) == 204
    code = await alice.make_code()
    bob = await person("bob")
    assert await change(alice) == 202
    token = await mailed(NEW)
    # Nothing is changed by asking.
    assert (await alice.me())["email"] == alice.email
    assert (await bob.get(f"/codes/by-email?email={alice.email}")).body["code"] == code
    assert await use(client, token) == 204
    me = await alice.me()
    assert (me["email"], me["email_verified"]) == (NEW, True)
    # Wherever the address counts, the new one does and the former does not.
    assert (await bob.get(f"/codes/{code}")).status == 200
    assert (await bob.get(f"/codes/by-email?email={alice.email}")).status == 404
    assert (await bob.get(f"/codes/by-email?email={NEW}")).body["code"] == code
    assert (await bob.get(f"/codes/by-email?email={alice.email}")).status == 404
    assert (await alice.sign_in(name=alice.email)).status == 400
    assert (await alice.sign_in(name=NEW)).status == 200
    [told] = await eventually(lambda: [m for m in read_mails(mail_folder, alice.email) if "was changed" in m["Subject"]])
    assert "n***@example.org" in text_of(told)
    assert NEW not in text_of(told)
    # And somebody else may have it.
    assert (await Person.register(client, "alice2", email=alice.email)).id


async def test_an_address_that_was_never_verified_is_not_told_of_its_end(
    client: Client, person: MakePerson, mailed: Mailed, mail_folder: Path, database_url: str, eventually: Callable[..., Any]
) -> None:
    alice = await person("alice")
    await mailed(alice.email)
    assert await change(alice) == 202
    assert await use(client, await mailed(NEW)) == 204
    await eventually(lambda: outbox_is_empty(database_url))
    assert len(read_mails(mail_folder, alice.email)) == 1


async def test_who_does_not_know_the_password_changes_no_address(make_client: MakeClient, database_url: str) -> None:
    # Nobody listens there: mail stays in the outbox.
    alice = await Person.register(await make_client(mail_url="smtp://127.0.0.1:1"), "alice")
    answer = await alice.post("/auth/email/change", {"email": NEW, "current_password": "wrong"})
    assert (answer.status, answer.problem) == (403, "wrong-password")
    assert await count(database_url, "outbox", "kind = 'change-email'") == 0


async def test_an_address_that_somebody_has_is_refused_also_when_they_take_it_meanwhile(
    client: Client, person: MakePerson, mailed: Mailed
) -> None:
    alice, bob = await person("alice"), await person("bob")
    answer = await alice.post("/auth/email/change", {"email": "Bob@example.com", "current_password": alice.password})
    assert (answer.status, answer.problem) == (409, "email-taken")
    assert await change(alice) == 202
    token = await mailed(NEW)
    carol = await Person.register(client, "carol", email=NEW)
    answer = await bob.post("/auth/email/verify", {"token": token})
    assert (answer.status, answer.problem) == (409, "email-taken")
    assert (await alice.me())["email"] == alice.email
    # All or nothing: once the address is free, the link is as good as before.
    assert (await carol.delete("/users/me", {"password": PASSWORD})).status == 204
    assert await use(client, token) == 204


async def test_another_spelling_of_ones_own_address_is_a_change(client: Client, person: MakePerson, mailed: Mailed) -> None:
    alice = await person("alice")
    await mailed(alice.email)
    assert await change(alice, "ALICE@example.com") == 202
    assert await use(client, await mailed("ALICE@example.com")) == 204
    assert (await alice.me())["email"] == "ALICE@example.com"


async def test_links_to_a_former_address_do_nothing_any_more(
    client: Client, person: MakePerson, mailed: Mailed, database_url: str
) -> None:
    alice = await person("alice")
    verification = await mailed(alice.email)
    assert (await alice.post("/auth/password/reset", {"email": alice.email})).status == 202
    reset = await mailed(alice.email, "reset")
    assert await change(alice, "first@example.org") == 202
    first = await mailed("first@example.org")
    assert await change(alice) == 202
    assert await use(client, await mailed(NEW)) == 204
    body = {"token": reset, "new_password": OTHER_PASSWORD}
    assert (await alice.post("/auth/password/reset/confirm", body)).problem == "token-invalid"
    assert await use(client, verification) == 422
    assert await use(client, verification, "/auth/email/disown") == 422
    # Nor do those of changes that were asked for before.
    assert await use(client, first) == 422
    assert (await alice.me())["email"] == NEW
    # A reset that was being mailed while the address was changed.
    await sql(
        database_url,
        "INSERT INTO one_time_tokens (token_hash, user_id, purpose, email, created_at, expires_at) "
        f"SELECT '{hash_token('late')}', id, 'reset-password', '{alice.email}', 1, {now() + 60 * SECOND} "
        "FROM users",
    )
    assert (await alice.post("/auth/password/reset/confirm", {**body, "token": "late"})).problem == "token-invalid"


async def test_of_two_who_want_one_address_at_once_one_gets_it(client: Client, person: MakePerson, mailed: Mailed) -> None:
    people = [await person("alice"), await person("bob")]
    tokens = []
    for each in people:
        assert await change(each) == 202
        tokens.append(await mailed(NEW))
    assert sorted(await asyncio.gather(*(use(client, token) for token in tokens))) == [204, 409]
    assert sorted([(await each.me())["email"] == NEW for each in people]) == [False, True]


# It was not me


async def test_whoever_reads_the_mailbox_ends_an_account_that_a_stranger_made(
    client: Client, person: MakePerson, mailed: Mailed, database_url: str
) -> None:
    referrer = await person("referrer")
    code = await referrer.make_code(max_uses=1)
    mallory = await person("mallory", referral_code=code)
    taken = await mallory.make_code()
    assert (await referrer.me())["referral_count"] == 1
    assert (await client.get(f"/api/v1/codes/{code}")).status == 404
    token = await mailed(mallory.email)
    page = (await mallory.get("/account/disown", params={"token": token})).body.decode()
    assert token in page
    assert (await mallory.get("/users/me")).status == 200, "a GET uses nothing up"
    assert await use(client, token, "/auth/email/disown") == 204
    assert (await mallory.get("/users/me")).status == 401
    assert (await mallory.refresh()).status == 400
    assert (await mallory.sign_in()).status == 400
    assert (await client.get(f"/api/v1/codes/{taken}")).status == 404
    # The registration counts for nobody, and has used nothing up.
    assert (await referrer.me())["referral_count"] == 0
    assert (await referrer.get("/users/me/referrals")).body["items"] == []
    assert (await client.get(f"/api/v1/codes/{code}")).status == 200
    # The address is its owner's again, and nothing but a used link without it is kept.
    assert await sql(database_url, "SELECT email FROM one_time_tokens WHERE used_at IS NOT NULL") == [(None,)]
    assert (await Person.register(client, "owner", email=mallory.email, referral_code=code)).id


async def test_an_account_whose_address_is_verified_is_not_ended_by_the_link(
    client: Client, person: MakePerson, mailed: Mailed
) -> None:
    referrer = await person("referrer")
    code = await referrer.make_code()
    alice = await person("alice", referral_code=code)
    first = await mailed(alice.email)
    assert (await alice.post("/auth/email/verify/resend")).status == 202
    second = await mailed(alice.email)
    assert await use(client, first) == 204
    for token in (first, second, "x"):
        assert await use(client, token, "/auth/email/disown") == 422
    assert (await alice.me())["email_verified"]
    assert (await referrer.me())["referral_count"] == 1


async def test_confirming_and_disowning_at_once_does_one_of_the_two(
    client: Client, person: MakePerson, mailed: Mailed
) -> None:
    for number in range(4):
        alice = await person(f"alice{number}")
        token = await mailed(alice.email)
        confirmed, disowned = await asyncio.gather(use(client, token), use(client, token, "/auth/email/disown"))
        there = (await alice.get("/users/me")).status
        assert (confirmed, disowned, there) in ((204, 422, 200), (422, 204, 401))


# A second press


@pytest.mark.parametrize("path", ["/auth/email/verify", "/account/verify"])
async def test_a_double_click_on_confirm_says_that_it_is_done(
    client: Client, person: MakePerson, mailed: Mailed, path: str
) -> None:
    alice = await person("alice")
    token = await mailed(alice.email)
    nobody = Person(client, "")

    async def press() -> int:
        if path.startswith("/account"):
            return (await nobody.call("POST", path, data={"token": token})).status
        return (await nobody.post(path, {"token": token})).status

    assert {*await asyncio.gather(press(), press()), await press()} <= {200, 204}
    assert await change(alice) == 202
    link = await mailed(NEW)
    assert [await use(client, link) for _ in range(3)] == [204] * 3
    # With the account, that ends.
    assert (await alice.delete("/users/me", {"password": PASSWORD})).status == 204
    assert [await use(client, used) for used in (token, link)] == [422, 422]


async def test_a_double_click_on_it_was_not_me_says_that_it_is_done(
    client: Client, person: MakePerson, mailed: Mailed
) -> None:
    alice = await person("alice")
    token = await mailed(alice.email)
    answers = await asyncio.gather(*(client.post("/account/disown", data={"token": token}) for _ in range(2)))
    assert [answer.status for answer in answers] == [200, 200]
    assert await use(client, token, "/auth/email/disown") == 204
    assert await use(client, token) == 422


async def test_a_double_click_on_a_new_password_says_that_it_is_set(
    client: Client, mailed: Mailed, database_url: str
) -> None:
    alice = await Person.register(client, "alice")
    assert (await alice.post("/auth/password/reset", {"email": alice.email})).status == 202
    form = {"token": await mailed(alice.email, "reset"), "new_password": OTHER_PASSWORD}
    answers = await asyncio.gather(*(client.post("/account/reset", data=form) for _ in range(2)))
    assert [answer.status for answer in answers] == [200, 200]
    # It sets nothing again, and after ten seconds it is a used link like any other.
    assert (await client.post("/account/reset", data={**form, "new_password": "a third pass phrase"})).status == 422
    await sql(database_url, f"UPDATE one_time_tokens SET used_at = used_at - {mailed_links.SECOND_PRESS + 1}")
    assert (await client.post("/account/reset", data=form)).status == 422
    assert (await alice.sign_in(OTHER_PASSWORD)).status == 200


async def test_after_an_erasure_no_link_holds_the_address(
    client: Client, person: MakePerson, mailed: Mailed, database_url: str
) -> None:
    alice = await person("alice")
    assert await use(client, await mailed(alice.email)) == 204
    assert (await alice.post("/auth/password/reset", {"email": alice.email})).status == 202
    await mailed(alice.email, "reset")
    assert (await alice.delete("/users/me", {"password": PASSWORD})).status == 204
    assert await sql(database_url, "SELECT email FROM one_time_tokens WHERE email IS NOT NULL") == []


# Whoever is put out leaves no link behind


@pytest.mark.parametrize("by", ["reset", "password", "sessions", "admin"])
async def test_who_is_put_out_takes_the_account_by_no_change_that_they_asked_for(
    client: Client, command: Command, given: Given, mailed: Mailed, by: str
) -> None:
    owner = await Person.register(client, "owner")
    # Somebody else has the password, too.
    assert await change(owner, "thief@example.org") == 202
    link = await mailed("thief@example.org")
    if by == "reset":
        assert (await owner.post("/auth/password/reset", {"email": owner.email})).status == 202
        body = {"token": await mailed(owner.email, "reset"), "new_password": OTHER_PASSWORD}
        assert (await owner.post("/auth/password/reset/confirm", body)).status == 204
    elif by == "password":
        body = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
        assert (await owner.post("/auth/password/change", body)).status == 204
    else:
        given(f"{OTHER_PASSWORD}\n".encode())
        await command(*(["sessions", "end"] if by == "sessions" else ["createsuperuser"]), owner.email)
    assert await use(client, link) == 422
    assert (await owner.sign_in(PASSWORD if by == "sessions" else OTHER_PASSWORD)).status == 200
    assert (await owner.me())["email"] == owner.email


async def test_a_change_that_waits_to_be_mailed_goes_with_the_password(make_client: MakeClient, database_url: str) -> None:
    # Nobody listens there: mail stays in the outbox.
    client = await make_client(mail_url="smtp://127.0.0.1:1")
    owner = await Person.register(client, "owner")
    assert await change(owner, "thief@example.org") == 202
    body = {"current_password": PASSWORD, "new_password": OTHER_PASSWORD}
    assert (await owner.post("/auth/password/change", body)).status == 204
    assert await sql(database_url, "SELECT kind FROM outbox") == [("verify-email",)]


async def test_a_mail_that_is_being_sent_brings_no_link_behind_its_end(
    person: MakePerson, mailed: Mailed, mail_folder: Path, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    """The mail was claimed and its account found when the account is erased."""
    found = Mailer._find_contact
    at_work, go_on = asyncio.Event(), asyncio.Event()

    async def hold(mailer: Mailer, mail: Any) -> Any:
        contact = await found(mailer, mail)
        if mail.recipient == "leaver@example.com":
            at_work.set()
            await go_on.wait()
        return contact

    monkeypatch.setattr(Mailer, "_find_contact", hold)
    leaver = await person("leaver")
    await asyncio.wait_for(at_work.wait(), 10)
    assert (await leaver.delete("/users/me", {"password": PASSWORD})).status == 204
    go_on.set()
    # The worker has gone on when somebody else has theirs.
    await mailed((await person("other")).email)
    assert read_mails(mail_folder, "leaver@example.com") == []
    assert await sql(database_url, "SELECT email FROM one_time_tokens WHERE email = 'leaver@example.com'") == []


async def test_a_code_used_while_the_account_is_disowned_is_taken_back_with_it(
    client: Client, person: MakePerson, mailed: Mailed
) -> None:
    referrer = await person("referrer")
    code = await referrer.make_code()
    for number in range(8):
        alice = await person(f"alice{number}")
        token = await mailed(alice.email)
        used, disowned = await asyncio.gather(
            alice.post("/users/me/referrer", {"code": code}), use(client, token, "/auth/email/disown")
        )
        assert (used.status, disowned) in ((201, 204), (401, 204))
    assert (await referrer.me())["referral_count"] == 0
    assert (await referrer.get("/users/me/referrals")).body["items"] == []
    assert (await referrer.get("/codes/current")).body["uses"] == 0
