"""Statistics of the whole programme: equal to the rows, whatever happened, and while it happens."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from referral.background.clicks import CLICKS
from referral.background.programme_stats import StatsWorker, differences, kept_sums, sums_of_rows
from referral.clock import DAY, now, rfc_3339
from referral.database import Database
from tests.conftest import Client, Mailed, MakeClient
from tests.support.browsing import PERSON
from tests.support.people import Person, Product
from tests.support.programme import DOLLARS, SHARE, Programme
from tests.support.rows import count, sql

MakePerson = Callable[..., Awaitable[Person]]

COUNTS = ("clicks", "visitors", "robots", "signups", "referrals", "converted", "purchases", "refunds", "rewards")
MONEY = ("revenue", "refunded", "cost")

# What the rows say: a day, what is counted, how many, the unit, how much.
ROWS = """
SELECT day, 'clicks', sum(clicks), NULL, 0 FROM click_days GROUP BY 1
UNION ALL SELECT day, 'visitors', sum(visitors), NULL, 0 FROM click_days GROUP BY 1
UNION ALL SELECT day, 'robots', sum(robots), NULL, 0 FROM click_days GROUP BY 1
UNION ALL SELECT joined_at, 'referrals', 1, NULL, 0 FROM referrals
UNION ALL SELECT converted_at, 'converted', 1, NULL, 0 FROM referrals WHERE conversions > 0
UNION ALL SELECT occurred_at, type, 1, unit, amount FROM events WHERE type IN ('signup', 'purchase', 'refund')
UNION ALL SELECT created_at, 'rewards', 1, unit, value - reversed FROM rewards WHERE status <> 'void'
"""
LIABILITY = "SELECT unit, sum(pending), sum(available) FROM accounts GROUP BY unit ORDER BY unit"
NAMES = {"signup": ("signups", ""), "purchase": ("purchases", "revenue"), "refund": ("refunds", "refunded")}


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await make_client(links_destination="https://shop.example.com/")


def today() -> date:
    return datetime.now(UTC).date()


async def stats(reader: Person, **query: str) -> dict[str, Any]:
    answer = await reader.get("/stats", params=query)
    assert answer.status == 200, answer.body
    return dict(answer.body)


async def expected(url: str) -> tuple[Counter[tuple[str, str]], list[dict[str, Any]]]:
    """How many, or how much, there is of each name on each day, recomputed by plain loops; and what is owed."""
    found: Counter[tuple[str, str]] = Counter()
    for moment, name, number, unit, amount in await sql(url, ROWS):
        day = datetime.fromtimestamp(moment // 1000, UTC).date().isoformat()
        plural, money = NAMES.get(name, (name, "cost"))
        found[day, plural] += int(number)
        if unit is not None and money:
            found[day, f"{money} {unit}"] += amount
    owed = [
        {"unit": unit, "pending": int(pending), "available": int(available)}
        for unit, pending, available in await sql(url, LIABILITY)
        if pending or available
    ]
    return found, owed


def flat(row: dict[str, Any]) -> dict[str, int]:
    """The counts of a row, and its amounts by name and unit, but for what is 0."""
    counts = {name: row[name] for name in COUNTS}
    for name in MONEY:
        counts |= {f"{name} {item['unit']}": item["amount"] for item in row[name]}
    return {name: number for name, number in counts.items() if number}


async def check(reader: Person, url: str) -> None:
    """The stats of a year, by every interval, and of a part of it, are what the rows say."""
    days, owed = await expected(url)
    for interval in ("day", "week", "month"):
        begin, end = today() - timedelta(days=364), today() + timedelta(days=1)
        if interval == "week":
            begin += timedelta(days=61)
        found = await stats(reader, interval=interval, **{"from": begin.isoformat(), "to": end.isoformat()})
        starts = [row["at"] for row in found["items"]]
        sums: dict[str, Counter[str]] = {at: Counter() for at in starts}
        for (day, name), number in days.items():
            if begin.isoformat() <= day < end.isoformat():
                sums[max(at for at in starts if at <= day)][name] += number
        for row in found["items"]:
            assert flat(row) == {name: number for name, number in sums[row["at"]].items() if number}, (interval, row["at"])
        total = sum(sums.values(), Counter[str]())
        assert flat(found["totals"]) == {name: number for name, number in total.items() if number}
        assert found["funnel"] == {name: found["totals"][name] for name in ("visitors", "referrals", "converted")}
        assert found["liability"] == owed


async def test_what_happened_stands_in_the_row_of_its_day(client: Client, database_url: str) -> None:
    programme = Programme(await Product.with_key(client, "admin"))
    await programme.rule()
    await programme.rule("referee", {"kind": "coupon", "label": "A month"})
    await programme.come()
    await programme.admin.report("s", "signup", "bob")
    yesterday = rfc_3339(now() - DAY)
    await programme.buy(4900, event="p1", occurred_at=yesterday)
    await programme.buy(unit=None)
    await programme.refund("p1", 900)
    async with client.get(f"/r/{programme.codes['alice']}", headers={"User-Agent": PERSON}, allow_redirects=False):
        pass
    assert client.app
    await client.app[CLICKS].flush()
    found = await stats(await Product.with_key(client, "read"))
    usd = [{"unit": "USD", "amount": 4900}]
    nothing: dict[str, Any] = dict.fromkeys(COUNTS, 0) | {name: [] for name in MONEY}
    assert found["items"][-2] == {
        **nothing,
        "at": (today() - timedelta(days=1)).isoformat(),
        "purchases": 1,
        "revenue": usd,
        "converted": 1,
    }
    assert found["items"][-1] == {
        **nothing,
        "at": today().isoformat(),
        "clicks": 1,
        "visitors": 1,
        "signups": 1,
        "referrals": 1,
        "purchases": 1,
        "refunds": 1,
        "rewards": 2,
        "refunded": [{"unit": "USD", "amount": 900}],
        "cost": [{"unit": "USD", "amount": 500}],
    }
    assert found["items"][0] == {**nothing, "at": (today() - timedelta(days=29)).isoformat()}
    assert (found["totals"]["purchases"], found["totals"]["revenue"]) == (2, usd)
    assert found["liability"] == [{"unit": "USD", "pending": 0, "available": 500}]
    await check(programme.admin, database_url)


async def test_keys_that_may_read_see_it_and_users_do_not(client: Client) -> None:
    reader, alice = await Product.with_key(client, "read"), await Person.register(client, "alice")
    assert (await stats(reader))["totals"]["clicks"] == 0
    assert (await alice.get("/stats")).problem == "forbidden"
    assert (await Person(client, "").get("/stats")).problem == "unauthorized"


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        ({"from": "yesterday"}, ["/from"]),
        ({"to": "2200-01-01"}, ["/to"]),
        ({"from": "2027-01-02", "to": "2027-01-02"}, ["/to"]),
        ({"from": "2199-01-01"}, ["/from"]),
        ({"from": "2020-01-01", "to": "2026-01-01"}, ["/from"]),
        ({"interval": "hour"}, ["/interval"]),
        ({"code": "ABCD"}, ["/code"]),
    ],
)
async def test_what_is_no_range_is_refused(client: Client, query: dict[str, str], pointers: list[str]) -> None:
    reader = await Product.with_key(client, "read")
    assert (await reader.get("/stats", params=query)).pointers == pointers


class History:
    """Anything that can happen to a programme, in any order."""

    def __init__(self, programme: Programme, client: Client, chance: random.Random) -> None:
        self.programme, self.client, self.chance = programme, client, chance
        self.people = 0
        self.bought: list[str] = []

    async def happen(self) -> None:
        step = self.chance.choice(
            [
                self.come,
                self.come,
                self.buy,
                self.buy,
                self.buy,
                self.refund,
                self.change,
                self.redeem,
                self.erase,
                self.click,
            ]
        )
        await step()

    def moment(self) -> str:
        return rfc_3339(now() - self.chance.randrange(200 * DAY))

    async def come(self) -> None:
        self.people += 1
        await self.programme.come(f"p{self.people}", self.chance.choice(["alice", "amy"]))
        await self.programme.admin.report(f"s{self.people}", "signup", f"p{self.people}", occurred_at=self.moment())

    async def buy(self) -> None:
        unit = self.chance.choice(["USD", "USD", "EUR", None])
        event = f"e{len(self.bought)}"
        self.bought.append(event)
        referee = f"p{self.chance.randrange(self.people + 1)}"
        amount = self.chance.choice([0, 99, 1000, 4999])
        answer = await self.programme.buy(amount, referee, event, unit=unit, occurred_at=self.moment())
        assert answer.status == 201, answer.body

    async def refund(self) -> None:
        if self.bought:
            event, amount = self.chance.choice(self.bought), self.chance.choice([None, None, 40])
            body: dict[str, Any] = {"id": f"r{now()}{self.chance.random()}", "type": "refund", "refunds": event}
            if amount is not None:
                body["value"] = {"unit": self.chance.choice(["USD", "EUR"]), "amount": amount}
            await self.programme.admin.post("/events", {**body, "occurred_at": self.moment()})

    async def change(self) -> None:
        rewards = await self.programme.rewards()
        if rewards:
            reward = self.chance.choice(rewards)
            steps: list[tuple[str, dict[str, Any]]] = [
                ("approve", {"now": True}),
                ("reject", {"reason": "x"}),
                ("reverse", {"id": f"v{self.chance.random()}", "reason": "x"}),
                ("reverse", {"id": f"v{self.chance.random()}", "reason": "x", "amount": 7}),
            ]
            step, body = self.chance.choice(steps)
            await self.programme.step(reward, step, **body)

    async def redeem(self) -> None:
        await self.programme.redeem(self.chance.choice(["alice", "amy"]), 20)

    async def erase(self) -> None:
        # Whose address nobody has verified takes the referral along.
        name = f"x{self.chance.randrange(10**9)}"
        person = await Person.register(self.client, name, referral_code=await self.programme.code_of("alice"))
        if self.chance.random() < 0.5:
            await self.programme.admin.report(f"b{name}", "purchase", "", user={"id": person.id}, value=usd(500))
        answer = await person.delete("/users/me", {"password": person.password})
        assert answer.status == 204, answer.body

    async def click(self) -> None:
        code, agent = await self.programme.code_of("amy"), self.chance.choice([PERSON, "", f"{PERSON} 2"])
        async with self.client.get(f"/r/{code}", headers={"User-Agent": agent}, allow_redirects=False):
            pass
        assert self.client.app
        await self.client.app[CLICKS].flush()


def usd(amount: int) -> dict[str, Any]:
    return {"unit": "USD", "amount": amount}


@pytest.mark.parametrize("seed", range(3))
async def test_stats_are_those_of_the_rows_over_a_random_history(
    client: Client, database: Database, database_url: str, verified: None, seed: int
) -> None:
    programme = Programme(await Product.with_key(client, "admin"))
    await programme.rule(give=SHARE, times=None)
    await programme.rule(give=DOLLARS, times=2, hold_days=30)
    await programme.rule("referee", {"kind": "coupon", "label": "A month"})
    history = History(programme, client, random.Random(seed))
    await history.come()
    worker = StatsWorker(database)
    for _ in range(3):
        for _ in range(25):
            await history.happen()
            if history.chance.random() < 0.1:
                await worker.work_off()
        await check(programme.admin, database_url)
    while await worker.work_off():
        pass
    assert await count(database_url, "stat_deltas") == 0
    await check(programme.admin, database_url)


async def test_a_disowned_account_takes_its_referral_out_of_the_stats(
    client: Client, database_url: str, mailed: Mailed
) -> None:
    reader = await Product.with_key(client, "read")
    alice = await Person.register(client, "alice")
    bob = await Person.register(client, "bob", referral_code=await alice.make_code())
    assert (await stats(reader))["totals"]["referrals"] == 1
    token = await mailed(bob.email)
    assert (await Person(client, "").post("/auth/email/disown", {"token": token})).status == 204
    assert (await stats(reader))["totals"]["referrals"] == 0
    await check(reader, database_url)


async def test_32_at_once_and_workers_that_add_up_meanwhile_lose_and_double_nothing(
    client: Client, database: Database, database_url: str, verified: None
) -> None:
    programme = Programme(await Product.with_key(client, "admin"))
    await programme.rule(times=None)
    for number in range(8):
        await programme.come(f"p{number}")
    workers = [StatsWorker(database) for _ in range(3)]
    going = True

    async def fold() -> None:
        while going:
            await asyncio.gather(*(worker.work_off() for worker in workers))
            async with database.snapshot() as conn:
                assert differences(await kept_sums(conn), await sums_of_rows(conn)) == {}

    folding = asyncio.create_task(fold())
    for _ in range(3):
        await asyncio.gather(*(programme.buy(100, f"p{number % 8}") for number in range(32)))
    going = False
    await folding
    found = await stats(programme.admin)
    assert (found["totals"]["purchases"], found["totals"]["revenue"]) == (96, [usd(9600)])
    assert found["liability"] == [{"unit": "USD", "pending": 0, "available": 96 * 500}]


CHANGES = (
    "UPDATE events SET occurred_at = occurred_at - 86400000, amount = 3 WHERE type = 'purchase'",
    "UPDATE events SET unit = 'EUR' WHERE unit = 'USD'",
    "UPDATE events SET type = 'signup' WHERE type = 'purchase'",
    "UPDATE referrals SET joined_at = joined_at - 86400000",
    "UPDATE referrals SET conversions = 0, converted_at = NULL",
    "UPDATE rewards SET created_at = created_at - 86400000, unit = 'EUR'",
    "UPDATE rewards SET value = value + 1",
    "UPDATE rewards SET status = 'void', approved_at = NULL, ordinal = NULL",
    "UPDATE rewards SET status = 'approved', approved_at = 1, ordinal = 1",
    "UPDATE accounts SET pending = pending + 2, available = available - 2",
    "UPDATE click_days SET clicks = clicks + 4, robots = 7",
    "UPDATE click_days SET day = day - 86400000",
    "DELETE FROM click_days",
    "DELETE FROM referrals",
    "DELETE FROM rewards",
    "DELETE FROM events",
)


async def test_whoever_changes_a_row_changes_the_stats(client: Client, database: Database, database_url: str) -> None:
    programme = Programme(await Product.with_key(client, "admin"))
    # What stays out of the ledger, so that nothing refers to it.
    await programme.rule(give={"kind": "coupon", "label": "A month", "unit": "USD", "fixed": 100})
    await programme.rule("referee", on="paid")
    await programme.come()
    await programme.buy()
    async with client.get(f"/r/{programme.codes['alice']}", headers={"User-Agent": PERSON}, allow_redirects=False):
        pass
    assert client.app
    await client.app[CLICKS].flush()
    await sql(database_url, "INSERT INTO accounts (user_id, unit) SELECT id, 'USD' FROM users WHERE external_id = 'bob'")
    for change in CHANGES:
        before = await expected(database_url)
        await sql(database_url, change)
        assert await expected(database_url) != before, change
        await check(programme.admin, database_url)


async def forget_sums(url: str) -> None:
    """As an upgrade leaves it: rows, and no sums of them yet."""
    await sql(url, "UPDATE stat_state SET filled = 0")
    for table in ("stat_deltas", "stat_days"):
        await sql(url, f"DELETE FROM {table}")


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service's own worker would be quicker than the test."""

    async def asleep(worker: StatsWorker) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(StatsWorker, "run", asleep)


