"""Webhooks, and what is delivered to them."""

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from referral.clock import rfc_3339
from referral.contract.schemas.changes import PATTERNS, change_type
from referral.contract.schemas.fields import InputSchema, Line, Words, about, identifier, time
from referral.contract.schemas.pages import ListQuerySchema, PageSchema
from referral.queries.deliveries import STATUSES, WAITING, Delivery, DeliveryFailure
from referral.queries.webhooks import DISABLED, ENABLED, Webhook

LONGEST_URL = 2_000
EXAMPLE_URL = "https://shop.example.com/hooks/referral"
EXAMPLE_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def _url(**kwargs: Any) -> Line:
    limits = {"minLength": len("http://a"), "maxLength": LONGEST_URL, "format": "uri", "pattern": "^https?://[^ ]+$"}
    return Line(
        len("http://a"),
        LONGEST_URL,
        metadata={
            **about("Where changes are posted: https:, or http: within `webhooks.allowed_networks`", EXAMPLE_URL),
            **limits,
        },
        **kwargs,
    )


def _status(**kwargs: Any) -> Words:
    words = {f"webhook-is-{word}": word for word in (ENABLED, DISABLED)}
    return Words("WebhookStatus", words, metadata=about("What waits for a disabled one is dropped", ENABLED), **kwargs)


def _types(**kwargs: Any) -> fields.List[Any]:
    return fields.List(
        Words("ChangePattern", {_pattern_name(pattern): pattern for pattern in PATTERNS}),
        validate=[validate.Length(1, len(PATTERNS), error="Must list at least one type."), _once],
        metadata={
            **about("Types of changes, groups such as `reward.*`, or `*` for all", ["reward.*", "user.created"]),
            "uniqueItems": True,
        },
        **kwargs,
    )


def _delivery_status(description: str, example: str) -> Words:
    words = {f"delivery-is-{word}": word for word in STATUSES}
    return Words("DeliveryStatus", words, metadata=about(description, example))


def _pattern_name(pattern: str) -> str:
    return "pattern-" + pattern.replace("*", "all").replace(".", "-")


def _once(values: list[str]) -> None:
    if len(set(values)) < len(values):
        raise ValidationError("Must list each type once.")


class WebhookCreationSchema(InputSchema):
    url = _url(required=True)
    types = _types(required=True)


class WebhookChangeSchema(InputSchema):
    url = _url()
    types = _types()
    status = _status()


class WebhookSchema(Schema):
    id = identifier("The webhook's id")
    url = fields.String(metadata={**about("Where changes are posted", EXAMPLE_URL), "format": "uri"})
    types = fields.List(fields.String(), metadata=about("Which changes", ["reward.*", "user.created"]))
    status = _status()
    disabled_reason = fields.String(allow_none=True, metadata=about("Why it is disabled; null if it is not", None))
    failing_since = time(
        "Since when everything has failed; null after a success. After five days it is disabled", allow_none=True
    )
    created_at = time("When it was made")


class ShownWebhookSchema(WebhookSchema):
    secret = fields.String(metadata=about("What signs; it is shown in this answer only", EXAMPLE_SECRET))


class WebhookPageSchema(PageSchema):
    items = fields.List(fields.Nested(WebhookSchema))


class WebhookTestSchema(Schema):
    status = fields.Integer(allow_none=True, metadata=about("The answer's status; null without an answer", 200))
    error = fields.String(
        allow_none=True,
        metadata=about("The beginning of a failed answer, or why there was none; null after a success", None),
    )
    milliseconds = fields.Integer(metadata=about("How long it took", 37))


class ReplayRequestSchema(InputSchema):
    since = time("From when on", required=True)
    types = _types(load_default=["*"])


class ReplaySchema(Schema):
    since = time("From when on")
    types = fields.List(fields.String(), metadata=about("Which of the webhook's types", ["*"]))
    last_seq = fields.Integer(metadata=about("The last change that it comprises", 17))


class DeliverySchema(Schema):
    change_id = identifier("The change's id, which is sent as `webhook-id`")
    type = change_type()
    status = _delivery_status("failed: after ten attempts, or a 410; dropped: the webhook was disabled", "delivered")
    attempts = fields.Integer(metadata=about("How often it was tried", 1))
    next_attempt_at = time("When it is tried again; null unless it waits", allow_none=True)
    last_status = fields.Integer(allow_none=True, metadata=about("The last answer's status; null without an answer", 204))
    last_error = fields.String(
        allow_none=True, metadata=about("The beginning of a failed answer, or why there was none", None)
    )
    delivered_at = time("When the receiver took it; null before", allow_none=True)


class FailureSchema(Schema):
    at = time("When the attempt ended")
    status = fields.Integer(allow_none=True, metadata=about("The answer's status; null without an answer", 500))
    error = fields.String(
        metadata=about("The answer's first 500 characters, or why there was none", "Internal Server Error")
    )
    milliseconds = fields.Integer(metadata=about("How long it took", 37))


class DeliveryWithFailuresSchema(DeliverySchema):
    failures = fields.List(fields.Nested(FailureSchema), metadata={"description": "The attempts that failed, oldest first"})


class DeliveryPageSchema(PageSchema):
    items = fields.List(fields.Nested(DeliverySchema))


class DeliveryQuerySchema(ListQuerySchema):
    status = _delivery_status("Only those", "failed")


def webhook_view(webhook: Webhook) -> dict[str, Any]:
    """A webhook, without its secret."""
    return {
        "id": webhook.id,
        "url": webhook.url,
        "types": webhook.patterns,
        "status": webhook.status,
        "disabled_reason": webhook.disabled_reason,
        "failing_since": None if webhook.failing_since is None else rfc_3339(webhook.failing_since),
        "created_at": rfc_3339(webhook.created_at),
    }


def delivery_view(delivery: Delivery, moment: int) -> dict[str, Any]:
    """A delivery, as admins see it at this moment (ms)."""
    next_at = None
    if delivery.status == WAITING:
        # While it is being sent, it is tried again when the lease ends, if ever.
        next_at = rfc_3339(max(delivery.next_attempt_at or 0, delivery.leased_until or 0) or moment)
    return {
        "change_id": delivery.change_id,
        "type": delivery.type,
        "status": delivery.status,
        "attempts": delivery.attempts,
        "next_attempt_at": next_at,
        "last_status": delivery.last_status,
        "last_error": delivery.last_error,
        "delivered_at": None if delivery.delivered_at is None else rfc_3339(delivery.delivered_at),
    }


def failure_view(failure: DeliveryFailure) -> dict[str, Any]:
    """An attempt that failed."""
    return {
        "at": rfc_3339(failure.at),
        "status": failure.status,
        "error": failure.error,
        "milliseconds": failure.milliseconds,
    }
