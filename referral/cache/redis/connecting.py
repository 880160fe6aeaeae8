"""How a connection to Redis comes about: by TCP, TLS or a socket of the file system, or by asking Sentinels for the master.

A connection is greeted before it is used: it learns which process answers (its run id), and that this is a server which can
be used. A replica is none, wherever it was found: its master would be told of changes that it shows late.
"""

import asyncio
import re
from typing import Any

from redis import asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ClusterCrossSlotError,
    MovedError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from referral.cache.redis.sentinels import Sentinels
from referral.config.redis_url import RedisAddress

_OPTIONS: dict[str, Any] = {
    "socket_timeout": None,
    "socket_connect_timeout": None,
    "retry": Retry(NoBackoff(), 0),
    # Version 2 of the protocol needs no greeting.
    "protocol": 2,
    "driver_info": None,
}

_REFUSED_SCRIPT = re.compile(r"executing the script can't|ACL failure in script")
# As Redis names it, or the probe of the client.
_REFUSED_COMMAND = re.compile(r"the '([\w|]+)' command|\((\w+)\)$")


class Unfit(RedisError):
    """What answers cannot be used. The text, which follows the word `cache.url`, may be shown to anybody."""


class WrongServer(Unfit):
    """What answers is no server of the kind that `cache.url` names, and will not become one by itself."""


class _UnixConnection(aioredis.UnixDomainSocketConnection):
    async def _connect(self) -> None:
        # redis-py's own would greet the server here already, and hide its refusals.
        self._reader, self._writer = await asyncio.open_unix_connection(path=self.path)


class Connector:
    """Makes greeted connections to the Redis of an address. Nothing here has an end in time: the caller sees to that."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        # Made once, because it reads files.
        self._tls = address.tls_context()
        self._sentinels = None
        if address.master:
            self._sentinels = Sentinels(address.master, [self._to_sentinel(host, port) for host, port in address.hosts])

    async def connect(self) -> Any:
        """A connection to Redis, which knows its `run_id`. Raises Unfit, any other RedisError or an OSError."""
        address = self._address
        place = {"db": address.database, "username": address.username, "password": address.password}
        if address.socket:
            connection: Any = _UnixConnection(path=address.socket, **place, **_OPTIONS, redis_connect_func=_greet)
        else:
            host, port = await self._sentinels.master() if self._sentinels else address.hosts[0]
            connection = self._connection(host, port, **place, redis_connect_func=_greet)
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def leads_to(self, connection: Any) -> bool:
        """Whether the Sentinels, if there are any, name the master to which this connection leads. Raises as `connect`
        does."""
        return self._sentinels is None or await self._sentinels.master() == (connection.host, connection.port)

    async def close(self) -> None:
        if self._sentinels is not None:
            await self._sentinels.close()

    def _to_sentinel(self, host: str, port: int) -> Any:
        address = self._address
        return self._connection(host, port, username=address.sentinel_username, password=address.sentinel_password)

    def _connection(self, host: str, port: int, **options: Any) -> Any:
        options = {"host": host, "port": port, **options, **_OPTIONS}
        if self._tls is None:
            return aioredis.Connection(**options)
        connection = aioredis.SSLConnection(**options)
        connection.ssl_context.context = self._tls
        return connection


async def _greet(connection: Any) -> None:
    """Learn which process answers, so that the run id of a connection is known before any command. Raises Unfit."""
    try:
        await connection.on_connect_check_health(check_health=False)
        # One round trip; several sections in one INFO are for Redis 7.
        for section in ("server", "replication"):
            await connection.send_command("INFO", section, check_health=False)
        facts = [await connection.read_response() for _ in range(2)]
    except AuthenticationError:
        raise Unfit("leads to a Redis that refuses its user and password, or wants some") from None
    except NoPermissionError as error:
        # INFO tells one Redis from another, for which there is no other way.
        raise Unfit(refusal_in(error)) from None
    told = _told_by(*facts)
    if told.get("redis_mode") == "cluster":
        raise WrongServer("leads to a Redis Cluster, which cannot run the service's scripts: use a Redis with one master")
    if told.get("redis_mode") == "sentinel":
        raise WrongServer("leads to a Sentinel: write redis+sentinel://host:26379/MASTER/0")
    if "run_id" not in told:
        raise RedisConnectionError("the server does not tell its run_id")
    if told.get("role") == "slave":
        raise Unfit("leads to a replica, which shows changes late")
    # A master that was a replica in between has the same run id, and what it got from the other one.
    connection.run_id = told["run_id"][:20] + told.get("master_replid", "")[:20]


def is_same(connection: Any, replication: Any) -> bool:
    """Whether this connection's Redis has been master all the time, as its INFO replication says."""
    told = _told_by(replication)
    return told.get("role") == "master" and str(connection.run_id).endswith(told.get("master_replid", "")[:20])


def _told_by(*facts: Any) -> dict[str, str]:
    text = "\n".join(fact.decode(errors="replace") for fact in facts if isinstance(fact, bytes))
    return dict(re.findall(r"^(\w+):(\S+)", text, re.MULTILINE))


def refusal_in(error: Exception) -> str | None:
    """What the error says about how Redis is set up, which waiting does not change; None if it is of another kind. The text
    is as Unfit's."""
    if isinstance(error, Unfit):
        return str(error)
    if isinstance(error, (MovedError, ClusterCrossSlotError)):
        return "leads to a part of a Redis Cluster"
    # In a script, Redis calls a right that is missing an error like any other.
    if isinstance(error, NoPermissionError) or (isinstance(error, ResponseError) and _REFUSED_SCRIPT.search(str(error))):
        command = _REFUSED_COMMAND.search(str(error))
        return "leads to a Redis that does not allow its user " + (
            f"the command {(command[1] or command[2]).upper()}" if command else "the keys referral:*"
        )
    return None


async def find_wrong_server(address: RedisAddress, seconds: float) -> str | None:
    """What is wrong with the kind of server that the address leads to. None if nothing is, or if that cannot be found out in
    so many seconds: a Redis that is out now is used once it is back."""
    connector = Connector(address)
    try:
        async with asyncio.timeout(seconds):
            connection = await connector.connect()
        await connection.disconnect(nowait=True)
    except WrongServer as error:
        return str(error)
    except (RedisError, OSError, TimeoutError):
        pass
    finally:
        await connector.close()
    return None
