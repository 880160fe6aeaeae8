"""The documentation and the pages in a real browser, against the service as `run.py` starts it.

Screenshots are left in tests/screenshots/ for whoever wants to look.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright, expect

from tests.support.people import API, PASSWORD, read_mails, text_of
from tests.support.servers import program
from tests.support.service import serving

# One worker runs them all: one browser and one service are enough.
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.asyncio(loop_scope="module")]

SCREENSHOTS = Path(__file__).resolve().parent.parent / "screenshots"
NEW_PASSWORD = "a password chosen in the browser"
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Chromium reports what a policy refused as an event of the document.
WATCH_POLICY = (
    "document.addEventListener('securitypolicyviolation', e => console.error('policy:', e.violatedDirective, e.blockedURI))"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serving(folder) as address:
        yield address


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    executable = program("chromium", "chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=OPTIONS)
        yield browser
        await browser.close()


class Visit:
    """A fresh profile's page, and all that went wrong on it or was asked of another host."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.complaints: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        page.on("request", self._asked)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and f"{parts.scheme}://{parts.netloc}" != self.address:
            self.complaints.append(f"another host: {request.url}")

    async def keep(self, name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


@pytest_asyncio.fixture(loop_scope="module")
async def visit(browser: Browser, address: str) -> AsyncIterator[Visit]:
    """A visit that must end without a complaint."""
    context = await browser.new_context(base_url=address, viewport={"width": 1280, "height": 1000})
    context.set_default_timeout(10_000)
    await context.add_init_script(WATCH_POLICY)
    found = Visit(await context.new_page(), address)
    yield found
    await context.close()
    assert found.complaints == []


def reset_link(folder: Path, email: str) -> str:
    """The link of the mail that resets a password, once it is there."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for mail in read_mails(folder / "var" / "mail", email):
            link = re.search(r"http://\S+/account/reset\?token=\S+", text_of(mail))
            if link:
                return link[0]
        time.sleep(0.02)
    raise AssertionError("no mail with a link came")


async def test_a_password_is_reset_by_a_mailed_link_and_signs_in_to_swagger_ui(
    visit: Visit, address: str, folder: Path
) -> None:
    page = visit.page
    email = "alice@example.com"
    async with ClientSession(address) as client:
        body = {"email": email, "password": PASSWORD, "username": "alice"}
        async with client.post(f"{API}/auth/register", json=body) as response:
            assert response.status == 201
        async with client.post(f"{API}/auth/password/reset", json={"email": email}) as response:
            assert response.status == 202

    await page.goto(reset_link(folder, email))
    await visit.keep("reset")
    await page.get_by_label("New password").fill(NEW_PASSWORD)
    await page.get_by_role("button", name="Set the password").click()
    await expect(page.get_by_role("heading", name="Your password is set")).to_be_visible()
    await visit.keep("reset-done")

    await page.goto("/docs")
    await expect(page.locator(".opblock").first).to_be_visible()
    await visit.keep("docs")
    await page.get_by_role("button", name="Authorize").first.click()
    await page.locator("#oauth_username").fill(email)
    await page.locator("#oauth_password").fill(NEW_PASSWORD)
    await visit.keep("docs-authorize")
    await page.locator(".modal-ux button.authorize").click()
    await expect(page.locator(".modal-ux button", has_text="Logout")).to_be_visible()
    await page.locator(".modal-ux .btn-done").click()

    call = page.locator("#operations-Me-getMe")
    await call.locator(".opblock-summary-control").click()
    await call.get_by_role("button", name="Try it out").click()
    await call.get_by_role("button", name="Execute").click()
    live = call.locator(".live-responses-table")
    await expect(live.locator("tbody .response-col_status").first).to_contain_text("200")
    await expect(live).to_contain_text(email)
    await live.scroll_into_view_if_needed()
    await visit.keep("docs-try-it-out")


async def test_swagger_ui_calls_where_it_was_opened_whatever_the_public_url_says(
    browser: Browser, address: str, visit: Visit
) -> None:
    page = visit.page
    other = address.replace("127.0.0.1", "localhost")
    visit.address = other
    async with ClientSession(address) as client:
        body = {"email": "other@example.com", "password": PASSWORD}
        async with client.post(f"{API}/auth/register", json=body) as response:
            assert response.status == 201
    await page.goto(f"{other}/docs")
    await page.get_by_role("button", name="Authorize").first.click()
    await page.locator("#oauth_username").fill("other@example.com")
    await page.locator("#oauth_password").fill(PASSWORD)
    await page.locator(".modal-ux button.authorize").click()
    await expect(page.locator(".modal-ux button", has_text="Logout")).to_be_visible()
    await page.locator(".modal-ux .btn-done").click()
    call = page.locator("#operations-Me-getMe")
    await call.locator(".opblock-summary-control").click()
    await call.get_by_role("button", name="Try it out").click()
    await call.get_by_role("button", name="Execute").click()
    status = call.locator(".live-responses-table tbody .response-col_status").first
    await expect(status).to_contain_text("200")


async def test_swagger_ui_fills_its_form_of_the_sign_in_with_what_is_taken(visit: Visit) -> None:
    page = visit.page
    await page.goto("/docs")
    call = page.locator("#operations-Authentication-createToken")
    await call.locator(".opblock-summary-control").click()
    await call.get_by_role("button", name="Try it out").click()
    for member, value in (
        ("username", "alice@example.com"),
        ("password", "correct horse battery staple"),
        ("refresh_token", "hR2nF0cZ7v8mQx1TzYk3w5LJ9sEaBdGiUoPqXyWtVfM"),
    ):
        await expect(call.get_by_placeholder(member, exact=True)).to_have_value(value)
    await visit.keep("docs-sign-in")


async def test_redoc_shows_and_searches_the_document(visit: Visit) -> None:
    page = visit.page
    await page.goto("/redoc")
    await expect(page.get_by_role("heading", name="Sign in, or refresh")).to_be_attached(timeout=15_000)
    await visit.keep("redoc")
    await page.get_by_placeholder("Search").press_sequentially("referrer")
    await expect(page.get_by_role("search").get_by_text("Use a code after registration").first).to_be_visible()
    await visit.keep("redoc-search")


@pytest.mark.parametrize("path", ["/problems/validation-error", "/account/verify?token=x"])
async def test_small_pages_are_styled(visit: Visit, path: str) -> None:
    page = visit.page
    await page.goto(path)
    await visit.keep(path.partition("?")[0].strip("/").replace("/", "-"))
    assert await page.locator("main").evaluate("main => getComputedStyle(main).maxWidth") != "none"
