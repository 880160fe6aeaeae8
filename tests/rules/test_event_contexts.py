"""Contexts of events: kept as HMACs that say who has the same one, until their key is thrown away."""

from __future__ import annotations

from typing import Any

import pytest

from referral.auth import context_keys
from referral.background import housekeeping
from referral.clock import DAY, now
from referral.config import CONFIG
from referral.database import DATABASE
from tests.conftest import Client, MakeClient
from tests.support.people import Product
from tests.support.rows import count, everything, sql

CONTEXT = {"ip": "192.0.2.77", "user_agent": "Mozilla/5.0 (a browser)", "device": "device-of-bob", "payment": "card-of-bob"}


async def hashes(url: str, event_id: str) -> dict[str, str]:
    rows = await sql(url, f"SELECT kind, hash FROM event_contexts WHERE event_id = '{event_id}'")
    return dict(rows)


async def test_the_same_context_has_the_same_hash_and_cannot_be_read(product: Product, database_url: str) -> None:
    for number, context in enumerate((CONTEXT, CONTEXT, {**CONTEXT, "device": "another"})):
        assert (await product.report(f"e{number}", external_id=f"u{number}", context=context)).status == 201
    first, second, third = [await hashes(database_url, f"e{number}") for number in range(3)]
    assert first == second
    assert first.keys() == CONTEXT.keys()
    assert {kind for kind in first if first[kind] != third[kind]} == {"device"}
    # One text has another hash where it is something else.
    assert len(set(first.values())) == 4
    left = repr(await everything(database_url))
    assert not [text for text in CONTEXT.values() if text in left]


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_an_address_is_the_same_in_every_spelling_and_ipv6_by_its_network(product: Product, database_url: str) -> None:
    spellings = [
        ("192.0.2.77", "::ffff:192.0.2.77", " 192.0.2.77 "),
        ("2001:db8::1", "2001:DB8:0:0:1:2:3:4", "2001:0db8::ffff"),
        ("not an address",),
        ("2001:db8:1::1",),
    ]
    kept: list[str] = []
    for group, addresses in enumerate(spellings):
        for number, address in enumerate(addresses):
            assert (await product.report(f"e{group}.{number}", context={"ip": address})).status == 201
        found = {(await hashes(database_url, f"e{group}.{number}"))["ip"] for number in range(len(addresses))}
        assert len(found) == 1, addresses
        kept += found
    assert len(set(kept)) == len(spellings)


@pytest.mark.parametrize("engine", ["sqlite"])
async def test_what_is_empty_says_nothing(product: Product, database_url: str) -> None:
    contexts: list[Any] = [None, {}, {"ip": None}, {"ip": ""}]
    for number, context in enumerate(contexts):
        assert (await product.report(f"e{number}", context=context)).status == 201
    assert await count(database_url, "event_contexts") == 0
    assert await count(database_url, "context_keys") == 0


async def test_keys_take_turns_and_are_thrown_away_with_what_they_made(
    make_client: MakeClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They are read anew each time, as they are by the minute.
    monkeypatch.setattr(context_keys, "AT_HAND", 0)
    client: Client = await make_client(context_keep_days="90")
    product = await Product.with_key(client)

    async def report(event_id: str) -> str:
        assert (await product.report(event_id, context={"ip": "192.0.2.1"})).status == 201
        return (await hashes(database_url, event_id))["ip"]

    async def grow_old(days: int) -> None:
        await sql(database_url, f"UPDATE context_keys SET created_at = created_at - {days * DAY}")

    async def clean() -> None:
        await housekeeping._delete_old_contexts(client.app[CONFIG], client.app[DATABASE])

    first = await report("e1")
    await grow_old(29)
    assert await report("e2") == first
    await grow_old(1)
    second = await report("e3")
    assert second != first
    await grow_old(59)
    await clean()
    assert await count(database_url, "event_contexts") == 3
    await grow_old(2)
    # So many at a time.
    housekeeping.OLD_EVENTS, kept = 1, housekeeping.OLD_EVENTS
    try:
        await clean()
    finally:
        housekeeping.OLD_EVENTS = kept
    assert await sql(database_url, "SELECT event_id FROM event_contexts") == [("e3",)]
    assert await count(database_url, "context_keys") == 1
    # The latest key is too old to be used, and another one takes its place.
    assert await report("e4") not in (first, second)
    await sql(database_url, f"UPDATE context_keys SET created_at = {now()} WHERE secret IS NOT NULL")
