"""What comes in and what goes out (marshmallow); the OpenAPI document is made from these."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Any

from email_validator import EmailNotValidError, validate_email
from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates_schema

from referral.auth.passwords import MAX_LENGTH as PASSWORD_MAX_LENGTH
from referral.clock import rfc_3339

# RFC 3339 section 5.6; Python's own parser takes other ISO 8601 forms, too.
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
CODE = re.compile(r"[A-Z0-9_-]{4,32}")
RESERVED_CODES = frozenset({"CURRENT", "BY-EMAIL"})
USERNAME_LENGTH = (2, 32)
# RFC 5321 section 4.5.3.1.3, without the angle brackets.
LONGEST_EMAIL = 254
# Of what is typed letter by mark; what is longer than that is refused before its normal form is made.
MOST_CHARACTERS_IN_ONE = 4
# A limit of uses has to fit a 32-bit client.
MAX_USES = 2_147_483_647
# Refresh tokens and link tokens have 43 characters; access tokens, which may be revoked, some hundred.
TOKEN_MAX_LENGTH = 4096

EXAMPLE_CODE = "8ZK4M2QA"
EXAMPLE_TIME = "2027-01-31T12:00:00Z"
EXAMPLE_ID = "01a1fc33-b15e-7485-b662-a53a843b9176"


class InputSchema(Schema):
    class Meta:
        unknown = RAISE

    error_messages = {"unknown": "There is no such member.", "type": "Must be a JSON object."}


# --- fields ---


class Timestamp(fields.Field[int]):
    """Out: RFC 3339 in UTC, whole seconds, of milliseconds since 1970. In: any RFC 3339 time, to whole seconds in ms."""

    default_error_messages = {
        "invalid": "Must be an RFC 3339 time with an offset, such as 2027-01-31T12:00:00Z.",
    }

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else rfc_3339(value)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, str) or not RFC_3339.fullmatch(value):
            raise self.make_error("invalid")
        try:
            moment = datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            raise self.make_error("invalid") from None
        return int(moment.timestamp()) * 1000


class Email(fields.Field[str]):
    """An e-mail address in its normal form: the domain in lower case, everything in NFC."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        # Normal forms take time that grows with the square of the length: what cannot be short enough is not looked at.
        if not isinstance(value, str) or len(value) > MOST_CHARACTERS_IN_ONE * LONGEST_EMAIL:
            raise ValidationError("Must be an e-mail address.")
        try:
            return str(validate_email(value, check_deliverability=False).normalized)
        except EmailNotValidError as error:
            raise ValidationError(f"Must be an e-mail address: {error}") from None


class Username(fields.Field[str]):
    """2 to 32 letters and digits of any script, with . _ - after the first; NFKC, so that look-alike forms are one."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError("Must be a text.")
        low, high = USERNAME_LENGTH
        name = unicodedata.normalize("NFKC", value) if len(value) <= MOST_CHARACTERS_IN_ONE * high else ""
        if not low <= len(name) <= high or not name[0].isalnum() or not all(map(_in_username, name)):
            raise ValidationError(
                f"Must be {low} to {high} letters and digits, with '.', '_' and '-' allowed after the first."
            )
        return name


def _in_username(character: str) -> bool:
    # Letters, their combining marks and decimal digits; no spaces, controls, bidi overrides or invisible characters.
    return character in "._-" or unicodedata.category(character) in ("Ll", "Lu", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd")


class CodeText(fields.Field[str]):
    """A code in upper case."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        # ASCII first: upper() makes "SS" of "ß" and so another code of another text.
        if not isinstance(value, str) or not value.isascii() or not CODE.fullmatch(value.upper()):
            raise ValidationError("Must be 4 to 32 of A-Z, 0-9, '-' and '_'.")
        if value.upper() in RESERVED_CODES:
            raise ValidationError("This word is reserved.")
        return value.upper()


