"""PgBouncer in transaction mode, with the settings that deployers take: each transaction may get another connection."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiohttp import ClientSession, ClientTimeout

from referral.database import Connection, Database, committed
from referral.database import service_lock as module
from referral.database.opening import open_database
from referral.database.postgres import PostgresDatabase
from referral.database.service_lock import ServiceRunning, service_lock
from referral.database.statements import Statement, load_statements
from referral.queries import cache_epoch, users
from tests.conftest import Eventually
from tests.support.commands import refusal, run_command
from tests.support.mixed_load import MixedLoad
from tests.support.people import PASSWORD
from tests.support.pgbouncer import PgBouncer
from tests.support.programme import differences
from tests.support.rows import count, sql
from tests.support.servers import PostgresServer, free_port
from tests.support.service import is_ready, started


@pytest.fixture
def engine() -> str:
    return "postgres"


@pytest.fixture
def pooler(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PgBouncer]:
    """So few connections that they are handed around all the time, two of them for the services' locks."""
    with PgBouncer(tmp_path_factory.mktemp("pgbouncer"), postgres_server, default_pool_size=6) as bouncer:
        yield bouncer
        bouncer.resume()


@pytest.fixture
def pooled_url(database_url: str, pooler: PgBouncer) -> str:
    return pooler.url(database_url.rpartition("/")[2])


@asynccontextmanager
async def two_services(folder: Path, url: str) -> AsyncIterator[list[str]]:
    """The addresses of two services, processes of their own."""
    async with AsyncExitStack() as stack:
        addresses = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            port = free_port()
            address = f"http://127.0.0.1:{port}"
            settings = {
                "REFERRAL_SERVER_PORT": str(port),
                "REFERRAL_DATABASE_URL": url,
                "REFERRAL_CACHE_URL": "none://",
                "REFERRAL_AUTH_SECRET": "a secret of the tests, of more than 32 characters",
                "REFERRAL_AUTH_BCRYPT_ROUNDS": "4",
                "REFERRAL_LIMITS_ENABLED": "false",
                "REFERRAL_LOG_LEVEL": "warning",
            }
            stack.enter_context(started(folder / name, partial(is_ready, address), settings))
            addresses.append(address)
        yield addresses


@asynccontextmanager
async def load_on(folder: Path, url: str, people: int = 8) -> AsyncIterator[MixedLoad]:
    """Mixed load of two services for as long as the block; in the end everything that was answered was right."""
    async with two_services(folder, url) as addresses, ClientSession(timeout=ClientTimeout(30)) as session:
        load, ended = MixedLoad(session, addresses), asyncio.Event()
        running = asyncio.create_task(load.run(people, ended))
        try:
            yield load
        finally:
            ended.set()
            await running
    assert load.wrong == []
    assert not [status for status in load.statuses if status >= 500 and status != 503], load.statuses
    for name in ("one", "two"):
        assert "Traceback" not in (folder / name / "service.log").read_text()


async def nothing_is_lost(url: str, load: MixedLoad, database: Database) -> None:
    ids = {user_id for (user_id,) in await sql(url, "SELECT id FROM users")}
    assert load.registered.keys() <= ids
    codes = dict(await sql(url, "SELECT code, referrer_id FROM codes"))
    assert {code: codes[code] for code in load.codes} == load.codes
    counted = dict(await sql(url, "SELECT code, count(*) FROM referrals GROUP BY code"))
    assert all(counted[code] >= number for code, number in load.came.items())
    assert await differences(database) == []


async def test_two_services_at_once_get_each_their_own_answers(
    tmp_path: Path, pooled_url: str, pooler: PgBouncer, database_url: str, database: Database
) -> None:
    async with load_on(tmp_path, pooled_url) as load:
        await asyncio.sleep(4)
    assert load.statuses[503] == 0
    assert len(load.registered) > 20
    await nothing_is_lost(database_url, load, database)
    with psycopg.connect(database_url, autocommit=True) as server:
        held = server.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()").fetchone()
    # The connections are PgBouncer's few, and none of the pools'.
    assert held is not None
    assert held[0] <= 6 + 2


