"""The time of an answer tells nobody which accounts exist: known and unknown ones are the same work.

Counted, not measured: the statements that a request runs and the passwords that it hashes, in their order, on both engines.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import bcrypt
import pytest

import referral.database
from referral.database import Deferred
from tests.conftest import Client
from tests.support.admin import AdminBrowser
from tests.support.people import API, PASSWORD, Person
from tests.support.rows import make_admin, sql


class Work(logging.Handler):
    """What requests did, in order: `bcrypt 4` for a password hashed or checked with 4 rounds, and names of statements."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.done: list[str] = []
        # Every statement is a slow one: the log names it.
        monkeypatch.setattr(referral.database, "SLOW_STATEMENT", -1.0)
        # A deferred one runs beside another, in no order of its own.
        monkeypatch.setattr(Deferred, "__init__", self._noting_deferred(Deferred.__init__))
        for name in ("hashpw", "checkpw"):
            monkeypatch.setattr(bcrypt, name, self._noting(getattr(bcrypt, name)))

    def _noting(self, function: Any) -> Any:
        def noting(password: bytes, salt: bytes) -> Any:
            # The second one is a salt or a hash; both begin with the number of rounds.
            self.done.append(f"bcrypt {int(salt.split(b'$')[2])}")
            return function(password, salt)

        return noting

    def _noting_deferred(self, function: Any) -> Any:
        def noting(deferred: Deferred, name: str) -> None:
            self._note(f"{name}, deferred")
            function(deferred, name)

        return noting

    def emit(self, record: logging.LogRecord) -> None:
        self._note(record.getMessage().removeprefix("slow statement ").partition(":")[0])

    def _note(self, what: str) -> None:
        # Mail and housekeeping go on beside the requests, in tasks of their own.
        task = asyncio.current_task()
        if task is not None and "_handle_request" in str(task.get_coro()):
            self.done.append(what)

    async def of(self, client: Client, path: str, status: int, body: dict[str, Any]) -> list[str]:
        """All that the call did, having checked its answer's status."""
        self.done = []
        async with client.post(f"{API}{path}", json=body) as response:
            assert response.status == status, await response.text()
        return self.done


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    counting, log = Work(monkeypatch), logging.getLogger("referral.database")
    log.addHandler(counting)
    yield counting
    log.removeHandler(counting)


@pytest.mark.parametrize("kind", ["email", "username"])
async def test_a_sign_in_does_the_same_for_a_wrong_password_an_unknown_name_and_an_erased_account(
    client: Client, work: Work, kind: str
) -> None:
    erased = await Person.register(client, "erased")
    assert (await erased.delete("/users/me", {"password": PASSWORD})).status == 204
    await Person.register(client, "alice")
    done = []
    for name in ("alice", "nobody", "erased"):
        username = name if kind == "username" else f"{name}@example.com"
        body = {"grant_type": "password", "username": username, "password": "a wrong one"}
        done.append(await work.of(client, "/auth/token", 400, body))
    assert done[0] == done[1] == done[2]
    assert f"find_credentials_by_{kind}" in done[0]
    assert done[0].count("bcrypt 4") == 1


async def test_asking_for_a_reset_does_the_same_for_every_address(client: Client, work: Work) -> None:
    erased = await Person.register(client, "erased")
    assert (await erased.delete("/users/me", {"password": PASSWORD})).status == 204
    await Person.register(client, "alice")
    done = [
        await work.of(client, "/auth/password/reset", 202, {"email": f"{name}@example.com"})
        for name in ("alice", "nobody", "erased")
    ]
    assert done[0] == done[1] == done[2]
    assert "insert_mail, deferred" in done[0]


async def test_a_registration_hashes_its_password_before_it_looks_who_is_there(client: Client, work: Work) -> None:
    await Person.register(client, "alice")
    new = await work.of(client, "/auth/register", 201, {"email": "bob@example.com", "password": PASSWORD})
    taken = await work.of(client, "/auth/register", 409, {"email": "alice@example.com", "password": PASSWORD})
    username_taken = await work.of(
        client, "/auth/register", 409, {"email": "carol@example.com", "password": PASSWORD, "username": "alice"}
    )
    # The status tells what is taken; the hash, which is all but the whole time, is the same for each.
    for done in (new, taken, username_taken):
        assert done[:2] == ["bcrypt 4", "insert_user"]
        assert done.count("bcrypt 4") == 1


async def test_the_sign_in_of_the_back_office_does_the_same_for_everybody_whom_it_refuses(
    client: Client, work: Work, database_url: str
) -> None:
    boss, gone = await Person.register(client, "boss"), await Person.register(client, "gone")
    await Person.register(client, "alice")
    for admin in (boss, gone):
        await make_admin(database_url, admin.id)
    await sql(database_url, f"UPDATE users SET suspended_at = 1, suspended_reason = 'x' WHERE id = '{gone.id}'")
    done = []
    for name, password in (("boss", "wrong"), ("nobody", PASSWORD), ("alice", PASSWORD), ("gone", PASSWORD)):
        work.done = []
        assert (await AdminBrowser(client).sign_in(name, password)).status == 401
        done.append(work.done)
    assert len(done[0]) >= 3
    assert done == [done[0]] * 4
