"""The example's shop beside the service, each a process: its users refer each other, in a real browser, too, and it works on
whatever becomes of the service."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import ConsoleMessage, Page, Request, expect, sync_playwright

from tests.support.browsing import OPTIONS, WATCH_POLICY, browser_program
from tests.support.people import API, PASSWORD
from tests.support.servers import Server, wait_until
from tests.support.service import ROOT, run_py, status_of

SHOP = ROOT / "examples" / "shop"
# Seconds that a sign-up or an order may take on a busy machine, whatever the service does.
PATIENCE = 3.0

# One worker runs them all: one service, one shop and one browser are enough.
pytestmark = pytest.mark.xdist_group("shop")


@pytest.fixture
def engine() -> str:
    """The service is that of the default."""
    return "sqlite"


class Process(Server):
    """A program that listens on a port, with these settings in its environment and no others. It is ready when it answers
    at a path of its own."""

    def __init__(self, folder: Path, name: str, path: str) -> None:
        super().__init__(folder / name)
        self.folder.mkdir()
        self.address = f"http://127.0.0.1:{self.port}"
        self.path = path
        self.program: list[str] = []
        self.settings: dict[str, str] = {}

    def command(self) -> list[str]:
        return ["env", "--ignore-environment", *(f"{name}={value}" for name, value in self.settings.items()), *self.program]

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "server.log").read_text()
        return status_of(f"{self.address}{self.path}") == 200


class Street:
    """The shop and the service beside it."""

    def __init__(self, folder: Path) -> None:
        self.service, self.shop = Process(folder, "service", "/health/ready"), Process(folder, "shop", "/jwks.json")
        self.service.program = run_py(self.service.folder)
        self.service.settings = {
            "REFERRAL_SERVER_PORT": str(self.service.port),
            "REFERRAL_SERVER_PUBLIC_URL": self.service.address,
            "REFERRAL_SERVER_CORS_ORIGINS": self.shop.address,
            "REFERRAL_IDENTITY_ISSUERS": f'[{{"issuer": "{self.shop.address}", "audience": "referrals"}}]',
        }
        made = subprocess.run(
            [*self.service.program, "keys", "create", "shop", "--scope", "write"],
            cwd=self.service.folder,
            capture_output=True,
            text=True,
            check=True,
        )
        self.key = made.stdout.strip()
        uvicorn = [sys.executable, "-m", "uvicorn", "--app-dir", str(SHOP), "shop:app", "--port", str(self.shop.port)]
        self.shop.program = uvicorn
        self.shop.settings = {
            "SHOP_URL": self.shop.address,
            "SHOP_DATA": str(self.shop.folder / "var"),
            "SHOP_RETRY_SECONDS": "0.2",
            "REFERRAL_URL": self.service.address,
            "REFERRAL_KEY": self.key,
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def events(self, user_id: int) -> list[dict[str, Any]]:
        """What the service knows of a user of the shop, the oldest first."""
        answer = httpx.get(
            f"{self.service.address}{API}/events",
            params={"user": f"ext:{user_id}"},
            headers={"Authorization": f"Bearer {self.key}"},
        )
        items: list[dict[str, Any]] = answer.json().get("items", [])
        return items[::-1]

    def shop_data(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What a statement finds in the shop's own database, or does there."""
        with closing(sqlite3.connect(self.shop.folder / "var" / "shop.db")) as db, db:
            return db.execute(statement, values).fetchall()


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    street = Street(tmp_path_factory.mktemp("street"))
    with street.service, street.shop:
        yield street
    # An outage is told; nothing that nobody thought of is.
    assert "Traceback" not in (street.shop.folder / "server.log").read_text()


class Customer:
    """Somebody whose browser runs no scripts."""

    def __init__(self, street: Street, name: str, http: httpx.Client) -> None:
        self.name = name
        self._http = http
        self._street = street

    def sign_up(self, code: str = "", *, follow: bool = True) -> str:
        """The page that they come to, unless they do not follow there."""
        form = {"name": self.name, "email": f"{self.name}@example.com", "password": PASSWORD, "ref": code}
        answer = self._http.post("/signup", data=form, follow_redirects=follow)
        assert follow or answer.is_redirect
        return self._page(answer) if follow else ""

    def account(self) -> str:
        return self._page(self._http.get("/"))

    def finds(self, text: str) -> None:
        """They find this on their page, as soon as the service has answered."""
        wait_until(lambda: text in self.account())

    def buy(self, order: str) -> str:
        return self._page(self._http.post("/buy", data={"order": order}))

    def next_order(self) -> str:
        """The id of the order that the page's button would make."""
        return self._found(r'name="order" value="([^"]+)"')

    def code(self) -> str:
        return self._found(r'id="code">(\w+)<')

    @property
    def user_id(self) -> int:
        ((found,),) = self._street.shop_data("SELECT id FROM users WHERE email = ?", f"{self.name}@example.com")
        return int(found)

    def _found(self, pattern: str) -> str:
        found = re.search(pattern, self.account())
        assert found
        return found[1]

    @staticmethod
    def _page(answer: httpx.Response) -> str:
        assert answer.status_code == 200, answer.text
        return answer.text


MakeCustomer = Callable[[str], Customer]


