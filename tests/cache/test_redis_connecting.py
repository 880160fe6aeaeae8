"""How a connection to a real Redis comes about, how long anybody waits for it, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from redis import asyncio as aioredis

from referral.cache.redis.client import PROBE, RedisClient
from referral.metrics import Metrics
from tests.conftest import Client, Eventually, MakeClient
from tests.support.people import Person
from tests.support.sentinel import REDIS_RIGHTS, RedisSentinel
from tests.support.servers import Proxy, RedisServer, free_port, wait_until
from tests.support.service import run_py
from tests.support.smtp_server import Certificate
from tests.test_workers import Service

MakeRedis = Callable[..., RedisClient]
StartRedis = Callable[..., RedisServer]

# Seconds that a connection to a server that says nothing may take here, and fewer, which nothing takes on a busy machine.
LONG, AT_ONCE = 10.0, 5.0

CLUSTER = "cache.url leads to a Redis Cluster, which cannot run the service's scripts: use a Redis with one master"


@pytest.fixture
def engine() -> str:
    return "sqlite"


@pytest.fixture
def start_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartRedis]:
    """`start_redis("--requirepass", ...)`: a started Redis that may be killed."""
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> RedisServer:
            return stack.enter_context(RedisServer(tmp_path_factory.mktemp("redis"), *options))

        yield start


@pytest.fixture
async def make_redis() -> AsyncIterator[MakeRedis]:
    """`make_redis(url, timeout, connect_timeout)`: a client, by default a patient one."""
    async with contextlib.AsyncExitStack() as stack:

        def make(url: str, timeout: float = LONG, connect_timeout: float = LONG) -> RedisClient:
            client = RedisClient(url, Metrics(), timeout, connect_timeout)
            stack.push_async_callback(client.close)
            return client

        yield make


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate.make(tmp_path)


def by_tls(certificate: Certificate, port: int, clients: str = "no") -> tuple[str, ...]:
    return (
        *("--tls-port", str(port), "--tls-auth-clients", clients, "--tls-ca-cert-file", str(certificate.file)),
        *("--tls-cert-file", str(certificate.file), "--tls-key-file", str(certificate.key)),
    )


async def answer_of(client: RedisClient) -> str | None:
    """The run id of who answers."""
    reply = await client.ask("GET", "referral:any")
    return reply.run_id if reply else None


async def run_id(redis: RedisServer, password: str | None = None) -> str:
    """What tells this Redis, as master for as long as it is, from any other one."""
    async with aioredis.Redis.from_url(redis.url, password=password) as inside:
        process, replication = await inside.info("server"), await inside.info("replication")
        return str(process["run_id"][:20] + replication["master_replid"][:20])


async def ready(client: Client) -> Any:
    return (await Person(client, "").get("/health/ready")).body


# How long it takes


async def test_a_redis_by_tls_from_afar_comes_up(
    start_redis: StartRedis, make_redis: MakeRedis, certificate: Certificate, eventually: Eventually
) -> None:
    port = free_port()
    redis = start_redis(*by_tls(certificate, port), "--requirepass", "a-secret")
    # A round trip of 60 ms: an answer comes in time, and a connection takes at least four of them.
    async with Proxy(port, delay=0.03) as proxy:
        client = make_redis(f"rediss://:a-secret@127.0.0.1:{proxy.port}/1?ca={certificate.file}", 0.15, LONG)
        assert await answer_of(client) is None
        assert await eventually(lambda: answer_of(client)) == await run_id(redis, "a-secret")


async def test_whoever_asks_waits_no_longer_for_a_connection_than_for_an_answer(make_redis: MakeRedis) -> None:
    connections = 0

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        client = make_redis(f"redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}/0", 0.05, LONG)
        for _ in range(10):
            began = time.monotonic()
            assert await asyncio.gather(*(client.ask("GET", "referral:any") for _ in range(10))) == [None] * 10
            assert time.monotonic() - began < AT_ONCE
            assert client.is_out
        await asyncio.sleep(0.1)
        # What the first one began goes on.
        assert connections == 1
        await client.close()


async def test_a_connection_that_takes_too_long_is_given_up_and_tried_again(
    start_redis: StartRedis, make_redis: MakeRedis, eventually: Eventually
) -> None:
    redis, connections = start_redis(), 0

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent, Proxy(redis.port) as proxy:
        proxy.target = silent.sockets[0].getsockname()[1]
        client = make_redis(f"redis://127.0.0.1:{proxy.port}/0", 0.05, 0.2)
        await client.open()
        assert client.is_out
        await eventually(lambda: connections > 2)
        client.timeout = client.connect_timeout = LONG
        proxy.target = redis.port
        assert await eventually(lambda: answer_of(client)) == await run_id(redis)


async def test_a_redis_that_is_restarted_is_used_by_the_next_to_ask(start_redis: StartRedis, make_redis: MakeRedis) -> None:
    redis = start_redis()
    client = make_redis(redis.url)
    for _ in range(3):
        assert await answer_of(client) == await run_id(redis)
        redis.kill()
        redis.start()
        # The connection's end has arrived once others have had their turn.
        await asyncio.sleep(0.05)


async def test_a_client_that_is_opened_has_its_connection_before_anybody_asks(
    start_redis: StartRedis, make_redis: MakeRedis
) -> None:
    redis = start_redis()
    client = make_redis(redis.url)
    await client.open()
    async with aioredis.Redis.from_url(redis.url) as inside:
        connected = (await inside.info("clients"))["connected_clients"]
        assert await client.ask(*PROBE)
        assert (await inside.info("clients"))["connected_clients"] == connected == 2
        assert await inside.keys("*") == []


async def test_the_settings_say_how_long(make_client: MakeClient) -> None:
    """A server that says nothing: whoever asks first waits for so long, unless it is found out at the start."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        url = f"redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}/0"
        began = time.monotonic()
        client = await make_client(cache_url=url, cache_timeout="0.2", cache_connect_timeout="0.6")
        assert time.monotonic() - began >= 0.6
        assert (await ready(client))["status"] == "degraded"
        await client.close()


