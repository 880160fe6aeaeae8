"""The health of the service."""

from marshmallow import Schema, fields, validate

from referral.contract.schemas.fields import about


class HealthSchema(Schema):
    status = fields.String(
        validate=validate.OneOf(["ok", "degraded", "unavailable"]), metadata=about("The service as a whole", "ok")
    )
    checks = fields.Dict(
        keys=fields.String(), values=fields.String(), metadata=about("Its parts", {"database": "ok", "cache": "ok"})
    )
