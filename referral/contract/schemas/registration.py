"""Registration."""

from marshmallow import Schema, fields

from referral.contract.schemas.fields import (
    EXAMPLE_ID,
    InputSchema,
    NewEmail,
    Words,
    about,
    code_text,
    email,
    given_text,
    new_password,
    username,
)
from referral.contract.schemas.tokens import TokenPairSchema
from referral.contract.schemas.users import UserSchema


class RegistrationSchema(InputSchema):
    email = email(NewEmail, required=True)
    password = new_password()
    username = username(allow_none=True)
    referral_code = code_text(allow_none=True)
    click_id = given_text("By which click; for whoever gives no code", EXAMPLE_ID)


class AttributionSchema(Schema):
    status = Words(
        "AttributionStatus",
        ("attributed", "none", "refused"),
        metadata=about("Whether the account came by the code's owner; none without a code and a click", "attributed"),
    )
    reason = fields.String(
        allow_none=True,
        metadata=about(
            "Of a refusal: `known-address`, which had an account before and comes by nobody; or of a click: "
            "`unknown`, `click-expired`, `expired`, `revoked`, `exhausted` or `suspended`",
            None,
        ),
    )


class RegisteredSchema(TokenPairSchema):
    user = fields.Nested(UserSchema)
    attribution = fields.Nested(AttributionSchema)
