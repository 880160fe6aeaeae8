"""Registration, the OAuth 2.0 endpoints, passwords and the verification of e-mail addresses."""

import asyncio
import random
import re
from dataclasses import replace
from typing import Any

from aiohttp import web
from aiohttp_apispec import docs, json_schema, response_schema
from marshmallow import ValidationError

from referral.auth.identity import IDENTITY
from referral.auth.passwords import PASSWORDS
from referral.auth.tokens import SIGNER, InvalidToken, hash_token, new_token
from referral.background.mailer import MAILER
from referral.background.profiles import PROFILE_WORKER
from referral.cache.codes import CACHE
from referral.cache.invalidation import Changes
from referral.cache.sessions import LIVE_SESSIONS
from referral.clock import SECOND, now
from referral.config import CONFIG, Config
from referral.contract.access import Access, Limit, allow
from referral.contract.problems import Problem, translated
from referral.contract.schemas.emails import EmailVerificationSchema
from referral.contract.schemas.fields import Email, Username
from referral.contract.schemas.passwords import PasswordChangeSchema, PasswordResetRequestSchema, PasswordResetSchema
from referral.contract.schemas.registration import RegisteredSchema, RegistrationSchema
from referral.contract.schemas.tokens import OAuthErrorSchema, TokensSchema
from referral.contract.schemas.users import user_view
from referral.database import DATABASE, Connection
from referral.handlers import API
from referral.ids import new_id
from referral.limits import ADDRESS, LIMITER
from referral.mail.compose import language_of
from referral.metrics import METRICS
from referral.queries import codes, locks, outbox, profiles, referrals, sessions, users
from referral.queries.audit import EventName
from referral.rules.accounts import (
    check_new_password,
    check_not_personal,
    confirm_email,
    confirm_reset,
    end_reset_links,
    erased,
    refuse_code,
)
from referral.rules.audit import record, record_refusal
from referral.texts import key_of
from referral.vendors.hunter import EMAIL_VERIFIER
from referral.web.answers import answer
from referral.web.bodies import BODY, is_json, parse_form, parse_json, read_body

routes = web.RouteTableDef()

# Seconds, from and to, before the mail worker is told of a reset.
RESET_DELAY = (0.02, 0.2)
# Two tabs that refresh at once both present the same token: within this time it gets another successor (RFC 9700
# section 4.14.2 leaves the trade to the server); later it is taken for stolen.
REUSE_GRACE = 10 * SECOND

# What is kept of a client's User-Agent: enough to tell a phone from a laptop.
CLIENT_LENGTH = 200

# RFC 6749 section 5.2: what an error_description cannot have.
UNSPEAKABLE = re.compile(r"[^ !#-\[\]-~]")

