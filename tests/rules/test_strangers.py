"""Events that strangers cause: how many are recorded, of whom, for how long, and that nobody learns from it who is known."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from referral.clock import DAY, now
from referral.limits import network_of
from referral.rules import work
from referral.rules.strangers import HOUR, MOST_EVENTS, StrangersEvents
from tests.conftest import Client, Eventually, MakeClient
from tests.support.networks import BEHIND_PROXY, of
from tests.support.people import Answer, Person
from tests.support.rows import count, sql

LEFT_OUT = "events-left-out"


async def ask_for_reset(client: Client, number: int, address: str) -> None:
    body, headers = {"email": f"somebody{number}@example.com"}, of(address)
    assert (await Person(client, "").post("/auth/password/reset", body, headers=headers)).status == 202


async def ask_for_resets(client: Client, addresses: list[str]) -> None:
    """Each for somebody else, sixteen at once: for more, a busy machine may have no connection in time."""
    at_once = asyncio.Semaphore(16)

    async def ask(number: int) -> None:
        async with at_once:
            await ask_for_reset(client, number, addresses[number])

    await asyncio.gather(*map(ask, range(len(addresses))))


async def sign_in(client: Client, name: str, address: str = "192.0.2.1") -> Answer:
    form = {"grant_type": "password", "username": name, "password": "a wrong one"}
    return await Person(client, "").call("POST", "/auth/token", data=form, headers=of(address))


async def left_out(url: str) -> list[tuple[str | None, str | None, int]]:
    """Whose events, or of which network, were left out, and how many."""
    rows = await sql(url, f"SELECT user_id, address, detail FROM audit_events WHERE event = '{LEFT_OUT}' ORDER BY at, id")
    return [(user_id, address, json.loads(detail)["count"]) for user_id, address, detail in rows]


async def test_a_network_fills_no_disk_with_resets_for_whatever_address(make_client: MakeClient, database_url: str) -> None:
    client = await make_client(**BEHIND_PROXY)
    # From every address of a network that providers give out.
    await ask_for_resets(client, [f"198.51.100.{number}" for number in range(MOST_EVENTS + 30)])
    await ask_for_resets(client, [f"2001:db8:5:{number:x}::1" for number in range(MOST_EVENTS + 7)])
    await ask_for_reset(client, 1, "198.51.101.1")
    assert await count(database_url, "audit_events", "event = 'reset-requested'") == 2 * MOST_EVENTS + 1
    assert await left_out(database_url) == [(None, "198.51.100.0/24", 30), (None, "2001:db8:5::/48", 7)]


async def test_all_networks_together_have_a_bound(
    make_client: MakeClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "MOST_EVENTS_IN_ALL", 12)
    client = await make_client(**BEHIND_PROXY)
    for number in range(40):
        await ask_for_reset(client, number, f"10.0.{number}.1")
    assert await count(database_url, "audit_events") == 13
    assert await left_out(database_url) == [(None, None, 28)]


async def test_failed_sign_ins_are_bounded_by_account_and_by_network_and_cost_the_same(
    make_client: MakeClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "MOST_EVENTS", 5)
    monkeypatch.setattr("referral.database.SLOW_STATEMENT", -1.0)
    client = await make_client(**BEHIND_PROXY)
    alice = await Person.register(client, "alice")
    done: list[str] = []

    class Statements(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            task = asyncio.current_task()
            if task is not None and "_handle_request" in str(task.get_coro()):
                done.append(record.getMessage().split()[2])

    handler, log = Statements(), logging.getLogger("referral.database")
    log.addHandler(handler)
    per_call = []
    try:
        for name in ("alice", "nobody"):
            for number in range(8):
                done.clear()
                # An account is counted wherever the tries come from.
                address = f"10.{number}.0.1" if name == "alice" else "192.0.2.1"
                assert (await sign_in(client, name, address)).status == 400
                per_call.append(len(done))
    finally:
        log.removeHandler(handler)
    assert len(set(per_call)) == 1, "a refusal costs the same, whether it is recorded or counted, of whomever"
    assert await left_out(database_url) == [(alice.id, None, 3), (None, "192.0.2.0/24", 3)]
    assert await count(database_url, "audit_events", "event = 'sign-in-refused'") == 10
    # What somebody does who is signed in is always recorded.
    for _ in range(8):
        await alice.post("/auth/password/change", {"current_password": "wrong", "new_password": "another pass phrase"})
    assert await count(database_url, "audit_events", "event = 'password-change-refused'") == 8


async def test_what_is_tried_with_accounts_is_bounded_by_network_and_in_all(
    make_client: MakeClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "MOST_EVENTS", 6)
    monkeypatch.setattr(work, "MOST_EVENTS_IN_ALL", 12)
    client = await make_client(**BEHIND_PROXY)
    names = [(await Person.register(client, f"person{number}")).email for number in range(4)]
    for name in names:
        for number in range(2):
            assert (await sign_in(client, name, f"192.0.2.{number}")).status == 400
    assert await left_out(database_url) == [(None, "192.0.2.0/24", 2)]
    for number in range(10):
        assert (await sign_in(client, names[number % 4], f"10.0.{number}.1")).status == 400
    assert await count(database_url, "audit_events", "event = 'sign-in-refused'") == 12
    assert await left_out(database_url) == [(None, "192.0.2.0/24", 2), (None, None, 4)]
    # What nobody has an account for has room of its own.
    await ask_for_reset(client, 1, "10.1.0.1")
    assert await count(database_url, "audit_events", "event = 'reset-requested'") == 1


async def test_an_erasure_takes_the_addresses_and_leaves_the_count_of_what_was_left_out(
    make_client: MakeClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "MOST_EVENTS", 1)
    client = await make_client(**BEHIND_PROXY)
    alice = await Person.register(client, "alice")
    for _ in range(3):
        await sign_in(client, "alice")
    assert (await alice.delete("/users/me", {"password": alice.password})).status == 204
    assert await left_out(database_url) == [(alice.id, None, 2)]
    assert await count(database_url, "audit_events", "address IS NOT NULL") == 0


async def test_an_event_is_small_whatever_is_sent(make_client: MakeClient, database_url: str) -> None:
    client = await make_client(**BEHIND_PROXY)
    longest = f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 57}.com"
    headers = {"User-Agent": "x" * 4_000, "X-Request-ID": "y" * 128, "Accept-Language": "z" * 4_000}
    assert (await Person(client, "").post("/auth/password/reset", {"email": longest}, headers=headers)).status == 202
    for name in (longest, "x" * 4_000, "y" * 32):
        form = {"grant_type": "password", "username": name, "password": "z" * 1_000}
        assert (await Person(client, "").call("POST", "/auth/token", data=form, headers=headers)).status == 400
    rows = await sql(database_url, "SELECT * FROM audit_events")
    assert len(rows) == 4
    assert max(len("".join(map(str, row))) for row in rows) < 600


def test_a_window_is_an_hour_and_a_new_one_begins_anew() -> None:
    events = StrangersEvents()
    start = now()
    assert [events.count("a", 2, start + number) is None for number in range(3)] == [True, True, False]
    first = events.count("a", 2, start + HOUR - 1)
    assert first is not None
    assert (first.count, first.since) == (2, start + 2)
    assert events.count("b", 2, start) is None
    assert events.count("a", 2, start + HOUR) is None
    events.count("a", 2, start + HOUR)
    second = events.count("a", 2, start + HOUR)
    assert second is not None
    assert (second.count, second.since) == (1, start + HOUR)
    assert second.id != first.id
    # By a clock that was set back, too.
    assert events.count("a", 2, start - 30 * HOUR) is None


def test_networks_are_what_providers_give_out() -> None:
    for address, network in (
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("unknown", "unknown"),
    ):
        assert network_of(address) == network


@pytest.mark.parametrize(
    ("days", "days_of_nobody", "left"),
    [
        ("365", "30", {"nobody-29", "alice-31", "alice-29"}),
        ("365", "0", {"nobody-29", "nobody-31", "alice-31", "alice-29"}),
        ("30", "0", {"nobody-29", "alice-29"}),
    ],
)
async def test_what_belongs_to_no_account_is_kept_as_long_as_its_own_setting_says(
    make_client: MakeClient, database_url: str, eventually: Eventually, days: str, days_of_nobody: str, left: set[str]
) -> None:
    rows = []
    for age in (29, 31):
        at = now() - age * DAY
        rows += [f"('nobody-{age}-{number}', {at}, 'reset-requested', NULL, 'x', '{{}}')" for number in range(1_100)]
        rows += [f"('alice-{age}-{number}', {at}, 'signed-in', 'alice', NULL, '{{}}')" for number in range(1_100)]
    await sql(database_url, f"INSERT INTO audit_events (id, at, event, user_id, email, detail) VALUES {', '.join(rows)}")
    await sql(
        database_url,
        "INSERT INTO outbox (id, kind, recipient, language, params, created_at, next_attempt_at, failed_at) "
        "VALUES ('mail', 'reset-password', 'x', 'en', '{}', 1, 1, 1)",
    )
    await make_client(audit_keep_days=days, audit_keep_days_unknown=days_of_nobody)

    async def passed() -> bool:
        kept = {row[0].rpartition("-")[0] for row in await sql(database_url, "SELECT id FROM audit_events")}
        return await count(database_url, "outbox") == 0 and kept == left

    await eventually(passed)
    assert await count(database_url, "audit_events") == 1_100 * len(left)


async def test_somebody_signed_in_fills_no_disk_by_changing_their_mind(client: Client, database_url: str) -> None:
    alice = await Person.register(client, "alice")
    for number in range(MOST_EVENTS + 5):
        assert (await alice.patch("/users/me", {"username": f"alice{number % 2}"})).status == 200
    assert await count(database_url, "audit_events", "event = 'username-changed'") == MOST_EVENTS
    assert await left_out(database_url) == [(alice.id, None, 5)]
    # What strangers cause about the account has a count of its own, and what happens once is always recorded.
    await sign_in(client, "alice0")
    change = {"current_password": alice.password, "new_password": "another long password"}
    assert (await alice.post("/auth/password/change", change)).status == 204
    assert await count(database_url, "audit_events", "event IN ('sign-in-refused', 'password-changed')") == 2
