"""Share links."""

from marshmallow import validate

from referral.contract.schemas.fields import InputSchema, about
from referral.contract.schemas.pages import Number
from referral.qr import LARGEST, SMALLEST


class QRQuerySchema(InputSchema):
    size = Number(
        load_default=300,
        validate=validate.Range(SMALLEST, LARGEST, error=f"Must be between {SMALLEST} and {LARGEST}."),
        error_messages={"invalid": "Must be a whole number."},
        metadata=about("Pixels, wide and high", 300),
    )