async def test_pauses_and_replaced_connections_go_unnoticed(
    tmp_path: Path, pooled_url: str, pooler: PgBouncer, database_url: str, database: Database
) -> None:
    pooler.admin("SET server_lifetime = 1")
    async with load_on(tmp_path, pooled_url) as load:
        for _ in range(3):
            await asyncio.sleep(0.5)
            began = time.monotonic()
            # Done when no transaction is open any more: also that of the services' locks, which is one second long.
            await asyncio.to_thread(pooler.admin, "PAUSE")
            assert time.monotonic() - began < 4
            await asyncio.sleep(0.3)
            await asyncio.to_thread(pooler.admin, "RESUME")
    assert load.statuses[503] == 0
    await nothing_is_lost(database_url, load, database)


async def test_a_restart_loses_nothing(
    tmp_path: Path, pooled_url: str, pooler: PgBouncer, database_url: str, database: Database, eventually: Eventually
) -> None:
    async with load_on(tmp_path, pooled_url) as load:
        for _ in range(3):
            await asyncio.sleep(0.7)
            await asyncio.to_thread(pooler.kill)
            await asyncio.sleep(0.2)
            await asyncio.to_thread(pooler.start)
        before = len(load.registered)
        await eventually(lambda: len(load.registered) > before + 8)
    await nothing_is_lost(database_url, load, database)


async def test_the_server_behind_it_may_be_restarted(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, eventually: Eventually
) -> None:
    with PostgresServer(tmp_path_factory.mktemp("own"), fsync=True) as server:
        server.make_database("own")
        with PgBouncer(tmp_path_factory.mktemp("pgbouncer"), server, default_pool_size=6) as pooler:
            async with load_on(tmp_path, pooler.url("own")) as load:
                for end in (server.stop, server.kill):
                    await asyncio.sleep(0.7)
                    await asyncio.to_thread(end)
                    await asyncio.sleep(0.2)
                    await asyncio.to_thread(server.start)
                before = len(load.registered)
                # PgBouncer asks a server that was out again after server_login_retry, 15 seconds.
                await eventually(lambda: len(load.registered) > before + 8, 40)
        database = await open_database(server.url("own"))
        await nothing_is_lost(server.url("own"), load, database)
        await database.close()


