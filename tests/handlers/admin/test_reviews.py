"""The pages of reviews and blocks: the queue, the evidence, and that a rejection does exactly what its page has said."""

from __future__ import annotations

import asyncio
import re
from html import unescape

import pytest
import pytest_asyncio

from referral.ids import new_id
from tests.conftest import Client
from tests.support.admin import AdminBrowser, Page, signed_in
from tests.support.admin_world import HOSTILE, LONG
from tests.support.people import UNKNOWN, Product
from tests.support.programme import Programme
from tests.support.rows import count, sql

REASON = "One person, two accounts"


@pytest.fixture(params=["sqlite"])
def engine(request: pytest.FixtureRequest) -> str:
    """The statements are the API's, and tests/database looks at those of the pages on both."""
    return str(request.param)


@pytest_asyncio.fixture
async def browser(client: Client, database_url: str) -> AdminBrowser:
    found, _ = await signed_in(client, database_url)
    return found


@pytest_asyncio.fixture
async def programme(client: Client) -> Programme:
    return Programme(await Product.with_key(client, "admin"))


async def suspected(programme: Programme, referee: str = "bob") -> str:
    """A referral that earned something for either side, and is under review; returns the path of its page."""
    if not programme.codes:
        await programme.rule()
        await programme.rule("referee", hold_days=7)
    await programme.come(referee)
    await programme.buy(referee=referee)
    await programme.suspect(referee, note=HOSTILE)
    return f"/admin/reviews/{(await programme.admin.get(f'/users/ext:{referee}')).body['id']}"


def seen(page: Page) -> str:
    found = re.search(r'name="seen" value="([0-9a-f]{64})"', page.text)
    assert found, page.text
    return found[1]


async def test_who_has_waited_longest_is_on_top(browser: AdminBrowser, programme: Programme, database_url: str) -> None:
    assert "No referral waits for a review." in (await browser.get("/admin/reviews")).words
    for number, name in enumerate(("bob", "carol", "dave")):
        own = await suspected(programme, name)
        await sql(database_url, f"UPDATE reviews SET opened_at = {1000 - number} WHERE user_id = '{own[-36:]}'")
    page = await browser.get("/admin/reviews")
    assert page.words.index("dave") < page.words.index("carol") < page.words.index("bob")
    assert page.words.count("Reported by somebody") == 3
    assert page.words.count(f"Reported by somebody: {HOSTILE}") == 3
    assert "<b onclick" not in page.text
    assert "Whoever has waited longest comes first, whatever the score." in page.words
    assert "5.00 USD" in page.words
    assert "badge-overdue" in page.text
    for status, found in (("open", 3), ("cleared", 0), ("rejected", 0), ("all", 3)):
        page = await browser.get("/admin/reviews", params={"status": status})
        assert page.text.count(">Look</a>") == found
    browser.language = "ru"
    assert "Поступило сообщение" in (await browser.get("/admin/reviews")).words


@pytest.mark.parametrize("query", [{"status": "x"}, {"status": "\0"}, {"cursor": "x"}, {"cursor": "x" * 20}])
async def test_a_bad_filter_is_a_page(browser: AdminBrowser, query: dict[str, str]) -> None:
    page = await browser.get("/admin/reviews", params=query)
    assert page.status in (404, 422)
    assert page.text.startswith("<!doctype html>")


async def test_the_evidence_is_told_and_what_a_rejection_would_undo(browser: AdminBrowser, programme: Programme) -> None:
    own = await suspected(programme)
    await programme.admin.user("alice", name=HOSTILE, email="alice@alices-shop.com")
    await programme.admin.user("bob", email="bob@bobs-shop.com")
    await programme.redeem("alice", 400)
    page = await browser.get(own)
    assert page.status == 200
    assert "Reported by somebody 50" in page.words
    assert HOSTILE in page.words
    assert "<b onclick" not in page.text
    assert "5.00 USD 0.00 USD 0.00 USD 0.00 USD" in page.words.replace("\xa0", " ")
    assert "1.00 USD −4.00 USD a debt" in page.words.replace("\xa0", " ")
    # The referrer came by nobody: a block of their own address or id would count against nobody.
    offered = re.findall(r"/admin/blocks/new\?kind=([a-z-]+)&amp;value=([^\"]*)", page.text)
    assert offered == [
        ("email", "bob%40bobs-shop.com"),
        ("email-domain", "bobs-shop.com"),
        ("external-id", "bob"),
        ("email-domain", "alices-shop.com"),
    ]


