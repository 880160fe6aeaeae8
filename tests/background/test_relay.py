"""The relay of changes: whoever follows the feed misses nothing, whatever commits when, fails, or is killed."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from aiohttp import ClientSession, ClientTimeout

from referral.background import relay as relay_module
from referral.background.relay import Relay
from referral.changes import Change as Announcement
from referral.changes import announce
from referral.clock import now
from referral.database import Connection, Database, DatabaseUnavailable, TransactionConflict
from referral.queries import changes
from referral.queries.changes import Announced
from tests.conftest import Client, Eventually, MakeClient
from tests.support.feed import Change, Follower, check, kinds
from tests.support.killed import Killed
from tests.support.people import Person, Product
from tests.support.programme import SHARE, Programme, usd
from tests.support.rows import count, everything, sql
from tests.support.service import is_ready, started

WRITERS = 32


class Numbers:
    """In which order announcements were written, as the relays find them. SQLite numbers anew from one when none is left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, is_numbered_anew: bool) -> None:
        self.of: dict[str, tuple[int, int]] = {}
        self._is_numbered_anew = is_numbered_anew
        self._batches = itertools.count()
        self._really = changes.list_announcements
        monkeypatch.setattr(changes, "list_announcements", self._note)

    async def _note(self, conn: Connection, limit: int) -> list[Announced]:
        found = await self._really(conn, limit)
        batch = next(self._batches) if self._is_numbered_anew else 0
        self.of |= {change.id: (batch, change.number) for change in found}
        return found

    def check(self, seen: list[Change]) -> None:
        """The changes of each subject are told in the order in which they were written."""
        latest: dict[str, tuple[int, int]] = defaultdict(lambda: (-1, 0))
        for change in seen:
            number = self.of[change["id"]]
            assert number > latest[change["subject_id"]], change
            latest[change["subject_id"]] = number


@pytest.fixture
def numbers(engine: str, monkeypatch: pytest.MonkeyPatch) -> Numbers:
    return Numbers(monkeypatch, is_numbered_anew=engine == "sqlite")


@pytest.fixture
async def programmes(make_client: MakeClient) -> list[Programme]:
    """One programme, as two services on one database have it."""
    clients = [await make_client(cache_url="none://") for _ in range(2)]
    admin = await Product.with_key(clients[0], "admin")
    made = [Programme(Product(client, "", tokens=admin.tokens)) for client in clients]
    made[1].codes, made[1].numbers = made[0].codes, made[0].numbers
    return made


@asynccontextmanager
async def followed(*readers: Person) -> AsyncIterator[list[Follower]]:
    """Followers who read all the time, each by its own service and in pages of another size, and to the end."""
    followers = [Follower(reader) for reader in readers]
    ended = asyncio.Event()

    async def follow(follower: Follower, limit: int) -> None:
        while not ended.is_set():
            await follower.read(limit=limit, wait=1)
        await follower.news()

    tasks = [asyncio.create_task(follow(follower, 3 + 20 * number)) for number, follower in enumerate(followers)]
    try:
        yield followers
        ended.set()
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def announced(database: Database, *subjects: str, kind: Any = "ping") -> None:
    """Announce a change of each of these subjects in one transaction."""
    async with database.transaction() as conn:
        await announce(conn, [Announcement(kind, subject, {"id": subject}) for subject in subjects], now())


def folded(seen: list[Change]) -> dict[tuple[str, str], dict[str, Any]]:
    """What somebody knows who has followed: of each thing, and of each kind of what is told of it, the latest."""
    known: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
    for change in seen:
        key = change["type"].partition(".")[0], change["subject_id"]
        if key not in known or known[key][0] < change["version"]:
            known[key] = change["version"], change["data"]
    return {key: data for key, (_, data) in known.items()}


async def live(programmes: Iterator[Programme], who: int, turns: int) -> None:
    """What one of many at once does: money of few users is moved, and each step is told."""
    for turn in range(turns):
        name = f"{who} {turn}"
        programme = next(programmes)
        bought = await programme.buy(1000, f"b{who % 4}", f"e{name}")
        assert bought.status == 201, bought.body
        spent = await next(programmes).redeem("alice", 10, f"d{name.replace(' ', '-')}", hold_seconds=60)
        if spent.status == 201 and turn % 2:
            await next(programmes).admin.post(f"/redemptions/d{name.replace(' ', '-')}/capture")
        if who % 3 == 0:
            await next(programmes).refund(f"e{name}", refund=f"r{name}")
        if who % 8 == 0:
            await next(programmes).admin.user(f"new {name}", code={"ttl_days": 3})
            await next(programmes).admin.post(f"/users/ext:b{who % 4}/suspend", {"reason": "odd"})
            await next(programmes).admin.post(f"/users/ext:b{who % 4}/unsuspend")


