"""Users as the product's back end names and describes them."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validates_schema

from referral.contract.schemas.codes import CodeCreationSchema
from referral.contract.schemas.fields import (
    LONGEST_EMAIL,
    SHORTEST_EMAIL,
    Boolean,
    Email,
    InputSchema,
    Line,
    NewEmail,
    Words,
    about,
    email,
    integer,
    line,
    metadata,
    time,
    username,
)
from referral.contract.schemas.pages import ListQuerySchema, PageSchema, cursor_field
from referral.contract.schemas.users import USER_STATUSES, UserSchema
from referral.texts import LONGEST_EXTERNAL_ID

LONGEST_NAME = 200
LONGEST_REASON = 500
# An id, and what a user is found by.
LONGEST_SEARCH_KEY = 36 + 2 * LONGEST_EMAIL
USER_TOKEN_TTL = (60, 86_400)


def external_id(description: str, **kwargs: Any) -> fields.Field[str]:
    return line(description, "42", LONGEST_EXTERNAL_ID, **kwargs)


class UserDescriptionSchema(InputSchema):
    email = email(NewEmail, allow_none=True)
    email_verified = Boolean(
        allow_none=True,
        metadata=about("Whether the product knows that the address is the user's; of a new address false", True),
    )
    name = line("What the product calls the user", "Bob Archer", LONGEST_NAME, allow_none=True)
    username = username(allow_none=True)
    metadata = metadata("Kept with the user; replaces what was kept before", allow_none=True)
    created_at = time("When the user signed up at the product", allow_none=True)


class UserPutSchema(UserDescriptionSchema):
    external_id = external_id(
        "The product's own id of the user; only where the path names the user by our id", allow_none=True
    )
    code = fields.Nested(
        CodeCreationSchema,
        metadata={"description": "As of POST /codes; heeded if the user has no current code"},
    )


def _limits(description: str, low: int, high: int) -> dict[str, Any]:
    return {"description": description, "minLength": low, "maxLength": high}


class UserQuerySchema(ListQuerySchema):
    # Without examples: documents with a form send all of them at once, and one is admitted.
    external_id = Line(
        1, LONGEST_EXTERNAL_ID, metadata=_limits("Whoever has this id of the product's", 1, LONGEST_EXTERNAL_ID)
    )
    email = Email(metadata={**_limits("Whoever has this address", SHORTEST_EMAIL, LONGEST_EMAIL), "format": "email"})
    status = Words("UserStatus", USER_STATUSES, metadata=about("Only those", "active"))
    q = Line(
        1, LONGEST_EMAIL, metadata=_limits("Whose e-mail address, name, username or external id begins so", 1, LONGEST_EMAIL)
    )
    cursor = cursor_field(LONGEST_SEARCH_KEY)

    @validates_schema
    def _one_way(self, data: dict[str, Any], **kwargs: Any) -> None:
        if len(data.keys() & {"external_id", "email", "q"}) > 1:
            raise ValidationError("Give one of external_id, email and q.", "q")


class UserPageSchema(PageSchema):
    items = fields.List(fields.Nested(UserSchema))


class SuspensionSchema(InputSchema):
    reason = line(
        "Why, in a line; it is kept in the record of events, too", "made up accounts", LONGEST_REASON, required=True
    )


class UserTokenRequestSchema(InputSchema):
    is_optional = True

    ttl_seconds = integer(*USER_TOKEN_TTL, load_default=3600, metadata=about("How long the token is good", 3600))


class UserTokenSchema(Schema):
    access_token = fields.String(
        metadata=about(
            "For the user's browser, in the header Authorization", "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.c2ln"
        )
    )
    token_type = Words("TokenType", ("Bearer",), metadata=about("RFC 6750", "Bearer"))
    expires_in = fields.Integer(metadata=about("Seconds the token lives", 3600))
