"""Which signals follow from which facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from referral.clock import DAY, SECOND
from referral.config.weights import DEFAULT_WEIGHTS
from referral.rules.suspicion import FEWEST_PURCHASES, MOST_NAMED, Facts, Signal, signals_of

CLICKED = 1_700_000_000_000
AT = "2023-11-14T22:13:20Z"


def found(facts: Facts, per_hour: int = 10, **weights: int) -> dict[str, dict[str, Any]]:
    return {one.kind: one.evidence for one in signals_of(facts, {**DEFAULT_WEIGHTS, **weights}, per_hour)}


def alike(**users: set[str]) -> Facts:
    return Facts(alike={f"same-{what}": frozenset(ids) for what, ids in users.items()})


def addresses(email: str | None, referrer_email: str | None) -> Facts:
    return Facts(email=email, referrer_email=referrer_email)


CASES: list[tuple[Facts, dict[str, dict[str, Any]]]] = [
    (Facts(), {}),
    # Addresses
    (addresses("bob@shop.de", None), {}),
    (addresses(None, "bob@shop.de"), {}),
    (addresses("bob@shop.de", "ann@firm.de"), {}),
    (addresses("bob+2@gmail.com", "bob@gmail.com"), {"same-email": {"differs_by": "plus-part"}}),
    (addresses("b.ob@googlemail.com", "bob@gmail.com"), {"same-email": {"differs_by": "dots, googlemail"}}),
    (addresses("ann@shop.de", "bob@shop.de"), {"same-domain": {"domain": "shop.de"}}),
    (
        addresses("bob+2@shop.de", "bob@shop.de"),
        {"same-email": {"differs_by": "plus-part"}, "same-domain": {"domain": "shop.de"}},
    ),
    (addresses("ann@gmail.com", "bob@gmail.com"), {}),
    (addresses("ann@example.com", "bob@example.com"), {}),
    (addresses("ann@mailinator.com", "bob@mailinator.com"), {"disposable-email": {"domain": "mailinator.com"}}),
    (addresses("ann@mailinator.com", None), {"disposable-email": {"domain": "mailinator.com"}}),
    # The referrer's address is the referrer's affair.
    (addresses("ann@shop.de", "bob@mailinator.com"), {}),
    # The same thing
    (alike(device={"u2", "u1"}), {"same-device": {"users": ["u1", "u2"]}}),
    (alike(payment={"u1"}), {"same-payment": {"users": ["u1"]}}),
    (alike(network={"u1"}), {"same-network": {"users": ["u1"]}}),
    (alike(user_agent={"u1"}, device=set()), {}),
    # Clicks
    (Facts(clicked_at=CLICKED), {}),
    (Facts(clicked_at=CLICKED, clicked_by_robot=True), {"bot-click": {"clicked_at": AT}}),
    (Facts(clicked_by_robot=True, known_since=1, joined_at=CLICKED), {}),
    (
        Facts(clicked_at=CLICKED, known_since=CLICKED - DAY),
        {"seen-before": {"known_since": "2023-11-13T22:13:20Z", "clicked_at": AT}},
    ),
    (Facts(clicked_at=CLICKED, known_since=CLICKED), {}),
    (Facts(clicked_at=CLICKED, joined_at=CLICKED), {"too-fast": {"seconds": 0}}),
    (Facts(clicked_at=CLICKED, joined_at=CLICKED + 5 * SECOND - 1), {"too-fast": {"seconds": 4}}),
    (Facts(clicked_at=CLICKED, joined_at=CLICKED + 5 * SECOND), {}),
    # By another clock.
    (Facts(clicked_at=CLICKED, joined_at=CLICKED - 1), {}),
    # Numbers
    (Facts(joined_in_the_hour=10), {}),
    (Facts(joined_in_the_hour=11), {"burst": {"in_the_hour": 11}}),
    (Facts(purchases=4, refunded=4), {}),
    (Facts(purchases=5, refunded=2), {}),
    (Facts(purchases=5, refunded=3), {"refunds": {"refunded": 3, "purchases": 5}}),
    (Facts(purchases=6, refunded=3), {"refunds": {"refunded": 3, "purchases": 6}}),
    (Facts(purchases=6, refunded=4, has_tipped=True), {}),
    (Facts(blocked=frozenset({"external-id", "email"})), {"blocked": {"blocks": ["email", "external-id"]}}),
]


@pytest.mark.parametrize(("facts", "expected"), CASES)
def test_what_follows(facts: Facts, expected: dict[str, dict[str, Any]]) -> None:
    assert found(facts) == expected


def test_every_kind_has_a_case_and_a_weight_and_all_of_them_may_come_together() -> None:
    kinds = {kind for _, expected in CASES for kind in expected}
    assert kinds == DEFAULT_WEIGHTS.keys()
    facts = Facts(
        email="bob+2@mailinator.com",
        referrer_email="bob@mailinator.com",
        alike={f"same-{what}": frozenset({"u1"}) for what in ("device", "payment", "network")},
        clicked_at=CLICKED,
        clicked_by_robot=True,
        known_since=CLICKED - 1,
        joined_at=CLICKED + 1,
        joined_in_the_hour=11,
        blocked=frozenset({"email"}),
        purchases=5,
        refunded=5,
    )
    # No domain is somebody's and disposable.
    assert found(facts).keys() == kinds - {"same-domain"}
    for kind in DEFAULT_WEIGHTS:
        assert kind not in found(facts, **{kind: 0})
    assert Signal("burst", 7, {"in_the_hour": 11}) in signals_of(facts, {**DEFAULT_WEIGHTS, "burst": 7}, 10)


def test_evidence_names_so_many_users() -> None:
    [signal] = signals_of(alike(device={f"u{number:02}" for number in range(100)}), DEFAULT_WEIGHTS, 10)
    assert signal.evidence == {"users": [f"u{number:02}" for number in range(MOST_NAMED)]}


IDS = st.frozensets(st.sampled_from(["u1", "u2", "u3"]), max_size=3)
TIMES = st.none() | st.integers(CLICKED - 10 * SECOND, CLICKED + 10 * SECOND)
ADDRESSES = st.none() | st.builds(
    "{}@{}".format,
    st.text("ab.+", min_size=1, max_size=4),
    st.sampled_from(["gmail.com", "googlemail.com", "shop.de", "mailinator.com", "example.com"]),
)
FACTS = st.builds(
    Facts,
    email=ADDRESSES,
    referrer_email=ADDRESSES,
    alike=st.dictionaries(st.sampled_from(["same-device", "same-payment", "same-network"]), IDS),
    clicked_at=TIMES,
    clicked_by_robot=st.booleans(),
    known_since=TIMES,
    joined_at=TIMES,
    joined_in_the_hour=st.integers(0, 30),
    blocked=st.frozensets(st.sampled_from(["email", "email-domain", "external-id"])),
    purchases=st.integers(0, 12),
    refunded=st.integers(0, 12),
    has_tipped=st.booleans(),
)
# What each kind cannot do without.
WITHOUT: dict[str, dict[str, Any]] = {
    "same-email": {"referrer_email": None},
    "same-domain": {"referrer_email": None},
    "disposable-email": {"email": None},
    "same-device": {"alike": {}},
    "same-payment": {"alike": {}},
    "same-network": {"alike": {}},
    "bot-click": {"clicked_by_robot": False},
    "seen-before": {"known_since": None},
    "too-fast": {"joined_at": None},
    "burst": {"joined_in_the_hour": 0},
    "blocked": {"blocked": frozenset()},
    "refunds": {"refunded": 0},
}


@given(FACTS)
def test_no_signal_without_its_fact(facts: Facts) -> None:
    whole = found(facts)
    assert whole.keys() <= WITHOUT.keys()
    for kind, missing in WITHOUT.items():
        # And of the others nothing changes.
        left = found(replace(facts, **missing))
        assert kind not in left
        assert left.keys() <= whole.keys()
        assert {one: left[one] for one in left if one != kind} == {one: whole[one] for one in left}
    if facts.clicked_at is None:
        assert not whole.keys() & {"bot-click", "seen-before", "too-fast"}


@given(FACTS, IDS, st.integers(0, 5), st.integers(0, 5))
def test_more_of_a_fact_takes_no_signal_away(facts: Facts, users: frozenset[str], joined: int, refunded: int) -> None:
    more = replace(
        facts,
        alike={**facts.alike, "same-device": facts.alike.get("same-device", frozenset()) | users},
        joined_in_the_hour=facts.joined_in_the_hour + joined,
        refunded=facts.refunded + refunded,
        clicked_by_robot=True,
        blocked=facts.blocked | {"email"},
    )
    assert found(facts).keys() <= found(more).keys()


@given(FACTS, st.integers(0, 30))
def test_a_signal_is_one_of_a_kind_and_says_why(facts: Facts, per_hour: int) -> None:
    signals = signals_of(facts, DEFAULT_WEIGHTS, per_hour)
    assert len({signal.kind for signal in signals}) == len(signals)
    assert all(signal.evidence and signal.weight == DEFAULT_WEIGHTS[signal.kind] for signal in signals)
    assert ("burst" in found(facts, per_hour)) == (facts.joined_in_the_hour > per_hour)
    if facts.purchases < FEWEST_PURCHASES:
        assert "refunds" not in found(facts)
