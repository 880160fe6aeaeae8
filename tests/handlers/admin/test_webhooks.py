"""Webhooks and their deliveries in the back office."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from markupsafe import escape

from referral.ids import new_id
from referral.rules import webhooks as rules
from tests.conftest import Client, Eventually, MakeClient
from tests.support.admin import AdminBrowser, Page, signed_in
from tests.support.admin_world import HOSTILE
from tests.support.hooks import LOOPBACK, Hook, add_changes, add_deliveries, ids, signed
from tests.support.people import SECRETS, UNKNOWN, Person, Product
from tests.support.receivers import Receiver, answer, running_receiver
from tests.support.rows import count, everything, is_at_rest, sql

AT_ONCE = 32
# What is done to a webhook by a page of its own.
STEPS = ("change", "enable", "disable", "rotate", "replay", "delete")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as running:
        yield running


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await make_client(**LOOPBACK)


@pytest.fixture
async def admin(client: Client) -> Product:
    return await Product.with_key(client, "admin")


@pytest.fixture
async def browser(client: Client, database_url: str) -> AdminBrowser:
    return (await signed_in(client, database_url))[0]


@pytest.fixture
async def hook(admin: Product, browser: AdminBrowser, receiver: Receiver, database_url: str, eventually: Eventually) -> Hook:
    # It is not told of the admin.
    assert browser
    await eventually(lambda: is_at_rest(database_url))
    return await Hook.make(admin, receiver.url())


def secret_on(page: Page) -> str:
    """The secret that a page shows."""
    found = re.search(r"whsec_[A-Za-z0-9+/=]+", page.text)
    assert found, page.words
    SECRETS.add(found[0])
    return found[0]


def of_form(page: Page, name: str) -> str:
    """What a hidden member of a page's form has."""
    found = re.search(rf'name="{name}" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


async def test_a_webhook_is_made_and_its_secret_is_shown_once(
    client: Client, browser: AdminBrowser, receiver: Receiver, database_url: str, eventually: Eventually
) -> None:
    assert "There is no webhook yet." in (await browser.get("/admin/webhooks")).words
    webhook_id = of_form(await browser.get("/admin/webhooks/new"), "webhook_id")
    form = {"webhook_id": webhook_id, "url": receiver.url(), "types/user.*": "on"}
    made = await browser.post("/admin/webhooks", form)
    assert made.status == 200
    assert made.headers["Cache-Control"] == "no-store"
    secret = secret_on(made)
    assert made.text.count(secret) == 1
    # The page is asked for again.
    again = await browser.post("/admin/webhooks", form)
    assert again.location == f"/admin/webhooks/{webhook_id}?said=webhook-made-before"
    assert await count(database_url, "webhooks") == 1
    for path in (again.location, "/admin/webhooks", f"/admin/webhooks/{webhook_id}/change"):
        page = await browser.get(path)
        assert page.status == 200
        assert "whsec_" not in page.text
    await Person.register(client, "alice")
    await eventually(lambda: len(receiver.seen) == 1)
    assert signed(receiver.seen[0], secret)["type"] == "user.created"
    ((name, detail),) = await sql(database_url, "SELECT event, detail FROM audit_events WHERE event LIKE 'webhook%'")
    assert name == "webhook-made"
    assert secret not in detail


async def test_one_form_that_is_sent_by_many_at_once_makes_one_webhook(
    browser: AdminBrowser, receiver: Receiver, database_url: str
) -> None:
    token = (await browser.get("/admin")).form_token
    form = {"webhook_id": new_id(), "url": receiver.url(), "types/*": "on"}
    pages = await asyncio.gather(*(browser.post("/admin/webhooks", form, token=token) for _ in range(AT_ONCE)))
    assert sorted(page.status for page in pages) == [200] + 31 * [303]
    assert await count(database_url, "webhooks") == 1
    assert await count(database_url, "audit_events", "event = 'webhook-made'") == 1


async def test_there_are_so_many_webhooks_and_no_more(
    browser: AdminBrowser, receiver: Receiver, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MOST_WEBHOOKS", 1)
    for status in (200, 409):
        form = {"webhook_id": new_id(), "url": receiver.url(), "types/*": "on"}
        assert (await browser.post("/admin/webhooks", form)).status == status
    assert await count(database_url, "webhooks") == 1


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({}, "Must be a text of"),
        ({"url": "https://shop.example.com/"}, "at least one type"),
        ({"url": "https://shop.example.com/", "types/nothing": "on"}, "at least one type"),
        ({"url": HOSTILE, "types/*": "on"}, ""),
        ({"url": "https://a\0b/", "types/*": "on"}, "printable"),
        ({"url": "https://" + "x" * 4000, "types/*": "on"}, "Must be a text of"),
        ({"url": "https://10.0.0.1/", "types/*": "on"}, "10.0.0.1"),
        ({"url": "ftp://shop.example.com/", "types/*": "on"}, ""),
    ],
)
async def test_what_is_wrong_with_a_webhook_stands_in_its_form(
    browser: AdminBrowser, database_url: str, hook: Hook, form: dict[str, str], told: str
) -> None:
    before = await everything(database_url)
    for path, more in (("/admin/webhooks", {"webhook_id": new_id()}), (f"/admin/webhooks/{hook.id}/change", {})):
        page = await browser.post(path, {**form, **more})
        assert page.status == 422, page.words
        assert told in page.words
        assert 'class="error"' in page.text or 'role="alert"' in page.text
        assert "<b onclick" not in page.text
        if "types/*" in form:
            assert 'name="types/*" value="on" checked' in page.text
    assert await everything(database_url) == before
    assert (await browser.post("/admin/webhooks", {"webhook_id": "x"})).status == 400