class Boolean(fields.Boolean):
    """JSON's true and false, and nothing that looks like them."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError("Must be true or false.")
        return value


class Integer(fields.Integer):
    """JSON's whole numbers: 30, and 30.0, which JSON Schema takes for the same."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        whole = isinstance(value, float) and value.is_integer()
        return super()._deserialize(int(value) if whole else value, attr, data, **kwargs)


def integer(low: int, high: int, **kwargs: Any) -> Integer:
    return Integer(
        strict=True,
        validate=validate.Range(low, high, error=f"Must be between {low} and {high}."),
        error_messages={"invalid": "Must be a whole number."},
        **kwargs,
    )


def about(description: str, example: Any) -> dict[str, Any]:
    return {"description": description, "example": example}


def password(description: str) -> fields.String:
    return fields.String(
        required=True,
        load_only=True,
        validate=validate.Length(
            min=1, max=PASSWORD_MAX_LENGTH, error=f"Must have between 1 and {PASSWORD_MAX_LENGTH} characters."
        ),
        metadata={**about(description, "correct horse battery staple"), "format": "password"},
    )


def new_password() -> fields.String:
    return password(
        "Any script; its least length is a setting, 8 characters by default. Not one of the most common ones, and none that "
        "holds the e-mail address or the username"
    )


def token(description: str) -> fields.String:
    return fields.String(
        required=True,
        validate=validate.Length(min=1, max=TOKEN_MAX_LENGTH, error="Must be a token."),
        metadata=about(description, "hR2nF0cZ7v8mQx1TzYk3w5LJ9sEaBdGiUoPqXyWtVfM"),
    )


def code_text(**kwargs: Any) -> CodeText:
    return CodeText(
        metadata={
            **about("4 to 32 of A-Z, 0-9, '-' and '_'; stored in upper case, compared without case", EXAMPLE_CODE),
            "pattern": "^[A-Za-z0-9_-]{4,32}$",
        },
        **kwargs,
    )


def username(**kwargs: Any) -> Username:
    return Username(
        metadata={
            **about("2 to 32 letters and digits of any script, '.', '_' and '-'; unique without case", "alice"),
            "minLength": USERNAME_LENGTH[0],
        },
        **kwargs,
    )


def email(**kwargs: Any) -> Email:
    return Email(metadata={**about("Unique without case", "alice@example.com"), "format": "email"}, **kwargs)


def time(description: str, **kwargs: Any) -> Timestamp:
    return Timestamp(metadata={**about(description, EXAMPLE_TIME), "format": "date-time"}, **kwargs)


def identifier(description: str) -> fields.String:
    return fields.String(metadata={**about(description, EXAMPLE_ID), "format": "uuid"})


def public_page(description: str, example: str) -> fields.String:
    return fields.String(allow_none=True, metadata={**about(description, example), "format": "uri"})


# --- in ---


class RegistrationSchema(InputSchema):
    email = email(required=True)
    password = new_password()
    username = username(allow_none=True)
    referral_code = code_text(allow_none=True)


class PasswordChangeSchema(InputSchema):
    current_password = password("The password that is to be replaced")
    new_password = new_password()


class PasswordResetRequestSchema(InputSchema):
    email = email(required=True)


class PasswordResetSchema(InputSchema):
    token = token("The token of the mailed link")
    new_password = new_password()


class EmailVerificationSchema(InputSchema):
    token = token("The token of the mailed link")


class ProfileChangeSchema(InputSchema):
    username = username(allow_none=True)


class ErasureSchema(InputSchema):
    password = password("The account's password")


class CodeUseSchema(InputSchema):
    code = code_text(required=True)


class ExpirySchema(InputSchema):
    expires_at = time("When the code ends; this or ttl_days")
    ttl_days = integer(1, 36_500, metadata=about("In how many days the code ends; this or expires_at", 30))
    max_uses = integer(1, MAX_USES, allow_none=True, metadata=about("How many may come by the code; null for no limit", 100))

    @validates_schema
    def _one_expiry(self, data: dict[str, Any], **kwargs: Any) -> None:
        if "expires_at" in data and "ttl_days" in data:
            raise ValidationError("Give either expires_at or ttl_days, not both.", "expires_at")


