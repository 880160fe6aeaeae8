"""The shapes of the API, made of what the queries return."""

from typing import Any

import orjson
from aiohttp import web

from referral.clock import rfc_3339
from referral.queries.codes import ActiveCode, Code
from referral.queries.referrals import Referral
from referral.queries.sessions import Session
from referral.queries.users import Account
from referral.web.headers import JSON_HEADERS


def answer(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    found = JSON_HEADERS.copy()
    if headers:
        found.update(headers)
    return web.Response(body=orjson.dumps(document), status=status, headers=found)


def person(user_id: str, username: str | None) -> dict[str, Any]:
    return {"id": user_id, "username": username}


def code_view(code: Code, now: int) -> dict[str, Any]:
    """The owner's view of a code."""
    return {
        "code": code.code,
        "status": code.status(now),
        "expires_at": rfc_3339(code.expires_at),
        "created_at": rfc_3339(code.created_at),
        "max_uses": code.max_uses,
        "uses": code.uses,
    }


def active_code_view(active: ActiveCode) -> dict[str, Any]:
    """Everybody's view of a code."""
    return {
        "code": active.code,
        "expires_at": rfc_3339(active.expires_at),
        "referrer": person(active.referrer_id, active.referrer_username),
    }


def user_view(account: Account, now: int) -> dict[str, Any]:
    """A user's own view."""
    code = account.code
    return {
        "id": account.id,
        "email": account.email,
        "email_verified": account.email_verified_at is not None,
        "username": account.username,
        "role": account.role,
        "created_at": rfc_3339(account.created_at),
        "referrer": person(account.referrer_id, account.referrer_username) if account.referrer_id else None,
        "referral_count": account.referral_count,
        "code": code_view(code, now) if code else None,
        "profile": orjson.loads(account.profile) if account.profile else None,
    }


def session_view(session: Session, current_id: str) -> dict[str, Any]:
    """The owner's view of a session; `current_id` is that of the request's own."""
    return {
        "id": session.id,
        "created_at": rfc_3339(session.created_at),
        "last_used_at": rfc_3339(session.last_used_at),
        "expires_at": rfc_3339(session.expires_at),
        "address": session.address,
        "client": session.client,
        "current": session.id == current_id,
    }


def referral_view(referral: Referral, *, with_email: bool) -> dict[str, Any]:
    """A referral; the address only for the referrer and for an admin."""
    view = {
        "id": referral.user_id,
        "username": referral.username,
        "joined_at": rfc_3339(referral.joined_at),
        "code": referral.code,
    }
    if with_email:
        view["email"] = referral.email
    return view
