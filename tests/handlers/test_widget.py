"""The widget on a product's pages, in a real browser: of another origin than the service's, under a policy that names the
service alone."""

from __future__ import annotations

import asyncio
import itertools
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from iso4217 import Currency
from playwright.async_api import Browser, Locator, Page, Route, expect

from tests.support.browsing import ProductPages, Visit, axe, chromium, until, visiting
from tests.support.people import API
from tests.support.service import ROOT, run_py, serving

# One worker runs them all: one browser and one service are enough.
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.asyncio(loop_scope="module")]

WIDGET = ROOT / "referral" / "assets" / "widget.js"
LARGEST = 10_240
SERVICE_ALONE = "default-src 'none'; script-src {0}; connect-src {0}; img-src {0}"
UNITS = "POINTS:0 CREDIT:2 PTS:1"
IN_BOTH_LANGUAGES = pytest.mark.parametrize("lang", ["en", "ru"])


class Shop:
    """A product: its back end, which calls the service by a key, and its pages."""

    def __init__(self, address: str, key: str, session: ClientSession) -> None:
        self.address = address
        self.pages = ProductPages(SERVICE_ALONE.format(address))
        self._key = key
        self._session = session
        self._numbers = itertools.count(1)

    async def call(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        headers = {"Authorization": f"Bearer {token or self._key}"}
        async with self._session.request(method, f"{self.address}{API}{path}", json=body, headers=headers) as response:
            assert response.status < 300, await response.text()
            return await response.json() if response.content_type == "application/json" else None

    async def user(self, name: str, **members: Any) -> str:
        """Make a user, and return a token for their browser."""
        await self.call("PUT", f"/users/ext:{name}", members)
        made = await self.call("POST", f"/users/ext:{name}/token", {})
        return str(made["access_token"])

    async def referrer(self, name: str, **members: Any) -> tuple[str, str]:
        """The token and the code of a new user."""
        token = await self.user(name)
        made = await self.call("POST", f"/users/ext:{name}/codes", {"ttl_days": 30, **members})
        return token, str(made["code"])

    async def report(self, kind: str, user: str, **members: Any) -> None:
        body = {"id": f"{kind} {next(self._numbers)}", "type": kind, "user": {"external_id": user}, **members}
        await self.call("POST", "/events", body)

    async def give(self, user: str, unit: str = "", amount: int = 0, **members: Any) -> str:
        """Give a reward by hand: a balance, or what the members say. Its id comes back."""
        value = {"kind": "balance", "value": {"unit": unit, "amount": amount}} if unit else {"kind": "coupon"}
        body = {"id": f"given {next(self._numbers)}", "user": {"external_id": user}, "reason": "For the trouble", **value}
        made = await self.call("POST", "/rewards", {**body, **members})
        return str(made["id"])

    def put_up(self, path: str, *widgets: dict[str, str], lang: str = "en", script: str = "") -> None:
        """A page with widgets of these attributes."""
        tags = ""
        for widget in widgets:
            attributes = " ".join(f'{name}="{escape(value)}"' for name, value in widget.items())
            tags += f"<referral-widget {attributes}></referral-widget>"
        script = script or f'<script src="{self.address}/widget.js" defer></script>'
        html = f'<!doctype html><html lang="{lang}"><meta charset="utf-8"><title>Account</title>'
        self.pages.pages[path] = f"{html}{script}<main><h1>Account</h1>{tags}</main></html>"


@asynccontextmanager
async def opened_shop(folder: Path) -> AsyncIterator[Shop]:
    made = subprocess.run(
        [*run_py(folder), "keys", "create", "shop", "--scope", "admin"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    pages = ProductPages()
    settings = {
        "REFERRAL_SERVER_CORS_ORIGINS": pages.address,
        "REFERRAL_LINKS_DESTINATION": "https://shop.example.com/join",
        # Another host than the service's: nobody asks it for anything.
        "REFERRAL_LINKS_BASE": "https://go.example.com",
        "REFERRAL_REWARDS_UNITS": "USD,JPY,HUF,KWD,POINTS:0,CREDIT:2,PTS:1",
        "REFERRAL_AUTH_UNVERIFIED": "full",
        "REFERRAL_LIMITS_ENABLED": "false",
    }
    with serving(folder, **settings) as address:
        async with ClientSession() as session:
            shop = Shop(address, made.stdout.strip(), session)
            shop.pages.address, shop.pages.port = pages.address, pages.port
            async with shop.pages.open():
                yield shop


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    async with opened_shop(tmp_path_factory.mktemp("widget")) as shop:
        yield shop


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def visit(browser: Browser, shop: Shop) -> AsyncIterator[Visit]:
    """A visit that must end without a complaint."""
    async with visiting(browser, shop.pages.address, shop.address, timezone_id="Europe/Berlin", locale="en-US") as found:
        yield found


def parts(page: Page, name: str) -> Locator:
    """The pieces of the widgets that have this name."""
    return page.locator(f"[part~={name}]")


async def rows(page: Page, section: str) -> list[tuple[str, str, str]]:
    """The name, the detail and the status of each row of a list."""
    found = []
    for item in await parts(page, section).locator("[part=item]").all():
        name, detail, status = [await item.locator(tag).inner_text() for tag in ("bdi", "small", "span")]
        found.append((name.replace("\xa0", " "), detail.replace("\xa0", " "), status))
    return found


async def opened(visit: Visit, path: str) -> Page:
    """The page at a path of the shop's, once its widgets show what there is."""
    await visit.page.goto(f"{visit.address}{path}")
    await expect(parts(visit.page, "invite").first).to_be_visible()
    return visit.page


@asynccontextmanager
async def held_back(page: Page, pattern: str) -> AsyncIterator[None]:
    """Requests like this have no answer before the block ends."""
    over = asyncio.Event()

    async def hold(route: Route) -> None:
        await over.wait()
        await route.continue_()

    await page.route(pattern, hold)
    yield
    over.set()
    await page.unroute_all(behavior="wait")


async def see(image: Locator) -> None:
    """Wait for a picture, which must have arrived whole."""
    async with asyncio.timeout(15):
        while not await image.evaluate("image => image.complete && image.naturalWidth > 0"):
            await asyncio.sleep(0.02)


async def befriend(shop: Shop, user: str, code: str, **members: Any) -> None:
    """Let somebody come by a code."""
    await shop.report("signup", user, code=code)
    await shop.call("PUT", f"/users/ext:{user}", members)


async def test_the_script_is_small() -> None:
    assert len(WIDGET.read_bytes()) <= LARGEST


# What is shown

NAMES = {"en": "Somebody", "ru": "Кто-то"}
LABELS = {
    "en": ("Invite friends", "Your link", "QR code of your link"),
    "ru": ("Пригласите друзей", "Ваша ссылка", "QR-код ссылки"),
}
HEADINGS = {"en": ["Invite friends", "4 friends joined", "Rewards"], "ru": ["Пригласите друзей", "4 друга", "Награды"]}
STATUSES = {
    "en": {"joined": "Joined", "converted": "Qualified", "ended": "Left"},
    "ru": {"joined": "С нами", "converted": "Засчитано", "ended": "Не с нами"},
}
REWARDS = {
    "en": [
        ("A month", "awaits approval", "Pending"),
        ("$2.00", "", "Taken back"),
        ("$3.00", "", "Cancelled"),
        ("A mug · $7.50", "", "Delivered"),
        ("$9.80", "until ", "Pending"),
        ("$12.50", "", "Earned"),
    ],
    "ru": [
        ("A month", "ждёт одобрения", "Ожидает"),
        ("2,00 $", "", "Отозвано"),
        ("3,00 $", "", "Отменено"),
        ("A mug · 7,50 $", "", "Выдано"),
        ("9,80 $", "до ", "Ожидает"),
        ("12,50 $", "", "Начислено"),
    ],
}
BALANCES = {"en": "$12.50 available Pending: $9.80", "ru": "12,50 $ доступно Ожидает: 9,80 $"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alice(shop: Shop) -> tuple[str, str]:
    """The token and the code of somebody who has everything."""
    token, code = await shop.referrer("alice")
    rule = {"name": "A trial", "on": "trial", "to": "referrer", "approval": "manual", "hold_days": 0}
    await shop.call("POST", "/rules", {**rule, "give": {"kind": "coupon", "label": "A month"}})
    await befriend(shop, "gone", code)
    await befriend(shop, "nameless", code)
    await befriend(shop, "bob", code, username="bob")
    await befriend(shop, "carol", code, username="carol", name="Carol Archer")
    await shop.call("DELETE", "/users/ext:gone")
    await shop.report("purchase", "carol", value={"unit": "USD", "amount": 4900})
    await shop.give("alice", "USD", 1250, hold_days=0)
    await shop.give("alice", "USD", 980, hold_days=14)
    mug = await shop.give("alice", kind="coupon", label="A mug", value={"unit": "USD", "amount": 750}, hold_days=0)
    await shop.call("POST", f"/rewards/{mug}/fulfil", {})
    void = await shop.give("alice", "USD", 300, hold_days=14)
    await shop.call("POST", f"/rewards/{void}/reject", {"reason": "A mistake"})
    reversed_one = await shop.give("alice", "USD", 200, hold_days=0)
    await shop.call("POST", f"/rewards/{reversed_one}/reverse", {"id": "reversal", "reason": "A mistake"})
    await shop.report("trial", "bob")
    return token, code


@IN_BOTH_LANGUAGES
async def test_everything_is_shown(visit: Visit, shop: Shop, alice: tuple[str, str], lang: str) -> None:
    token, code = alice
    shop.put_up(f"/all-{lang}", {"token": token, "limit": "10"}, lang=lang)
    page = await opened(visit, f"/all-{lang}")
    title, label, alt = LABELS[lang]
    assert await page.locator("h2, h3").all_inner_texts() == HEADINGS[lang]
    await expect(page.get_by_role("heading", name=title, level=2)).to_be_visible()
    link = page.get_by_label(label)
    await expect(link).to_have_value(f"https://go.example.com/r/{code}")
    assert not await link.is_editable()
    image = page.get_by_role("img", name=alt)
    assert await image.get_attribute("src") == f"{shop.address}/r/{code}/qr.svg"
    await see(image)

    joined = (await shop.call("GET", "/users/me/referrals", token=token))["items"]
    show_date = f"time => new Date(time).toLocaleDateString('{lang}', {{dateStyle: 'medium', timeZone: 'Europe/Berlin'}})"
    dates = {one["joined_at"]: (await page.evaluate(show_date, one["joined_at"])).replace("\xa0", " ") for one in joined}
    assert await rows(page, "referrals") == [
        (one["name"] or one["username"] or NAMES[lang], dates[one["joined_at"]], STATUSES[lang][one["status"]])
        for one in joined
    ]
    assert sorted(one["status"] for one in joined) == ["converted", "ended", "joined", "joined"]

    given = (await shop.call("GET", "/users/me/rewards", token=token))["items"]
    found = await rows(page, "rewards")
    assert [(name, status) for name, _, status in found] == [(name, status) for name, _, status in REWARDS[lang]]
    for (_, detail, _), (_, expected, _), one in zip(found, REWARDS[lang], given, strict=True):
        waits = one["waiting_for"]
        moment = await page.evaluate(show_date, one["release_at"] if waits else one["created_at"])
        shown = expected if waits == ["approval"] else expected + moment.replace("\xa0", " ")
        assert detail == shown
    await expect(parts(page, "balance")).to_have_count(1)
    assert " ".join((await parts(page, "balance").inner_text()).replace("\xa0", " ").split()) == BALANCES[lang]
    await visit.keep(f"widget-{lang}")


async def test_dates_are_those_of_the_browsers_zone(browser: Browser, shop: Shop) -> None:
    answer = {"total": 1, "next_cursor": None, "items": [friend_of("Bob", joined_at="2026-03-04T23:30:00Z")]}
    shop.put_up("/zones", {"token": await shop.user("zones")})
    for zone, date in (("Pacific/Auckland", "Mar 5, 2026"), ("America/New_York", "Mar 4, 2026")):
        async with visiting(browser, shop.pages.address, shop.address, timezone_id=zone) as found:
            await found.page.route("**/users/me/referrals*", answering(answer))
            page = await opened(found, "/zones")
            assert [detail for _, detail, _ in await rows(page, "referrals")] == [date]


def friend_of(name: str | None, **members: Any) -> dict[str, Any]:
    known = {"id": "1", "name": name, "username": None, "status": "joined", "joined_at": "2026-01-01T00:00:00Z"}
    return {**known, **members}


def answering(document: Any) -> Callable[[Route], Any]:
    """What answers a request with this document, as the service would for these pages."""

    async def answer(route: Route) -> None:
        response = await route.fetch()
        await route.fulfill(response=response, json=document)

    return answer


@pytest.mark.parametrize(
    ("lang", "count", "heading"),
    [
        ("en", 1, "1 friend joined"),
        ("en", 1_234, "1,234 friends joined"),
        ("ru", 1, "1 друг"),
        ("ru", 3, "3 друга"),
        ("ru", 5, "5 друзей"),
        ("ru", 21, "21 друг"),
    ],
)
async def test_counts_have_plural_forms(visit: Visit, shop: Shop, lang: str, count: int, heading: str) -> None:
    shop.put_up("/plurals", {"token": await shop.user("plurals")}, lang=lang)
    answer = {"total": count, "next_cursor": None, "items": [friend_of("Bob")]}
    await visit.page.route("**/users/me/referrals*", answering(answer))
    page = await opened(visit, "/plurals")
    await expect(page.get_by_role("heading", level=3)).to_have_text(heading)


async def test_a_reward_may_wait_for_several_things(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    """A review is nothing that the service opens yet; what it would answer is made up."""
    given = await shop.call("GET", "/users/me/rewards", token=alice[0])
    kinds = [["hold", "review", "approval"], ["review"], ["something new"]]
    items = [
        {**given["items"][0], "release_at": "2026-05-06T07:08:09Z", "waiting_for": kind, "status": "pending"}
        for kind in kinds
    ]
    await visit.page.route("**/users/me/rewards*", answering({"total": 3, "next_cursor": None, "items": items}))
    shop.put_up("/waiting", {"token": alice[0]})
    page = await opened(visit, "/waiting")
    details = [detail for _, detail, _ in await rows(page, "rewards")]
    assert details == ["until May 6, 2026, in review, awaits approval", "in review", "something new"]


@IN_BOTH_LANGUAGES
async def test_whoever_has_nothing_is_told_so(visit: Visit, shop: Shop, lang: str) -> None:
    token, _ = await shop.referrer(f"empty-{lang}")
    shop.put_up(f"/empty-{lang}", {"token": token}, lang=lang)
    page = await opened(visit, f"/empty-{lang}")
    nobody = {"en": "Nobody yet: share your link", "ru": "Пока никого: поделитесь ссылкой"}
    await expect(parts(page, "empty")).to_have_text(nobody[lang])
    for name in ("balances", "rewards", "referrals", "more"):
        await expect(parts(page, name)).to_be_hidden()


async def test_where_links_lead_nowhere_the_code_is_shared(visit: Visit, shop: Shop) -> None:
    token, code = await shop.referrer("codeless")
    me = await shop.call("GET", "/users/me", token=token)
    await visit.page.add_init_script("navigator.share = async (what) => { window.shared = what }")
    await visit.page.route("**/users/me", answering({**me, "url": None}))
    shop.put_up("/code", {"token": token})
    page = await opened(visit, "/code")
    await expect(page.get_by_label("Your code")).to_have_value(code)
    await expect(page.get_by_role("img")).to_have_count(0)
    await page.get_by_role("button", name="Share").click()
    assert await page.evaluate("shared") == {"text": code}


# Money


async def shown_amounts(visit: Visit, shop: Shop, lang: str, *values: tuple[str, int]) -> list[str]:
    """How a page shows these available amounts."""
    items = [{"unit": unit, "available": amount, "pending": 0} for unit, amount in values]
    await visit.page.route("**/users/me/balances", answering({"items": items}))
    shop.put_up("/money", {"token": await shop.user("rich"), "units": UNITS}, lang=lang)
    page = await opened(visit, "/money")
    await visit.page.unroute("**/users/me/balances")
    return [text.replace("\xa0", " ").replace("\u202f", " ") for text in await parts(page, "amount").all_inner_texts()]


async def test_money_is_shown_by_its_unit(visit: Visit, shop: Shop) -> None:
    token = await shop.user("units")
    for unit, amount in (
        ("USD", 123_456),
        ("JPY", 1_200),
        ("HUF", 150_000),
        ("KWD", 1_234),
        ("POINTS", 1_200),
        ("CREDIT", 150),
    ):
        await shop.give("units", unit, amount, hold_days=0)
    await shop.give("units", "PTS", 25, hold_days=0)
    shop.put_up("/units", {"token": token, "units": UNITS, "limit": "10"})
    page = await opened(visit, "/units")
    expected = {"$1,234.56", "¥1,200", "HUF 1,500.00", "KWD 1.234", "1,200 POINTS", "1.50 CREDIT", "2.5 PTS"}
    assert {text.replace("\xa0", " ") for text in await parts(page, "amount").all_inner_texts()} == expected
    assert {name for name, _, _ in await rows(page, "rewards")} == expected


async def test_money_is_written_as_its_readers_do(visit: Visit, shop: Shop) -> None:
    values = [("USD", 123_456), ("EUR", -50), ("POINTS", 1_200), ("OTHER", 7), ("USD", 123_456_789_012_345)]
    assert await shown_amounts(visit, shop, "en", *values) == [
        "$1,234.56",
        "-€0.50",
        "1,200 POINTS",
        "7 OTHER",
        "$1,234,567,890,123.45",
    ]
    assert await shown_amounts(visit, shop, "ru", *values[:3]) == ["1 234,56 $", "-0,50 €", "1 200 POINTS"]


async def test_every_currency_has_the_exponent_of_iso_4217(visit: Visit, shop: Shop) -> None:
    """The browser's own exponents are others, for some by a factor of a hundred. Units of account are left out."""
    currencies = [one for one in Currency if one.exponent is not None and one.code not in ("CLF", "UYI", "UYW")]
    assert len(currencies) > 150
    shown = await shown_amounts(visit, shop, "en", *[(one.code, 1_234_000) for one in currencies])
    digits = [len(text.partition(".")[2]) for text in shown]
    assert digits == [one.exponent for one in currencies]


# What is done by it


async def test_the_link_is_copied(browser: Browser, shop: Shop, alice: tuple[str, str]) -> None:
    shop.put_up("/copy", {"token": alice[0]})
    rights = {"permissions": ["clipboard-read", "clipboard-write"]}
    async with visiting(browser, shop.pages.address, shop.address, **rights) as found:
        page = await opened(found, "/copy")
        button = parts(page, "copy")
        await button.click()
        await expect(page.get_by_role("status")).to_have_text("Copied")
        await expect(button).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == f"https://go.example.com/r/{alice[1]}"
        await expect(button).to_have_text("Copy")
        await expect(page.get_by_role("status")).to_have_text("")


@pytest.mark.parametrize("clipboard", ["{writeText: async () => { throw new Error('refused') }}", "undefined"])
async def test_where_the_clipboard_is_refused_the_link_is_selected(
    visit: Visit, shop: Shop, alice: tuple[str, str], clipboard: str
) -> None:
    shop.put_up("/refused", {"token": alice[0]})
    await visit.page.add_init_script(f"Object.defineProperty(navigator, 'clipboard', {{value: {clipboard}}})")
    page = await opened(visit, "/refused")
    await page.get_by_role("button", name="Copy").click()
    await expect(page.get_by_role("status")).to_have_text("Selected: copy it")
    link = page.get_by_label("Your link")
    await expect(link).to_be_focused()
    selected = await link.evaluate("input => input.value.slice(input.selectionStart, input.selectionEnd)")
    assert selected == f"https://go.example.com/r/{alice[1]}"
    await expect(page.get_by_role("button", name="Copy")).to_be_visible()


async def test_the_link_is_shared_where_the_browser_can(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    shop.put_up("/share", {"token": alice[0]})
    await visit.page.add_init_script("navigator.share = undefined")
    page = await opened(visit, "/share")
    await expect(page.get_by_role("button", name="Share")).to_have_count(0)
    await page.add_init_script(
        "navigator.share = async (what) => { window.shared = what; throw new DOMException('', 'AbortError') }"
    )
    await opened(visit, "/share")
    await page.get_by_role("button", name="Share").click()
    assert await page.evaluate("shared") == {"url": f"https://go.example.com/r/{alice[1]}"}
    # Whoever thinks better of it is told nothing.
    await expect(page.get_by_role("button", name="Share")).to_be_visible()
    await expect(page.get_by_role("status")).to_have_text("")


async def test_a_code_is_made_for_whoever_has_none(visit: Visit, shop: Shop) -> None:
    token = await shop.user("new")
    shop.put_up("/new", {"token": token, "ttl-days": "10"})
    page = await opened(visit, "/new")
    await expect(parts(page, "none")).to_have_text("You have no active link.")
    await page.get_by_role("button", name="Get a link").press("Enter")
    await expect(page.get_by_label("Your link")).to_be_visible()
    # The keyboard goes on where the button was.
    await expect(page.get_by_role("button", name="Copy")).to_be_focused()
    me = await shop.call("GET", "/users/me", token=token)
    assert await page.get_by_label("Your link").input_value() == me["url"]
    (code,) = (await shop.call("GET", "/codes", token=token))["items"]
    days = await page.evaluate(
        "code => (new Date(code.expires_at) - new Date(code.created_at)) / 86400000", {**code, "uses": code["uses"]}
    )
    assert days == 10


async def test_an_exhausted_code_is_replaced(visit: Visit, shop: Shop) -> None:
    token, old = await shop.referrer("popular", max_uses=1)
    await befriend(shop, "the only one", old)
    assert (await shop.call("GET", "/users/me", token=token))["code"]["status"] == "exhausted"
    shop.put_up("/popular", {"token": token})
    page = await opened(visit, "/popular")
    await expect(parts(page, "none")).to_be_visible()
    await expect(page.get_by_label("Your link")).to_have_count(0)
    await page.get_by_role("button", name="Get a link").click()
    await expect(page.get_by_label("Your link")).to_be_visible()
    current, ended = (await shop.call("GET", "/codes", token=token))["items"]
    assert (current["status"], ended["code"]) == ("active", old)
    assert await page.get_by_label("Your link").input_value() == f"https://go.example.com/r/{current['code']}"
    created, expires = (int(current[name][:4]) for name in ("created_at", "expires_at"))
    assert expires == created + 1


async def test_a_code_that_was_made_elsewhere_stays(visit: Visit, shop: Shop) -> None:
    token = await shop.user("hasty")
    shop.put_up("/hasty", {"token": token})
    page = await opened(visit, "/hasty")
    made = await shop.call("POST", "/codes", {"ttl_days": 5}, token=token)
    await page.get_by_role("button", name="Get a link").click()
    await expect(page.get_by_label("Your link")).to_have_value(f"https://go.example.com/r/{made['code']}")
    assert (await shop.call("GET", "/codes", token=token))["total"] == 1
    await visit.complains("409")


async def test_a_code_that_cannot_be_made_can_be_asked_for_again(visit: Visit, shop: Shop) -> None:
    shop.put_up("/unlucky", {"token": await shop.user("unlucky")})
    page = await opened(visit, "/unlucky")
    await page.route("**/codes", lambda route: route.abort())
    await page.get_by_role("button", name="Get a link").click()
    again = page.get_by_role("button", name="Try again")
    await expect(again).to_be_visible()
    await expect(page.get_by_role("status")).to_have_text("This did not load.")
    await visit.complains("ERR_FAILED")
    await page.unroute("**/codes")
    await again.click()
    await expect(page.get_by_label("Your link")).to_be_visible()


async def test_more_is_shown_by_and_by(visit: Visit, shop: Shop) -> None:
    token, code = await shop.referrer("famous")
    for n in range(53):
        await befriend(shop, f"fan {n}", code, name=f"Fan {n}")
        await shop.give("famous", "POINTS", n + 1, hold_days=0)
    shop.put_up("/famous", {"token": token, "limit": "50", "units": UNITS})
    page = await opened(visit, "/famous")
    await expect(page.get_by_role("heading", name="53 friends joined")).to_be_visible()
    for section, names in (
        ("referrals", [f"Fan {n}" for n in range(53)]),
        ("rewards", [f"{n + 1} POINTS" for n in range(53)]),
    ):
        items = parts(page, section).locator("[part=item]")
        await expect(items).to_have_count(50)
        more = parts(page, section).get_by_role("button", name="Show more")
        # A double click asks once.
        await more.dblclick()
        await expect(items).to_have_count(53)
        await expect(more).to_be_hidden()
        await expect(items.nth(50)).to_be_focused()
        assert [name for name, _, _ in await rows(page, section)] == names[::-1]


async def test_by_default_five_are_shown(visit: Visit, shop: Shop) -> None:
    token, code = await shop.referrer("known")
    for n in range(11):
        await befriend(shop, f"friend {n}", code, name=f"Friend {n}")
    shop.put_up("/known", {"token": token})
    page = await opened(visit, "/known")
    items = parts(page, "item")
    for count in (5, 10):
        await expect(items).to_have_count(count)
        await page.get_by_role("button", name="Show more").click()
    await expect(items).to_have_count(11)
    await expect(page.get_by_role("button", name="Show more")).to_have_count(0)


async def test_more_that_cannot_be_had_can_be_asked_for_again(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    shop.put_up("/less", {"token": alice[0], "limit": "3"})
    page = await opened(visit, "/less")
    await page.route("**/users/me/referrals*", lambda route: route.fulfill(status=503))
    section = parts(page, "referrals")
    await section.get_by_role("button", name="Show more").click()
    again = section.get_by_role("button", name="Try again")
    await expect(again).to_be_visible()
    # What is there stays.
    await expect(section.locator("[part=item]")).to_have_count(3)
    await visit.complains("503")
    await page.unroute("**/users/me/referrals*")
    await again.click()
    await expect(section.locator("[part=item]")).to_have_count(4)


# What goes wrong


@pytest.mark.parametrize("failure", ["network", 500, 503, 429])
@IN_BOTH_LANGUAGES
async def test_what_did_not_load_is_tried_again(
    visit: Visit, shop: Shop, alice: tuple[str, str], failure: int | str, lang: str
) -> None:
    page = visit.page

    async def fail(route: Route) -> None:
        if failure == "network":
            await route.abort()
        else:
            # A whole answer: without these headers no page may read it.
            headers = {"Access-Control-Allow-Origin": shop.pages.address}
            await route.fulfill(status=int(failure), json={}, headers=headers)

    shop.put_up("/down", {"token": alice[0]}, lang=lang)
    await page.route("**/users/me/balances", fail)
    async with page.expect_console_message():
        await page.goto(f"{visit.address}/down")
    sentence, retry = {"en": ("This did not load.", "Try again"), "ru": ("Ошибка загрузки.", "Повторить")}[lang]
    await expect(parts(page, "error")).to_have_text(sentence)
    await expect(page.get_by_role("status")).to_have_text(sentence)
    await visit.complains("ERR_FAILED" if failure == "network" else str(failure))
    again = page.get_by_role("button", name=retry)
    async with page.expect_console_message():
        await again.click()
    await expect(again).not_to_have_attribute("aria-busy", "true")
    await expect(parts(page, "error")).to_have_text(sentence)
    await page.unroute("**/users/me/balances")
    await again.click()
    await expect(parts(page, "invite")).to_be_visible()
    await expect(parts(page, "error")).to_have_count(0)
    await expect(page.get_by_role("status")).to_have_text("")


async def test_while_it_loads_it_says_so(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    page = visit.page
    shop.put_up("/slow", {"token": alice[0]})
    async with held_back(page, "**/users/me/balances"):
        await page.goto(f"{visit.address}/slow")
        await expect(parts(page, "loading")).to_have_text("Loading…")
    await expect(parts(page, "invite")).to_be_visible()
    await expect(parts(page, "loading")).to_have_count(0)


COUNT_EVENTS = """
window.wanted = [];
document.addEventListener("referral-token", (event) => {
  window.wanted.push(event.target.localName);
  if (window.fresh) event.target.setAttribute("token", window.fresh);
});
"""


async def test_a_page_is_asked_for_a_new_token(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    page = visit.page
    await page.add_init_script(COUNT_EVENTS)
    shop.put_up("/expired", {"token": "an.expired.token"})
    await page.goto(f"{visit.address}/expired")
    await expect(parts(page, "error")).to_have_text("Reload the page.")
    await expect(page.get_by_role("button")).to_have_count(0)
    await visit.complains("401")
    assert await page.evaluate("wanted") == ["referral-widget"]
    await page.evaluate("token => document.querySelector('referral-widget').setAttribute('token', token)", alice[0])
    await expect(page.get_by_label("Your link")).to_have_value(f"https://go.example.com/r/{alice[1]}")
    assert await page.evaluate("wanted") == ["referral-widget"]


async def test_a_page_that_gives_the_same_token_again_does_not_go_round(visit: Visit, shop: Shop) -> None:
    page, asked = visit.page, []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/users/me") else None)
    await page.add_init_script(COUNT_EVENTS + "window.fresh = 'an.expired.token'")
    shop.put_up("/stubborn", {"token": "an.expired.token"})
    await page.goto(f"{visit.address}/stubborn")
    await expect(parts(page, "error")).to_be_visible()
    await page.wait_for_timeout(300)
    assert len(asked) == 1
    await visit.complains("401")


async def test_a_token_that_ends_in_between_is_replaced(visit: Visit, shop: Shop) -> None:
    page = visit.page
    token, code = await shop.referrer("leaving")
    for n in range(6):
        await befriend(shop, f"left {n}", code)
    shop.put_up("/leaving", {"token": token})
    await page.add_init_script(COUNT_EVENTS)
    await opened(visit, "/leaving")
    await page.evaluate("token => { window.fresh = token }", await shop.user("leaving"))
    await page.route(
        "**/users/me/referrals*",
        lambda route: route.continue_(headers={**route.request.headers, "authorization": "Bearer x"}),
        times=1,
    )
    await page.get_by_role("button", name="Show more").click()
    # Before that, all is as it was.
    await until(page, "wanted.length")
    await expect(parts(page, "item")).to_have_count(5)
    await expect(parts(page, "invite")).to_be_visible()
    assert await page.evaluate("wanted") == ["referral-widget"]
    await visit.complains("401")


async def test_an_old_answer_does_not_come_over_a_new_one(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    page, arrive, held = visit.page, asyncio.Event(), asyncio.Event()
    old, code = await shop.referrer("predecessor")
    await befriend(shop, "of the predecessor", code, name="Old Friend")

    async def hold(route: Route) -> None:
        if old in route.request.headers["authorization"]:
            held.set()
            await arrive.wait()
        await route.continue_()

    shop.put_up("/races", {"token": old})
    await page.route("**/users/me/referrals*", hold)
    await page.goto(f"{visit.address}/races")
    await held.wait()
    await page.evaluate("token => document.querySelector('referral-widget').setAttribute('token', token)", alice[0])
    await expect(page.get_by_text("Carol Archer")).to_be_visible()
    arrive.set()
    await page.wait_for_timeout(300)
    await expect(page.get_by_text("Old Friend")).to_have_count(0)
    await expect(page.get_by_text("Carol Archer")).to_be_visible()
    await expect(parts(page, "widget")).to_have_count(1)


async def test_the_old_tokens_data_are_gone_at_once(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    shop.put_up("/other", {"token": alice[0]})
    page = await opened(visit, "/other")
    async with held_back(page, "**/users/me/balances"):
        text = await page.evaluate(
            """token => {
              const widget = document.querySelector("referral-widget");
              widget.setAttribute("token", token);
              return widget.shadowRoot.textContent;
            }""",
            await shop.user("successor"),
        )
    assert text == ""
    await page.evaluate("document.querySelector('referral-widget').removeAttribute('token')")
    await expect(parts(page, "widget")).to_have_count(0)


# Where it stands


async def test_without_a_token_it_waits(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    page, asked = visit.page, []
    page.on("request", lambda request: asked.append(request.url))
    shop.put_up("/waits", {})
    await page.goto(f"{visit.address}/waits")
    await until(page, "!!customElements.get('referral-widget')")
    await page.wait_for_timeout(100)
    widget = page.locator("referral-widget")
    assert await widget.evaluate("one => [one.offsetHeight, one.shadowRoot.textContent]") == [0, ""]
    assert not [url for url in asked if API in url]
    await widget.evaluate("(one, token) => one.setAttribute('token', token)", alice[0])
    await expect(parts(page, "invite")).to_be_visible()


async def test_attributes_that_are_set_together_load_once(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    page, asked = visit.page, []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/users/me") else None)
    shop.put_up("/made")
    await page.goto(f"{visit.address}/made")
    await until(page, "!!customElements.get('referral-widget')")
    await page.evaluate(
        """token => {
          const widget = document.createElement("referral-widget");
          widget.setAttribute("lang", "ru");
          document.querySelector("main").append(widget);
          widget.setAttribute("token", "another");
          widget.setAttribute("token", token);
        }""",
        alice[0],
    )
    await expect(page.get_by_role("heading", name="Награды")).to_be_visible()
    assert len(asked) == 1


async def test_an_element_that_is_gone_asks_nothing_more(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    page, failed = visit.page, []
    page.on("requestfailed", lambda request: failed.append((request.url.rpartition("/")[2], request.failure)))
    shop.put_up("/gone", {"token": alice[0]})
    async with held_back(page, "**/users/me/balances"):
        async with page.expect_request("**/users/me/balances"):
            await page.goto(f"{visit.address}/gone")
        async with page.expect_event("requestfailed", lambda request: request.url.endswith("/balances")):
            await page.evaluate("window.kept = document.querySelector('referral-widget'); kept.remove()")
    assert ("balances", "net::ERR_ABORTED") in failed
    await page.evaluate("document.querySelector('main').append(kept)")
    await expect(parts(page, "invite")).to_be_visible()


async def test_two_widgets_and_two_scripts_on_a_page(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    other, code = await shop.referrer("second")
    script = f'<script src="{shop.address}/widget.js" defer></script>' * 2
    shop.put_up("/two", {"token": alice[0]}, {"token": other, "lang": "ru"}, script=script)
    page = await opened(visit, "/two")
    await expect(page.get_by_label("Your link")).to_have_value(f"https://go.example.com/r/{alice[1]}")
    await expect(page.get_by_label("Ваша ссылка")).to_have_value(f"https://go.example.com/r/{code}")


async def test_inside_another_component_it_is_heard_and_speaks_the_documents_language(
    visit: Visit, shop: Shop, alice: tuple[str, str]
) -> None:
    page = visit.page
    await page.add_init_script("window.heard = 0; document.addEventListener('referral-token', () => { window.heard += 1 })")
    shop.put_up("/inside", lang="ru")
    await page.goto(f"{visit.address}/inside")
    await page.evaluate(
        """() => {
          const widget = document.createElement("referral-widget");
          widget.setAttribute("token", "an.expired.token");
          document.querySelector("main").attachShadow({ mode: "open" }).append(widget);
        }"""
    )
    await expect(parts(page, "error")).to_have_text("Обновите страницу.")
    assert await page.evaluate("heard") == 1
    await visit.complains("401")
    await page.locator("referral-widget").evaluate("(one, token) => one.setAttribute('token', token)", alice[0])
    await expect(page.get_by_role("heading", name="Награды")).to_be_visible()


@pytest.mark.parametrize("where", ["head", "end", "late"])
async def test_the_element_may_stand_before_the_script_or_after_it(
    visit: Visit, shop: Shop, alice: tuple[str, str], where: str
) -> None:
    script = f'<script src="{shop.address}/widget.js?v=1/2"></script>'
    widget = f'<main><h1>Account</h1><referral-widget token="{alice[0]}"></referral-widget></main>'
    pages = {"head": script + widget, "end": widget + script, "late": widget}
    shop.pages.pages["/where"] = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Account</title>{pages[where]}'
    page = visit.page
    await page.goto(f"{visit.address}/where")
    if where == "late":
        await expect(page.get_by_role("heading", name="Account")).to_be_visible()
        await page.add_script_tag(url=f"{shop.address}/widget.js")
    await expect(parts(page, "invite")).to_be_visible()


@pytest.mark.parametrize("attribute", ["", "/", None])
async def test_the_service_may_have_a_path(
    browser: Browser, shop: Shop, alice: tuple[str, str], attribute: str | None
) -> None:
    """It is found by the script's address, or by the attribute."""
    host = "http://127.0.0.1:9"
    base = f"{host}/our-shop/referrals"
    pages = ProductPages(SERVICE_ALONE.format(host))
    widget = {"token": alice[0], **({} if attribute is None else {"service": base + attribute})}
    name = "referrals/widget.js" if attribute is None else "elsewhere.js"

    async def pass_on(route: Route) -> None:
        """As a proxy would that takes the path off."""
        path = route.request.url.removeprefix(base).replace(f"{host}/our-shop/elsewhere.js", "/widget.js")
        headers = {**route.request.headers, "origin": shop.pages.address}
        response = await route.fetch(url=f"{shop.address}{path}", headers=headers)
        await route.fulfill(response=response, headers={**response.headers, "access-control-allow-origin": "*"})

    async with pages.open(), visiting(browser, pages.address, host) as found:
        await found.page.route(f"{host}/**", pass_on)
        attributes = " ".join(f'{key}="{value}"' for key, value in widget.items())
        pages.pages["/"] = (
            f'<!doctype html><html lang="en"><title>Account</title><script src="{host}/our-shop/{name}" defer></script>'
            f"<main><h1>Account</h1><referral-widget {attributes}></referral-widget></main>"
        )
        await opened(found, "/")
        image = found.page.get_by_role("img")
        await see(image)
        assert await image.get_attribute("src") == f"{base}/r/{alice[1]}/qr.svg"


# Languages and texts


@pytest.mark.parametrize(
    ("own", "document", "browsers", "rewards"),
    [
        ("ru", "en", "en-US", "Награды"),
        ("", "ru-RU", "en-US", "Награды"),
        ("", "ru_RU", "en-US", "Награды"),
        ("", "", "ru-RU", "Награды"),
        ("", "de", "ru-RU", "Rewards"),
        ("en", "ru", "ru-RU", "Rewards"),
        ("not a language!", "ru", "ru-RU", "Rewards"),
    ],
)
async def test_the_language_is_the_elements_the_documents_or_the_browsers(
    browser: Browser, shop: Shop, alice: tuple[str, str], own: str, document: str, browsers: str, rewards: str
) -> None:
    shop.put_up("/lang", {"token": alice[0], **({"lang": own} if own else {})}, lang=document)
    async with visiting(browser, shop.pages.address, shop.address, locale=browsers) as found:
        page = await opened(found, "/lang")
        await expect(parts(page, "rewards").get_by_role("heading")).to_have_text(rewards)


async def test_another_language_is_shown_at_once(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    shop.put_up("/switch", {"token": alice[0]})
    page = await opened(visit, "/switch")
    await expect(page.get_by_role("heading", name="Rewards")).to_be_visible()
    await page.evaluate("document.querySelector('referral-widget').lang = 'ru'")
    await expect(page.get_by_role("heading", name="Награды")).to_be_visible()


async def test_a_text_may_be_the_pages_own(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    token, hostile_text = alice[0], "<img src=x onerror=alert(1)> $& {n}"
    texts = {
        "text-title": "Freunde werben",
        "text-link": "Dein Link",
        "text-copy": hostile_text,
        "text-qr": "QR-Code",
        "text-referrals": "Ein Freund|{n} Freunde",
        "text-joined": "Dabei",
        "text-hold": "bis zum {n}",
        "text-pending": "Offen",
    }
    shop.put_up("/texts", {"token": token, "lang": "de", "limit": "10", **texts})
    page = await opened(visit, "/texts")
    await expect(page.get_by_role("heading", level=2)).to_have_text("Freunde werben")
    await expect(page.get_by_label("Dein Link")).to_be_visible()
    await expect(page.get_by_role("img", name="QR-Code")).to_be_visible()
    await expect(page.get_by_role("heading", name="4 Freunde")).to_be_visible()
    await expect(parts(page, "copy")).to_have_text("<img src=x onerror=alert(1)> $& ")
    assert [status for _, _, status in await rows(page, "referrals")].count("Dabei") == 2
    held = [detail for _, detail, status in await rows(page, "rewards") if status == "Offen"]
    assert held[0] == "awaits approval"
    assert held[1].startswith("bis zum ")
    await expect(page.get_by_text("Offen: 9,80 $")).to_be_visible()


async def test_every_text_can_be_the_pages_own(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    """Whatever is shown comes from a text with a name, or from the service."""
    names = [
        line.partition(":")[0] for line in WIDGET.read_text().partition("TEXTS = `\n")[2].partition("`")[0].splitlines()
    ]
    assert len(names) == len(set(names)) == 32
    await visit.page.add_init_script("navigator.share = async () => {}")
    shop.put_up("/own", {"token": alice[0], "limit": "3", **{f"text-{name}": f"[{name}]" for name in names}})
    page = await opened(visit, "/own")
    shown = await parts(page, "widget").inner_text()
    seen = {name for name in names if f"[{name}]" in shown}
    rest = re.sub(r"\[\w+\]", "", shown)
    assert seen >= {"title", "link", "copy", "share", "available", "referrals", "rewards", "pending", "approval", "more"}
    for word in ("Invite", "Copy", "Share", "Your", "available", "friend", "Reward", "Pending", "Joined", "more", "until"):
        assert word not in rest


async def test_an_empty_title_is_hidden(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    shop.put_up("/untitled", {"token": alice[0], "text-title": ""})
    page = await opened(visit, "/untitled")
    await expect(parts(page, "title")).to_be_hidden()
    # No level is left out below the page's own heading.
    assert await parts(page, "heading").evaluate_all("all => all.map((one) => one.localName)") == ["h2", "h2"]


# Hostile data


HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'`${alert(3)} $& $1 {n}"


@pytest.mark.parametrize("policy", ["", "; require-trusted-types-for 'script'; trusted-types 'none'"])
async def test_names_and_labels_are_texts(browser: Browser, shop: Shop, policy: str) -> None:
    name = f"hostile-{len(policy)}"
    token, code = await shop.referrer(name)
    await befriend(shop, f"friend of {name}", code, name=HOSTILE)
    await shop.give(name, label=HOSTILE[:100], hold_days=0)
    shop.put_up(f"/{name}", {"token": token})
    before = shop.pages.policy
    shop.pages.policy = before + policy
    try:
        async with visiting(browser, shop.pages.address, shop.address) as found:
            page = await opened(found, f"/{name}")
            assert [shown for shown, _, _ in await rows(page, "referrals")] == [HOSTILE]
            assert [shown for shown, _, _ in await rows(page, "rewards")] == [HOSTILE[:100]]
            await expect(page.get_by_role("img")).to_have_count(1)
            await page.get_by_role("button", name="Copy").click()
            await expect(page.get_by_role("status")).not_to_have_text("")
    finally:
        shop.pages.policy = before


async def test_a_long_word_stays_inside(visit: Visit, shop: Shop) -> None:
    token, code = await shop.referrer("long")
    await befriend(shop, "of long", code, name="W" * 200)
    shop.put_up("/long", {"token": token})
    page = await opened(visit, "/long")
    await resize(page, 280)
    assert await parts(page, "widget").evaluate("box => box.scrollWidth <= box.clientWidth")


# Looks


async def resize(page: Page, width: int) -> None:
    await page.locator("referral-widget").first.evaluate("(one, width) => { one.style.width = `${width}px` }", width)


async def colours(page: Page) -> list[str]:
    return list(
        await parts(page, "widget").evaluate("box => [getComputedStyle(box).backgroundColor, getComputedStyle(box).color]")
    )


LIGHT, DARK = ["rgb(255, 255, 255)", "rgb(23, 28, 38)"], ["rgb(23, 26, 33)", "rgb(233, 236, 242)"]


async def test_the_theme_is_the_systems_unless_it_is_forced(browser: Browser, shop: Shop, alice: tuple[str, str]) -> None:
    shop.put_up("/theme", {"token": alice[0]})
    for scheme, expected in (("light", LIGHT), ("dark", DARK)):
        async with visiting(browser, shop.pages.address, shop.address, color_scheme=scheme) as found:
            page = await opened(found, "/theme")
            assert await colours(page) == expected
            for theme, forced in (("light", LIGHT), ("dark", DARK)):
                await page.locator("referral-widget").evaluate("(one, theme) => one.setAttribute('theme', theme)", theme)
                assert await colours(page) == forced


async def test_a_page_may_colour_it(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    shop.put_up("/colours", {"token": alice[0]})
    page = await opened(visit, "/colours")
    wanted = {
        "accent": ("copy", "backgroundColor", "rgb(1, 2, 3)"),
        "on-accent": ("copy", "color", "rgb(4, 5, 6)"),
        "text": ("widget", "color", "rgb(7, 8, 9)"),
        "background": ("widget", "backgroundColor", "rgb(10, 11, 12)"),
        "border": ("widget", "borderTopColor", "rgb(13, 14, 15)"),
        "radius": ("widget", "borderTopLeftRadius", "3px"),
        "font": ("widget", "fontFamily", "serif"),
    }
    for name, (_, _, value) in wanted.items():
        await page.evaluate("([name, value]) => document.body.style.setProperty(name, value)", [f"--referral-{name}", value])
    for part, member, value in wanted.values():
        assert await parts(page, part).first.evaluate(f"one => getComputedStyle(one).{member}") == value


@pytest.mark.parametrize("direction", ["ltr", "rtl"])
async def test_it_fits_its_place_whatever_the_window(
    visit: Visit, shop: Shop, alice: tuple[str, str], direction: str
) -> None:
    shop.put_up("/fits", {"token": alice[0]})
    page = await opened(visit, "/fits")
    await page.evaluate("direction => { document.dir = direction }", direction)
    places = "section => section.getBoundingClientRect().top"
    for width, beside in ((280, False), (700, True)):
        await resize(page, width)
        tops = [await parts(page, name).evaluate(places) for name in ("referrals", "rewards")]
        assert (tops[0] == tops[1]) is beside
        assert await parts(page, "widget").evaluate("box => [box.offsetWidth, box.scrollWidth <= box.clientWidth]") == [
            width,
            True,
        ]
        image, link = [await parts(page, name).bounding_box() for name in ("qr", "copy")]
        assert image is not None
        assert link is not None
        assert (image["y"] < link["y"] + link["height"]) is beside
        if beside:
            assert (image["x"] > link["x"]) is (direction == "ltr")
    heights = await page.locator("button, input").evaluate_all("all => all.map((one) => one.offsetHeight).filter(Boolean)")
    assert len(heights) >= 3
    assert min(heights) >= 32


async def test_the_keyboard_reaches_everything_and_is_seen(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    await visit.page.add_init_script("navigator.share = async () => {}")
    shop.put_up("/keys", {"token": alice[0], "limit": "2"})
    page = await opened(visit, "/keys")
    reached = []
    for _ in range(5):
        await page.keyboard.press("Tab")
        focused = "document.querySelector('referral-widget').shadowRoot.activeElement"
        reached.append(await page.evaluate(f"{focused}.part.value"))
        assert await page.evaluate(f"getComputedStyle({focused}).outlineStyle") == "solid"
    assert reached == ["input", "copy", "share", "more", "more"]


async def test_lists_are_lists(visit: Visit, shop: Shop, alice: tuple[str, str]) -> None:
    shop.put_up("/lists", {"token": alice[0], "limit": "10"})
    page = await opened(visit, "/lists")
    counts = [await one.get_by_role("listitem").count() for one in await page.get_by_role("list").all()]
    assert counts == [1, 4, 6]


# Each scheme, width and language with each other one.
@pytest.mark.parametrize(
    ("scheme", "width", "lang"), [("light", 280, "en"), ("light", 700, "ru"), ("dark", 280, "ru"), ("dark", 700, "en")]
)
async def test_axe_finds_nothing(
    browser: Browser, shop: Shop, alice: tuple[str, str], scheme: str, width: int, lang: str
) -> None:
    new, empty = await shop.user("new to axe"), (await shop.referrer(f"empty {scheme} {width} {lang}"))[0]
    for path, widget in (
        ("/axe", {"token": alice[0], "limit": "3"}),
        ("/axe-untitled", {"token": alice[0], "text-title": ""}),
        ("/axe-new", {"token": new}),
        ("/axe-empty", {"token": empty}),
    ):
        shop.put_up(path, widget, lang=lang)
        async with visiting(browser, shop.pages.address, shop.address, color_scheme=scheme) as found:
            page = await opened(found, path)
            await resize(page, width)
            assert {"color-contrast", "heading-order"} <= await axe(page)
            await found.keep(f"widget{path.replace('/', '-')}-{scheme}-{width}-{lang}")


async def test_axe_finds_nothing_in_an_error(visit: Visit, shop: Shop) -> None:
    shop.put_up("/axe-error", {"token": "x"})
    await visit.page.goto(f"{visit.address}/axe-error")
    await expect(parts(visit.page, "error")).to_be_visible()
    await axe(visit.page)
    await visit.complains("401")
