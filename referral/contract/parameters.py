"""Names in paths, as the document describes them."""

from typing import Any

from referral.contract.schemas import fields
from referral.texts import EXTERNAL, LONGEST_EXTERNAL_ID

PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    "code": {
        "description": "The code, in any case",
        "schema": {
            "type": "string",
            "pattern": fields.CODE_PATTERN,
            "minLength": fields.CODE_LENGTH[0],
            "maxLength": fields.CODE_LENGTH[1],
        },
        "example": fields.EXAMPLE_CODE,
    },
    "user": {
        "description": "The user's id, `me`, or `ext:` and the external id, percent-encoded",
        "schema": {"type": "string", "minLength": 1, "maxLength": len(EXTERNAL) + LONGEST_EXTERNAL_ID},
        "example": "ext:42",
    },
    "event_id": {
        "description": "The caller's own id of the event, percent-encoded",
        "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_EXTERNAL_ID},
        "example": "in_1QXyz",
    },
    "key_id": {
        "description": "The key's id",
        "schema": {"type": "string", "format": "uuid"},
        "example": fields.EXAMPLE_ID,
    },
    "rule_id": {
        "description": "The rule's id",
        "schema": {"type": "string", "format": "uuid"},
        "example": fields.EXAMPLE_ID,
    },
    "reward_id": {
        "description": "The reward's id",
        "schema": {"type": "string", "format": "uuid"},
        "example": fields.EXAMPLE_ID,
    },
    "redemption_id": {
        "description": "The caller's own id of the redemption, percent-encoded",
        "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_EXTERNAL_ID},
        "example": "order-17",
    },
    "webhook_id": {
        "description": "The webhook's id",
        "schema": {"type": "string", "format": "uuid"},
        "example": fields.EXAMPLE_ID,
    },
    "change_id": {
        "description": "The change's id",
        "schema": {"type": "string", "format": "uuid"},
        "example": fields.EXAMPLE_ID,
    },
    "session_id": {
        "description": "The session's id",
        "schema": {"type": "string", "format": "uuid"},
        "example": fields.EXAMPLE_ID,
    },
}


def path_parameters(path: str) -> list[dict[str, Any]]:
    """The parameters of a path with names in braces."""
    return [
        {"in": "path", "name": name, "required": True, **described}
        for name, described in PATH_PARAMETERS.items()
        if f"{{{name}}}" in path
    ]
