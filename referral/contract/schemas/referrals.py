"""Referrals: who came by whom."""

from typing import Any

from marshmallow import Schema, fields

from referral.clock import rfc_3339
from referral.contract.schemas.fields import EXAMPLE_CODE, InputSchema, Words, about, code_text, identifier, time
from referral.contract.schemas.pages import PageSchema
from referral.contract.schemas.people import PersonSchema
from referral.queries.referrals import Referral


class CodeUseSchema(InputSchema):
    code = code_text(required=True)


class ReferrerSetSchema(Schema):
    referrer = fields.Nested(PersonSchema, metadata={"description": "By whom the user now came"})
    code = fields.String(metadata=about("The code that was used", EXAMPLE_CODE))


class ReferralSchema(Schema):
    id = identifier("The id of the user who came")
    username = fields.String(allow_none=True, metadata=about("null without one, and once the account is gone", "bob"))
    name = fields.String(
        allow_none=True, metadata=about("What the product calls the user; null as the username", "Bob Archer")
    )
    email = fields.String(
        allow_none=True,
        metadata={
            **about("Only for the referrer, for an admin and for a service key", "bob@example.com"),
            "format": "email",
        },
    )
    external_id = fields.String(
        allow_none=True, metadata=about("The product's own id of the user. Only for a service key and for an admin", "42")
    )
    joined_at = time("When the user came")
    code = fields.String(metadata=about("By which code", EXAMPLE_CODE))
    source = fields.String(
        metadata=about("By what: `code`, `click` or `import`. Not for other users, as the members below", "code")
    )
    status = Words(
        "ReferralStatus",
        {f"referral-is-{word}": word for word in ("joined", "converted", "rejected", "ended")},
        metadata=about(
            "joined; converted by an event of a type in `attribution.converts_on` that is not wholly refunded; rejected "
            "in a review; ended: the account is gone",
            "joined",
        ),
    )
    review = fields.String(metadata=about("`none`, `open`, `cleared` or `rejected`", "none"))
    converted_at = time("When what converted it happened first; null while nothing has", allow_none=True)


class ReferralPageSchema(PageSchema):
    items = fields.List(fields.Nested(ReferralSchema))


def referral_view(referral: Referral) -> dict[str, Any]:
    """Everybody's view of a referral."""
    return {
        "id": referral.user_id,
        "username": referral.username,
        "name": referral.name,
        "joined_at": rfc_3339(referral.joined_at),
        "code": referral.code,
    }


def own_referral_view(referral: Referral) -> dict[str, Any]:
    """The referrer's view of a referral: it has the address, and what became of it, too."""
    return {
        **referral_view(referral),
        "email": referral.email,
        "source": referral.source,
        "status": referral.status,
        "review": referral.review,
        "converted_at": None if referral.converted_at is None else rfc_3339(referral.converted_at),
    }


def operators_referral_view(referral: Referral) -> dict[str, Any]:
    """What an admin and a service key see of a referral: the product's own id of the user, too."""
    return {**own_referral_view(referral), "external_id": referral.external_id}
