"""The example's landing page beside the service, each a process: whoever comes by a link and signs up on another page is the
referrer's referral, in a browser that runs scripts and in one that runs none."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.support.browsing import PERSON, Visit, chromium, visiting
from tests.support.people import API
from tests.support.servers import free_port, wait_until
from tests.support.service import ROOT, run_py, serving, started, status_of

LANDING = ROOT / "examples" / "landing"
# What the pages have for the service's address.
WRITTEN = "http://127.0.0.1:8000"

# One worker runs them all: one browser and one service are enough.
pytestmark = [pytest.mark.xdist_group("landing"), pytest.mark.asyncio(loop_scope="module")]


@dataclass
class Street:
    """The service, and the product beside it."""

    service: str
    product: str
    key: str

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = httpx.request(method, f"{self.service}{API}{path}", json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    def code_of(self, referrer: str) -> str:
        """The code of a new user of the product's."""
        return str(self.call("PUT", f"/users/ext:{referrer}", {"code": {"ttl_days": 365}})["code"]["code"])

    def stats_of(self, referrer: str) -> dict[str, int]:
        """What became of the referrer's links. A click is written within a second."""
        wait_until(lambda: self.call("GET", f"/users/ext:{referrer}/stats")["totals"]["clicks"] > 0)
        return dict(self.call("GET", f"/users/ext:{referrer}/stats")["totals"])

    def referred_by(self, referrer: str) -> list[str]:
        return [item["email"] for item in self.call("GET", f"/users/ext:{referrer}/referrals")["items"]]


def copied(folder: Path, service: str) -> None:
    """Copy the example, as a product does that writes its service's address into the pages."""
    shutil.copytree(LANDING, folder)
    for page in folder.rglob("*.html"):
        assert WRITTEN in page.read_text()
        page.write_text(page.read_text().replace(WRITTEN, service))


