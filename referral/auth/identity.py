"""Who makes a request: a user or a service key."""

from aiohttp import web

from referral.auth.issuers import Claims
from referral.auth.tokens import Verified
from referral.queries.identities import LiveIdentity
from referral.queries.service_keys import LiveKey
from referral.queries.sessions import LiveSession

# The session that the request's access token belongs to, or the user whom a token of the product's own names; absent where
# nobody has to sign in, and where a service key calls.
IDENTITY: web.RequestKey[LiveSession | LiveIdentity] = web.RequestKey("identity", object)  # type: ignore[arg-type]
# What our own access token says of itself: its session, and the pair of tokens that it came with.
ACCESS_TOKEN = web.RequestKey("access_token", Verified)
# What a token of the product's own says, where such a one names the user.
CLAIMS = web.RequestKey("claims", Claims)
# The key that makes the request; absent where a user makes it, or nobody in particular.
KEY = web.RequestKey("key", LiveKey)


def callers_of(request: web.Request) -> tuple[LiveSession | LiveIdentity | None, LiveKey | None]:
    """The user or the key that makes the request; one of them at most."""
    identity = request.get(IDENTITY)
    return identity, None if identity is not None else request.get(KEY)


def caller_of(request: web.Request) -> str | None:
    """The id of the user or of the key that makes the request; None for nobody in particular."""
    identity, key = callers_of(request)
    return identity.user_id if identity else key.id if key else None


def is_operator(request: web.Request) -> bool:
    """Whether an admin or a service key makes the request, who act for others."""
    identity = request.get(IDENTITY)
    return identity.is_admin if identity is not None else KEY in request


def token_name(issuer: str, subject: str) -> str:
    """The name by which a token of the product's own is cached beside sessions: whom it names, and who says so."""
    return f"{issuer} {subject}"
