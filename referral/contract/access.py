"""Who may call an endpoint, which limit its calls count against, and the shape of its errors: one declaration, on the
endpoint.

The middleware enforces the declaration and OpenAPI documents it. An endpoint without one stops the start (fail closed).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from aiohttp import web

from referral.config import Config
from referral.queries.service_keys import Scope

# A body has at most 64 KiB, unless its endpoint says otherwise.
MAX_BODY = 64 * 1024

H = TypeVar("H", bound=Callable[..., Any])


class Access(Enum):
    """Who may call an endpoint: which users, and which keys. An admin may whatever a key of the scope `admin` may.

    Where a user may call for themself only, the path's `{user}` has to be `me` or the user's own id.
    """

    ANYBODY = "anybody"
    # Anybody if `codes.public_lookup` is on, otherwise as USER_OR_READ.
    PUBLIC_LOOKUP = "public lookup"
    USER = "users"
    USER_OR_READ = "users, and keys that may read"
    USER_OR_WRITE = "users, and keys that may write"
    SELF_OR_READ = "the user in question, and keys that may read"
    SELF_OR_WRITE = "the user in question, and keys that may write"
    # Without a token or key: a page of an origin in `links.allowed_origins`.
    PAGE_OR_WRITE = "pages of the product, and keys that may write"
    READ = "keys that may read"
    WRITE = "keys that may write"
    ADMIN = "keys that may administer"
    # Pages of the back office: by its cookie alone, as these calls' tokens and keys do nothing there. Who is not signed in
    # is led to /admin/login; what a page's form sends must carry the token of the session's own forms.
    ADMIN_PAGE = "admins who are signed in at /admin"

    @property
    def scope(self) -> Scope | None:
        """The least scope of a key that may call; None where none may."""
        return _SCOPES.get(self)

    @property
    def admits_users(self) -> bool:
        """Whether a user who is no admin may call, for themself or for others."""
        return self not in (Access.PAGE_OR_WRITE, Access.READ, Access.WRITE, Access.ADMIN, Access.ADMIN_PAGE)

    @property
    def admits_pages(self) -> bool:
        """Whether pages of the product may call without saying who they are."""
        return self is Access.PAGE_OR_WRITE

    @property
    def is_for_oneself(self) -> bool:
        """Whether such a user may call for themself only."""
        return self in (Access.SELF_OR_READ, Access.SELF_OR_WRITE)


_SCOPES: dict[Access, Scope] = {
    Access.PUBLIC_LOOKUP: "read",
    Access.USER_OR_READ: "read",
    Access.USER_OR_WRITE: "write",
    Access.SELF_OR_READ: "read",
    Access.SELF_OR_WRITE: "write",
    Access.PAGE_OR_WRITE: "write",
    Access.READ: "read",
    Access.WRITE: "write",
    Access.ADMIN: "admin",
}


class Limit(Enum):
    """The group of limits that a call counts against. What a key calls counts against the key's own,
    `limits.events_by_key`, and against nothing else."""

    LOOKUP = "lookup"
    REQUEST = "request"
    # Of pages, which have no user.
    CLICKS = "clicks"
    # For probes, scrapers and readers of the documentation. None of these calls occupies the database for long.
    EXEMPT = "exempt"

    @property
    def settings(self) -> tuple[str, str] | None:
        """The limits for somebody who is signed in, and for somebody who is not, by their names among `limits.*`; None for
        no limit."""
        if self is Limit.EXEMPT:
            return None
        return f"{'request' if self is Limit.CLICKS else self.value}_by_user", f"{self.value}_by_address"


class Errors(Enum):
    """The shape of an endpoint's errors, those included that come about before its handler is asked."""

    PROBLEM = "RFC 9457"
    OAUTH = "RFC 6749"
    # Pages of the back office, all of which lie under /admin: what their forms send has to come from the service's own
    # origin.
    HTML = "pages"


@dataclass(frozen=True, slots=True)
class Declaration:
    access: Access
    limit: Limit
    errors: Errors = Errors.PROBLEM
    # Bytes.
    max_body: int = MAX_BODY
    ahead: Callable[[web.Request], None] | None = None

    def wants_identity(self, config: Config) -> bool:
        """Whether a caller has to send a token or a key, with these settings."""
        if self.access is Access.PUBLIC_LOOKUP:
            return not config.codes.public_lookup
        return self.access not in (Access.ANYBODY, Access.ADMIN_PAGE) and not self.access.admits_pages


# The declaration of addresses that no route has, and of methods that a route does not take.
UNROUTED = Declaration(Access.ANYBODY, Limit.REQUEST)


class UndeclaredAccess(Exception):
    """Endpoints do not say who may call them."""


def allow(
    access: Access,
    limit: Limit = Limit.REQUEST,
    errors: Errors = Errors.PROBLEM,
    *,
    max_body: int = MAX_BODY,
    ahead: Callable[[web.Request], None] | None = None,
) -> Callable[[H], H]:
    """Declare who may call the decorated handler, what its errors look like and how many bytes its body may have. `ahead` is
    called before anybody knows who calls: what it asks Redis shares the round trip of that. Raises TypeError for anything
    but members of the three enums."""
    if not isinstance(access, Access) or not isinstance(limit, Limit) or not isinstance(errors, Errors):
        raise TypeError(f"allow() takes members of Access, Limit and Errors, not {access!r}, {limit!r}, {errors!r}")
    if access is Access.ADMIN_PAGE:
        # A page's errors are pages.
        errors = Errors.HTML

    def declare(handler: H) -> H:
        handler.__declaration__ = Declaration(access, limit, errors, max_body, ahead)  # type: ignore[attr-defined]
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


def paths_of(errors: Errors, routes: Iterable[web.AbstractRoute]) -> frozenset[str]:
    """The paths with errors of this shape. It is a path's, because a method that the path does not take has no handler."""
    return frozenset(
        route.resource.canonical for route in routes if route.resource and declaration_of(route.handler).errors is errors
    )


# The paths whose errors are those of OAuth.
OAUTH_PATHS: web.AppKey[frozenset[str]] = web.AppKey("oauth_paths", frozenset)
