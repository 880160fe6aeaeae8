"""Who referred the most."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validates_schema

from referral.contract.schemas.events import LONGEST_UNIT
from referral.contract.schemas.fields import Words, about, identifier, line
from referral.contract.schemas.pages import FormatQuerySchema, limit_field
from referral.contract.schemas.programme_stats import AmountSchema

BY = ("converted", "referrals", "revenue")
PERIODS = ("week", "month", "ever")
REVENUE = "revenue"
# Places that are kept of each board, and listed at most.
MOST_PLACES = 100


def _by(**kwargs: Any) -> Words:
    words = {f"rank-by-{word}": word for word in BY}
    return Words("LeaderboardOrder", words, metadata=about("By what users are ranked", "converted"), **kwargs)


def _period(**kwargs: Any) -> Words:
    words = {f"in-{word}": word for word in PERIODS}
    return Words(
        "LeaderboardPeriod",
        words,
        metadata=about("The current week (from Monday on) or month, in UTC, or ever", "ever"),
        **kwargs,
    )


class LeaderboardQuerySchema(FormatQuerySchema):
    by = _by(load_default="converted")
    period = _period(load_default="ever")
    unit = line("Of `revenue`: in which unit; the first of the setting `rewards.units` unless given", "USD", LONGEST_UNIT)
    limit = limit_field(10, MOST_PLACES)

    @validates_schema(skip_on_field_errors=True)
    def _only_money_has_a_unit(self, data: dict[str, Any], **kwargs: Any) -> None:
        if "unit" in data and data["by"] != REVENUE:
            raise ValidationError("Must be left out unless `by` is revenue.", "unit")


class PlaceSchema(Schema):
    rank = fields.Integer(metadata=about("1 for the first; who has the same has the same rank", 1))
    user_id = identifier("The user's id")
    name = fields.String(
        allow_none=True, metadata=about("The text `public_name` of the user's metadata; null without one", "Alice A.")
    )
    count = fields.Integer(allow_none=True, metadata=about("How many; null by `revenue`", 12))
    value = fields.Nested(
        AmountSchema,
        allow_none=True,
        metadata={"description": "By `revenue`: what those bought who had come by the user, before any refund"},
    )


class LeaderboardSchema(Schema):
    by = _by()
    period = _period()
    items = fields.List(fields.Nested(PlaceSchema), metadata={"description": "The first one first"})
