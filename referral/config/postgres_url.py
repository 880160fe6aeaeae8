"""What a URL of PostgreSQL means: libpq's connection URI, in as far as asyncpg can do what it asks for.

The service asks PostgreSQL through asyncpg, and migrations and the service lock through libpq itself. Both get the same URL,
so that what only one of them can do is refused at the start, by its name.
"""

import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlencode

SCHEMES = ("postgresql://", "postgres://")
FORM = "postgresql://user:password@host:5432/name, with the parameters of libpq's URLs"
# Seconds that a server has to let somebody connect, unless `connect_timeout` says otherwise. One of several must leave time
# for the others.
CONNECT_TIMEOUT, CONNECT_TIMEOUT_OF_SEVERAL = 5, 2

TARGETS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# What asyncpg does itself with a parameter of its URL.
_PASSED = frozenset(
    [
        "user",
        "password",
        "dbname",
        "passfile",
        "service",
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "sslpassword",
        "sslcrl",
        "sslnegotiation",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "krbsrvname",
        "gsslib",
    ]
)
# Options of the socket, by what Linux calls them.
_SOCKET = {
    "keepalives": "SO_KEEPALIVE",
    "keepalives_idle": "TCP_KEEPIDLE",
    "keepalives_interval": "TCP_KEEPINTVL",
    "keepalives_count": "TCP_KEEPCNT",
    "tcp_user_timeout": "TCP_USER_TIMEOUT",
}
# What libpq can and asyncpg cannot, unless the value asks for nothing more than what asyncpg does anyway.
_ONLY_LIBPQ: Mapping[str, tuple[str, ...]] = {
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "gssdelegation": ("0",),
    "sslcompression": ("0", "1"),
    "sslsni": ("1",),
    "sslcertmode": ("allow",),
    "client_encoding": ("utf8", "utf-8", "unicode", "auto"),
    "min_protocol_version": ("3.0",),
    "max_protocol_version": ("3.0", "latest"),
    **dict.fromkeys(
        [
            "hostaddr",
            "require_auth",
            "replication",
            "requiressl",
            "requirepeer",
            "sslcrldir",
            "sslkeylogfile",
            "servicefile",
            "scram_client_key",
            "scram_server_key",
            "oauth_issuer",
            "oauth_client_id",
            "oauth_client_secret",
            "oauth_scope",
        ],
        (),
    ),
}
_WHOLE = re.compile(r"-?\d{1,9}")


@dataclass(frozen=True, slots=True)
class PostgresURL:
    """Where PostgreSQL is, and how it is connected to.

    `hosts` are tried in their order, or in any if `balanced`; none means libpq's default, or a service's. `target` is
    libpq's target_session_attrs, `connect_timeout` the seconds that each host has. `dsn` is the rest for asyncpg, `server`
    are startup parameters, `sockets` options of the socket, `libpq` what a connection through libpq is told beside the URL.
    """

    hosts: tuple[tuple[str, int | None], ...]
    balanced: bool
    target: str
    connect_timeout: int
    dsn: str = field(repr=False)
    server: Mapping[str, str] = field(repr=False)
    sockets: tuple[tuple[str, int], ...]
    _system_certificate: tuple[str, ...] | None = field(default=None, repr=False)

    @property
    def libpq(self) -> dict[str, Any]:
        return {"connect_timeout": self.connect_timeout, "target_session_attrs": self.target}

    def tls_context(self) -> ssl.SSLContext | None:
        """The context of `sslrootcert=system`, which asyncpg does not know. Raises OSError (ssl.SSLError included) when the
        client's certificate cannot be read."""
        if self._system_certificate is None:
            return None
        context = ssl.create_default_context()
        certificate, key, password = self._system_certificate
        if certificate:
            context.load_cert_chain(certificate, key or None, password)
        return context


def is_postgres_url(value: str) -> bool:
    return value.startswith(SCHEMES)


def parse_postgres_url(url: str, target: str = "") -> PostgresURL:
    """The meaning of a URL of PostgreSQL; `target` is what it looks for unless it says so itself.

    Raises ValueError with what is wrong, in words that give nothing of the URL away but the name of a parameter.
    """
    hosts, given = _parts(url)
    for name, value in given.items():
        _check(name, value)
    if given.pop("ssl", ""):
        given.setdefault("sslmode", "require")
    several = len(hosts) > 1
    # Of several servers the service needs the one that takes writes.
    target = given.get("target_session_attrs") or target or ("read-write" if several else "any")
    timeout = int(given.get("connect_timeout", 0))
    server = {name: given[name] for name in ("options", "application_name") if given.get(name)}
    if given.get("fallback_application_name"):
        server.setdefault("application_name", given["fallback_application_name"])
    system = None
    if given.get("sslrootcert") == "system":
        if given.pop("sslmode", "verify-full") != "verify-full":
            raise ValueError("has sslrootcert=system, for which sslmode must be verify-full")
        system = tuple(given.get(name, "") for name in ("sslcert", "sslkey", "sslpassword"))
    passed = {
        name: value
        for name, value in given.items()
        if value and name in _PASSED and (system is None or name != "sslrootcert")
    }
    return PostgresURL(
        hosts=hosts,
        balanced=given.get("load_balance_hosts") == "random",
        target=target,
        connect_timeout=timeout if timeout > 0 else CONNECT_TIMEOUT_OF_SEVERAL if several else CONNECT_TIMEOUT,
        # asyncpg would read a plus as a space.
        dsn=f"postgresql://?{urlencode(passed, quote_via=quote)}" if passed else "postgresql://",
        server=server,
        sockets=tuple((option, int(given[name])) for name, option in _SOCKET.items() if name in given),
        _system_certificate=system,
    )


