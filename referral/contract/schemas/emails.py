"""E-mail addresses."""

from referral.contract.schemas.fields import InputSchema, NewEmail, email, password, token


class EmailVerificationSchema(InputSchema):
    token = token("The token of the mailed link")


class EmailChangeSchema(InputSchema):
    email = email(NewEmail, required=True)
    current_password = password("The account's password")
