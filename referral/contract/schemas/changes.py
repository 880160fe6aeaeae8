"""Changes: what the product is told of, and the feed by which it asks for them."""

from typing import Any, get_args

import orjson
from marshmallow import Schema, ValidationError, fields, validate

from referral.clock import rfc_3339
from referral.contract.schemas.fields import EXAMPLE_ID, InputSchema, Words, about, identifier, time
from referral.contract.schemas.pages import Number, PageQuerySchema
from referral.queries.changes import ChangeType, ToldChange

TYPES: tuple[str, ...] = get_args(ChangeType)
# What says which types are wanted: a type, all of a group, or all.
PATTERNS = ("*", *dict.fromkeys(f"{word.partition('.')[0]}.*" for word in TYPES if "." in word), *TYPES)
LONGEST_PATTERNS = len(",".join(PATTERNS))
# Seconds that a call may wait for changes.
LONGEST_WAIT = 30
# Numbers in JSON are exact up to this one, in whatever language.
LARGEST_SEQ = 2**53 - 1


def matches(patterns: list[str], kind: str) -> bool:
    """Whether a type is among those that the patterns say."""
    return "*" in patterns or kind in patterns or f"{kind.partition('.')[0]}.*" in patterns


class Patterns(fields.Field[list[str]]):
    """Patterns of types in a query, with commas between them."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[str]:
        patterns = str(value).split(",") if len(str(value)) <= LONGEST_PATTERNS else [""]
        unknown = [pattern for pattern in patterns if pattern not in PATTERNS]
        if unknown:
            raise ValidationError("Must be types of changes, or groups such as reward.*, with commas between them.")
        return patterns


def change_type() -> Words:
    words = {f"change-{word.replace('.', '-')}": word for word in TYPES}
    return Words("ChangeType", words, metadata=about("What happened", "reward.created"))


class ChangeQuerySchema(InputSchema):
    after = Number(
        load_default=0,
        validate=validate.Range(0, LARGEST_SEQ, error="Must be the last_seq of an answer before, or 0."),
        error_messages={"invalid": "Must be a whole number."},
        metadata={"description": "The last_seq of the answer before: only what came behind it. 0: from the beginning"},
    )
    types = Patterns(
        metadata={
            "description": "Only changes of these types: `reward.*,user.created`. `last_seq` counts the others, too",
            "type": "string",
            "minLength": 1,
            "maxLength": LONGEST_PATTERNS,
            "pattern": "^[a-z.*]+(,[a-z.*]+)*$",
        },
    )
    limit = PageQuerySchema._declared_fields["limit"]
    wait = Number(
        load_default=0,
        validate=validate.Range(0, LONGEST_WAIT, error=f"Must be between 0 and {LONGEST_WAIT}."),
        error_messages={"invalid": "Must be a whole number."},
        metadata={"description": "Seconds to wait for a change, if there is none yet (long polling)"},
    )


class ChangeSchema(Schema):
    id = identifier("The change's id; a webhook sends it as `webhook-id`")
    seq = fields.Integer(metadata=about("Its place in the feed", 17))
    type = change_type()
    at = time("When it happened")
    subject_id = fields.String(
        metadata=about("What it is about: a user's, code's, reward's, redemption's or webhook's id", EXAMPLE_ID)
    )
    version = fields.Integer(metadata=about("The how manieth change of the subject it is, whatever the types", 1))
    data = fields.Dict(
        keys=fields.String(),
        metadata=about(
            "The whole object as it was then; `webhooks` in this document has the shape for each type", {"id": EXAMPLE_ID}
        ),
    )


class ChangesSchema(Schema):
    items = fields.List(fields.Nested(ChangeSchema), metadata={"description": "Oldest first"})
    last_seq = fields.Integer(metadata=about("What to ask for next, as `after`", 17))


def delivered_view(change: ToldChange) -> dict[str, Any]:
    """A change, as a webhook sends it (Standard Webhooks)."""
    return {
        "type": change.type,
        "timestamp": rfc_3339(change.at),
        "subject_id": change.subject_id,
        "version": change.version,
        "data": orjson.loads(change.data),
    }


def change_view(change: ToldChange) -> dict[str, Any]:
    """A change, as the feed has it."""
    return {
        "id": change.id,
        "seq": change.seq,
        "type": change.type,
        "at": rfc_3339(change.at),
        "subject_id": change.subject_id,
        "version": change.version,
        "data": orjson.loads(change.data),
    }
