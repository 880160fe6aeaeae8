"""One connection to Redis for the whole process, and whether Redis is out.

What is asked while an answer is under way goes out together when it has come, in one piece. Under load, that made
look-ups two and a half times as many as a round trip of redis-py's for each command did.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

from hiredis import pack_command
from redis import asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from referral.metrics import Metrics

T = TypeVar("T")

log = logging.getLogger(__name__)

# Seconds. What Redis does takes well under a millisecond: one that needs longer than this is as good as out.
TIMEOUT = 0.05
# Turns of the event loop from the arrival of an answer to its reader.
LATE_TURNS = 4
# While Redis is out nobody waits for it; it is asked this often whether it is back.
PROBE_INTERVAL = 0.5
# Commands that go out together at most: packing and reading them takes the event loop a few milliseconds.
BATCH = 200
# A write, and by a script, as all that matters is: a full or read-only Redis is out, too.
PROBE = ("EVAL", "return redis.call('SET', KEYS[1], '', 'PX', ARGV[1])", 1, "referral:probe", 1_000)


class Reply(NamedTuple):
    """What Redis answered, and the process that did: another run id is another Redis, or the same after a restart."""

    run_id: str
    value: Any


# What was asked of Redis, and will be answered.
Question = asyncio.Future[Reply | None]


class RedisClient:
    """`redis://user:password@host:port/db`; `rediss:` through TLS, with `?ca=FILE` for an authority of one's own."""

    def __init__(self, url: str, metrics: Metrics) -> None:
        self._failure = metrics.cache.labels("failure").inc
        self._waiting: list[tuple[tuple[Any, ...], Question]] = []
        self._sending: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._connection: Any = None
        self._closed = False
        address, _, authority = url.partition("?ca=")
        options = {"ssl_ca_certs": unquote(authority)} if authority else {}
        # Never used as a pool: it knows what a URL means, and makes connections.
        self._pool: Any = aioredis.ConnectionPool.from_url(
            address,
            **options,
            socket_timeout=None,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            # Version 2 needs no greeting.
            protocol=2,
            driver_info=None,
            redis_connect_func=_on_connect,
        )

    @property
    def is_out(self) -> bool:
        return self._probe is not None

    def ask(self, *command: Any) -> Question:
        """Ask, and the answer to be awaited; None when Redis is out or fails, which never is the caller's failure."""
        answer: Question = asyncio.get_running_loop().create_future()
        if self.is_out or self._closed:
            answer.set_result(None)
            return answer
        self._waiting.append((command, answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return answer

    async def healthy(self) -> bool:
        return await self.ask(*PROBE) is not None

    async def close(self) -> None:
        self._closed = True
        for task in (self._probe, self._sending):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await self._disconnect()

    async def _send(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            replies: Sequence[Reply] = ()
            try:
                if not self.is_out:
                    replies = await _in_time(self._exchange([command for command, _ in batch]))
            except Exception as error:
                # Whatever it is: of a server that is not even a Redis, anything may be expected.
                self._lost(error)
            finally:
                for (_, answer), reply in zip_longest(batch, replies):
                    if not answer.done():
                        answer.set_result(reply)
        self._sending = None

    async def _exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Reply]:
        """Redis's answers. Raises what becomes of the connection, or a refusal; either ends the connection, and what was
        done of the rest is not known."""
        try:
            connection = await self._connected()
            await connection.send_packed_command(b"".join(map(pack_command, commands)), check_health=False)
            return [Reply(connection.run_id, await connection.read_response()) for _ in commands]
        except BaseException:
            await self._disconnect()
            raise

    async def _connected(self) -> Any:
        if self._connection is not None:
            # A server may have ended a connection that was idle, or have been restarted, and be in the best of health.
            try:
                is_lost = await self._connection.can_read()
            except RedisError:
                is_lost = True
            if is_lost:
                await self._disconnect()
        if self._connection is None:
            connection = self._pool.make_connection()
            await connection.connect()
            self._connection = connection
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                await connection.disconnect(nowait=True)

    def _lost(self, error: Exception) -> None:
        self._failure()
        log.warning("Redis is out, the database answers: %s: %s", type(error).__name__, error)
        self._probe = asyncio.create_task(self._watch_for_return())

    async def _watch_for_return(self) -> None:
        # At once for the first time: it may have been a hiccup.
        while True:
            try:
                await _in_time(self._exchange([PROBE]))
            except Exception as error:
                log.debug("Redis is still out: %s: %s", type(error).__name__, error)
                await asyncio.sleep(PROBE_INTERVAL)
            else:
                break
        log.warning("Redis is back")
        self._probe = None


async def _on_connect(connection: Any) -> None:
    """Greet, and learn which process answers: before any command on a connection, its run id is known."""
    connection.run_id = None
    await connection.on_connect_check_health(check_health=False)
    await connection.send_command("INFO", "server", check_health=False)
    facts = await connection.read_response()
    words = facts.decode().partition("run_id:")[2].split() if isinstance(facts, bytes) else []
    if not words:
        raise RedisConnectionError("the server does not tell its run_id")
    connection.run_id = words[0]


async def _in_time(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. Raises TimeoutError, and ends it, after TIMEOUT seconds.

    Unlike asyncio.timeout it does not take a busy event loop for a late answer: what has arrived by then is read.
    """
    task = asyncio.create_task(work)
    # Fetched in any case: what fails while nobody waits for it any more is no news.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        await asyncio.wait([task], timeout=TIMEOUT)
        for _ in range(LATE_TURNS):
            if not task.done():
                await asyncio.sleep(0)
        if not task.done():
            raise TimeoutError(f"no answer within {TIMEOUT * 1000:.0f} ms")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
