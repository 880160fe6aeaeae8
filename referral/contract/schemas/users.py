"""Accounts."""

from typing import Any

import orjson
from marshmallow import Schema, fields

from referral.clock import rfc_3339
from referral.contract.schemas.codes import CodeSchema, code_view
from referral.contract.schemas.fields import (
    EXAMPLE_CODE,
    InputSchema,
    Words,
    about,
    identifier,
    metadata,
    password,
    public_page,
    time,
    username,
)
from referral.contract.schemas.people import PersonSchema, person
from referral.links import Links
from referral.queries.users import Account

# By names of their own: those of other enums have an active, too.
USER_STATUSES = {"user-active": "active", "user-suspended": "suspended"}


class ProfileChangeSchema(InputSchema):
    username = username(allow_none=True)


class ErasureSchema(InputSchema):
    """Needed for an account that has a password. Its absence is told by the handler."""

    is_optional = True

    password = password("The account's password; left out where it has none", required=False)


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
    external_id = fields.String(allow_none=True, metadata=about("The product's own id of the user; null without one", "42"))
    email = fields.String(
        allow_none=True, metadata={**about("Where mail goes; null without one", "alice@example.com"), "format": "email"}
    )
    email_verified = fields.Boolean(
        metadata=about("Whether a mailed link was followed, or the product says that the address is the user's", True)
    )
    name = fields.String(allow_none=True, metadata=about("As the product calls the user; null without one", "Alice Archer"))
    username = fields.String(allow_none=True, metadata=about("null without one", "alice"))
    role = Words("Role", ("user", "admin"), metadata=about("An admin may edit any code", "user"))
    status = Words(
        "UserStatus",
        USER_STATUSES,
        metadata=about("A suspended user signs in nowhere, and refers nobody", "active"),
    )
    created_at = time("When the user signed up at the product, if that said so, else when the account was made")
    referrer = fields.Nested(PersonSchema, allow_none=True, metadata={"description": "By whom the user came"})
    referral_count = fields.Integer(metadata=about("How many came by the user", 3))
    code = fields.Nested(CodeSchema, allow_none=True, metadata={"description": "The current code"})
    url = fields.String(
        allow_none=True,
        metadata={
            **about(
                "The link of the current code; null without one, and where `links.destination` is not set",
                f"https://referral.example.com/r/{EXAMPLE_CODE}",
            ),
            "format": "uri",
        },
    )
    metadata = metadata("What the product keeps with the user; null without any", allow_none=True)
    profile = fields.Nested(
        ProfileSchema,
        allow_none=True,
        metadata={"description": "What is publicly known of the person; null unless a provider is set and knows"},
    )


def user_view(account: Account, now: int, links: Links) -> dict[str, Any]:
    """A user's own view, at a time (ms)."""
    code = account.code
    return {
        "id": account.id,
        "external_id": account.external_id,
        "email": account.email,
        "email_verified": account.email_verified_at is not None,
        "username": account.username,
        "name": account.name,
        "role": account.role,
        "status": "active" if account.suspended_at is None else "suspended",
        "created_at": rfc_3339(account.created_at if account.signed_up_at is None else account.signed_up_at),
        "referrer": person(account.referrer_id, account.referrer_username, account.referrer_name)
        if account.referrer_id
        else None,
        "referral_count": account.referral_count,
        "code": code_view(code, now) if code else None,
        "url": links.url_of(code.code) if code else None,
        "metadata": orjson.loads(account.metadata) if account.metadata else None,
        "profile": orjson.loads(account.profile) if account.profile else None,
    }
