"""The sections of `config.toml`: every setting, its type and its check."""

from dataclasses import dataclass, field
from typing import Any

from referral.config import paths
from referral.config.checks import (
    Check,
    api_key,
    between,
    cache_url,
    code_texts,
    database_url,
    destination,
    domain,
    each_of,
    empty_or,
    event_types,
    ip_networks,
    mail_url,
    mailbox,
    one_of,
    public_url,
    rate,
    replica_url,
    secret_length,
    units,
    web_origins,
    web_url,
    words,
)
from referral.config.issuers import Issuer
from referral.config.weights import weights


def setting(check: Check | None = None, *, hidden: bool = False, place: paths.Place | None = None) -> Any:
    """A field with its check; `hidden` fields, and what they were set to, never appear in a message or a repr. `place` makes
    relative paths absolute, before the check."""
    return field(metadata={"check": check, "hidden": hidden, "place": place}, repr=not hidden)


@dataclass(frozen=True, slots=True)
class Server:
    host: str = setting(lambda value: None if value else "must not be empty")
    port: int = setting(between(0, 65535))
    workers: int = setting(between(1, 64))
    public_url: str = setting(public_url)
    trusted_proxies: tuple[str, ...] = setting(ip_networks)
    cors_origins: tuple[str, ...] = setting(web_origins)
    drain: int = setting(between(0, 300))
    keepalive: int = setting(between(1, 7200))


@dataclass(frozen=True, slots=True)
class Database:
    url: str = setting(database_url, hidden=True, place=paths.database_url)
    replica_url: str = setting(empty_or(replica_url), hidden=True, place=paths.database_url)
    pool_size: int = setting(between(1, 1_000))
    pooler_keeps_statements: bool = setting()


@dataclass(frozen=True, slots=True)
class Cache:
    url: str = setting(cache_url, hidden=True, place=paths.cache_url)
    timeout: float = setting(between(0.005, 10))
    connect_timeout: float = setting(between(0.05, 30))


@dataclass(frozen=True, slots=True)
class Auth:
    algorithm: str = setting(one_of("HS256", "EdDSA", "RS256"))
    secret: str = setting(empty_or(secret_length), hidden=True)
    previous_secret: str = setting(empty_or(secret_length), hidden=True)
    key_file: str = setting(place=paths.file)
    access_token_ttl: int = setting(between(10, 86_400))
    refresh_token_ttl: int = setting(between(60, 31_536_000))
    session_ttl: int = setting(between(60, 315_360_000))
    bcrypt_rounds: int = setting(between(4, 31))
    password_min_length: int = setting(between(1, 128))
    unverified: str = setting(empty_or(one_of("limited", "full")))
    reserved_usernames: tuple[str, ...] = setting(words)


@dataclass(frozen=True, slots=True)
class Identity:
    issuers: tuple[Issuer, ...] = setting()
    enrol: bool = setting()


@dataclass(frozen=True, slots=True)
class Codes:
    length: int = setting(between(6, 32))
    max_ttl_days: int = setting(between(1, 36_500))
    public_lookup: bool = setting()
    reserved: tuple[str, ...] = setting(code_texts)


@dataclass(frozen=True, slots=True)
class Mail:
    url: str = setting(mail_url, hidden=True, place=paths.mail_url)
    sender: str = setting(mailbox)
    link_base: str = setting(empty_or(web_url))


# What Hunter's Email Verifier says of an address; a valid one cannot be refused.
HUNTER_STATUSES = ("valid", "accept_all", "webmail", "unknown", "invalid", "disposable")
# The word of `hunter.refuse` for what Hunter does not say: the person asked it not to process their data (its status 451).
UNPROCESSABLE = "unprocessable"


@dataclass(frozen=True, slots=True)
class Hunter:
    api_key: str = setting(api_key, hidden=True)
    base_url: str = setting(web_url)
    refuse: tuple[str, ...] = setting(each_of(*HUNTER_STATUSES[1:], UNPROCESSABLE))
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
    reset_by_account: str = setting(rate)
    codes_by_user: str = setting(rate)
    lookup_by_user: str = setting(rate)
    lookup_by_address: str = setting(rate)
    request_by_user: str = setting(rate)
    request_by_address: str = setting(rate)
    events_by_key: str = setting(rate)
    clicks_by_address: str = setting(rate)
    redirects_by_address: str = setting(rate)


@dataclass(frozen=True, slots=True)
class Attribution:
    converts_on: tuple[str, ...] = setting(event_types)
    after_signup_days: int = setting(between(0, 36_500))
    window_days: int = setting(between(1, 3_650))
    readdress_days: int = setting(between(0, 3_650))


@dataclass(frozen=True, slots=True)
class Links:
    destination: str = setting(empty_or(destination))
    base: str = setting(empty_or(web_url))
    allowed_origins: tuple[str, ...] = setting(web_origins)
    cookie_domain: str = setting(empty_or(domain))


@dataclass(frozen=True, slots=True)
class Clicks:
    keep_days: int = setting(between(1, 3_650))


@dataclass(frozen=True, slots=True)
class Privacy:
    referrals: str = setting(one_of("signed-in", "own"))


@dataclass(frozen=True, slots=True)
class Rewards:
    units: tuple[str, ...] = setting(units)
    hold_days: float = setting(between(0, 365))


@dataclass(frozen=True, slots=True)
class Admin:
    require_totp: bool = setting()


@dataclass(frozen=True, slots=True)
class Redemptions:
    by_user: bool = setting()


@dataclass(frozen=True, slots=True)
class Webhooks:
    allowed_networks: tuple[str, ...] = setting(ip_networks)
    timeout: float = setting(between(0.1, 60))
    concurrency: int = setting(between(1, 100))
    keep_days: int = setting(between(1, 3_650))


@dataclass(frozen=True, slots=True)
class Context:
    keep_days: int = setting(between(1, 3_650))


@dataclass(frozen=True, slots=True)
class Fraud:
    review_at: int = setting(between(0, 1_000_000))
    per_hour: int = setting(between(1, 1_000_000))
    reminder_days: int = setting(between(1, 3_650))
    weights: tuple[str, ...] = setting(weights)


@dataclass(frozen=True, slots=True)
class Audit:
    keep_days: int = setting(between(0, 36_500))
    keep_days_unknown: int = setting(between(0, 36_500))


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
    identity: Identity
    codes: Codes
    mail: Mail
    hunter: Hunter
    enrichment: Enrichment
    limits: Limits
    attribution: Attribution
    links: Links
    clicks: Clicks
    privacy: Privacy
    rewards: Rewards
    admin: Admin
    redemptions: Redemptions
    webhooks: Webhooks
    context: Context
    fraud: Fraud
    audit: Audit
    log: Log

    @property
    def limits_unverified(self) -> bool:
        """Whether an account speaks for its address only once that is verified: unless said otherwise, where mail is
        sent."""
        return (self.auth.unverified or ("full" if self.mail.url.startswith("file:") else "limited")) == "limited"
