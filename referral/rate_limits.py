"""Limits of how often something may be asked for, by address, by account, by code: the `limits` library's fixed windows.

A handler's `@docs(limit=...)` says LOOKUP or EXEMPT, or nothing for everything else; the middleware counts it by user or,
for somebody who is not signed in, by address. What is to be counted by what was sent, the handler counts itself.

Counted in Redis when there is one, so that all workers count together; in this process otherwise, and whenever Redis is
out: a limit that cannot be shared is better than none, and than no service.
"""

import ipaddress
import logging
import time
from collections.abc import Iterable
from dataclasses import fields
from functools import lru_cache
from typing import Any

from aiohttp import web
from cachetools import LRUCache
from limits import RateLimitItem, parse
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError

from referral.config import Limits
from referral.problems import Problem

log = logging.getLogger(__name__)

LOOKUP = "lookup"
REQUEST = "request"
# What a probe, a scraper or a reader of the documentation asks for; none of it touches the database for long.
EXEMPT = "exempt"

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

# Windows kept in this process at most, the least recently used forgotten first: an attack from many addresses must not fill
# the memory. About 20 MB when full.
WINDOWS = 100_000
# How often the record of events hears of one address that a limit holds off.
TOLD = parse("1 per minute")
# Characters of an X-Forwarded-For whose address is kept at hand: longer ones are somebody's attempt to fill the memory.
KEPT_HOPS = 200
# Seconds that Redis may take, and that it is left alone after a failure.
TIMEOUT = 0.075
PAUSE = 2.0


class BoundedMemory(Storage):
    """Fixed windows in this process. limits' own memory storage looks at every key at every hit."""

    STORAGE_SCHEME = ["async+bounded"]  # noqa: RUF012 # so declared by the library

    def __init__(self) -> None:
        super().__init__()
        self._windows: LRUCache[str, tuple[int, float]] = LRUCache(WINDOWS)

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        count, end = self._window(key)
        self._windows[key] = (count + amount, end or time.time() + expiry)
        return count + amount

    async def get(self, key: str) -> int:
        return self._window(key)[0]

    async def get_expiry(self, key: str) -> float:
        return self._window(key)[1] or time.time()

    def _window(self, key: str) -> tuple[int, float]:
        count, end = self._windows.get(key, (0, 0.0))
        return (count, end) if end > time.time() else (0, 0.0)

    async def check(self) -> bool:
        return True

    async def reset(self) -> int | None:
        count = len(self._windows)
        self._windows.clear()
        return count

    async def clear(self, key: str) -> None:
        self._windows.pop(key, None)

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError


class RateLimiter:
    """Counts hits; `close()` ends its connections to Redis."""

    def __init__(self, config: Limits, cache_url: str) -> None:
        self._enabled = config.enabled
        self._items: dict[str, RateLimitItem] = {
            item.name: parse(getattr(config, item.name).replace("/", " per "))
            for item in fields(config)
            if item.name != "enabled"
        } | {"told": TOLD}
        self._local = FixedWindowRateLimiter(BoundedMemory())
        self._shared = _shared(cache_url)
        self._shared_again_at = 0.0

    async def is_first(self, event: str, address: str) -> bool:
        """Whether this is the first such event of the address in a minute, and so worth a word."""
        try:
            await self.hit("told", event, address)
        except Problem:
            return False
        return True

    async def hit(self, group: str, *key: str) -> None:
        """Count one hit of the group by this key. Raises a `rate-limited` problem when there were too many."""
        if not self._enabled:
            return None
        item = self._items[group]
        limiter = self._local
        if self._shared is not None and time.monotonic() >= self._shared_again_at:
            limiter = self._shared
        try:
            if await limiter.hit(item, group, *key):
                return None
            ends_at, _ = await limiter.get_window_stats(item, group, *key)
        except StorageError as error:
            log.warning("limits are counted in this process for now: %s", error.storage_error)
            self._shared_again_at = time.monotonic() + PAUSE
            return await self.hit(group, *key)
        seconds = max(1, round(ends_at - time.time()))
        raise Problem(
            "rate-limited",
            f"Too many requests of this sort; try again in {seconds} seconds.",
            headers={
                "Retry-After": str(seconds),
                # draft-ietf-httpapi-ratelimit-headers-10
                "RateLimit": f'"{group}";r=0;t={seconds}',
                "RateLimit-Policy": f'"{group}";q={item.amount};w={item.get_expiry()}',
            },
        )

    async def close(self) -> None:
        if self._shared is not None:
            client: Any = self._shared.storage
            await client.bridge.get_connection().aclose()


def _shared(cache_url: str) -> FixedWindowRateLimiter | None:
    if not cache_url.startswith(("redis:", "rediss:")):
        return None
    from limits.aio.storage import RedisStorage

    from referral.redis_cache import read_address

    address, authority = read_address(cache_url)
    options: dict[str, Any] = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT, **authority}
    return FixedWindowRateLimiter(
        RedisStorage(
            f"async+{address}", wrap_exceptions=True, implementation="redispy", key_prefix="referral:limit", **options
        )
    )


def client_address(request: web.BaseRequest, trusted: Networks) -> str:
    """Who asks: the peer or, behind trusted proxies, the last address in X-Forwarded-For that is none of theirs.

    An IPv6 client is its /64 network: the rest of the address is the client's to choose.
    """
    forwarded = request.headers.getall("X-Forwarded-For", ()) if trusted else ()
    hops = ",".join(forwarded)
    find = _client_address if len(hops) <= KEPT_HOPS else _client_address.__wrapped__
    return find(request.remote or "", hops, trusted)


@lru_cache(maxsize=10_000)
def _client_address(peer: str, forwarded_for: str, trusted: Networks) -> str:
    address = _parsed(peer)
    for hop in reversed(forwarded_for.split(",")):
        forwarded = _parsed(hop.strip())
        if address is None or forwarded is None or not any(address in network for network in trusted):
            break
        address = forwarded
    if address is None:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def networks(texts: Iterable[str]) -> Networks:
    """The networks of `server.trusted_proxies`: addresses or CIDR ranges. Raises ValueError."""
    return tuple(ipaddress.ip_network(text) for text in texts)
