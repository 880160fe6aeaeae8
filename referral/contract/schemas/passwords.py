"""Passwords."""

from referral.contract.schemas.fields import InputSchema, email, new_password, password, token


class PasswordChangeSchema(InputSchema):
    current_password = password("The password that is to be replaced")
    new_password = new_password()


class PasswordResetRequestSchema(InputSchema):
    email = email(required=True)


class PasswordResetSchema(InputSchema):
    token = token("The token of the mailed link")
    new_password = new_password()
