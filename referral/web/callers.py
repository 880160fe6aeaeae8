"""Who calls: the access token, service key or product's own token of a request, and what its bearer may call.

Whoever it is, is cached with the sessions (`cache/sessions.py`). So a request of theirs costs what one with an access token
costs, and what ends a session ends it on every worker.
"""

from contextlib import suppress

from aiohttp import web

from referral.auth.identity import ACCESS_TOKEN, CLAIMS, IDENTITY, KEY, token_name
from referral.auth.issuers import ISSUERS, Claims, IssuerUnavailable
from referral.auth.service_keys import PREFIX, holds_key, is_whole
from referral.auth.tokens import SIGNER, InvalidToken, hash_token
from referral.cache.sessions import SESSION_CACHE
from referral.clock import SECOND, now
from referral.config import CONFIG
from referral.contract.access import Access, Declaration
from referral.contract.problems import Problem
from referral.database import DATABASE, DatabaseUnavailable
from referral.limits import ADDRESS, LIMITER
from referral.links import LINKS
from referral.queries import product_users, second_factors, service_keys, sessions
from referral.queries.identities import LiveIdentity
from referral.rules.identities import enrol, find_live, issuer_unavailable
from referral.texts import EXTERNAL

REALM = 'Bearer realm="referral"'
# When a key was last used is kept to the minute, so that not every request writes.
USE_KEPT = 60 * SECOND
KEY_LIMIT = "events_by_key"


def refuse_secrets_in_address(request: web.Request) -> None:
    """Raises a problem for a service key in the query string: proxies and browsers keep addresses."""
    if request.rel_url.raw_query_string and holds_key(request.query_string):
        raise Problem(
            "bad-request",
            "A service key belongs in the header Authorization and never in an address, which is kept in many logs. Revoke "
            "this key and make another one.",
        )


def check_page(request: web.Request) -> None:
    """Raises `forbidden` for a request without a service key that no page of the product makes, as the header Origin
    says."""
    if not request.app[LINKS].allows(request.headers.get("Origin")):
        raise Problem(
            "forbidden",
            "This call is for pages of the origins in links.allowed_origins, and for service keys of the scope write.",
        )


async def identify(request: web.Request, declared: Declaration, limit: str | None) -> None:
    """Find out who makes the request, count it by the limit of this name, and keep who it is under IDENTITY or KEY.

    Raises a problem for whoever cannot say it, and for whoever may not call what is declared so.
    """
    given = request.headers.getall("Authorization", ())
    if len(given) > 1:
        # Who calls would depend on which of them a proxy and this service read.
        raise Problem("bad-request", "Send one header Authorization.")
    scheme, _, token = "".join(given).partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer":
        # RFC 6750 section 3.1: a request that did not try gets no error code.
        raise await _refused(request, "Send an access token or a service key: Authorization: Bearer …", REALM)
    if token.startswith(PREFIX):
        key = request[KEY] = await _key_of(request, token, limit)
        _check_scope(request, declared.access, key)
    else:
        issuers = request.app[ISSUERS]
        is_product = issuers.known(token) is not None or issuers.claims_issuer(token)
        find = _product_user_of if is_product else _session_of
        identity = request[IDENTITY] = await find(request, token, limit)
        await _check_user(request, declared.access, identity)


def _check_scope(request: web.Request, access: Access, key: service_keys.LiveKey) -> None:
    if access.scope is None:
        raise Problem(
            "forbidden",
            "This call takes a user's token and no service key: a key has no account of its own. Its calls name the user, "
            "by id or by ext: and the external id.",
        )
    if not key.may(access.scope):
        raise Problem("forbidden", f"This call takes a key of the scope {access.scope}; this one has {key.scope}.")
    if request.match_info.get("user") == "me":
        raise Problem("forbidden", "A key has no `me`: name the user, by id or by ext: and the external id.")


async def _check_user(request: web.Request, access: Access, identity: sessions.LiveSession | LiveIdentity) -> None:
    if identity.is_admin:
        if request.app[CONFIG].admin.require_totp and not await _concerns_oneself(request, access, identity.user_id):
            await _check_second_factor(request, identity.user_id)
        return
    if not access.admits_users:
        raise Problem("forbidden", f"This call is for admins, and for service keys of the scope {access.scope}.")
    if access.is_for_oneself and not await _names(request, identity.user_id):
        raise Problem("forbidden", f"You may call this for yourself; for others it takes a key of the scope {access.scope}.")


async def _concerns_oneself(request: web.Request, access: Access, user_id: str) -> bool:
    """Whether everybody may make this call, for themself, and an admin may no more by it than others."""
    if access in (Access.USER, Access.PUBLIC_LOOKUP):
        return True
    # An admin spends where the product alone does, and reserves.
    if access is Access.SELF_OR_WRITE:
        return False
    return access.admits_users and "user" in request.match_info and await _names(request, user_id)


async def _check_second_factor(request: web.Request, user_id: str) -> None:
    # Asked each time: admins call seldom, and what they may depends on it.
    async with request.app[DATABASE].reader() as conn:
        found = await second_factors.find_second_factor(conn, user_id)
    if found is None or not found.is_on:
        raise second_factor_required()


def second_factor_required() -> Problem:
    """For an admin who has none, where the operator wants it."""
    return Problem(
        "second-factor-required",
        "Admins need a second factor here (admin.require_totp). Switch one on, by POST /users/me/second-factor or at "
        "/admin/account.",
    )


