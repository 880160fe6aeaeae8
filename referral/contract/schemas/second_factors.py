"""Second factors."""

from typing import Any

from marshmallow import Schema, fields, validate

from referral.clock import rfc_3339
from referral.contract.schemas.fields import InputSchema, Words, about, password, time
from referral.queries.second_factors import SecondFactor

# Characters of a code: six digits of an app, or a recovery code, however it is typed.
LONGEST_CODE = 64


def _code(description: str) -> fields.String:
    return fields.String(
        required=True,
        validate=validate.Length(min=1, max=LONGEST_CODE, error=f"Must have between 1 and {LONGEST_CODE} characters."),
        metadata=about(description, "123456"),
    )


class SecondFactorSchema(Schema):
    status = Words(
        "SecondFactorStatus",
        {"factor_off": "off", "factor_begun": "begun", "factor_on": "on"},
        metadata=about("`begun` until a code of the app has confirmed it", "on"),
    )
    confirmed_at = time("Since when it is on; null while it is not", allow_none=True)
    recovery_codes = fields.Integer(metadata=about("How many recovery codes were not used yet", 10))


class SecondFactorBeginningSchema(InputSchema):
    password = password("The account's password")


class BegunSecondFactorSchema(Schema):
    secret = fields.String(metadata=about("What the app has to know, in base32", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"))
    uri = fields.String(
        metadata=about(
            "The same for a QR code",
            "otpauth://totp/referral.example.com:alice%40example.com?secret=JBSWY3DPEHPK3PXP&issuer=…",
        )
    )


class SecondFactorConfirmationSchema(InputSchema):
    code = _code("What the app shows")


class RecoveryCodesSchema(Schema):
    recovery_codes = fields.List(
        fields.String(),
        metadata=about("Each stands once for a code of the app, and is shown once", ["7QK2-0R9T-M4VX-8HJ3"]),
    )


class SecondFactorEndSchema(InputSchema):
    password = password("The account's password")
    code = _code("What the app shows, or a recovery code")


def second_factor_view(found: SecondFactor | None) -> dict[str, Any]:
    """What its owner sees of a second factor, or of none."""
    return {
        "status": "off" if found is None else "on" if found.is_on else "begun",
        "confirmed_at": rfc_3339(found.confirmed_at) if found is not None and found.confirmed_at is not None else None,
        "recovery_codes": found.recovery_codes if found is not None else 0,
    }