@pytest.mark.parametrize("referee", [UNKNOWN, "x", "%00", "%F0%9F", "ext:bob"])
async def test_a_review_that_is_none_is_a_page(browser: AdminBrowser, referee: str) -> None:
    for path in ("", "/clear", "/reject", "/report"):
        page = await browser.get(f"/admin/reviews/{referee}{path}")
        assert page.status in (400, 404)
        assert page.text.startswith("<!doctype html>")


async def test_a_rejection_does_what_its_page_has_said_once(
    browser: AdminBrowser, programme: Programme, database_url: str
) -> None:
    own = await suspected(programme)
    await programme.redeem("alice", 400)
    page = await browser.get(f"{own}/reject")
    assert "1 reward that waits becomes void." in page.words
    assert "1 reward that was earned is taken back." in page.words
    assert "1.00 USD −4.00 USD" in page.words.replace("\xa0", " ")
    assert 'class="button danger">Reject the referral<' in page.text
    assert 'class="button primary">Clear the referral<' in (await browser.get(f"{own}/clear")).text
    form = {"reason": REASON, "seen": seen(page)}
    pages = await asyncio.gather(*(browser.post(f"{own}/reject", form, token=page.form_token) for _ in range(8)))
    assert {one.location for one in pages} == {f"{own}?said=review-rejected"}
    assert await programme.available("alice") == -400
    assert (await programme.balance("bob"))["pending"] == 0
    assert await count(database_url, "audit_events", "event = 'review-rejected'") == 1
    words = (await browser.get(own)).words.replace("\xa0", " ")
    assert "Decided by boss@example.com at" in words
    assert REASON in words
    assert "taken back from the balance 5.00 USD −4.00 USD a debt" in words
    assert "void: it was not earned yet 5.00 USD –" in words
    assert "Reject the referral …" not in words
    rejected = (await browser.get("/admin/reviews", params={"status": "rejected"})).words.replace("\xa0", " ")
    assert "Never earned Taken back" in rejected
    assert "50 5.00 USD 5.00 USD rejected" in rejected
    every = (await browser.get("/admin/reviews", params={"status": "all"})).words.replace("\xa0", " ")
    assert "50 5.00 USD void 5.00 USD taken back rejected" in every


async def test_a_rejected_coupon_is_counted(browser: AdminBrowser, programme: Programme) -> None:
    await programme.rule("referee", give={"kind": "coupon", "label": "A month"})
    await suspected(programme)
    await programme.decide("reject")
    page = await browser.get("/admin/reviews", params={"status": "rejected"})
    assert "1 coupon or the like" in page.words


async def test_after_a_rejection_both_can_be_suspended(browser: AdminBrowser, programme: Programme) -> None:
    own = await suspected(programme)
    assert "The account of bob, who came, stays as it is." in (await browser.get(f"{own}/reject")).words.replace(" ,", ",")
    await programme.decide("reject")
    page = await browser.get(own)
    assert "A rejection leaves the accounts as they are" in page.words
    assert f"/admin/users/{own[-36:]}/suspend" in page.text
    assert "Suspend the referrer …" in page.words
    await programme.admin.post("/users/ext:alice/suspend", {"reason": "One person"})
    page = await browser.get(own)
    assert "Suspend who came …" in page.words
    assert "Suspend the referrer …" not in page.words
    await programme.admin.post("/users/ext:bob/suspend", {"reason": "One person"})
    assert "Nothing more: both accounts are suspended, or erased." in (await browser.get(own)).words


