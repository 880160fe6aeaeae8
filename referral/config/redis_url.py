"""What `cache.url` says of a Redis: a server by TCP, TLS or a socket of the file system, or a master that Sentinels name."""

import re
import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

_URL = re.compile(
    r"(?P<scheme>rediss?(?:\+sentinel)?|unix)://(?:(?P<user>[^/?#]*)@)?(?P<hosts>[^/?#@]*)"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
)
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\[\]:,\s]+)(?::(?P<port>\d{1,5}))?")
_DATABASE = re.compile(r"/?|/(\d{1,5})")
# Sentinel allows these characters in a master's name.
_MASTER = re.compile(r"/([A-Za-z0-9._-]+)(/(\d{1,5})?)?")

_FORM = (
    "must be memory://, none://, redis://user:password@host:6379/0, rediss://host:6379/0?ca=FILE, "
    "redis+sentinel://host:26379,host:26379/MASTER/0, rediss+sentinel://… or unix:///FILE?db=0; "
    "special characters of the user and the password must be percent-encoded"
)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is, and who asks it. `hosts` are of Sentinels if there is a `master`, the name by which they know it; they
    are empty if there is a `socket`, a path. `ca` is a file of authorities to trust; by the files `cert` and `key` a server
    knows the client."""

    hosts: tuple[tuple[str, int], ...]
    socket: str | None
    master: str | None
    database: int
    username: str | None
    password: str | None = field(repr=False)
    sentinel_username: str | None
    sentinel_password: str | None = field(repr=False)
    tls: bool
    ca: str | None
    cert: str | None
    key: str | None

    def tls_context(self) -> ssl.SSLContext | None:
        """Verifies certificates and host names. Raises OSError (ssl.SSLError included) when a file cannot be read."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert:
            # Nobody is there to be asked for the password of an encrypted key.
            context.load_cert_chain(self.cert, self.key, password="")
        return context


def parse_redis_url(url: str) -> RedisAddress:
    """The Redis of `redis[s]://[user:password@]host[:port][/db]`, `redis[s]+sentinel://[…@]host[:port],…/MASTER[/db]` or
    `unix://[…@]/FILE[?db=]`; TLS has the options `ca`, `cert` and `key`, Sentinels `sentinel_user` and `sentinel_password`.

    Raises ValueError with what is wrong, in words that give nothing of the URL away: a password may be anywhere in it.
    """
    parts = _URL.fullmatch(url)
    if parts is None:
        raise ValueError(_FORM)
    scheme, path = parts["scheme"], parts["path"] or ""
    tls, by_sentinel, by_socket = scheme.startswith("rediss"), scheme.endswith("+sentinel"), scheme == "unix"
    options = _options(parts["query"] or "", tls=tls, by_sentinel=by_sentinel, by_socket=by_socket)
    hosts: tuple[tuple[str, int], ...] = ()
    master = socket = None
    if by_socket:
        database, socket = options.get("db", "0"), unquote(path)
        if parts["hosts"] or len(path) < 2 or not re.fullmatch(r"\d{1,5}", database):
            raise ValueError(_FORM)
    else:
        hosts = _hosts(parts["hosts"], 26379 if by_sentinel else 6379)
        place = (_MASTER if by_sentinel else _DATABASE).fullmatch(path)
        if place is None or (len(hosts) > 1 and not by_sentinel):
            raise ValueError(_FORM)
        master, database = (place[1], place[3]) if by_sentinel else (None, place[1])
    username, _, password = (parts["user"] or "").partition(":")
    address = RedisAddress(
        hosts=hosts,
        socket=socket,
        master=master,
        database=int(database or 0),
        username=unquote(username) or None,
        password=unquote(password) or None,
        sentinel_username=options.get("sentinel_user"),
        sentinel_password=options.get("sentinel_password"),
        tls=tls,
        ca=options.get("ca"),
        cert=options.get("cert"),
        key=options.get("key"),
    )
    try:
        address.tls_context()
    except OSError:
        raise ValueError(
            "has a ca, cert or key that is no readable file of certificates or of a key without password"
        ) from None
    return address


def _hosts(text: str, default_port: int) -> tuple[tuple[str, int], ...]:
    found = [_HOST.fullmatch(part) for part in text.split(",")]
    hosts = tuple((host["name"].strip("[]"), int(host["port"] or default_port)) for host in found if host)
    if len(hosts) < len(found) or not all(0 < port < 65_536 for _, port in hosts):
        raise ValueError(_FORM)
    return hosts


def _options(query: str, *, tls: bool, by_sentinel: bool, by_socket: bool) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise ValueError(_FORM) from None
    options = dict(pairs)
    known = {
        *(("ca", "cert", "key") if tls else ()),
        *(("sentinel_user", "sentinel_password") if by_sentinel else ()),
        *(("db",) if by_socket else ()),
    }
    if len(options) < len(pairs) or options.keys() - known or not all(options.values()):
        raise ValueError(_FORM)
    for one, needed in (("key", "cert"), ("sentinel_user", "sentinel_password")):
        if one in options and needed not in options:
            raise ValueError(f"has {one} without {needed}")
    return options
