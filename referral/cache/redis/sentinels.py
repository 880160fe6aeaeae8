"""The discovery of a master by Redis Sentinel.

redis-py's own asks one Sentinel after the other and believes the first that answers: one that hangs costs its whole timeout
each time, and one that is cut off from the others names the former master. Here all are asked at once, and of a majority's
answers the one of the latest fail-over counts.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from hiredis import pack_command
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

# Seconds that the first answers wait for those which make them a majority.
MAJORITY_WAIT = 0.2


class _Answer(NamedTuple):
    """What a Sentinel says of the master. Each fail-over has a greater epoch, on which the Sentinels agreed."""

    config_epoch: int
    host: str
    port: int


class Sentinels:
    """The Sentinels that watch one master, over a kept connection to each."""

    def __init__(self, master: str, connections: Sequence[Any]) -> None:
        self._connections = connections
        # The first command names the promoted replica while a fail-over is still under way, the second its epoch.
        question: tuple[tuple[Any, ...], ...] = (
            ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master),
            ("SENTINEL", "MASTER", master),
        )
        self._question = b"".join(map(pack_command, question))
        # Of two that ask at once, each would read the other's answers.
        self._lock = asyncio.Lock()

    async def master(self) -> tuple[str, int]:
        """The host and the port of the master. Raises RedisError when no Sentinel names one; waits for as long as none
        answers."""
        async with self._lock:
            pending = {asyncio.create_task(self._ask(connection)) for connection in self._connections}
            answers: list[_Answer] = []
            problem: BaseException = RedisConnectionError("no Sentinel answers")
            try:
                while pending and len(answers) <= len(self._connections) // 2:
                    wait = MAJORITY_WAIT if answers else None
                    done, pending = await asyncio.wait(pending, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                    if not done:
                        break
                    for task in done:
                        error = task.exception()
                        if error is None:
                            answers.append(task.result())
                        else:
                            problem = error
            finally:
                for task in pending:
                    task.cancel()
                if pending:
                    await asyncio.wait(pending)
        if not answers:
            raise RedisConnectionError(f"no Sentinel names a master: {problem}") from problem
        latest = max(answers)
        return latest.host, latest.port

    async def close(self) -> None:
        for connection in self._connections:
            await connection.disconnect(nowait=True)

    async def _ask(self, connection: Any) -> _Answer:
        """Raises RedisError or OSError."""
        if connection.is_connected:
            try:
                return await self._exchange(connection)
            except (RedisError, OSError):
                # The Sentinel may have been restarted since it was asked last.
                pass
        return await self._exchange(connection)

    async def _exchange(self, connection: Any) -> _Answer:
        try:
            await connection.connect()
            await connection.send_packed_command(self._question, check_health=False)
            address = await connection.read_response()
            facts = await connection.read_response()
            told = dict(zip(facts[::2], facts[1::2], strict=False))
            return _Answer(int(told[b"config-epoch"]), address[0].decode(), int(address[1]))
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, (TypeError, ValueError, LookupError)):
                raise RedisConnectionError("what answers is no Sentinel") from error
            raise