def _parts(url: str) -> tuple[tuple[tuple[str, int | None], ...], dict[str, str]]:
    """The hosts, and everything else as parameters."""
    scheme = next((scheme for scheme in SCHEMES if url.startswith(scheme)), "")
    address, _, query = url.removeprefix(scheme).partition("?")
    authority, _, name = address.partition("/")
    credentials, _, listed = authority.rpartition("@")
    if not scheme or re.search(r"[#\s]", url) or "@" in credentials or "/" in name:
        raise ValueError(f"must be {FORM}; special characters of the user and the password must be percent-encoded")
    user, _, password = credentials.partition(":")
    inside = {"user": _decoded(user), "password": _decoded(password), "dbname": _decoded(name)}
    given: dict[str, str] = {}
    for part in query.split("&") if query else []:
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise ValueError("has a parameter without a value")
        if _decoded(key) in given:
            raise ValueError("has a parameter twice")
        given[_decoded(key)] = _decoded(value)
    hosts = _hosts(listed, bracketed=True) if listed else []
    if "host" in given:
        hosts = _hosts(given.pop("host"), bracketed=False)
    if "port" in given:
        hosts = _with_ports(hosts or [("", None)], given.pop("port"))
    return tuple(hosts), {**{key: value for key, value in inside.items() if value}, **given}


def _decoded(text: str) -> str:
    if re.search("%(?![0-9A-Fa-f]{2})|%00", text):
        raise ValueError("has a % that is no percent-encoding: the character itself is written %25")
    return unquote(text)


def _hosts(listed: str, *, bracketed: bool) -> list[tuple[str, int | None]]:
    """Each host of a list with its port, if it has one. Where hosts are `bracketed`, addresses of IPv6 stand in brackets; in
    a parameter there are no ports, and no brackets."""
    found: list[tuple[str, int | None]] = []
    for text in listed.split(","):
        if not bracketed:
            found.append((text, None))
            continue
        parts = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+(?:%25[\w.]+)?)\]|([^\[\]:]*))(?::(\d*))?", text)
        if parts is None:
            raise ValueError("has a host that is none, or a port that is no number")
        found.append((_decoded(parts[1] or parts[2] or ""), _port(parts[3]) if parts[3] else None))
    if len(found) > 1 and any(not host for host, _ in found):
        raise ValueError("has an empty one among its hosts")
    return found


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or not 1 <= int(text) <= 65_535:
        raise ValueError("has a port that is not between 1 and 65535")
    return int(text)


def _with_ports(hosts: list[tuple[str, int | None]], listed: str) -> list[tuple[str, int | None]]:
    ports = [_port(text) for text in listed.split(",")]
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise ValueError("has another number of ports than of hosts")
    return [(host, port) for (host, _), port in zip(hosts, ports, strict=True)]


def _is_whole(value: str) -> bool:
    return _WHOLE.fullmatch(value) is not None


def _among(choices: Iterable[str]) -> Callable[[str], bool]:
    return frozenset(choices).__contains__


_TLS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
# The parameters that asyncpg, or this service for it, can do, and which values they have.
_KNOWN: Mapping[str, Callable[[str], bool]] = {
    **dict.fromkeys(_PASSED, bool),
    "password": lambda value: True,
    "sslmode": _among(SSL_MODES),
    "sslnegotiation": _among(("postgres", "direct")),
    "ssl_min_protocol_version": _among(_TLS),
    "ssl_max_protocol_version": _among(_TLS),
    "ssl": _among(("true",)),
    "options": lambda value: True,
    "application_name": lambda value: True,
    "fallback_application_name": lambda value: True,
    "target_session_attrs": _among(TARGETS),
    "load_balance_hosts": _among(("disable", "random")),
    "connect_timeout": _is_whole,
    **dict.fromkeys(_SOCKET, _is_whole),
}


def _check(name: str, value: str) -> None:
    if name in _ONLY_LIBPQ:
        if value.lower() in _ONLY_LIBPQ[name]:
            return
        shown = f"{name}={value}" if _ONLY_LIBPQ[name] and re.fullmatch(r"[\w.-]{1,30}", value) else name
        raise ValueError(f"has {shown}, which the service's driver, asyncpg, cannot do")
    if name not in _KNOWN:
        shown = name if re.fullmatch("[a-z_]{1,40}", name) else "one of its parameters"
        raise ValueError(f"has a parameter that PostgreSQL's URLs do not know: {shown}")
    if not _KNOWN[name](value):
        raise ValueError(f"has a value of {name} that it cannot have")