class NewCodeSchema(ExpirySchema):
    code = code_text()
    replace = Boolean(metadata=about("End the current code in the same step", False))

    @validates_schema
    def _some_expiry(self, data: dict[str, Any], **kwargs: Any) -> None:
        if "expires_at" not in data and "ttl_days" not in data:
            raise ValidationError("Give expires_at or ttl_days: every code ends.", "expires_at")


class CodeChangeSchema(ExpirySchema):
    pass


class PageQuerySchema(InputSchema):
    limit = fields.Integer(
        load_default=50,
        validate=validate.Range(1, 100, error="Must be between 1 and 100."),
        error_messages={"invalid": "Must be a whole number."},
        metadata={"description": "How many items at most"},
    )
    cursor = fields.String(metadata={"description": "The next_cursor of the page before; opaque"})


class EmailQuerySchema(InputSchema):
    email = email(required=True)


# --- out ---


class PersonSchema(Schema):
    id = identifier("The user's id")
    username = fields.String(allow_none=True, metadata=about("null without one, and once the account is gone", "alice"))


class CodeSchema(Schema):
    code = fields.String(metadata=about("The text to share", EXAMPLE_CODE))
    status = fields.String(
        validate=validate.OneOf(["active", "expired", "revoked", "exhausted"]),
        metadata=about("What became of it", "active"),
    )
    expires_at = time("When it ends or ended by itself")
    created_at = time("When it was made")
    max_uses = fields.Integer(allow_none=True, metadata=about("null for no limit", 100))
    uses = fields.Integer(metadata=about("How many came by it", 3))


class ActiveCodeSchema(Schema):
    code = fields.String(metadata=about("The text to share", EXAMPLE_CODE))
    expires_at = time("When it ends by itself")
    referrer = fields.Nested(PersonSchema, metadata={"description": "Whose code it is"})


class ProfileSchema(Schema):
    """One shape for every enrichment provider."""

    name = fields.String(allow_none=True, metadata=about("The full name", "Alice Archer"))
    title = fields.String(allow_none=True, metadata=about("The job title", "Head of Growth"))
    company = fields.String(allow_none=True, metadata=about("The employer", "Example Ltd"))
    domain = fields.String(allow_none=True, metadata=about("The employer's domain", "example.com"))
    location = fields.String(allow_none=True, metadata=about("Where the person is", "London, England, GB"))
    site = public_page("The person's own page", "https://alice.example.com")
    avatar = public_page("A picture", "https://alice.example.com/alice.png")
    linkedin = public_page("On LinkedIn", "https://www.linkedin.com/in/alice")
    twitter = public_page("On Twitter", "https://twitter.com/alice")
    github = public_page("On GitHub", "https://github.com/alice")


class UserSchema(Schema):
    id = identifier("The user's id")
    email = fields.String(metadata={**about("Where mail goes", "alice@example.com"), "format": "email"})
    email_verified = fields.Boolean(metadata=about("Whether a mailed link was followed", True))
    username = fields.String(allow_none=True, metadata=about("null without one", "alice"))
    role = fields.String(validate=validate.OneOf(["user", "admin"]), metadata=about("An admin may edit any code", "user"))
    created_at = time("When the account was made")
    referrer = fields.Nested(PersonSchema, allow_none=True, metadata={"description": "By whom the user came"})
    referral_count = fields.Integer(metadata=about("How many came by the user", 3))
    code = fields.Nested(CodeSchema, allow_none=True, metadata={"description": "The current code"})
    profile = fields.Nested(
        ProfileSchema,
        allow_none=True,
        metadata={"description": "What is publicly known of the person; null unless a provider is set and knows"},
    )


class TokensSchema(Schema):
    access_token = fields.String(
        metadata=about("A JWT for the Authorization header", "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.c2ln")
    )
    token_type = fields.String(validate=validate.Equal("Bearer"), metadata=about("RFC 6750", "Bearer"))
    expires_in = fields.Integer(metadata=about("Seconds the access token lives", 900))
    refresh_token = fields.String(
        metadata=about("Opaque; good for one refresh", "hR2nF0cZ7v8mQx1TzYk3w5LJ9sEaBdGiUoPqXyWtVfM")
    )


