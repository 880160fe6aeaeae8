"""Settings: `config.toml`, overlaid by another file and by `REFERRAL_<SECTION>_<KEY>`, as frozen dataclasses."""

import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin
from urllib.parse import SplitResult, urlsplit

from aiohttp import web

from referral.mail.smtp import parse_server
from referral.mail.transport import mailbox_of

ROOT = Path(__file__).resolve().parent.parent.parent
DEFAULTS = ROOT / "config.toml"

# Kubernetes sets these in every pod beside Services named "referral" or "referral-something".
_KUBERNETES = re.compile(r"REFERRAL_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)")
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://")

Check = Callable[[Any], str | None]


class ConfigError(Exception):
    """A setting that cannot be used: its name, what is wrong with it and where it was read, in one line."""

    def __init__(self, setting: str, problem: str, source: str) -> None:
        super().__init__(f"{setting}: {problem} (read from {source})")
        self.setting = setting


def between(low: float, high: float) -> Check:
    """Both ends are allowed."""
    return lambda value: None if low <= value <= high else f"must be between {low} and {high}, not {value}"


def one_of(*choices: str) -> Check:
    """One of these words, letter case included."""
    return lambda value: None if value in choices else f"must be one of {', '.join(choices)}, not {value!r}"


def _parts(value: str) -> SplitResult | None:
    try:
        parts = urlsplit(value)
        return parts if parts.port != 0 else None
    except ValueError:
        return None


def database_url(value: str) -> str | None:
    """`sqlite:///FILE`, whatever characters are in its name, or a PostgreSQL URL."""
    if re.match("sqlite:///(?!:memory:).", value) or (value.startswith("postgresql://") and _parts(value)):
        return None
    return "must be sqlite:///relative/path, sqlite:////absolute/path or postgresql://user:password@host/name"


def cache_url(value: str) -> str | None:
    """`memory://`, `none://` or a Redis server, `rediss:` with or without a file of authorities."""
    parts = _parts(value)
    if value in ("memory://", "none://") or (
        parts
        and parts.scheme in ("redis", "rediss")
        and parts.hostname
        and re.fullmatch(r"/?|/\d{1,5}", parts.path)
        and not parts.fragment
        and (not parts.query or (parts.scheme == "rediss" and re.fullmatch("ca=[^&]+", parts.query)))
    ):
        return None
    return "must be memory://, none://, redis://user:password@host:6379/0 or rediss://host:6379/0?ca=FILE"


def web_url(value: str) -> str | None:
    """An http or https URL that paths can be appended to."""
    parts = _parts(value)
    if parts and parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment:
        return None
    return "must be an http or https URL without a query"


def web_origins(values: tuple[str, ...]) -> str | None:
    """Origins (RFC 6454) just as browsers write them: they are compared as texts."""
    wrong = [value for value in values if not re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:\d{1,5})?", value)]
    return f"must list origins such as https://app.example.com, not {wrong[0]!r}" if wrong else None


def empty_or(check: Check) -> Check:
    """The empty text, too."""
    return lambda value: None if value == "" else check(value)


def secret_length(value: str) -> str | None:
    """Long enough to sign with."""
    # RFC 7518 section 3.2: an HS256 key has at least as many bits as the hash.
    return None if len(value.encode()) >= 32 else "must have at least 32 characters"


def mailbox(value: str) -> str | None:
    """An address, with or without a name."""
    try:
        mailbox_of(value)
    except ValueError:
        return 'must be an address such as "Referrals <referrals@example.com>"'
    return None


def mail_url(value: str) -> str | None:
    """A folder, or a mail server; what is said of a wrong one gives nothing of it away."""
    if re.match("file:.", value):
        return None
    try:
        parse_server(value)
    except ValueError as error:
        return f"{error}; or it is file:FOLDER"
    return None


def api_key(value: str) -> str | None:
    """What a vendor gives out."""
    # It travels in an HTTP header.
    return None if re.fullmatch(r"[!-~]*", value) else "must be printable ASCII without spaces"


def each_of(*choices: str) -> Check:
    """A list of these words, an empty one included."""

    def check(values: tuple[str, ...]) -> str | None:
        unknown = [value for value in values if value not in choices]
        return f"may list {', '.join(choices)}, not {', '.join(map(repr, unknown))}" if unknown else None

    return check