async def test_an_unknown_webhook_is_a_page(browser: AdminBrowser) -> None:
    for webhook_id in (UNKNOWN, "x", "%00", "%3Cb%3E"):
        for step in ("", *(f"/{step}" for step in STEPS), "/deliveries", f"/deliveries/{UNKNOWN}"):
            page = await browser.get(f"/admin/webhooks/{webhook_id}{step}")
            assert page.status == 404, step
            assert "There is no such webhook." in page.words
        for step in (*STEPS, "test", f"deliveries/{UNKNOWN}/retry"):
            assert (await browser.post(f"/admin/webhooks/{webhook_id}/{step}")).status == 404, step


async def test_a_test_says_what_the_receiver_answered(browser: AdminBrowser, hook: Hook, receiver: Receiver) -> None:
    path = f"/admin/webhooks/{hook.id}/test"
    page = await browser.post(path)
    assert "the receiver answered 200 in" in page.words
    assert signed(receiver.seen[0], hook.secret)["type"] == "ping"
    receiver.replies_with(answer(500, HOSTILE.encode()))
    page = await browser.post(path)
    assert "the receiver answered 500 in" in page.words
    assert "&lt;b onclick" in page.text
    assert "<b onclick" not in page.text
    await receiver.stop()
    assert "The test did not arrive" in (await browser.post(path)).words