async def _names(request: web.Request, user_id: str) -> bool:
    """Whether the path's `{user}` is this user."""
    named = request.match_info["user"]
    if named == "me" or named.lower() == user_id:
        return True
    if not named.startswith(EXTERNAL):
        return False
    async with request.app[DATABASE].reader() as conn:
        return await product_users.find_user_id_by_external_id(conn, named.removeprefix(EXTERNAL)) == user_id


async def _key_of(request: web.Request, text: str, limit: str | None) -> service_keys.LiveKey:
    app = request.app
    if not is_whole(text):
        raise await _refused(request, "The service key is mistyped or cut short", advice="")
    key_hash = hash_token(text)
    known, asked = app[SESSION_CACHE].look(key_hash, service_keys.LiveKey)
    if known and limit:
        # Both share one round trip to Redis, as for a session.
        await app[LIMITER].hit(KEY_LIMIT, known.id)
    key = known
    if known is None or asked is not None:

        async def load() -> service_keys.LiveKey | None:
            async with app[DATABASE].reader() as conn:
                return await service_keys.find_live_key(conn, key_hash)

        key = await app[SESSION_CACHE].find(key_hash, load, asked)
    if key is None:
        raise await _refused(request, "The service key is unknown or revoked", advice="")
    if limit and not known:
        await app[LIMITER].hit(KEY_LIMIT, key.id)
    await app[KEY_USES].used(app, key)
    return key


class KeyUses:
    """When this process last wrote that a key was used, by the key's id (ms)."""

    def __init__(self) -> None:
        self._written: dict[str, int] = {}

    async def used(self, app: web.Application, key: service_keys.LiveKey) -> None:
        """The key is used now. This is written once a minute."""
        moment = now() // USE_KEPT * USE_KEPT
        if self._written.get(key.id, key.last_used_at or 0) >= moment:
            return
        # First, so that of many requests at once one writes.
        self._written[key.id] = moment
        # A database that takes no writes still answers questions.
        with suppress(DatabaseUnavailable):
            async with app[DATABASE].transaction() as conn:
                await service_keys.touch_service_key(conn, key.id, moment)


KEY_USES = web.AppKey("key_uses", KeyUses)


async def _session_of(request: web.Request, token: str, limit: str | None) -> sessions.LiveSession:
    app = request.app
    try:
        given = request[ACCESS_TOKEN] = app[SIGNER].verify(token)
    except InvalidToken:
        raise await _refused(request, "The access token is malformed or has expired") from None
    known, asked = app[SESSION_CACHE].look(given.session_id, sessions.LiveSession)
    if known and not known.takes(given.generation, given.refresh):
        # Either it has ended, or it is younger than what is cached.
        known = None
    if known and limit:
        # The hit is counted for the user that the token names while Redis is asked whether the session still lives: both
        # share one round trip.
        await app[LIMITER].hit(limit, known.user_id)
    if known and asked is None:
        return known

    async def load() -> sessions.LiveSession | None:
        async with app[DATABASE].reader() as conn:
            return await sessions.find_live_session(conn, given.session_id, now())

    session = await app[SESSION_CACHE].find(given.session_id, load, asked)
    if session is None:
        raise await _refused(request, "The access token's session has ended")
    if not session.takes(given.generation, given.refresh):
        raise await _refused(request, "The access token has ended by a change of the password")
    if limit and not known:
        await app[LIMITER].hit(limit, session.user_id)
    return session


async def _product_user_of(request: web.Request, token: str, limit: str | None) -> LiveIdentity:
    """The user whom a token of the product's own identity provider names, made at their first call."""
    app = request.app
    claims = request[CLAIMS] = app[ISSUERS].known(token) or await _verified(request, token)
    name = token_name(claims.issuer, claims.subject)
    known, asked = app[SESSION_CACHE].look(name, LiveIdentity)
    if known and limit:
        # Both share one round trip to Redis, as for a session.
        await app[LIMITER].hit(limit, known.user_id)
    user = known
    if known is None or asked is not None:

        async def load() -> LiveIdentity | None:
            async with app[DATABASE].reader() as conn:
                return await find_live(conn, claims)

        user = await app[SESSION_CACHE].find(name, load, asked) or await enrol(request, claims)
    if user is None or not user.takes(claims.issued_at):
        raise await _refused(request, "The token names nobody here, or somebody who is or was suspended")
    if limit and not known:
        await app[LIMITER].hit(limit, user.user_id)
    return user


async def _verified(request: web.Request, token: str) -> Claims:
    try:
        return await request.app[ISSUERS].verify(token)
    except InvalidToken:
        raise await _refused(request, "The token is malformed, has expired or is for somebody else") from None
    except IssuerUnavailable:
        raise issuer_unavailable() from None


async def _refused(
    request: web.Request, reason: str, challenge: str | None = None, advice: str = " Refresh it, or sign in again."
) -> Problem:
    # A request without a valid token is counted, too: it may have cost a look-up of its session.
    await request.app[LIMITER].hit("request_by_address", request[ADDRESS])
    if challenge:
        return Problem("unauthorized", reason, headers={"WWW-Authenticate": challenge})
    challenge = f'{REALM}, error="invalid_token", error_description="{reason}"'
    return Problem("unauthorized", f"{reason}.{advice}", headers={"WWW-Authenticate": challenge})
