"""Whoever registers with an address does not speak for it before it is verified, where that is limited: they are not found
by it, nobody is asked about it, and it is not mailed their code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from referral.config import CONFIG
from tests.conftest import Mailed, MakeClient
from tests.support.people import Person
from tests.support.rows import count, sql
from tests.support.vendors import Vendor, running_vendor, status

LIMITED = {"auth_unverified": "limited"}
NEW_PASSWORD = "another good pass phrase"


async def confirm(person: Person, token: str) -> None:
    assert (await person.post("/auth/email/verify", {"token": token})).status == 204


async def reset(person: Person, token: str) -> None:
    body = {"token": token, "new_password": NEW_PASSWORD}
    assert (await person.post("/auth/password/reset/confirm", body)).status == 204


@pytest.mark.parametrize("proof", ["confirm", "reset", "change"])
async def test_a_code_is_found_by_an_address_from_its_verification_on(
    make_client: MakeClient, mailed: Mailed, cache_url: str, proof: str
) -> None:
    client = await make_client(**LIMITED, cache_url=cache_url)
    alice, bob = await Person.register(client, "alice"), await Person.register(client, "bob")
    code = await alice.make_code()
    lookup = f"/codes/by-email?email={alice.email}"
    for _ in range(2):
        # In whatever order it is cached: by its text it is found.
        assert (await bob.get(lookup)).status == 404
        assert (await bob.get(f"/codes/{code}")).status == 200
    if proof == "confirm":
        await confirm(alice, await mailed(alice.email))
    elif proof == "reset":
        await alice.post("/auth/password/reset", {"email": alice.email})
        await reset(alice, await mailed(alice.email, "reset"))
    else:
        body = {"email": "alice@example.org", "current_password": alice.password}
        assert (await alice.post("/auth/email/change", body)).status == 202
        await confirm(alice, await mailed("alice@example.org"))
        assert (await bob.get(lookup)).status == 404
        lookup = "/codes/by-email?email=alice@example.org"
    for _ in range(2):
        assert (await bob.get(lookup)).body["code"] == code


async def test_a_stranger_who_registers_an_address_first_takes_nothing_from_its_owner(
    make_client: MakeClient, mailed: Mailed
) -> None:
    client = await make_client(**LIMITED, codes_public_lookup="true")
    mallory = await Person.register(client, "mallory", email="ceo@example.com")
    await mallory.make_code()
    assert (await Person(client, "").get("/codes/by-email?email=ceo@example.com")).status == 404
    # The owner takes the account over by a reset, and the stranger is out.
    owner = Person(client, "ceo@example.com")
    await owner.post("/auth/password/reset", {"email": owner.email})
    await reset(owner, await mailed(owner.email, "reset"))
    assert (await mallory.get("/users/me")).status == 401
    assert (await mallory.refresh()).status == 400
    assert (await owner.sign_in(NEW_PASSWORD)).status == 200


async def test_a_code_is_mailed_to_verified_addresses_only(
    make_client: MakeClient, mailed: Mailed, database_url: str
) -> None:
    client = await make_client(**LIMITED)
    alice = await Person.register(client, "alice")
    await alice.make_code()
    token = await mailed(alice.email)
    answer = await alice.post("/codes/current/email")
    assert (answer.status, answer.problem) == (403, "email-unverified")
    assert await count(database_url, "outbox", "kind = 'code'") == 0
    await confirm(alice, token)
    assert (await alice.post("/codes/current/email")).status == 202


# Enrichment

PROFILE = {"person": {"name": {"fullName": "Alice Archer"}}, "company": None}


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    async with running_vendor() as vendor:
        vendor.replies_with(status(200, PROFILE))
        yield vendor


@pytest.fixture
def enriched(vendor: Vendor) -> dict[str, str]:
    return {
        "enrichment_provider": "clearbit",
        "enrichment_api_key": "clearbit-key",
        "enrichment_base_url": vendor.url,
    }


async def has_profile(person: Person) -> bool:
    return (await person.me())["profile"] is not None


@pytest.mark.parametrize("proof", ["confirm", "reset"])
async def test_nobody_is_asked_about_an_address_before_it_is_verified_and_then_once(
    make_client: MakeClient,
    mailed: Mailed,
    vendor: Vendor,
    enriched: dict[str, str],
    database_url: str,
    eventually: Callable[..., Any],
    proof: str,
) -> None:
    client = await make_client(**LIMITED, **enriched)
    alice = await Person.register(client, "alice")
    assert await count(database_url, "profile_lookups") == 0
    assert not await has_profile(alice)
    first = await mailed(alice.email)
    await alice.post("/auth/email/verify/resend")
    if proof == "confirm":
        await confirm(alice, first)
    else:
        await alice.post("/auth/password/reset", {"email": alice.email})
        await reset(alice, await mailed(alice.email, "reset"))
        await alice.sign_in(NEW_PASSWORD)
    await eventually(lambda: has_profile(alice))
    await confirm(alice, first if proof == "confirm" else await mailed(alice.email))
    assert await count(database_url, "profile_lookups") == 0
    assert vendor.emails == [alice.email]


@pytest.mark.parametrize("unverified", ["limited", "full"])
async def test_with_another_address_goes_the_profile_of_the_former_one(
    make_client: MakeClient,
    mailed: Mailed,
    vendor: Vendor,
    enriched: dict[str, str],
    eventually: Callable[..., Any],
    unverified: str,
) -> None:
    client = await make_client(auth_unverified=unverified, **enriched)
    alice = await Person.register(client, "alice")
    await confirm(alice, await mailed(alice.email))
    await eventually(lambda: has_profile(alice))
    vendor.replies_with(vendor.held(status(200, {**PROFILE, "person": {"name": {"fullName": "Alice Brown"}}})))
    await alice.post("/auth/email/change", {"email": "alice@example.org", "current_password": alice.password})
    await confirm(alice, await mailed("alice@example.org"))
    assert not await has_profile(alice)
    vendor.released.set()
    await eventually(lambda: has_profile(alice))
    assert (await alice.me())["profile"]["name"] == "Alice Brown"
    assert vendor.emails == [alice.email, "alice@example.org"]


async def test_an_answer_about_the_former_address_is_not_kept(
    make_client: MakeClient,
    mailed: Mailed,
    vendor: Vendor,
    enriched: dict[str, str],
    database_url: str,
    eventually: Callable[..., Any],
) -> None:
    client = await make_client(auth_unverified="full", **enriched)
    assert client.app
    assert not client.app[CONFIG].limits_unverified
    late = {**PROFILE, "person": {"name": {"fullName": "The former owner"}}}
    vendor.replies_with(vendor.held(status(200, late)), status(200, PROFILE))
    alice = await Person.register(client, "alice")
    await eventually(lambda: vendor.emails == [alice.email])
    await alice.post("/auth/email/change", {"email": "alice@example.org", "current_password": alice.password})
    await confirm(alice, await mailed("alice@example.org"))
    vendor.released.set()
    await eventually(lambda: has_profile(alice))
    assert (await alice.me())["profile"]["name"] == "Alice Archer"
    assert await sql(database_url, "SELECT user_id FROM profile_lookups") == []
