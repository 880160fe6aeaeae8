"""The schemas of the OpenAPI document: what marshmallow does not tell apispec, or generators would not take."""

from typing import Any

from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow.fields import Field

from referral.config import Config
from referral.contract.schemas import fields
from referral.contract.schemas.events import REFUND
from referral.contract.schemas.tokens import OAuthInputSchema
from referral.queries.rewards import BALANCE


def schema_name(schema: Any) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return kind.__name__.removesuffix("Schema")


def refer_to_words(converter: OpenAPIConverter, field: Field[Any], ret: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """The property of a field of a few words: a reference to their enum (apispec's attribute function)."""
    if not isinstance(field, fields.Words):
        return {}
    for name in ("type", "enum"):
        ret.pop(name)
    names = [name.upper().replace("-", "_") for name in field.words]
    components = converter.spec.components
    if field.type_name not in components.schemas:
        enum = {"type": "string", "enum": list(field.words.values()), "x-enum-varnames": names}
        components.schema(field.type_name, enum)
    reference = {"$ref": f"#/components/schemas/{field.type_name}"}
    return {"anyOf": [reference, {"type": "null"}]} if field.allow_none else reference


def finish_schemas(document: dict[str, Any], config: Config) -> None:
    """Say in the document's schemas which members an answer always has, the rules about several members, and the limits that
    are settings of this installation."""
    _finish_answers(document)
    _tell_conditions(document)
    _apply_settings(document, config)


def _finish_answers(document: dict[str, Any]) -> None:
    """Answers have all their members, null where there is nothing; only these come and go.

    What a client reads may grow: only bodies of requests are closed to unknown members.
    """
    optional = {
        "Problem": {"errors", "reason", "user_id", "available", "last_seq"},
        "Referral": {"email", "external_id", "source", "status", "review", "converted_at"},
        "Tokens": {"issued_token_type", "attribution"},
        "OAuthError": {"error_description"},
        "JsonWebKey": {"crv", "x", "n", "e"},
    }
    incoming = {schema_name(kind) for parent in (fields.InputSchema, OAuthInputSchema) for kind in _subclasses(parent)}
    for name, schema in document["components"]["schemas"].items():
        if "properties" in schema and name not in incoming:
            schema["required"] = [member for member in schema["properties"] if member not in optional.get(name, set())]
            schema.pop("additionalProperties", None)


def _subclasses(kind: type) -> set[type]:
    direct: set[type] = set(kind.__subclasses__())
    return direct.union(*map(_subclasses, direct))


# RFC 6749 section 3.2: an empty member counts as omitted.
NOT_EMPTY = {"minLength": 1}


def _tell_conditions(document: dict[str, Any]) -> None:
    """Rules about several members, which the code keeps and marshmallow does not tell: a new code has one expiry and a
    change at most one, an event has a user or refunds another one, and each grant has its own members.

    Generators make no type of a `oneOf` of such rules; `if` they leave to validators.
    """
    bodies = document["components"]["schemas"]
    one_expiry = {"if": _having("ttl_days"), "then": _of({"expires_at": False})}
    bodies["CodeCreation"] |= {**one_expiry, "else": _having("expires_at")}
    bodies["CodeChange"] |= one_expiry
    bodies["EventReport"] |= {
        "if": _of({"type": {"const": REFUND}}),
        "then": _having("refunds"),
        "else": {**_of({"user": True, "refunds": False}), "required": ["user"]},
    }
    bodies["RewardCreation"] |= {
        "if": _of({"kind": {"const": BALANCE}}),
        "then": _having("value"),
        "else": _having("label"),
    }
    bodies["EventUser"] |= {"if": _having("id"), "then": _of({"external_id": False}), "else": _having("external_id")}
    bodies["TokenRequest"] |= {
        "if": _of({"grant_type": {"const": "password"}}),
        "then": _having("username", "password", limits=NOT_EMPTY),
        "else": {
            "if": _of({"grant_type": {"const": "refresh_token"}}),
            "then": _having("refresh_token", limits=NOT_EMPTY),
            "else": _having("subject_token", "subject_token_type", limits=NOT_EMPTY),
        },
    }


def _having(*members: str, limits: Any = True) -> dict[str, Any]:
    return {**_of(dict.fromkeys(members, limits)), "required": list(members)}


def _of(properties: dict[str, Any]) -> dict[str, Any]:
    # Said, because redocly checks examples as if each schema with properties were closed.
    return {"properties": properties, "unevaluatedProperties": True}


def _apply_settings(document: dict[str, Any], config: Config) -> None:
    """Limits that are settings of this installation."""
    bodies = document["components"]["schemas"]
    for name, member in (
        ("Registration", "password"),
        ("PasswordChange", "new_password"),
        ("PasswordReset", "new_password"),
    ):
        bodies[name]["properties"][member]["minLength"] = config.auth.password_min_length
    for name in ("CodeCreation", "CodeChange"):
        days = bodies[name]["properties"]["ttl_days"]
        days["maximum"] = config.codes.max_ttl_days
        days["example"] = min(days["example"], days["maximum"])
    for path in document["paths"].values():
        for operation in path.values():
            for media in operation.get("requestBody", {"content": {}})["content"].values():
                if "ttl_days" in media.get("example", {}):
                    media["example"]["ttl_days"] = min(media["example"]["ttl_days"], config.codes.max_ttl_days)
