"""Signatures of webhooks, verified by the library that receivers use."""

from __future__ import annotations

import base64
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from referral.webhooks.signing import headers_for, new_secret

BODY = '{"type":"user.created","data":{"name":"Ада"}}'.encode()


def test_the_signature_is_that_of_the_specification() -> None:
    headers = headers_for(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers == {
        "Content-Type": "application/json",
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_either_of_two_secrets_verifies() -> None:
    old, new, other = new_secret(), new_secret(), new_secret()
    headers = headers_for([old, new], "msg_1", int(time.time()), BODY)
    for secret in (old, new):
        assert Webhook(secret).verify(BODY, headers) == {"type": "user.created", "data": {"name": "Ада"}}
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(BODY, headers)


@pytest.mark.parametrize(
    "forged", [{"webhook-id": "msg_2"}, {"webhook-timestamp": str(int(time.time()) + 60)}, {"body": "{}"}]
)
def test_whatever_is_signed_cannot_be_changed(forged: dict[str, str]) -> None:
    secret = new_secret()
    headers = {**headers_for([secret], "msg_1", int(time.time()), BODY), **forged}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(headers.get("body", BODY), headers)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_the_time_zone_of_the_machine_does_not_matter(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        secret = new_secret()
        Webhook(secret).verify(BODY, headers_for([secret], "msg_1", int(time.time()), BODY))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_secret_is_32_random_bytes() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert secret.startswith("whsec_")
        assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
