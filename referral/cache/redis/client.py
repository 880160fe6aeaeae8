"""One connection to Redis for the whole process, with a circuit breaker.

The client pipelines: commands that arrive while an answer is under way go out together when it has come. Under load, that
made two and a half times as many look-ups as redis-py did with one round trip for each command. While Redis is out the
circuit is open: nobody waits for it, and a probe finds out when it is back.
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
from redis.exceptions import RedisError, ResponseError

from referral.metrics import Metrics

T = TypeVar("T")

log = logging.getLogger(__name__)

# Seconds for an answer. Redis needs well under a millisecond: one that takes longer than this is as good as out.
TIMEOUT = 0.05
# Iterations of the event loop that an answer which has arrived takes to reach its reader.
LATE_TURNS = 4
# Seconds between two probes while the circuit is open.
PROBE_INTERVAL = 0.5
# Commands that are pipelined at most: packing and reading them takes the event loop a few milliseconds.
BATCH = 200
# Lua: the text under a key; false where there is none, or something else that somebody wrote there.
TEXT_OF = """
local function text_of(key)
    local held = redis.pcall('GET', key)
    return type(held) == 'string' and held
end
"""
# Reads a key as GET does. A replica refuses it, because it could set the key's end: whatever was answered was the master's.
READ = ("GETEX",)
# The probe writes, by a script, as everything that matters does: a full or read-only Redis counts as out, too.
PROBE = ("EVAL", "return redis.call('SET', KEYS[1], '', 'PX', ARGV[1])", 1, "referral:probe", 1_000)


class Reply(NamedTuple):
    """What Redis answered, and the process that did: another run id is another Redis, or the same after a restart."""

    run_id: str
    value: Any


# The answer to a command, to be awaited.
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
        # Whether the connection leads to where nobody should ask any more.
        self._is_left = False
        self._stranger_reported = False
        address, _, authority = url.partition("?ca=")
        options = {"ssl_ca_certs": unquote(authority)} if authority else {}
        # The pool only parses the URL and makes connections; nothing is ever pooled.
        self._pool: Any = aioredis.ConnectionPool.from_url(
            address,
            **options,
            socket_timeout=None,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            # Version 2 of the protocol needs no greeting.
            protocol=2,
            driver_info=None,
            redis_connect_func=_on_connect,
        )

    @property
    def is_out(self) -> bool:
        return self._probe is not None

    def ask(self, *command: Any) -> Question:
        """Send a command, and return its answer to be awaited. The answer is None when Redis is out or fails: that is never
        the caller's failure."""
        answer: Question = asyncio.get_running_loop().create_future()
        if self.is_out or self._closed:
            answer.set_result(None)
            return answer
        self._waiting.append((command, answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return answer

    def reconnect(self) -> None:
        """Ask what is asked from now on over a new connection."""
        self._is_left = True

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
                # A server that is not even a Redis may cause any error.
                self._lost(error)
            finally:
                for (_, answer), reply in zip_longest(batch, replies):
                    if not answer.done():
                        answer.set_result(reply)
        self._sending = None

    async def _exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Reply]:
        """Send the commands and return Redis's answers. Raises whatever breaks the connection, or a refusal; both end the
        connection, and nobody knows which of the commands were executed."""
        try:
            connection = await self._connected()
            await connection.send_packed_command(b"".join(map(pack_command, commands)), check_health=False)
            return [Reply(connection.run_id, await self._answer_of(connection)) for _ in commands]
        except BaseException:
            await self._disconnect()
            raise

    async def _answer_of(self, connection: Any) -> Any:
        try:
            return await connection.read_response()
        except ResponseError as error:
            # Somebody else wrote a list, say, under this key. Redis itself is well, and the next write mends the key.
            if not str(error).startswith("WRONGTYPE"):
                raise
            self.report_stranger(str(error))
            return None

    def report_stranger(self, what: str) -> None:
        """Log that Redis holds something that no service wrote; once, because it may be asked for all the time."""
        if not self._stranger_reported:
            self._stranger_reported = True
            log.warning("Redis holds what this service did not write, which counts as nothing: %s", what)

    async def _connected(self) -> Any:
        if self._connection is not None:
            # A healthy server may have ended an idle connection, or have been restarted.
            try:
                is_lost = self._is_left or await self._connection.can_read()
            except RedisError:
                is_lost = True
            if is_lost:
                await self._disconnect()
        if self._connection is None:
            connection = self._pool.make_connection()
            await connection.connect()
            self._connection, self._is_left = connection, False
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
        # The first probe goes out at once: it may have been a hiccup.
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
    """Greet the server and learn which process answers, so that the run id of a connection is known before any command."""
    connection.run_id = None
    await connection.on_connect_check_health(check_health=False)
    await connection.send_command("INFO", "server", check_health=False)
    facts = await connection.read_response()
    words = facts.decode().partition("run_id:")[2].split() if isinstance(facts, bytes) else []
    if not words:
        raise RedisConnectionError("the server does not tell its run_id")
    connection.run_id = words[0]


async def _in_time(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. Raises TimeoutError after TIMEOUT seconds and cancels it.

    Unlike asyncio.timeout, this does not take a busy event loop for a late answer: what has arrived by then is read.
    """
    task = asyncio.create_task(work)
    # The error is always fetched: asyncio would log one that nobody waits for any more.
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