def ip_networks(values: tuple[str, ...]) -> str | None:
    """Addresses and CIDR ranges."""
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError as error:
            return f"must list addresses or networks: {error}"
    return None


def rate(value: str) -> str | None:
    """What the limits library reads, one rate a setting."""
    if re.fullmatch(r"[1-9]\d{0,9}/([1-9]\d{0,4} ?)?(second|minute|hour|day)s?", value):
        return None
    return "must be a rate such as 10/minute or 100/15 minutes"


def setting(check: Check | None = None, *, hidden: bool = False) -> Any:
    """A field with its check; `hidden` fields, and what they were set to, never appear in a message or a repr."""
    return field(metadata={"check": check, "hidden": hidden}, repr=not hidden)


@dataclass(frozen=True, slots=True)
class Server:
    host: str = setting(lambda value: None if value else "must not be empty")
    port: int = setting(between(0, 65535))
    workers: int = setting(between(1, 64))
    public_url: str = setting(web_url)
    trusted_proxies: tuple[str, ...] = setting(ip_networks)
    cors_origins: tuple[str, ...] = setting(web_origins)


@dataclass(frozen=True, slots=True)
class Database:
    url: str = setting(database_url, hidden=True)


@dataclass(frozen=True, slots=True)
class Cache:
    url: str = setting(cache_url, hidden=True)


@dataclass(frozen=True, slots=True)
class Auth:
    algorithm: str = setting(one_of("HS256", "EdDSA", "RS256"))
    secret: str = setting(empty_or(secret_length), hidden=True)
    previous_secret: str = setting(empty_or(secret_length), hidden=True)
    key_file: str = setting()
    access_token_ttl: int = setting(between(10, 86_400))
    refresh_token_ttl: int = setting(between(60, 31_536_000))
    session_ttl: int = setting(between(60, 315_360_000))
    bcrypt_rounds: int = setting(between(4, 31))
    password_min_length: int = setting(between(1, 128))


@dataclass(frozen=True, slots=True)
class Codes:
    length: int = setting(between(6, 32))
    max_ttl_days: int = setting(between(1, 36_500))
    public_lookup: bool = setting()


@dataclass(frozen=True, slots=True)
class Mail:
    url: str = setting(mail_url, hidden=True)
    sender: str = setting(mailbox)
    link_base: str = setting(empty_or(web_url))


# What Hunter's Email Verifier says of an address; a valid one cannot be refused.
HUNTER_STATUSES = ("valid", "accept_all", "webmail", "unknown", "invalid", "disposable")


@dataclass(frozen=True, slots=True)
class Hunter:
    api_key: str = setting(api_key, hidden=True)
    base_url: str = setting(web_url)
    refuse: tuple[str, ...] = setting(each_of(*HUNTER_STATUSES[1:]))
    on_unavailable: str = setting(one_of("accept", "reject"))
    timeout: float = setting(between(0.1, 30))


@dataclass(frozen=True, slots=True)
class Enrichment:
    provider: str = setting(empty_or(one_of("clearbit", "hunter")))
    api_key: str = setting(api_key, hidden=True)
    base_url: str = setting(empty_or(web_url))


@dataclass(frozen=True, slots=True)
class Limits:
    """One rate a group of requests; `limits.py` says what each counts."""

    enabled: bool = setting()
    login_by_address: str = setting(rate)
    login_by_account: str = setting(rate)
    registration_by_address: str = setting(rate)
    registration_by_code: str = setting(rate)
    mail_by_account: str = setting(rate)
    lookup_by_user: str = setting(rate)
    lookup_by_address: str = setting(rate)
    request_by_user: str = setting(rate)
    request_by_address: str = setting(rate)


@dataclass(frozen=True, slots=True)
class Audit:
    keep_days: int = setting(between(0, 36_500))


@dataclass(frozen=True, slots=True)
class Log:
    level: str = setting(one_of("debug", "info", "warning", "error"))
    format: str = setting(one_of("text", "json"))


