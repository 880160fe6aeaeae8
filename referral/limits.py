"""The rate limiter: fixed windows by address, by account, by code, in the notation of the `limits` library.

Each endpoint declares which limit its calls count against (`contract/access.py`). The middleware counts them by user or,
for somebody who is not signed in, by address. A limit that depends on what was sent is counted by the handler.

Hits are counted in Redis if there is one, so that all workers count together. Otherwise, and whenever Redis is out, each
process counts for itself: a limit that cannot be shared is better than none, and than no service. The counting is our own,
because the library's storages look at every key at each hit, or make each hit a round trip to Redis.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import fields
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from aiohttp import web
from cachetools import LRUCache
from limits import RateLimitItem, parse

from referral.auth.fair_queue import Asker
from referral.config.addresses import Networks
from referral.config.sections import Limits
from referral.contract.problems import Problem

if TYPE_CHECKING:
    from referral.cache.redis.client import RedisClient

# Windows of a group that this process keeps, the least recently used dropped first: an attack from many addresses must not
# fill the memory. About 5 MB when full.
WINDOWS = 25_000
# How often the audit records that a limit holds one address off.
TOLD = parse("1 per minute")
# Characters of an X-Forwarded-For that is cached: a longer one may be an attempt to fill the memory.
KEPT_HOPS = 200
# As some proxies write an address: 192.0.2.1:5555, [2001:db8::1]:443, [2001:db8::1].
WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}|\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")
# Counts ARGV[2] hits and returns the count, and for how many milliseconds the window is still open. A new window ends in
# ARGV[1] seconds, and so does one that somebody else wrote: without an end, or as no number at all.
HIT = """
local count = redis.pcall('INCRBY', KEYS[1], ARGV[2])
if type(count) == 'table' then
    redis.call('SET', KEYS[1], ARGV[2])
    count = tonumber(ARGV[2])
