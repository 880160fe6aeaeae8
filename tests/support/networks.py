"""Requests from many networks, as a proxy passes them on."""

from __future__ import annotations

# The proxy that the test client's own address is.
BEHIND_PROXY = {"server_trusted_proxies": "127.0.0.0/8"}


def of(address: str | int) -> dict[str, str]:
    """What the proxy says of a request of this address, or of the one of this number."""
    return {"X-Forwarded-For": f"198.51.100.{address}" if isinstance(address, int) else address}
