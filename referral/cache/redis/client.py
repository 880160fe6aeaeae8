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

from hiredis import pack_command
from redis.exceptions import RedisError, ResponseError

from referral.cache.redis.connecting import Connector, Unfit, is_same, refusal_in
from referral.config.redis_url import parse_redis_url
from referral.metrics import Metrics

T = TypeVar("T")

log = logging.getLogger(__name__)

# Iterations of the event loop that an answer which has arrived takes to reach its reader.
LATE_TURNS = 4
# Seconds between two probes while the circuit is open.
PROBE_INTERVAL = 0.5
# Seconds for which the circuit stays open after a refusal because of how Redis is set up: a probe may find Redis well.
REFUSED_PAUSE = 30.0
# Seconds between two looks at whether the connection leads to the same master as before, whom the Sentinels name.
FOLLOW_INTERVAL = 1.0
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
# The same for scripts that only read. Others are refused by a replica anyway, and must not be taken for such as have written
# already, which a full Redis goes on with.
READ_TEXT_OF = TEXT_OF.replace("'GET'", "'GETEX'")
# The probe does what everything that matters does, by a script and with each of the commands of all scripts: a full or
# read-only Redis counts as out, too, and one that does not allow a command says which.
PROBE_SCRIPT = """
local key = KEYS[1]
for _, command in ipairs({
    {'SET', key, '0', 'PX', ARGV[1]}, {'GET', key}, {'GETEX', key}, {'INCRBY', key, '1'}, {'EXPIRE', key, '1'},
    {'PTTL', key}, {'PEXPIREAT', key, '1'}, {'DEL', key}, {'TIME'}
}) do
    local answer = redis.pcall(unpack(command))
    if type(answer) == 'table' and answer.err then
        return redis.error_reply(answer.err .. ' (' .. command[1] .. ')')
    end
end
"""
PROBE = ("EVAL", PROBE_SCRIPT, 1, "referral:probe", 1_000)


class Reply(NamedTuple):
    """What Redis answered, and who did: another `run_id` is another Redis, or the same after a restart or after it was
    somebody's replica."""

    run_id: str
    value: Any


# The answer to a command, to be awaited.
Question = asyncio.Future[Reply | None]


class RedisClient:
    """The connection to the Redis of `cache.url`, which is made anew, in the background, whenever it is lost.

    `timeout` is in seconds, for an answer: Redis needs well under a millisecond, and nobody waits longer for a connection
    either. `connect_timeout` is for making one, through TLS and by Sentinels; until it is there Redis counts as out.
    """

    def __init__(self, url: str, metrics: Metrics, timeout: float = 0.05, connect_timeout: float = 1.0) -> None:
        self.timeout = timeout
        self.connect_timeout = connect_timeout
        # Why Redis cannot be used, if it has said so; anybody may be told.
        self.trouble: str | None = None
        self._failure = metrics.cache.labels("failure").inc
        self._connector = Connector(parse_redis_url(url))
        self._waiting: list[tuple[tuple[Any, ...], Question]] = []
        self._sending: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._connecting: asyncio.Task[Any] | None = None
        self._following: asyncio.Task[None] | None = None
        self._connection: Any = None
        self._closed = False
        self._stranger_reported = False
        self._told: set[str] = set()

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

    async def open(self) -> None:
        """Connect, that the first to ask need not wait. A Redis that is out is used once it is back."""
        try:
            await self._knock()
        except Exception as error:
            self._lost(error)

    def reconnect(self) -> None:
        """Ask what is asked from now on over a new connection."""
        if self._connection is not None:
            self._connection.is_left = True

    async def close(self) -> None:
        self._closed = True
        for task in (self._following, self._probe, self._sending, self._connecting):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await self._disconnect()
        await self._connector.close()

    async def _send(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            replies: Sequence[Reply] = ()
            try:
                if not self.is_out:
                    replies = await _in_time(self._exchange([command for command, _ in batch]), self.timeout)
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
                is_lost = self._connection.is_left or await self._connection.can_read()
            except RedisError:
                is_lost = True
            if is_lost:
                await self._disconnect()
        if self._connection is None:
            if self._connecting is None:
                self._connecting = _watched(self._connect())
            # Whoever gives up waiting leaves the connection to the next one.
            await asyncio.shield(self._connecting)
        return self._connection

    async def _connect(self) -> None:
        try:
            self._connection = await _in_time(self._connector.connect(), self.connect_timeout)
            self._connection.is_left = False
        finally:
            self._connecting = None
        if self._following is None:
            self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        """Leave a master that the Sentinels do not name any more, though it goes on answering for a while, and one that was
        somebody's replica meanwhile, though the connection has stayed."""
        while True:
            await asyncio.sleep(FOLLOW_INTERVAL)
            connection = self._connection
            if connection is None or self.is_out:
                continue
            reply = await self.ask("INFO", "replication")
            if reply is not None and reply.run_id == connection.run_id and not is_same(connection, reply.value):
                connection.is_left = True
            try:
                if not await _in_time(self._connector.leads_to(connection), self.connect_timeout):
                    connection.is_left = True
            except Exception as error:
                log.debug("the Sentinels do not answer: %s: %s", type(error).__name__, error)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                await connection.disconnect(nowait=True)

    def _lost(self, error: Exception) -> None:
        self._failure()
        log.warning("Redis is out, the database answers: %s: %s", type(error).__name__, error)
        is_refused = self._note_trouble(error) and not isinstance(error, Unfit)
        # The first probe goes out at once: it may have been a hiccup.
        self._probe = asyncio.create_task(self._watch_for_return(REFUSED_PAUSE if is_refused else 0))

    def _note_trouble(self, error: Exception) -> bool:
        """Whether the error says how Redis is set up; that is logged once."""
        refusal = refusal_in(error)
        if refusal is None:
            return False
        self.trouble = f"cache.url {refusal}"
        if self.trouble not in self._told:
            self._told.add(self.trouble)
            log.error("Redis cannot be used: %s", self.trouble)
        return True

    async def _watch_for_return(self, pause: float) -> None:
        while True:
            await asyncio.sleep(pause)
            try:
                await self._knock()
            except Exception as error:
                log.debug("Redis is still out: %s: %s", type(error).__name__, error)
                self._note_trouble(error)
                pause = PROBE_INTERVAL
            else:
                break
        log.warning("Redis is back")
        self.trouble = None
        self._probe = None

    async def _knock(self) -> None:
        """Raises whatever is wrong with Redis."""
        await self._connected()
        await _in_time(self._exchange([PROBE]), self.timeout)


def _watched(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task whose error is always fetched: asyncio would log one that nobody waits for any more."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


async def _in_time(work: Coroutine[Any, Any, T], timeout: float) -> T:
    """The result of `work`. Raises TimeoutError after so many seconds and cancels it.

    Unlike asyncio.timeout, this does not take a busy event loop for a late answer: what has arrived by then is read.
    """
    task = _watched(work)
    try:
        await asyncio.wait([task], timeout=timeout)
        for _ in range(LATE_TURNS):
            if not task.done():
                await asyncio.sleep(0)
        if not task.done():
            raise TimeoutError(f"no answer within {timeout * 1000:.0f} ms")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
