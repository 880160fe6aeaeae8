"""What the addresses among the settings mean: mailboxes, mail servers, networks."""

import ipaddress
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.utils import getaddresses
from urllib.parse import parse_qsl, unquote, urlsplit

import idna

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

DEFAULT_PORTS = {"none": 25, "starttls": 587, "implicit": 465}

_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EHLO_NAME = re.compile(rf"(?=.{{1,255}}\Z){_LABEL}(\.{_LABEL})*|\[(IPv6:[0-9A-Fa-f:.]+|[0-9.]+)\]")


@dataclass(frozen=True, slots=True)
class SMTPAddress:
    """Where and how to hand mail over; `tls` is "none", "starttls" or "implicit", `ca` a file of authorities to trust,
    `ehlo` the name to greet the server by, if it is not to be that of `server.public_url`."""

    host: str
    port: int
    tls: str
    username: str | None
    password: str | None = field(repr=False)
    ca: str | None
    ehlo: str | None

    def tls_context(self) -> ssl.SSLContext | None:
        """Verifies certificates and host names. Raises OSError (ssl.SSLError included) when `ca` cannot be read."""
        return None if self.tls == "none" else ssl.create_default_context(cafile=self.ca)


def parse_smtp_url(url: str) -> SMTPAddress:
    """The server of `smtp://[user:password@]host[:port][?tls=starttls|none][&ca=FILE][&ehlo=NAME]` or `smtps://...`.

    Raises ValueError with what is wrong, in words that give nothing of the URL away: a password may be anywhere in it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        raise ValueError("is no URL; special characters of the user and the password must be percent-encoded") from None
    given = dict(options)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.path not in ("", "/") or parts.fragment:
        raise ValueError(
            "must be smtp://user:password@host:port?tls=starttls or smtps://user:password@host:port; "
            "special characters of the user and the password must be percent-encoded"
        )
    if len(given) < len(options) or given.keys() - {"tls", "ca", "ehlo"}:
        raise ValueError("has an option other than tls, ca and ehlo, or one of them twice")
    if parts.scheme == "smtps" and "tls" in given:
        raise ValueError("needs no tls option: smtps:// is TLS from the start")
    tls = "implicit" if parts.scheme == "smtps" else given.get("tls", "none")
    if tls not in DEFAULT_PORTS or (tls == "implicit" and parts.scheme == "smtp"):
        raise ValueError("must have tls=starttls or tls=none; for TLS from the start, use smtps://")
    if bool(parts.username) != bool(parts.password):
        raise ValueError("must have both a user and a password, or neither")
    if parts.password and tls == "none" and "tls" not in given:
        raise ValueError("would send the password unencrypted: add ?tls=starttls, or ?tls=none if that is meant")
    if tls == "none" and "ca" in given:
        raise ValueError("has ca without TLS")
    if "ehlo" in given and not _EHLO_NAME.fullmatch(given["ehlo"]):
        raise ValueError("must have ehlo=NAME with a name of the DNS, or an address literal such as [192.0.2.1]")
    server = SMTPAddress(
        host=parts.hostname,
        port=port or DEFAULT_PORTS[tls],
        tls=tls,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        ca=given.get("ca"),
        ehlo=given.get("ehlo"),
    )
    try:
        server.tls_context()
    except OSError:
        raise ValueError("has a ca that is no readable file of certificates") from None
    return server


def greeting_name(host: str) -> str:
    """What a mail server is told of a client on this host: its name or, for an address, an address literal (RFC 5321 section
    4.1.3)."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.rstrip(".")
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"


def mailbox_of(text: str) -> Address:
    """The mailbox of `alice@example.com` or `Alice <alice@example.com>`, its domain in the form of the DNS.

    That way most international addresses can be written to through any server. Raises ValueError for anything else.
    """
    # parseaddr would do, but older Pythons take the first of several.
    found = getaddresses([text])
    if len(found) != 1:
        raise ValueError("not one mailbox")
    ((name, address),) = found
    local, _, domain = address.rpartition("@")
    if not domain.isascii():
        domain = idna.encode(domain, uts46=True).decode()
    if not local or not domain or not text.isprintable():
        raise ValueError("no mailbox")
    try:
        # Address checks the grammar of RFC 5322, which knows ASCII only; RFC 6532 adds every other character.
        Address(addr_spec=f"{re.sub(r'[^ -~]', 'x', local)}@{domain}")
        return Address(name, local, domain)
    except HeaderParseError as error:
        raise ValueError(str(error)) from None


def networks(texts: Iterable[str]) -> Networks:
    """The networks of `server.trusted_proxies`: addresses or CIDR ranges. Raises ValueError."""
    return tuple(ipaddress.ip_network(text) for text in texts)
