"""What members of every domain are made of: fields (marshmallow), their limits and their examples."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from email_validator import EmailNotValidError, validate_email
from marshmallow import RAISE, Schema, ValidationError, fields, validate

from referral.auth.passwords import MAX_LENGTH as PASSWORD_MAX_LENGTH
from referral.clock import rfc_3339
from referral.config.addresses import mailbox_of
from referral.contract.usernames import IGNORABLE, objection_to
from referral.texts import code_in, fold_code

# RFC 3339 section 5.6; Python's own parser takes other ISO 8601 forms, too.
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
# What `texts.code_in` takes for a code, as the document says it.
CODE_LENGTH = (4, 32)
CODE_PATTERN = "^[A-Za-z0-9_-]{4,32}$"
# Words of the API's paths, folded.
RESERVED_CODES = frozenset(map(fold_code, ("CURRENT", "BY-EMAIL")))
USERNAME_LENGTH = (2, 32)
# RFC 5321 section 4.5.3.1.3, without the angle brackets; a domain has at least two labels.
LONGEST_EMAIL = 254
SHORTEST_EMAIL = len("a@b.c")
# Code points that one character of a normal form is typed with at most. A longer text is refused before it is normalised.
MOST_CHARACTERS_IN_ONE = 4
# A limit of uses has to fit a 32-bit client.
MAX_USES = 2_147_483_647
# Members of a metadata object, characters of their names, and bytes of the whole.
MOST_METADATA, LONGEST_METADATA_NAME, METADATA_BYTES = 20, 40, 4096
# Of texts that are never refused for what they are.
LONGEST_TEXT = 1_000
# The largest sum that every client and every database counts, and the most that is told of a larger one.
LARGEST_SUM = 2**63 - 1
# Refresh tokens and link tokens have 43 characters; access tokens, which may be revoked, some hundred.
TOKEN_MAX_LENGTH = 4096

EXAMPLE_CODE = "8ZK4M2QA"
EXAMPLE_TIME = "2027-01-31T12:00:00Z"
EXAMPLE_ID = "01a1fc33-b15e-7485-b662-a53a843b9176"


class InputSchema(Schema):
    class Meta:
        unknown = RAISE

    error_messages = {"unknown": "There is no such member.", "type": "Must be a JSON object."}


class Words(fields.String):
    """One of a few words, which are an enum of the name `type_name` in the document; `words` maps the names of its members
    to the words. Generators for Go need names that no other enum has."""

    def __init__(self, type_name: str, words: Iterable[str] | Mapping[str, str], **kwargs: Any) -> None:
        self.type_name = type_name
        self.words = dict(words) if isinstance(words, Mapping) else {word: word for word in words}
        super().__init__(validate=validate.OneOf(list(self.words.values())), **kwargs)


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
        # The time of normalising grows with the square of the length: a text that is too long is not normalised.
        if not isinstance(value, str) or len(value) > MOST_CHARACTERS_IN_ONE * LONGEST_EMAIL:
            raise ValidationError("Must be an e-mail address.")
        try:
            return str(validate_email(value, check_deliverability=False).normalized)
        except EmailNotValidError as error:
            raise ValidationError(f"Must be an e-mail address: {error}") from None


class NewEmail(Email):
    """An address that somebody begins to use here.

    A local part that NFKC changes, such as one in full-width letters, and one with characters that nobody sees are refused:
    they look like another mailbox's. So is one that a mail program could not write to.
    """

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        address = super()._deserialize(value, attr, data, **kwargs)
        local = address.rpartition("@")[0]
        if unicodedata.normalize("NFKC", local) != local or IGNORABLE.search(local):
            raise ValidationError("Must be an e-mail address in its usual characters, without look-alike or invisible ones.")
        try:
            mailbox_of(address)
        except ValueError:
            raise ValidationError("Must be an e-mail address that mail can be written to.") from None
        return address


class Username(fields.Field[str]):
    """2 to 32 letters and digits of any script, with . _ - after the first; NFKC, so that look-alike forms are one.

    This is for whoever signs in by a name, under whatever rule it was chosen.
    """

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


class NewUsername(Username):
    """A username that is chosen now."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        name = super()._deserialize(value, attr, data, **kwargs)
        objection = objection_to(name)
        if objection:
            raise ValidationError(objection)
        return name