async def test_a_webhook_is_changed_disabled_enabled_and_deleted_as_each_page_says(
    browser: AdminBrowser, hook: Hook, database_url: str, eventually: Eventually
) -> None:
    here = f"/admin/webhooks/{hook.id}"
    form = {"url": "https://127.0.0.1:1/other", "types/ping": "on", "types/reward.*": "on"}
    assert (await browser.post(f"{here}/change", form)).location == f"{here}?said=webhook-changed"
    assert (await hook.get())["url"] == "https://127.0.0.1:1/other"
    assert set((await hook.get())["types"]) == {"ping", "reward.*"}
    first = await add_changes(database_url, 3)
    await add_deliveries(database_url, hook.id, first, 3, due=4_000_000_000_000)
    words = (await browser.get(f"{here}/disable")).words
    assert "3 deliveries that wait are dropped." in words
    assert "https://127.0.0.1:1/other" in words
    assert (await browser.post(f"{here}/disable")).location == f"{here}?said=webhook-disabled"
    await eventually(lambda: hook.are(dropped=3))
    words = (await browser.get(here)).words
    assert "An admin disabled it." in words
    assert "enable the webhook, and replay" in words
    assert "disabled An admin disabled it." in (await browser.get("/admin/webhooks")).words
    # Somebody else has an old page.
    assert (await browser.get(f"{here}/replay")).status == 409
    form = {"since": "2020-01-01T00:00", "types/reward.*": "on"}
    assert (await browser.post(f"{here}/replay", form)).status == 409
    assert (await browser.post(f"{here}/disable")).location == f"{here}?said=webhook-disabled"
    assert (await browser.post(f"{here}/enable")).location == f"{here}?said=webhook-enabled"
    assert (await hook.get())["status"] == "enabled"
    assert "cannot be undone" in (await browser.get(f"{here}/delete")).words
    assert (await browser.post(f"{here}/delete")).location == "/admin/webhooks?said=webhook-deleted"
    assert (await browser.post(f"{here}/delete")).status == 404
    events = await sql(database_url, "SELECT event FROM audit_events WHERE event LIKE 'webhook-%' ORDER BY at, id")
    assert [event for (event,) in events] == ["webhook-made", *3 * ["webhook-changed"], "webhook-deleted"]


async def test_a_page_says_since_when_all_fails_and_until_when_it_may(
    browser: AdminBrowser, hook: Hook, database_url: str
) -> None:
    await sql(database_url, "UPDATE webhooks SET failing_since = 1767225600000")
    words = (await browser.get(f"/admin/webhooks/{hook.id}")).words
    assert "Everything has failed since 2026-01-01 00:00 UTC ." in words
    assert "until 2026-01-06 00:00 UTC , the webhook is disabled" in words
    assert "2026-01-01 00:00 UTC" in (await browser.get("/admin/webhooks")).words
    assert 'badge-failing">failing<' in (await browser.get("/admin/webhooks")).text
    assert "Webhooks in trouble 1" in (await browser.get("/admin")).words
    await sql(database_url, "UPDATE webhooks SET failing_since = NULL")
    assert "Webhooks in trouble 0" in (await browser.get("/admin")).words
    await hook.change(status="disabled")
    assert "Webhooks in trouble 1" in (await browser.get("/admin")).words
    await hook.change(status="enabled")
    await sql(database_url, "UPDATE webhooks SET failing_since = 1767225600000")
    assert 'value="2026-01-01T00:00"' in (await browser.get(f"/admin/webhooks/{hook.id}/replay")).text


async def test_a_rotation_that_is_sent_twice_leaves_the_receivers_secret_alone(
    browser: AdminBrowser, hook: Hook, receiver: Receiver, database_url: str
) -> None:
    here = f"/admin/webhooks/{hook.id}"
    asked = await browser.get(f"{here}/rotate")
    assert "For 24 hours both" in asked.words
    form, token = {"present": of_form(asked, "present")}, asked.form_token
    pages = await asyncio.gather(*(browser.post(f"{here}/rotate", form, token=token) for _ in range(AT_ONCE)))
    (shown,) = [page for page in pages if page.status == 200]
    assert shown.headers["Cache-Control"] == "no-store"
    secret = secret_on(shown)
    assert {page.location for page in pages if page is not shown} == {f"{here}?said=webhook-rotated-before"}
    assert (await browser.post(f"{here}/rotate", {})).location == f"{here}?said=webhook-rotated-before"
    await browser.post(f"{here}/test")
    signed(receiver.seen[0], secret, hook.secret)
    assert "the secret before that one ends at once" in (await browser.get(f"{here}/rotate")).words
    assert "It was rotated; the former one signs, too" in (await browser.get(here)).words
    assert await count(database_url, "audit_events", "event = 'webhook-rotated'") == 1