@dataclass(frozen=True, slots=True)
class Config:
    server: Server
    database: Database
    cache: Cache
    auth: Auth
    codes: Codes
    mail: Mail
    hunter: Hunter
    enrichment: Enrichment
    limits: Limits
    audit: Audit
    log: Log


def load_config(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read `config.toml`, then the file at `path`, then the environment; later ones win.

    Raises ConfigError for the first setting that is unknown, of the wrong type or out of its range.
    """
    values: dict[tuple[str, str], tuple[Any, str]] = {}
    for file in (DEFAULTS, path) if path else (DEFAULTS,):
        values.update(_read_toml(file))
    values.update(_read_environment(environ))
    sections: dict[str, Any] = {}
    for section in fields(Config):
        assert isinstance(section.type, type)
        sections[section.name] = section.type(
            **{
                item.name: _checked(f"{section.name}.{item.name}", item, *values[section.name, item.name])
                for item in fields(section.type)
            }
        )
    if sections["enrichment"].provider and not sections["enrichment"].api_key:
        raise ConfigError("enrichment.api_key", "must be set with enrichment.provider", values["enrichment", "api_key"][1])
    if sections["server"].workers > 1 and sections["cache"].url.startswith("memory:"):
        # A memory cache cannot be told of the other workers' changes.
        raise ConfigError(
            "server.workers",
            "must be 1 with cache.url = memory://; several workers share redis:// or use none://",
            values["server", "workers"][1],
        )
    return Config(**sections)


def _known() -> dict[tuple[str, str], Any]:
    return {(section.name, item.name): item.type for section in fields(Config) for item in fields(section.type)}  # type: ignore[arg-type]


def _read_toml(file: Path) -> dict[tuple[str, str], tuple[Any, str]]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("--config", f"cannot be read: {error.strerror}", str(file)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("--config", f"is not TOML: {error}", str(file)) from None
    known, values = _known(), {}
    for section, members in document.items():
        if not isinstance(members, dict):
            raise ConfigError(section, "is not in a [section]", str(file))
        for key, value in members.items():
            if (section, key) not in known:
                raise ConfigError(f"{section}.{key}", "is no setting of this service", str(file))
            values[section, key] = (value, str(file))
    return values


def _read_environment(environ: Mapping[str, str]) -> dict[tuple[str, str], tuple[Any, str]]:
    known = {f"REFERRAL_{section}_{key}".upper(): (section, key) for section, key in _known()}
    types_of = _known()
    values: dict[tuple[str, str], tuple[Any, str]] = {}
    for variable, text in sorted(environ.items()):
        if not variable.startswith("REFERRAL_"):
            continue
        name = variable.removesuffix("_FILE")
        place = known.get(variable) or known.get(name)
        if _KUBERNETES.fullmatch(variable) or (variable.endswith("_PORT") and _KUBERNETES_PORT.match(text)):
            continue
        if place is None:
            raise ConfigError(variable, "is no setting of this service", "the environment")
        source = f"environment variable {variable}"
        if variable not in known:
            try:
                text = Path(text).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(".".join(place), f"its file cannot be read: {error}", source) from None
        values[place] = (_from_text(".".join(place), types_of[place], text, source), source)
    return values


def _from_text(name: str, kind: Any, text: str, source: str) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise ConfigError(name, "must be true or false", source)
        return text.lower() in ("true", "1", "yes")
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise ConfigError(name, f"must be a number, not {text!r}", source) from None
    if get_origin(kind) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _checked(name: str, item: Any, value: Any, source: str) -> Any:
    kind = item.type
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        if not isinstance(value, list) or not all(type(part) is inner for part in value):
            raise ConfigError(name, "must be a list of texts", source)
        value = tuple(value)
    elif kind is float and type(value) is int:
        value = float(value)
    elif type(value) is not kind:
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        raise ConfigError(name, f"must be {wanted[kind]}", source)
    # No name, path or URL has them, and much of what they would be handed to fails badly on them.
    if kind is str and not value.isprintable():
        raise ConfigError(name, "must be one line without control characters", source)
    check = item.metadata["check"]
    problem = check(value) if check else None
    if problem:
        raise ConfigError(name, problem, source)
    return value


CONFIG = web.AppKey("config", Config)
