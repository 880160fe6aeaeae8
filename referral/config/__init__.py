"""Settings: `config.toml`, overlaid by another file and by `REFERRAL_<SECTION>_<KEY>`, as frozen dataclasses."""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_origin

from aiohttp import web

from referral.config.issuers import Issuer, parse_issuers
from referral.config.postgres_url import is_postgres_url
from referral.config.sections import Config

__all__ = ["CONFIG", "DEFAULTS", "ROOT", "VAR", "Config", "ConfigError", "load_config"]

# The project's folder, under the name by which it was started.
ROOT = Path(__file__).absolute().parent.parent.parent
DEFAULTS = ROOT / "config.toml"
# What the service makes for itself is kept here, unless settings name another place.
VAR = ROOT / "var"

# Kubernetes sets these in every pod beside Services named "referral" or "referral-something".
_KUBERNETES = re.compile(r"REFERRAL_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)")
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was found: where, in words, and the folder that relative paths in it start from."""

    value: Any
    source: str
    folder: Path


class ConfigError(Exception):
    """A setting that cannot be used: its name, what is wrong with it and where it was read, in one line."""

    def __init__(self, setting: str, problem: str, source: str) -> None:
        super().__init__(f"{setting}: {problem} (read from {source})")
        self.setting = setting


def load_config(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read `config.toml`, then the file at `path`, then the environment; later ones win. Relative paths in a file are
    relative to its folder, and those in the environment to the working directory.

    Raises ConfigError for the first setting that is unknown, of the wrong type or out of its range.
    """
    values: dict[tuple[str, str], Given] = {}
    for file in (DEFAULTS, path) if path else (DEFAULTS,):
        values.update(_read_toml(file))
    values.update(_read_environment(environ))
    sections: dict[str, Any] = {}
    for section in fields(Config):
        assert isinstance(section.type, type)
        sections[section.name] = section.type(
            **{
                item.name: _checked(f"{section.name}.{item.name}", item, values[section.name, item.name])
                for item in fields(section.type)
            }
        )
    if sections["database"].replica_url and not is_postgres_url(sections["database"].url):
        raise ConfigError(
            "database.replica_url",
            "must be empty where database.url is a SQLite file, which has no standby",
            values["database", "replica_url"].source,
        )
    if sections["enrichment"].provider and not sections["enrichment"].api_key:
        raise ConfigError(
            "enrichment.api_key", "must be set with enrichment.provider", values["enrichment", "api_key"].source
        )
    if sections["clicks"].keep_days < sections["attribution"].window_days:
        raise ConfigError(
            "clicks.keep_days",
            "must not be less than attribution.window_days, for which a click counts",
            values["clicks", "keep_days"].source,
        )
    if any(entry.issuer == sections["server"].public_url for entry in sections["identity"].issuers):
        raise ConfigError(
            "identity.issuers",
            "must not list this service itself, which server.public_url names",
            values["identity", "issuers"].source,
        )
    if sections["server"].workers > 1 and sections["cache"].url.startswith("memory:"):
        # Nobody tells a memory cache what other workers change.
        raise ConfigError(
            "server.workers",
            "must be 1 with cache.url = memory://; several workers share redis:// or use none://",
            values["server", "workers"].source,
        )
    return Config(**sections)


def _known() -> dict[tuple[str, str], Any]:
    return {(section.name, item.name): item.type for section in fields(Config) for item in fields(section.type)}  # type: ignore[arg-type]


def _read_toml(file: Path) -> dict[tuple[str, str], Given]:
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
            values[section, key] = Given(value, str(file), file.absolute().parent)
    return values


def _read_environment(environ: Mapping[str, str]) -> dict[tuple[str, str], Given]:
    known = {f"REFERRAL_{section}_{key}".upper(): (section, key) for section, key in _known()}
    types_of = _known()
    values: dict[tuple[str, str], Given] = {}
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
        values[place] = Given(_from_text(".".join(place), types_of[place], text, source), source, Path())
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
    if kind == tuple[Issuer, ...]:
        try:
            return json.loads(text or "[]")
        except (ValueError, RecursionError):
            raise ConfigError(name, "must be JSON, a list of objects", source) from None
    if get_origin(kind) is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _checked(name: str, item: Any, given: Given) -> Any:
    kind, value, source = item.type, given.value, given.source
    if kind == tuple[Issuer, ...]:
        try:
            value = parse_issuers(value)
        except ValueError as error:
            raise ConfigError(name, str(error), source) from None
    elif get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        if not isinstance(value, list) or not all(type(part) is inner for part in value):
            raise ConfigError(name, "must be a list of texts", source)
        value = tuple(value)
    elif kind is float and type(value) is int:
        value = float(value)
    elif type(value) is not kind:
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        raise ConfigError(name, f"must be {wanted[kind]}", source)
    # No name, path or URL has control characters, and much of what a setting is passed to fails badly on them.
    if kind is str and not value.isprintable():
        raise ConfigError(name, "must be one line without control characters", source)
    place, check = item.metadata["place"], item.metadata["check"]
    if place:
        value = place(value, given.folder.absolute())
    problem = check(value) if check else None
    if problem:
        raise ConfigError(name, problem, source)
    return value


CONFIG = web.AppKey("config", Config)