async def test_commands_go_through_it(
    pooler: PgBouncer, pooled_url: str, database_url: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    run = partial(run_command, REFERRAL_DATABASE_URL=pooled_url)
    made = run("createsuperuser", "root@example.com", stdin=f"{PASSWORD}\n".encode())
    assert made.returncode == 0, made.stderr
    assert await count(database_url, "users", "role = 'admin'") == 1
    assert run("verify").returncode == 0
    assert run("migrate").stdout == "Nothing to apply.\n"
    # From nothing, and from SQLite.
    for name in ("empty", "copied"):
        postgres_server.execute(f"CREATE DATABASE {name}_{pooler.port}")
    assert "0040" in run_command("migrate", REFERRAL_DATABASE_URL=pooler.url(f"empty_{pooler.port}")).stdout
    run = partial(run_command, REFERRAL_DATABASE_URL=f"sqlite:///{tmp_path}/source.db")
    assert run("createsuperuser", "root@example.com", stdin=f"{PASSWORD}\n".encode()).returncode == 0
    target = pooler.url(f"copied_{pooler.port}")
    copied = run("copy", "--to", target)
    assert copied.returncode == 0, copied.stderr
    assert await count(postgres_server.url(f"copied_{pooler.port}"), "users") == 1
    assert run_command("verify", REFERRAL_DATABASE_URL=target).returncode == 0
    for name in ("empty", "copied"):
        postgres_server.execute(f"DROP DATABASE {name}_{pooler.port} WITH (FORCE)")


async def test_a_second_service_with_a_cache_of_its_own_is_refused_behind_a_pooler(
    tmp_path: Path, pooled_url: str, database_url: str
) -> None:
    port = free_port()
    settings = {"REFERRAL_SERVER_PORT": str(port), "REFERRAL_DATABASE_URL": pooled_url}
    with started(tmp_path, lambda: is_ready(f"http://127.0.0.1:{port}"), settings) as process:
        # Longer than the transaction that holds the lock: it is there after each renewal.
        for _ in range(4):
            for url in (pooled_url, database_url):
                done = await asyncio.to_thread(partial(run_command, REFERRAL_DATABASE_URL=url))
                assert "a service runs on it already (pid " in refusal(done)
        assert process.poll() is None


async def test_a_service_keeps_its_place_although_it_lets_go_of_the_lock_for_a_moment(
    pooled_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody comes in that very moment, and has the lock before it is renewed."""
    holds, taken, gave_way, hold = threading.Event(), threading.Event(), [], module._Keeper._hold
    keepers: list[module._Keeper] = []

    def noted_hold(keeper: module._Keeper, connection: Any) -> None:
        keepers.append(keeper)
        is_first = keeper is keepers[0]
        if is_first and holds.is_set():
            # It has just let go, this once.
            assert taken.wait(10)
            monkeypatch.setattr(module, "RENEW_PAUSE", 60.0)
        hold(keeper, connection)
        if not is_first:
            taken.set()

    def give_way(keeper: module._Keeper, running: ServiceRunning) -> None:
        gave_way.append(running)
        keeper._stopped.set()

    monkeypatch.setattr(module, "RENEW_PAUSE", 0.01)
    monkeypatch.setattr(module._Keeper, "_hold", noted_hold)
    monkeypatch.setattr(module._Keeper, "_give_way", give_way)
    with service_lock(pooled_url, alone=True):
        holds.set()
        # Its transaction ends now.
        await asyncio.sleep(0.1)
        with pytest.raises(ServiceRunning):
            await asyncio.to_thread(take_and_release, pooled_url)
        assert gave_way == []


def take_and_release(url: str) -> None:
    with service_lock(url, alone=True):
        pass


async def test_nothing_is_left_on_a_connection_that_others_use(pooler: PgBouncer, pooled_url: str) -> None:
    """One connection for two pools, which take turns after each statement."""
    pooler.admin("SET default_pool_size = 1")
    databases = [await PostgresDatabase.open(pooled_url) for _ in range(2)]
    for _ in range(3):
        async with databases[0].reader() as conn, databases[1].reader() as second:
            assert await users.find_contact(conn, "x") is None
            assert (await cache_epoch.find_epoch(second)).epoch == 1
        for database in databases:
            async with database.transaction() as conn:
                assert await users.find_contact(conn, "x") is None
    for database in databases:
        await database.close()
    with psycopg.connect(pooled_url, autocommit=True) as server:
        assert server.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
        assert server.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("0",)
        assert server.execute("SHOW plan_cache_mode").fetchone() == ("auto",)


@pytest.mark.parametrize(("where", "parameters"), [("", {}), (" WHERE n < $1", {"most": 9})])
async def test_what_a_migration_changed_of_a_statement_is_asked_for_anew(
    pooled_url: str, database_url: str, where: str, parameters: dict[str, int]
) -> None:
    """Of its columns, and of its parameters."""
    await sql(database_url, "CREATE TABLE changed (n bigint)")
    await sql(database_url, "INSERT INTO changed VALUES (7)")
    database = await PostgresDatabase.open(pooled_url)
    found = Statement(f"SELECT n FROM changed{where}", tuple(parameters), ("n",))
    database._statements = {**database._statements, "ask": found}

    async def ask(conn: Connection) -> list[int]:
        return await conn.values("ask", int, **parameters)

    for kind in ("integer", "bigint"):
        async with AsyncExitStack() as stack:
            # Several connections know it as it was.
            for _ in range(3):
                assert await ask(await stack.enter_async_context(database.reader())) == [7]
        await sql(database_url, f"ALTER TABLE changed ALTER COLUMN n TYPE {kind}")
        assert await committed(database, ask) == [7]
    await database.close()


async def test_a_pooler_that_keeps_statements_is_given_named_ones(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory, database_url: str
) -> None:
    # In session mode any PgBouncer keeps them.
    with PgBouncer(tmp_path_factory.mktemp("pgbouncer"), postgres_server, pool_mode="session") as pooler:
        url = pooler.url(database_url.rpartition("/")[2])
        for keeps, expected in ((False, 0), (True, 1)):
            database = await open_database(url, pooler_keeps_statements=keeps)
            async with database.reader() as conn:
                for _ in range(2):
                    await users.find_contact(conn, "x")
                raw: Any = conn
                query = "SELECT count(*) FROM pg_prepared_statements WHERE statement = $1"
                assert await raw._raw.fetchval(query, load_statements("postgres")["find_contact"].sql) == expected
            async with database.transaction() as conn:
                raw = conn
                # Said for the transaction alone.
                assert await raw._raw.fetchval("SHOW idle_in_transaction_session_timeout") == "30s"
            async with database.reader() as conn:
                raw = conn
                assert await raw._raw.fetchval("SHOW idle_in_transaction_session_timeout") == "0"
            await database.close()
