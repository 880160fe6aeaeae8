"""Pages: what is asked for and what every page has."""

import re
from typing import Any

from marshmallow import Schema, fields, validate

from referral.contract.paging import CURSOR_LENGTH
from referral.contract.schemas.fields import InputSchema, about


class Number(fields.Integer):
    """A whole number as a text. Python's int() takes signs, spaces, zeros in front and the digits of every script, too."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, str) or not re.fullmatch("0|[1-9][0-9]*", value):
            raise self.make_error("invalid")
        return super()._deserialize(value, attr, data, **kwargs)


class PageQuerySchema(InputSchema):
    limit = Number(
        load_default=50,
        validate=validate.Range(1, 100, error="Must be between 1 and 100."),
        error_messages={"invalid": "Must be a whole number."},
        metadata={"description": "How many items at most"},
    )
    cursor = fields.String(
        validate=validate.Length(*CURSOR_LENGTH, error="Must be the next_cursor of a page before, unchanged."),
        metadata={"description": "The next_cursor of the page before; opaque", "pattern": "^[A-Za-z0-9_-]+={0,2}$"},
    )


class PageSchema(Schema):
    total = fields.Integer(metadata=about("How many items all pages have", 1))
    next_cursor = fields.String(allow_none=True, metadata=about("null on the last page", None))