async def begun(programme: Programme) -> None:
    """A programme by which each purchase is told many times over."""
    await programme.rule(times=None)
    await programme.rule("referee", times=None)
    await programme.rule(give=SHARE, hold_days=1, times=None)
    for number in range(4):
        await programme.come(f"b{number}")


async def as_it_is(programme: Programme, known: dict[tuple[str, str], dict[str, Any]], url: str) -> None:
    """Whoever followed knows of everything what the tables say."""
    for table, kind in (("rewards", "reward"), ("redemptions", "redemption"), ("users", "user")):
        assert {key[1] for key in known if key[0] == kind} == {row[0] for row in await sql(url, f"SELECT id FROM {table}")}
    for (kind, subject), data in known.items():
        if kind == "reward":
            assert data == await programme.reward(subject)
        elif kind == "redemption":
            there = (await programme.admin.get(f"/redemptions/{subject}")).body
            # The balance is that of its time.
            assert {**data, "balance": None} == {**there, "balance": None}
        elif kind == "balance":
            items = (await programme.admin.get(f"/users/{subject}/balances")).body["items"]
            assert [{"user_id": subject, **item} for item in items] == [data]
        elif kind == "code":
            items = (await programme.admin.get(f"/users/{data['user_id']}/codes")).body["items"]
            (there,) = [item for item in items if item["code"] == subject]
            assert {**there, "uses": 0} == {
                **{name: data[name] for name in there},
                "uses": 0,
            }
        elif kind == "user":
            there = (await programme.admin.get(f"/users/{subject}")).body
            assert (data["status"], data["external_id"]) == (there["status"], there["external_id"])


# Nothing is missed


async def test_whoever_follows_misses_nothing_of_what_32_do_at_once_on_two_services(
    programmes: list[Programme], numbers: Numbers, database_url: str
) -> None:
    await begun(programmes[0])
    turns = itertools.cycle(programmes)
    async with followed(*(programme.admin for programme in programmes)) as followers:
        await asyncio.gather(*(live(turns, who, 2) for who in range(WRITERS)))
    assert await count(database_url, "announcements") == 0
    for follower in followers:
        follower.check()
        numbers.check(follower.seen)
        assert len(follower.seen) == await count(database_url, "changes") > 300
    assert followers[0].seen == followers[1].seen
    await as_it_is(programmes[0], folded(followers[0].seen), database_url)


async def test_whoever_was_away_ends_where_whoever_stayed_does(programmes: list[Programme], database_url: str) -> None:
    await begun(programmes[0])
    turns = itertools.cycle(programmes)
    away = Follower(programmes[1].admin)
    async with followed(programmes[0].admin) as (stayed,):
        await asyncio.gather(*(live(turns, who, 1) for who in range(8)))
        await away.read(limit=7)
        kept = away.after, list(away.seen)
        await away.read(limit=50)
        # What it read last is lost with its process.
        away = Follower(programmes[1].admin, *kept)
        await asyncio.gather(*(live(turns, who, 1) for who in range(8, 20)))
    await away.news()
    assert away.seen == stayed.seen
    assert folded(away.seen) == folded(stayed.seen)
    # In whatever order, and however often it is told.
    assert folded(random.sample(stayed.seen * 2, 2 * len(stayed.seen))) == folded(stayed.seen)
    away.check()
    await as_it_is(programmes[0], folded(away.seen), database_url)


