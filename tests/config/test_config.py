"""Settings: defaults, the four places they come from, and every wrong value told in one line."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from referral.config import DEFAULTS, ROOT, Config, ConfigError, load_config
from referral.config.issuers import Issuer
from referral.config.sections import Limits
from tests.support.service import run_py

# What the contract says a setting is when nobody sets it. A new setting needs its line here and below.
EXPECTED: dict[str, Any] = {
    "server.host": "127.0.0.1",
    "server.port": 8000,
    "server.workers": 1,
    "server.public_url": "http://127.0.0.1:8000",
    "server.trusted_proxies": (),
    "server.cors_origins": (),
    "server.drain": 0,
    "server.keepalive": 75,
    "database.url": f"sqlite:///{ROOT}/var/referral.db",
    "database.replica_url": "",
    "database.pool_size": 10,
    "database.pooler_keeps_statements": False,
    "cache.url": "memory://",
    "cache.timeout": 0.05,
    "cache.connect_timeout": 1.0,
    "auth.algorithm": "HS256",
    "auth.secret": "",
    "auth.previous_secret": "",
    "auth.key_file": "",
    "auth.access_token_ttl": 900,
    "auth.refresh_token_ttl": 30 * 86_400,
    "auth.session_ttl": 180 * 86_400,
    "auth.bcrypt_rounds": 12,
    "auth.password_min_length": 8,
    "auth.unverified": "",
    "auth.reserved_usernames": (
        *("admin", "administrator", "root", "system", "security", "support", "help", "info", "moderator", "staff"),
        *("official", "service", "abuse", "billing", "postmaster", "hostmaster", "webmaster", "noreply", "null"),
        *("админ", "администратор", "модератор", "поддержка", "помощь"),
    ),
    "identity.issuers": (),
    "identity.enrol": True,
    "codes.length": 8,
    "codes.max_ttl_days": 3650,
    "codes.public_lookup": False,
    "codes.reserved": (),
    "mail.url": f"file:{ROOT}/var/mail",
    "mail.sender": "Referrals <referrals@localhost>",
    "mail.link_base": "",
    "hunter.api_key": "",
    "hunter.base_url": "https://api.hunter.io/v2",
    "hunter.refuse": ("invalid", "disposable", "unprocessable"),
    "hunter.on_unavailable": "accept",
    "hunter.timeout": 3.0,
    "enrichment.provider": "",
    "enrichment.api_key": "",
    "enrichment.base_url": "",
    "limits.enabled": True,
    "limits.login_by_address": "30/minute",
    "limits.login_by_account": "10/15 minutes",
    "limits.registration_by_address": "30/hour",
    "limits.registration_by_code": "500/hour",
    "limits.mail_by_account": "5/hour",
    "limits.reset_by_account": "3/15 minutes",
    "limits.codes_by_user": "20/hour",
    "limits.lookup_by_user": "1000/minute",
    "limits.lookup_by_address": "300/minute",
    "limits.request_by_user": "600/minute",
    "limits.request_by_address": "300/minute",
    "limits.events_by_key": "6000/minute",
    "limits.clicks_by_address": "60/minute",
    "limits.redirects_by_address": "300/minute",
    "attribution.converts_on": ("purchase",),
    "attribution.after_signup_days": 30,
    "attribution.window_days": 30,
    "attribution.readdress_days": 90,
    "links.destination": "",
    "links.base": "",
    "links.allowed_origins": (),
    "links.cookie_domain": "",
    "clicks.keep_days": 90,
    "privacy.referrals": "signed-in",
    "rewards.units": ("USD", "EUR", "GBP", "POINTS:0"),
    "rewards.hold_days": 30.0,
    "admin.require_totp": False,
    "redemptions.by_user": False,
    "webhooks.allowed_networks": (),
    "webhooks.timeout": 15.0,
    "webhooks.concurrency": 4,
    "webhooks.keep_days": 30,
    "context.keep_days": 90,
    "fraud.review_at": 50,
    "fraud.per_hour": 10,
    "fraud.reminder_days": 7,
    "fraud.weights": (),
    "audit.keep_days": 365,
    "audit.keep_days_unknown": 30,
    "log.level": "info",
    "log.format": "text",
}

GOOD_ISSUER: dict[str, Any] = {"issuer": "https://login.example.com", "audience": "referral"}
BAD_URLS = (
    "login.example.com",
    "https://",
    "https://[::1",
    "https://host:port",
    "https://host:0",
    "https://user@example.com",
    "https://login.example.com/#here",
    "https://login.example.com/a b",
    "ftp://login.example.com",
    "file:///etc/keys",
    "http://login.example.com",
    "http://10.0.0.1",
    "http://localhost.example.com",
    "http://127.0.0.1.example.com",
)


NO_TEXTS: tuple[Any, ...] = ("", "two\nlines", None, 1, [])


def issuers(*entries: dict[str, Any]) -> str:
    return json.dumps(entries)


RATES = [item.name for item in fields(Limits) if item.name != "enabled"]

# Texts, as the environment gives them: another good value, and values that must stop the start.
GOOD: dict[str, tuple[str, Any]] = {
    "server.host": ("::", "::"),
    "server.port": ("0", 0),
    "server.workers": ("1", 1),
    "server.public_url": ("https://example.com/referrals", "https://example.com/referrals"),
    "server.trusted_proxies": ("10.0.0.0/8, ::1", ("10.0.0.0/8", "::1")),
    "server.cors_origins": (
        "https://app.example.com, http://localhost:3000, capacitor://localhost",
        ("https://app.example.com", "http://localhost:3000", "capacitor://localhost"),
    ),
    "server.drain": ("20", 20),
    "server.keepalive": ("620", 620),
    "database.url": ("sqlite:////data/50%20off?.db", "sqlite:////data/50%20off?.db"),
    "database.replica_url": ("", ""),
    "database.pool_size": ("1", 1),
    "database.pooler_keeps_statements": ("yes", True),
    "cache.url": ("none://", "none://"),
    "cache.timeout": ("0.1", 0.1),
    "cache.connect_timeout": ("3", 3.0),
    "auth.algorithm": ("EdDSA", "EdDSA"),
    "auth.secret": ("s" * 32, "s" * 32),
    "auth.previous_secret": ("t" * 32, "t" * 32),
    "auth.key_file": ("/keys/sign in.pem", "/keys/sign in.pem"),
    "auth.access_token_ttl": ("10", 10),
    "auth.refresh_token_ttl": ("3600", 3600),
    "auth.session_ttl": ("86400", 86_400),
    "auth.bcrypt_rounds": ("4", 4),
    "auth.password_min_length": ("12", 12),
    "auth.unverified": ("limited", "limited"),
    "auth.reserved_usernames": ("Acme, поддержка", ("Acme", "поддержка")),
    "identity.issuers": (
        '[{"issuer": "https://login.example.com/", "audience": "referral"}]',
        (Issuer("https://login.example.com/", "referral", "", True),),
    ),
    "identity.enrol": ("no", False),
    "codes.length": ("32", 32),
    "codes.max_ttl_days": ("1", 1),
    "codes.public_lookup": ("Yes", True),
    "codes.reserved": ("Acme, free-2027", ("Acme", "free-2027")),
    "mail.url": ("file:/data/mail", "file:/data/mail"),
    "mail.sender": ("Рефералы <a@example.com>", "Рефералы <a@example.com>"),
    "mail.link_base": ("https://example.com/account", "https://example.com/account"),
    "hunter.api_key": ("key-of-hunter", "key-of-hunter"),
    "hunter.base_url": ("http://127.0.0.1:9/v2", "http://127.0.0.1:9/v2"),
    "hunter.refuse": ("unprocessable, webmail", ("unprocessable", "webmail")),
    "hunter.on_unavailable": ("reject", "reject"),
    "hunter.timeout": ("2", 2.0),
    "enrichment.provider": ("", ""),
    "enrichment.api_key": ("key-of-provider", "key-of-provider"),
    "enrichment.base_url": ("http://127.0.0.1:9", "http://127.0.0.1:9"),
    "limits.enabled": ("false", False),
    **{f"limits.{name}": ("7/15 minutes", "7/15 minutes") for name in RATES},
    "limits.events_by_key": ("1/hour", "1/hour"),
    "limits.clicks_by_address": ("1/hour", "1/hour"),
    "limits.redirects_by_address": ("1/hour", "1/hour"),
    "attribution.converts_on": ("purchase, renewal", ("purchase", "renewal")),
    "attribution.after_signup_days": ("0", 0),
    "attribution.window_days": ("1", 1),
    "attribution.readdress_days": ("0", 0),
    "links.destination": ("https://shop.example.com/?a=1&a=2#top", "https://shop.example.com/?a=1&a=2#top"),
    "links.base": ("https://go.example.com", "https://go.example.com"),
    "links.allowed_origins": (
        "https://shop.example.com, http://localhost:3000",
        ("https://shop.example.com", "http://localhost:3000"),
    ),
    "links.cookie_domain": ("example.com", "example.com"),
    "clicks.keep_days": ("1", 1),
    "privacy.referrals": ("own", "own"),
    "rewards.units": ("CHF, MILES:2", ("CHF", "MILES:2")),
    "rewards.hold_days": ("0.5", 0.5),
    "admin.require_totp": ("true", True),
    "redemptions.by_user": ("true", True),
    "webhooks.allowed_networks": ("10.0.0.0/8, fd00::/8", ("10.0.0.0/8", "fd00::/8")),
    "webhooks.timeout": ("0.5", 0.5),
    "webhooks.concurrency": ("1", 1),
    "webhooks.keep_days": ("1", 1),
    "context.keep_days": ("1", 1),
    "fraud.review_at": ("0", 0),
    "fraud.per_hour": ("1", 1),
    "fraud.reminder_days": ("1", 1),
    "fraud.weights": ("same-network=0, burst=1000", ("same-network=0", "burst=1000")),
    "audit.keep_days": ("0", 0),
    "audit.keep_days_unknown": ("7", 7),
    "log.level": ("debug", "debug"),
    "log.format": ("json", "json"),
}
BAD: dict[str, tuple[str, ...]] = {
    "server.host": ("", "two\nlines", "nul\0byte"),
    "server.port": ("-1", "65536", "http", "", "80.5"),
    "server.workers": ("0", "65", "many", "2"),
    "server.public_url": (
        "",
        "example.com",
        "ftp://example.com",
        "http://",
        "http://[::1",
        "http://host:port",
        "http://h?q=1",
    ),
    "server.trusted_proxies": ("proxy", "10.0.0.1/8", "10.0.0.0/33"),
    "server.cors_origins": (
        "*",
        "null",
        "app.example.com",
        "https://app.example.com/",
        "https://App.example.com",
        "https://*.example.com",
        "https://a@example.com",
        "ftp://example.com",
        "https://",
        "https://app.example.com:443",
        "http://localhost:80",
        "file://",
        "capacitor://",
        "capacitor://localhost/",
        "Capacitor://localhost",
        "capacitor://*",
        "capacitor:localhost",
        "tauri://user@localhost",
        "wss://example.com",
        "blob:https://example.com",
    ),
    "server.drain": ("-1", "301", "short"),
    "server.keepalive": ("0", "7201", "1.5"),
    "database.url": (
        "",
        "mysql://host/name",
        "sqlite://referral.db",
        "sqlite:///",
        "sqlite:///:memory:",
        "referral.db",
        "postgresql://[::1/name",
        "sqlite:///nul\0byte",
        "postgres://host/name?channel_binding=require",
    ),
    "database.replica_url": ("sqlite:///other.db", "postgres://host/name?colour=red", "host"),
    "database.pool_size": ("0", "1001", "ten"),
    "database.pooler_keeps_statements": ("maybe", ""),
    "cache.url": ("", "memcached://host", "redis://[::1", "redis://host:port"),
    "cache.timeout": ("0", "0.004", "11", "soon"),
    "cache.connect_timeout": ("0", "0.01", "31"),
    "auth.algorithm": ("", "none", "HS512", "hs256"),
    "auth.secret": ("s" * 31, "only a short one"),
    "auth.previous_secret": ("s" * 31, "only a short one"),
    "auth.key_file": ("two\nlines", "nul\0byte"),
    "auth.access_token_ttl": ("0", "9", "86401", "15m", "nan"),
    "auth.refresh_token_ttl": ("59", "31536001", "30d"),
    "auth.session_ttl": ("59", "315360001", "180d"),
    "auth.bcrypt_rounds": ("3", "32", "twelve"),
    "auth.password_min_length": ("0", "129", "long"),
    "auth.unverified": ("none", "Full"),
    "auth.reserved_usernames": ("two words", "tab\there"),
    "identity.issuers": (
        "https://login.example.com",
        "[" * 100_000,
        "{}",
        "null",
        '["https://login.example.com"]',
        issuers({}),
        issuers({"issuer": "https://login.example.com"}),
        issuers({"audience": "referral"}),
        *(issuers(GOOD_ISSUER | {key: value}) for key in ("issuer", "audience", "jwks_url") for value in NO_TEXTS),
        *(issuers(GOOD_ISSUER | {"subject_is_external_id": value}) for value in ("true", 1, None)),
        issuers(GOOD_ISSUER | {"aud": "referral"}),
        *(issuers(GOOD_ISSUER | {"issuer": url}) for url in (*BAD_URLS, "https://login.example.com/?tenant=1")),
        *(issuers(GOOD_ISSUER | {"jwks_url": url}) for url in BAD_URLS),
        issuers(GOOD_ISSUER, GOOD_ISSUER | {"subject_is_external_id": False}),
        issuers(GOOD_ISSUER, {**GOOD_ISSUER, "audience": "others", "jwks_url": "https://login.example.com/keys"}),
    ),
    "identity.enrol": ("", "maybe"),
    "codes.length": ("5", "33", "8.0"),
    "codes.max_ttl_days": ("0", "36501", "forever"),
    "codes.public_lookup": ("maybe", "", "2"),
    "codes.reserved": ("abc", "ACME, two words", "straße"),
    "mail.url": ("", "file:", "http://host", "var/mail", "smtp://"),
    "mail.sender": ("", "nobody", "Referrals", "a@b\r\nBcc: c@d", "@example.com", "a@"),
    "mail.link_base": ("/account", "https://", "https://example.com/?page="),
    "hunter.api_key": ("with space", "ключ"),
    "hunter.base_url": ("", "api.hunter.io"),
    "hunter.refuse": ("valid", "invalid,nonsense", "451"),
    "hunter.on_unavailable": ("", "ignore"),
    "hunter.timeout": ("0", "31", "nan", "inf", "soon"),
    "enrichment.provider": ("somebody", "clearbit"),
    "enrichment.api_key": ("with space",),
    "enrichment.base_url": ("example.com",),
    "limits.enabled": ("maybe",),
    **{f"limits.{name}": ("", "10", "0/minute", "10/fortnight", "ten/minute", "1/minute;5/hour") for name in RATES},
    "attribution.converts_on": ("Purchase", "refund", "a b", "-a", "x" * 65),
    "attribution.after_signup_days": ("-1", "36501", "later"),
    "attribution.window_days": ("0", "3651", "long"),
    "attribution.readdress_days": ("-1", "3651", "forever"),
    "links.destination": (
        "/welcome",
        "shop.example.com",
        "ftp://shop.example.com",
        "javascript:alert(1)",
        "https://",
        "https://user@shop.example.com/",
        "https://shop.example.com/a b",
        "https://shop.example.com/\\evil",
        "https://мир.example/",
        "https://shop.example.com:x/",
    ),
    "links.base": ("/r", "https://", "https://go.example.com/?r="),
    "links.allowed_origins": ("shop.example.com", "https://shop.example.com/", "https://Shop.example.com", "*"),
    "links.cookie_domain": ("localhost", ".example.com", "example.com; Secure", "exa mple.com", "Example.com", "192.0.2."),
    "clicks.keep_days": ("0", "3651", "for ever"),
    "privacy.referrals": ("", "nobody"),
    "rewards.units": ("usd", "US", "USD:2, USD", "POINTS", "A:0", "POINTS:10", "USD, EUR, USD", "$", "USX"),
    "rewards.hold_days": ("-1", "365.1", "a month"),
    "admin.require_totp": ("", "maybe"),
    "redemptions.by_user": ("", "maybe"),
    "webhooks.allowed_networks": ("10.0.0.1/8", "everything"),
    "webhooks.timeout": ("0", "61", "long"),
    "webhooks.concurrency": ("0", "101", "few"),
    "webhooks.keep_days": ("0", "3651", "for ever"),
    "context.keep_days": ("0", "3651", "long"),
    "fraud.review_at": ("-1", "1000001", "many"),
    "fraud.per_hour": ("0", "1000001", "many"),
    "fraud.reminder_days": ("0", "3651", "a week"),
    "fraud.weights": ("burst", "burst=1001", "burst=-1", "reported=5", "Burst=5", "burst = 5", "burst=5, burst=6", "none=1"),
    "audit.keep_days": ("-1", "36501", "forever"),
    "audit.keep_days_unknown": ("-1", "36501", "forever"),
    "log.level": ("", "loud", "INFO"),
    "log.format": ("", "xml"),
}

SETTINGS = [f"{section.name}.{item.name}" for section in fields(Config) for item in fields(section.type)]  # type: ignore[arg-type]


def get(config: Config, setting: str) -> Any:
    section, _, key = setting.partition(".")
    return getattr(getattr(config, section), key)


def variable(setting: str) -> str:
    return f"REFERRAL_{setting.replace('.', '_').upper()}"


def hidden(setting: str) -> bool:
    section, _, key = setting.partition(".")
    kind = next(item.type for item in fields(Config) if item.name == section)
    return bool(next(item.metadata["hidden"] for item in fields(kind) if item.name == key))  # type: ignore[arg-type]


def test_every_setting_is_tested_here() -> None:
    for table in (EXPECTED, GOOD, BAD):
        assert list(table) == SETTINGS


def test_the_defaults_are_those_of_the_contract() -> None:
    config = load_config(environ={})
    assert {setting: get(config, setting) for setting in SETTINGS} == EXPECTED


def test_the_environment_sets_each_setting() -> None:
    environ = {variable(setting): text for setting, (text, _) in GOOD.items()}
    config = load_config(environ=environ)
    for setting, (_, value) in GOOD.items():
        assert get(config, setting) == value
        assert type(get(config, setting)) is type(EXPECTED[setting])


def test_a_file_named_by_the_environment_sets_each_setting(tmp_path: Path) -> None:
    environ = {}
    for setting, (text, _) in GOOD.items():
        file = tmp_path / setting
        # As editors and `echo` leave it.
        file.write_text(f"{text}\n")
        environ[f"{variable(setting)}_FILE"] = str(file)
    config = load_config(environ=environ)
    assert {setting: get(config, setting) for setting in SETTINGS} == {
        setting: value for setting, (_, value) in GOOD.items()
    }


def write_toml(file: Path, setting: str, value: str) -> Path:
    section, _, key = setting.partition(".")
    file.write_text(f"[{section}]\n{key} = {value}\n")
    return file


def test_another_config_file_is_laid_over_the_defaults_and_the_environment_over_both(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[server]\nport = 9000\nhost = "0.0.0.0"\n[hunter]\nrefuse = []\ntimeout = 1\n')
    config = load_config(other, {"REFERRAL_SERVER_PORT": "9001"})
    assert (config.server.port, config.server.host, config.codes.length) == (9001, "0.0.0.0", 8)
    assert (config.hunter.refuse, config.hunter.timeout) == ((), 1.0)


@pytest.mark.parametrize("setting", SETTINGS)
def test_each_wrong_value_is_told_in_one_line_with_setting_problem_and_source(setting: str, tmp_path: Path) -> None:
    for text in BAD[setting]:
        with pytest.raises(ConfigError) as caught:
            load_config(environ={variable(setting): text})
        line = str(caught.value)
        assert "\n" not in line
        source = f"(read from environment variable {variable(setting)})"
        if (setting, text) == ("enrichment.provider", "clearbit"):
            setting, source = "enrichment.api_key", f"(read from {DEFAULTS})"
        assert line.startswith(f"{setting}: ")
        assert line.endswith(source)
        assert re.search(r": (must|may|has|is) .+ \(", line), line
        if hidden(setting) and len(text) > 10:
            assert text not in line


def test_a_wrong_value_in_a_file_is_told_with_the_file(tmp_path: Path) -> None:
    for setting, value, problem in (
        ("server.port", '"8000"', "must be a whole number"),
        ("server.port", "true", "must be a whole number"),
        ("server.port", "70000", "must be between 0 and 65535, not 70000"),
        ("server.host", "1", "must be a text"),
        ("codes.public_lookup", "1", "must be true or false"),
        ("hunter.timeout", '"3"', "must be a number"),
        ("hunter.refuse", '"invalid"', "must be a list of texts"),
        ("hunter.refuse", "[1]", "must be a list of texts"),
        ("log.level", '"loud"', "must be one of debug, info, warning, error, not 'loud'"),
    ):
        file = write_toml(tmp_path / "other.toml", setting, value)
        with pytest.raises(ConfigError) as caught:
            load_config(file, {})
        assert str(caught.value) == f"{setting}: {problem} (read from {file})"


def test_what_is_no_setting_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    for content, name in (
        ("[server]\nprot = 1\n", "server.prot"),
        ("[servers]\nport = 1\n", "servers.port"),
        ("port = 1\n", "port"),
    ):
        file = tmp_path / "other.toml"
        file.write_text(content)
        with pytest.raises(ConfigError, match=f"^{re.escape(name)}: "):
            load_config(file, {})
    for name in ("REFERRAL_SERVER_PROT", "REFERRAL_PROT", "REFERRAL_SERVR_PORT", "REFERRAL_SERVER_PROT_FILE", "REFERRAL_"):
        with pytest.raises(ConfigError, match=f"^{name}: is no setting of this service"):
            load_config(environ={name: "9000"})


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for content, problem in ((None, "cannot be read"), (b"[server", "is not TOML"), (b"# \xff", "is not TOML")):
        file = tmp_path / "other.toml"
        if content:
            file.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load_config(file, {})
        assert str(caught.value).startswith(f"--config: {problem}")
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="--config: cannot be read"):
        load_config(tmp_path, {})
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ConfigError, match=r"^auth.secret: its file cannot be read: .*REFERRAL_AUTH_SECRET_FILE"):
            load_config(environ={"REFERRAL_AUTH_SECRET_FILE": str(path)})


def test_secrets_are_in_no_repr() -> None:
    secrets = {
        "auth.secret": "a secret of more than thirty-two characters",
        "auth.previous_secret": "a secret of more than thirty-two characters",
        "database.url": "postgresql://referral:a-password@host/name",
        "database.replica_url": "postgresql://referral:a-password@standby/name",
        "cache.url": "redis://:a-password@host:6379/0",
        "hunter.api_key": "a-key-of-hunter",
        "enrichment.api_key": "a-key-of-the-provider",
    }
    assert all(hidden(setting) for setting in (*secrets, "mail.url"))
    config = load_config(environ={variable(setting): value for setting, value in secrets.items()})
    for value in ("a secret of", "a-password", "a-key-of"):
        assert value not in repr(config)
    assert "8000" in repr(config)


def test_only_postgresql_has_a_standby() -> None:
    standby = "postgresql://referral:a-password@standby/name"
    with pytest.raises(ConfigError, match=r"^database.replica_url: must be empty where database.url is a SQLite file"):
        load_config(environ={"REFERRAL_DATABASE_REPLICA_URL": standby})
    environ = {"REFERRAL_DATABASE_REPLICA_URL": standby, "REFERRAL_DATABASE_URL": "postgres://primary/name"}
    assert load_config(environ=environ).database.replica_url == standby


def test_what_kubernetes_sets_beside_a_service_is_no_setting() -> None:
    services: dict[str, str] = {}
    for service in ("REFERRAL", "REFERRAL_SERVER", "REFERRAL_REDIS"):
        services |= {
            f"{service}_SERVICE_HOST": "10.0.0.1",
            f"{service}_SERVICE_PORT": "8000",
            f"{service}_SERVICE_PORT_HTTP": "8000",
            f"{service}_PORT": "tcp://10.0.0.1:8000",
            f"{service}_PORT_8000_TCP": "tcp://10.0.0.1:8000",
            f"{service}_PORT_8000_TCP_PROTO": "tcp",
            f"{service}_PORT_8000_TCP_PORT": "8000",
            f"{service}_PORT_8000_TCP_ADDR": "10.0.0.1",
        }
    assert load_config(environ=services) == load_config(environ={})


def test_config_toml_has_exactly_the_settings_each_with_a_comment() -> None:
    document = tomllib.loads(DEFAULTS.read_text())
    assert [f"{section}.{key}" for section, members in document.items() for key in members] == SETTINGS
    lines = DEFAULTS.read_text().splitlines()
    for number, line in enumerate(lines):
        key = re.match(r"(\w+) = ", line)
        if key:
            before = lines[number - 1]
            assert re.search(r"\s# \w.{10}", line) or before.startswith("# "), f"{key[1]} says nothing of itself"


def test_a_wrong_setting_stops_a_start_with_one_line(tmp_path: Path) -> None:
    started = subprocess.run(
        run_py(),
        env={"REFERRAL_SERVER_PORT": "eighty"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == 2
    assert started.stderr == (
        "run.py: server.port: must be a number, not 'eighty' (read from environment variable REFERRAL_SERVER_PORT)\n"
    )
    assert not (tmp_path / "var").exists()


def test_issuers_are_listed_in_a_file_in_either_form_of_toml_and_in_the_environment_as_json(tmp_path: Path) -> None:
    file = tmp_path / "other.toml"
    expected = (
        Issuer("https://login.example.com", "referral", "https://login.example.com/keys?p=1", True),
        Issuer("http://127.0.0.1:8080/realms/shop", "account", "", False),
        Issuer("http://[::1]:8080", "referral", "http://localhost/keys", True),
    )
    entries: list[dict[str, Any]] = [
        {"issuer": "https://login.example.com", "audience": "referral", "jwks_url": "https://login.example.com/keys?p=1"},
        {"issuer": "http://127.0.0.1:8080/realms/shop", "audience": "account", "subject_is_external_id": False},
        {"issuer": "http://[::1]:8080", "audience": "referral", "jwks_url": "http://localhost/keys"},
    ]
    tables = [[f"{key} = {json.dumps(value)}" for key, value in entry.items()] for entry in entries]
    for content in (
        "[identity]\nissuers = [" + ", ".join(f"{{ {', '.join(table)} }}" for table in tables) + "]\n",
        "".join("[[identity.issuers]]\n" + "\n".join(table) + "\n" for table in tables),
    ):
        file.write_text(content)
        assert load_config(file, {}).identity.issuers == expected
        # An empty variable lists nobody, as it does for other lists.
        assert load_config(file, {"REFERRAL_IDENTITY_ISSUERS": ""}).identity.issuers == ()
    assert load_config(environ={"REFERRAL_IDENTITY_ISSUERS": json.dumps(entries)}).identity.issuers == expected


def test_an_issuer_for_two_audiences_is_listed_twice() -> None:
    twice = issuers(GOOD_ISSUER, GOOD_ISSUER | {"audience": "others"})
    found = load_config(environ={"REFERRAL_IDENTITY_ISSUERS": twice}).identity.issuers
    assert [entry.audience for entry in found] == ["referral", "others"]
    # What a subject means depends on who issues it alone.
    other = issuers(GOOD_ISSUER, GOOD_ISSUER | {"audience": "others", "subject_is_external_id": False})
    with pytest.raises(ConfigError, match="the same subject_is_external_id"):
        load_config(environ={"REFERRAL_IDENTITY_ISSUERS": other})


def test_the_service_is_no_issuer_beside_itself() -> None:
    environ = {"REFERRAL_IDENTITY_ISSUERS": issuers(GOOD_ISSUER), "REFERRAL_SERVER_PUBLIC_URL": GOOD_ISSUER["issuer"]}
    with pytest.raises(ConfigError, match="must not list this service itself"):
        load_config(environ=environ)


def test_what_is_wrong_with_an_issuer_is_told_with_the_entry(tmp_path: Path) -> None:
    for content, problem in (
        ("issuers = 1", "must be a list of issuers, each with issuer and audience"),
        ('issuers = [{ issuer = "https://a.example" }]', "must have audience in entry 1"),
        (
            'issuers = [{ issuer = "https://a.example", audience = "a", aud = "a" }]',
            "may have issuer, audience, jwks_url, subject_is_external_id, not 'aud' in entry 1",
        ),
        (
            'issuers = [{ issuer = "https://a.example", audience = "a" }, { issuer = "http://b.example", audience = "a" }]',
            "must have an https URL without a query, or an http URL of this machine, as issuer in entry 2",
        ),
    ):
        file = tmp_path / "other.toml"
        file.write_text(f"[identity]\n{content}\n")
        with pytest.raises(ConfigError) as caught:
            load_config(file, {})
        assert str(caught.value) == f"identity.issuers: {problem} (read from {file})"


@pytest.mark.parametrize(
    ("unverified", "url", "limits"),
    [
        ("", "file:var/mail", False),
        ("", "smtp://localhost:25", True),
        ("", "smtps://user:password@localhost:465", True),
        ("limited", "file:var/mail", True),
        ("full", "smtp://localhost:25", False),
    ],
)
def test_who_has_not_verified_is_limited_where_mail_is_sent_unless_said_otherwise(
    unverified: str, url: str, limits: bool
) -> None:
    config = load_config(environ={"REFERRAL_AUTH_UNVERIFIED": unverified, "REFERRAL_MAIL_URL": url})
    assert config.limits_unverified is limits