class CodeText(fields.Field[str]):
    """A code in upper case."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        code = code_in(value) if isinstance(value, str) else None
        if code is None:
            raise ValidationError("Must be 4 to 32 of A-Z, 0-9, '-' and '_'.")
        return code


class NewCodeText(CodeText):
    """A code that is chosen now: no word of the API's paths."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        code = super()._deserialize(value, attr, data, **kwargs)
        if fold_code(code) in RESERVED_CODES:
            raise ValidationError("This word is reserved.")
        return code


class Line(fields.Field[str]):
    """A text of `low` to `high` characters that can be printed: no line breaks, no control or invisible formatting
    characters, and none that is no character at all. It is kept as it is."""

    def __init__(self, low: int, high: int, **kwargs: Any) -> None:
        self.low, self.high = low, high
        super().__init__(**kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str) or not self.low <= len(value) <= self.high or not value.isprintable():
            raise ValidationError(f"Must be a text of {self.low} to {self.high} printable characters.")
        return value


class Metadata(fields.Field[dict[str, Any]]):
    """What a product keeps with an object of ours: a flat JSON object, small."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValidationError("Must be a JSON object.")
        if len(value) > MOST_METADATA:
            raise ValidationError(f"Must have at most {MOST_METADATA} members.")
        for name, member in value.items():
            if not 1 <= len(name) <= LONGEST_METADATA_NAME or not name.isprintable():
                raise ValidationError(f"Its names must have 1 to {LONGEST_METADATA_NAME} printable characters.")
            if not isinstance(member, str | int | float) or (isinstance(member, str) and "\0" in member):
                raise ValidationError({name: ["Must be a text, a number, true or false."]})
        if len(orjson.dumps(value)) > METADATA_BYTES:
            raise ValidationError(f"Must have at most {METADATA_BYTES} bytes as JSON.")
        return value


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


def password(description: str, *, required: bool = True) -> fields.String:
    return fields.String(
        required=required,
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


def line(description: str, example: str, high: int, low: int = 1, **kwargs: Any) -> Line:
    return Line(low, high, metadata={**about(description, example), "minLength": low, "maxLength": high}, **kwargs)


def given_text(description: str, example: str, longest: int = LONGEST_TEXT) -> fields.String:
    """A text that is never refused for what it is: a code or a click that somebody came by, or a part of a context."""
    return fields.String(
        allow_none=True,
        validate=validate.Length(max=longest, error=f"Must have at most {longest} characters."),
        metadata={**about(description, example), "maxLength": longest},
    )


def metadata(description: str, **kwargs: Any) -> Metadata:
    return Metadata(
        metadata={
            **about(description, {"plan": "pro"}),
            "additionalProperties": {"type": ["string", "number", "boolean"]},
            "maxProperties": MOST_METADATA,
        },
        **kwargs,
    )


def code_text(kind: type[CodeText] = CodeText, **kwargs: Any) -> CodeText:
    return kind(
        metadata={
            **about(
                "4 to 32 of A-Z, 0-9, '-' and '_'; stored in upper case, compared without case and with O as 0, I, L as 1",
                EXAMPLE_CODE,
            ),
            "pattern": CODE_PATTERN,
            "minLength": CODE_LENGTH[0],
            "maxLength": CODE_LENGTH[1],
        },
        **kwargs,
    )


def username(**kwargs: Any) -> NewUsername:
    return NewUsername(
        metadata={
            **about(
                "2 to 32 letters and digits of one script (or Latin among Chinese, Japanese or Korean), '.', '_' and '-' "
                "after the first; nothing invisible, no reserved word; unique without case, compared in NFKC",
                "alice",
            ),
            "minLength": USERNAME_LENGTH[0],
            "maxLength": USERNAME_LENGTH[1],
        },
        **kwargs,
    )


def email(kind: type[Email] = Email, **kwargs: Any) -> Email:
    return kind(
        metadata={
            **about("Unique without case", "alice@example.com"),
            "format": "email",
            "minLength": SHORTEST_EMAIL,
            "maxLength": LONGEST_EMAIL,
        },
        **kwargs,
    )


def time(description: str, **kwargs: Any) -> Timestamp:
    return Timestamp(metadata={**about(description, EXAMPLE_TIME), "format": "date-time"}, **kwargs)


def identifier(description: str) -> fields.String:
    return fields.String(metadata={**about(description, EXAMPLE_ID), "format": "uuid"})


def public_page(description: str, example: str) -> fields.String:
    return fields.String(allow_none=True, metadata={**about(description, example), "format": "uri"})
