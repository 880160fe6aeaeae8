"""Every page of the back office in a real browser: wide and narrow, light and dark, in both languages, with and without
scripts, empty and full. A page that is added is found by its route."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.support.admin import admin_routes
from tests.support.admin_world import sign_in
from tests.support.browsing import Visit, axe, visiting

# One worker runs them all: one browser and one service are enough.
pytestmark = [pytest.mark.xdist_group("admin"), pytest.mark.asyncio(loop_scope="module")]

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 320, "height": 700}
# Each scheme, width and language with each other one in some of them.
LOOKS: list[tuple[str, dict[str, int], str]] = [
    ("light", WIDE, "en"),
    ("dark", WIDE, "ru"),
    ("light", NARROW, "ru"),
    ("dark", NARROW, "en"),
]
# Where there is little to see, each scheme, width and language in one of them.
FEW_LOOKS: list[tuple[str, dict[str, int], str]] = [("light", WIDE, "en"), ("dark", NARROW, "ru")]
# Of what is seen: tables that scroll, parts of a page that end beyond the window, and words that are broken in their middle,
# although they would fit into a line. A long text without a blank may be.
MISPLACED = r"""
() => {
    const wide = [...document.querySelectorAll(".table")].filter(one => one.scrollWidth > one.clientWidth);
    const parts = document.querySelectorAll(".menu a, .plot text, .steps text, .plot rect, main .button");
    const outside = [...parts].map(one => one.getBoundingClientRect()).filter(one => one.left < 0 || one.right > innerWidth);
    const broken = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        for (const word of texts.currentNode.data.matchAll(/(?<!\S)\p{L}{2,14}(?=[.,;:]?(\s|$))/gu)) {
            const range = document.createRange();
            range.setStart(texts.currentNode, word.index);
            range.setEnd(texts.currentNode, word.index + word[0].length);
            if (new Set([...range.getClientRects()].map(one => one.top)).size > 1) broken.push(word[0]);
        }
    }
    return [...wide.map(one => one.ariaLabel), ...outside.map(one => JSON.stringify(one)), ...broken];
}
"""
OUTSIDE = ["/admin/login", "/admin/login?said=signed-out", "/admin/nowhere"]


def name_of(path: str) -> str:
    """A name for a picture of the page."""
    words = path.partition("?")[0].strip("/").split("/")
    return "-".join(word for word in words if len(word) < 30)


async def look(visit: Visit, path: str, name: str) -> None:
    """Whatever holds for each page, whose picture gets this name."""
    page = visit.page
    response = await page.goto(f"{visit.address}{path}")
    assert response is not None
    if response.status == 404:
        visit.expected.append("404")
    else:
        assert response.status == 200, path
    await expect(page.get_by_role("heading", level=1)).to_have_count(1)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is too wide"
    assert await page.evaluate(MISPLACED) == [], path
    assert {"document-title", "html-has-lang", "color-contrast"} <= await axe(page)
    await visit.keep(name)


async def look_at_all(
    browser: Browser,
    address: str,
    name: str,
    paths: list[str],
    look_of_it: tuple[str, dict[str, int], str],
    state: Any = None,
) -> None:
    scheme, size, language = look_of_it
    options = {"color_scheme": scheme, "viewport": size, "locale": language, "storage_state": state}
    async with visiting(browser, address, **options) as visit:
        for path in paths:
            await look(visit, path, f"{name}{name_of(path)}-{scheme}-{size['width']}-{language}")
            assert await visit.page.evaluate("document.documentElement.lang") == language


@pytest.mark.parametrize("look_of_it", FEW_LOOKS)
async def test_every_page_is_well_made_where_there_is_nothing_yet(
    browser: Browser, address: str, state: Any, look_of_it: tuple[str, dict[str, int], str]
) -> None:
    await look_at_all(browser, address, "empty-", admin_routes("GET"), look_of_it, state)


@pytest.mark.parametrize("look_of_it", LOOKS)
async def test_every_page_is_well_made_where_there_is_something_of_each_sort(
    browser: Browser, address: str, state: Any, examples: dict[str, str], look_of_it: tuple[str, dict[str, int], str]
) -> None:
    await look_at_all(browser, address, "full-", admin_routes("GET", examples), look_of_it, state)


@pytest.mark.parametrize("look_of_it", FEW_LOOKS)
async def test_the_sign_in_and_errors_are_well_made(
    browser: Browser, address: str, look_of_it: tuple[str, dict[str, int], str]
) -> None:
    await look_at_all(browser, address, "", OUTSIDE, look_of_it)


async def test_every_page_works_without_scripts(
    browser: Browser, address: str, state: Any, examples: dict[str, str]
) -> None:
    async with visiting(browser, address, java_script_enabled=False, storage_state=state) as visit:
        for path in admin_routes("GET", examples):
            await visit.page.goto(f"{address}{path}")
            await expect(visit.page.get_by_role("heading", level=1)).to_be_visible()
        await visit.page.goto(f"{address}/admin/account")
        await expect(visit.page.get_by_text(" UTC").first).to_be_visible()


async def test_times_are_in_the_readers_zone(browser: Browser, address: str, state: Any) -> None:
    async with visiting(browser, address, storage_state=state, timezone_id="Asia/Tokyo", locale="en") as visit:
        await visit.page.goto(f"{address}/admin/account")
        time = visit.page.locator("time").first
        expected = await time.evaluate(
            "one => new Date(one.dateTime)"
            ".toLocaleString('en', {dateStyle: 'medium', timeStyle: 'short', timeZone: 'Asia/Tokyo'})"
        )
        await expect(time).to_have_text(expected)
        assert (await time.get_attribute("title") or "").endswith(" UTC")


async def test_the_language_is_chosen_and_kept(browser: Browser, address: str, state: Any) -> None:
    async with visiting(browser, address, storage_state=state, locale="en") as visit:
        await visit.page.goto(f"{address}/admin/account")
        await visit.page.get_by_role("link", name="Русский").click()
        await expect(visit.page.get_by_role("heading", level=1)).to_have_text("Учётная запись")
        await visit.page.goto(f"{address}/admin")
        await expect(visit.page.get_by_role("heading", level=1)).to_have_text("Обзор")


async def test_another_session_is_ended_after_it_was_said_what_that_does(browser: Browser, address: str, state: Any) -> None:
    other = await sign_in(browser, address)
    async with visiting(browser, address, storage_state=state, locale="en") as visit:
        page = visit.page
        await page.goto(f"{address}/admin/account")
        await page.get_by_role("link", name="End", exact=True).first.click()
        await expect(page.get_by_text("This will happen:")).to_be_visible()
        await page.get_by_role("button", name="End the session").click()
        await expect(page.get_by_role("status")).to_have_text("The session has ended.")
    async with visiting(browser, address, storage_state=other, locale="en") as visit:
        await visit.page.goto(f"{address}/admin/account")
        await expect(visit.page.get_by_role("button", name="Sign in")).to_be_visible()


async def test_whoever_tabs_sees_where_they_are(browser: Browser, address: str, state: Any) -> None:
    async with visiting(browser, address, storage_state=state) as visit:
        await visit.page.goto(f"{address}/admin/account")
        await visit.page.keyboard.press("Tab")
        await expect(visit.page.get_by_role("link", name="Skip to the content")).to_be_focused()
        for _ in range(5):
            await visit.page.keyboard.press("Tab")
            style = await visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert style == "solid"
