"""Blocks: addresses, their domains and external ids whose users' referrals are suspicious by themselves."""

from typing import Any

from marshmallow import Schema, ValidationError, fields

from referral.clock import rfc_3339
from referral.contract.schemas.fields import LONGEST_EMAIL, Email, InputSchema, Words, about, line, time
from referral.contract.schemas.pages import ListQuerySchema, PageSchema, cursor_field
from referral.queries import blocks
from referral.queries.blocks import Block
from referral.texts import email_key, is_external_id

LONGEST_NOTE = 500
# Of a cursor's text: a kind, a space and a value.
LONGEST_PLACE = max(map(len, blocks.KINDS)) + 1 + LONGEST_EMAIL


def _kind(**kwargs: Any) -> Words:
    words = {f"block-of-{word}": word for word in blocks.KINDS}
    return Words("BlockKind", words, metadata=about("What is blocked", "email-domain"), **kwargs)


class BlockQuerySchema(ListQuerySchema):
    kind = _kind()
    cursor = cursor_field(LONGEST_PLACE)


class BlockRequestSchema(InputSchema):
    is_optional = True

    note = line("Why", "Sold by the hundred", LONGEST_NOTE, allow_none=True)


class BlockSchema(Schema):
    kind = _kind()
    value = fields.String(metadata=about("In the form in which it is compared", "example.com"))
    note = fields.String(allow_none=True, metadata=about("Why", "Sold by the hundred"))
    created_at = time("Since when it is blocked")


class BlockPageSchema(PageSchema):
    items = fields.List(fields.Nested(BlockSchema))


def block_view(block: Block) -> dict[str, Any]:
    """A block, as keys and admins see it."""
    return {"kind": block.kind, "value": block.value, "note": block.note, "created_at": rfc_3339(block.created_at)}


def blocked_value(kind: str, text: str) -> str | None:
    """The form in which values of a kind are compared; None for what nobody can have."""
    if kind == blocks.EXTERNAL_ID:
        return text if is_external_id(text) else None
    try:
        # A domain is that of any address in it.
        address = email_key(Email().deserialize(text if kind == blocks.EMAIL else f"a@{text}"))
    except (ValidationError, ValueError):
        return None
    if not address.isprintable() or len(address) > LONGEST_EMAIL:
        return None
    return address if kind == blocks.EMAIL else address.removeprefix("a@")