# Where it is


async def test_by_a_socket_of_the_file_system(make_client: MakeClient, start_redis: StartRedis) -> None:
    # A socket's path has 108 characters at most.
    with tempfile.TemporaryDirectory(prefix="referral-redis-") as folder:
        redis = start_redis("--unixsocket", f"{folder}/my redis.sock", "--requirepass", "a-secret")
        client = await make_client(cache_url=f"unix://:a-secret@{folder}/my%20redis.sock?db=1", cache_timeout="5")
        code = await (await Person.register(client, "alice")).make_code()
        assert (await Person(client, "").get(f"/codes/{code}")).status == 200
        async with aioredis.Redis(unix_socket_path=f"{folder}/my redis.sock", db=1, password="a-secret") as inside:
            assert await inside.keys("referral:code:*") == [f"referral:code:{code}".encode()]
        assert (await ready(client))["status"] == "ok"
        wrong = await make_client(cache_url=f"unix://:wrong@{folder}/my%20redis.sock", cache_timeout="5")
        assert (await ready(wrong))["details"] == {
            "cache": "cache.url leads to a Redis that refuses its user and password, or wants some"
        }
        redis.kill()


async def test_by_tls_with_a_certificate_of_the_client(
    make_redis: MakeRedis, start_redis: StartRedis, certificate: Certificate
) -> None:
    port = free_port()
    redis = start_redis(*by_tls(certificate, port, clients="yes"))
    url = f"rediss://127.0.0.1:{port}/0?ca={certificate.file}"
    for options, let_in in (("", False), (f"&cert={certificate.file}&key={certificate.key}", True)):
        client = make_redis(url + options)
        await client.open()
        assert client.is_out == (not let_in)
        assert await answer_of(client) == (await run_id(redis) if let_in else None)


