"""Service keys in the back office."""

from __future__ import annotations

import asyncio
import re

import pytest

from referral.ids import new_id
from tests.conftest import Client
from tests.support.admin import AdminBrowser, signed_in
from tests.support.admin_world import HOSTILE
from tests.support.people import SECRETS, UNKNOWN, Product
from tests.support.rows import count

AT_ONCE = 32


@pytest.fixture
async def browser(client: Client, database_url: str) -> AdminBrowser:
    return (await signed_in(client, database_url))[0]


async def test_a_key_is_made_shown_once_used_and_revoked(client: Client, browser: AdminBrowser, database_url: str) -> None:
    assert "There is no key." in (await browser.get("/admin/keys")).words
    found = re.search(r'name="key_id" value="([^"]+)"', (await browser.get("/admin/keys/new")).text)
    assert found
    form, token = {"key_id": found[1], "name": HOSTILE, "scope": "write"}, (await browser.get("/admin")).form_token
    pages = await asyncio.gather(*(browser.post("/admin/keys", form, token=token) for _ in range(AT_ONCE)))
    (shown,) = [page for page in pages if page.status == 200]
    assert {page.location for page in pages if page is not shown} == {"/admin/keys?said=key-made-before"}
    assert shown.headers["Cache-Control"] == "no-store"
    assert "<b onclick" not in shown.text
    (text,) = re.findall(r"rsk_\w+", shown.text)
    SECRETS.add(text)
    assert await count(database_url, "service_keys") == 1
    assert await count(database_url, "audit_events", "event = 'key-made'") == 1
    shop = Product(client, text)
    listed = await browser.get("/admin/keys")
    assert "delivers rewards and redeems" in listed.words
    assert "rsk_" not in listed.text
    assert "<b onclick" not in listed.text
    headers = {"Authorization": f"Bearer {text}"}
    assert (await shop.get("/users", headers=headers)).status == 200
    asked = await browser.get(f"/admin/keys/{found[1]}/revoke")
    assert "Calls by it are refused at once." in asked.words
    assert "<b onclick" not in asked.text
    pages = await asyncio.gather(*(browser.post(f"/admin/keys/{found[1]}/revoke", token=token) for _ in range(AT_ONCE)))
    assert sorted(page.status for page in pages) == [303] + 31 * [404]
    assert (await shop.get("/users", headers=headers)).status == 401
    assert await count(database_url, "audit_events", "event = 'key-revoked'") == 1


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({}, "Must be a text of"),
        ({"name": "  ", "scope": "read"}, "Must be a text of"),
        ({"name": "x" * 101, "scope": "read"}, "Must be a text of"),
        ({"name": "a\0b", "scope": "read"}, "Must be a text of"),
        ({"name": "shop", "scope": "owner"}, "Must be one of"),
        ({"name": "shop"}, "Must be one of"),
    ],
)
async def test_what_is_wrong_with_a_key_stands_in_its_form(
    browser: AdminBrowser, database_url: str, form: dict[str, str], told: str
) -> None:
    page = await browser.post("/admin/keys", {"key_id": new_id(), **form})
    assert page.status == 422
    assert told in page.words
    assert await count(database_url, "service_keys") == 0


async def test_an_unknown_key_is_a_page(browser: AdminBrowser) -> None:
    for key_id in (UNKNOWN, "x", "%00", "%3Cb%3E"):
        assert (await browser.get(f"/admin/keys/{key_id}/revoke")).status == 404
        assert (await browser.post(f"/admin/keys/{key_id}/revoke")).status == 404
    assert (await browser.post("/admin/keys", {"key_id": "x"})).status == 400
    assert (await browser.get("/admin/keys?cursor=x")).status == 422
