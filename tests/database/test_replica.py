"""Reads from a streaming standby: never older than what the caller has just written, whatever becomes of the standby."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from referral.database import DATABASE, DatabaseUnavailable, TransactionConflict, postgres_standby
from referral.database.opening import open_database
from referral.database.postgres import PostgresDatabase
from referral.queries import cache_epoch
from tests.conftest import Client, Eventually, MakeClient
from tests.support.people import Person, Product
from tests.support.servers import PostgresServer, free_port
from tests.support.standby import Standby


@pytest.fixture
def engine() -> str:
    return "postgres"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A standby is behind when the test says so, and not when the machine is slow."""
    monkeypatch.setattr(postgres_standby, "REPLAY_TIMEOUT", 1.0)
    monkeypatch.setattr(postgres_standby, "ACQUIRE_TIMEOUT", 2.0)
    monkeypatch.setattr(postgres_standby, "PROBE_PAUSE", 0.1)


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with PostgresServer(tmp_path_factory.mktemp("primary")) as server:
        server.make_database("own")
        yield server


@pytest.fixture
def standby(primary: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standby]:
    with Standby(tmp_path_factory.mktemp("standby"), primary) as server:
        yield server
        if server.process is not None and server.process.poll() is None:
            server.resume()


@pytest.fixture
async def client(primary: PostgresServer, standby: Standby, make_client: MakeClient, eventually: Eventually) -> Client:
    made = await make_client(database_url=primary.url("own"), database_replica_url=standby.url("own"))
    await eventually(lambda: usable(made.app[DATABASE]))
    return made


def usable(database: Any) -> bool:
    return bool(database._standby._is_usable)


@pytest.fixture
def names() -> Iterator[str]:
    """The tests of this module share a database."""
    number = time.monotonic_ns()
    return (f"p{number + added}" for added in range(1_000_000))


async def port_read(database: Any, **options: bool) -> int:
    """Where a read goes."""
    async with database.replica(**options) as conn:
        await cache_epoch.find_epoch(conn)
        return int(await conn._raw.fetchval("SELECT inet_server_port()"))


async def all_is_seen(client: Client, name: str, rounds: int = 3) -> None:
    """Whoever writes something finds it in every list right after that."""
    alice = await Person.register(client, name)
    shop = await Product.with_key(client)
    for number in range(rounds):
        code = await alice.make_code(replace=True)
        assert (await alice.get("/codes")).body["items"][0]["code"] == code
        bob = await Person.register(client, f"{name}b{number}", referral_code=code)
        referrals = (await alice.get("/users/me/referrals")).body
        assert referrals["items"][0]["id"] == bob.id
        assert referrals["total"] == number + 1
        stats = (await alice.get("/users/me/stats")).body
        assert stats["totals"]["referrals"] == number + 1
        export = (await alice.get("/users/me/export")).body
        assert len(export["referrals"]) == number + 1
    # The newest change that was told is found by whoever was told of it.
    seq = (await shop.get("/changes", params={"after": 0})).body["last_seq"]
    assert (await shop.get("/changes", params={"after": seq})).status == 200


async def test_lists_are_read_from_the_standby_and_have_what_was_just_written(
    client: Client, primary: PostgresServer, standby: Standby, names: Iterator[str]
) -> None:
    database = client.app[DATABASE]
    assert await port_read(database) == await port_read(database, snapshot=True) == standby.port
    await all_is_seen(client, next(names))
    assert usable(database)
    before = await answered(standby)
    alice = await Person.register(client, next(names))
    for path in ("/codes", "/users/me/referrals", "/users/me/stats", "/users/me/export", "/users/me/statement?unit=USD"):
        assert (await alice.get(path)).status == 200, path
    assert await answered(standby) > before


async def answered(server: PostgresServer) -> int:
    """Transactions that were ended on a server."""
    connection = await asyncpg.connect(server.url("own"))
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    found = await connection.fetchval("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'own'")
    await connection.close()
    return int(found)


