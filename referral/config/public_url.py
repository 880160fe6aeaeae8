"""Where the service is reached: `server.public_url`, and the addresses of its paths under it.

The URL may have a path of its own. The service then shares its host with others, behind a proxy that takes this path off the
requests it passes on, or behind one that leaves it there: `web/prefix.py` takes either.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

import idna
from aiohttp import web

# RFC 3986 section 3.3: a path of segments, none of them empty but the last one.
_PATH = re.compile(r"(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)*/?")


@dataclass(frozen=True, slots=True)
class PublicURL:
    """`origin` is `https://host:port`, `host` the name or the address alone; `prefix` is the path, without a slash at its
    end, or empty."""

    origin: str
    host: str
    prefix: str

    def path(self, path: str) -> str:
        """What a browser asks this host for to get at a path of the service."""
        return f"{self.prefix}{path}"

    def url(self, path: str = "") -> str:
        """The whole address of a path of the service."""
        return f"{self.origin}{self.prefix}{path}"

    def well_known(self, name: str) -> str:
        """Where clients look for the metadata of this issuer, on its host: before its path (RFC 8414 section 3.1)."""
        return f"/.well-known/{name}{self.prefix}"

    def inside(self, raw_path: str) -> str | None:
        """What follows the prefix in the raw path of a request, however it is percent-encoded; None where it does not begin
        with the prefix."""
        depth = self.prefix.count("/")
        segments = raw_path.split("/", depth + 1)
        if unquote("/".join(segments[: depth + 1])) != unquote(self.prefix):
            return None
        return f"/{segments[-1]}" if len(segments) > depth + 1 else ""


def parse_public_url(text: str) -> PublicURL:
    """Raises ValueError with what is wrong."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or port == 0:
        raise ValueError("must be an http or https URL without a query")
    if "@" in parts.netloc:
        raise ValueError("must have no user and no password")
    if not _PATH.fullmatch(parts.path) or {".", ".."} & set(map(unquote, parts.path.split("/"))):
        raise ValueError("must have a path without empty and dot segments, special characters percent-encoded")
    try:
        host = parts.hostname if parts.hostname.isascii() else idna.encode(parts.hostname, uts46=True).decode()
    except idna.IDNAError:
        raise ValueError("must have a host that the DNS can name") from None
    prefix = "/".join(quote(unquote(segment), safe="") for segment in parts.path.rstrip("/").split("/"))
    return PublicURL(f"{parts.scheme}://{parts.netloc}", host, prefix)


PUBLIC_URL = web.AppKey("public_url", PublicURL)