class TestOpenTransactions:
    """PostgreSQL alone has several write transactions at once."""

    @pytest.fixture
    def engine(self) -> str:
        return "postgres"

    async def test_whoever_follows_misses_nothing_of_transactions_that_commit_in_another_order_than_they_began(
        self,
        client: Client,
        numbers: Numbers,
        database_url: str,
        eventually: Eventually,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(relay_module, "LONGEST_SLEEP", 0.01)
        reader = await Product.with_key(client, "read")
        insert = "INSERT INTO announcements (id, type, at, subject_id, data) VALUES ($1, 'ping', 1, $2, '{}')"
        made: list[str] = []

        async def begin(subject: str, changes_of_it: int = 2) -> tuple[Any, Any]:
            connection = await asyncpg.connect(database_url)
            transaction = connection.transaction()
            await transaction.start()
            for part in range(changes_of_it):
                made.append(f"{subject} {part}")
                await connection.execute(insert, made[-1], subject)
            return connection, transaction

        async def end(connection: Any, transaction: Any, *, commits: bool = True) -> None:
            await (transaction.commit() if commits else transaction.rollback())
            await connection.close()

        async with followed(reader) as (follower,):
            for turn in range(10):
                open_ones = [await begin(f"held {turn} {number}") for number in range(8)]
                # Those that began later are told, although the others are still open.
                later = await begin(f"later {turn}")
                await end(*later)
                last = made[-1]
                await eventually(lambda last=last: last in [change["id"] for change in follower.seen])
                assert not [change for change in follower.seen if change["subject_id"].startswith(f"held {turn}")]
                undone = await begin(f"undone {turn}")
                made[-2:] = []
                random.shuffle(open_ones)
                for number, one in enumerate(open_ones):
                    await end(*one)
                    if number == 3:
                        await end(*undone, commits=False)
                    # Some are told one by one, others together.
                    await asyncio.sleep(random.choice((0, 0.02, 0.1)))
        assert Counter(change["id"] for change in follower.seen) == Counter(made)
        follower.check()
        numbers.check(follower.seen)

    async def test_a_number_is_seen_only_with_all_smaller_ones(
        self, make_client: MakeClient, database_url: str, database: Database
    ) -> None:
        """Another relay is amid its transaction: the next one waits for it, and readers see neither's."""
        await announced(database, "first")
        holder = await asyncpg.connect(database_url)
        async with holder.transaction():
            await holder.execute("SELECT last_seq FROM feed FOR NO KEY UPDATE")
            telling = asyncio.create_task(Relay(database).work_off())
            await asyncio.sleep(0.3)
            assert not telling.done()
            assert await count(database_url, "changes") == 0
            await holder.execute("INSERT INTO change_subjects VALUES ('another', 1)")
            await holder.execute(
                "INSERT INTO changes (seq, id, type, at, subject_id, version, data) "
                f"VALUES (1, 'another', 'ping', {now()}, 'another', 1, '{{}}')"
            )
            await holder.execute("UPDATE feed SET last_seq = 1")
        await telling
        await holder.close()
        follower = Follower(await Product.with_key(await make_client(), "read"))
        assert [change["subject_id"] for change in await follower.news()] == ["another", "first"]
        follower.check()


@pytest.fixture
def no_relay(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The services' own relays do nothing until this is called."""
    really = Relay.work_off

    async def nothing(relay: Relay) -> int:
        return 0

    monkeypatch.setattr(Relay, "work_off", nothing)
    return lambda: monkeypatch.setattr(Relay, "work_off", really)


async def test_relays_at_once_tell_each_change_once_and_in_the_order_of_its_writing(
    programmes: list[Programme],
    database: Database,
    numbers: Numbers,
    no_relay: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_module, "BATCH", 7)
    for number in range(60):
        await announced(database, f"s{number % 5}", "every", f"s{number % 3}")
    no_relay()
    relays = [Relay(database) for _ in range(3)]

    async def work_off(relay: Relay) -> int:
        told = 0
        while found := await relay.work_off():
            told += found
        return told

    assert sum(await asyncio.gather(*(work_off(relay) for relay in relays * 2))) <= 180
    follower = Follower(programmes[0].admin)
    await follower.news()
    assert len(follower.seen) == 180
    follower.check()
    found = [numbers.of[change["id"]] for change in follower.seen]
    assert found == sorted(found)


# What befalls the relay


async def test_what_was_announced_before_a_stop_is_told_after_the_next_start(
    make_client: MakeClient, no_relay: Callable[[], None], database_url: str, eventually: Eventually
) -> None:
    client = await make_client()
    programme = Programme(await Product.with_key(client, "admin"))
    await programme.give("alice", 500)
    left = await count(database_url, "announcements")
    assert left == 4
    await client.close()
    no_relay()
    follower = Follower(Product(await make_client(), "", tokens=programme.admin.tokens))
    # By itself: nothing happens that would wake it.
    await eventually(lambda: count(database_url, "changes", f"seq = {left}"))
    await follower.read()
    assert kinds(follower.seen) == ["user.created", "reward.created", "reward.approved", "balance.changed"]
    follower.check()


@pytest.mark.parametrize("failing", ["insert_changes", "count_changes_of_subjects", "lock_feed", "advance_feed"])
async def test_a_relay_whose_transaction_fails_goes_on_and_nothing_is_told_twice(
    programme: Programme, monkeypatch: pytest.MonkeyPatch, eventually: Eventually, failing: str, database_url: str
) -> None:
    monkeypatch.setattr(relay_module, "LONGEST_SLEEP", 0.2)
    really: Any = getattr(changes, failing)
    failures = iter([TransactionConflict("a test"), DatabaseUnavailable("a test"), ZeroDivisionError("a test")])
    failed = []

    async def fail(*arguments: Any) -> Any:
        found = await really(*arguments)
        failure = next(failures, None)
        if failure is not None:
            failed.append(failure)
            raise failure
        return found

    monkeypatch.setattr(changes, failing, fail)
    for number in range(4):
        await programme.admin.user(f"user {number}")
        await asyncio.sleep(0.05)
    await eventually(lambda: count(database_url, "changes", "seq = 4"))
    assert len(failed) == 3
    follower = Follower(programme.admin)
    await follower.news()
    assert [change["data"]["external_id"] for change in follower.seen] == [f"user {number}" for number in range(4)]
    follower.check()


async def test_what_waits_for_its_place_while_its_user_is_erased_gets_it_without_what_is_personal(
    programme: Programme,
    no_relay: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    database: Database,
    database_url: str,
) -> None:
    """The relay comes amid the erasure, between what it does to announcements and to changes."""
    await programme.admin.user("wilhelmina", email="wilhelmina@example.com", name="Wilhelmina")
    for part in range(3):
        await programme.give("wilhelmina", 5, reason=f"wilhelmina {part}")
    really = changes.forget_changes_of_user
    telling: list[asyncio.Task[int]] = []

    async def after_the_relay(conn: Connection, user_id: str, names: list[str], after: int, limit: int) -> list[int]:
        if not telling:
            no_relay()
            telling.append(asyncio.create_task(Relay(database).work_off()))
            await asyncio.sleep(0.5)
        return await really(conn, user_id, names, after, limit)

    monkeypatch.setattr(changes, "forget_changes_of_user", after_the_relay)
    assert (await programme.admin.delete("/users/ext:wilhelmina")).status == 204
    await asyncio.gather(*telling)
    follower = Follower(programme.admin)
    await follower.news()
    assert kinds(follower.seen).count("reward.created") == 3
    assert "wilhelmina" not in repr(await everything(database_url)).casefold()
    follower.check()


async def test_erasures_and_relays_at_once_wait_for_each_other_in_one_order(
    programmes: list[Programme], database_url: str
) -> None:
    """On PostgreSQL nobody is undone by a deadlock, and nothing personal is left."""
    async with followed(*(programme.admin for programme in programmes)) as followers:

        async def come_and_go(who: int) -> None:
            programme = programmes[who % 2]
            name = f"wilhelmina{who}"
            await programme.admin.user(name, email=f"{name}@example.com", name=name, code={"ttl_days": 3})
            await asyncio.gather(*(programme.give(name, 5, reason=f"{name} {part}") for part in range(4)))
            assert (await programme.admin.delete(f"/users/ext:{name}")).status == 204

        for turn in range(3):
            await asyncio.gather(*(come_and_go(100 * turn + who) for who in range(12)))
    for follower in followers:
        follower.check()
    assert kinds(followers[0].seen).count("user.erased") == 36
    assert "wilhelmina" not in repr(await everything(database_url)).casefold()
    if "postgres" in database_url:
        found = await sql(database_url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert found == [(0,)]


async def test_killed_again_and_again_nothing_is_missed_and_nothing_is_told_twice(killed: Killed) -> None:
    key = killed.new_key("admin")
    asked: Counter[int] = Counter()
    calls = 150
    running = asyncio.create_task(killed.kill_again_and_again(asked, calls))
    left = iter(range(calls))
    seen: list[Change] = []
    headers = {"Authorization": f"Bearer {key}"}
    async with ClientSession(headers=headers, timeout=ClientTimeout(10)) as session:

        async def write() -> None:
            for number in left:
                given = {"id": f"g{number}", "user": {"external_id": f"u{number % 7}"}, "kind": "balance", "value": usd(5)}
                status, answer = await killed.call(session, "POST", "/rewards", {**given, "reason": "a test"})
                assert status in (200, 201), answer
                asked[200] += 1

        async def follow() -> None:
            # Seven users, and three changes of each reward.
            after, expected = 0, 7 + 3 * calls
            while after < expected:
                status, answer = await killed.call(session, "GET", f"/changes?after={after}&limit=20&wait=1")
                assert status == 200, answer
                seen.extend(answer["items"])
                after = answer["last_seq"]

        async with asyncio.timeout(120):
            following = asyncio.create_task(follow())
            await asyncio.gather(*(write() for _ in range(8)))
            await running
            # Once more, for what nobody could tell any more.
            with started(killed.folder, lambda: is_ready(killed.address), killed.settings):
                await following
    url = killed.settings["REFERRAL_DATABASE_URL"]
    assert await sql(url, "SELECT seq, id FROM changes ORDER BY seq") == [(one["seq"], one["id"]) for one in seen]
    assert await count(url, "announcements") == 0
    told = Counter((one["subject_id"], one["type"]) for one in seen)
    rewards = [reward for (reward,) in await sql(url, "SELECT id FROM rewards")]
    assert len(rewards) == calls
    for reward in rewards:
        assert (told[reward, "reward.created"], told[reward, "reward.approved"]) == (1, 1)
    assert Counter(kinds(seen)).keys() == {"user.created", "reward.created", "reward.approved", "balance.changed"}
    check(seen)
