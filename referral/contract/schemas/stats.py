"""What became of links."""

import re
from datetime import date, timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields, validates_schema

from referral.contract.schemas.fields import InputSchema, Words, about, code_text
from referral.contract.schemas.pages import FormatQuerySchema

INTERVALS = ("day", "week", "month")
# RFC 3339 section 5.6.
FULL_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
EARLIEST, LATEST = date(2000, 1, 1), date(2199, 12, 31)


class _Date(fields.Date):
    """A date in UTC, as RFC 3339 writes it: 2027-01-31."""

    default_error_messages = {"invalid": "Must be a date such as 2027-01-31."}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        # Python's own parser takes other ISO 8601 forms, too.
        if not isinstance(value, str) or not FULL_DATE.fullmatch(value):
            raise self.make_error("invalid", input=value, obj_type="date")
        found = super()._deserialize(value, attr, data, **kwargs)
        if not EARLIEST <= found <= LATEST:
            raise ValidationError(f"Must be between {EARLIEST} and {LATEST}.")
        return found


class RangeQuerySchema(InputSchema):
    first = _Date(data_key="from", metadata=about("The first day, in UTC; 30 days before `to` unless given", "2027-01-01"))
    end = _Date(data_key="to", metadata=about("The day behind the last one, in UTC; tomorrow unless given", "2027-02-01"))
    interval = Words(
        "StatsInterval",
        {f"by-{word}": word for word in INTERVALS},
        load_default="day",
        metadata=about("How much time a row stands for; weeks begin on Mondays", "day"),
    )

    @validates_schema
    def _order(self, data: dict[str, Any], **kwargs: Any) -> None:
        if "first" in data and "end" in data and data["end"] - data["first"] < timedelta(days=1):
            raise ValidationError("Must be later than `from`.", "to")


class StatsQuerySchema(RangeQuerySchema, FormatQuerySchema):
    code = code_text()


def counted(description: str, example: int) -> fields.Integer:
    return fields.Integer(metadata=about(description, example))


class LinkCountsSchema(Schema):
    clicks = counted("Clicks on the links by people", 12)
    visitors = counted("By how many people, each counted once a code and day", 9)
    qr = counted("How many of these clicks came from a QR code", 2)
    robots = counted("Clicks by robots, which count nowhere else", 3)
    signups = counted("Sign-ups that were reported of those who came by the user, by when they happened", 4)
    referrals = counted("Who came by the user, by when they did", 4)
    converted = counted("Referrals that are converted now, by when they were", 1)


COUNTS = tuple(LinkCountsSchema._declared_fields)


class LinkRowSchema(LinkCountsSchema):
    at = fields.Date(metadata=about("The first day that the row stands for, in UTC", "2027-01-31"))


class FunnelSchema(Schema):
    visitors = counted("Who came", 9)
    referrals = counted("Who signed up", 4)
    converted = counted("Who bought", 1)


class SeriesSchema(Schema):
    first = fields.Date(data_key="from", metadata=about("The first day", "2027-01-01"))
    end = fields.Date(data_key="to", metadata=about("The day behind the last one", "2027-02-01"))
    interval = Words(
        "StatsRowInterval", {f"row-by-{word}": word for word in INTERVALS}, metadata=about("What a row stands for", "day")
    )
    funnel = fields.Nested(FunnelSchema)


class UserStatsSchema(SeriesSchema):
    items = fields.List(
        fields.Nested(LinkRowSchema), metadata={"description": "One row for each interval, the oldest first"}
    )
    totals = fields.Nested(LinkCountsSchema)
