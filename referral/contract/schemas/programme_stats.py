"""What became of the whole programme."""

from typing import Any

from marshmallow import Schema, fields

from referral.contract.schemas.fields import about
from referral.contract.schemas.pages import FormatQuerySchema
from referral.contract.schemas.stats import RangeQuerySchema, SeriesSchema, counted


class ProgrammeStatsQuerySchema(RangeQuerySchema, FormatQuerySchema):
    pass


class AmountSchema(Schema):
    unit = fields.String(metadata=about("An ISO 4217 code, or a unit of the installation's own", "USD"))
    amount = fields.Integer(metadata=about("In the unit's smallest part; sums may pass 2^53", 4900))


def _amounts(description: str) -> fields.List[Any]:
    return fields.List(
        fields.Nested(AmountSchema),
        metadata={"description": f"{description}; one for each unit, without those that came to nothing"},
    )


class ProgrammeCountsSchema(Schema):
    clicks = counted("Clicks on share links by people", 12)
    visitors = counted("By how many people, each counted once a code and day", 9)
    robots = counted("Clicks by robots, which count nowhere else", 3)
    signups = counted("Events of the type `signup`, by when they happened", 6)
    referrals = counted("Who came by somebody, by when they did", 4)
    converted = counted("Referrals that are converted now, by when they were", 1)
    purchases = counted("Events of the type `purchase`, by when they happened", 2)
    refunds = counted("Events of the type `refund`, by when they happened", 0)
    revenue = _amounts("What the purchases were worth, before any refund")
    refunded = _amounts("What the refunds took")
    rewards = counted("Rewards that are not void, by when they were made", 2)
    cost = _amounts("What these are worth, less what was taken back of them")


class _DaySchema(Schema):
    at = fields.Date(metadata=about("The first day that the row stands for, in UTC", "2027-01-31"))


class ProgrammeRowSchema(ProgrammeCountsSchema, _DaySchema):
    """The day comes first, as fields of the last base do."""


class LiabilitySchema(Schema):
    unit = fields.String(metadata=about("The unit", "USD"))
    pending = fields.Integer(metadata=about("In rewards of all users that wait, in the unit's smallest part", 980))
    available = fields.Integer(metadata=about("What all users can spend, less the debts of some", 500))


class ProgrammeStatsSchema(SeriesSchema):
    items = fields.List(
        fields.Nested(ProgrammeRowSchema), metadata={"description": "One row for each interval, the oldest first"}
    )
    totals = fields.Nested(ProgrammeCountsSchema)
    liability = fields.List(
        fields.Nested(LiabilitySchema),
        metadata={
            "description": "What users have now, whatever the range is; one for each unit in which there is something"
        },
    )
