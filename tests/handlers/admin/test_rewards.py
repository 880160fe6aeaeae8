"""The pages of rewards: what they say, what they do, and that nothing is done twice."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from typing import Any

import pytest
import pytest_asyncio

from tests.conftest import Client
from tests.support.admin import AdminBrowser, Page, signed_in
from tests.support.admin_world import HOSTILE, LONG
from tests.support.people import UNKNOWN, Product
from tests.support.programme import Programme
from tests.support.rows import count

COUPON = {"kind": "coupon", "label": HOSTILE}


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


async def earned(programme: Programme, **rule: Any) -> dict[str, Any]:
    """The referrer's reward for a purchase."""
    await programme.rule(name=HOSTILE, **rule)
    await programme.come()
    answer = await programme.buy(event="order 1&2")
    return dict(answer.body["rewards"][0])


def hidden(page: Page, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found, page.text
    return unescape(found[1])


async def test_the_list_says_who_gets_what_for_what_and_why_it_waits(browser: AdminBrowser, programme: Programme) -> None:
    page = await browser.get("/admin/rewards")
    assert "There is no reward yet." in page.words
    await programme.admin.user("alice", name=HOSTILE)
    reward = await earned(programme, hold_days=7, approval="manual")
    await programme.give("carol", 250)
    page = await browser.get("/admin/rewards")
    assert page.status == 200
    assert HOSTILE in page.words
    assert "<b onclick" not in page.text
    assert "on hold until" in page.words
    assert "to be approved" in page.words
    assert "5.00 USD" in page.words
    assert f"/admin/rewards/{reward['id']}" in page.text
    assert "For the trouble" in page.words
    for query, found in (
        ({"status": "pending"}, 1),
        ({"status": "void"}, 0),
        ({"user": "ext:carol"}, 1),
        ({"user": reward["user_id"]}, 1),
        ({"rule": reward["rule"]["id"]}, 1),
        ({"event": "order 1&2"}, 1),
        ({"event": "order 1&2", "status": "approved"}, 0),
    ):
        page = await browser.get("/admin/rewards", params=query)
        assert page.text.count(">Open</a>") == found, query
        assert found or "No reward is as you look for it." in page.words


@pytest.mark.parametrize(
    "query",
    [
        {"status": "x"},
        {"user": UNKNOWN},
        {"user": "ext:nobody"},
        {"user": "nobody@example.com"},
        {"user": "a\0b@example.com"},
        {"user": "@\ud7ff"},
        {"user": "nobody"},
        {"user": LONG * 70},
        {"event": "\0"},
        {"rule": "x" * 200},
        {"cursor": "x" * 20},
        {"cursor": "WzEsICJcdTAwMDAiXQ=="},
    ],
)
async def test_a_bad_filter_is_named(browser: AdminBrowser, query: dict[str, str]) -> None:
    page = await browser.get("/admin/rewards", params=query)
    assert page.status == 422
    assert page.text.startswith("<!doctype html>")
    assert 'class="error"' in page.text or 'role="alert"' in page.text


async def test_the_list_goes_on_by_a_cursor(browser: AdminBrowser, programme: Programme) -> None:
    for _ in range(51):
        await programme.give("carol", 1)
    first = await browser.get("/admin/rewards", params={"user": "ext:carol"})
    assert first.text.count(">Open</a>") == 50
    found = re.search(r'href="([^"]*cursor=[^"]*)"', first.text)
    assert found
    rest = await browser.get(unescape(found[1]))
    assert rest.text.count(">Open</a>") == 1


async def test_a_page_of_one_reward_has_its_money_and_who_did_what(browser: AdminBrowser, programme: Programme) -> None:
    reward = await earned(programme)
    await programme.step(reward, "reverse", id="r1", amount=200, reason=LONG)
    page = await browser.get(f"/admin/rewards/{reward['id']}")
    assert page.status == 200
    assert "5.00 USD for alice" in page.words
    assert "Earned: it is in the user's balance." in page.words
    assert re.search(r"Taken back 2\.00 USD Rest 3\.00 USD", page.words)
    assert re.search(r"Taken back by hand Available Programme 2\.00 USD 3\.00 USD", page.words)
    assert "The key “ a admin key ” took back 2.00 USD" in page.words
    assert LONG in page.words
    assert "version 1" in page.words
    browser.language = "ru"
    assert "отозвано 2,00 USD" in (await browser.get(f"/admin/rewards/{reward['id']}")).words.replace("\xa0", " ")


async def test_a_decision_of_the_review_is_told_on_the_rewards_that_it_hit(
    browser: AdminBrowser, programme: Programme
) -> None:
    earlier = await earned(programme)
    await programme.rule("referee", hold_days=7)
    later = (await programme.buy(event="later")).body["rewards"]
    waiting = next(one for one in later if one["status"] == "pending")
    await programme.suspect()
    await programme.admin.post("/reviews/ext:bob/clear", {"reason": "A family"})
    own = f"/admin/rewards/{waiting['id']}"
    assert "cleared the referral , so that this reward waits for the review no more." in (await browser.get(own)).words
    await programme.suspect()
    await programme.admin.post("/reviews/ext:bob/reject", {"reason": HOSTILE})
    page = await browser.get(own)
    assert "The key “ a admin key ” rejected the referral , which made this reward void." in page.words
    assert f"Reason: {HOSTILE}" in page.words
    assert "<b onclick" not in page.text
    assert re.search(r'href="/admin/reviews/[^"]*">the referral<', page.text)
    page = await browser.get(f"/admin/rewards/{earlier['id']}")
    assert "rejected the referral , which took this reward back." in page.words
    assert "badge-reversed" in page.text
    assert "taken back It was earned, and all of it was taken back." in page.words
    assert "Nobody did anything to it by hand." not in page.words


@pytest.mark.parametrize("reward_id", [UNKNOWN, "x", "%00", "%F0%9F", "..%2f"])
async def test_a_reward_that_is_none_is_a_page(browser: AdminBrowser, reward_id: str) -> None:
    for path in ("", "/approve", "/reject", "/reverse", "/fulfil"):
        page = await browser.get(f"/admin/rewards/{reward_id}{path}")
        assert page.status in (400, 404)
        assert page.text.startswith("<!doctype html>")


async def test_an_approval_says_what_it_does_and_is_told_by_whom(browser: AdminBrowser, programme: Programme) -> None:
    reward = await earned(programme, hold_days=7, approval="manual")
    own = f"/admin/rewards/{reward['id']}"
    page = await browser.get(f"{own}/approve")
    assert "Its hold goes on" in page.words
    assert "0.00 USD now, 5.00 USD then" in page.words
    assert await programme.available("alice") == 0
    assert (await browser.post(f"{own}/approve")).location == f"{own}?said=reward-approved"
    assert (await programme.reward(reward["id"]))["waiting_for"] == ["hold"]
    assert (await browser.post(f"{own}/approve", {"now": "yes"})).status == 303
    assert await programme.available("alice") == 500
    words = (await browser.get(own)).words
    assert "boss@example.com approved it." in words
    assert "boss@example.com approved it, and ended its hold." in words
    assert (await browser.get(f"{own}/approve")).location == f"{own}?said=reward-moved-on"


async def test_a_rejection_wants_a_reason_and_the_second_sees_the_first(browser: AdminBrowser, programme: Programme) -> None:
    reward = await earned(programme, hold_days=7)
    own = f"/admin/rewards/{reward['id']}"
    assert "5.00 USD now, 0.00 USD then" in (await browser.get(f"{own}/reject")).words
    for reason in ("", " ", "x" * 501, "a\0b", "a\nb"):
        page = await browser.post(f"{own}/reject", {"reason": reason})
        assert page.status == 422
        assert 'id="reason-error"' in page.text
    token = (await browser.get(own)).form_token
    pages = await asyncio.gather(*(browser.post(f"{own}/reject", {"reason": HOSTILE}, token=token) for _ in range(8)))
    assert {page.status for page in pages} == {303}
    assert (await programme.reward(reward["id"]))["reason"] == HOSTILE
    page = await browser.post(f"{own}/approve")
    assert page.status == 409
    assert "Nothing was done." in page.words
    assert "boss@example.com rejected it." in page.words
    assert "<b onclick" not in page.text


async def test_a_reversal_pressed_twice_takes_once_and_names_the_debt(
    browser: AdminBrowser, programme: Programme, database_url: str
) -> None:
    reward = await earned(programme)
    await programme.redeem("alice", 400)
    own = f"/admin/rewards/{reward['id']}"
    page = await browser.get(f"{own}/reverse")
    assert "1.00 USD now, −4.00 USD then" in page.words
    assert "a debt of 4.00 USD" in page.words
    form = {"id": hidden(page, "id"), "amount": "2.50", "reason": "Paid twice"}
    pages = await asyncio.gather(*(browser.post(f"{own}/reverse", form, token=page.form_token) for _ in range(8)))
    assert {one.status for one in pages} == {303}
    assert await programme.available("alice") == -150
    assert await count(database_url, "audit_events", "event = 'reward-reversed'") == 1
    for amount in ("2.501", "-1", "x", "1e3", "", "9" * 40, "٣", "3"):
        refused = await browser.post(f"{own}/reverse", {**form, "id": "other", "amount": amount, "reason": ""})
        assert refused.status == 422, amount
        assert hidden(refused, "id") == "other"
    other = await browser.post(f"{own}/reverse", {**form, "amount": "1"})
    assert other.status == 409
    all_of_it = {"id": "the rest", "reason": "All"}
    assert (await browser.post(f"{own}/reverse", all_of_it)).status == 303
    assert (await programme.reward(reward["id"]))["status"] == "reversed"


async def test_a_coupon_is_noted_as_delivered(browser: AdminBrowser, programme: Programme) -> None:
    reward = await earned(programme, give=COUPON)
    own = f"/admin/rewards/{reward['id']}"
    assert HOSTILE in (await browser.get(f"{own}/fulfil")).words
    assert (await browser.post(f"{own}/fulfil", {"reference": "coupon 7"})).status == 303
    page = await browser.get(own)
    assert "boss@example.com noted that it was delivered." in page.words
    assert "coupon 7" in page.words
    assert (await browser.post(f"{own}/fulfil", {"reference": "coupon 8"})).status == 409


async def test_one_by_hand_is_shown_before_it_is_given_and_given_once(
    browser: AdminBrowser, programme: Programme, database_url: str
) -> None:
    await programme.admin.user("carol", email="carol@example.com", name=HOSTILE)
    page = await browser.get("/admin/rewards/new")
    form = {
        "id": hidden(page, "id"),
        "user": "carol@example.com",
        "kind": "balance",
        "amount": "4,50",
        "unit": "USD",
        "hold_days": "0",
        "reason": "For the trouble",
    }
    shown = await browser.post("/admin/rewards/new", form)
    assert shown.status == 200
    assert "4.50 USD" in shown.words
    assert "0.00 USD now, 4.50 USD then" in shown.words
    assert await count(database_url, "rewards") == 0
    sent = {name: hidden(shown, name) for name in form}
    pages = await asyncio.gather(*(browser.post("/admin/rewards", sent, token=shown.form_token) for _ in range(8)))
    assert {one.status for one in pages} == {303}
    assert len({one.location for one in pages}) == 1
    assert await programme.available("carol") == 450
    assert "boss@example.com gave it by hand." in (await browser.get(pages[0].location)).words
    other = await browser.post("/admin/rewards", {**sent, "amount": "5"})
    assert other.status == 409
    assert "used for something else" in other.words


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"user": ""}, "user"),
        ({"user": "ext:nobody"}, "user"),
        ({"user": "a\0"}, "user"),
        ({"amount": ""}, "amount"),
        ({"amount": "0"}, "amount"),
        ({"amount": "1.234"}, "amount"),
        ({"kind": "coupon"}, "label"),
        ({"kind": "x"}, "kind"),
        ({"hold_days": "-1"}, "hold_days"),
        ({"hold_days": "99999999"}, "hold_days"),
        ({"reason": LONG * 10}, "reason"),
        ({"reason": ""}, "reason"),
        ({"unit": "\0"}, "unit"),
        ({"label": "a\u202eb"}, "label"),
    ],
)
async def test_what_is_wrong_with_the_form_is_said_beside_it(
    browser: AdminBrowser, programme: Programme, wrong: dict[str, str], named: str
) -> None:
    await programme.admin.user("carol")
    form = {"id": "1", "user": "ext:carol", "kind": "balance", "amount": "4", "unit": "USD", "reason": "x", **wrong}
    for path in ("/admin/rewards/new", "/admin/rewards"):
        page = await browser.post(path, form)
        assert page.status == 422, page.words
        assert f'id="{named}-error"' in page.text, page.text
        assert hidden(page, "id") == "1"


async def test_nothing_is_given_to_whoever_is_suspended(browser: AdminBrowser, programme: Programme) -> None:
    await programme.admin.user("carol")
    await programme.admin.post("/users/ext:carol/suspend", {"reason": "x"})
    form = {"id": "1", "user": "ext:carol", "kind": "balance", "amount": "4", "unit": "USD", "reason": "x"}
    page = await browser.post("/admin/rewards", form)
    assert page.status in (403, 409)
    assert 'role="alert"' in page.text