class SessionSchema(Schema):
    id = identifier("The session's id")
    created_at = time("When it began, with a sign-in or a registration")
    last_used_at = time("When it was last refreshed")
    expires_at = time("When it ends unless it is refreshed before")
    address = fields.String(
        allow_none=True,
        metadata=about("From where it was last refreshed, of IPv6 the network; null if that is not known", "203.0.113.7"),
    )
    client = fields.String(
        allow_none=True,
        metadata=about(
            "What the client said of itself then: the beginning of its User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"
        ),
    )
    current = fields.Boolean(metadata=about("Whether it is the session of this very request", True))


class RegisteredSchema(TokensSchema):
    user = fields.Nested(UserSchema)


class ReferrerSetSchema(Schema):
    referrer = fields.Nested(PersonSchema, metadata={"description": "By whom the user now came"})
    code = fields.String(metadata=about("The code that was used", EXAMPLE_CODE))


class ReferralSchema(Schema):
    id = identifier("The id of the user who came")
    username = fields.String(allow_none=True, metadata=about("null without one, and once the account is gone", "bob"))
    email = fields.String(
        allow_none=True,
        metadata={**about("Only for the referrer and for an admin", "bob@example.com"), "format": "email"},
    )
    joined_at = time("When the user came")
    code = fields.String(metadata=about("By which code", EXAMPLE_CODE))


class PageSchema(Schema):
    total = fields.Integer(metadata=about("How many items all pages have", 1))
    next_cursor = fields.String(allow_none=True, metadata=about("null on the last page", None))


class ReferralPageSchema(PageSchema):
    items = fields.List(fields.Nested(ReferralSchema))


class CodePageSchema(PageSchema):
    items = fields.List(fields.Nested(CodeSchema))


class SessionPageSchema(PageSchema):
    items = fields.List(fields.Nested(SessionSchema))


class OAuthErrorSchema(Schema):
    error = fields.String(
        validate=validate.OneOf(["invalid_request", "invalid_grant", "unsupported_grant_type"]),
        metadata=about("RFC 6749 section 5.2", "invalid_grant"),
    )
    error_description = fields.String(metadata=about("What is wrong", "The username or the password is wrong."))


class HealthSchema(Schema):
    status = fields.String(
        validate=validate.OneOf(["ok", "degraded", "unavailable"]), metadata=about("The service as a whole", "ok")
    )
    checks = fields.Dict(
        keys=fields.String(), values=fields.String(), metadata=about("Its parts", {"database": "ok", "cache": "ok"})
    )


class MemberErrorSchema(Schema):
    pointer = fields.String(metadata=about("JSON Pointer of the member (RFC 6901)", "/email"))
    detail = fields.String(metadata=about("What is wrong with it", "Must be an e-mail address."))


class ProblemSchema(Schema):
    """RFC 9457."""

    type = fields.String(
        metadata={**about("Resolves to a page that explains the problem", "/problems/not-found"), "format": "uri-reference"}
    )
    title = fields.String(metadata=about("The kind of problem", "There is no such thing"))
    status = fields.Integer(metadata=about("The HTTP status", 404))
    detail = fields.String(metadata=about("What went wrong this time", "There is no such active code."))
    instance = fields.String(
        metadata={**about("The path that was asked for", "/api/v1/codes/8ZK4M2QA"), "format": "uri-reference"}
    )
    request_id = fields.String(metadata=about("As in the header X-Request-ID", EXAMPLE_ID))
    errors = fields.List(fields.Nested(MemberErrorSchema), metadata={"description": "Of a validation-error: its members"})
    reason = fields.String(
        validate=validate.OneOf(["unknown", "expired", "revoked", "exhausted"]),
        metadata={"description": "Of referral-code-invalid: why"},
    )
