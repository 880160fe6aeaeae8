"""Sessions and their tokens: how one begins, and what goes out with it."""

from typing import Any

from aiohttp import web

from referral.auth.tokens import SIGNER, hash_token, new_token
from referral.clock import SECOND
from referral.config import CONFIG
from referral.contract.oauth import OAuthError
from referral.ids import new_id
from referral.limits import ADDRESS
from referral.queries import sessions, users
from referral.rules.work import Work

# What is kept of a client's User-Agent: enough to tell a phone from a laptop.
CLIENT_LENGTH = 200


async def open_session(work: Work, account: users.Credentials) -> dict[str, Any]:
    """Start a session of an account and return its Tokens. Raises OAuthError when the credentials have just become void."""
    session = await begin_session(work, account, expiry_of_new(work))
    if session is None:
        raise OAuthError("invalid_grant", "The password has just been changed, or the account suspended or erased.")
    return await issue_tokens(work, session)


async def begin_session(work: Work, account: users.Credentials, expires_at: int) -> sessions.LiveSession | None:
    """Start a session of an account that ends at this time (ms), if nothing else makes it last; None when the credentials
    have just become void."""
    session_id, known = new_id(), account.password_hash
    if known is None or not await sessions.insert_session(
        work.conn, session_id, account.user_id, known, work.moment, expires_at, origin_of(work.request)
    ):
        return None
    return sessions.LiveSession(account.user_id, account.role, session_id, expires_at)


async def open_first_session(work: Work, user_id: str, role: str) -> dict[str, Any]:
    """As `open_session`, of an account that this transaction makes."""
    session_id, expires_at = new_id(), expiry_of_new(work)
    await sessions.insert_first_session(work.conn, session_id, user_id, work.moment, expires_at, origin_of(work.request))
    return await issue_tokens(work, sessions.LiveSession(user_id, role, session_id, expires_at))


def expiry_of_new(work: Work) -> int:
    """When a session that begins now ends (ms), unless it is refreshed."""
    auth = work.request.app[CONFIG].auth
    return work.moment + min(auth.refresh_token_ttl, auth.session_ttl) * SECOND


async def issue_tokens(work: Work, session: sessions.LiveSession) -> dict[str, Any]:
    """Another pair of tokens of a session: the document Tokens."""
    refresh_token = new_token()
    refresh_hash = hash_token(refresh_token)
    await sessions.insert_refresh_token(work.conn, refresh_hash, session.session_id, work.moment)
    signer = work.request.app[SIGNER]
    # No token outlives its session: who verifies access tokens by the public keys knows nothing of sessions.
    ttl = min(signer.ttl, (session.expires_at - work.moment) // SECOND)
    return {
        "access_token": signer.sign(
            session.user_id,
            session.session_id,
            session.role,
            work.moment,
            ttl,
            generation=session.generation,
            refresh_hash=refresh_hash,
        ),
        "token_type": "Bearer",
        "expires_in": ttl,
        "refresh_token": refresh_token,
    }


def origin_of(request: web.Request) -> sessions.Origin:
    """From where a request comes, and by which client."""
    # A header can hold control characters, and bytes that are no UTF-8, which no list of sessions should show.
    client = "".join(filter(str.isprintable, request.headers.get("User-Agent", "")))
    return sessions.Origin(request[ADDRESS], client[:CLIENT_LENGTH].strip() or None)
