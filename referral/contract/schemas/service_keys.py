"""Service keys."""

from typing import Any

from marshmallow import Schema, ValidationError, fields

from referral.clock import rfc_3339
from referral.contract.schemas.fields import InputSchema, Words, about, identifier, line, time
from referral.contract.schemas.pages import PageSchema
from referral.queries.service_keys import SCOPES, ServiceKey

LONGEST_NAME = 100
_SCOPE = "What it may: read; write, which comprises read; or admin, which comprises both"


def _scope(**kwargs: Any) -> Words:
    return Words("Scope", {f"scope-{scope}": scope for scope in SCOPES}, metadata=about(_SCOPE, "write"), **kwargs)


def _is_visible(name: str) -> None:
    if not name.strip():
        raise ValidationError("Must not be blank.")


class KeyCreationSchema(InputSchema):
    name = line("What uses it, for people", "shop", LONGEST_NAME, required=True, validate=_is_visible)
    scope = _scope(required=True)


class KeySchema(Schema):
    id = identifier("The key's id, by which it is revoked")
    name = fields.String(metadata=about("What uses it, for people", "shop"))
    scope = _scope()
    created_at = time("When it was made")
    last_used_at = time("When it was last used, to the minute; null if never", allow_none=True)


class ShownKeySchema(KeySchema):
    key = fields.String(
        metadata=about(
            "The key itself, for the header Authorization. It is shown this once",
            "rsk_4xkq0gTg7dLM3tqZ9bWvYs2NnRjUcE5hAiPoFx8DyK1BmVCmXTjM",
        )
    )


class KeyPageSchema(PageSchema):
    items = fields.List(fields.Nested(KeySchema))


def key_view(key: ServiceKey) -> dict[str, Any]:
    """What admins see of a key."""
    return {
        "id": key.id,
        "name": key.name,
        "scope": key.scope,
        "created_at": rfc_3339(key.created_at),
        "last_used_at": None if key.last_used_at is None else rfc_3339(key.last_used_at),
    }
