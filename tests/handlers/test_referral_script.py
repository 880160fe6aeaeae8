"""referral.js in a real browser, on a product's pages under a strict policy: by whose link somebody came is kept until they
sign up, and nothing else is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from tests.support.browsing import PERSON, ProductPages, Visit, chromium, until, visiting
from tests.support.people import API, PASSWORD
from tests.support.servers import free_port
from tests.support.service import ROOT, serving

# One worker runs them all: one browser and one service are enough.
pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.asyncio(loop_scope="module")]

SCRIPT = ROOT / "referral" / "assets" / "referral.js"
MOST_BYTES = 2_048
DAY = 86_400
FIELDS = '<input type="hidden" name="ref"><input type="hidden" name="click">'
FORM = f'<form data-referral method="post" action="/signup">{FIELDS}<button>Sign up</button></form>'
# Of the service, which a proxy may take off or not.
PATH = "/some/path"
A, B = ("ALICE001", "0198c0de-0000-7000-8000-00000000000a"), ("BOB-0002", "0198c0de-0000-7000-8000-00000000000b")


@pytest.fixture(scope="module")
def port() -> int:
    """The product's port, which the service has to know before the product starts."""
    return free_port()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[str]:
    settings = {
        "REFERRAL_LINKS_DESTINATION": f"http://127.0.0.1:{port}/landing",
        "REFERRAL_LINKS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port}",
        "REFERRAL_SERVER_PUBLIC_URL": f"http://127.0.0.1{PATH}",
        "REFERRAL_LIMITS_ENABLED": "false",
    }
    with serving(tmp_path_factory.mktemp("script"), **settings) as address:
        yield address


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@dataclass
class Referrer:
    """Alice, whose code is A's, at the service."""

    client: ClientSession

    async def clicks(self) -> int:
        async with self.client.get("users/me/stats") as response:
            return int((await response.json())["totals"]["clicks"])

    async def register_by(self, click_id: str) -> str:
        """Register somebody new by a click, and return what became of it."""
        body = {"email": f"{click_id}@example.com", "password": PASSWORD, "click_id": click_id}
        async with self.client.post("auth/register", json=body) as response:
            return str((await response.json())["attribution"]["status"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alice(address: str) -> AsyncIterator[Referrer]:
    async with ClientSession(f"{address}{API}/") as client:
        async with client.post("auth/register", json={"email": "alice@example.com", "password": PASSWORD}) as response:
            client.headers["Authorization"] = f"Bearer {(await response.json())['access_token']}"
        async with client.post("codes", json={"code": A[0], "ttl_days": 30}) as response:
            assert response.status == 201
        yield Referrer(client)


@pytest.fixture
def code(alice: Referrer) -> str:
    """A code of somebody's, as the service has it."""
    return A[0]


class Product(ProductPages):
    """A product whose every page includes the script."""

    def __init__(self, service: str, port: int) -> None:
        super().__init__(
            f"default-src 'none'; script-src {service}/; connect-src {service}/; form-action 'self'; "
            "require-trusted-types-for 'script'",
            port,
        )
        self.service = service
        self.write()

    def write(self, attributes: str = "", body: str = FORM, script: str = "/referral.js") -> None:
        """Make the pages anew, with these attributes of the script and this body."""
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>A product</title>'
            f'<script src="{self.service}{script}" {attributes} defer></script>{body}'
        )
        self.pages = dict.fromkeys(("/", "/landing", "/pricing", "/signup", "/a/b/c"), page)


@pytest_asyncio.fixture(loop_scope="module")
async def product(address: str, port: int) -> AsyncIterator[Product]:
    async with Product(address, port).open() as product:
        assert isinstance(product, Product)
        yield product


def visit_of(browser: Browser, product: Product, **options: Any) -> AbstractAsyncContextManager[Visit]:
    return visiting(browser, product.address, product.service, user_agent=PERSON, **options)


@pytest_asyncio.fixture(loop_scope="module")
async def visit(browser: Browser, product: Product) -> AsyncIterator[Visit]:
    """A person's visit, which must end without a complaint."""
    async with visit_of(browser, product) as found:
        yield found


def by(link: tuple[str, str], path: str = "/landing") -> str:
    """Where somebody lands by a code and a click."""
    return f"{path}?ref={link[0]}&click={link[1]}"


def kept_of(link: tuple[str, str]) -> str:
    return ".".join(link)


async def sign_up(page: Page, product: Product) -> tuple[str | None, str | None]:
    """Submit the page's form. Returns what it posts as `ref` and `click`."""
    count = len(product.posted)
    async with page.expect_response(lambda response: response.request.method == "POST"):
        await page.get_by_role("button", name="Sign up").click()
    assert len(product.posted) == count + 1
    return product.posted[-1].get("ref"), product.posted[-1].get("click")


async def cookies(context: BrowserContext) -> list[dict[str, Any]]:
    return [dict(cookie) for cookie in await context.cookies()]


async def cookie_of(context: BrowserContext) -> dict[str, Any]:
    """The only cookie that there is."""
    [cookie] = await cookies(context)
    assert cookie["name"] == "referral"
    return cookie


async def known(page: Page) -> Any:
    return await page.evaluate("referral.get()")


def known_as(link: tuple[str, str]) -> dict[str, str]:
    return {"code": link[0], "click_id": link[1]}


NOTHING = {"code": None, "click_id": None}


async def test_it_is_small() -> None:
    assert 1_000 < SCRIPT.stat().st_size <= MOST_BYTES


# From a link to a sign-up


async def test_somebody_who_came_by_a_link_signs_up_on_another_page(
    visit: Visit, product: Product, address: str, code: str
) -> None:
    page = visit.page
    await page.goto(f"{address}/r/{code.lower()}")
    landed = urlsplit(page.url)
    assert f"{landed.scheme}://{landed.netloc}{landed.path}" == f"{product.address}/landing"
    query = parse_qs(landed.query)
    assert query["ref"] == [code]
    [click] = query["click"]
    cookie = await cookie_of(page.context)
    assert cookie["value"] == f"{code}.{click}"
    assert (cookie["domain"], cookie["path"], cookie["sameSite"]) == ("127.0.0.1", "/", "Lax")
    assert (cookie["secure"], cookie["httpOnly"]) == (False, False)
    assert abs(cookie["expires"] - time.time() - 30 * DAY) < 60
    await page.goto("/pricing")
    await page.goto("/signup")
    assert await sign_up(page, product) == (code, click)
    # The product's back end has it from the cookie, too.
    assert product.cookies[-1] == {"referral": f"{code}.{click}"}


async def test_a_form_of_the_landing_page_itself_is_filled(visit: Visit, product: Product) -> None:
    await visit.page.goto(by(A))
    assert await sign_up(visit.page, product) == A


async def test_the_link_is_known_when_the_page_was_closed_and_another_is_opened(visit: Visit, product: Product) -> None:
    context = visit.page.context
    await visit.page.goto(by(A))
    await visit.page.close()
    later = await context.new_page()
    await later.goto("/signup")
    assert await known(later) == known_as(A)
    assert await sign_up(later, product) == A


async def test_somebody_who_came_by_no_link_is_nobodys(visit: Visit, product: Product) -> None:
    await visit.page.goto("/signup?utm_source=x&prefer=ABCD&xref=ABCD&ref=&click=x")
    assert await known(visit.page) == NOTHING
    assert await sign_up(visit.page, product) == ("", "")
    assert await cookies(visit.page.context) == []


async def test_a_code_without_a_click_is_kept(visit: Visit, product: Product) -> None:
    await visit.page.goto("/landing?ref=alice_-1")
    assert (await cookie_of(visit.page.context))["value"] == "alice_-1."
    assert await known(visit.page) == {"code": "alice_-1", "click_id": None}
    await visit.page.goto("/signup")
    assert await sign_up(visit.page, product) == ("alice_-1", "")


async def test_the_code_alone_takes_no_click_away(visit: Visit, product: Product) -> None:
    """The product's own links may carry the code on."""
    await visit.page.goto(by(A))
    await visit.page.goto(f"/signup?ref={A[0]}")
    assert await sign_up(visit.page, product) == A
    await visit.page.goto(f"/signup?ref={B[0]}")
    assert await sign_up(visit.page, product) == (B[0], "")


async def test_the_cookie_that_a_link_of_the_service_sets_is_the_same(visit: Visit, product: Product) -> None:
    cookie = {"name": "referral", "value": kept_of(A), "url": product.address}
    await visit.page.context.add_cookies([cookie])  # type: ignore[list-item]
    await visit.page.goto("/signup")
    assert await sign_up(visit.page, product) == A
    await visit.page.goto(by(B))
    assert (await cookie_of(visit.page.context))["value"] == kept_of(B)


@pytest.mark.parametrize("value", ["google.com/x", "ABCD", ".", ".x", "ABCD.x.y", '"ABCD.x"', "<b>.x"])
async def test_a_cookie_of_that_name_that_is_somebody_elses_is_not_read(visit: Visit, product: Product, value: str) -> None:
    cookie = {"name": "referral", "value": value, "url": product.address}
    other = {"name": "my-referral", "value": kept_of(A), "url": product.address}
    await visit.page.context.add_cookies([cookie, other])  # type: ignore[list-item]
    await visit.page.goto("/signup")
    assert await known(visit.page) == NOTHING
    await visit.page.goto(by(B))
    assert await known(visit.page) == known_as(B)


# What is in an address


@pytest.mark.parametrize(
    "text",
    [
        "%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        '"><b>ABCD',
        "ABCD%3B%20Domain%3Dexample.com",
        "ABCD; Max-Age=1",
        "ABCD%0D%0ASet-Cookie:x",
        "ABCD%00",
        "ABCD.EFGH",
        "ABCD%2EEFGH",
        "ABCD=EFGH",
        "ABC",
        "A" * 33,
        "null%20",
        "%EF%BC%A1%EF%BC%A2%EF%BC%A3%EF%BC%A4",
    ],
)
async def test_a_malformed_code_reaches_no_cookie_and_no_field(visit: Visit, product: Product, text: str) -> None:
    await visit.page.goto(f"/signup?ref={text}&click={A[1]}")
    assert await cookies(visit.page.context) == []
    assert await known(visit.page) == NOTHING
    assert await sign_up(visit.page, product) == ("", "")


@pytest.mark.parametrize("text", ["%3Cb%3E", "x%3B%20Path%3D%2Fx", "a.b", "a b", "A" * 65, ""])
async def test_a_malformed_click_is_none(visit: Visit, product: Product, text: str) -> None:
    await visit.page.goto(f"/signup?ref={A[0]}&click={text}")
    assert (await cookie_of(visit.page.context))["value"] == f"{A[0]}."
    assert await sign_up(visit.page, product) == (A[0], "")


async def test_an_address_of_ten_thousand_characters_is_malformed(visit: Visit, product: Product) -> None:
    # No server takes such an address, but a router may make one.
    page, text = visit.page, "A" * 10_000
    await page.goto("/signup")
    await page.evaluate("address => history.pushState(null, '', address)", f"/signup?ref={text}")
    assert await known(page) == NOTHING
    assert await cookies(page.context) == []
    await page.evaluate("address => history.pushState(null, '', address)", f"/signup?ref={A[0]}&click={text}")
    assert await sign_up(page, product) == (A[0], "")


async def test_names_that_objects_have_are_texts(visit: Visit, product: Product) -> None:
    page = visit.page
    await page.goto("/signup?ref=__proto__&click=constructor&__proto__=x&toString=y")
    assert (await cookie_of(page.context))["value"] == "__proto__.constructor"
    assert await known(page) == {"code": "__proto__", "click_id": "constructor"}
    assert await page.evaluate("[Object.keys(Object.prototype), typeof {}.constructor]") == [[], "function"]
    assert await sign_up(page, product) == ("__proto__", "constructor")


@pytest.mark.parametrize(
    "query",
    [
        "click={1}&ref={0}",
        "a=b&ref={0}&c&click={1}&d=e",
        "doubleclick=x&ref={0}&click={1}",
        "ref={0}&click={1}&ref=BOB&click=x#x?ref=EVE1",
    ],
)
async def test_the_order_of_the_query_does_not_matter(visit: Visit, query: str) -> None:
    await visit.page.goto(f"/landing?{query.format(*A)}")
    assert await known(visit.page) == known_as(A)


# How it is kept


async def test_a_page_deep_in_the_product_keeps_it_for_all(visit: Visit, product: Product) -> None:
    await visit.page.goto(by(A, "/a/b/c"))
    assert (await cookie_of(visit.page.context))["path"] == "/"
    await visit.page.goto("/")
    assert await sign_up(visit.page, product) == A


async def test_the_days_are_the_products(visit: Visit, product: Product) -> None:
    product.write('data-days="7"')
    await visit.page.goto(by(A))
    assert abs((await cookie_of(visit.page.context))["expires"] - time.time() - 7 * DAY) < 60


async def test_hosts_of_a_domain_share_it(browser: Browser, product: Product) -> None:
    product.write('data-domain="shop.localhost"')
    www, app = (product.address.replace("127.0.0.1", f"{name}.shop.localhost") for name in ("www", "app"))
    async with visiting(browser, www, app, product.service, user_agent=PERSON) as visit:
        await visit.page.goto(f"{www}{by(A)}")
        cookie = await cookie_of(visit.page.context)
        assert (cookie["domain"], cookie["path"]) == (".shop.localhost", "/")
        await visit.page.goto(f"{app}/signup")
        assert await sign_up(visit.page, product) == A
        await visit.page.evaluate("referral.consent(false)")
        assert await cookies(visit.page.context) == []


async def test_without_a_domain_a_host_has_its_own(browser: Browser, product: Product) -> None:
    www, app = (product.address.replace("127.0.0.1", f"{name}.shop.localhost") for name in ("www", "app"))
    async with visiting(browser, www, app, product.service, user_agent=PERSON) as visit:
        await visit.page.goto(f"{www}{by(A)}")
        assert (await cookie_of(visit.page.context))["domain"] == "www.shop.localhost"
        await visit.page.goto(f"{app}/signup")
        assert await known(visit.page) == NOTHING


async def test_a_page_by_https_keeps_it_for_https_alone(browser: Browser) -> None:
    host = "https://www.example.test"

    async def answer(route: Route) -> None:
        is_script = route.request.url.endswith(".js")
        body = SCRIPT.read_text() if is_script else '<!doctype html><script src="/referral.js" defer></script>'
        await route.fulfill(body=body, content_type="text/javascript" if is_script else "text/html")

    async with visiting(browser, host, user_agent=PERSON) as visit:
        await visit.page.context.route(f"{host}/**", answer)
        await visit.page.goto(by(A))
        cookie = await cookie_of(visit.page.context)
        assert (cookie["value"], cookie["secure"]) == (kept_of(A), True)


# Where nothing can be kept


BLOCKED = {
    "throws": "const no = () => { throw new DOMException('no', 'SecurityError') };"
    "Object.defineProperty(document, 'cookie', { get: no, set: no })",
    "is a no-op": "Object.defineProperty(document, 'cookie', { get: () => '', set: () => {} })",
}


@pytest.mark.parametrize("how", BLOCKED)
async def test_where_the_cookie_is_blocked_the_page_remembers(visit: Visit, product: Product, how: str) -> None:
    page = visit.page
    await page.context.add_init_script(BLOCKED[how])
    await page.goto(by(A))
    assert await known(page) == known_as(A)
    assert await page.evaluate(f"history.pushState(null, '', '{by(B)}'), referral.get()") == known_as(B)
    await page.evaluate("history.pushState(null, '', '/signup')")
    assert await sign_up(page, product) == B
    assert await cookies(page.context) == []
    # The page that the form leads to knows nothing.
    assert await known(page) == NOTHING


@pytest.mark.parametrize("how", BLOCKED)
async def test_where_the_cookie_is_blocked_consent_can_be_withdrawn(visit: Visit, product: Product, how: str) -> None:
    product.write("data-consent")
    page = visit.page
    await page.context.add_init_script(BLOCKED[how])
    await page.goto(by(A))
    await page.evaluate("referral.consent(true)")
    assert await known(page) == known_as(A)
    await page.evaluate("referral.consent(false)")
    assert await known(page) == NOTHING
    assert await sign_up(page, product) == ("", "")


async def test_a_sandboxed_frame_remembers(visit: Visit, product: Product) -> None:
    page = visit.page
    frame = f"{product.address}{by(A, '/signup')}"
    await page.set_content(f'<iframe sandbox="allow-scripts allow-forms" src="{frame}"></iframe>')
    inside = page.frame_locator("iframe")
    read = "() => { try { return document.cookie } catch (error) { return error.name } }"
    assert await inside.locator("html").evaluate(read) == "SecurityError"
    await expect(inside.locator("[name=ref]")).to_have_value(A[0])
    async with page.expect_response(lambda response: response.request.method == "POST"):
        await inside.get_by_role("button").click()
    assert (product.posted[-1]["ref"], product.posted[-1]["click"]) == A


# Consent


async def test_nothing_is_kept_before_consent_nor_after_it_is_withdrawn(visit: Visit, product: Product) -> None:
    product.write("data-consent")
    page = visit.page
    await page.goto(by(A, "/signup"))
    assert await cookies(page.context) == []
    assert await known(page) == known_as(A)
    await expect(page.locator("[name=ref]")).to_have_value(A[0])
    await page.evaluate("referral.consent(true)")
    assert (await cookie_of(page.context))["value"] == kept_of(A)

    # The next page has not been told, and needs not be.
    await page.goto("/pricing")
    assert await known(page) == known_as(A)
    await page.goto(by(B))
    assert (await cookie_of(page.context))["value"] == kept_of(B)

    await page.evaluate("referral.consent(false)")
    assert await cookies(page.context) == []
    assert await known(page) == NOTHING
    assert await page.locator("[name=ref], [name=click]").evaluate_all("all => all.map(one => one.value)") == ["", ""]
    assert await sign_up(page, product) == ("", "")
    await page.goto(by(A))
    assert await cookies(page.context) == []


async def test_without_consent_forms_of_the_page_are_filled_and_no_others(visit: Visit, product: Product) -> None:
    product.write("data-consent")
    await visit.page.goto(by(A))
    assert await sign_up(visit.page, product) == A
    assert await cookies(visit.page.context) == []
    assert await known(visit.page) == NOTHING
    await visit.page.evaluate("referral.consent(true)")
    assert await cookies(visit.page.context) == []


async def test_links_after_a_withdrawal_are_not_kept(visit: Visit) -> None:
    page = visit.page
    await page.goto(by(A))
    await page.evaluate("referral.consent(false)")
    assert await page.evaluate(f"history.pushState(null, '', '{by(B)}'), referral.get()") == known_as(B)
    assert await cookies(page.context) == []
    await page.evaluate("referral.consent(true)")
    assert (await cookie_of(page.context))["value"] == kept_of(B)


async def test_consent_that_is_told_on_each_page_makes_it_last_no_longer(visit: Visit, product: Product) -> None:
    product.write("data-consent")
    page = visit.page
    expires = int(time.time()) + 5 * DAY
    cookie = {"name": "referral", "value": kept_of(A), "url": product.address, "expires": expires}
    await page.context.add_cookies([cookie])  # type: ignore[list-item]
    await page.goto("/pricing")
    await page.evaluate("referral.consent(true)")
    assert abs((await cookie_of(page.context))["expires"] - expires) < 60


async def test_a_withdrawal_on_another_page_counts_on_this_one(visit: Visit, product: Product) -> None:
    product.write("data-consent")
    page, other = visit.page, await visit.page.context.new_page()
    await page.goto(by(A))
    await page.evaluate("referral.consent(true)")
    await other.goto("/pricing")
    assert await known(other) == known_as(A)
    await page.evaluate("referral.consent(false)")
    await other.evaluate(f"history.pushState(null, '', '{by(B)}'), referral.get()")
    assert await cookies(page.context) == []


# Which link counts


@pytest.mark.parametrize(("model", "counts"), [("", B), ('data-model="last"', B), ('data-model="first"', A)])
async def test_of_two_tabs_the_form_of_either_has_the_link_that_counts(
    visit: Visit, product: Product, model: str, counts: tuple[str, str]
) -> None:
    product.write(model)
    older, newer = visit.page, await visit.page.context.new_page()
    await older.goto(by(A, "/signup"))
    await newer.goto(by(B, "/signup"))
    # The older tab's fields are of its own link until it is sent.
    await expect(older.locator("[name=ref]")).to_have_value(A[0])
    assert await known(older) == known_as(counts)
    assert await sign_up(older, product) == counts
    assert await sign_up(newer, product) == counts
    assert (await cookie_of(older.context))["value"] == kept_of(counts)


@pytest.mark.parametrize(("model", "counts"), [("last", B), ("first", A)])
async def test_of_two_links_in_a_tab_one_counts(visit: Visit, product: Product, model: str, counts: tuple[str, str]) -> None:
    product.write(f'data-model="{model}" data-consent')
    await visit.page.goto(by(A))
    await visit.page.evaluate(f"history.pushState(null, '', '{by(B)}'), document.body.append('new')")
    assert await sign_up(visit.page, product) == counts


# Forms


async def test_an_application_of_one_page_is_followed_and_its_later_form_is_filled(visit: Visit, product: Product) -> None:
    product.write(body="<main></main>")
    page = visit.page
    await page.goto("/")
    # As a router does: it changes the address, and draws.
    draw = "address => { history.pushState(null, '', address); document.querySelector('main').append('drawn') }"
    await page.evaluate(draw, by(A))
    assert (await cookie_of(page.context))["value"] == kept_of(A)
    await page.evaluate(draw, "/signup")
    await page.evaluate(
        """() => {
            const form = document.createElement("form");
            Object.assign(form, { method: "post", action: "/signup" }).dataset.referral = "";
            for (const name of ["ref", "click"])
                form.append(Object.assign(document.createElement("input"), { type: "hidden", name }));
            form.append(Object.assign(document.createElement("button"), { textContent: "Sign up" }));
            document.querySelector("main").append(form);
        }"""
    )
    await expect(page.locator("[name=ref]")).to_have_value(A[0])
    await expect(page.locator("[name=click]")).to_have_value(A[1])
    assert await sign_up(page, product) == A


async def test_a_script_that_sends_the_form_itself_finds_it_filled(visit: Visit, product: Product) -> None:
    """Its listener runs after the capture, whenever it was added."""
    older, newer = visit.page, await visit.page.context.new_page()
    await older.goto(by(A, "/signup"))
    await older.evaluate(
        """() => document.forms[0].addEventListener("submit", (event) => {
            event.preventDefault();
            window.sent = Object.fromEntries(new FormData(event.target));
        }, true)"""
    )
    await newer.goto(by(B))
    await older.get_by_role("button").click()
    assert await older.evaluate("sent") == {"ref": B[0], "click": B[1]}


@pytest.mark.parametrize("attributes", ["", "async"])
async def test_a_script_that_comes_late_fills_what_is_there(visit: Visit, product: Product, attributes: str) -> None:
    """A product whose own scripts must not wait for the service includes it with `async`."""
    product.write(attributes)
    drawn = asyncio.Event()

    async def hold(route: Route) -> None:
        await drawn.wait()
        await route.continue_()

    page = visit.page
    await page.context.route(f"{product.service}/referral.js", hold)
    await page.goto(by(A, "/signup"), wait_until="commit")
    await expect(page.get_by_role("button")).to_be_visible()
    await expect(page.locator("[name=ref]")).to_have_value("")
    drawn.set()
    await expect(page.locator("[name=ref]")).to_have_value(A[0])
    assert await sign_up(page, product) == A


async def test_every_form_that_asks_for_it_is_filled_and_no_other(visit: Visit, product: Product) -> None:
    product.write(
        body=f'<form id="one" data-referral>{FIELDS}</form><form id="two" data-referral>{FIELDS}</form>'
        f'<form id="other">{FIELDS}</form><form id="typed" data-referral><input name="ref" value="typed">{FIELDS}</form>'
        f'<form id="partly" data-referral><input type="hidden" name="click"><input type="hidden" name="reference"></form>'
        '<form id="referral" data-referral></form><div data-referral><input type="hidden" name="ref" id="alone"></div>'
    )
    await visit.page.goto(by(A))
    found = await visit.page.evaluate(
        "() => Object.fromEntries([...document.forms].map(form => [form.id, [...form.elements].map(field => field.value)]))"
    )
    assert found == {
        "one": list(A),
        "two": list(A),
        "other": ["", ""],
        "typed": ["typed", *A],
        "partly": [A[1], ""],
        "referral": [],
    }
    assert await visit.page.locator("#alone").input_value() == ""
    # A form of that name does not stand before the script.
    assert await known(visit.page) == known_as(A)


async def test_what_the_product_put_into_the_fields_stays_where_nothing_is_known(visit: Visit, product: Product) -> None:
    product.write(body=FORM.replace('name="ref"', 'name="ref" value="own"'))
    await visit.page.goto("/signup")
    assert await sign_up(visit.page, product) == ("own", "")


# Clicks that the page reports


class Clicks:
    """What stands between a page and the service's `POST /api/v1/clicks`, at the service's address with a path: it sees each
    report, may hold up the service's answer, or give another one in its place."""

    def __init__(self, service: str) -> None:
        self.base = f"{service}{PATH}"
        self.in_its_place: tuple[int, Any] | None = None
        self.reported: list[Any] = []
        self.click_ids: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()

    async def stand_between(self, context: BrowserContext) -> None:
        async def clicked(route: Route) -> None:
            assert route.request.method == "POST"
            assert route.request.headers["content-type"] == "application/json"
            self.reported.append(route.request.post_data_json)
            await self.answers.wait()
            if self.in_its_place is not None:
                status, answer = self.in_its_place
                await route.fulfill(status=status, json=answer, headers={"Access-Control-Allow-Origin": "*"})
                return
            answered = await route.fetch()
            self.click_ids.append((await answered.json()).get("click_id"))
            await route.fulfill(response=answered)

        async def later(route: Route) -> None:
            await route.fulfill(status=204, headers={"Access-Control-Allow-Origin": "*"})

        await context.route(f"{self.base}/api/v1/clicks", clicked)
        await context.route(f"{self.base}/later", later)

    async def settle(self, page: Page) -> None:
        """Wait until what the page has reported is answered: what is asked later is answered later."""
        await page.wait_for_load_state()
        # The first time, what the page reports is on its way at the most.
        for _ in range(3):
            await page.evaluate("async address => { await fetch(address) }", f"{self.base}/later")
            while self.in_its_place is None and self.answers.is_set() and len(self.click_ids) < len(self.reported):
                await asyncio.sleep(0.02)


@pytest_asyncio.fixture(loop_scope="module")
async def clicks(visit: Visit, product: Product, alice: Referrer) -> Clicks:
    """The service is watched by what stands between, and the product's pages include its script with `data-clicks`."""
    between = Clicks(product.service)
    await between.stand_between(visit.page.context)
    product.write("data-clicks", script=f"{PATH}/referral.js?v=2")
    return between


async def test_the_service_counts_a_click_that_a_page_reports(visit: Visit, product: Product, alice: Referrer) -> None:
    """Nothing stands between them: the browser asks the service whether the page may report it, too."""
    product.write("data-clicks", script=f"{PATH}/referral.js")
    before = await alice.clicks()
    await visit.page.goto(f"/landing?ref={A[0]}")
    await until(visit.page, "referral.get().click_id")
    found = await known(visit.page)
    assert (await cookie_of(visit.page.context))["value"] == f"{A[0]}.{found['click_id']}"
    assert await alice.register_by(found["click_id"]) == "attributed"
    assert await alice.clicks() == before + 1


async def test_a_code_without_a_click_is_reported_once_and_the_answer_kept(
    visit: Visit, product: Product, clicks: Clicks
) -> None:
    page = visit.page
    await page.goto(f"/landing?ref={A[0]}&utm=x#top")
    await clicks.settle(page)
    url = f"{product.address}/landing?ref={A[0]}&utm=x#top"
    assert clicks.reported == [{"code": A[0], "url": url}]
    link = (A[0], clicks.click_ids[0])
    assert (await cookie_of(page.context))["value"] == kept_of(link)
    await page.reload()
    await clicks.settle(page)
    await page.goto("/signup")
    assert await sign_up(page, product) == link
    assert len(clicks.reported) == 1


async def test_a_report_outlives_its_page(visit: Visit, clicks: Clicks) -> None:
    """A browser sends a request with `keepalive` to its end although the page is gone."""
    watch = "const ask = fetch; window.fetch = (...asked) => { window.lives = asked[1].keepalive; return ask(...asked) }"
    await visit.page.context.add_init_script(watch)
    await visit.page.goto(f"/landing?ref={A[0]}")
    assert await visit.page.evaluate("lives") is True
    await visit.page.wait_for_load_state("networkidle")
    assert len(clicks.reported) == 1


async def test_a_link_with_a_click_is_not_reported(visit: Visit, clicks: Clicks) -> None:
    await visit.page.goto(by(B))
    await clicks.settle(visit.page)
    await visit.page.goto("/pricing")
    await clicks.settle(visit.page)
    assert clicks.reported == []


async def test_without_the_attribute_nothing_is_reported(visit: Visit, product: Product, clicks: Clicks) -> None:
    product.write(script=f"{PATH}/referral.js")
    await visit.page.goto(f"/landing?ref={A[0]}")
    await clicks.settle(visit.page)
    assert clicks.reported == []
    assert await known(visit.page) == {"code": A[0], "click_id": None}


async def test_clicks_are_reported_after_consent(visit: Visit, product: Product, clicks: Clicks) -> None:
    product.write("data-clicks data-consent", script=f"{PATH}/referral.js")
    page = visit.page
    await page.goto(f"/landing?ref={A[0]}")
    await clicks.settle(page)
    assert clicks.reported == []
    await page.evaluate("referral.consent(true)")
    await clicks.settle(page)
    assert [click["code"] for click in clicks.reported] == [A[0]]
    assert (await cookie_of(page.context))["value"] == kept_of((A[0], clicks.click_ids[0]))
    await page.evaluate("referral.consent(false)")
    await clicks.settle(page)
    assert len(clicks.reported) == 1


async def test_an_answer_that_comes_after_a_withdrawal_is_not_kept(visit: Visit, clicks: Clicks) -> None:
    page = visit.page
    await page.goto("/landing")
    await page.evaluate(f"history.pushState(null, '', '/landing?ref={A[0]}'), referral.get(), referral.consent(false)")
    await clicks.settle(page)
    assert len(clicks.reported) == 1
    assert await known(page) == NOTHING
    assert await cookies(page.context) == []


async def test_an_answer_that_comes_after_a_later_link_does_not_replace_it(visit: Visit, clicks: Clicks) -> None:
    page = visit.page
    await page.goto("/landing")
    await page.evaluate(
        f"history.pushState(null, '', '/landing?ref={A[0]}'), referral.get(), history.pushState(null, '', '{by(B)}')"
    )
    await clicks.settle(page)
    assert len(clicks.reported) == 1
    assert await known(page) == known_as(B)


async def test_an_answer_that_comes_after_another_tab_s_link_does_not_replace_it(visit: Visit, clicks: Clicks) -> None:
    page, other = visit.page, await visit.page.context.new_page()
    clicks.answers.clear()
    await page.goto(f"/landing?ref={A[0]}")
    await other.goto(by(B))
    clicks.answers.set()
    await clicks.settle(page)
    assert len(clicks.reported) == 1
    assert (await cookie_of(page.context))["value"] == kept_of(B)


@pytest.mark.parametrize(("status", "answer"), [(404, {"type": "/problems/not-found"}), (502, None), (201, []), (201, None)])
async def test_a_click_that_is_refused_fails_nothing(
    visit: Visit, product: Product, clicks: Clicks, status: int, answer: Any
) -> None:
    clicks.in_its_place = status, answer
    page = visit.page
    await page.goto(f"/signup?ref={A[0]}")
    await clicks.settle(page)
    assert len(clicks.reported) == 1
    assert await sign_up(page, product) == (A[0], "")
    # The browser itself tells of a status; nothing else complains.
    visit.expected += ["404 (Not Found)", "502 (Bad Gateway)"]