async def test_a_standby_that_does_not_replay_is_not_read_and_slows_only_who_is_first(
    client: Client,
    primary: PostgresServer,
    standby: Standby,
    names: Iterator[str],
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = client.app[DATABASE]
    alice = await Person.register(client, next(names))
    standby.execute("SELECT pg_wal_replay_pause()")
    code = await alice.make_code()
    assert (await alice.get("/codes")).body["items"][0]["code"] == code
    assert not usable(database)
    await all_is_seen(client, next(names))
    # Nobody waits for it any more.
    monkeypatch.setattr(postgres_standby, "REPLAY_TIMEOUT", 60.0)
    async with asyncio.timeout(10):
        assert await port_read(database) == primary.port
        await all_is_seen(client, next(names), 1)
    standby.execute("SELECT pg_wal_replay_resume()")
    await eventually(lambda: usable(database))
    assert await port_read(database) == standby.port
    await all_is_seen(client, next(names))


@pytest.mark.parametrize("end", [Standby.kill, Standby.stop, Standby.hang])
async def test_a_standby_that_is_gone_or_hangs_breaks_nothing(
    client: Client, primary: PostgresServer, standby: Standby, names: Iterator[str], end: Any, eventually: Eventually
) -> None:
    database = client.app[DATABASE]
    await asyncio.to_thread(end, standby)
    # Of many at once none waits longer than once.
    began = time.monotonic()
    alice = await Person.register(client, next(names))
    answers = await asyncio.gather(*(alice.get("/users/me/referrals") for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert time.monotonic() - began < 6
    assert not usable(database)
    await all_is_seen(client, next(names), 1)
    if end is Standby.hang:
        standby.resume()
    else:
        await asyncio.to_thread(standby.start)
    await eventually(lambda: usable(database), 20)
    assert await port_read(database) == standby.port


async def test_a_standby_that_is_promoted_is_none_any_more(
    client: Client, primary: PostgresServer, standby: Standby, names: Iterator[str]
) -> None:
    standby.promote()
    await all_is_seen(client, next(names), 2)
    assert not usable(client.app[DATABASE])
    assert await port_read(client.app[DATABASE]) == primary.port


async def test_a_read_that_the_standby_ends_is_made_again_on_the_primary(
    client: Client, primary: PostgresServer, standby: Standby, names: Iterator[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    database: Any = client.app[DATABASE]
    alice = await Person.register(client, next(names))
    code = await alice.make_code()
    failures: list[int] = []
    really = asyncpg.Connection.fetch

    async def fetch(self: Any, query: str, *arguments: Any, **options: Any) -> Any:
        if self._addr[1] == standby.port:
            failures.append(1)
            raise asyncpg.SerializationError("canceling statement due to conflict with recovery")
        return await really(self, query, *arguments, **options)

    monkeypatch.setattr(asyncpg.Connection, "fetch", fetch)
    for path in ("/codes", "/users/me/stats", "/users/me/export"):
        database._standby._is_usable = True
        answer = await alice.get(path)
        assert answer.status == 200, answer.body
        assert failures
        failures.clear()
    assert code in str((await alice.get("/codes")).body)


async def test_a_conflict_with_recovery_is_one(client: Client, primary: PostgresServer, standby: Standby) -> None:
    """The real one: the primary removes rows that a snapshot of the standby still sees."""
    database: Any = client.app[DATABASE]
    standby.execute("ALTER SYSTEM SET max_standby_streaming_delay = 0")
    standby.execute("SELECT pg_reload_conf()")

    async def read() -> None:
        async with database.replica(snapshot=True) as conn:
            assert (await cache_epoch.find_epoch(conn)).epoch >= 1
            for _ in range(20):
                # Again and again: while a transaction of the service's goes on, nothing is removed.
                primary.execute("UPDATE cache_epoch SET epoch = epoch + 1", "own")
                primary.execute("VACUUM cache_epoch", "own")
                primary.execute("CREATE TABLE IF NOT EXISTS moved (id int); DROP TABLE moved", "own")
                await asyncio.sleep(0.1)
                await cache_epoch.find_epoch(conn)

    with pytest.raises(TransactionConflict):
        await read()
    assert await port_read(database) in (primary.port, standby.port)


async def test_another_clusters_server_is_no_standby(
    primary: PostgresServer, postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    for url in (postgres_server.url("postgres"), f"postgresql://referral@127.0.0.1:{free_port()}/own"):
        caplog.clear()
        database = await open_database(primary.url("own"), replica_url=url)
        await eventually(lambda: "the standby is not read from" in caplog.text)
        assert await port_read(database) == primary.port
        await database.close()


async def test_without_the_primary_there_is_no_reading_of_old_things(
    tmp_path_factory: pytest.TempPathFactory, eventually: Eventually
) -> None:
    with PostgresServer(tmp_path_factory.mktemp("own")) as server:
        server.make_database("own")
        with Standby(tmp_path_factory.mktemp("standby"), server) as standby:
            database = await PostgresDatabase.open(server.url("own"), replica_url=standby.url("own"))
            await eventually(lambda: usable(database))
            server.kill()
            with pytest.raises(DatabaseUnavailable):
                await port_read(database)
            await database.close()
