"""How often a request asks PostgreSQL and Redis, and for how long it keeps others from a row that many want.

A round trip counts once its statement is prepared: each test makes its request twice and looks at the second one.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from referral.app import create_app
from tests.conftest import Client, MakeConfig
from tests.support.people import Person, Product
from tests.support.programme import Programme
from tests.support.servers import RedisServer
from tests.support.serving import client_of
from tests.support.trips import Trips, count_in, counting

LIMITS = {
    "budget": {"unit": "USD", "amount": 1_000_000, "period": "ever"},
    "per_referrer": {"count": 10, "period": "month"},
}


@pytest.fixture
def engine() -> str:
    """A round trip to SQLite is a hop to its thread."""
    return "postgres"


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Trips:
    counted = Trips()
    count_in(counted, monkeypatch)
    return counted


@pytest.fixture
async def client(make_config: MakeConfig, redis: RedisServer, trips: Trips) -> AsyncIterator[Client]:
    """A client of a service with Redis, whose requests are counted."""
    app = create_app(make_config(cache_url=redis.url))
    app.middlewares.insert(0, counting(trips))
    async with client_of(app) as made:
        yield made


@pytest.fixture
async def locked(database_url: str, trips: Trips) -> AsyncIterator[Callable[[str], None]]:
    """`locked(user_id)`: from here on `trips.looked` says after each round trip whether somebody has the user's row."""
    other = await asyncpg.connect(database_url)

    def watch(user_id: str) -> None:
        free = "SELECT id FROM users WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED"

        async def look() -> bool:
            return await other.fetchval(free, user_id) is None

        trips.look = look

    yield watch
    trips.look = None
    await other.close()


async def twice(ask: Callable[[], Awaitable[Any]]) -> Any:
    await ask()
    return await ask()


async def test_reads(client: Client, trips: Trips) -> None:
    alice = await Person.register(client, "alice")
    await twice(alice.me)
    assert trips.counts == (1, 1), trips
    code = await alice.make_code(ttl_days=3)
    await twice(lambda: alice.get(f"/codes/{code}"))
    assert trips.counts == (0, 1), trips
    await twice(lambda: alice.get(f"/codes/by-email?email={alice.email}"))
    assert trips.database == [], trips


async def test_codes(client: Client, trips: Trips) -> None:
    alice, bob = await Person.register(client, "alice"), await Person.register(client, "bob")
    for person in (alice, bob):
        # From here on the session is cached.
        await person.me()
        await person.make_code(ttl_days=3)
    assert trips.counts == (5, 1), trips
    await twice(lambda: alice.make_code(ttl_days=3, replace=True))
    assert len(trips.database) == 6, trips
    for person in (alice, bob):
        await person.delete("/codes/current")
    assert len(trips.database) == 5, trips


async def test_sessions(client: Client, trips: Trips) -> None:
    alice = await Person.register(client, "alice")
    await twice(alice.sign_in)
    assert trips.counts == (5, 0), trips
    await twice(alice.refresh)
    assert trips.counts == (5, 0), trips


async def test_registration(client: Client, trips: Trips) -> None:
    register = person_of(client)
    # The first one makes the key of the contexts, and the next one reads it.
    await register()
    await twice(register)
    assert trips.counts == (6, 0), trips


@pytest.mark.parametrize(("max_uses", "most", "most_locked"), [(None, 9, 3), (3, 10, 4)])
async def test_registration_by_a_code(
    client: Client, trips: Trips, locked: Callable[[str], None], max_uses: int | None, most: int, most_locked: int
) -> None:
    """The last use of a code ends it, which is told apart."""
    alice = await Person.register(client, "alice")
    code = await alice.make_code(ttl_days=3, max_uses=max_uses)
    locked(alice.id)
    register = person_of(client, referral_code=code)
    await register()
    await twice(register)
    assert (len(trips.database), sum(trips.looked)) == (most, most_locked), trips
    assert (await alice.me())["referral_count"] == 3


def person_of(client: Client, **registration: Any) -> Callable[[], Awaitable[Person]]:
    """What registers one person after another."""
    numbers = itertools.count()
    return lambda: Person.register(client, f"person{next(numbers)}", **registration)


async def test_an_event_without_a_reward(client: Client, trips: Trips) -> None:
    programme = Programme(await Product.with_key(client, "admin"))
    await programme.come("bob", "alice")
    await programme.buy()
    await twice(programme.buy)
    assert trips.counts == (8, 1), trips


# Behind the lock: the limits, which decide what is given; the event, its rewards and the accounts, whose balances transfers
# name; these, and what is told; the commit.
@pytest.mark.parametrize(("limits", "most", "most_locked"), [(None, 10, 3), (LIMITS, 12, 4)])
async def test_an_event_that_converts_and_is_rewarded(
    client: Client, trips: Trips, locked: Callable[[str], None], limits: Any, most: int, most_locked: int
) -> None:
    programme = Programme(await Product.with_key(client, "admin"))
    await programme.rule(limits=limits)
    for referee in ("bob", "carol", "dave"):
        await programme.come(referee, "alice")
    locked((await programme.admin.user("alice"))["id"])
    for referee in ("bob", "carol", "dave"):
        answer = await programme.buy(referee=referee)
        assert len(answer.body["rewards"]) == 1
    assert (len(trips.database), sum(trips.looked)) == (most, most_locked), trips
