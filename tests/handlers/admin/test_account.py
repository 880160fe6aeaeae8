"""The account of whoever looks: the change of their password."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Client
from tests.support.admin import AdminBrowser, signed_in
from tests.support.people import PASSWORD, SECRETS
from tests.support.rows import count

PATH = "/admin/account/password"
NEW = "another good passphrase"


async def test_a_new_password_ends_every_session_and_signs_in(client: Client, database_url: str) -> None:
    SECRETS.add(NEW)
    browser, boss = await signed_in(client, database_url)
    other = AdminBrowser(client)
    await other.sign_in("boss")
    page = await browser.get(PATH)
    assert "All sessions of your account end, this one, too" in page.words
    changed = await browser.post(PATH, {"current_password": PASSWORD, "new_password": NEW})
    assert changed.location == "/admin/login?said=password-changed"
    assert "The password is changed." in (await browser.get(changed.location)).words
    assert not browser.cookies
    assert (await other.get("/admin")).status == 303
    assert (await boss.get("/users/me")).status == 401
    assert await count(database_url, "sessions") == 0
    assert await count(database_url, "audit_events", "event = 'password-changed'") == 1
    assert (await AdminBrowser(client).sign_in("boss")).status == 401
    assert (await AdminBrowser(client).sign_in("boss", password=NEW)).status == 303


@pytest.mark.parametrize(
    ("current", "new", "beside"),
    [
        ("wrong", NEW, "The password is not the account's."),
        (PASSWORD, "short", "Must have at least 8 characters."),
        (PASSWORD, "x" * 2049, "Must have at most"),
        (PASSWORD, "boss and more than that", "Must not hold the username"),
        (PASSWORD, "password123", "Must not be one of the passwords"),
        ("", "", "Must have at least 8 characters."),
    ],
)
async def test_what_is_wrong_stands_beside_its_field(
    client: Client, database_url: str, current: str, new: str, beside: str
) -> None:
    browser, boss = await signed_in(client, database_url)
    page = await browser.post(PATH, {"current_password": current, "new_password": new})
    assert page.status in (403, 422)
    assert beside in page.words
    if len(new) > 5:
        assert new not in page.text
    assert (await boss.get("/users/me")).status == 200


async def test_of_many_at_once_one_changes_it(client: Client, database_url: str) -> None:
    browser, _ = await signed_in(client, database_url)
    forms = [{"current_password": PASSWORD, "new_password": f"another good passphrase {number}"} for number in range(8)]
    SECRETS.update(form["new_password"] for form in forms)
    pages = await asyncio.gather(*(browser.post(PATH, form) for form in forms))
    assert all(page.status in (303, 422, 429) for page in pages), [page.status for page in pages]
    assert await count(database_url, "audit_events", "event = 'password-changed'") == 1
    assert await count(database_url, "sessions") == 0