@pytest.fixture
def customer(street: Street) -> Iterator[MakeCustomer]:
    """`customer("bob")`: somebody new, who has not signed up."""
    with ExitStack() as stack:

        def make(name: str) -> Customer:
            http = httpx.Client(base_url=street.shop.address, follow_redirects=True, timeout=20)
            return Customer(street, name, stack.enter_context(http))

        yield make


@pytest.fixture
def page(street: Street) -> Iterator[Page]:
    """A fresh profile's page of the shop, which must end without a complaint of the browser's."""
    complaints: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def asked(request: Request) -> None:
        if not request.url.startswith((f"{street.shop.address}/", f"{street.service.address}/", "data:")):
            complaints.append(request.url)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_program(), args=OPTIONS)
        context = browser.new_context(base_url=street.shop.address)
        context.add_init_script(WATCH_POLICY)
        page = context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", asked)
        yield page
        browser.close()
    assert complaints == []


def test_alice_s_page_shows_who_came_by_her_code(page: Page, street: Street, customer: MakeCustomer) -> None:
    page.goto("/")
    page.get_by_label("Name").fill("Alice <b>")
    page.get_by_label("E-mail").first.fill("alice@example.com")
    page.get_by_label("Password").first.fill(PASSWORD)
    page.get_by_role("button", name="Sign up").click()
    expect(page.get_by_role("heading", name="Hello, Alice <b>")).to_be_visible()
    wait_until(lambda: street.events(1) != [])
    page.reload()
    expect(page.locator("#signup")).to_have_text("none")
    code = page.locator("#code").inner_text()
    assert re.fullmatch(r"[0-9A-Z]{8}", code)
    expect(page.locator("#referrals")).to_be_empty()

    bob = customer("bob")
    assert f'value="{code}"' in httpx.get(f"{street.shop.address}/", params={"ref": code}).text
    bob.sign_up(code)
    bob.finds('<span id="signup">attributed</span>')
    order = bob.next_order()
    bob.buy(order)
    bob.finds(f"Order {order}: kept")

    page.reload()
    expect(page.locator("#referrals li")).to_have_text([re.compile("^bob@example.com, since ")])
    assert page.locator("#code").inner_text() == code
    assert [(event["id"], event["attribution"]["status"]) for event in street.events(bob.user_id)] == [
        (f"signup-{bob.user_id}", "attributed"),
        (f"order-{order}", "kept"),
    ]
    # She comes back another day.
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("E-mail").last.fill("ALICE@example.com")
    page.get_by_label("Password").last.fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#referrals li")).to_have_count(1)


def test_a_code_that_cannot_be_used_fails_no_sign_up(customer: MakeCustomer) -> None:
    carol = customer("carol")
    carol.sign_up("NOSUCH01")
    carol.finds("refused: unknown")


def test_a_purchase_that_is_told_twice_is_one_event(street: Street, customer: MakeCustomer) -> None:
    dave = customer("dave")
    dave.sign_up()
    order = dave.next_order()
    for _ in range(2):
        dave.buy(order)
    dave.finds(f"Order {order}: none")
    # As if the shop had been killed after the service had answered, and before it had kept the answer.
    street.shop_data("UPDATE reports SET answer = NULL WHERE id = ?", f"order-{order}")
    wait_until(lambda: street.shop_data("SELECT 1 FROM reports WHERE answer IS NULL") == [])
    assert dave.account().count(f"Order {order}: none") == 1
    assert [event["id"] for event in street.events(dave.user_id)] == [f"signup-{dave.user_id}", f"order-{order}"]


def test_sign_ups_and_purchases_go_on_while_the_service_hangs_or_is_gone(street: Street, customer: MakeCustomer) -> None:
    erin, frank, grace = map(customer, ("erin", "frank", "grace"))
    erin.sign_up()
    code = erin.code()

    street.service.hang()
    begun = time.monotonic()
    frank.sign_up(code, follow=False)
    assert time.monotonic() - begun < PATIENCE
    street.service.kill()
    begun = time.monotonic()
    assert "not reported yet" in grace.sign_up(code)
    order = grace.next_order()
    assert f"Order {order}: not reported yet" in grace.buy(order)
    assert time.monotonic() - begun < 2 * PATIENCE

    street.service.start()
    frank.finds('<span id="signup">attributed</span>')
    grace.finds(f"Order {order}: kept")
    assert '<span id="signup">attributed</span>' in grace.account()
    for someone, count in ((frank, 1), (grace, 2)):
        assert len(street.events(someone.user_id)) == count


def test_the_shop_is_tested_with_the_versions_that_it_names() -> None:
    named = {line for line in (SHOP / "requirements.txt").read_text().splitlines() if "==" in line}
    ours = (ROOT / "requirements.txt").read_text() + (ROOT / "requirements-dev.txt").read_text()
    assert len(named) > 10
    assert named <= set(ours.splitlines())


def test_a_user_whose_address_somebody_else_has_at_the_service_gets_a_code(street: Street, customer: MakeCustomer) -> None:
    taken = {"email": "twin@example.com", "password": PASSWORD}
    assert httpx.post(f"{street.service.address}{API}/auth/register", json=taken).status_code == 201
    twin = customer("twin")
    twin.sign_up()
    assert twin.code()
