"""Who referred the most: equal to the rows, in a stable order, read once for all who ask at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from referral.clock import DAY, now, rfc_3339
from referral.contract.schemas.events import MOST_AMOUNT
from referral.database import Database, DatabaseUnavailable
from referral.queries import leaderboard as queries
from referral.rules.leaderboard import LEADERBOARD, Leaderboard, Question, public_name
from referral.rules.periods import period_of
from tests.conftest import Client
from tests.support.people import Person, Product
from tests.support.programme import Programme
from tests.support.rows import sql


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept."""
    monkeypatch.setattr("referral.rules.leaderboard.KEPT", -1.0)


async def board(reader: Person, **query: str) -> list[dict[str, Any]]:
    answer = await reader.get("/leaderboard", params=query)
    assert answer.status == 200, answer.body
    return list(answer.body["items"])


async def ranked(reader: Person, **query: str) -> list[tuple[int, str | None, int]]:
    return [
        (place["rank"], place["name"], place["count"] if place["value"] is None else place["value"]["amount"])
        for place in await board(reader, **query)
    ]


@pytest.fixture
async def busy(fresh: None, programme: Programme, database_url: str) -> Programme:
    """Amy, Bea and Cleo with three, two and two referrals, of which one, two and none are converted; one of Amy's came long
    ago, and bought then."""
    for name, count in (("amy", 3), ("bea", 2), ("cleo", 2)):
        await programme.admin.user(name, metadata={"public_name": name.title()})
        for number in range(count):
            await programme.come(f"{name}{number}", name)
    await programme.buy(500, "bea0")
    await programme.buy(700, "bea1")
    await programme.buy(900, "bea1", unit="EUR")
    await programme.buy(9000, "amy0", occurred_at=rfc_3339(now() - 40 * DAY))
    await sql(
        database_url,
        f"UPDATE referrals SET joined_at = joined_at - {40 * DAY} "
        "WHERE user_id = (SELECT id FROM users WHERE external_id = 'amy0')",
    )
    return programme


async def test_users_are_ranked_by_what_is_asked_for(busy: Programme) -> None:
    reader = busy.admin
    assert await ranked(reader, by="referrals") == [(1, "Amy", 3), (2, "Bea", 2), (2, "Cleo", 2)]
    assert await ranked(reader, by="referrals", period="month") == [(1, "Amy", 2), (1, "Bea", 2), (1, "Cleo", 2)]
    assert await ranked(reader) == [(1, "Bea", 2), (2, "Amy", 1)]
    assert await ranked(reader, period="week") == [(1, "Bea", 2)]
    assert await ranked(reader, by="revenue") == [(1, "Amy", 9000), (2, "Bea", 1200)]
    assert await ranked(reader, by="revenue", period="month") == [(1, "Bea", 1200)]
    assert await ranked(reader, by="revenue", unit="EUR") == [(1, "Bea", 900)]
    assert await ranked(reader, by="revenue", unit="POINTS") == []
    assert await ranked(reader, by="referrals", limit="2") == [(1, "Amy", 3), (2, "Bea", 2)]
    answer = (await reader.get("/leaderboard?by=revenue&period=week")).body
    assert (answer["by"], answer["period"]) == ("revenue", "week")
    assert answer["items"][0]["value"] == {"unit": "USD", "amount": 1200}
    assert answer["items"][0]["count"] is None
    # A refund takes nothing of it.
    await busy.refund("bought 2")
    assert await ranked(reader, by="revenue", period="month") == [(1, "Bea", 1200)]


async def test_revenue_is_ranked_beyond_64_bits(busy: Programme, database_url: str) -> None:
    rows = ", ".join(f"('{one}', {number})" for one, count in (("bea0", 1100), ("amy1", 1099)) for number in range(count))
    await sql(
        database_url,
        f"WITH n (name, i) AS (VALUES {rows}) "
        "INSERT INTO events (id, type, user_id, received_at, occurred_at, unit, amount, referrer_id, attribution) "
        f"SELECT n.name || n.i, 'purchase', u.id, 1, {now()}, 'USD', {MOST_AMOUNT}, r.referrer_id, 'none' "
        "FROM n JOIN users u ON u.external_id = n.name JOIN referrals r ON r.user_id = u.id",
    )
    most = 2**63 - 1
    assert await ranked(busy.admin, by="revenue") == [(1, "Bea", most), (1, "Amy", most)]


