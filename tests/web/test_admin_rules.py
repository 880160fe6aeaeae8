"""Rules in a sentence, and the fields of their form: what they are read and written as, in both languages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from referral.config import Config
from referral.contract.schemas.events import MOST_AMOUNT
from referral.web.admin_rule_form import (
    count_in,
    days_in,
    lines_of,
    metadata_in,
    moment_in,
    percentage_in,
    whole_amount,
)
from referral.web.admin_rules import differences_of, members_of, sentence_of, state_of
from referral.web.admin_texts import texts_in
from tests.conftest import MakeConfig

GIVE = {"kind": "balance", "label": None, "unit": None, "fixed": None, "percent": None, "max": None}
SHARE, FIXED = {**GIVE, "percent": "20"}, {**GIVE, "unit": "USD", "fixed": 500}
RULE: dict[str, Any] = {
    "name": "A rule",
    "on": "purchase",
    "to": "referrer",
    "times": 1,
    "give": SHARE,
    "tiers": [],
    "if": None,
    "hold_days": 14,
    "approval": "automatic",
    "limits": None,
    "starts_at": None,
    "ends_at": None,
    "enabled": True,
}
EACH = {"per_referrer": {"count": 10, "period": "month"}, "budget": None}
BUDGET = {"per_referrer": None, "budget": {"unit": "USD", "amount": 10_000, "period": "ever"}}
USD = {"min_amount": {"unit": "USD", "amount": 2000}, "within_days": None, "metadata": None}
WITHIN = {"min_amount": None, "within_days": 1, "metadata": {"plan": "<b>", "n": 5, "new": True}}
WHEN = "When a referred friend makes their first purchase, the referrer gets"
SENTENCES: list[tuple[dict[str, Any], str]] = [
    ({}, f"{WHEN} 20% of its value, after a hold of 14 days."),
    ({"hold_days": 0}, f"{WHEN} 20% of its value, at once."),
    ({"hold_days": 1}, f"{WHEN} 20% of its value, after a hold of 1 day."),
    ({"hold_days": 0.5}, f"{WHEN} 20% of its value, after a hold of 0.5 days."),
    ({"hold_days": 0, "approval": "manual"}, f"{WHEN} 20% of its value, once somebody has approved it."),
    (
        {"approval": "manual"},
        f"{WHEN} 20% of its value, after a hold of 14 days and once somebody has approved it.",
    ),
    ({"give": FIXED, "hold_days": 0}, f"{WHEN} 5.00 USD, at once."),
    ({"give": {**FIXED, "unit": "POINTS"}, "hold_days": 0}, f"{WHEN} 500 POINTS, at once."),
    (
        {"give": {**SHARE, "max": 2500}, "hold_days": 0},
        f"{WHEN} 20% of its value, at most 25.00 USD/EUR/GBP or 2,500 POINTS, at once.",
    ),
    (
        {"give": {**SHARE, "max": 2500}, "hold_days": 0, "limits": BUDGET},
        f"{WHEN} 20% of its value, at most 25.00 USD, at once; in all at most 100.00 USD over all time.",
    ),
    ({"give": {**GIVE, "kind": "coupon", "label": "<i>"}, "hold_days": 0}, f"{WHEN} the coupon <i>, at once."),
    (
        {"give": {**FIXED, "kind": "custom", "label": "Tea"}, "hold_days": 0},
        f"{WHEN} Tea, worth 5.00 USD, at once.",
    ),
    (
        {"tiers": [{"from": 10, "fixed": None, "percent": "25"}, {"from": 22, "fixed": None, "percent": "30.5"}]},
        f"{WHEN} 20% of its value, after a hold of 14 days; 25% of its value from the referrer's 10th converted "
        "referral on; 30.5% of its value from the referrer's 22nd converted referral on.",
    ),
    (
        {"to": "referee", "times": None, "hold_days": 0},
        "Each time a referred friend makes a purchase, the friend gets 20% of its value, at once.",
    ),
    (
        {"times": 3, "hold_days": 0},
        "When a referred friend makes one of their first 3 purchases, the referrer gets 20% of its value, at once.",
    ),
    ({"on": "signup", "hold_days": 0}, "When a referred friend signs up, the referrer gets 20% of its value, at once."),
    (
        {"on": "email-verified", "hold_days": 0},
        "When a referred friend verifies their e-mail address, the referrer gets 20% of its value, at once.",
    ),
    (
        {"on": "x", "hold_days": 0},
        "The first time that x is reported of a referred friend, the referrer gets 20% of its value, at once.",
    ),
    (
        {"on": "x", "hold_days": 0, "times": None},
        "Each time x is reported of a referred friend, the referrer gets 20% of its value, at once.",
    ),
    (
        {"on": "x", "hold_days": 0, "times": 2},
        "Each of the first 2 times that x is reported of a referred friend, the referrer gets 20% of its value, at once.",
    ),
    ({"hold_days": 0, "if": USD}, f"{WHEN} 20% of its value, at once; it counts only if it is worth at least 20.00 USD."),
    (
        {"hold_days": 0, "if": WITHIN},
        f"{WHEN} 20% of its value, at once; it counts only if it comes within 1 day of the referral and plan is “<b>” "
        "and n is 5 and new is true.",
    ),
    (
        {"hold_days": 0, "limits": EACH},
        f"{WHEN} 20% of its value, at once; at most 10 rewards for one referrer's friends a month.",
    ),
    (
        {"hold_days": 0, "starts_at": 1_798_761_600_000, "ends_at": 1_798_805_400_000},
        f"{WHEN} 20% of its value, at once; from 2027-01-01 UTC on; until 2027-01-01 12:10 UTC.",
    ),
]


@pytest.fixture
def config(make_config: MakeConfig) -> Config:
    return make_config()


@pytest.fixture
def engine() -> str:
    return "sqlite"


@pytest.mark.parametrize(("members", "sentence"), SENTENCES)
def test_a_rule_is_one_sentence(config: Config, members: dict[str, Any], sentence: str) -> None:
    rule = {**RULE, **members}
    english = sentence_of(rule, texts_in("en"), config)
    assert "<b>" not in english
    assert "<i>" not in english
    assert english.striptags().replace("\xa0", " ") == sentence
    russian = (
        sentence_of(rule, texts_in("ru"), config).striptags().replace(" UTC", "").replace("USD", "").replace("POINTS", "")
    )
    assert not any(word in russian for word in (" the ", " of ", " at ", "friend"))
    for language in ("en", "ru"):
        assert differences_of(rule, rule, texts_in(language), config) == []
        changed = differences_of(RULE, rule, texts_in(language), config)
        assert bool(changed) == (rule != RULE)
        assert "<b>" not in Markup("").join(one.value for one in members_of(rule, texts_in(language), config))


def test_a_sentence_is_russian_too(config: Config) -> None:
    rule = {**RULE, "give": {**SHARE, "percent": "12.5", "max": 2500}, "if": USD, "times": 2}
    assert sentence_of(rule, texts_in("ru"), config).striptags().replace("\xa0", " ") == (
        "Когда приглашённый совершает одну из первых 2 покупок, пригласивший получает 12,5 % от суммы, "
        "но не больше 25,00 USD, после 14 дней удержания; засчитывается, только если сумма не меньше 20,00 USD."
    )


@pytest.mark.parametrize(
    ("members", "state"),
    [
        ({}, "enabled"),
        ({"enabled": False, "ends_at": 1}, "disabled"),
        ({"starts_at": 6}, "not-yet"),
        ({"starts_at": 5, "ends_at": 6}, "enabled"),
        ({"ends_at": 5}, "ended"),
    ],
)
def test_a_rule_has_one_state(members: dict[str, Any], state: str) -> None:
    assert state_of({**RULE, **members}, 5) == state


@pytest.mark.parametrize(
    ("text", "exponent", "english", "russian"),
    [
        ("25", 2, 2500, 2500),
        ("25.5", 2, 2550, 2550),
        ("25,5", 2, None, 2550),
        ("25.500", 2, 2550, 2550),
        ("25.501", 2, None, None),
        ("1,234.50", 2, 123_450, None),
        ("1 234,50", 2, None, 123_450),
        ("1\xa0234\xa0567", 0, None, 1_234_567),
        ("1,23", 0, None, None),
        ("12,34.5", 1, None, None),
        ("0", 2, 0, 0),
        ("1.5", 0, None, None),
        ("0.001", 3, 1, 1),
        ("90071992547409.91", 2, MOST_AMOUNT, MOST_AMOUNT),
        ("90071992547409.92", 2, None, None),
        *((text, 2, None, None) for text in ("", ".5", "5.", "-1", "+1", "1e3", "1_0", "٣", "1 2", "NaN", "0x1", "9" * 40)),
    ],
)
def test_money_is_read_as_the_language_writes_it(text: str, exponent: int, english: int | None, russian: int | None) -> None:
    for language, expected in (("en", english), ("ru", russian)):
        texts = texts_in(language)
        if expected is None:
            with pytest.raises(ValueError):  # noqa: PT011
                whole_amount(text, exponent, texts)
        else:
            assert whole_amount(text, exponent, texts) == expected


@given(st.integers(0, MOST_AMOUNT), st.integers(0, 4), st.sampled_from(["en", "ru"]))
def test_money_that_was_shown_is_read_as_it_was(amount: int, exponent: int, language: str) -> None:
    texts = texts_in(language)
    assert whole_amount(texts.decimal(amount, exponent), exponent, texts) == amount


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.isprintable)
VALUES = TEXTS | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.dictionaries(NAMES | st.sampled_from(["a=b", '"', " "]), VALUES | st.sampled_from(["5", "true", "1e3", '"x"', " "]))
)
def test_metadata_that_was_written_is_read_as_it_was(metadata: dict[str, Any]) -> None:
    read = metadata_in(lines_of(metadata).replace("\n", "\r\n"), texts_in("en"))
    assert read == metadata
    assert [type(value) for value in read.values()] == [type(value) for value in metadata.values()]


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [
        (percentage_in, "12,5 %", "12.5"),
        (percentage_in, "20", "20"),
        (percentage_in, "%", None),
        (percentage_in, "1,2,3", None),
        (count_in, "1 000", 1000),
        (count_in, "²", None),
        (count_in, "-1", None),
        (days_in, "0,5", 0.5),
        (days_in, "14", 14),
        (days_in, "1e3", None),
        (moment_in, "2027-01-31T12:00", "2027-01-31T12:00:00Z"),
        (moment_in, "2027-01-31 12:00:05", "2027-01-31T12:00:05Z"),
        (moment_in, "2027-02-30T12:00", None),
        (moment_in, "2027-01-31", None),
        (moment_in, "0000-01-31T00:00", None),
        (metadata_in, "a = b\n\n c=", {"a": "b", "c": ""}),
        (metadata_in, "a=1\na=2", None),
        (metadata_in, "=1", None),
        (metadata_in, '"a=1', None),
        (metadata_in, 'a="b"c', None),
        (metadata_in, '"\\ud800"=1', None),
    ],
)
def test_what_is_written_in_a_field_is_read_or_refused(read: Any, text: str, expected: Any) -> None:
    if expected is None:
        with pytest.raises(ValueError):  # noqa: PT011
            read(text, texts_in("ru"))
    else:
        assert read(text, texts_in("ru")) == expected
