"""Signals in plain words: each kind has its own in both languages, and no evidence breaks a page."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from referral.config.weights import DEFAULT_WEIGHTS
from referral.web.admin_signals import signal_text, signal_title
from referral.web.admin_texts import texts_in

ENGLISH = texts_in("en")
EVIDENCE = [
    ("same-email", {"differs_by": "plus-part, dots"}, "nothing but what follows a plus sign, dots."),
    ("same-email", {"differs_by": "case"}, "nothing but capital letters."),
    ("same-payment", {"users": ["a", "boss"]}, "as the referrer and 1 other whom they brought."),
    ("same-device", {"users": ["boss"]}, "the same device as the referrer."),
    ("same-network", {"users": ["a", "b"]}, "as 2 others whom the referrer brought."),
    ("same-domain", {"domain": "<b>"}, 'at <bdi class="theirs">&lt;b&gt;</bdi>, which'),
    ("seen-before", {"known_since": "2027-01-01T00:00:00Z", "clicked_at": "2027-01-02T00:00:00Z"}, "2027-01-01 00:00 UTC"),
    ("disposable-email", {"domain": "mail.test"}, "for some minutes"),
    ("refunds", {"refunded": 3, "purchases": 6}, "3 of 6"),
    ("burst", {"in_the_hour": 1200}, "1,200 users"),
    ("bot-click", {"clicked_at": "2027-01-02T00:00:00Z"}, "a program"),
    ("too-fast", {"seconds": 0}, "less than a second"),
    ("too-fast", {"seconds": 1}, "1 second after"),
    ("blocked", {"blocks": ["email", "email-domain"]}, "the e-mail address, the domain of the e-mail address"),
    ("blocked", {"block": "external-id"}, "the product's id"),
    ("reported", {"note": "100% <i>"}, "100% &lt;i&gt;"),
    ("brand-new", {"what": "<i>"}, "what: &lt;i&gt;"),
    ("burst", {"other": 1}, "other: 1"),
]


@pytest.mark.parametrize(("kind", "evidence", "words"), EVIDENCE)
def test_evidence_is_told_in_a_sentence(kind: str, evidence: dict[str, object], words: str) -> None:
    assert words in signal_text(ENGLISH, kind, orjson.dumps(evidence).decode(), "boss").sentence


def test_every_kind_is_among_them_and_has_a_title() -> None:
    kinds = {*DEFAULT_WEIGHTS, "reported"}
    assert kinds - {kind for kind, *_ in EVIDENCE} == set()
    for language in ("en", "ru"):
        titles = {signal_title(texts_in(language), kind) for kind in kinds}
        assert len(titles) == len(kinds)
        assert not titles & kinds
    assert signal_title(ENGLISH, "<b>") == "&lt;b&gt;"


def test_users_are_named_with_the_referrer_first() -> None:
    evidence = orjson.dumps({"users": ["a", "boss", "z"]}).decode()
    assert signal_text(ENGLISH, "same-device", evidence, "boss").users == ["boss", "a", "z"]
    told = signal_text(ENGLISH, "same-device", evidence)
    assert told.users == ["a", "boss", "z"]
    assert told.sentence == "Used the same device as 3 other users."


def test_evidence_that_is_gone_is_said_to_be() -> None:
    told = signal_text(ENGLISH, "same-device", None)
    assert "no longer kept" in told.sentence
    assert told.users == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda part: st.lists(part) | st.dictionaries(st.text(), part),
    max_leaves=8,
)
NAMES = st.sampled_from(["users", "seconds", "differs_by", "domain", "note", "blocks", "clicked_at", "in_the_hour", "x"])


@given(
    kind=st.sampled_from([*DEFAULT_WEIGHTS, "reported", "<b>"]),
    evidence=JSON | st.dictionaries(NAMES, JSON),
    language=st.sampled_from(["en", "ru"]),
)
def test_whatever_the_evidence_there_is_a_text_without_markup_of_its_own(kind: str, evidence: object, language: str) -> None:
    told = signal_text(texts_in(language), kind, orjson.dumps(evidence).decode(), "boss")
    assert "<b>" not in told.title + told.sentence
