"""What is one address, and what are two: mail decides, and nothing is folded that mail tells apart."""

from __future__ import annotations

import pytest
from email_validator import validate_email
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from referral.contract.schemas.fields import Email, NewEmail
from referral.texts import email_key
from tests.conftest import Client
from tests.support.people import PASSWORD, Person

ONE = [
    ("Alice@Example.COM", "alice@example.com"),
    ("bob@BÜCHER.example", "bob@xn--bcher-kva.example"),
    ("bob@bücher.example", "BOB@XN--BCHER-KVA.EXAMPLE"),
    # The domain in full-width letters and with another full stop, as some keyboards type it: mail goes to the usual one.
    ("bob@ｅxample。com", "bob@example.com"),
    ("Иван@почта.рф", "иван@xn--80a1acny.xn--p1ai"),
    # One letter typed in two ways.
    ("jos\u00e9@example.com", "jose\u0301@example.com"),
]
TWO = [
    ("a@straße.de", "a@strasse.de"),
    ("a@faß.example", "a@fass.example"),
    ("a@βόλος.gr", "a@βόλοσ.gr"),
    ("straße@example.com", "strasse@example.com"),
    ("a.b@example.com", "ab@example.com"),
    ("a+b@example.com", "a@example.com"),
    # Cyrillic and Latin.
    ("\u0430lice@example.com", "alice@example.com"),
]
# What looks like an ASCII mailbox, or would become one by folding.
LOOK_ALIKES = [
    *("ceo\ufe0f@x.com", "c\u034feo@x.com", "ceo\u115f@x.com", "ceo\U000e0041@x.com", "ceo\u200b@x.com", "ceo\u00ad@x.com"),
    "ｃeo@x.com",
    "CEO\uff11@x.com",
    "ﬁnance@x.com",
    "\u017fam@x.com",
    "ceo\u2460@x.com",
    "①@x.com",
]


@pytest.mark.parametrize("pair", ONE)
def test_these_are_one_address(pair: tuple[str, str]) -> None:
    assert len({email_key(Email().deserialize(address)) for address in pair}) == 1


@pytest.mark.parametrize("pair", TWO)
def test_these_are_two_addresses(pair: tuple[str, str]) -> None:
    assert len({email_key(Email().deserialize(address)) for address in pair}) == 2


@pytest.mark.parametrize("address", LOOK_ALIKES)
def test_a_local_part_in_look_alike_forms_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="Must be an e-mail address"):
        NewEmail().deserialize(address)


@given(st.tuples(st.text("aAbBsSßẞéεςσΣıİiI.", min_size=1, max_size=4), st.text("aAsSßéıİςσ-", min_size=1, max_size=5)))
def test_addresses_of_one_key_are_one_domain_to_mail_and_differ_in_case_only(parts: tuple[str, str]) -> None:
    local, name = parts
    try:
        address = Email().deserialize(f"{local}@{name}.example")
        other = Email().deserialize(f"{local.swapcase()}@{name.swapcase()}.example")
    except ValidationError:
        return
    key = email_key(address)
    assert key.rpartition("@")[2] == validate_email(address, check_deliverability=False).ascii_domain
    # A key is the key of itself, whatever is written in capitals.
    assert email_key(key) == key
    if local.isascii() and name.isascii():
        assert email_key(other) == key


async def test_nobody_takes_the_address_of_somebody_else_by_another_spelling(client: Client) -> None:
    person = Person(client, "")
    for address in ("ｃeo@x.example", "\u017fam@x.example"):
        answer = await person.post("/auth/register", {"email": address, "password": PASSWORD})
        assert answer.pointers == ["/email"], address
    for address in ("ceo@straße.example", "ceo@strasse.example", "ceo@x.example", "kim@x.example"):
        assert (await person.post("/auth/register", {"email": address, "password": PASSWORD})).status == 201, address
    for address in ("CEO@STRASSE.EXAMPLE", "ceo@xn--strae-oqa.example", "Ceo@x.example"):
        answer = await person.post("/auth/register", {"email": address, "password": PASSWORD})
        assert answer.problem == "email-taken", address


async def test_each_spelling_of_an_address_signs_in_to_its_own_account(client: Client) -> None:
    person = Person(client, "")
    for address in ("ceo@straße.example", "ceo@strasse.example"):
        await person.post("/auth/register", {"email": address, "password": PASSWORD})
    for name, address in (
        ("ceo@XN--STRAE-OQA.example", "ceo@straße.example"),
        ("Ceo@straße.EXAMPLE", "ceo@straße.example"),
        ("ceo@STRASSE.example", "ceo@strasse.example"),
    ):
        body = {"grant_type": "password", "username": name, "password": PASSWORD}
        tokens = (await person.post("/auth/token", body)).body
        answer = await person.get("/users/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})
        assert answer.body["email"] == address
