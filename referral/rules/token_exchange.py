"""Token exchange (RFC 8693): a token of the product's identity provider for a session here, so that "Sign in with …" works
for accounts of the service's own."""

from typing import Any

from aiohttp import web

from referral.auth.issuers import ISSUERS, IssuerUnavailable
from referral.auth.tokens import InvalidToken
from referral.clock import now
from referral.contract.oauth import OAuthError
from referral.contract.problems import Problem
from referral.ids import new_id
from referral.queries import locks, sessions, users
from referral.queries.events import ATTRIBUTED
from referral.rules.attributing import Refused, Way, attribute, click_on, may_lead, ways_of
from referral.rules.event_contexts import own_context, traces_of
from referral.rules.identities import find_or_enrol, issuer_unavailable
from referral.rules.own_events import report_own
from referral.rules.product_users import lock_known
from referral.rules.signing_in import expiry_of_new, issue_tokens, origin_of
from referral.rules.suspecting import joined_by, suspect_referral
from referral.rules.work import work_on

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"
# RFC 8693 section 3.
SUBJECT_TOKEN_TYPES = ("urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token")


async def exchange(request: web.Request, given: dict[str, str]) -> dict[str, Any]:
    """The answer to a token request of this grant. Raises OAuthError, and a problem when the issuer is out."""
    token, kind = given.get("subject_token"), given.get("subject_token_type")
    if not token or kind not in SUBJECT_TOKEN_TYPES:
        raise OAuthError("invalid_request", f"subject_token is required, and subject_token_type: {SUBJECT_TOKEN_TYPES[0]}.")
    try:
        claims = await request.app[ISSUERS].verify(token)
    except InvalidToken:
        # RFC 8693 section 2.2.2.
        raise OAuthError("invalid_request", "The subject_token is malformed, has expired or is of no issuer here.") from None
    except IssuerUnavailable:
        raise issuer_unavailable() from None
    ways = await ways_of(request, given.get("referral_code"), given.get("click_id"), now())
    # The sign-up of a new user is reported once it is known by whom they came.
    user = await find_or_enrol(request, claims, reports=not ways)
    if user is None:
        raise OAuthError("invalid_request", "The subject is suspended, or nobody here.")
    reports = bool(ways)
    while True:
        try:
            return await _open_session(request, user.user_id, ways, reports=reports)
        except Refused as refused:
            ways = refused.without_it(ways)


def _just_ended() -> OAuthError:
    return OAuthError("invalid_request", "The subject has just been suspended or erased.")


async def _open_session(request: web.Request, user_id: str, ways: tuple[Way, ...], *, reports: bool) -> dict[str, Any]:
    """Tokens of a new session. A user without the product's own id `reports` the sign-up, unless that was reported."""
    async with work_on(request) as work:
        if may_lead(ways):
            await locks.lock_referrers(work.conn)
        try:
            user = await lock_known(work, user_id)
        except Problem:
            raise _just_ended() from None
        attribution, came = await attribute(work, user, ways, work.moment, is_new=False)
        click = click_on(ways, came.code) if came and attribution.status == ATTRIBUTED else None
        traces = await traces_of(work, own_context(request), work.moment, click)
        if came and attribution.status == ATTRIBUTED:
            joined = joined_by(user, work.moment, click, is_new=False)
            await suspect_referral(work, user, came.referrer_id, joined, traces)
        session_id, expires_at = new_id(), expiry_of_new(work)
        account = await users.find_credentials_by_id(work.conn, user_id)
        if account is None or not await sessions.insert_session_of_user(
            work.conn, session_id, user_id, work.moment, expires_at, origin_of(request)
        ):
            raise _just_ended()
        if reports and user.external_id is None and account.password_hash is None:
            await report_own(work, "signup", user_id, attribution, traces)
        tokens = await issue_tokens(work, sessions.LiveSession(user_id, account.role, session_id, expires_at))
        await work.record("signed-in", actor=user_id)
    return {**tokens, "issued_token_type": ACCESS_TOKEN_TYPE, "attribution": attribution._asdict()}