async def test_what_was_there_before_is_counted_once_beside_what_happens(
    no_worker: None, client: Client, database: Database, database_url: str, verified: None
) -> None:
    programme = Programme(await Product.with_key(client, "admin"))
    await programme.rule(times=None)
    history = History(programme, client, random.Random(5))
    await history.come()
    for _ in range(25):
        await history.happen()
    await forget_sums(database_url)
    # What happens before it is counted, some of which is added up already.
    await programme.buy(100, "p1")
    await StatsWorker(database).work_off()
    await programme.buy(100, "p1")
    refused = await programme.admin.get("/stats")
    assert (refused.problem, refused.headers["Retry-After"]) == ("stats-incomplete", "10")
    await asyncio.gather(*(StatsWorker(database).fill() for _ in range(4)), *(programme.buy(100, "p1") for _ in range(8)))
    await check(programme.admin, database_url)
    await StatsWorker(database).fill()
    await check(programme.admin, database_url)


async def test_pages_of_rows_are_counted_to_the_last_one(
    no_worker: None, client: Client, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("referral.background.programme_stats.ROWS", 3)
    programme = Programme(await Product.with_key(client, "admin"))
    await programme.rule(times=None)
    await programme.give("alice", 70)
    for number in range(8):
        await programme.come(f"p{number}", "alice" if number % 2 else "amy")
        await programme.buy(100, f"p{number}")
    await forget_sums(database_url)
    await StatsWorker(database).fill()
    await check(programme.admin, database_url)


async def test_a_service_fills_the_sums_by_itself(
    client: Client, database_url: str, make_client: MakeClient, eventually: Callable[..., Awaitable[Any]]
) -> None:
    programme = Programme(await Product.with_key(client, "admin"))
    await programme.come()
    await programme.buy()
    await client.close()
    await forget_sums(database_url)
    later = Product(await make_client(), "")
    later.tokens = programme.admin.tokens

    async def is_filled() -> bool:
        return (await later.get("/stats")).status == 200

    await eventually(is_filled)
    await check(later, database_url)
