"""Reads from a streaming standby, which are never older than the moment they are asked for.

The primary says how far its log is flushed, and the standby is read from once it has replayed that far; a moment later the
primary is read from instead. What the caller has just written is thus always seen. A circuit breaker keeps a standby that
lags, hangs, is gone or is none any more from slowing anybody down: while it is open nobody asks the standby but a probe.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import asyncpg

from referral.database import DatabaseUnavailable

# Seconds that a read waits for a connection to the standby, and for what is already written to arrive there.
ACQUIRE_TIMEOUT = 0.25
REPLAY_TIMEOUT = 0.1
FIRST_PAUSE = 0.002
# Seconds between two probes while the circuit is open.
PROBE_PAUSE = 1.0

# No row of a server that is a standby itself. The first eight digits of a log file's name are its timeline.
WRITTEN = """
SELECT pg_current_wal_flush_lsn()::text, left(pg_walfile_name(pg_current_wal_flush_lsn()), 8),
    (SELECT system_identifier::text FROM pg_control_system())
WHERE NOT pg_is_in_recovery()
"""
# A standby of another timeline, or of another cluster, counts otherwise.
REPLAYED = """
SELECT pg_is_in_recovery() AND lpad(upper(to_hex(c.timeline_id)), 8, '0') = cast($2 AS text)
        AND s.system_identifier::text = cast($3 AS text),
    coalesce(pg_last_wal_replay_lsn() >= cast(cast($1 AS text) AS pg_lsn), false)
FROM pg_control_checkpoint() c, pg_control_system() s
"""

FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, DatabaseUnavailable, OSError)

log = logging.getLogger(__name__)

Acquired = Callable[[], AbstractAsyncContextManager[Any]]


class Standby:
    """The standby of `database.replica_url`. `acquired` gives connections to it; `written` says what WRITTEN does, None of a
    server that is no primary, and raises DatabaseUnavailable."""

    def __init__(self, acquired: Acquired, written: Callable[[], Awaitable[tuple[str, str, str] | None]]) -> None:
        self._acquired = acquired
        self._written = written
        self._is_usable = False
        self._is_told = False
        self._probing: asyncio.Task[None] | None = asyncio.create_task(self._probe(0.0))

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection to the standby, once it has everything that is written now; None where the primary is to be asked.
        Raises DatabaseUnavailable when the primary is out."""
        async with AsyncExitStack() as stack:
            raw = await self._caught_up(stack) if self._is_usable else None
            if raw is None:
                await stack.aclose()
            yield raw

    def failed(self, error: Exception | str) -> None:
        """Open the circuit: nobody asks the standby until a probe has found it as it should be."""
        if not self._is_told:
            log.warning("the standby is not read from: %s", str(error) or type(error).__name__)
        self._is_usable, self._is_told = False, True
        if self._probing is None:
            # Not at once: whoever makes a read again that the standby has ended finds the circuit open.
            self._probing = asyncio.create_task(self._probe(PROBE_PAUSE))

    async def close(self) -> None:
        """End the probe, if there is one."""
        self._is_usable = False
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])

    async def _caught_up(self, stack: AsyncExitStack) -> Any:
        written = await self._written()
        if written is None:
            return None
        try:
            async with asyncio.timeout(ACQUIRE_TIMEOUT):
                raw = await stack.enter_async_context(self._acquired())
        except FAILURES as error:
            self.failed(error)
            return None
        return raw if await self._has(raw, written) else None

    async def _has(self, raw: Any, written: tuple[str, str, str]) -> bool:
        """Whether the standby has what is written, or gets it soon."""
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + REPLAY_TIMEOUT, FIRST_PAUSE
        try:
            while True:
                left = max(end - loop.time(), FIRST_PAUSE)
                is_its_standby, has = await raw.fetchrow(REPLAYED, *written, timeout=left)
                if not is_its_standby:
                    self.failed("it is none of this primary's")
                    return False
                if has:
                    return True
                if loop.time() + pause > end:
                    self.failed(f"it is more than {REPLAY_TIMEOUT:.1f} s behind")
                    return False
                await asyncio.sleep(pause)
                pause *= 2
        except FAILURES as error:
            # One that hangs would not hear, either, that it is to give up.
            with suppress(asyncpg.InterfaceError):
                raw.terminate()
            self.failed(error)
            return False

    async def _probe(self, pause: float) -> None:
        while True:
            await asyncio.sleep(pause)
            if await self._is_as_it_should_be():
                break
            pause = PROBE_PAUSE
        self._is_usable, self._is_told, self._probing = True, False, None
        log.info("the standby is read from")

    async def _is_as_it_should_be(self) -> bool:
        try:
            written = await self._written()
            if written is None:
                return False
            async with self._acquired() as raw:
                return await self._has(raw, written)
        except FAILURES as error:
            self.failed(error)
            return False
