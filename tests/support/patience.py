"""How long clients of Redis wait in tests, whatever their settings say."""

from __future__ import annotations

import pytest

from referral.cache.redis.client import RedisClient

# Seconds. Nothing takes so long on a busy machine: a Redis is out when it is killed, and not when the machine is slow.
PATIENT = 5.0
# As in service.
IMPATIENT = 0.05


def wait_for_redis(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """From now on all clients, those that there are, too, wait so long for an answer."""
    waiting = property(lambda _: seconds, lambda _, given: None)
    monkeypatch.setattr(RedisClient, "timeout", waiting, raising=False)
