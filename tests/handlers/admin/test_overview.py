"""The first page: the days below its charts are written as the reader's language does."""

from __future__ import annotations

import re

import pytest

from tests.conftest import Client
from tests.support.admin import signed_in


@pytest.mark.parametrize(
    ("language", "period", "label"),
    [
        ("en", "month", r"\d\d-\d\d"),
        ("en", "year", r"\d{4}-\d\d"),
        ("ru", "quarter", r"\d\d\.\d\d"),
        ("ru", "year", r"\d\d\.\d{4}"),
    ],
)
async def test_the_days_of_a_chart_are_in_short(
    client: Client, database_url: str, language: str, period: str, label: str
) -> None:
    browser, _ = await signed_in(client, database_url)
    browser.language = language
    page = await browser.get(f"/admin?period={period}")
    found = re.findall(r'text-anchor="middle">([^<]+)</text>', page.text)
    assert found
    assert all(re.fullmatch(label, one) for one in found), found