# RFC 6749 section 5.1: tokens are not to be kept by any cache.
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@routes.post(f"{API}/auth/register")
@allow(Access.ANYBODY)
@docs(
    tags=["Authentication"],
    operationId="register",
    summary="Register",
    description="Makes an account and signs in. With a `referral_code` the account comes by the code's owner; with one that "
    "cannot be used there is no account. A mail with a link to verify the address is on its way.",
    problems=(
        "email-taken",
        "username-taken",
        "referral-code-invalid",
        "email-undeliverable",
        "email-check-unavailable",
        "overloaded",
    ),
)
@json_schema(
    RegistrationSchema,
    example={"email": "alice@example.com", "password": "correct horse battery staple", "username": "alice"},
)
@response_schema(RegisteredSchema, 201, description="The account, and its first session")
async def register(request: web.Request) -> web.Response:
    app, body = request.app, request[BODY]
    check_new_password(body["password"], app[CONFIG], "/password")
    check_not_personal(body["password"], "/password", body["email"], body.get("username"))
    await app[LIMITER].hit("registration_by_address", request[ADDRESS])
    if body.get("referral_code"):
        await app[LIMITER].hit("registration_by_code", body["referral_code"])
    await app[EMAIL_VERIFIER].check(body["email"])
    password_hash = await app[PASSWORDS].hash(body["password"])
    moment = now()
    username = body.get("username")
    user = users.NewUser(
        id=new_id(),
        email=body["email"],
        email_key=key_of(body["email"]),
        username=username,
        username_key=key_of(username) if username else None,
        password_hash=password_hash,
        role="user",
        created_at=moment,
    )
    taken = {
        "users_email_key": Problem("email-taken", "There is an account with this e-mail address."),
        "users_username_key": Problem("username-taken", "This username is taken."),
    }
    code = body.get("referral_code")
    async with Changes(app[CACHE]) as changes, app[DATABASE].transaction() as conn:
        with translated(taken):
            await users.insert_user(conn, user)
        tokens = await _open_session(request, conn, users.Credentials(user.id, user.role, password_hash), moment)
        language = language_of(request.headers.get("Accept-Language", ""))
        await outbox.insert_mail(conn, new_id(), outbox.VERIFY_EMAIL, user.id, user.email, language, moment)
        if app[CONFIG].enrichment.provider:
            await profiles.insert_lookup(conn, user.id, moment)
        await record(request, conn, "registered", actor=user.id, code=code)
        if code:
            # Last, because everybody who registers by this code waits for its owner's row.
            counted = await users.increment_referral_count(conn, code)
            used = await codes.use_code(conn, code, moment) if counted else None
            if used is None:
                raise await refuse_code(conn, code, moment)
            if used.is_exhausted:
                await changes.add(conn, used.code)
            await referrals.insert_referral(conn, user.id, used.referrer_id, used.code, moment)
        account = await users.find_account(conn, user.id, moment)
    assert account is not None
    app[MAILER].wake()
    app[PROFILE_WORKER].wake()
    app[METRICS].registrations.labels("yes" if code else "no").inc()
    return answer({"user": user_view(account, moment), **tokens}, 201, NO_STORE)


async def _open_session(request: web.Request, conn: Connection, account: users.Credentials, moment: int) -> dict[str, Any]:
    """Start a session of an account and return its Tokens. Raises OAuthError when the credentials have just become void."""
    session_id, auth = new_id(), request.app[CONFIG].auth
    expires_at = moment + min(auth.refresh_token_ttl, auth.session_ttl) * SECOND
    if not await sessions.insert_session(
        conn, session_id, account.user_id, account.password_hash, moment, expires_at, _origin(request)
    ):
        raise OAuthError("invalid_grant", "The password has just been changed, or the account erased.")
    session = sessions.LiveSession(account.user_id, account.role, session_id, expires_at)
    return await _issue_tokens(request, conn, session, moment)


def _origin(request: web.Request) -> sessions.Origin:
    # A header can hold more: control characters, bytes that are no UTF-8. No list of sessions should show them.
    client = "".join(filter(str.isprintable, request.headers.get("User-Agent", "")))
    return sessions.Origin(request[ADDRESS], client[:CLIENT_LENGTH].strip() or None)


