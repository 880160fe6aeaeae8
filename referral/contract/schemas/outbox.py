"""Mail that waits and mail that failed, as an operator sees it."""

from typing import Any

from marshmallow import Schema, fields

from referral.clock import rfc_3339
from referral.contract.schemas.fields import Words, about, identifier, time
from referral.contract.schemas.pages import ListQuerySchema, PageSchema
from referral.queries.outbox import QueuedMail
from referral.texts import mask

STATUSES = {"MailWaiting": "waiting", "MailFailed": "failed"}


class QueuedMailSchema(Schema):
    id = identifier("The mail's id")
    kind = fields.String(metadata=about("What it is about", "verify-email"))
    recipient = fields.String(metadata=about("To whom it goes: the address, of which some is left out", "b***@example.com"))
    status = fields.String(metadata=about("`waiting`, or `failed`: it was given up", "waiting"))
    attempts = fields.Integer(metadata=about("How often it was tried", 1))
    created_at = time("When it was queued")
    next_attempt_at = time("When it is tried again; null for one that failed", allow_none=True)
    failed_at = time("When it was given up; null while it waits", allow_none=True)
    last_error = fields.String(allow_none=True, metadata=about("Why it could not be sent the last time", None))


class OutboxPageSchema(PageSchema):
    items = fields.List(fields.Nested(QueuedMailSchema))


class OutboxQuerySchema(ListQuerySchema):
    status = Words("MailStatus", STATUSES, metadata=about("Only those", "failed"))


def queued_mail_view(mail: QueuedMail) -> dict[str, Any]:
    """A mail in the outbox, whose recipient is told no further than an operator needs."""
    is_failed = mail.failed_at is not None
    return {
        "id": mail.id,
        "kind": mail.kind,
        "recipient": mask(mail.recipient),
        "status": "failed" if is_failed else "waiting",
        "attempts": mail.attempts,
        "created_at": rfc_3339(mail.created_at),
        "next_attempt_at": None if is_failed else rfc_3339(mail.next_attempt_at),
        "failed_at": rfc_3339(mail.failed_at) if mail.failed_at is not None else None,
        "last_error": mail.last_error,
    }
