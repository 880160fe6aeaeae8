"""Sessions."""

from typing import Any

from marshmallow import Schema, fields

from referral.clock import rfc_3339
from referral.contract.schemas.fields import about, identifier, time
from referral.contract.schemas.pages import PageSchema
from referral.queries.sessions import Session


class SessionSchema(Schema):
    id = identifier("The session's id")
    created_at = time("When it began, with a sign-in or a registration")
    last_used_at = time("When it was last refreshed")
    expires_at = time("When it ends unless it is refreshed before")
    address = fields.String(
        allow_none=True,
        metadata=about("From where it was last refreshed, of IPv6 the network; null if that is not known", "203.0.113.7"),
    )
    client = fields.String(
        allow_none=True,
        metadata=about(
            "What the client said of itself then: the beginning of its User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"
        ),
    )
    current = fields.Boolean(metadata=about("Whether it is the session of this very request", True))


class SessionPageSchema(PageSchema):
    items = fields.List(fields.Nested(SessionSchema))


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
