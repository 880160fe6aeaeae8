"""Security events, as an operator asks for them."""

from typing import Any, get_args

import orjson
from marshmallow import Schema, fields

from referral.clock import rfc_3339
from referral.contract.schemas.fields import EXAMPLE_ID, Timestamp, Words, about, identifier, line, time
from referral.contract.schemas.pages import ListQuerySchema, PageSchema
from referral.queries.audit import Event, EventName
from referral.texts import LONGEST_EXTERNAL_ID

_NAMES = {"".join(part.capitalize() for part in name.split("-")): name for name in get_args(EventName)}


class AuditEventSchema(Schema):
    id = identifier("The event's id")
    at = time("When it happened")
    event = fields.String(metadata=about("What happened; there may be others in future", "signed-in"))
    actor_id = fields.String(allow_none=True, metadata=about("Who did it; null for nobody who was signed in", EXAMPLE_ID))
    user_id = fields.String(allow_none=True, metadata=about("Whose account it is about; null for none", EXAMPLE_ID))
    email = fields.String(allow_none=True, metadata=about("The address that was tried, where no account has it", None))
    address = fields.String(allow_none=True, metadata=about("The network address that it came from", "192.0.2.1"))
    request_id = fields.String(allow_none=True, metadata=about("The request's id, as the log has it", EXAMPLE_ID))
    detail = fields.Dict(metadata={"description": "What else is known of it", "example": {"key": "shop back end"}})


class AuditPageSchema(PageSchema):
    items = fields.List(fields.Nested(AuditEventSchema))


class AuditQuerySchema(ListQuerySchema):
    user = line(
        "What this user did, and what befell their account: our id, or `ext:` and the product's own",
        "ext:42",
        LONGEST_EXTERNAL_ID + 4,
    )
    event = Words("AuditEventName", _NAMES, metadata=about("Only those", "reward-reversed"))
    since = Timestamp(metadata={**about("Only those since", "2027-01-31T12:00:00Z"), "format": "date-time"})


def audit_event_view(event: Event) -> dict[str, Any]:
    """A security event."""
    return {
        "id": event.id,
        "at": rfc_3339(event.at),
        "event": event.event,
        "actor_id": event.actor_id,
        "user_id": event.user_id,
        "email": event.email,
        "address": event.address,
        "request_id": event.request_id,
        "detail": orjson.loads(event.detail),
    }
