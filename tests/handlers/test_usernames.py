"""Usernames: which may be chosen, which are one and the same, and what becomes of names of former versions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Awaitable, Callable

import hypothesis
import hypothesis.strategies as st
import pytest

from referral.commands.accounts import create_admin
from referral.config import ConfigError, load_config
from referral.contract.usernames import IGNORABLE, objection_to
from referral.texts import key_of
from tests.conftest import Client, MakeClient, MakeConfig
from tests.support.people import PASSWORD, Person
from tests.support.rows import count, sql

MakePerson = Callable[..., Awaitable[Person]]

# Names of people, places and things as they are written.
WRITTEN = [
    *("alice", "Zoë", "Đặng.Thị", "Nguyễn_Văn", "Łukasz", "Ærøskøbing", "O-Brien7", "x-y_z.9", "007", "Þór"),
    *("алиса", "Иван_4", "Ђорђе", "Ґанна", "Μαρία", "Δίας-2", "ἄνθρωπος", "Հայկ", "ნინო", "שרה", "עִבְרִית"),
    *("سارة", "پرویز۱۲", "محمد١٢", "नमस्ते", "कृष्ण", "বাংলা", "தமிழ்", "ไทยแลนด์", "ស្រី", "བོད", "አበበ", "ᏣᎳᎩ"),
    *(
        "山田太郎",
        "やまだ",
        "ヤマダ-サン",
        "スター",
        "東京タワー",
        "東京Tower",
        "김철수",
        "金철수",
        "LG전자",
        "王小明",
        "ㄅㄆㄇ",
        "王Bob",
        "佐々木",
        "山aが",
        "kaʻahu",
        "İbrahim",
    ),
]
# What passes for something that it is not, and why it is refused.
REFUSED = {
    "invisible": [
        *(
            "alice\ufe0f",
            "al\u034fice",
            "a\u180bb",
            "ab\U000e0101",
            "\u115f\u1160",
            "\u3164\u3164",
            "\uffa0\uffa0",
            "a\u3164b",
        ),
        *("a\u17b4b", "a\u17b5b", "a\u180fb", "가\u1160나", "\u1160\u1160\u1160"),
    ],
    "mix letters": [
        *("admin\u309a", "alice\u3099"),
        *(
            "\u0430lice",
            "alic\u0435",
            "pаypal",
            "Ѕtripe",
            "αlice",
            "alice\u03bf",
            "Mаша",
            "русskij",
            "אbc",
            "سab",
            "нα",
            "ꭰbc",
        ),
        *("山a\u0431", "スター\u0430", "김a\u03b1", "かㄅ", "김ヤマ", "ㄅ한", "नম", "abกข", "x\u0661"),
    ],
    "marks": [
        "a\u0301\u0302\u0303\u0304\u0305",
        "e\u0323\u0301\u0302\u0303\u0304",
        "o\u0308\u0308",
        "\u00f6\u0308",
        "ab\u0337\u0337",
        # Strokes that the letter has, or that its neighbour hides.
        *("ab\u0335", "\u0111\u0335a", "\u00f8\u0338a", "anna-\u0335m", "anna_\u0332m", "a.\u0307b"),
        # A dot that the letter's own dot hides, or makes.
        *("ali\u0307ce", "j\u0307ohn", "\u0131\u0307nfo", "ali\u0328\u0307ce", "\u0456\u0307ван", "\u0237\u0307o"),
    ],
    "no letters": ["م\u0640حمد", "admin\u02cd", "support\u02c8", "alice\u302e", "ヤマ\u3033", "ߞߊ\u07fa"],
    "digits": ["\u0661\u06f2", "\u0966\u0661x", "सा1\u0968", "1\u06f2"],
}
# What is not even of a name's shape, whatever it passes for.
MISSHAPEN = {
    "2 to 32": [
        "\u200d\u200d",
        "ab\u200c",
        "نا\u200cمه",
        "क्\u200dष",
        "ab\u2060",
        "\u2800\u2800",
        "ab\u061c",
        "a\u0378",
        "\u0301ab",
        "a\u00adb",
    ],
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_name_as_people_write_it_may_be_chosen(name: str) -> None:
    assert objection_to(unicodedata.normalize("NFKC", name)) is None


@pytest.mark.parametrize(("reason", "name"), [(reason, name) for reason, names in REFUSED.items() for name in names])
def test_a_name_that_passes_for_another_is_refused(reason: str, name: str) -> None:
    found = objection_to(unicodedata.normalize("NFKC", name))
    assert found is not None
    assert reason in found


async def test_it_is_refused_by_every_way_to_set_a_name(
    client: Client, person: MakePerson, make_config: MakeConfig, database_url: str
) -> None:
    alice, nobody = await person("alice"), Person(client, "")
    for reason, names in (REFUSED | MISSHAPEN).items():
        for name in names:
            registration = {"email": "new@example.com", "password": PASSWORD, "username": name}
            for answer in (
                await nobody.post("/auth/register", registration),
                await alice.patch("/users/me", {"username": name}),
            ):
                assert (answer.status, answer.pointers) == (422, ["/username"]), ascii(name)
                assert reason in answer.body["errors"][0]["detail"], ascii(name)
    for name in ("\u0430lice", "al\u034fice"):
        with pytest.raises(ConfigError, match="email or username"):
            await create_admin(make_config(), "root@example.com", name, PASSWORD)
    assert await count(database_url, "users") == 1
    for name in WRITTEN:
        answer = await alice.patch("/users/me", {"username": name})
        assert answer.status == 200, name
        assert answer.body["username"] == unicodedata.normalize("NFKC", name)


async def test_forms_of_one_name_are_one_name(person: MakePerson) -> None:
    alice, other = await person("alice"), await person("other")
    for forms in (
        ("Alice", "ALICE", "\uff21lice", "\U0001d400lice", "al\u2170ce", "\u24d0lice"),
        ("Straße", "STRASSE", "strasse"),
        ("\u1f00νήρ", "\u1f08ΝΉΡ", "\u03b1\u0313νήρ"),
        ("Ζεύς", "ζεύσ", "ΖΕΎΣ"),
        ("ﬁona", "FIONA"),
        ("Zoe\u0308", "zoë"),
        ("ヤマダ", "ﾔﾏﾀﾞ"),
    ):
        assert (await alice.patch("/users/me", {"username": forms[0]})).status == 200
        for form in forms[1:]:
            answer = await other.patch("/users/me", {"username": form})
            assert (answer.status, answer.problem) == (409, "username-taken"), form
            assert (await alice.sign_in(name=form)).status == 200, form


async def test_who_has_a_name_of_a_former_rule_signs_in_by_it_and_keeps_it(person: MakePerson, database_url: str) -> None:
    alice = await person("alice")
    code = await alice.make_code()
    for name in ("\u0430dmin", "al\u034fice", "\u3164\u3164", "o\u0308\u0308x", "admin"):
        kept = unicodedata.normalize("NFKC", name)
        await sql(
            database_url, f"UPDATE users SET username = '{kept}', username_key = '{key_of(name)}' WHERE id = '{alice.id}'"
        )
        assert (await alice.sign_in(name=name)).status == 200, ascii(name)
        assert (await alice.me())["username"] == kept
        # What has nothing to do with the name goes on, too.
        assert (await alice.patch("/users/me", {})).status == 200
        assert (
            await alice.post("/auth/password/change", {"current_password": PASSWORD, "new_password": PASSWORD})
        ).status == 204
    assert (await alice.get(f"/codes/{code}")).status == 200
    assert (await alice.patch("/users/me", {"username": None})).status == 200


async def test_reserved_names_are_nobodys_but_whom_the_operator_gives_one(
    make_client: MakeClient, make_config: MakeConfig, database_url: str
) -> None:
    shipped = {"auth_reserved_usernames": ", ".join(load_config(environ={}).auth.reserved_usernames)}
    client = await make_client(**shipped)
    alice, nobody = await Person.register(client, "alice"), Person(client, "")
    for name in ("admin", "ADMIN", "\uff21dmin", "admin_", "a.d.m.i.n", "Sup-port", "no-reply", "Поддержка", "под.держка"):
        registration = {"email": "new@example.com", "password": PASSWORD, "username": name}
        for answer in (
            await nobody.post("/auth/register", registration),
            await alice.patch("/users/me", {"username": name}),
        ):
            assert (answer.status, answer.pointers) == (422, ["/username"]), name
            assert "reserved" in answer.body["errors"][0]["detail"]
    for name in ("administer", "admin2", "supported", "поддержкин"):
        assert (await alice.patch("/users/me", {"username": name})).status == 200
    assert await create_admin(make_config(**shipped), "root@example.com", "admin", PASSWORD) == "root@example.com"
    assert await count(database_url, "users", "username = 'admin' AND role = 'admin'") == 1


def test_no_selector_and_no_filler_of_letters_is_left_out() -> None:
    for number in range(0x110000):
        name = unicodedata.name(chr(number), "")
        if "VARIATION SELECTOR" in name or re.fullmatch("HANGUL.* FILLER", name):
            assert IGNORABLE.fullmatch(chr(number)), name


@hypothesis.given(st.text(st.characters(categories=["L", "M", "Nd"]), min_size=2, max_size=32))
def test_there_is_an_answer_whatever_is_written(name: str) -> None:
    name = unicodedata.normalize("NFKC", name)
    if objection_to(name) is None:
        assert not IGNORABLE.search(name)
        # What is well written is so in every part, and beside digits that everybody has.
        assert [objection_to(part) for part in (name[: len(name) // 2], name.rstrip("0123456789"))] == [None, None]
