"""Codes."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validates_schema

from referral.clock import rfc_3339
from referral.contract.schemas.fields import (
    EXAMPLE_CODE,
    MAX_USES,
    Boolean,
    InputSchema,
    NewCodeText,
    Words,
    about,
    code_text,
    email,
    integer,
    time,
)
from referral.contract.schemas.pages import PageSchema
from referral.contract.schemas.people import PersonSchema, person
from referral.queries.codes import ActiveCode, Code


class ExpirySchema(InputSchema):
    expires_at = time("When the code ends; this or ttl_days")
    ttl_days = integer(1, 36_500, metadata=about("In how many days the code ends; this or expires_at", 30))
    max_uses = integer(1, MAX_USES, allow_none=True, metadata=about("How many may come by the code; null for no limit", 100))

    @validates_schema
    def _one_expiry(self, data: dict[str, Any], **kwargs: Any) -> None:
        if "expires_at" in data and "ttl_days" in data:
            raise ValidationError("Give either expires_at or ttl_days, not both.", "expires_at")


class CodeCreationSchema(ExpirySchema):
    code = code_text(NewCodeText)
    replace = Boolean(metadata=about("End the current code in the same step", False))

    @validates_schema
    def _some_expiry(self, data: dict[str, Any], **kwargs: Any) -> None:
        if "expires_at" not in data and "ttl_days" not in data:
            raise ValidationError("Give expires_at or ttl_days: every code ends.", "expires_at")


class CodeChangeSchema(ExpirySchema):
    pass


class EmailQuerySchema(InputSchema):
    email = email(required=True)


class CodeSchema(Schema):
    code = fields.String(metadata=about("The text to share", EXAMPLE_CODE))
    status = Words(
        "CodeStatus", ("active", "expired", "revoked", "exhausted"), metadata=about("What became of it", "active")
    )
    expires_at = time("When it ends or ended by itself")
    created_at = time("When it was made")
    max_uses = fields.Integer(allow_none=True, metadata=about("null for no limit", 100))
    uses = fields.Integer(metadata=about("How many came by it", 3))


class ActiveCodeSchema(Schema):
    code = fields.String(metadata=about("The text to share", EXAMPLE_CODE))
    expires_at = time("When it ends by itself")
    referrer = fields.Nested(PersonSchema, metadata={"description": "Whose code it is"})


class CodePageSchema(PageSchema):
    items = fields.List(fields.Nested(CodeSchema))


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
        "referrer": person(active.referrer_id, active.referrer_username, active.referrer_name),
    }