async def _issue_tokens(
    request: web.Request, conn: Connection, session: sessions.LiveSession, moment: int
) -> dict[str, Any]:
    refresh_token = new_token()
    await sessions.insert_refresh_token(conn, hash_token(refresh_token), session.session_id, moment)
    signer = request.app[SIGNER]
    # Whoever verifies access tokens by the public keys knows nothing of sessions: no token outlives its own.
    ttl = min(signer.ttl, (session.expires_at - moment) // SECOND)
    return {
        "access_token": signer.sign(session.user_id, session.session_id, session.role, moment, ttl),
        "token_type": "Bearer",
        "expires_in": ttl,
        "refresh_token": refresh_token,
    }


class OAuthError(Exception):
    """An error of the token endpoint, answered in the words of RFC 6749 section 5.2."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error)
        self.document = {"error": error, "error_description": UNSPEAKABLE.sub("?", description)}


def _oauth_body(required: list[str], properties: dict[str, Any], examples: dict[str, dict[str, str]]) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": properties}
    media = {"schema": schema, "examples": {name: {"value": example} for name, example in examples.items()}}
    return {
        "required": True,
        "content": {"application/x-www-form-urlencoded": media, "application/json": media},
    }


@routes.post(f"{API}/auth/token")
@allow(Access.ANYBODY)
@docs(
    tags=["Authentication"],
    operationId="createToken",
    summary="Sign in, or refresh",
    description="The OAuth 2.0 token endpoint (RFC 6749). `grant_type=password` takes `username` (a username or an e-mail) "
    "and `password`; `grant_type=refresh_token` takes `refresh_token`, which is replaced by another. A refresh token that "
    "is presented again later than 10 seconds after its use ends its whole session. A session that is not refreshed ends by "
    "itself, and so does one that is, in the end; both times are settings.",
    requestBody=_oauth_body(
        ["grant_type"],
        {
            "grant_type": {"type": "string", "enum": ["password", "refresh_token"]},
            "username": {"type": "string", "description": "With password: a username or an e-mail", "example": "alice"},
            "password": {"type": "string", "format": "password", "description": "With password"},
            "refresh_token": {"type": "string", "description": "With refresh_token: the latest one of the session"},
        },
        {
            "password": {
                "grant_type": "password",
                "username": "alice@example.com",
                "password": "correct horse battery staple",
            },
            "refresh_token": {
                "grant_type": "refresh_token",
                "refresh_token": "hR2nF0cZ7v8mQx1TzYk3w5LJ9sEaBdGiUoPqXyWtVfM",
            },
        },
    ),
    problems=("payload-too-large", "request-timeout", "overloaded"),
)
@response_schema(TokensSchema, 200, description="A new access token and a new refresh token")
@response_schema(OAuthErrorSchema, 400, description="No tokens: the error in the words of RFC 6749 section 5.2")
async def create_token(request: web.Request) -> web.Response:
    try:
        given = await _oauth_parameters(request, "grant_type", "username", "password", "refresh_token")
        grant = given.get("grant_type")
        if grant == "password":
            tokens = await _grant_by_password(request, given)
        elif grant == "refresh_token":
            tokens = await _grant_by_refresh_token(request, given)
        elif grant:
            raise OAuthError("unsupported_grant_type", "grant_type is password or refresh_token.")
        else:
            raise OAuthError("invalid_request", "grant_type is missing.")
    except OAuthError as error:
        return answer(error.document, 400, NO_STORE)
    return answer(tokens, 200, NO_STORE)


async def _oauth_parameters(request: web.Request, *names: str) -> dict[str, str]:
    """These members of the form or the JSON object.

    Empty ones count as omitted, a form's repeated ones are refused, all others are ignored (RFC 6749 section 3.2).
    """
    body = await read_body(request)
    pairs: list[tuple[Any, Any]]
    if is_json(request):
        try:
            document = parse_json(body)
        except Problem as problem:
            raise OAuthError("invalid_request", problem.detail) from None
        if not isinstance(document, dict):
            raise OAuthError("invalid_request", "The body must be a JSON object.")
        pairs = list(document.items())
    elif request.content_type == "application/x-www-form-urlencoded":
        try:
            pairs = list(parse_form(body))
        except ValueError:
            raise OAuthError("invalid_request", "The body must be a form in UTF-8.") from None
    else:
        raise OAuthError("invalid_request", "Send application/x-www-form-urlencoded, or application/json.")
    given: dict[str, str] = {}
    for name, value in pairs:
        if name not in names:
            continue
        if name in given:
            raise OAuthError("invalid_request", f"{name} is given twice.")
        if not isinstance(value, str):
            raise OAuthError("invalid_request", f"{name} must be a text.")
        if value:
            given[name] = value
    return given


async def _grant_by_password(request: web.Request, given: dict[str, str]) -> dict[str, Any]:
    app, name, password = request.app, given.get("username"), given.get("password")
    if not name or not password:
        raise OAuthError("invalid_request", "username and password are required.")
    email, username = _key_if(Email(), name), _key_if(Username(), name)
    try:
        await app[LIMITER].hit("login_by_address", request[ADDRESS])
        # By the name that was given: that two names have one count would tell anybody whose address belongs to which
        # username. And by address: whoever tries passwords must not lock the owner out, who comes from elsewhere.
        await app[LIMITER].hit("login_by_account", hash_token(email or username or name), request[ADDRESS])
    except Problem:
        # A flood of requests must not become one of writes.
        if await app[LIMITER].is_first("sign-in-limited", request[ADDRESS]):
            await _record_sign_in(request, "sign-in-limited", await _find_credentials(app, email, username), email)
        raise
    found = await _find_credentials(app, email, username)
    # For an unknown name the same work is done: the time of a refusal must not tell which accounts exist.
    if not await app[PASSWORDS].check(password, found.password_hash if found else None) or found is None:
        await _record_sign_in(request, "sign-in-refused", found, email)
        raise OAuthError("invalid_grant", "The username or the password is wrong.")
    # The rounds were changed since: from here on, this password takes as long to check as an unknown user's.
    fresh = await app[PASSWORDS].hash(password) if app[PASSWORDS].is_outdated(found.password_hash) else None
    async with app[DATABASE].transaction() as conn:
        await locks.lock_user(conn, found.user_id)
        if fresh and await users.update_password(conn, found.user_id, found.password_hash, fresh):
            found = replace(found, password_hash=fresh)
        tokens = await _open_session(request, conn, found, now())
        await record(request, conn, "signed-in", actor=found.user_id)
        return tokens


def _key_if(field: Email | Username, name: str) -> str | None:
    """The key of a name, if it is one of this sort. No other is kept of a refused sign-in: people type passwords there."""
    try:
        return key_of(field.deserialize(name))
    except ValidationError:
        return None


async def _find_credentials(app: web.Application, email: str | None, username: str | None) -> users.Credentials | None:
    async with app[DATABASE].reader() as conn:
        if email:
            return await users.find_credentials_by_email(conn, email)
        return await users.find_credentials_by_username(conn, username) if username else None


async def _record_sign_in(
    request: web.Request, event: EventName, found: users.Credentials | None, email: str | None
) -> None:
    # By the account or, where there is none, the address: it goes with the account.
    await record_refusal(request, event, user=found.user_id if found else None, email=None if found else email)


async def _grant_by_refresh_token(request: web.Request, given: dict[str, str]) -> dict[str, Any]:
    app, token, moment = request.app, given.get("refresh_token"), now()
    if not token:
        raise OAuthError("invalid_request", "refresh_token is required.")
    idle_ttl, session_ttl = app[CONFIG].auth.refresh_token_ttl * SECOND, app[CONFIG].auth.session_ttl * SECOND
    async with Changes(app[LIVE_SESSIONS]) as ended, app[DATABASE].transaction() as conn:
        extended = await sessions.extend_session(conn, hash_token(token), moment, idle_ttl, session_ttl, _origin(request))
        used = await sessions.use_refresh_token(conn, hash_token(token), moment)
        if used is not None and moment - used.used_at <= REUSE_GRACE:
            if extended is not None:
                return await _issue_tokens(request, conn, extended, moment)
        elif used is not None:
            # Somebody holds a copy of it: nobody can tell who, so all of the session's tokens end (RFC 9700, 4.14.2).
            await ended.add(conn, used.session_id)
            user_id = await sessions.delete_session(conn, used.session_id)
            await record(request, conn, "refresh-token-reused", user=user_id, session_id=used.session_id)
    raise OAuthError("invalid_grant", "The refresh token is unknown, used or expired, or its session has ended.")


@routes.post(f"{API}/auth/revoke")
@allow(Access.ANYBODY)
@docs(
    tags=["Authentication"],
    operationId="revokeToken",
    summary="Sign out",
    description="Ends the whole session of an access or refresh token (RFC 7009). Answers 200 for an unknown token, too.",
    requestBody=_oauth_body(
        ["token"],
        {
            "token": {"type": "string", "minLength": 1, "description": "An access or a refresh token"},
            "token_type_hint": {"type": "string", "description": "Allowed, and not needed"},
        },
        {"refresh_token": {"token": "hR2nF0cZ7v8mQx1TzYk3w5LJ9sEaBdGiUoPqXyWtVfM"}},
    ),
    responses={200: {"description": "The session is over"}},
    problems=("payload-too-large", "request-timeout"),
)
@response_schema(OAuthErrorSchema, 400, description="The token is missing: the error in the words of RFC 6749 section 5.2")
async def revoke_token(request: web.Request) -> web.Response:
    try:
        token = (await _oauth_parameters(request, "token", "token_type_hint")).get("token")
        if not token:
            raise OAuthError("invalid_request", "token is required.")
    except OAuthError as error:
        return answer(error.document, 400, NO_STORE)
    async with Changes(request.app[LIVE_SESSIONS]) as ended, request.app[DATABASE].transaction() as conn:
        session_id = await sessions.find_session_of_refresh_token(conn, hash_token(token))
        if session_id is None:
            try:
                session_id = request.app[SIGNER].session_of(token, expired=True)
            except InvalidToken:
                return web.Response(headers=NO_STORE)
        user_id = await sessions.delete_session(conn, session_id)
        if user_id:
            await ended.add(conn, session_id)
            await record(request, conn, "signed-out", actor=user_id, session_id=session_id)
    return web.Response(headers=NO_STORE)


@routes.post(f"{API}/auth/password/change")
@allow(Access.SIGNED_IN)
@docs(
    tags=["Authentication"],
    operationId="changePassword",
    summary="Change the password",
    description="Every other session of the account ends.",
    responses={204: {"description": "The password is changed"}},
    problems=("wrong-password", "overloaded"),
)
@json_schema(PasswordChangeSchema)
async def change_password(request: web.Request) -> web.Response:
    app, body, me = request.app, request[BODY], request[IDENTITY]
    check_new_password(body["new_password"], app[CONFIG], "/new_password")
    async with app[DATABASE].reader() as conn:
        contact = await users.find_contact(conn, me.user_id)
        found = await users.find_credentials_by_id(conn, me.user_id)
    if contact is None or found is None:
        raise erased()
    check_not_personal(body["new_password"], "/new_password", contact.email, contact.username)
    # Whoever came by an access token must not find the password out by it.
    await app[LIMITER].hit("login_by_account", me.user_id, request[ADDRESS])
    wrong = Problem("wrong-password", "The current password is not the one given.")
    if not await app[PASSWORDS].check(body["current_password"], found.password_hash):
        await record_refusal(request, "password-change-refused")
        raise wrong
    new_hash = await app[PASSWORDS].hash(body["new_password"])
    async with Changes(app[LIVE_SESSIONS]) as ended, app[DATABASE].transaction() as conn:
        # A link must not undo the change. First, in the order of a link's use: else the two could wait for each other.
        await end_reset_links(conn, me.user_id, contact.email)
        if not await users.update_password(conn, me.user_id, found.password_hash, new_hash):
            raise wrong
        await ended.add(conn, *await sessions.delete_other_sessions(conn, me.user_id, me.session_id))
        await record(request, conn, "password-changed")
    return web.Response(status=204)


@routes.post(f"{API}/auth/password/reset")
@allow(Access.ANYBODY)
@docs(
    tags=["Authentication"],
    operationId="requestPasswordReset",
    summary="Ask for a new password",
    description="Mails a one-time link, good for an hour, if there is an account with this address. The answer is the same, "
    "and takes the same time, if there is none.",
    responses={202: {"description": "If there is such an account, a mail is on its way"}},
)
@json_schema(PasswordResetRequestSchema)
async def request_password_reset(request: web.Request) -> web.Response:
    app, email = request.app, request[BODY]["email"]
    language = language_of(request.headers.get("Accept-Language", ""))
    await app[LIMITER].hit("mail_by_account", outbox.RESET_PASSWORD, hash_token(key_of(email)))
    async with app[DATABASE].transaction() as conn:
        # Whose address this is, the mail worker finds out.
        await outbox.insert_mail(conn, new_id(), outbox.RESET_PASSWORD, None, key_of(email), language, now())
        await record(request, conn, "reset-requested", email=key_of(email))
    # Not at once: a mail to a known address is more work than none, and would be told by the time of what is asked next.
    asyncio.get_running_loop().call_later(random.uniform(*RESET_DELAY), app[MAILER].wake)
    return web.Response(status=202)


@routes.post(f"{API}/auth/password/reset/confirm")
@allow(Access.ANYBODY)
@docs(
    tags=["Authentication"],
    operationId="resetPassword",
    summary="Set a new password by a mailed link",
    description="Every session of the account ends.",
    responses={204: {"description": "The password is set"}},
    problems=("token-invalid", "overloaded"),
)
@json_schema(PasswordResetSchema)
async def reset_password(request: web.Request) -> web.Response:
    body = request[BODY]
    await confirm_reset(request, body["token"], body["new_password"])
    return web.Response(status=204)


@routes.post(f"{API}/auth/email/verify")
@allow(Access.ANYBODY)
@docs(
    tags=["Authentication"],
    operationId="verifyEmail",
    summary="Verify the e-mail address by a mailed link",
    responses={204: {"description": "The address is verified"}},
    problems=("token-invalid",),
)
@json_schema(EmailVerificationSchema)
async def verify_email(request: web.Request) -> web.Response:
    await confirm_email(request, request[BODY]["token"])
    return web.Response(status=204)


@routes.post(f"{API}/auth/email/verify/resend")
@allow(Access.SIGNED_IN)
@docs(
    tags=["Authentication"],
    operationId="resendVerification",
    summary="Mail the verification link again",
    description="Does nothing for an address that is verified.",
    responses={202: {"description": "A mail is on its way, unless the address is verified"}},
)
async def resend_verification(request: web.Request) -> web.Response:
    app, me = request.app, request[IDENTITY]
    language = language_of(request.headers.get("Accept-Language", ""))
    await app[LIMITER].hit("mail_by_account", outbox.VERIFY_EMAIL, me.user_id)
    async with app[DATABASE].transaction() as conn:
        contact = await users.find_contact(conn, me.user_id)
        if contact and contact.email_verified_at is None:
            await outbox.insert_mail(conn, new_id(), outbox.VERIFY_EMAIL, me.user_id, contact.email, language, now())
    app[MAILER].wake()
    return web.Response(status=202)


METADATA_SCHEMA = {
    "type": "object",
    "required": ["issuer", "token_endpoint", "revocation_endpoint", "grant_types_supported"],
    "properties": {
        **{
            name: {"type": "string", "format": "uri"}
            for name in ("issuer", "jwks_uri", "token_endpoint", "revocation_endpoint", "service_documentation")
        },
        **{
            name: {"type": "array", "items": {"type": "string"}}
            for name in (
                "grant_types_supported",
                "response_types_supported",
                "token_endpoint_auth_methods_supported",
                "revocation_endpoint_auth_methods_supported",
            )
        },
    },
}


def metadata(config: Config) -> dict[str, Any]:
    """RFC 8414 section 2."""
    base = config.server.public_url.rstrip("/")
    return {
        "issuer": config.server.public_url,
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "token_endpoint": f"{base}{API}/auth/token",
        "revocation_endpoint": f"{base}{API}/auth/revoke",
        "grant_types_supported": ["password", "refresh_token"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "service_documentation": f"{base}/docs",
    }


@routes.get("/.well-known/jwks.json")
@allow(Access.ANYBODY, Limit.EXEMPT)
@docs(
    tags=["Service"],
    operationId="getKeys",
    summary="The public keys of access tokens",
    description="A JWK Set (RFC 7517), for the product next door to verify access tokens itself: by `kid`, `iss`, `aud` and "
    "`exp`, of the type `at+jwt`. It is empty with HS256, whose key is shared with nobody. A token that verifies may have "
    "been revoked since: only this service knows.",
    responses={200: {"description": "The keys", "content": {"application/json": {"schema": {"type": "object"}}}}},
    touches_database=False,
)
async def get_keys(request: web.Request) -> web.Response:
    return answer(request.app[SIGNER].jwks(), headers={"Cache-Control": "public, max-age=300"})


@routes.get("/.well-known/oauth-authorization-server")
@allow(Access.ANYBODY, Limit.EXEMPT)
@docs(
    tags=["Service"],
    operationId="getAuthorizationServerMetadata",
    summary="OAuth 2.0 metadata",
    description="RFC 8414: where the token and revocation endpoints are and what they take.",
    responses={200: {"description": "The metadata", "content": {"application/json": {"schema": METADATA_SCHEMA}}}},
    touches_database=False,
)
async def get_metadata(request: web.Request) -> web.Response:
    return answer(metadata(request.app[CONFIG]), headers={"Cache-Control": "public, max-age=3600"})
