"""Events that a product reports of its users."""

import re
from typing import Any

import orjson
from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from referral.clock import rfc_3339
from referral.contract.schemas.attribution import EventAttributionSchema
from referral.contract.schemas.fields import (
    EXAMPLE_CODE,
    EXAMPLE_ID,
    InputSchema,
    Timestamp,
    about,
    given_text,
    identifier,
    integer,
    line,
    metadata,
    time,
)
from referral.contract.schemas.pages import ListQuerySchema, PageSchema
from referral.contract.schemas.product_users import UserDescriptionSchema, external_id
from referral.queries.events import ReportedEvent
from referral.texts import LONGEST_EXTERNAL_ID

REFUND = "refund"
EVENT_TYPE = re.compile(r"[a-z][a-z0-9._-]{0,63}")
# What every client can count (RFC 8259 section 6): 2^53 - 1.
MOST_AMOUNT = 9_007_199_254_740_991
LONGEST_UNIT = 20
MOST_EVENTS = 500
EXAMPLE_EVENT = "in_1QXyz"


class EventType(fields.Field[str]):
    """The kind of an event, a word of the product's."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str) or not EVENT_TYPE.fullmatch(value):
            raise ValidationError("Must begin with a-z, and have up to 64 of a-z, 0-9, '.', '_' and '-'.")
        return value


def event_type(description: str, **kwargs: Any) -> EventType:
    limits = {"pattern": f"^{EVENT_TYPE.pattern}$", "minLength": 1, "maxLength": 64}
    return EventType(metadata={**about(description, "purchase"), **limits}, **kwargs)


def event_id(description: str, **kwargs: Any) -> fields.Field[str]:
    return line(description, EXAMPLE_EVENT, LONGEST_EXTERNAL_ID, **kwargs)


def can_be_in_a_path(text: str) -> None:
    """Raises ValidationError for an id by which no path could name a thing."""
    # RFC 3986 section 5.2.4: clients take dots away; the last one is an address of its own.
    if text in (".", "..", "batch"):
        raise ValidationError("Must not be '.', '..' or 'batch', which no address can name.")


class ValueSchema(InputSchema):
    unit = line(
        "One of the setting `rewards.units`: a code of ISO 4217, or a unit of the installation's own",
        "USD",
        LONGEST_UNIT,
        required=True,
    )
    amount = integer(0, MOST_AMOUNT, required=True, metadata=about("In the unit's smallest part", 4900))


class EventUserSchema(UserDescriptionSchema):
    id = line("Our id of the user; this or external_id", EXAMPLE_ID, LONGEST_EXTERNAL_ID)
    external_id = external_id("The product's own id of the user, who is made if there is none; this or id")

    @validates_schema
    def _one_name(self, data: dict[str, Any], **kwargs: Any) -> None:
        if ("id" in data) == ("external_id" in data):
            raise ValidationError("Give either id or external_id.", "external_id")


class ContextSchema(InputSchema):
    """Kept as HMACs alone, whose keys are thrown away."""

    ip = given_text("The address that the user came from", "192.0.2.1")
    user_agent = given_text("The user's browser", "Mozilla/5.0")
    device = given_text("The product's own name of the device", "d-81")
    payment = given_text("The product's own name of the means of payment", "card_9")


class EventReportSchema(InputSchema):
    id = event_id("The caller's own id of the event, remembered for ever", required=True, validate=can_be_in_a_path)
    type = event_type("`signup`, `purchase`, `refund`, or a word of the product's", required=True)
    user = fields.Nested(EventUserSchema, metadata={"description": "Whom it is about; a refund may leave it out"})
    occurred_at = Timestamp(
        metadata={**about("When it happened; now unless given", "2027-01-31T12:00:00Z"), "format": "date-time"}
    )
    value = fields.Nested(ValueSchema, metadata={"description": "What it was worth"}, allow_none=True)
    refunds = event_id("Of a refund: the id of the event that is refunded")
    code = given_text("By which code the user came, if the product knows", EXAMPLE_CODE)
    click_id = given_text(
        "By which click, if the product knows. It is for whoever gives no code, or one that cannot be used",
        EXAMPLE_ID,
    )
    context = fields.Nested(ContextSchema, allow_none=True, metadata={"description": "From where it was caused"})
    metadata = metadata("Kept with the event", allow_none=True)

    @validates_schema(skip_on_field_errors=True)
    def _what_a_type_needs(self, data: dict[str, Any], **kwargs: Any) -> None:
        if (data["type"] == REFUND) != ("refunds" in data):
            raise ValidationError("Must be given for a refund, and for nothing else.", "refunds")
        if data["type"] != REFUND and "user" not in data:
            raise ValidationError("Missing data for required field.", "user")
        value = data.get("value")
        if data["type"] == REFUND and value is not None and value["amount"] == 0:
            raise ValidationError({"value": {"amount": ["Must be at least 1 for a refund."]}})


class _Reports(fields.List[Any]):
    """A list of reports that are not looked at yet: each is accepted or refused by itself."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        return value


