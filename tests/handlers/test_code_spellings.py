"""Codes that are read otherwise than they were written: O for 0, I and L for 1, in any case; and reserved texts."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing

import hypothesis
import hypothesis.strategies as st
import pytest

from referral.rules.codes import ALPHABET
from referral.texts import fold_code
from tests.conftest import Client, MakeClient
from tests.support.people import PASSWORD, Person
from tests.support.rows import count, sql

MakePerson = Callable[..., Awaitable[Person]]


def spellings(code: str) -> list[str]:
    """Other texts that stand for this one, which has each of the characters that are misread."""
    return [code.lower(), code.replace("O", "0"), code.replace("I", "l"), code.replace("L", "i"), code.replace("1", "L")]


async def test_a_code_that_somebody_misread_is_the_same_code_everywhere(
    client: Client, person: MakePerson, database_url: str
) -> None:
    alice, bob, nobody = await person("alice"), await person("bob"), Person(client, "")
    code = await alice.make_code(code="Look-Oil-10", max_uses=3)
    assert code == "LOOK-OIL-10"
    for other in spellings(code):
        found = await nobody.get(f"/codes/{other}")
        assert (found.status, found.body["code"]) == (200, code), other
        answer = await bob.post("/codes", {"code": other, "ttl_days": 1})
        assert (answer.status, answer.problem) == (409, "code-taken"), other
        assert (await bob.patch(f"/codes/{other}", {"ttl_days": 1})).problem == "forbidden"
        assert (await bob.delete(f"/codes/{other}")).problem == "forbidden"
        assert (await alice.post("/users/me/referrer", {"code": other})).problem == "own-code"
    answer = await bob.post("/users/me/referrer", {"code": "l00k-0il-io"})
    assert (answer.status, answer.body["code"]) == (201, code)
    carol = await person("carol", referral_code="L00K-0IL-I0")
    assert (await carol.me())["referrer"]["id"] == alice.id
    edited = await alice.patch("/codes/1ook-oil-10", {"max_uses": 2})
    assert (edited.body["code"], edited.body["status"], edited.body["uses"]) == (code, "exhausted", 2)
    assert {item["code"] for item in (await alice.get("/users/me/referrals")).body["items"]} == {code}
    assert await count(database_url, "codes") == 1
    # A hyphen and an underscore count, and U is itself.
    for other in ("LOOKOIL10", "LOOK_OIL-10", "LVVK-OIL-10"):
        assert (await nobody.get(f"/codes/{other}")).status == 404


async def test_a_code_of_a_former_rule_that_is_a_reserved_word_now_goes_on(
    client: Client, person: MakePerson, database_url: str
) -> None:
    alice, bob = await person("alice"), await person("bob")
    await alice.make_code(code="PROMO-1")
    await sql(database_url, "UPDATE codes SET code = 'BY-EMA1L', code_key = NULL")
    assert (await bob.post("/codes", {"code": "by-ema1l", "ttl_days": 1})).pointers == ["/code"]
    assert (await bob.get("/codes/by-ema1l")).status == 200
    assert (await bob.post("/users/me/referrer", {"code": "by-ema1l"})).status == 201
    carol = await person("carol", referral_code="BY-EMA1L")
    assert (await carol.me())["referrer"]["id"] == alice.id
    # Only by its own text: another spelling is the word.
    body = {"email": "dave@example.com", "password": PASSWORD, "referral_code": "BY-EMAIL"}
    assert (await bob.post("/auth/register", body)).body["reason"] == "unknown"


@pytest.mark.parametrize("engine", ["sqlite"])  # The caches fold; what SQL does, the first test asks both dialects.
@pytest.mark.parametrize("change", ["end", "edit", "name", "use up"])
async def test_a_change_by_another_spelling_is_seen_by_every_spelling(
    make_client: MakeClient, cache_url: str, change: str
) -> None:
    client = await make_client(cache_url=cache_url)
    alice, nobody = await Person.register(client, "alice"), Person(client, "")
    code = await alice.make_code(code="COOL-DEAL", max_uses=1)
    texts = (code, "C001-DEAL", "cool-deai")
    for _ in range(2):
        assert [(await nobody.get(f"/codes/{text}")).status for text in texts] == [200] * 3
    if change == "end":
        assert (await alice.delete("/codes/c001-dea1")).status == 204
    elif change == "edit":
        assert (await alice.patch("/codes/c001-dea1", {"expires_at": "2033-01-31T12:00:00Z"})).status == 200
    elif change == "name":
        await alice.patch("/users/me", {"username": "another"})
    else:
        await Person.register(client, "bob", referral_code="c001-dea1")
    found = [await nobody.get(f"/codes/{text}") for text in texts]
    if change in ("end", "use up"):
        assert [answer.status for answer in found] == [404] * 3
    else:
        assert found[0].body == found[1].body == found[2].body
        expected = (
            {"expires_at": "2033-01-31T12:00:00Z"}
            if change == "edit"
            else {"referrer": {"id": alice.id, "username": "another", "name": None}}
        )
        assert found[0].body.items() >= expected.items()


async def test_of_two_at_once_who_want_texts_that_read_alike_one_gets_it(person: MakePerson, database_url: str) -> None:
    people = [await person() for _ in range(8)]
    texts = ["LOLLI", "L0LLI", "1O11I", "lolll", "10111", "LO1LI", "L0lli", "lo1l1"]
    answers = await asyncio.gather(
        *(who.post("/codes", {"code": text, "ttl_days": 1}) for who, text in zip(people, texts, strict=True))
    )
    assert sorted(answer.status for answer in answers) == [201] + [409] * 7
    assert {answer.problem for answer in answers if answer.status == 409} == {"code-taken"}
    assert await count(database_url, "codes") == 1
    assert await count(database_url, "users", "code_count = 1") == 1


@hypothesis.given(st.text("ABIL01O-_UVZ", min_size=4, max_size=12), st.text("ABIL01O-_UVZ", min_size=4, max_size=12))
def test_folding_is_the_same_in_the_schema_and_makes_whatever_reads_alike_one(one: str, other: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        (folded,) = connection.execute(
            "SELECT replace(replace(replace(?, 'O', '0'), 'I', '1'), 'L', '1')", (one,)
        ).fetchone()
    assert folded == fold_code(one) == fold_code(one.lower()) == fold_code(fold_code(one))
    alike = len(one) == len(other) and all(
        a == b or {a, b} <= set("O0") or {a, b} <= set("IL1") for a, b in zip(one, other, strict=True)
    )
    assert (fold_code(one) == fold_code(other)) == alike


async def test_reserved_texts_are_nobodys_in_any_spelling_and_go_on_working_for_who_had_them(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await Person.register(await make_client(), "before")
    code = await before.make_code(code="FREE-OIL")
    client = await make_client(codes_reserved="Free-Oil, GRATIS")
    alice, nobody = await Person.register(client, "alice"), Person(client, "")
    for text in ("free-oil", "FREE-0IL", "free-o1i", "gratis", "GRAT1S", "gratls"):
        answer = await alice.post("/codes", {"code": text, "ttl_days": 1})
        assert (answer.status, answer.pointers) == (422, ["/code"]), text
    assert (await nobody.get(f"/codes/{code}")).status == 200
    await Person.register(client, "bob", referral_code="free-0il")
    # Nor does the service make one.
    drawn = iter((b"".join(bytes([ALPHABET.index(letter)]) for letter in "GRAT1S"), bytes(6)))
    monkeypatch.setattr("referral.rules.codes.secrets.token_bytes", lambda length: next(drawn))
    assert await alice.make_code() == "000000"
