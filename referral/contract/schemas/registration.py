"""Registration."""

from marshmallow import fields

from referral.contract.schemas.fields import InputSchema, code_text, email, new_password, username
from referral.contract.schemas.tokens import TokensSchema
from referral.contract.schemas.users import UserSchema


class RegistrationSchema(InputSchema):
    email = email(required=True)
    password = new_password()
    username = username(allow_none=True)
    referral_code = code_text(allow_none=True)


class RegisteredSchema(TokensSchema):
    user = fields.Nested(UserSchema)