async def test_a_clearing_does_what_its_page_has_said(browser: AdminBrowser, programme: Programme) -> None:
    own = await suspected(programme)
    page = await browser.get(f"{own}/clear")
    assert "1 reward is earned as soon as nothing else holds it back." in page.words
    assert "Nothing is paid" not in page.words
    await programme.rule(times=None)
    await programme.buy()
    page = await browser.get(f"{own}/clear")
    assert "1 reward is earned within seconds." in page.words
    assert "alice 5.00 USD within seconds" in page.words.replace("\xa0", " ")
    assert "bob 5.00 USD on hold until" in page.words.replace("\xa0", " ")
    browser.language = "ru"
    assert "1 награда поступит через несколько секунд." in (await browser.get(f"{own}/clear")).words


async def test_a_rejection_that_would_do_something_else_by_now_is_shown_anew(
    browser: AdminBrowser, programme: Programme
) -> None:
    own = await suspected(programme)
    form = {"reason": REASON, "suspend": "yes", "seen": seen(await browser.get(f"{own}/reject"))}
    await programme.redeem("alice", 400)
    page = await browser.post(f"{own}/reject", form)
    assert page.status == 409
    assert "has changed meanwhile" in page.words
    assert REASON in page.text
    assert await programme.available("alice") == 100
    for stale in ("", "x", form["seen"]):
        assert (await browser.post(f"{own}/reject", {**form, "seen": stale})).status == 409
    assert (await browser.post(f"{own}/reject", {**form, "seen": seen(page)})).status == 303
    assert (await programme.admin.get("/users/ext:alice")).body["status"] == "suspended"
    assert "The referrer was suspended with it." in (await browser.get(own)).words


async def test_the_second_who_decides_sees_what_the_first_did(
    client: Client, browser: AdminBrowser, programme: Programme, database_url: str
) -> None:
    other, _ = await signed_in(client, database_url, "other")
    own = await suspected(programme)
    rejection = {"reason": REASON, "seen": seen(await other.get(f"{own}/reject"))}
    assert (await browser.post(f"{own}/clear", {"reason": "A family"})).location == f"{own}?said=review-cleared"
    page = await other.post(f"{own}/reject", rejection)
    assert page.status == 409
    assert "Nothing was done. The referral was cleared by boss" in page.words
    assert "A family" in page.words
    assert (await other.get(f"{own}/reject")).location == f"{own}?said=review-decided"
    assert await programme.available("alice") == 500


async def test_whoever_is_demoted_meanwhile_decides_nothing(
    client: Client, browser: AdminBrowser, programme: Programme, database_url: str
) -> None:
    own = await suspected(programme)
    page = await browser.get(f"{own}/reject")
    await sql(database_url, "UPDATE users SET role = 'user' WHERE username = 'boss'")
    form = {"reason": REASON, "seen": seen(page)}
    for path in ("reject", "clear", "report"):
        refused = await browser.post(f"{own}/{path}", form, token=page.form_token)
        assert refused.status == 403
    assert (await programme.review())["status"] == "open"


async def test_a_decision_wants_a_reason(browser: AdminBrowser, programme: Programme) -> None:
    own = await suspected(programme)
    for reason in ("", " ", "x" * 501, "a\0b", "a\nb"):
        for decision in ("clear", "reject"):
            page = await browser.post(f"{own}/{decision}", {"reason": reason})
            assert page.status == 422
            assert 'id="reason-error"' in page.text
    assert (await programme.review())["status"] == "open"


async def test_a_report_counts_and_leads_to_the_review(browser: AdminBrowser, programme: Programme) -> None:
    await programme.come()
    user_id = (await programme.admin.get("/users/ext:bob")).body["id"]
    path = f"/admin/reviews/{user_id}/report"
    assert "bob came by alice" in (await browser.get(path)).words
    first = await browser.post(path, {"weight": "20", "note": LONG, "report_id": new_id()})
    assert first.location == f"/admin/users/{user_id}?said=referral-reported"
    second = await browser.post(path, {"weight": "30", "note": HOSTILE, "report_id": new_id()})
    assert second.location == f"/admin/reviews/{user_id}?said=referral-reported"
    for wrong in ({"weight": "0"}, {"weight": "1001"}, {"weight": "x"}, {"weight": "٣"}, {"note": ""}, {"note": "\0"}):
        page = await browser.post(path, {"weight": "1", "note": "x", "report_id": new_id(), **wrong})
        assert page.status == 422
        assert f'id="{next(iter(wrong))}-error"' in page.text
    alice = (await programme.admin.get("/users/ext:alice")).body["id"]
    assert (await browser.get(f"/admin/reviews/{alice}/report")).status == 404


