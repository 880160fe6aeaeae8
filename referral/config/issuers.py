"""Whose tokens the service takes beside its own: `identity.issuers`, and which addresses it may fetch their keys from."""

import ipaddress
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

_MEMBERS = {"issuer": str, "audience": str, "jwks_url": str, "subject_is_external_id": bool}
_KINDS = {str: "a text of one line", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Issuer:
    """An identity provider: its name just as its tokens have it (`iss`), and for whom they must be (`aud`). Its keys are at
    `jwks_url` or, if that is empty, where its metadata says (OpenID Connect Discovery). If `subject_is_external_id`, its
    `sub` is what the product calls the user by."""

    issuer: str
    audience: str
    jwks_url: str = ""
    subject_is_external_id: bool = True


def is_safe_to_fetch(url: str) -> bool:
    """Whether what is read there comes from the host that the URL names: by https, or from this machine."""
    parts = _parts(url)
    return bool(parts and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or ""))))


def parse_issuers(value: Any) -> tuple[Issuer, ...]:
    """The issuers of a list of tables. Raises ValueError with what is wrong, in one line."""
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError("must be a list of issuers, each with issuer and audience")
    found = tuple(_parse_issuer(entry, f"in entry {number}") for number, entry in enumerate(value, 1))
    if len({(entry.issuer, entry.audience) for entry in found}) < len(found):
        raise ValueError("must list each issuer once for an audience")
    if len({(entry.issuer, entry.jwks_url) for entry in found}) > len({entry.issuer for entry in found}):
        raise ValueError("must have the same jwks_url wherever it lists the same issuer")
    if len({(entry.issuer, entry.subject_is_external_id) for entry in found}) > len({entry.issuer for entry in found}):
        raise ValueError("must have the same subject_is_external_id wherever it lists the same issuer")
    return found


def _parse_issuer(entry: dict[str, Any], where: str) -> Issuer:
    for key, value in entry.items():
        if key not in _MEMBERS:
            raise ValueError(f"may have {', '.join(_MEMBERS)}, not {key!r} {where}")
        if type(value) is not _MEMBERS[key] or (type(value) is str and not (value and value.isprintable())):
            raise ValueError(f"must have {_KINDS[_MEMBERS[key]]} as {key} {where}")
    for key in ("issuer", "audience"):
        if key not in entry:
            raise ValueError(f"must have {key} {where}")
    issuer = Issuer(**entry)
    # OpenID Connect Discovery section 3: an issuer has neither a query nor a fragment.
    if not is_safe_to_fetch(issuer.issuer) or "?" in issuer.issuer:
        raise ValueError(f"must have an https URL without a query, or an http URL of this machine, as issuer {where}")
    if issuer.jwks_url and not is_safe_to_fetch(issuer.jwks_url):
        raise ValueError(f"must have an https URL, or an http URL of this machine, as jwks_url {where}")
    return issuer


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        usable = parts.port != 0 and parts.hostname and "@" not in parts.netloc and "#" not in url and " " not in url
    except ValueError:
        return None
    return parts if usable else None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
