"""Fail-over of PostgreSQL to a streaming standby under load, by a URL of two hosts, without a restart of the service."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout

from referral.database.migrate import migrate
from referral.database.opening import open_database
from referral.queries import cache_epoch
from tests.conftest import Eventually
from tests.support.mixed_load import MixedLoad
from tests.support.programme import differences
from tests.support.rows import sql
from tests.support.servers import PostgresServer, free_port
from tests.support.service import is_ready, started, status_of
from tests.support.standby import Standby


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgresServer, Standby]]:
    """A primary with a migrated database, `own`, and its synchronous standby."""
    primary = PostgresServer(tmp_path_factory.mktemp("primary"))
    with primary:
        primary.make_database("own")
        with Standby(tmp_path_factory.mktemp("standby"), primary) as standby:
            standby.make_synchronous()
            yield primary, standby
        if primary.process is not None and primary.process.poll() is None:
            primary.resume()


def url_of(*servers: PostgresServer, query: str = "") -> str:
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"postgres://referral@{hosts}/own{query}"


def _becomes_read_only(primary: PostgresServer) -> None:
    """It lives on and keeps its connections, as where a tool demotes it in place."""
    primary.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
    primary.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    primary.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("end", [PostgresServer.kill, PostgresServer.hang, _becomes_read_only])
async def test_the_pool_finds_the_new_primary_within_seconds_and_nothing_acknowledged_is_lost(
    pair: tuple[PostgresServer, Standby], tmp_path: Path, end: Callable[[PostgresServer], None], eventually: Eventually
) -> None:
    primary, standby = pair
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    settings = {
        "REFERRAL_SERVER_PORT": str(port),
        "REFERRAL_DATABASE_URL": url_of(primary, standby),
        "REFERRAL_CACHE_URL": "none://",
        "REFERRAL_AUTH_BCRYPT_ROUNDS": "4",
        "REFERRAL_LIMITS_ENABLED": "false",
        "REFERRAL_LOG_LEVEL": "warning",
    }
    ready = f"{address}/health/ready"
    with started(tmp_path, lambda: is_ready(address), settings):
        async with ClientSession(timeout=ClientTimeout(30)) as session:
            load, ended = MixedLoad(session, [address]), asyncio.Event()
            running = asyncio.create_task(load.run(6, ended))
            await eventually(lambda: len(load.registered) > 10)
            await asyncio.to_thread(end, primary)

            async def says(status: int) -> bool:
                return await asyncio.to_thread(status_of, ready) == status

            # Before there is another one.
            await eventually(lambda: says(503))
            await asyncio.to_thread(standby.promote)
            promoted = time.monotonic()
            await eventually(lambda: says(200))
            assert time.monotonic() - promoted < 5
            before = len(load.registered)
            await eventually(lambda: len(load.registered) > before + 10, 20)
            assert time.monotonic() - promoted < 10
            ended.set()
            await running
    assert load.wrong == []
    assert not [status for status in load.statuses if status >= 500 and status != 503], load.statuses
    kept = {user_id for (user_id,) in await sql(standby.url("own"), "SELECT id FROM users")}
    assert load.registered.keys() <= kept
    codes = {code for (code,) in await sql(standby.url("own"), "SELECT code FROM codes")}
    assert load.codes.keys() <= codes
    database = await open_database(standby.url("own"))
    assert await differences(database) == []
    await database.close()


async def test_of_several_hosts_the_one_is_found_that_is_asked_for(pair: tuple[PostgresServer, Standby]) -> None:
    primary, standby = pair

    async def found(query: str = "", *, with_dead: bool = False) -> PostgresServer:
        dead = PostgresServer.__new__(PostgresServer)
        dead.port = free_port()
        hosts = (dead, standby, primary) if with_dead else (standby, primary)
        database: Any = await open_database(url_of(*hosts, query=query))
        async with database.reader() as conn:
            assert (await cache_epoch.find_epoch(conn)).epoch == 1
            port = await conn._raw.fetchval("SELECT inet_server_port()")
        await database.close()
        return primary if port == primary.port else standby

    assert await found() is primary
    assert await found(with_dead=True) is primary
    assert await found("?target_session_attrs=any") is standby
    assert await found("?target_session_attrs=primary") is primary
    for target in ("standby", "read-only", "prefer-standby"):
        assert await found(f"?target_session_attrs={target}", with_dead=True) is standby
    assert {await found("?target_session_attrs=any&load_balance_hosts=random") for _ in range(30)} == {primary, standby}
    # What goes through libpq finds it likewise.
    assert migrate(url_of(standby, primary)) == []


async def test_options_of_the_socket_are_set(pair: tuple[PostgresServer, Standby]) -> None:
    query = "?keepalives=1&keepalives_idle=33&keepalives_interval=11&keepalives_count=4&tcp_user_timeout=9000"
    database: Any = await open_database(url_of(pair[0], query=query))
    async with database.reader() as conn:
        found = conn._raw._transport.get_extra_info("socket")
        read = [
            found.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        ]
        assert read == [33, 11, 4, 9000]
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    await database.close()
