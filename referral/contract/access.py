"""Who may call an endpoint, and which limit its calls count against: one declaration, on the endpoint itself.

The middleware enforces the declaration and OpenAPI documents it. An endpoint without one stops the start (fail closed).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from aiohttp import web

from referral.config import Config

H = TypeVar("H", bound=Callable[..., Any])


class Access(Enum):
    """Who may call an endpoint."""

    ANYBODY = "anybody"
    # Anybody if `codes.public_lookup` is on, otherwise whoever is signed in.
    PUBLIC_LOOKUP = "public lookup"
    SIGNED_IN = "signed in"
    ADMIN = "admin"


class Limit(Enum):
    """The group of limits (`limits.{value}_by_user`, `limits.{value}_by_address`) that a call counts against."""

    LOOKUP = "lookup"
    REQUEST = "request"
    # For probes, scrapers and readers of the documentation. None of these calls occupies the database for long.
    EXEMPT = "exempt"


@dataclass(frozen=True, slots=True)
class Declaration:
    access: Access
    limit: Limit

    def wants_identity(self, config: Config) -> bool:
        """Whether a caller has to be signed in, with these settings."""
        return self.access is not Access.ANYBODY and not (self.access is Access.PUBLIC_LOOKUP and config.codes.public_lookup)


# The declaration of addresses that no route has, and of methods that a route does not take.
UNROUTED = Declaration(Access.ANYBODY, Limit.REQUEST)


class UndeclaredAccess(Exception):
    """Endpoints do not say who may call them."""


def allow(access: Access, limit: Limit = Limit.REQUEST) -> Callable[[H], H]:
    """Declare who may call the decorated handler. Raises TypeError for anything but members of the two enums."""
    if not isinstance(access, Access) or not isinstance(limit, Limit):
        raise TypeError(f"allow() takes members of Access and Limit, not {access!r}, {limit!r}")

    def declare(handler: H) -> H:
        handler.__declaration__ = Declaration(access, limit)  # type: ignore[attr-defined]
        return handler

    return declare


def declaration_of(handler: Any) -> Declaration:
    """The handler's own declaration, which no subclass inherits. Raises UndeclaredAccess where there is none."""
    declared = getattr(handler, "__dict__", {}).get("__declaration__")
    if not isinstance(declared, Declaration):
        raise UndeclaredAccess(f"{getattr(handler, '__qualname__', handler)} lacks @allow(Access…)")
    return declared


def refuse_undeclared(routes: Iterable[web.AbstractRoute]) -> None:
    """Raises UndeclaredAccess that names every route whose handler has no declaration."""
    missing = []
    for route in routes:
        try:
            declaration_of(route.handler)
        except UndeclaredAccess as error:
            missing.append(f"{route.method} {route.resource.canonical if route.resource else '?'}: {error}")
    if missing:
        raise UndeclaredAccess("; ".join(missing))
