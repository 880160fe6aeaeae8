"""An admin at the back office, as their browser speaks to it over HTTP, and what its routes are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import unescape
from typing import Any

from aiohttp import web

from referral.app import HANDLERS
from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, Errors, declaration_of
from referral.web.admin_sessions import COOKIE, FORM_TOKEN
from tests.conftest import Client
from tests.support.people import PASSWORD, SECRETS, UNKNOWN, Person
from tests.support.rows import make_admin


@dataclass
class Page:
    """A finished answer of the back office."""

    status: int
    headers: Any
    text: str

    @property
    def form_token(self) -> str:
        """The token of the page's forms."""
        found = re.search(rf'name="{FORM_TOKEN}" value="([0-9a-f]+)"', self.text)
        assert found, self.text
        return found[1]

    @property
    def location(self) -> str:
        """Where a redirect leads."""
        assert self.status == 303, (self.status, self.text)
        return str(self.headers["Location"])

    @property
    def words(self) -> str:
        """What is read on the page: its text without tags, in one line."""
        body = re.sub(r"<(style|script|title)\b.*?</\1>", "", self.text, flags=re.DOTALL)
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


@dataclass
class AdminBrowser:
    """What a browser does at the back office: it keeps the cookie, says where a form comes from, and follows no redirect by
    itself. (A client of aiohttp's would not send a Secure cookie over http; browsers do so on their own machine.)"""

    client: Client
    cookies: dict[str, str] = field(default_factory=dict)
    language: str = "en"

    @property
    def origin(self) -> str:
        assert self.client.app
        return self.client.app[PUBLIC_URL].origin

    async def call(self, method: str, path: str, *, headers: Mapping[str, str | None] | None = None, **options: Any) -> Page:
        """Ask for a path as it is; a header of None is left out."""
        given: dict[str, str | None] = {
            "Accept-Language": self.language,
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()) or None,
            "Origin": self.origin if method != "GET" else None,
            "Sec-Fetch-Site": "same-origin" if method != "GET" else "none",
            **(headers or {}),
        }
        sent = {name: value for name, value in given.items() if value is not None}
        # The jar of the client is the tests' other cookies': it must not add to these.
        self.client.session.cookie_jar.clear()
        async with self.client.request(method, path, headers=sent, allow_redirects=False, **options) as response:
            for name, morsel in response.cookies.items():
                if morsel["max-age"] == "0" or not morsel.value:
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
                    if name == COOKIE:
                        SECRETS.add(morsel.value)
            return Page(response.status, response.headers, await response.text())

    async def get(self, path: str, **options: Any) -> Page:
        return await self.call("GET", path, **options)

    async def post(self, path: str, form: dict[str, str] | None = None, *, token: str | None = None, **options: Any) -> Page:
        """Send a form, with the token of the session's own forms unless another one is given."""
        if token is None:
            token = (await self.get("/admin/account")).form_token if COOKIE in self.cookies else ""
        return await self.call("POST", path, data={FORM_TOKEN: token, **(form or {})}, **options)

    async def sign_in(self, name: str, password: str = PASSWORD, **form: str) -> Page:
        return await self.call("POST", "/admin/login", data={"username": name, "password": password, **form})


async def signed_in(client: Client, database_url: str, name: str = "boss") -> tuple[AdminBrowser, Person]:
    """A new admin of this name, whose browser is signed in at the back office."""
    person = await Person.register(client, name)
    await make_admin(database_url, person.id)
    browser = AdminBrowser(client)
    assert (await browser.sign_in(name)).location == "/admin"
    return browser, person


def admin_routes(method: str, examples: dict[str, str] | None = None, *, public: bool = False) -> list[str]:
    """The paths of the back office's routes that take this method, with these examples for the names in them, and an id that
    nobody has for all other names. `public` adds those for whoever is not signed in."""
    found = []
    for route in (route for module in HANDLERS for route in module.routes if isinstance(route, web.RouteDef)):
        declared = declaration_of(route.handler)
        if route.method == method and declared.errors is Errors.HTML and (public or declared.access is Access.ADMIN_PAGE):
            found.append(re.sub(r"\{(\w+)\}", lambda name: (examples or {}).get(name[1], UNKNOWN), route.path))
    return found
