"""The verification of e-mail addresses."""

from referral.contract.schemas.fields import InputSchema, token


class EmailVerificationSchema(InputSchema):
    token = token("The token of the mailed link")
