"""Pages: what is asked for and what every page has."""

import re
from typing import Any

from marshmallow import Schema, fields, validate

from referral.contract.paging import cursor_length
from referral.contract.schemas.fields import InputSchema, about
from referral.texts import LONGEST_EXTERNAL_ID


class Number(fields.Integer):
    """A whole number as a text. Python's int() takes signs, spaces, zeros in front and the digits of every script, too."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, str) or not re.fullmatch("0|[1-9][0-9]*", value):
            raise self.make_error("invalid")
        return super()._deserialize(value, attr, data, **kwargs)


def cursor_field(longest: int) -> fields.String:
    """The cursor of a list whose keys have texts of so many characters at most."""
    low, high = cursor_length(longest)
    return fields.String(
        validate=validate.Length(low, high, error="Must be the next_cursor of a page before, unchanged."),
        metadata={"description": "The next_cursor of the page before; opaque", "pattern": "^[A-Za-z0-9_-]+={0,2}$"},
    )


def limit_field(usual: int, most: int) -> Number:
    """How many items an answer may have."""
    return Number(
        load_default=usual,
        validate=validate.Range(1, most, error=f"Must be between 1 and {most}."),
        error_messages={"invalid": "Must be a whole number."},
        metadata={"description": "How many items at most"},
    )


CSV = "csv"


class FormatQuerySchema(InputSchema):
    # Told by the descriptions of operations alone: an enum of its own would be one that no operation names.
    format = fields.String(
        load_default="json", validate=validate.OneOf(("json", CSV)), metadata=about("`csv`: a file for spreadsheets", "json")
    )


class PageQuerySchema(InputSchema):
    limit = limit_field(50, 100)
    cursor = cursor_field(LONGEST_EXTERNAL_ID)


class ListQuerySchema(PageQuerySchema, FormatQuerySchema):
    """Of a list that operators export, too."""


class PageSchema(Schema):
    total = fields.Integer(metadata=about("How many items all pages have", 1))
    next_cursor = fields.String(allow_none=True, metadata=about("null on the last page", None))
