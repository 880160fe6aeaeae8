"""The shape of every error."""

from marshmallow import Schema, fields

from referral.contract.catalogue import CATALOGUE
from referral.contract.problems import type_of
from referral.contract.schemas.fields import EXAMPLE_ID, Words, about


class MemberErrorSchema(Schema):
    pointer = fields.String(metadata=about("JSON Pointer of the member (RFC 6901)", "/email"))
    detail = fields.String(metadata=about("What is wrong with it", "Must be an e-mail address."))


class ProblemSchema(Schema):
    """RFC 9457."""

    # No enum: a client that was made of another installation's document, whose `public_url` has another path, or of an older
    # version's, would take none of these errors.
    type = fields.String(
        metadata={
            **about(
                "Ends with `/problems/NAME`, and resolves to a page that explains the problem; more may come",
                type_of("not-found"),
            ),
            "format": "uri-reference",
            "x-extensible-enum": [type_of(name) for name in CATALOGUE],
        }
    )
    title = fields.String(metadata=about("The kind of problem", "There is no such thing"))
    status = fields.Integer(metadata=about("The HTTP status", 404))
    detail = fields.String(metadata=about("What went wrong this time", "There is no such active code."))
    instance = fields.String(
        metadata={**about("The path that was asked for", "/api/v1/codes/8ZK4M2QA"), "format": "uri-reference"}
    )
    request_id = fields.String(metadata=about("As in the header X-Request-ID", EXAMPLE_ID))
    errors = fields.List(fields.Nested(MemberErrorSchema), metadata={"description": "Of a validation-error: its members"})
    user_id = fields.String(
        metadata={**about("Of what another user has: their id. Only service keys are told", EXAMPLE_ID), "format": "uuid"}
    )
    available = fields.Integer(metadata=about("Of insufficient-balance: what is available", 100))
    last_seq = fields.Integer(metadata=about("Of gone: where the feed can be followed from", 17))
    reason = Words(
        "RefusalReason",
        {f"code-{word}": word for word in ("unknown", "expired", "revoked", "exhausted", "suspended")},
        metadata=about("Of referral-code-invalid: why", "expired"),
    )
