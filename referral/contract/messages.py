"""The document's `webhooks`: what the service sends, with an example of each type."""

from typing import Any

from apispec import APISpec

from referral.contract.components import schema_name
from referral.contract.schemas import fields
from referral.contract.schemas.told import TOLD

HEADERS = {
    "webhook-id": ("The change's id, the same at each attempt: what came before can be told by it", fields.EXAMPLE_ID),
    "webhook-timestamp": ("When this attempt was made, in seconds since 1970", "1801396800"),
    "webhook-signature": ("`v1,` and the signature (HMAC-SHA256, base64); two of them after a rotation", "v1,g0hM9SsE+…="),
}

# What the examples of a schema's members do not say of an object that this has happened to.
MADE = {"approved_at": None, "fulfilled_at": None}
EARNED: dict[str, Any] = {"waiting_for": [], "fulfilled_at": None}
SHOWN: dict[str, dict[str, Any]] = {
    "user.suspended": {"status": "suspended"},
    "user.erased": {"username": None, "name": None},
    "code.ended": {"status": "revoked", "ended_by": "revoked"},
    "referral.created": {"converted_at": None},
    "referral.converted": {"status": "converted"},
    "referral.retracted": {"converted_at": None},
    "referral.rejected": {"status": "rejected", "review": "rejected"},
    "review.opened": {"review": "open", "converted_at": None},
    "review.cleared": {"review": "cleared", "converted_at": None},
    "review.overdue": {"review": "open", "converted_at": None},
    "reward.created": MADE,
    "reward.approved": {"status": "approved", **EARNED},
    "reward.fulfilled": {
        "status": "fulfilled",
        "kind": "coupon",
        "label": "A month",
        "waiting_for": [],
        "reference": "coupon-81",
    },
    "reward.voided": {"status": "void", "waiting_for": [], "reason": "Bought by themselves", **MADE},
    "reward.reversed": {"status": "reversed", "reversed": 4900, "reason": "refunded", **EARNED},
    "redemption.created": {"status": "done", "expires_at": None},
    "redemption.captured": {"status": "done", "expires_at": None},
    "redemption.cancelled": {"status": "cancelled", "expires_at": None},
    "webhook.disabled": {"status": "disabled", "disabled_reason": "Every delivery has failed for five days."},
}


def add_messages(spec: APISpec) -> None:
    """Have the document describe what the messages carry."""
    for _, schema in TOLD.values():
        if schema_name(schema) not in spec.components.schemas:
            spec.components.schema(schema_name(schema), schema=schema)


def messages(document: dict[str, Any]) -> dict[str, Any]:
    """The `webhooks` of a document that has all schemas."""
    schemas = document["components"]["schemas"]
    return {kind: {"post": _operation(kind, text, schema_name(schema), schemas)} for kind, (text, schema) in TOLD.items()}


def _operation(kind: str, text: str, name: str, schemas: dict[str, Any]) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{name}"}
    message = {
        "type": "object",
        "required": ["type", "timestamp", "subject_id", "version", "data"],
        "properties": {
            "type": {"type": "string", "const": kind},
            "timestamp": {"type": "string", "format": "date-time", "description": "When it happened"},
            "subject_id": {"type": "string", "description": "What it is about"},
            "version": {
                "type": "integer",
                "description": "Grows with each change of the subject: of two messages about an object the greater is right",
            },
            "data": reference,
        },
    }
    data = {**_example(reference, schemas), **SHOWN.get(kind, {})}
    example = {
        "type": kind,
        "timestamp": fields.EXAMPLE_TIME,
        "subject_id": data.get("user_id" if kind == "balance.changed" else "id") or data.get("code") or data["webhook_id"],
        "version": 0 if kind == "ping" else 1,
        "data": data,
    }
    return {
        "tags": ["Webhooks"],
        "operationId": "on" + "".join(word.capitalize() for word in kind.split(".")),
        "summary": f"{kind}: {text[0].lower()}{text[1:]}",
        "description": f"{text}. Sent to webhooks that want this type, and signed as Standard Webhooks are.",
        "security": [],
        "parameters": [
            {
                "in": "header",
                "name": header,
                "required": True,
                "description": meaning,
                "schema": {"type": "string"},
                "example": shown,
            }
            for header, (meaning, shown) in HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": message, "example": example}}},
        "responses": {
            "2XX": {"description": "The receiver has it, and gets it no more."},
            "410": {"description": "The receiver wants nothing more: the webhook is disabled."},
            "4XX": {"description": "It is sent again later, ten times in all. `Retry-After` is kept to."},
            "5XX": {"description": "As 4XX."},
        },
    }


def _example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """The example of a schema, made of those of its members."""
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "example" in schema:
        return schema["example"]
    for choice in ("anyOf", "allOf"):
        if choice in schema:
            return _example(schema[choice][0], schemas)
    if "enum" in schema:
        return schema["enum"][0]
    if "properties" in schema:
        return {name: _example(member, schemas) for name, member in schema["properties"].items()}
    return [_example(schema["items"], schemas)] if "items" in schema else {}
