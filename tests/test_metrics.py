"""What metrics cost whoever is asked for them."""

from __future__ import annotations

import time

import pytest

from referral import metrics
from referral.metrics import Metrics


async def test_however_many_ask_the_text_is_made_for_a_tenth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "TOLD_AGAIN", 10)
    found, made, now = Metrics(), [], 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def make() -> bytes:
        nonlocal now
        made.append(now)
        # As with a thousand series.
        now += 0.015
        return b"text %d" % len(made)

    monkeypatch.setattr(found, "_make_text", make)
    began = now
    while now < began + 10:
        assert found.text() == b"text %d" % len(made)
        now += 0.001
    assert 0.08 < len(made) * 0.015 / (now - began) < 0.1