# What is refused


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
def test_a_start_with_the_wrong_kind_of_server_ends_in_one_line_and_migrates_nothing(
    tmp_path: Path, start_redis: StartRedis, kind: str, workers: str
) -> None:
    with contextlib.ExitStack() as stack:
        if kind == "cluster":
            port, line = start_redis("--cluster-enabled", "yes").port, CLUSTER.replace("cache.url", "cache.url:")
        else:
            port = stack.enter_context(RedisSentinel(1)).sentinels[0].port
            line = "cache.url: leads to a Sentinel: write redis+sentinel://host:26379/MASTER/0"
        settings = {"REFERRAL_CACHE_URL": f"redis://127.0.0.1:{port}/0", "REFERRAL_SERVER_WORKERS": workers}
        environ = {"PATH": os.environ["PATH"], "REFERRAL_SERVER_PORT": "0", **settings}
        ended = subprocess.run(run_py(tmp_path), cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr == f"run.py: {line} (read from the settings)\n"
    assert ended.stdout == ""
    assert not (tmp_path / "var" / "referral.db").exists()


def test_settings_that_lead_to_a_cluster_are_not_taken_over(tmp_path: Path, start_redis: StartRedis) -> None:
    (tmp_path / "settings.toml").write_text('[cache]\nurl = "none://"\n')
    service = Service(tmp_path)
    try:
        service.settings.write_text(f'[cache]\nurl = "{start_redis("--cluster-enabled", "yes").url}"\n')
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the settings stay as they were: cache.url: leads to a Redis Cluster" in service.log())
        wait_until(lambda: len(service.workers()) == 2)
        assert service.connect().call("GET", "/health/ready")[1]["status"] == "ok"
    finally:
        assert service.end() == 0


async def test_a_cluster_that_turns_up_later_counts_as_out_and_readiness_says_so(
    make_client: MakeClient, start_redis: StartRedis, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    redis = start_redis("--cluster-enabled", "yes")
    redis.kill()
    client = await make_client(cache_url=redis.url, cache_timeout="5")
    assert "details" not in await ready(client)
    redis.start()
    await eventually(lambda: _details(client))
    for name in ("alice", "bob", "carol"):
        assert await ready(client) == {
            "status": "degraded",
            "checks": {"database": "ok", "cache": "unavailable"},
            "details": {"cache": CLUSTER},
        }
        code = await (await Person.register(client, name)).make_code()
        assert (await Person(client, "").get(f"/codes/{code}")).status == 200
        await asyncio.sleep(0.6)
    assert caplog.text.count(CLUSTER) == 1
    # The same address, and a Redis that can be used.
    redis.kill()
    redis.options = ()
    (redis.folder / "nodes.conf").unlink()
    redis.start()
    await eventually(lambda: _is_ok(client))
    assert "details" not in await ready(client)


async def _details(client: Client) -> Any:
    return (await ready(client)).get("details")


async def _is_ok(client: Client) -> bool:
    return bool((await ready(client))["status"] == "ok")


# What its user may do


def allow(redis: RedisServer, rights: str) -> str:
    """The URL of a user who may do just that."""
    with redis_py.Redis(port=redis.port) as inside:
        inside.execute_command("ACL", "SETUSER", "referral", "reset", "on", ">a-secret", *rights.split())
    return f"redis://referral:a-secret@127.0.0.1:{redis.port}/0"


async def test_the_documented_rights_suffice_for_everything(
    make_client: MakeClient, start_redis: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    redis = start_redis()
    url = allow(redis, REDIS_RIGHTS)
    settings = {"cache_timeout": "5", "limits_enabled": "true", "codes_public_lookup": "true"}
    client = await make_client(cache_url=url, **settings)
    alice = await Person.register(client, "alice")
    code, nobody = await alice.make_code(), Person(client, "")
    for _ in range(2):
        assert (await nobody.get(f"/codes/{code}")).status == 200
        assert (await nobody.get("/codes/by-email", params={"email": alice.email})).status == 200
    assert (await alice.sign_in("a wrong one")).status == 400
    assert (await alice.sign_in()).status == 200
    assert (await alice.get("/users/me")).status == 200
    assert (await alice.delete("/codes/current")).status == 204
    assert (await nobody.get(f"/codes/{code}")).status == 404
    other = Person(client, alice.email, tokens=alice.tokens)
    assert (await alice.call("POST", "/auth/revoke", data={"token": alice.tokens["refresh_token"]})).status == 200
    assert (await other.get("/users/me")).status == 401
    assert (await ready(client))["status"] == "ok"
    async with aioredis.Redis.from_url(redis.url, decode_responses=True) as inside:
        assert await inside.acl_log() == []
        keys = map(str, await inside.keys("*"))
        assert {key.split(":")[1] for key in keys} >= {"email", "limit"}
    assert "Redis" not in caplog.text


COMMANDS = re.findall(r"\+(\w+)", REDIS_RIGHTS)


@pytest.mark.parametrize("command", COMMANDS)
async def test_each_of_the_rights_is_needed_and_its_lack_is_told(
    make_client: MakeClient, start_redis: StartRedis, caplog: pytest.LogCaptureFixture, command: str
) -> None:
    client = await make_client(
        cache_url=allow(start_redis(), re.sub(rf" \+{command}\b", "", REDIS_RIGHTS)), cache_timeout="5"
    )
    told = f"cache.url leads to a Redis that does not allow its user the command {command.upper()}"
    for name in ("alice", "bob"):
        assert (await ready(client))["details"] == {"cache": told}
        code = await (await Person.register(client, name)).make_code()
        assert (await Person(client, "").get(f"/codes/{code}")).status == 200
    assert caplog.text.count(told) == 1


async def test_a_right_that_is_given_later_is_found(
    make_redis: MakeRedis, start_redis: StartRedis, eventually: Eventually
) -> None:
    redis = start_redis()
    client = make_redis(allow(redis, REDIS_RIGHTS.replace(" +info", "")))
    await client.open()
    assert client.trouble
    allow(redis, REDIS_RIGHTS)
    assert await eventually(lambda: answer_of(client)) == await run_id(redis)
    assert client.trouble is None


async def test_keys_that_are_not_allowed_make_no_circuit_flap(
    make_redis: MakeRedis, start_redis: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """A probe finds such a Redis well."""
    redis = start_redis()
    client = make_redis(allow(redis, REDIS_RIGHTS.replace("referral:*", "referral:probe")))
    await client.open()
    assert not client.is_out
    for _ in range(10):
        assert await client.ask("GET", "referral:any") is None
        await asyncio.sleep(0.1)
    assert client.trouble == "cache.url leads to a Redis that does not allow its user the keys referral:*"
    assert caplog.text.count("Redis is out") == 1
    assert "Redis is back" not in caplog.text
