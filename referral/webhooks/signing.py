"""Signatures of webhooks in the way of Standard Webhooks (https://www.standardwebhooks.com)."""

import base64
import secrets as randomness
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

SECRET_BYTES = 32


def new_secret() -> str:
    """A symmetric key, in the form in which receivers' libraries take it."""
    return "whsec_" + base64.b64encode(randomness.token_bytes(SECRET_BYTES)).decode()


def headers_for(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a message that is sent at `timestamp` (in seconds), with an HMAC by each of the secrets: a receiver may
    know only the old one or only the new one while they are rotated. The body has to be JSON in UTF-8."""
    text = body.decode()
    # The library takes whatever time zone it is given for UTC.
    moment = datetime.fromtimestamp(timestamp, UTC)
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(Webhook(secret).sign(message_id, moment, text) for secret in secrets),
    }
