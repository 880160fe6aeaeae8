"""A real browser (Debian's chromium), somebody's visit with it, and a product's pages on an origin of their own.

Screenshots are left in tests/screenshots/ for whoever wants to look.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright, expect

from tests.support.servers import free_port, program

# Milliseconds: a busy machine may take its time over the documentation.
expect.set_options(timeout=15_000)

SCREENSHOTS = Path(__file__).resolve().parent.parent / "screenshots"
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
# What a person's browser says; that of a headless one is a robot's.
PERSON = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"


def browser_program() -> str:
    """Chromium without its own windows and menus, which take a fifth of the processor."""
    return program("chromium-headless-shell", "chromium-headless-shell")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser, headless."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=browser_program(), args=OPTIONS)
        yield browser
        await browser.close()


class Visit:
    """A fresh profile's page, and all that went wrong on it or was asked of other hosts than these."""

    def __init__(self, page: Page, *addresses: str) -> None:
        self.page = page
        self.address = addresses[0]
        self.addresses = addresses
        self.complaints: list[str] = []
        # What complaints may be about.
        self.expected: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        page.on("request", self._asked)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and f"{parts.scheme}://{parts.netloc}" not in (
            self.address,
            *self.addresses,
        ):
            self.complaints.append(f"another host: {request.url}")

    @property
    def unexpected(self) -> list[str]:
        """The complaints about something else than what was expected."""
        return [text for text in self.complaints if not any(about in text for about in self.expected)]

    async def complains(self, about: str) -> None:
        """Wait for a complaint about this, of which there may be more. A browser's come when they come."""
        self.expected.append(about)
        async with asyncio.timeout(15):
            while not any(about in text for text in self.complaints):
                await asyncio.sleep(0.02)

    async def keep(self, name: str) -> None:
        """Keep a picture of what is seen."""
        SCREENSHOTS.mkdir(exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


async def until(page: Page, expression: str) -> None:
    """Wait until something is true on a page. Unlike `Page.wait_for_function`, this evaluates nothing inside the page, whose
    policy may forbid it."""
    async with asyncio.timeout(15):
        while not await page.evaluate(expression):
            await asyncio.sleep(0.02)


async def axe(page: Page) -> set[str]:
    """What axe checked on the page and found nothing against. Fails with what it found."""
    # Of all other results the names are enough: their details take axe longer than the checks.
    results = await Axe().run(page, options={"resultTypes": ["violations"]})
    assert results.violations_count == 0, f"{page.url}\n{results.generate_report()}"
    return {rule["id"] for rule in results.response["passes"]}


@asynccontextmanager
async def visiting(browser: Browser, *addresses: str, **options: Any) -> AsyncIterator[Visit]:
    """A visit to these addresses that must end without a complaint; `options` are those of a context of the browser's."""
    context = await browser.new_context(**{"base_url": addresses[0], "viewport": {"width": 1280, "height": 1000}, **options})
    context.set_default_timeout(15_000)
    await context.add_init_script(WATCH_POLICY)
    found = Visit(await context.new_page(), *addresses)
    yield found
    await context.close()
    assert found.unexpected == []


class ProductPages:
    """A product's web server: pages by their paths, under a policy of content, on an origin of its own. What forms post is
    kept in `posted`, newest last, and the cookies of each request in `cookies`."""

    def __init__(self, policy: str = "", port: int | None = None) -> None:
        self.policy = policy
        self.pages: dict[str, str] = {}
        self.posted: list[dict[str, str]] = []
        self.cookies: list[dict[str, str]] = []
        self.port = port or free_port()
        self.address = f"http://127.0.0.1:{self.port}"

    async def _answer(self, request: web.Request) -> web.Response:
        self.cookies.append(dict(request.cookies))
        if request.method == "POST":
            self.posted.append({name: str(value) for name, value in (await request.post()).items()})
        page = self.pages.get(request.path)
        if page is None:
            # Browsers ask for an icon of their own accord.
            return web.Response(status=204 if request.path == "/favicon.ico" else 404)
        headers = {"Content-Security-Policy": self.policy} if self.policy else {}
        return web.Response(text=page, content_type="text/html", headers=headers)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ProductPages]:
        """Serve in the block."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        yield self
        await runner.cleanup()
