"""Passwords over HTTP: what a change and a reset end, and what they leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from referral.clock import now
from referral.database import DATABASE, Deferred
from tests.conftest import Client, Eventually, Mailed
from tests.support.people import PASSWORD, Answer, Person, read_mails, refused, text_of, token_in, works
from tests.support.rows import count, outbox_is_empty, sql

MakePerson = Callable[..., Awaitable[Person]]

NEW_PASSWORD = "another horse, another battery"


async def test_a_password_change_ends_every_other_session(person: MakePerson) -> None:
    alice = await person("alice")
    other = alice.tokens
    assert (await alice.sign_in()).status == 200
    answer = await alice.post("/auth/password/change", {"current_password": PASSWORD, "new_password": NEW_PASSWORD})
    assert answer.status == 204
    assert not await works(alice, other)
    assert refused(await alice.refresh(other["refresh_token"])) == "invalid_grant"
    assert await works(alice)
    assert (await alice.refresh()).status == 200
    assert refused(await alice.sign_in(PASSWORD)) == "invalid_grant"
    assert (await alice.sign_in(NEW_PASSWORD)).status == 200


async def test_a_password_change_ends_copies_of_the_sessions_own_tokens(person: MakePerson) -> None:
    alice = await person("alice")
    # Somebody took a copy of the refresh token, and used it at once: the session has two branches now.
    first = alice.tokens["refresh_token"]
    former, stolen = alice.tokens, (await alice.refresh()).body
    alice.tokens = (await alice.refresh(first)).body
    assert await works(alice, stolen), "until then, nobody knows whose it is"
    answer = await alice.post("/auth/password/change", {"current_password": PASSWORD, "new_password": NEW_PASSWORD})
    assert answer.status == 204
    # Neither the other branch goes on, nor does a used token within its ten seconds.
    assert refused(await alice.refresh(stolen["refresh_token"])) == "invalid_grant"
    assert refused(await alice.refresh(first)) == "invalid_grant"
    # Nor do their access tokens, which last a quarter of an hour.
    assert not await works(alice, stolen)
    assert not await works(alice, former)
    assert await works(alice), "the caller's own goes on"
    kept = alice.tokens
    alice.tokens = (await alice.refresh()).body
    assert await works(alice)
    assert await works(alice, kept)
    # And so by the next change, for which the pair of before is another branch.
    answer = await alice.post("/auth/password/change", {"current_password": NEW_PASSWORD, "new_password": PASSWORD})
    assert answer.status == 204
    assert not await works(alice, kept)
    assert not await works(alice, stolen)
    assert await works(alice)
    assert (await alice.refresh()).status == 200


async def test_after_a_password_change_a_copy_of_the_refresh_token_that_goes_on_ends_the_session(
    person: MakePerson, database_url: str
) -> None:
    alice = await person("alice")
    copied = alice.tokens["refresh_token"]
    assert (
        await alice.post("/auth/password/change", {"current_password": PASSWORD, "new_password": NEW_PASSWORD})
    ).status == 204
    stolen = await alice.refresh(copied)
    assert stolen.status == 200
    await asyncio.sleep(0.01)
    assert refused(await alice.refresh(copied)) == "invalid_grant"
    # Nobody can tell who was first.
    assert not await works(alice, stolen.body)
    assert refused(await alice.refresh(stolen.body["refresh_token"])) == "invalid_grant"
    assert await count(database_url, "audit_events", "event = 'refresh-token-reused'") == 1
    assert (await alice.sign_in(NEW_PASSWORD)).status == 200


async def test_the_refresh_token_that_goes_on_is_used_once_also_in_one_moment(person: MakePerson) -> None:
    alice = await person("alice")
    for number in range(4):
        new = f"password number {number}"
        change = {"current_password": alice.password, "new_password": new}
        assert (await alice.post("/auth/password/change", change)).status == 204
        alice.password, last = new, alice.tokens["refresh_token"]
        answers = await asyncio.gather(*(alice.refresh(last) for _ in range(3)))
        assert sorted(answer.status for answer in answers) == [200, 400, 400]
        for answer in answers:
            assert answer.status == 400 or not await works(alice, answer.body)
        assert (await alice.sign_in(new)).status == 200


async def test_a_token_that_a_password_change_has_ended_signs_nobody_out(person: MakePerson) -> None:
    alice = await person("alice")
    stolen = (await alice.refresh(alice.tokens["refresh_token"])).body
    alice.tokens = (await alice.sign_in()).body
    branch = (await alice.refresh(alice.tokens["refresh_token"])).body
    change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    assert (await alice.post("/auth/password/change", change)).status == 204
    for ended in (stolen, branch):
        for token in (ended["access_token"], ended["refresh_token"]):
            assert (await alice.post("/auth/revoke", {"token": token})).status == 200
    assert await works(alice)


async def test_a_password_change_by_the_wrong_password_changes_nothing(person: MakePerson) -> None:
    alice = await person("alice")
    other = alice.tokens
    assert (await alice.sign_in()).status == 200
    answer = await alice.post("/auth/password/change", {"current_password": "wrong", "new_password": NEW_PASSWORD})
    assert (answer.status, answer.problem) == (403, "wrong-password")
    assert await works(alice, other)
    assert (await alice.sign_in(PASSWORD)).status == 200


async def reset(client: Client, token: str, password: str = NEW_PASSWORD) -> Answer:
    return await Person(client, "").post("/auth/password/reset/confirm", {"token": token, "new_password": password})


async def test_a_mailed_link_sets_a_password_once_and_ends_every_session(
    client: Client, person: MakePerson, mailed: Mailed
) -> None:
    alice, bob = await person("alice"), await person("bob")
    assert (await Person(client, "").post("/auth/password/reset", {"email": "ALICE@example.com"})).status == 202
    token = await mailed(alice.email, "reset")
    assert (await reset(client, token)).status == 204
    assert not await works(alice)
    assert refused(await alice.refresh()) == "invalid_grant"
    assert await works(bob)
    assert refused(await alice.sign_in(PASSWORD)) == "invalid_grant"
    assert (await alice.sign_in(NEW_PASSWORD)).status == 200
    assert (await alice.me())["email_verified"], "the link reached the mailbox"
    answer = await reset(client, token, "a third password")
    assert (answer.status, answer.problem) == (422, "token-invalid")
    assert (await alice.sign_in(NEW_PASSWORD)).status == 200


async def test_a_used_reset_link_ends_its_siblings_and_one_that_is_too_old_is_refused(
    client: Client, person: MakePerson, mailed: Mailed, database_url: str
) -> None:
    alice = await person("alice")
    links = []
    for _ in range(2):
        assert (await alice.post("/auth/password/reset", {"email": alice.email})).status == 202
        links.append(await mailed(alice.email, "reset"))
    assert links[0] != links[1]
    assert (await reset(client, links[0])).status == 204
    assert (await reset(client, links[1])).problem == "token-invalid"
    assert (await alice.post("/auth/password/reset", {"email": alice.email})).status == 202
    late = await mailed(alice.email, "reset")
    lives = "SELECT expires_at - created_at FROM one_time_tokens WHERE purpose = 'reset-password' AND used_at IS NULL"
    assert await sql(database_url, lives) == [(3_600_000,)]
    await sql(database_url, f"UPDATE one_time_tokens SET expires_at = {now()}")
    assert (await reset(client, late)).problem == "token-invalid"


async def test_a_link_survives_what_does_not_use_it_and_is_good_for_its_own_purpose_only(
    client: Client, person: MakePerson, mailed: Mailed, database_url: str
) -> None:
    alice = await person("alice")
    assert (await alice.post("/auth/password/reset", {"email": alice.email})).status == 202
    tokens = {"verify": await mailed(alice.email), "reset": await mailed(alice.email, "reset")}
    kept = await sql(database_url, "SELECT * FROM one_time_tokens ORDER BY token_hash")
    assert len(kept) == 2
    for page, token in tokens.items():
        # As mail programs, virus scanners and impatient people do.
        for method in ("GET", "HEAD", "GET"):
            assert (await alice.call(method, f"/account/{page}", params={"token": token})).status == 200
    for path in ("/auth/email/verify", "/auth/password/reset/confirm"):
        assert (await alice.get(path, params={"token": tokens["reset"]})).problem == "method-not-allowed"
    assert (await reset(client, tokens["reset"], "short")).pointers == ["/new_password"]
    assert (await reset(client, tokens["verify"])).problem == "token-invalid"
    assert (await alice.post("/auth/email/verify", {"token": tokens["reset"]})).problem == "token-invalid"
    assert await sql(database_url, "SELECT * FROM one_time_tokens ORDER BY token_hash") == kept
    assert await works(alice)
    assert (await alice.post("/auth/email/verify", {"token": tokens["verify"]})).status == 204
    assert (await reset(client, tokens["reset"])).status == 204


async def test_the_pages_of_the_links_use_them_by_their_buttons(client: Client, person: MakePerson, mailed: Mailed) -> None:
    alice = await person("alice")
    nobody = Person(client, "")
    token = await mailed(alice.email)
    assert token in (await nobody.get("/account/verify", params={"token": token})).body.decode()
    assert (await nobody.post("/account/verify", data={"token": token})).status == 200
    assert (await alice.me())["email_verified"]
    assert (await nobody.post("/auth/password/reset", {"email": alice.email})).status == 202
    token = await mailed(alice.email, "reset")
    again = await nobody.post("/account/reset", data={"token": token, "new_password": "short"})
    assert again.status == 422
    assert token in again.body.decode(), "the form is shown again"
    assert (await nobody.post("/account/reset", data={"token": token, "new_password": NEW_PASSWORD})).status == 200
    assert (await nobody.post("/account/reset", data={"token": token, "new_password": "another one"})).status == 422
    assert (await alice.sign_in(NEW_PASSWORD)).status == 200


async def test_asking_for_a_reset_tells_nobody_whether_there_is_such_an_account(
    client: Client,
    person: MakePerson,
    mailed: Mailed,
    mail_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    database_url: str,
    eventually: Eventually,
) -> None:
    await person("alice")
    await mailed("alice@example.com")
    await eventually(lambda: outbox_is_empty(database_url))
    assert client.app
    ran: list[tuple[asyncio.Task[Any] | None, str]] = []

    def noting(really: Any) -> Any:
        async def run(self: Any, name: str, parameters: dict[str, Any]) -> Any:
            ran.append((asyncio.current_task(), name))
            return await really(self, name, parameters)

        return run

    async with client.app[DATABASE].reader() as reading, client.app[DATABASE].transaction() as writing:
        for kind in {type(reading), type(writing)}:
            monkeypatch.setattr(kind, "rows", noting(kind.rows))  # type: ignore[attr-defined]
    really_deferred = Deferred.__init__

    def noting_deferred(deferred: Deferred, name: str) -> None:
        ran.append((asyncio.current_task(), name))
        really_deferred(deferred, name)

    monkeypatch.setattr(Deferred, "__init__", noting_deferred)
    seen = []
    for email in ("nobody@example.com", "alice@example.com"):
        ran.clear()
        answer = await Person(client, "").post("/auth/password/reset", {"email": email})
        of_request = next(task for task, name in ran if name == "insert_mail")
        statements = [name for task, name in ran if task is of_request]
        seen.append((answer.status, answer.body, sorted(answer.headers.keys()), statements))
    assert seen[0] == seen[1]
    assert seen[0][0] == 202
    await mailed("alice@example.com", "reset")
    await eventually(lambda: outbox_is_empty(database_url))
    assert read_mails(mail_folder, "nobody@example.com") == []


async def test_whoever_changes_the_password_again_and_again_keeps_nobody_from_a_reset(
    client: Client, person: MakePerson, mail_folder: Path, eventually: Eventually
) -> None:
    alice = await person("alice")
    thief = Person(client, alice.email, password=alice.password)
    assert (await thief.sign_in()).status == 200
    await alice.post("/auth/password/reset", {"email": alice.email})
    for number in range(3):
        new = f"password number {number}"
        change = {"current_password": thief.password, "new_password": new}
        assert (await thief.post("/auth/password/change", change)).status == 204
        thief.password = new
        (mail,) = await eventually(lambda: [m for m in read_mails(mail_folder, alice.email) if "/reset?" in text_of(m)])
    reset = await alice.post("/auth/password/reset/confirm", {"token": token_in(mail), "new_password": "a third password"})
    assert reset.status == 204
    assert not await works(thief)
    assert (await thief.sign_in()).status == 400
    assert (await alice.sign_in("a third password")).status == 200
