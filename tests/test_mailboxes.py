"""Mailboxes and domains of addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from referral.mailboxes import canonical, differences, domain_of, is_disposable, is_somebodys

LOCALS = st.text("ab.+", min_size=1, max_size=8)
DOMAINS = st.sampled_from(["gmail.com", "googlemail.com", "shop.de", "example.com"])
ADDRESSES = st.builds(lambda local, domain: f"{local}@{domain}", LOCALS, DOMAINS)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("bob@shop.de", "bob@shop.de", ["case"]),
        ("bob@shop.de", "bob+two@shop.de", ["plus-part"]),
        ("bob+1@shop.de", "bob+2@shop.de", ["plus-part"]),
        ("bobsmith@gmail.com", "bob.smith@gmail.com", ["dots"]),
        ("bob@gmail.com", "bob@googlemail.com", ["googlemail"]),
        ("b.ob+x@googlemail.com", "bob@gmail.com", ["plus-part", "dots", "googlemail"]),
    ],
)
def test_spellings_of_one_mailbox(one: str, other: str, expected: list[str]) -> None:
    assert canonical(one) == canonical(other)
    assert differences(one, other) == differences(other, one) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("bob@shop.de", "rob@shop.de"),
        ("bob@shop.de", "bob@shop.fr"),
        # Dots mean something elsewhere.
        ("bobsmith@shop.de", "bob.smith@shop.de"),
        ("bob@gmail.com", "bob@gmail.de"),
        ("+bob@shop.de", "+rob@shop.de"),
    ],
)
def test_different_mailboxes(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


@given(ADDRESSES)
def test_the_canonical_spelling_is_its_own(address: str) -> None:
    made = canonical(address)
    assert canonical(made) == made
    assert made.partition("@")[0]
    assert domain_of(made) == domain_of(address).replace("googlemail", "gmail")


@pytest.mark.parametrize(
    ("domain", "disposable", "somebodys"),
    [
        ("mailinator.com", True, False),
        ("deep.below.mailinator.com", True, False),
        ("nomailinator.de", False, True),
        ("gmail.com", False, False),
        ("googlemail.com", False, False),
        ("yandex.ru", False, False),
        ("tutanota.com", False, False),
        ("privaterelay.appleid.com", False, False),
        ("example.com", False, False),
        ("mail.example.org", False, False),
        ("shop.test", False, False),
        ("localhost", False, False),
        ("intranet", False, False),
        ("", False, False),
        ("shop.de", False, True),
        ("mail.shop.de", False, True),
        ("xn--strae-oqa.de", False, True),
    ],
)
def test_whose_a_domain_is(domain: str, disposable: bool, somebodys: bool) -> None:
    assert (is_disposable(domain), is_somebodys(domain)) == (disposable, somebodys)
