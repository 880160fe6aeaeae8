"""The documentation and the pages in a real browser, against the service as `run.py` starts it."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from playwright.async_api import Browser, expect

from tests.support.browsing import Visit, chromium, visiting
from tests.support.people import API, PASSWORD, read_mails, text_of
from tests.support.servers import NginxServer, free_port
from tests.support.service import serving

# One worker runs them all: one browser and one service are enough.
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.asyncio(loop_scope="module")]

NEW_PASSWORD = "a password chosen in the browser"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serving(folder) as address:
        yield address


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def visit(browser: Browser, address: str) -> AsyncIterator[Visit]:
    """A visit that must end without a complaint."""
    async with visiting(browser, address) as found:
        yield found


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
    await reset_password_and_sign_in(visit, folder, address, "alice")


async def reset_password_and_sign_in(visit: Visit, folder: Path, address: str, name: str) -> None:
    """Go from a registration to a call in Swagger UI, as somebody of this name. `address` is the service's, with its
    path."""
    page = visit.page
    email = f"{name}@example.com"
    async with ClientSession() as client:
        body = {"email": email, "password": PASSWORD, "username": name}
        async with client.post(f"{address}{API}/auth/register", json=body) as response:
            assert response.status == 201
        async with client.post(f"{address}{API}/auth/password/reset", json={"email": email}) as response:
            assert response.status == 202

    link = urlsplit(reset_link(folder, email))
    assert link.path == f"{urlsplit(address).path}/account/reset"
    await page.goto(f"{visit.address}{link.path}?{link.query}")
    await visit.keep("reset")
    await page.get_by_label("New password").fill(NEW_PASSWORD)
    await page.get_by_role("button", name="Set the password").click()
    await expect(page.get_by_role("heading", name="Your password is set")).to_be_visible()
    await visit.keep("reset-done")

    await page.goto(f"{address}/docs")
    await expect(page.locator(".opblock").first).to_be_visible()
    await visit.keep("docs")
    await page.get_by_role("button", name="Authorize").first.click()
    await page.locator("#oauth_username").fill(email)
    await page.locator("#oauth_password").fill(NEW_PASSWORD)
    await visit.keep("docs-authorize")
    await page.get_by_role("button", name="Apply given OAuth2 credentials").click()
    await expect(page.locator(".modal-ux button", has_text="Logout")).to_be_visible()
    await page.locator(".modal-ux .btn-done").first.click()

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
    await page.get_by_role("button", name="Apply given OAuth2 credentials").click()
    await expect(page.locator(".modal-ux button", has_text="Logout")).to_be_visible()
    await page.locator(".modal-ux .btn-done").first.click()
    call = page.locator("#operations-Me-getMe")
    await call.locator(".opblock-summary-control").click()
    await call.get_by_role("button", name="Try it out").click()
    await call.get_by_role("button", name="Execute").click()
    status = call.locator(".live-responses-table tbody .response-col_status").first
    await expect(status).to_contain_text("200")


async def test_swagger_ui_fills_its_form_of_the_sign_in_with_what_is_taken(visit: Visit, address: str) -> None:
    page = visit.page
    await page.goto(f"{address}/docs")
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


async def test_redoc_shows_and_searches_the_document(visit: Visit, address: str) -> None:
    await search_in_redoc(visit, address)


async def search_in_redoc(visit: Visit, address: str) -> None:
    page = visit.page
    await page.goto(f"{address}/redoc")
    # It draws all operations, which takes a busy machine its time.
    await expect(page.get_by_role("heading", name="Sign in, or refresh")).to_be_attached(timeout=60_000)
    await visit.keep("redoc")
    await page.get_by_placeholder("Search").press_sequentially("after registration")
    await expect(page.get_by_role("search").get_by_text("Use a code after registration").first).to_be_visible()
    await visit.keep("redoc-search")


@pytest.mark.parametrize("path", ["/problems/validation-error", "/account/verify?token=x"])
async def test_small_pages_are_styled(visit: Visit, path: str) -> None:
    page = visit.page
    await page.goto(path)
    await visit.keep(path.partition("?")[0].strip("/").replace("/", "-"))
    assert await page.locator("main").evaluate("main => getComputedStyle(main).maxWidth") != "none"


# Behind a proxy that gives the service a path

PREFIX = "/our-shop/referrals"
# One takes the path off, as nginx does where proxy_pass has a path; the other passes requests on as they are. Metadata is
# looked for on the host, before the path.
PROXIES = """
server { listen 127.0.0.1:%(stripping)d; proxy_set_header Host $http_host;
    location %(prefix)s/ { proxy_pass http://127.0.0.1:%(service)d/; }
    location = /.well-known/oauth-authorization-server%(prefix)s { proxy_pass http://127.0.0.1:%(service)d; } }
server { listen 127.0.0.1:%(keeping)d; proxy_set_header Host $http_host;
    location %(prefix)s { proxy_pass http://127.0.0.1:%(service)d; }
    location = /.well-known/oauth-authorization-server%(prefix)s { proxy_pass http://127.0.0.1:%(service)d; } }
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """The folder of a service with a path, and its hosts: a proxy that takes the path off, and one that keeps it."""
    folder, nginx, keeping = tmp_path_factory.mktemp("shop"), NginxServer(tmp_path_factory.mktemp("nginx")), free_port()
    public_url = f"http://127.0.0.1:{nginx.port}{PREFIX}"
    with serving(folder, REFERRAL_SERVER_PUBLIC_URL=public_url) as address:
        ports = {"stripping": nginx.port, "keeping": keeping, "service": urlsplit(address).port}
        nginx.servers = PROXIES % {**ports, "prefix": PREFIX}
        nginx.start()
        try:
            yield folder, {name: f"http://127.0.0.1:{ports[name]}" for name in ("stripping", "keeping")}
        finally:
            nginx.stop()


async def test_behind_a_proxy_with_a_path_mailed_pages_and_the_documentation_work(
    visit: Visit, shop: tuple[Path, dict[str, str]]
) -> None:
    folder, hosts = shop
    # A browser sees the same of the other proxy; the addresses are followed through both below.
    visit.address = hosts["stripping"]
    await reset_password_and_sign_in(visit, folder, f"{visit.address}{PREFIX}", "alice")
    await search_in_redoc(visit, f"{visit.address}{PREFIX}")


@pytest.mark.parametrize("proxy", ["stripping", "keeping"])
async def test_behind_a_proxy_with_a_path_every_address_leads_somewhere(
    shop: tuple[Path, dict[str, str]], proxy: str
) -> None:
    """Whatever address an answer names, a client that follows it through the proxy finds what it is said to be."""
    host = shop[1][proxy]
    base = f"{host}{PREFIX}"
    async with ClientSession() as client:

        async def ask(method: str, url: str, status: int, **options: Any) -> tuple[Any, Any]:
            async with client.request(method, urljoin(base, url), allow_redirects=False, **options) as response:
                assert response.status == status, (url, await response.text())
                is_json = "json" in response.content_type
                return response.headers, await response.json(content_type=None) if is_json else await response.text()

        headers, _ = await ask("GET", f"{base}/", 302)
        assert headers["Location"] == f"{PREFIX}/docs"
        await ask("GET", headers["Location"], 200)

        _, problem = await ask("GET", f"{base}{API}/codes/NO-SUCH", 404)
        assert (problem["type"], problem["instance"]) == (f"{PREFIX}/problems/not-found", f"{PREFIX}{API}/codes/NO-SUCH")
        _, page = await ask("GET", problem["type"], 200)
        assert problem["type"] in page

        _, metadata = await ask("GET", f"{host}/.well-known/oauth-authorization-server{PREFIX}", 200)
        assert metadata == (await ask("GET", f"{base}/.well-known/oauth-authorization-server", 200))[1]
        public_url = metadata["issuer"]
        assert urlsplit(public_url).path == PREFIX
        there = {name: url.replace(public_url, base) for name, url in metadata.items() if isinstance(url, str)}
        await ask("GET", there["jwks_uri"], 200)
        await ask("GET", there["service_documentation"], 200)
        _, error = await ask("POST", there["token_endpoint"], 400, data={"grant_type": "nothing"})
        assert error["error"] == "unsupported_grant_type"
        await ask("POST", there["revocation_endpoint"], 200, data={"token": "x"})

        _, document = await ask("GET", f"{base}/openapi.json", 200)
        assert document["servers"] == [{"url": public_url}]
        flow = document["components"]["securitySchemes"]["OAuth2"]["flows"]["password"]
        assert {flow["tokenUrl"], flow["refreshUrl"]} == {metadata["token_endpoint"]}
        for link in set(re.findall(r"\]\((/[^)]+)\)", str(document))):
            await ask("GET", link, 200)

        body = {"email": f"bob-{proxy}@example.com", "password": PASSWORD}
        _, registered = await ask("POST", f"{base}{API}/auth/register", 201, json=body)
        signed_in = {"Authorization": f"Bearer {registered['access_token']}"}
        for _ in range(3):
            headers, code = await ask(
                "POST", f"{base}{API}/codes", 201, json={"ttl_days": 1, "replace": True}, headers=signed_in
            )
            _, found = await ask("GET", headers["Location"], 200)
            assert found["code"] == code["code"]
        headers, first = await ask("GET", f"{base}{API}/codes?limit=2", 200, headers=signed_in)
        following = re.fullmatch(r'<(.+)>; rel="next"', headers["Link"])
        assert following
        _, second = await ask("GET", following[1], 200, headers=signed_in)
        assert [len(page["items"]) for page in (first, second)] == [2, 1]