class EventBatchSchema(InputSchema):
    events = _Reports(
        fields.Nested(EventReportSchema),
        required=True,
        validate=validate.Length(1, MOST_EVENTS, error=f"Must list 1 to {MOST_EVENTS} events."),
        metadata={"description": "Each as the body of POST /events; they are recorded in this order"},
    )


class EventValueSchema(Schema):
    unit = fields.String(metadata=about("An ISO 4217 code, or a unit of the installation's own", "USD"))
    amount = fields.Integer(metadata=about("In the unit's smallest part", 4900))


class EventSchema(Schema):
    id = fields.String(metadata=about("The caller's own id", EXAMPLE_EVENT))
    type = fields.String(metadata=about("What happened", "purchase"))
    user_id = identifier("Our id of the user whom it is about")
    occurred_at = time("When it happened")
    received_at = time("When it was reported")
    value = fields.Nested(EventValueSchema, allow_none=True, metadata={"description": "What it was worth"})
    refunded = fields.Nested(
        EventValueSchema, allow_none=True, metadata={"description": "What refunds took of the value; null without one"}
    )
    refunds = fields.String(allow_none=True, metadata=about("Of a refund: the event that is refunded", None))
    code = fields.String(allow_none=True, metadata=about("The code that was given", EXAMPLE_CODE))
    click_id = fields.String(allow_none=True, metadata=about("The click that was given", None))
    attribution = fields.Nested(EventAttributionSchema)
    metadata = metadata("Kept with the event; null without any", allow_none=True)


class EventQuerySchema(ListQuerySchema):
    user = line("Only those of this user: our id, or `ext:` and the product's own", "ext:42", LONGEST_EXTERNAL_ID + 4)
    type = event_type("Only those of this type")
    since = Timestamp(metadata={**about("Only those reported since", "2027-01-31T12:00:00Z"), "format": "date-time"})


class EventPageSchema(PageSchema):
    items = fields.List(fields.Nested(EventSchema))


def _value(unit: str | None, amount: int | None) -> dict[str, Any] | None:
    return None if unit is None else {"unit": unit, "amount": amount}


def event_view(event: ReportedEvent) -> dict[str, Any]:
    """An event as the product's back end sees it."""
    return {
        "id": event.id,
        "type": event.type,
        "user_id": event.user_id,
        "occurred_at": rfc_3339(event.occurred_at),
        "received_at": rfc_3339(event.received_at),
        "value": _value(event.unit, event.amount),
        "refunded": _value(event.unit, event.refunded),
        "refunds": event.refunds,
        "code": event.code,
        "click_id": event.click_id,
        "attribution": {"status": event.attribution, "reason": event.reason},
        "metadata": orjson.loads(event.metadata) if event.metadata else None,
    }
