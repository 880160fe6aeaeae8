"""Amounts as people write them, in the smallest part of their unit."""

from __future__ import annotations

import pytest

from referral.rules.units import amount_in


@pytest.mark.parametrize(
    ("text", "exponent", "amount"),
    [
        ("5", 2, 500),
        (" 5.00 ", 2, 500),
        ("5,5", 2, 550),
        ("0.05", 2, 5),
        ("007", 0, 7),
        ("1.234", 3, 1234),
        ("1.234", 2, None),
        ("5.", 2, None),
        (".5", 2, None),
        ("5.0", 0, None),
        ("1,000.00", 2, None),
        ("-5", 2, None),
        ("+5", 2, None),
        ("1e3", 2, None),
        ("\u0663", 2, None),
        ("\u00b2", 2, None),
        ("5\0", 2, None),
        ("", 2, None),
        ("9" * 31, 0, None),
    ],
)
def test_an_amount_is_read_exactly_or_not_at_all(text: str, exponent: int, amount: int | None) -> None:
    assert amount_in(text, exponent) == amount
