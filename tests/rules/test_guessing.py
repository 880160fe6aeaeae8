"""Guessing, from one network and from many: what is counted by whom, what is not, and who is not locked out by it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from referral.auth.fair_queue import Asker
from referral.auth.passwords import PASSWORDS
from tests.conftest import Client, MakeClient
from tests.support.networks import BEHIND_PROXY, of
from tests.support.people import PASSWORD, Person

LIMITED = {**BEHIND_PROXY, "limits_enabled": "true", "limits_login_by_address": "1000/minute"}
WRONG = "a wrong pass phrase"


@pytest.fixture
def engine() -> str:
    return "sqlite"


async def sign_in(client: Client, password: str, network: int = 1, name: str = "alice") -> int:
    form = {"grant_type": "password", "username": name, "password": password}
    return (await Person(client, "").call("POST", "/auth/token", data=form, headers=of(network))).status


async def test_right_passwords_are_never_too_many(make_client: MakeClient, cache_url: str) -> None:
    client = await make_client(**LIMITED, limits_login_by_account="3/15 minutes", cache_url=cache_url)
    alice = await Person.register(client, "alice")
    assert {await sign_in(client, PASSWORD) for _ in range(12)} == {200}
    assert set(await asyncio.gather(*(sign_in(client, PASSWORD) for _ in range(32)))) == {200}
    # Nor do they forgive wrong ones, or somebody with an account of their own could guess on behind each.
    assert [await sign_in(client, word) for word in (WRONG, PASSWORD, WRONG, WRONG)] == [400, 200, 400, 400]
    assert await sign_in(client, PASSWORD) == 429
    assert await sign_in(client, PASSWORD, network=2) == 200
    assert await sign_in(client, PASSWORD, name=alice.email) == 200


async def test_wrong_passwords_at_once_are_no_more_than_one_after_the_other(make_client: MakeClient, cache_url: str) -> None:
    client = await make_client(**LIMITED, limits_login_by_account="5/15 minutes", cache_url=cache_url)
    await Person.register(client, "alice")
    for name in ("alice", "nobody-of-this-name"):
        statuses = await asyncio.gather(*(sign_in(client, WRONG, name=name) for _ in range(32)))
        assert Counter(statuses) == {400: 5, 429: 27}, name


async def test_a_stolen_token_helps_to_no_more_guesses_from_many_networks_than_from_one(
    make_client: MakeClient, cache_url: str
) -> None:
    client = await make_client(**LIMITED, limits_login_by_account="4/15 minutes", cache_url=cache_url)
    alice = await Person.register(client, "alice")
    change = {"current_password": WRONG, "new_password": "another long pass phrase"}
    guesses: list[Callable[[int], Any]] = [
        lambda network: alice.call("POST", "/auth/password/change", change, headers=of(network)),
        lambda network: alice.call("DELETE", "/users/me", {"password": WRONG}, headers=of(network)),
    ]
    statuses = [(await guesses[number % len(guesses)](number)).status for number in range(8)]
    assert statuses == [403] * 4 + [429] * 4
    # Whoever guesses may have a second session of the account, too.
    assert (await alice.sign_in()).status == 200
    assert (await guesses[0](9)).status == 429
    # The owner signs in all the same.
    assert await sign_in(client, PASSWORD, network=10) == 200


async def test_right_passwords_of_somebody_signed_in_are_not_counted(make_client: MakeClient) -> None:
    client = await make_client(**LIMITED, limits_login_by_account="2/15 minutes")
    alice = await Person.register(client, "alice")
    words = [PASSWORD, "another long pass phrase"]
    for number in range(6):
        change = {"current_password": words[number % 2], "new_password": words[1 - number % 2]}
        assert (await alice.post("/auth/password/change", change)).status == 204


async def test_only_registrations_that_succeed_use_up_what_a_code_may_have(make_client: MakeClient, cache_url: str) -> None:
    limits = {"limits_registration_by_code": "2/hour", "limits_registration_by_address": "1000/hour"}
    client = await make_client(**LIMITED, **limits, cache_url=cache_url)
    alice = await Person.register(client, "alice")
    code = await alice.make_code()

    async def register(network: int, **body: str) -> int:
        given = {"password": PASSWORD, "referral_code": code, **body}
        return (await Person(client, "").post("/auth/register", given, headers=of(network))).status

    for network in range(10):
        assert await register(network, email=alice.email) == 409
        assert await register(network, email=f"new{network}@example.com", username="alice") == 409
        assert await register(network, email="nonsense") == 422
        assert await register(network, email="new@example.com", password="short") == 422
    assert [await register(number, email=f"user{number}@example.com") for number in range(3)] == [201, 201, 429]


@pytest.fixture
async def hashed(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> tuple[Client, list[str]]:
    """A client of a service, and the passwords that it hashed."""
    client = await make_client()
    assert client.app
    words: list[str] = []
    hasher = client.app[PASSWORDS]
    hash_word = hasher.hash

    async def remember(password: str, asker: Asker) -> str:
        words.append(password)
        return await hash_word(password, asker)

    monkeypatch.setattr(hasher, "hash", remember)
    return client, words


async def test_no_password_is_hashed_for_a_link_that_is_none(hashed: tuple[Client, list[str]]) -> None:
    client, words = hashed
    nobody = Person(client, "")
    for token in ("x", "hR2nF0cZ7v8mQx1TzYk3w5LJ9sEaBdGiUoPqXyWtVfM", "\0", "x" * 4000):
        body = {"token": token, "new_password": "a long pass phrase"}
        assert (await nobody.post("/auth/password/reset/confirm", body)).problem == "token-invalid"
        assert (await nobody.call("POST", "/account/reset", data=body)).status == 422
    assert words == []
