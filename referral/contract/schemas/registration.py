"""Registration."""

from typing import Any

from marshmallow import Schema, fields

from referral.contract.schemas.fields import InputSchema, NewEmail, Words, about, code_text, email, new_password, username
from referral.contract.schemas.tokens import TokenPairSchema
from referral.contract.schemas.users import UserSchema

KNOWN_ADDRESS = "known-address"


class RegistrationSchema(InputSchema):
    email = email(NewEmail, required=True)
    password = new_password()
    username = username(allow_none=True)
    referral_code = code_text(allow_none=True)


class AttributionSchema(Schema):
    status = Words(
        "AttributionStatus",
        ("attributed", "none", "refused"),
        metadata=about("Whether the account came by the code's owner; none without a code", "attributed"),
    )
    reason = fields.String(
        allow_none=True,
        metadata=about("Of a refusal: `known-address`, which had an account before and comes by nobody", None),
    )


class RegisteredSchema(TokenPairSchema):
    user = fields.Nested(UserSchema)
    attribution = fields.Nested(AttributionSchema)


def attribution_view(*, has_code: bool, is_known: bool) -> dict[str, Any]:
    """What became of the referral code."""
    if has_code and is_known:
        return {"status": "refused", "reason": KNOWN_ADDRESS}
    return {"status": "attributed" if has_code else "none", "reason": None}
