"""Names in paths: how the document describes them, and the ids that they stand for."""

import uuid
from typing import Any

from aiohttp import web

from referral.contract.problems import Problem
from referral.contract.schemas import fields
from referral.queries.blocks import KINDS
from referral.texts import EXTERNAL, LONGEST_EXTERNAL_ID


def _uuid(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string", "format": "uuid"}, "example": fields.EXAMPLE_ID}


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
    "kind": {
        "description": "What is blocked: `email-domain`, `external-id` or `email`",
        "schema": {
            "type": "string",
            "pattern": f"^({'|'.join(KINDS)})$",
            "minLength": min(map(len, KINDS)),
            "maxLength": max(map(len, KINDS)),
        },
        "example": "email-domain",
    },
    "value": {
        "description": "The domain, the external id or the address, percent-encoded",
        "schema": {"type": "string", "minLength": 1, "maxLength": fields.LONGEST_EMAIL},
        "example": "example.com",
    },
    "key_id": _uuid("The key's id"),
    "rule_id": _uuid("The rule's id"),
    "reward_id": _uuid("The reward's id"),
    "redemption_id": {
        "description": "The caller's own id of the redemption, percent-encoded",
        "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_EXTERNAL_ID},
        "example": "order-17",
    },
    "webhook_id": _uuid("The webhook's id"),
    "change_id": _uuid("The change's id"),
    "mail_id": _uuid("The mail's id"),
    "session_id": _uuid("The session's id"),
}


def path_parameters(path: str) -> list[dict[str, Any]]:
    """The parameters of a path with names in braces."""
    return [
        {"in": "path", "name": name, "required": True, **described}
        for name, described in PATH_PARAMETERS.items()
        if f"{{{name}}}" in path
    ]


def id_in_path(request: web.Request, name: str, gone: Problem) -> str:
    """The id that the path has by this name. Raises `gone` for a text that is none."""
    try:
        return str(uuid.UUID(request.match_info[name]))
    except ValueError:
        raise gone from None
