"""A resolver with threads of its own, for names that other people choose."""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

THREADS = 16


class Resolver(AbstractResolver):
    """A bulkhead around getaddrinfo: it takes its threads from a pool of its own, so that a name server that hangs never
    uses up asyncio's default executor, which the rest of the service needs."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="webhooks-resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of the name, in the order of the system. Raises OSError when it has none."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._pool, socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        except UnicodeError:
            raise OSError(f"{host!r} is no host name") from None
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=its_family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for its_family, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Look nothing up any more. What hangs is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
