"""The guard of outgoing calls: people choose the URLs, and none of them may lead into the operator's own network (SSRF)."""

import asyncio
import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp import web
from aiohttp.abc import AbstractResolver
from yarl import URL

from referral.webhooks.resolver import Resolver

LONGEST_URL = 2_000
# How long the registration of a URL waits for its name, in seconds.
LONGEST_LOOK_UP = 3.0

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

# The registries of special addresses (RFC 6890), the narrower network first. `is_global` alone is not enough: it is true for
# the networks that hide an IPv4 address in an IPv6 one, and which others it knows depends on the version of Python.
SPECIAL: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), kind)
    for network, kind in (
        ("0.0.0.0/32", "the unspecified address"),
        ("0.0.0.0/8", "a reserved address"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a shared address"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "a documentation address"),
        ("192.88.99.0/24", "a 6to4 address"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "a benchmarking address"),
        ("198.51.100.0/24", "a documentation address"),
        ("203.0.113.0/24", "a documentation address"),
        ("224.0.0.0/4", "a multicast address"),
        ("255.255.255.255/32", "the broadcast address"),
        ("240.0.0.0/4", "a reserved address"),
        ("::/128", "the unspecified address"),
        ("::1/128", "a loopback address"),
        ("::/96", "an IPv4-compatible address"),
        ("::ffff:0:0:0/96", "an IPv4-translated address"),
        ("64:ff9b::/96", "a NAT64 address"),
        ("64:ff9b:1::/48", "a NAT64 address"),
        ("2001::/32", "a Teredo address"),
        ("2001:2::/48", "a benchmarking address"),
        ("2001::/23", "a reserved address"),
        ("2001:db8::/32", "a documentation address"),
        ("2002::/16", "a 6to4 address"),
        ("3fff::/20", "a documentation address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a site-local address"),
        ("ff00::/8", "a multicast address"),
    )
)
# The only part of IPv6 that is handed out to the public (RFC 4291).
GLOBAL_UNICAST = IPv6Network("2000::/3")

REMEDY = "webhooks.allowed_networks would have to contain it"

HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)
# No top-level domain is a number: such a host is an IPv4 address to inet_aton, in one of its many spellings.
NUMBER_LAST = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)\.?", re.IGNORECASE)


def url_error(url: str) -> str | None:
    """Why this is no URL that could be called, whoever is there; None if it is one."""
    if not url.isprintable() or " " in url:
        return "a URL has neither spaces nor control characters"
    try:
        parsed = URL(url)
    except ValueError:
        return "this is no URL"
    if max(len(url), len(str(parsed))) > LONGEST_URL:
        return f"a URL has at most {LONGEST_URL} characters"
    if parsed.scheme not in ("http", "https") or not parsed.raw_host:
        return "a URL begins with https:// or http:// and a host"
    if "#" in url:
        return "the URL must not have a fragment"
    # yarl drops user information that is empty.
    if "@" in re.split(r"[/?]", url.partition("://")[2], maxsplit=1)[0]:
        return "the URL must not have user information"
    if not parsed.port:
        return "the port must be one from 1 to 65535"
    return _host_error(parsed.raw_host)


def _host_error(host: str) -> str | None:
    if ":" in host:
        # A zone means something on one machine alone.
        return None if _parse(host) and "%" not in host else "the host is no IPv6 address"
    if not HOST_NAME.fullmatch(host) or len(host) > 253:
        return "the host is no name and no IP address"
    # aiohttp calls none of the other spellings.
    if NUMBER_LAST.fullmatch(host) and not _parse(host):
        return "the host is a number: an IPv4 address is written as four decimal numbers"
    return None


def _parse(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


class Guard:
    """An egress filter: which addresses may be called. The public ones are, by https: alone; those in `allowed` are by http:
    too, whatever they are. Call `close` in the end."""

    def __init__(self, allowed: Sequence[Network], resolver: AbstractResolver | None = None) -> None:
        self._allowed = tuple(allowed)
        # Whoever calls has to use the same one.
        self.resolver = resolver or Resolver()

    async def close(self) -> None:
        await self.resolver.close()

    def refusal(self, address: str, *, plain: bool) -> str | None:
        """Why this IP address may not be connected to, by http: if `plain`: "127.0.0.1 is a loopback address"; or None."""
        kind = self._refused_kind(address, plain)
        return None if kind is None else f"{address} is {kind}"

    async def check_url(self, url: str) -> str | None:
        """Why this URL cannot be registered, in words for whoever registers it; or None.

        A name that does not resolve in LONGEST_LOOK_UP is accepted, because it may later. What it resolves to then is judged
        when it is called, and so is a name that changes.
        """
        if (error := url_error(url)) is not None:
            return error
        parsed = URL(url)
        host = parsed.raw_host or ""
        for address in await self._addresses(host):
            kind = self._refused_kind(address, parsed.scheme == "http")
            if kind is not None:
                return f"{host} is {kind if address == host else f'{address}, {kind}'}: {REMEDY}"
        return None

    async def _addresses(self, host: str) -> list[str]:
        if _parse(host):
            return [host]
        try:
            async with asyncio.timeout(LONGEST_LOOK_UP):
                return [result["host"] for result in await self.resolver.resolve(host)]
        except OSError:
            # The end of the time is one, too.
            return []

    def _refused_kind(self, address: str, plain: bool) -> str | None:
        parsed = _parse(address)
        if parsed is None:
            return "no IP address"
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
            parsed = parsed.ipv4_mapped
        if any(parsed in network for network in self._allowed):
            return None
        for network, kind in SPECIAL:
            if parsed in network:
                return kind
        if not parsed.is_global or (isinstance(parsed, IPv6Address) and parsed not in GLOBAL_UNICAST):
            return "a reserved address"
        return "a public address, which only https: may reach" if plain else None


GUARD = web.AppKey("guard", Guard)