end
if count == tonumber(ARGV[2]) or redis.call('PTTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return {count, redis.call('PTTL', KEYS[1])}
"""

# Says the same of a window and counts nothing. A count without an end is none: nobody would ever be let in again.
LOOK = """
local held, left = redis.pcall('GET', KEYS[1]), redis.call('PTTL', KEYS[1])
local is_count = left >= 0 and type(held) == 'string' and #held < 16 and string.match(held, '^%d+$')
return {is_count and tonumber(held) or 0, left}
"""

# How many hits a window has had, and when it ends (time.monotonic(): clocks are set back).
Window = tuple[int, float]


# Groups that each process counts by itself: the addresses of those who follow links are kept nowhere else.
LOCAL = frozenset(("redirects_by_address", "clicks_by_address"))


class LocalWindows:
    """Fixed windows in this process."""

    def __init__(self) -> None:
        # A table for each group: a flood of what is counted by address must not push the windows of accounts and mails out.
        self._groups: defaultdict[str, LRUCache[tuple[str, ...], tuple[list[int], float]]] = defaultdict(
            lambda: LRUCache(WINDOWS)
        )

    def hit(self, item: RateLimitItem, key: tuple[str, ...], hits: int = 1) -> Window:
        """Count hits by this key or, with 0 hits, only look."""
        moment, windows = time.monotonic(), self._groups[key[0]]
        try:
            count, ends_at = windows[key]
        except KeyError:
            ends_at = 0.0
        if ends_at <= moment:
            count, ends_at = windows[key] = [0], moment + item.get_expiry()
        count[0] += hits
        return count[0], ends_at


class SharedWindows:
    """Fixed windows in Redis, over the connection that the cache uses, too."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def hit(self, item: RateLimitItem, key: tuple[str, ...], hits: int = 1) -> Window | None:
        """Count hits by this key or, with 0 hits, only look; None while Redis is out."""
        script, name = HIT if hits else LOOK, f"referral:limit:{item.key_for(*key)}"
        reply = await self._redis.ask("EVAL", script, 1, name, item.get_expiry(), hits)
        if reply is None:
            return None
        count, milliseconds = reply.value
        return count, time.monotonic() + milliseconds / 1000


class RateLimiter:
    """Counts hits, in Redis if there is one."""

    def __init__(self, config: Limits, redis: RedisClient | None) -> None:
        self._enabled = config.enabled
        self._items: dict[str, RateLimitItem] = {
            item.name: parse(getattr(config, item.name).replace("/", " per "))
            for item in fields(config)
            if item.name != "enabled"
        } | {"told": TOLD}
        self._shared = SharedWindows(redis) if redis else None
        self._local = LocalWindows()
        # Whose turn it is to guess; a lock lives for as long as somebody holds it or waits for it.
        self._turns: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()

    async def is_first(self, event: str, address: str) -> bool:
        """Whether this is the first such event of the address in a minute, and so worth a word."""
        return await self.allows("told", event, address)

    async def hit(self, group: str, *key: str, hits: int = 1) -> None:
        """Count one hit of the group by this key, or several. Raises a `rate-limited` problem when there were too many."""
        if not self._enabled:
            return
        item, (count, ends_at) = await self._count(group, key, hits)
        if count > item.amount:
            raise _too_many(group, item, ends_at)

    async def allows(self, group: str, *key: str) -> bool:
        """Count one hit of the group by this key, and say whether there were not too many."""
        if not self._enabled:
            return True
        item, (count, _) = await self._count(group, key)
        return count <= item.amount

    async def has_room(self, group: str, *key: str) -> bool:
        """Whether one more hit of the group by this key would not be too many. Counts nothing."""
        try:
            await self.check(group, *key)
        except Problem:
            return False
        return True

    async def check(self, group: str, *key: str) -> None:
        """Raises a `rate-limited` problem when the hits of the group by this key are used up. Counts nothing."""
        if not self._enabled:
            return
        item, (count, ends_at) = await self._count(group, key, hits=0)
        if count >= item.amount:
            raise _too_many(group, item, ends_at)

    @asynccontextmanager
    async def guess(self, group: str, *key: str) -> AsyncIterator[Callable[[], Awaitable[object]]]:
        """The block makes a guess at a secret, and calls what it gets if the guess was wrong: only that is counted.

        Raises as `check` does. Guesses by one key are made one after the other: of many at once, each would be made before
        the first was counted.
        """
        async with self._turns.setdefault((group, *key), asyncio.Lock()) if self._enabled else nullcontext():
            await self.check(group, *key)
            yield lambda: self.allows(group, *key)

    async def _count(self, group: str, key: tuple[str, ...], hits: int = 1) -> tuple[RateLimitItem, Window]:
        item, window = self._items[group], None
        if self._shared and group not in LOCAL:
            window = await self._shared.hit(item, (group, *key), hits)
        # While Redis is out, this process counts.
        return item, window or self._local.hit(item, (group, *key), hits)


def _too_many(group: str, item: RateLimitItem, ends_at: float) -> Problem:
    # Rounded up: whoever waits a second too little is refused again.
    seconds = max(1, math.ceil(ends_at - time.monotonic()))
    return Problem(
        "rate-limited",
        f"Too many requests of this sort; try again in {seconds} seconds.",
        headers={
            "Retry-After": str(seconds),
            # draft-ietf-httpapi-ratelimit-headers-10
            "RateLimit": f'"{group}";r=0;t={seconds}',
            "RateLimit-Policy": f'"{group}";q={item.amount};w={item.get_expiry()}',
        },
    )


def client_address(request: web.BaseRequest, trusted: Networks) -> str:
    """The address that makes the request: the peer or, behind trusted proxies, the last address in X-Forwarded-For that is
    none of theirs.

    An IPv6 client is its /64 network, because the client chooses the rest of its address.
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


@lru_cache(maxsize=10_000)
def network_of(address: str) -> str:
    """The network of a `client_address`, as providers give them out: an IPv4 /24, an IPv6 /48."""
    try:
        found = ipaddress.ip_network(address)
    except ValueError:
        return address
    return str(found.supernet(new_prefix=24 if found.version == 4 else 48))


def asker_of(request: web.Request) -> Asker:
    """Who waits for a password, together with whoever else does in their network, until they hang up."""
    return Asker(network_of(request[ADDRESS]), lambda: request.transport is None)


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    with_port = WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address(with_port[1] or with_port[2] if with_port else text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


LIMITER = web.AppKey("limiter", RateLimiter)
PROXIES: web.AppKey[Networks] = web.AppKey("proxies", tuple)
# Who asks, by `client_address`.
ADDRESS = web.RequestKey("address", str)
