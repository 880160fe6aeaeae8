"""The outbox in the back office."""

from __future__ import annotations

from typing import get_args

import pytest

from referral.queries.outbox import MailKind
from referral.web.admin_words import MAILS
from tests.conftest import MakeClient
from tests.support.admin import AdminBrowser, signed_in
from tests.support.people import UNKNOWN
from tests.support.rows import count, sql

MAIL = (
    "INSERT INTO outbox (id, kind, user_id, recipient, language, params, created_at, next_attempt_at, failed_at, "
    "last_error) VALUES "
)
FAILED, WAITING = "01a21a60-625a-71e1-9e6a-f2c806c82841", "01a21a60-625a-71e1-9e6a-f2c806c82842"


@pytest.fixture
async def browser(make_client: MakeClient, database_url: str) -> AdminBrowser:
    # Nobody takes mail there.
    client = await make_client(mail_url="smtp://127.0.0.1:9")
    browser, _ = await signed_in(client, database_url)
    await sql(database_url, "DELETE FROM outbox")
    return browser


def test_every_kind_of_mail_has_its_words() -> None:
    assert set(MAILS) == {f"mail-{kind}" for kind in get_args(MailKind)}


async def test_what_waits_and_what_failed_is_listed_and_sent(browser: AdminBrowser, database_url: str) -> None:
    assert "What was sent is not kept." in (await browser.get("/admin/outbox")).words
    far = 4_000_000_000_000
    await sql(
        database_url,
        f"{MAIL}('{FAILED}', 'verify-email', (SELECT max(id) FROM users), 'alice@example.com', 'en', '{{}}', 1, 1, 2, "
        "'550 <b onclick=x>no such box'), "
        f"('{WAITING}', 'reset-password', NULL, 'bob@example.com', 'en', '{{}}', 3, {far}, NULL, NULL)",
    )
    page = await browser.get("/admin/outbox")
    assert "a***@example.com" in page.words
    assert "alice@" not in page.text
    assert "550 <b onclick=x>no such box" in page.words
    assert "<b onclick" not in page.text
    assert "set a new password" not in (await browser.get("/admin/outbox?status=failed")).words
    assert "verify an e-mail address" not in (await browser.get("/admin/outbox?status=waiting")).words
    assert (await browser.post(f"/admin/outbox/{FAILED}/retry")).location == "/admin/outbox?said=mail-retried"
    assert await count(database_url, "outbox", "failed_at IS NOT NULL") == 0
    assert await count(database_url, "audit_events", "event = 'mail-retried'") == 1
    assert "There is no mail in this state." in (await browser.get("/admin/outbox?status=failed")).words


async def test_what_is_asked_for_badly_is_a_page(browser: AdminBrowser) -> None:
    for query in ("status=sent", "status=%00", "cursor=x"):
        assert (await browser.get(f"/admin/outbox?{query}")).status == 422
    for mail_id in (UNKNOWN, "x", "%00"):
        assert (await browser.post(f"/admin/outbox/{mail_id}/retry")).status == 404
