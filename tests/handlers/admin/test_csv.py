"""Lists of the back office as files: what the API gives for the same question, without a token."""

from __future__ import annotations

import re
from html import unescape

import pytest

from tests.conftest import Client
from tests.support.admin import AdminBrowser, signed_in
from tests.support.admin_world import HOSTILE
from tests.support.people import API
from tests.support.programme import Programme

# A page with its filters, and what the API is asked for the same.
LISTS = [
    ("/admin/users", "/users", "users"),
    ("/admin/users?q=ali&status=active", "/users?q=ali&status=active", "users"),
    ("/admin/rewards", "/rewards", "rewards"),
    ("/admin/rewards?user=alice@example.com&status=approved", "/rewards?user=ext:alice&status=approved", "rewards"),
    ("/admin/reviews", "/reviews?status=open", "reviews"),
    ("/admin/reviews?status=all", "/reviews", "reviews"),
    ("/admin/audit?event=signed-in&since=2026-01-31", "/audit?event=signed-in&since=2026-01-31T00:00:00Z", "audit"),
    ("/admin/audit?user=ext:alice", "/audit?user=ext:alice", "audit"),
    ("/admin/users/{alice}/statement?unit=USD", "/users/ext:alice/statement?unit=USD", "statement"),
    ("/admin/users/{alice}/statement", "/users/ext:alice/statement?unit=EUR", "statement"),
]


@pytest.fixture(params=["sqlite"])
def engine(request: pytest.FixtureRequest) -> str:
    """The statements are the API's, and tests/web looks at its files on both."""
    return str(request.param)


@pytest.fixture
async def boss(client: Client, database_url: str) -> AdminBrowser:
    browser, _ = await signed_in(client, database_url)
    return browser


@pytest.fixture
async def alice(programme: Programme) -> str:
    """The id of Alice, by whom somebody suspicious came and bought."""
    alice = await programme.admin.user("alice", name=HOSTILE, email="alice@example.com")
    await programme.rule(times=None)
    await programme.come()
    for _ in range(3):
        await programme.buy()
    await programme.give("alice", 100, value={"unit": "EUR", "amount": 100})
    await programme.suspect("bob")
    return str(alice["id"])


@pytest.mark.parametrize(("page", "question", "name"), LISTS)
async def test_a_page_leads_to_the_file_that_the_api_gives(
    boss: AdminBrowser, programme: Programme, alice: str, page: str, question: str, name: str
) -> None:
    path = page.format(alice=alice)
    boss.language = "ru"
    assert "Скачать CSV" in (await boss.get(path)).words
    boss.language = "en"
    [link] = re.findall(r'href="([^"]+)">Download as CSV<', (await boss.get(path)).text)
    file = await boss.get(unescape(link))
    assert (file.status, file.headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
    assert file.headers["Content-Disposition"] == f'attachment; filename="{name}.csv"'
    assert "no-store" in file.headers["Cache-Control"]
    headers = {"Authorization": f"Bearer {programme.admin.tokens['access_token']}"}
    async with boss.client.get(f"{API}{question}{'&' if '?' in question else '?'}format=csv", headers=headers) as response:
        expected = await response.text()
    assert file.text == expected
    assert expected.count("\r\n") > 1, "there is something in it"


@pytest.mark.parametrize("page", [page for page, _, _ in LISTS])
async def test_nobody_gets_a_file_who_is_not_signed_in(client: Client, alice: str, page: str) -> None:
    path = page.format(alice=alice)
    asked = await AdminBrowser(client).get(f"{path}{'&' if '?' in path else '?'}format=csv")
    assert asked.location.startswith("/admin/login?next=")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/admin/users?format=xml", 422),
        ("/admin/users?format=csv&status=odd", 422),
        ("/admin/rewards?format=csv&user=ext:nobody", 422),
        ("/admin/reviews?format=xml", 422),
        ("/admin/reviews?format=csv&status=odd", 404),
        ("/admin/audit?format=csv&since=yesterday", 422),
        ("/admin/users/ext:nobody/statement?format=csv", 404),
    ],
)
async def test_what_cannot_be_answered_is_a_page(boss: AdminBrowser, path: str, status: int) -> None:
    page = await boss.get(path)
    assert page.status == status
    assert page.headers["Content-Type"].startswith("text/html")


async def test_a_file_has_what_lies_behind_the_page_too(
    boss: AdminBrowser, programme: Programme, alice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("referral.handlers.admin.rewards.PAGE_SIZE", 1)
    page = await boss.get("/admin/rewards")
    assert 'rel="next"' in page.text
    [onwards] = re.findall(r'rel="next" href="([^"]+)"', page.text)
    later = await boss.get(unescape(onwards))
    [link] = re.findall(r'href="([^"]+)">Download as CSV<', later.text)
    assert (await boss.get(unescape(link))).text.count("\r\n") == 1 + 4
