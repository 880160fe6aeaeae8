"""Somebody, as others see them."""

from typing import Any

from marshmallow import Schema, fields

from referral.contract.schemas.fields import about, identifier


class PersonSchema(Schema):
    id = identifier("The user's id")
    username = fields.String(allow_none=True, metadata=about("null without one, and once the account is gone", "alice"))
    name = fields.String(
        allow_none=True, metadata=about("What the product calls the user; null as the username", "Alice Archer")
    )


def person(user_id: str, username: str | None, name: str | None) -> dict[str, Any]:
    return {"id": user_id, "username": username, "name": name}