async def test_what_happened_is_replayed(
    client: Client, browser: AdminBrowser, hook: Hook, receiver: Receiver, eventually: Eventually
) -> None:
    await Person.register(client, "alice")
    await eventually(lambda: len(receiver.seen) == 1)
    here = f"/admin/webhooks/{hook.id}"
    for form, told in (
        ({"since": "yesterday", "types/*": "on"}, "RFC 3339"),
        ({"types/*": "on"}, "RFC 3339"),
        ({"since": HOSTILE + "\0", "types/*": "on"}, "RFC 3339"),
        ({"since": "2020-01-01T00:00"}, "at least one type"),
        ({"since": "2020-01-01T00:00", "types/user.*": "on"}, "at least one type"),
    ):
        page = await browser.post(f"{here}/replay", form)
        assert page.status == 422
        assert told in page.words
        assert "This will happen:" in page.words
    page = await browser.post(f"{here}/replay", {"since": "2020-01-01T00:00", "types/*": "on"})
    assert page.location == f"{here}?said=webhook-replayed"
    # The admin's own sign-up, too.
    await eventually(lambda: len(receiver.seen) == 3)
    assert ids(receiver).count(ids(receiver)[0]) == 2


async def test_deliveries_are_listed_by_state_and_page(
    browser: AdminBrowser, hook: Hook, database_url: str, eventually: Eventually
) -> None:
    await hook.change(status="disabled")
    await eventually(lambda: is_at_rest(database_url))
    first = await add_changes(database_url, 60)
    await add_deliveries(database_url, hook.id, first, 30, "delivered")
    await add_deliveries(database_url, hook.id, first + 30, 30, "failed")
    path = f"/admin/webhooks/{hook.id}/deliveries"
    seen: list[str] = []
    next_path: str | None = path
    while next_path:
        page = await browser.get(next_path)
        seen += re.findall(rf'{path}/([0-9a-f-]{{36}})"', page.text)
        found = re.search(r'rel="next" href="([^"]+)"', page.text)
        next_path = found[1].replace("&amp;", "&") if found else None
    assert len(seen) == 60
    assert seen == sorted(seen, reverse=True)
    page = await browser.get(f"{path}?status=failed")
    assert "Out of order" in page.words
    assert 'rel="next"' in page.text
    assert "There is no delivery in this state." in (await browser.get(f"{path}?status=waiting")).words
    for query in ("status=x", "status=%00", "cursor=x", "cursor=%00", "cursor=WzEsIlx1MDAwMCJd"):
        assert (await browser.get(f"{path}?{query}")).status == 422, query


async def test_a_delivery_says_what_was_sent_and_what_the_receiver_said(
    client: Client, admin: Product, browser: AdminBrowser, hook: Hook, receiver: Receiver, eventually: Eventually
) -> None:
    receiver.replies_with(answer(503, HOSTILE.encode()))
    user = await admin.user("42", name=HOSTILE, metadata={"note": "\u202e"})
    await eventually(lambda: len(receiver.seen) == 1)

    async def failed() -> bool:
        return bool([one for one in await hook.deliveries() if one["last_status"]])

    await eventually(failed)
    (delivery,) = await hook.deliveries()
    path = f"/admin/webhooks/{hook.id}/deliveries/{delivery['change_id']}"
    page = await browser.get(path)
    assert "It waits because 1 of 10 attempts failed. The next one is at" in page.words
    assert "503" in page.words
    assert "<b onclick" not in page.text
    assert "\u202e" not in page.text
    assert f'/admin/users/{user["id"]}"><bdi>{escape(HOSTILE)}</bdi>' in page.text
    receiver.replies_with(answer())
    assert (await browser.post(f"{path}/retry")).location == f"{path}?said=delivery-retried"
    await eventually(lambda: hook.are(delivered=1))
    page = await browser.get(path)
    assert "The receiver took it at" in page.words
    assert "503" in page.words
    await hook.change(status="disabled")
    page = await browser.get(path)
    assert "enable the webhook first" in page.words
    assert "/retry" not in page.text
    refused = await browser.post(f"{path}/retry")
    assert refused.status == 409
    assert "The webhook is disabled" in refused.words
