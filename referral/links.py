"""Share links: their addresses, where they lead, and what they add to that.

A link leads to the setting `links.destination`, or to an address that it names itself (`?to=`), if that lies within
`links.allowed_origins`. Browsers and this module must not read such an address differently, or the link would lead anywhere
(an open redirect): what a browser repairs is refused here, and the origin is written as the setting has it.
"""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote_plus

import idna
from aiohttp import web

from referral.config.public_url import parse_public_url
from referral.config.sections import Config

# What a link adds to the query of where it leads.
REF, CLICK = "ref", "click"
# Keeps both between a visit and a sign-up: `CODE.CLICK`. referral.js writes and reads it, too.
COOKIE = "referral"
# Where a QR code leads, it says so.
VIA, QR = "via", "qr"

LONGEST_TO = 2_000
_TO = re.compile(r"(https?)://([^/?#@:\[\]%]+|\[[0-9A-Fa-f:.]+\])(?::(\d{1,5}))?([/?#].*)?", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}
# A browser drops some of these and takes a backslash for a slash.
_REPAIRED = re.compile(r"[\x00-\x20\x7f\\]")


def is_qr(query: str) -> bool:
    """Whether a query string says that somebody comes by a QR code."""
    return bool(query) and (VIA, QR) in parse_qsl(query)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a link leads: `plain` is the address for somebody who comes by nobody; `head` is what lies before that which a
    link adds, with the `?` or `&`, and `fragment` what lies behind it."""

    plain: str
    head: str
    fragment: str

    def by(self, code: str, click_id: str | None) -> str:
        """The address for somebody who comes by this code and click."""
        if click_id is None:
            return f"{self.head}{REF}={code}{self.fragment}"
        return f"{self.head}{REF}={code}&{CLICK}={click_id}{self.fragment}"


def target_of(url: str) -> Target:
    """The target of an absolute URL. Its query stays as it is, repeated names and empty values included, but for what
    already has the names that a link adds: of two codes a page would take one or the other."""
    address, mark, fragment = url.partition("#")
    path, _, query = address.partition("?")
    kept = "&".join(pair for pair in query.split("&") if unquote_plus(pair.partition("=")[0]) not in (REF, CLICK))
    separator = "" if not kept or kept.endswith("&") else "&"
    plain = url if kept == query else f"{path}{'?' if kept else ''}{kept}{mark}{fragment}"
    return Target(plain, f"{path}?{kept}{separator}", f"{mark}{fragment}")


class Links:
    """The share links of this installation."""

    def __init__(self, config: Config) -> None:
        settings = config.links
        self.target = target_of(settings.destination) if settings.destination else None
        self._base = settings.base.rstrip("/") or parse_public_url(config.server.public_url).url()
        self._origins = frozenset(settings.allowed_origins)
        secure = "; Secure" if self._base.startswith("https:") else ""
        seconds = config.attribution.window_days * 86_400
        domain = settings.cookie_domain
        self._cookie = f"; Domain={domain}; Path=/; Max-Age={seconds}; SameSite=Lax{secure}" if domain else None

    def url_of(self, code: str) -> str | None:
        """The link of a code; None where links lead nowhere."""
        return f"{self._base}/r/{code}" if self.target else None

    def cookie(self, code: str, click_id: str) -> str | None:
        """The header Set-Cookie for somebody who comes by these; None where no cookie is wanted."""
        return f"{COOKIE}={code}.{click_id}{self._cookie}" if self._cookie else None

    def allows(self, origin: str | None) -> bool:
        """Whether pages of this origin, as browsers send it, may be led to and may report clicks."""
        return origin in self._origins

    def target_to(self, url: str) -> Target | None:
        """The target of a URL that a link names itself; None for one that no link may lead to, in any spelling."""
        if len(url) > LONGEST_TO or _REPAIRED.search(url):
            return None
        found = _TO.fullmatch(url)
        if found is None:
            return None
        scheme, host, rest = found[1].lower(), _ascii(found[2]), found[4] or "/"
        if host is None:
            return None
        port = int(found[3] or _DEFAULT_PORTS[scheme])
        origin = f"{scheme}://{host}" + (f":{port}" if port != _DEFAULT_PORTS[scheme] else "")
        if origin not in self._origins:
            return None
        path = rest if rest.startswith("/") else f"/{rest}"
        return target_of(origin + re.sub(r"[^!-~]+", lambda part: quote(part[0]), path))


def _ascii(host: str) -> str | None:
    """The host as browsers write it in an origin; None for what is no name."""
    if host.isascii():
        return host.lower()
    try:
        return idna.encode(host, uts46=True, transitional=False).decode()
    except idna.IDNAError:
        return None


LINKS = web.AppKey("links", Links)