async def test_who_is_suspended_or_erased_is_not_listed(busy: Programme) -> None:
    admin = busy.admin
    assert (await admin.post("/users/ext:amy/suspend", {"reason": "x"})).status == 200
    assert (await admin.delete("/users/ext:cleo")).status == 204
    for period in ("week", "month", "ever"):
        assert await ranked(admin, by="referrals", period=period) == [(1, "Bea", 2)]
        assert [name for _, name, _ in await ranked(admin, by="revenue", period=period)] == ["Bea"]
        assert [name for _, name, _ in await ranked(admin, period=period)] == ["Bea"]


async def test_what_is_kept_names_nobody_who_went_meanwhile(programme: Programme, client: Client, database_url: str) -> None:
    for name in ("amy", "bea", "cleo"):
        await programme.admin.user(name, metadata={"public_name": name.title()})
        await programme.come(f"{name}0", name)
    assert len(await ranked(programme.admin, by="referrals")) == 3
    await programme.admin.delete("/users/ext:amy")
    await programme.admin.user("bea", metadata={})
    await programme.come("cleo1", "cleo")
    # Who is on it, and with how many, is that of a minute ago.
    assert await ranked(programme.admin, by="referrals") == [(1, None, 1), (1, "Cleo", 1)]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (None, None),
        ("{}", None),
        ('{"public_name": "Amy"}', "Amy"),
        ('{"public_name": "<b>&"}', "<b>&"),
        ('{"public_name": 7}', None),
        ('{"public_name": true}', None),
        ('{"name": "Amy"}', None),
    ],
)
def test_only_a_text_of_the_metadata_names_a_user(metadata: str | None, expected: str | None) -> None:
    assert public_name(metadata) == expected


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        ({"by": "name"}, ["/by"]),
        ({"period": "year"}, ["/period"]),
        ({"limit": "0"}, ["/limit"]),
        ({"limit": "101"}, ["/limit"]),
        ({"limit": "1.5"}, ["/limit"]),
        ({"unit": "USD"}, ["/unit"]),
        ({"by": "revenue", "unit": "\0"}, ["/unit"]),
        ({"by": "revenue", "unit": "x" * 4096}, ["/unit"]),
        ({"cursor": "x"}, ["/cursor"]),
    ],
)
async def test_what_is_no_question_is_refused(client: Client, query: dict[str, str], pointers: list[str]) -> None:
    reader = await Product.with_key(client, "read")
    assert (await reader.get("/leaderboard", params=query)).pointers == pointers


async def test_keys_that_may_read_see_it_and_users_do_not(client: Client) -> None:
    reader, alice = await Product.with_key(client, "read"), await Person.register(client, "alice")
    assert await board(reader) == []
    assert (await alice.get("/leaderboard")).problem == "forbidden"
    assert (await reader.get("/leaderboard?by=revenue&unit=GBX")).problem == "unit-unknown"


async def test_32_who_ask_at_once_cost_one_question(
    busy: Programme, client: Client, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("referral.rules.leaderboard.KEPT", 60.0)
    asked, read = 0, queries.list_most_referrals

    async def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.05)
        return await read(*arguments)

    monkeypatch.setattr(queries, "list_most_referrals", counted)
    found = await asyncio.gather(*(board(busy.admin, by="referrals", limit=str(1 + number % 3)) for number in range(32)))
    assert [len(places) for places in found] == [1 + number % 3 for number in range(32)]
    assert asked == 1


async def test_what_failed_is_asked_again_and_who_goes_away_stops_nobody(
    client: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, answers = asyncio.Event(), [DatabaseUnavailable("out"), [queries.Referrer("nobody", 1)]]

    async def read(*arguments: Any) -> Any:
        await going.wait()
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(queries, "list_most_converted", read)
    kept, question = Leaderboard(database), Question("converted", "ever", None)
    first, second = (asyncio.create_task(kept.places(question, 10)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    going.set()
    with pytest.raises(DatabaseUnavailable):
        await second
    assert await kept.places(question, 10) == []
    assert answers == []
    await kept.close()


async def test_a_board_that_is_being_read_ends_with_the_service(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(*arguments: Any) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(queries, "list_most_converted", read)
    assert client.app
    waiting = asyncio.create_task(client.app[LEADERBOARD].places(Question("converted", "ever", None), 10))
    await asyncio.sleep(0.01)
    await client.app[LEADERBOARD].close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_this_week_began_on_monday_and_this_month_on_its_first() -> None:
    begins, ends = period_of("week", 1_800_000_000_000)
    assert (rfc_3339(begins), rfc_3339(ends)) == ("2027-01-11T00:00:00Z", "2027-01-18T00:00:00Z")