async def test_a_report_that_is_sent_many_times_counts_once(
    browser: AdminBrowser, programme: Programme, database_url: str
) -> None:
    await programme.come()
    user_id = (await programme.admin.get("/users/ext:bob")).body["id"]
    path = f"/admin/reviews/{user_id}/report"
    [report_id] = re.findall(r'name="report_id" value="([^"]+)"', (await browser.get(path)).text)
    form = {"weight": "20", "note": "Seen twice", "report_id": report_id}
    sent = await asyncio.gather(*(browser.post(path, form) for _ in range(32)))
    # Three of them would open a review.
    assert {page.location for page in sent} == {f"/admin/users/{user_id}?said=referral-reported"}
    assert await count(database_url, "signals", "kind = 'reported'") == 1
    assert await count(database_url, "audit_events", "event = 'referral-reported'") == 1
    for wrong in ("", "x", "\0"):
        assert (await browser.post(path, {**form, "report_id": wrong})).status == 400


async def test_blocks_are_made_listed_and_deleted(browser: AdminBrowser, programme: Programme, database_url: str) -> None:
    await programme.come()
    await programme.admin.user("bob", email="Bob@Example.com")
    assert "Nothing is blocked." in (await browser.get("/admin/blocks")).words
    page = await browser.get("/admin/blocks/new", params={"kind": "email", "value": HOSTILE})
    assert HOSTILE in unescape(page.text)
    assert "<b onclick" not in page.text
    form = {"kind": "email", "value": " BOB@example.com ", "note": HOSTILE}
    for _ in range(2):
        assert (await browser.post("/admin/blocks", form)).location == "/admin/blocks?said=block-made"
    assert (await programme.review())["kinds"] == ["blocked"]
    assert await count(database_url, "audit_events", "event = 'block-made'") == 1
    page = await browser.get("/admin/blocks")
    assert f"e-mail address bob@example.com {HOSTILE}" in page.words
    found = re.search(r'href="([^"]*/admin/blocks/delete[^"]*)"', page.text)
    assert found
    assert "What it has made suspicious stays so" in (await browser.get(unescape(found[1]))).words
    gone = {"kind": "email", "value": "bob@example.com"}
    assert (await browser.post("/admin/blocks/delete", gone)).location == "/admin/blocks?said=block-deleted"
    assert (await browser.post("/admin/blocks/delete", gone)).status == 404


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"kind": "x"}, "kind"),
        ({"kind": ""}, "kind"),
        ({"value": ""}, "value"),
        ({"value": "no address"}, "value"),
        ({"value": "\0"}, "value"),
        ({"value": LONG * 70}, "value"),
        ({"note": "\0"}, "note"),
        ({"note": "x" * 501}, "note"),
    ],
)
async def test_what_cannot_be_blocked_is_said_beside_it(browser: AdminBrowser, wrong: dict[str, str], named: str) -> None:
    form = {"kind": "email", "value": "mallory@example.com", **wrong}
    page = await browser.post("/admin/blocks", form)
    assert page.status == 422
    assert f'id="{named}-error"' in page.text
    assert (await browser.get("/admin/blocks", params={"cursor": "x" * 30})).status == 422
    for gone in ({"kind": "x", "value": "1"}, {"kind": "email", "value": "\0"}, {"kind": "external-id", "value": HOSTILE}):
        assert (await browser.get("/admin/blocks/delete", params=gone)).location == "/admin/blocks?said=block-deleted"
        assert (await browser.post("/admin/blocks/delete", gone)).status == 404
