"""The OAuth 2.0 endpoints: sign-in, refresh and revocation."""

from typing import Any

from aiohttp import web
from aiohttp_apispec import docs, response_schema
from marshmallow import Schema

from referral.auth.tokens import SIGNER, InvalidToken, hash_token
from referral.clock import SECOND
from referral.config import CONFIG
from referral.contract.access import Access, Errors, allow
from referral.contract.oauth import OAuthError
from referral.contract.schemas.tokens import TOKEN, OAuthErrorSchema, RevocationSchema, TokenRequestSchema, TokensSchema
from referral.handlers import API
from referral.queries import sessions
from referral.rules.credentials import SuspendedAccount, WrongCredentials, check_credentials
from referral.rules.second_factors import SecondFactorNeeded, WrongCode, proving
from referral.rules.signing_in import issue_tokens, open_session, origin_of
from referral.rules.token_exchange import GRANT, SUBJECT_TOKEN_TYPES, exchange
from referral.rules.work import Work, work_on
from referral.web.answers import NO_STORE, answer
from referral.web.bodies import is_json, parse_form, parse_json, read_body

routes = web.RouteTableDef()

# Two tabs may refresh at once with the same token. Within this time a used token gets another successor (RFC 9700 section
# 4.14.2 leaves that to the server); later it is taken for stolen.
REUSE_GRACE = 10 * SECOND
# What the grants take.
MEMBERS = (
    "grant_type",
    "username",
    "password",
    "otp",
    "refresh_token",
    "subject_token",
    "subject_token_type",
    "referral_code",
    "click_id",
)


