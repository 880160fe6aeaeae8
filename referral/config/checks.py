"""What a setting may be: each check says what is wrong with a value, or None."""

import ipaddress
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, urlsplit

from referral.config.addresses import mailbox_of, parse_smtp_url
from referral.config.postgres_url import is_postgres_url, parse_postgres_url
from referral.config.public_url import parse_public_url
from referral.config.redis_url import parse_redis_url

Check = Callable[[Any], str | None]


def between(low: float, high: float) -> Check:
    """Both ends are allowed."""
    return lambda value: None if low <= value <= high else f"must be between {low} and {high}, not {value}"


def one_of(*choices: str) -> Check:
    """One of these words, letter case included."""
    return lambda value: None if value in choices else f"must be one of {', '.join(choices)}, not {value!r}"


def _refusal(parse: Callable[[str], object], value: str) -> str | None:
    """What has the parser refuse the value."""
    try:
        parse(value)
    except ValueError as error:
        return str(error)
    return None


def _parts(value: str) -> SplitResult | None:
    try:
        parts = urlsplit(value)
        return parts if parts.port != 0 else None
    except ValueError:
        return None


def database_url(value: str) -> str | None:
    """`sqlite:///FILE`, whatever characters are in its name, or a PostgreSQL URL."""
    if re.match("sqlite:///(?!:memory:).", value):
        return None
    if is_postgres_url(value):
        return _refusal(parse_postgres_url, value)
    return "must be sqlite:///relative/path, sqlite:////absolute/path or postgresql://user:password@host/name"


def replica_url(value: str) -> str | None:
    """A PostgreSQL URL."""
    return database_url(value) if is_postgres_url(value) else "must be postgresql://user:password@host/name, of a standby"


def cache_url(value: str) -> str | None:
    """`memory://`, `none://` or a Redis; what is said of a wrong one gives nothing of it away."""
    return None if value in ("memory://", "none://") else _refusal(parse_redis_url, value)


# ASCII without spaces, and without the characters that browsers read otherwise than the URL standard writes them.
_VISIBLE = re.compile(r"[!-\[\]-~]+")
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+")


def _page_parts(value: str) -> SplitResult | None:
    """The parts of an http or https URL in characters that can travel in a header; None for anything else."""
    parts = _parts(value)
    is_page = parts and parts.scheme in ("http", "https") and parts.hostname and _VISIBLE.fullmatch(value)
    return parts if is_page else None


def web_url(value: str) -> str | None:
    """An http or https URL that paths can be appended to."""
    parts = _page_parts(value)
    return None if parts and not parts.query and not parts.fragment else "must be an http or https URL without a query"


def destination(value: str) -> str | None:
    """An http or https URL of a page, with or without a query."""
    parts = _page_parts(value)
    if parts and "@" not in parts.netloc:
        return None
    return "must be the http or https URL of a page, special characters percent-encoded"


def domain(value: str) -> str | None:
    """A domain whose hosts share a cookie."""
    return None if _DOMAIN.fullmatch(value) else "must be a domain such as example.com"


def public_url(value: str) -> str | None:
    """Where the service is reached, with or without a path of its own."""
    return _refusal(parse_public_url, value)


# Browsers write the hosts of these schemes in lower case, as the URL standard has it, and no port that is the scheme's own.
_WEB_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:\d{1,5})?")
# Any other scheme is an application's own: capacitor://localhost, tauri://localhost, safari-web-extension://5A0C…. Its host
# stays as the application wrote it.
_APP_ORIGIN = re.compile(r"(?!(?:https?|wss?|ftp|file|blob|data):)[a-z][a-z0-9+.-]*://[A-Za-z0-9._-]+(:\d{1,5})?")
_DEFAULT_PORT = re.compile(r"http://.*:80|https://.*:443")


def web_origins(values: tuple[str, ...]) -> str | None:
    """Origins (RFC 6454) just as browsers and WebViews send them: they are compared as texts."""
    for value in values:
        if not (_WEB_ORIGIN.fullmatch(value) or _APP_ORIGIN.fullmatch(value)) or _DEFAULT_PORT.fullmatch(value):
            return f"must list origins such as https://app.example.com or capacitor://localhost, not {value!r}"
    return None


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
        parse_smtp_url(value)
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


def code_texts(values: tuple[str, ...]) -> str | None:
    """Texts that could be codes."""
    wrong = [value for value in values if not re.fullmatch("[A-Za-z0-9_-]{4,32}", value)]
    return f"must list codes of 4 to 32 of A-Z, 0-9, '-' and '_', not {wrong[0]!r}" if wrong else None


# A code of ISO 4217 has the exponent that the standard says; a unit of one's own says it.
_UNIT = re.compile(r"[A-Z]{3}|[A-Z][A-Z0-9_]{1,19}:\d")


# The shipped ones, for which the list of all is not read: that takes as long as a tenth of a start.
_KNOWN_CURRENCIES = frozenset(("USD", "EUR", "GBP"))


def _is_currency(value: str) -> bool:
    if ":" in value or value in _KNOWN_CURRENCIES:
        return True
    from iso4217 import Currency

    return any(currency.code == value for currency in Currency)


def units(values: tuple[str, ...]) -> str | None:
    """Units of rewards and prices, each once."""
    wrong = [value for value in values if not _UNIT.fullmatch(value) or not _is_currency(value)]
    if wrong:
        return f"must list currencies such as USD, or units of your own such as POINTS:0, not {wrong[0]!r}"
    names = [value.partition(":")[0] for value in values]
    return None if len(set(names)) == len(names) else "must list each unit once"


_EVENT_TYPE = re.compile(r"[a-z][a-z0-9._-]{0,63}")


def event_types(values: tuple[str, ...]) -> str | None:
    """Types of events; a refund does nothing of its own."""
    wrong = [value for value in values if not _EVENT_TYPE.fullmatch(value) or value == "refund"]
    return f"must list types of events such as purchase, not {wrong[0]!r}" if wrong else None


def words(values: tuple[str, ...]) -> str | None:
    """Texts without spaces."""
    wrong = [value for value in values if not value or not value.isprintable() or " " in value]
    return f"must list words, not {wrong[0]!r}" if wrong else None


def rate(value: str) -> str | None:
    """What the limits library reads, one rate a setting."""
    if re.fullmatch(r"[1-9]\d{0,9}/([1-9]\d{0,4} ?)?(second|minute|hour|day)s?", value):
        return None
    return "must be a rate such as 10/minute or 100/15 minutes"