@contextmanager
def product(folder: Path, service: str, port: int, key: str) -> Iterator[str]:
    """The address of the example, beside this service."""
    copied(folder, service)
    settings = {"REFERRAL_URL": service, "REFERRAL_KEY": key, "PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1"}
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, str(folder / "server.py")]
    with started(folder, lambda: status_of(f"{address}/") == 200, settings, command):
        yield address
        assert "Traceback" not in (folder / "service.log").read_text()


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    folder, port = tmp_path_factory.mktemp("street"), free_port()
    make = [*run_py(folder), "keys", "create", "landing", "--scope", "write"]
    key = subprocess.run(make, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    origin = f"http://127.0.0.1:{port}"
    with (
        serving(folder, REFERRAL_LINKS_DESTINATION=f"{origin}/", REFERRAL_SERVER_CORS_ORIGINS=origin) as service,
        product(folder / "landing", service, port, key) as address,
    ):
        yield Street(service, address, key)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module", params=["with scripts", "without scripts"])
async def visit(browser: Browser, street: Street, request: pytest.FixtureRequest) -> AsyncIterator[Visit]:
    """A person's visit, which must end without a complaint."""
    scripts = request.param == "with scripts"
    addresses = (street.product, street.service)
    async with visiting(browser, *addresses, user_agent=PERSON, java_script_enabled=scripts) as found:
        yield found


async def sign_up(page: Page, email: str) -> str:
    """Send the form of the sign-up page that is open. Returns what the service has said of it."""
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_role("button", name="Sign up").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Your shelves are ready")
    return await page.locator(".told output").inner_text()


def named(visit_id: str) -> tuple[str, str]:
    """A referrer, and the address of somebody who comes by them."""
    name = "".join(letter if letter.isalnum() else "-" for letter in visit_id)
    return f"referrer-{name}", f"somebody-{name}@example.com"


async def test_whoever_follows_a_link_and_signs_up_on_another_page_is_a_referral(
    visit: Visit, street: Street, request: pytest.FixtureRequest
) -> None:
    referrer, email = named(request.node.name)
    code = street.code_of(referrer)
    page = visit.page
    await page.goto(f"{street.service}/r/{code}")
    assert page.url.startswith(f"{street.product}/?ref={code}&click=")
    await expect(page.get_by_role("heading", level=1)).to_have_text("The pantry that writes your shopping list")
    await page.get_by_role("link", name="Start for free").click()
    assert page.url == f"{street.product}/signup.html"
    if "without" not in request.node.name:
        await expect(page.locator("[name=ref]")).to_have_value(code)
        await expect(page.locator("[name=click]")).not_to_have_value("")
    else:
        await expect(page.locator("[name=ref]")).to_have_value("")
    assert await sign_up(page, email) == "attributed"
    assert street.referred_by(referrer) == [email]
    assert await asyncio.to_thread(street.stats_of, referrer) == {
        "clicks": 1,
        "visitors": 1,
        "qr": 0,
        "robots": 0,
        "signups": 1,
        "referrals": 1,
        "converted": 0,
    }


async def test_whoever_has_signed_up_gets_a_link_by_the_widget_and_brings_the_next_one(
    browser: Browser, street: Street
) -> None:
    addresses = (street.product, street.service)
    async with visiting(browser, *addresses, user_agent=PERSON) as found:
        await found.page.goto("/signup.html")
        assert await sign_up(found.page, "first@example.com") == "none"
        widget = found.page.locator("referral-widget")
        await widget.get_by_role("button", name="Get a link").click()
        link = await widget.get_by_role("textbox").input_value()
        assert link.startswith(f"{street.service}/r/")
        await expect(widget.get_by_role("img", name="QR code of your link")).to_be_visible()
        await found.keep("landing-widget")
    async with visiting(browser, *addresses, user_agent=PERSON) as found:
        await found.page.goto(link)
        await found.page.get_by_role("link", name="Start for free").click()
        assert await sign_up(found.page, "second@example.com") == "attributed"


async def test_they_may_come_back_another_day(visit: Visit, street: Street, request: pytest.FixtureRequest) -> None:
    referrer, email = named(request.node.name)
    context = visit.page.context
    await visit.page.goto(f"{street.service}/r/{street.code_of(referrer)}")
    await visit.page.close()
    later = await context.new_page()
    await later.goto("/signup.html")
    assert await sign_up(later, email) == "attributed"
    assert street.referred_by(referrer) == [email]


async def test_whoever_comes_by_nobody_signs_up_by_nobody(
    visit: Visit, street: Street, request: pytest.FixtureRequest
) -> None:
    await visit.page.goto("/")
    await visit.page.get_by_role("link", name="Sign up").click()
    assert await sign_up(visit.page, named(request.node.name)[1]) == "none"


async def test_any_web_server_is_enough_for_the_script(browser: Browser, street: Street, tmp_path: Path) -> None:
    copied(tmp_path / "landing", street.service)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", "landing/pages"]
    with started(tmp_path, lambda: status_of(f"{address}/") == 200, {}, command):
        async with visiting(browser, address, street.service, user_agent=PERSON) as visit:
            await visit.page.goto("/?ref=ABCD&click=x")
            await visit.page.get_by_role("link", name="Start for free").click()
            await expect(visit.page.locator("[name=ref]")).to_have_value("ABCD")
            await expect(visit.page.locator("[name=click]")).to_have_value("x")


@pytest.mark.parametrize(
    "query",
    ["", "ref=ABC", "ref=ABCD%0d%0aX:%20y", "ref=ABCD;x", "ref=%3Cb%3E", "click=x", "ref=ABCD&click=a.b"],
)
async def test_the_server_keeps_nothing_malformed(street: Street, query: str) -> None:
    assert "Set-Cookie" not in httpx.get(f"{street.product}/?{query}").headers
    kept = httpx.get(f"{street.product}/signup.html?ref=ABCD&click=x").headers["Set-Cookie"]
    assert kept == "referral=ABCD.x; Path=/; Max-Age=2592000; SameSite=Lax"


async def test_the_form_counts_before_the_cookie(street: Street) -> None:
    older, newer = street.code_of("older"), street.code_of("newer")
    form = {"email": "form@example.com", "ref": newer, "click": ""}
    answer = httpx.post(f"{street.product}/signup", data=form, headers={"Cookie": f"a=b; referral={older}.x; c=d"})
    assert ">attributed<" in answer.text
    assert (street.referred_by("older"), street.referred_by("newer")) == ([], ["form@example.com"])


async def test_what_the_service_answers_is_text(street: Street) -> None:
    answer = httpx.post(f"{street.product}/signup", data={"email": "x", "ref": "NOSUCH01"})
    assert answer.status_code == 200
    assert "not reported: HTTP Error 422" in answer.text
    assert (
        "refused: unknown" in httpx.post(f"{street.product}/signup", data={"email": "u@example.com", "ref": "NOSUCH01"}).text
    )


async def test_a_sign_up_works_while_the_service_is_out(tmp_path: Path) -> None:
    with product(tmp_path / "landing", f"http://127.0.0.1:{free_port()}", free_port(), "key") as address:
        answer = httpx.post(f"{address}/signup", data={"email": "x@example.com"})
        assert answer.status_code == 200
        assert "not reported: &lt;urlopen error" in answer.text
        for path in ("/server.py", "/README.md", "/welcome.html", "/../server.py", "/%2e%2e/server.py"):
            assert httpx.get(f"{address}{path}").status_code == 404