def _form(schema: type[Schema], examples: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The form as `@docs` says it. JSON is taken, too, but not documented: generators make one body of one media type."""
    media = {"schema": schema, "examples": {name: {"value": example} for name, example in examples.items()}}
    return {"required": True, "content": {"application/x-www-form-urlencoded": media}}


@routes.post(f"{API}/auth/token")
@allow(Access.ANYBODY, errors=Errors.OAUTH)
@docs(
    tags=["Authentication"],
    operationId="createToken",
    summary="Sign in, or refresh",
    description="The OAuth 2.0 token endpoint (RFC 6749). `grant_type=password` takes `username` (a username or an e-mail) "
    "and `password`, and `otp` for an account with a second factor: without it, the refusal is `invalid_grant` and says so. "
    "`grant_type=refresh_token` takes `refresh_token`, which is replaced by another. A refresh token that "
    "is presented again later than 10 seconds after its use ends its whole session. A session that is not refreshed ends by "
    "itself, and so does one that is, in the end; both times are settings. Token exchange (RFC 8693) takes a token of "
    "one of `identity.issuers` as `subject_token`, makes or joins the account, and tells in `attribution` what became of a "
    "`referral_code` and the `click_id`.",
    requestBody=_form(
        TokenRequestSchema,
        {
            "password": {
                "grant_type": "password",
                "username": "alice@example.com",
                "password": "correct horse battery staple",
            },
            "refresh_token": {"grant_type": "refresh_token", "refresh_token": TOKEN},
            "token_exchange": {
                "grant_type": GRANT,
                "subject_token": "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.e30.c2ln",
                "subject_token_type": SUBJECT_TOKEN_TYPES[1],
            },
        },
    ),
    problems=("payload-too-large", "unsupported-encoding", "request-timeout", "overloaded", "issuer-unavailable"),
)
@response_schema(TokensSchema, 200, description="A new access token and a new refresh token")
@response_schema(OAuthErrorSchema, 400, description="No tokens: the error in the words of RFC 6749 section 5.2")
async def create_token(request: web.Request) -> web.Response:
    given = await _oauth_parameters(request, *MEMBERS)
    grant = given.get("grant_type")
    if grant == "password":
        tokens = await _grant_by_password(request, given)
    elif grant == "refresh_token":
        tokens = await _grant_by_refresh_token(request, given)
    elif grant == GRANT:
        tokens = await exchange(request, given)
    elif grant:
        raise OAuthError("unsupported_grant_type", f"grant_type is password, refresh_token or {GRANT}.")
    else:
        raise OAuthError("invalid_request", "grant_type is missing.")
    return answer(tokens, 200, NO_STORE)


async def _oauth_parameters(request: web.Request, *names: str) -> dict[str, str]:
    """The members with these names, of the form or the JSON object.

    Empty members count as omitted, repeated ones are refused, and all others are ignored (RFC 6749 section 3.2).
    """
    body = await read_body(request)
    pairs: list[tuple[Any, Any]]
    if is_json(request):
        document = parse_json(body)
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
    # People and keyboards leave white space around a name, but a password may have it.
    name, password = given.get("username", "").strip(), given.get("password")
    if not name or not password:
        raise OAuthError("invalid_request", "username and password are required.")
    try:
        shown = await check_credentials(request, name, password)
    except WrongCredentials:
        raise OAuthError("invalid_grant", "The username or the password is wrong.") from None
    except SuspendedAccount:
        raise OAuthError("invalid_grant", "The account is suspended.") from None
    try:
        async with proving(request, shown.account, given.get("otp")) as use_code, work_on(request) as work:
            await use_code(work)
            account = await shown.renewed(work)
            tokens = await open_session(work, account)
            await work.record("signed-in", actor=account.user_id)
            return tokens
    except SecondFactorNeeded:
        raise OAuthError(
            "invalid_grant",
            "The account has a second factor: send otp, too, a code of the authenticator app or a recovery code.",
        ) from None
    except WrongCode:
        raise OAuthError("invalid_grant", "The otp is wrong, or was used already.") from None


async def _grant_by_refresh_token(request: web.Request, given: dict[str, str]) -> dict[str, Any]:
    token, auth = given.get("refresh_token"), request.app[CONFIG].auth
    if not token:
        raise OAuthError("invalid_request", "refresh_token is required.")
    idle_ttl, session_ttl = auth.refresh_token_ttl * SECOND, auth.session_ttl * SECOND
    async with work_on(request) as work:
        extended = await sessions.extend_session(
            work.conn, hash_token(token), work.moment, idle_ttl, session_ttl, origin_of(request)
        )
        used = await sessions.use_refresh_token(work.conn, hash_token(token), work.moment)
        # The one that goes on after a password change is used once: somebody may have a copy of this one, too.
        is_last = extended is not None and extended.keeps(hash_token(token))
        if used is not None and (used.uses == 1 or (not is_last and work.moment - used.used_at <= REUSE_GRACE)):
            if extended is not None:
                return await issue_tokens(work, extended)
        elif used is not None:
            # Somebody has a copy of the token, and nobody can tell who: the whole session ends (RFC 9700 section 4.14.2).
            user_id = await sessions.delete_session(work.conn, used.session_id)
            work.ends_sessions(used.session_id)
            await work.record("refresh-token-reused", user=user_id, session_id=used.session_id)
    raise OAuthError("invalid_grant", "The refresh token is unknown, used or expired, or its session has ended.")


@routes.post(f"{API}/auth/revoke")
@allow(Access.ANYBODY, errors=Errors.OAUTH)
@docs(
    tags=["Authentication"],
    operationId="revokeToken",
    summary="Sign out",
    description="Ends the whole session of an access or refresh token (RFC 7009). Answers 200 for an unknown token, too.",
    requestBody=_form(RevocationSchema, {"refresh_token": {"token": TOKEN}}),
    responses={200: {"description": "The session is over"}},
    problems=("payload-too-large", "unsupported-encoding", "request-timeout"),
)
@response_schema(OAuthErrorSchema, 400, description="The token is missing: the error in the words of RFC 6749 section 5.2")
async def revoke_token(request: web.Request) -> web.Response:
    token = (await _oauth_parameters(request, "token", "token_type_hint")).get("token")
    if not token:
        raise OAuthError("invalid_request", "token is required.")
    async with work_on(request) as work:
        session_id = await sessions.find_session_of_refresh_token(work.conn, hash_token(token))
        if session_id is None:
            session_id = await _session_of_access_token(work, token)
        if session_id is None:
            return web.Response(headers=NO_STORE)
        user_id = await sessions.delete_session(work.conn, session_id)
        if user_id:
            work.ends_sessions(session_id)
            await work.record("signed-out", actor=user_id, session_id=session_id)
    return web.Response(headers=NO_STORE)


async def _session_of_access_token(work: Work, token: str) -> str | None:
    """The session that the token belongs to, also when it has expired; None for a token that a change of the password has
    ended."""
    try:
        given = work.request.app[SIGNER].verify(token, expired=True)
    except InvalidToken:
        return None
    session = await sessions.find_live_session(work.conn, given.session_id, work.moment)
    return given.session_id if session and session.takes(given.generation, given.refresh) else None
