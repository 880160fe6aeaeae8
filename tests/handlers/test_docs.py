"""The pages: documentation, problems and those of mailed links. Strict policies, own files only; a GET uses nothing up."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from html.parser import HTMLParser
from pathlib import Path

import openapi_ui_bundles
import pytest

from referral.contract.catalogue import CATALOGUE
from referral.web.assets import ASSETS
from tests.conftest import Client, Eventually
from tests.support.endpoints import PAGES
from tests.support.people import PASSWORD, Person, read_mails, token_in

NEW_PASSWORD = "a password chosen on the page"
MAILED = tuple(f"{path}?token=x" for path in PAGES)
EVERY_PAGE = ("/docs", "/redoc", "/problems/not-found", *MAILED)

MakePerson = Callable[..., Awaitable[Person]]


@pytest.fixture
def engine() -> str:
    """Pages are the same on either database."""
    return "sqlite"


class Page(HTMLParser):
    """What a browser would load, show and send of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.fields: dict[str, str] = {}
        self.form: dict[str, str | None] = {}
        self.inline: list[str] = []
        self._open = ""
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._open = tag
        if tag in ("script", "img", "iframe"):
            self.loads.append(given.get("src") or "")
        if tag == "link":
            self.loads.append(given.get("href") or "")
        if tag == "form":
            self.form = given
        if tag == "input":
            self.fields[given.get("name") or ""] = given.get("value") or ""
        self.inline += [name for name in given if name.startswith("on") or name == "style"]

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style") and data.strip():
            self.inline.append(data)
        self.text += data


async def read(client: Client, path: str) -> Page:
    async with client.get(path) as response:
        assert response.status == 200, path
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        return Page(await response.text())


async def submit(client: Client, path: str, form: dict[str, str]) -> tuple[int, Page]:
    """Post a form as a browser does."""
    async with client.post(path, data=form) as response:
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"
        return response.status, Page(await response.text())


@pytest.mark.parametrize("path", EVERY_PAGE)
async def test_pages_let_nothing_in_but_what_this_service_serves(client: Client, path: str) -> None:
    async with client.get(path) as response:
        policy = dict(part.strip().partition(" ")[::2] for part in response.headers["Content-Security-Policy"].split(";"))
        headers, page = response.headers, Page(await response.text())
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    for directive, sources in policy.items():
        allowed = {"'none'", "'self'"}
        allowed |= {"style-src": {"'unsafe-inline'"}, "img-src": {"data:"}, "worker-src": {"blob:"}}.get(directive, set())
        assert set(sources.split()) <= allowed, directive
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert page.inline == []
    assert page.loads
    for address in page.loads:
        assert address.startswith("/assets/"), address
        async with client.get(address) as response:
            assert response.status == 200, address


async def test_pages_of_mailed_links_have_no_script_and_post_to_this_service_only(client: Client) -> None:
    for path in MAILED:
        async with client.get(path) as response:
            policy = response.headers["Content-Security-Policy"]
        assert "script-src" not in policy
        assert "form-action 'self'" in policy
        page = await read(client, path)
        assert page.form == {"method": "post", "action": path.partition("?")[0]}


async def test_nothing_of_our_own_names_another_host() -> None:
    sources = [path for path, _ in ASSETS.values() if "site-packages" not in path.parts]
    sources += (Path(__file__).resolve().parent.parent.parent / "referral" / "templates" / "pages").iterdir()
    assert len(sources) > 8
    for source in sources:
        assert not re.search(r"https?://|['\"]//", source.read_text()), source.name


async def test_assets_come_from_the_package_under_their_own_types(client: Client) -> None:
    package = Path(openapi_ui_bundles.__file__).resolve().parent
    own = Path(__file__).resolve().parent.parent.parent / "referral" / "assets"
    for name, (path, kind) in ASSETS.items():
        assert package in path.resolve().parents or own in path.resolve().parents, name
        async with client.get(f"/assets/{name}") as response:
            assert response.status == 200, name
            assert response.headers["Content-Type"] == kind
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            served = await response.read()
        assert b"//cdn." not in served, name
        if name != "redoc.standalone.js":
            assert served == path.read_bytes()
    assert {path.name for path in own.iterdir()} <= ASSETS.keys()


@pytest.mark.parametrize("name", ["nothing.js", "..%2fconfig.toml", "%2e%2e%2f%2e%2e%2frun.py", "page.css%00"])
async def test_there_are_no_other_files(client: Client, name: str) -> None:
    answer = await Person(client, "").get(f"/docs/../assets/{name}")
    assert answer.status == 404
    assert answer.problem == "not-found"


async def test_the_root_leads_to_the_documentation(client: Client) -> None:
    async with client.get("/", allow_redirects=False) as response:
        assert response.status == 302
        assert response.headers["Location"] == "/docs"


@pytest.mark.parametrize("name", CATALOGUE)
async def test_every_problem_has_its_page(client: Client, name: str) -> None:
    page = await read(client, f"/problems/{name}")
    explanation = CATALOGUE[name].explanation.replace("`", "")
    for said in (CATALOGUE[name].title, explanation, f"/problems/{name}", str(CATALOGUE[name].status)):
        assert said in page.text


async def test_an_unknown_problem_has_none(client: Client) -> None:
    async with client.get("/problems/no-such") as response:
        assert response.status == 404


async def link_in(mail_folder: Path, eventually: Eventually, recipient: str, number: int = 0) -> str:
    """The token of a mail's link, once the mail is there."""
    mails = await eventually(lambda: read_mails(mail_folder, recipient)[number:])
    return token_in(mails[0])


async def test_the_verification_page_verifies_once_and_by_its_button_only(
    client: Client, person: MakePerson, mail_folder: Path, eventually: Eventually
) -> None:
    alice = await person("alice")
    token = await link_in(mail_folder, eventually, alice.email)
    for _ in range(2):
        page = await read(client, f"/account/verify?token={token}")
        assert page.fields == {"token": token}
    assert not (await alice.me())["email_verified"]
    status, page = await submit(client, "/account/verify", page.fields)
    assert (status, "Your e-mail address is confirmed." in page.text) == (200, True)
    assert (await alice.me())["email_verified"]
    status, page = await submit(client, "/account/verify", {"token": token})
    assert (status, "Your e-mail address is confirmed." in page.text) == (200, True)


async def test_the_reset_page_sets_a_password_once_and_by_its_button_only(
    client: Client, person: MakePerson, mail_folder: Path, eventually: Eventually
) -> None:
    alice = await person("alice")
    await alice.post("/auth/password/reset", {"email": alice.email})
    token = await link_in(mail_folder, eventually, alice.email, 1)
    for _ in range(2):
        page = await read(client, f"/account/reset?token={token}")
        assert page.fields == {"token": token, "new_password": ""}
    assert (await alice.sign_in(PASSWORD)).status == 200

    # Too short: the form again, with the reason and the token, which stays good.
    status, page = await submit(client, "/account/reset", {"token": token, "new_password": "short"})
    assert status == 422
    assert "Must have at least 8 characters." in page.text
    assert page.fields == {"token": token, "new_password": ""}

    status, page = await submit(client, "/account/reset", {**page.fields, "new_password": NEW_PASSWORD})
    assert (status, "Your password is set" in page.text) == (200, True)
    assert (await alice.get("/users/me")).status == 401
    assert (await alice.sign_in(PASSWORD)).status == 400
    assert (await alice.sign_in(NEW_PASSWORD)).status == 200
    status, page = await submit(client, "/account/reset", {"token": token, "new_password": PASSWORD})
    assert status == 422
    assert "was used already" in page.text
    assert (await alice.sign_in(NEW_PASSWORD)).status == 200


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("form", [{}, {"token": ""}, {"token": "no such token"}, {"token": "x" * 5_000}])
async def test_forms_without_a_good_token_are_refused_on_a_page(client: Client, path: str, form: dict[str, str]) -> None:
    status, page = await submit(client, path, {**form, "new_password": NEW_PASSWORD})
    assert status == 422
    assert "The link is not valid" in page.text


async def test_a_password_that_the_api_would_not_take_is_refused_on_the_page(client: Client) -> None:
    status, page = await submit(client, "/account/reset", {"token": "x", "new_password": "x" * 2_000})
    assert status == 422
    assert "Must have at most 1024 characters." in page.text


async def test_what_a_link_carries_is_shown_as_text(client: Client) -> None:
    page = await read(client, "/account/reset?token=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert page.fields["token"] == '"><script>alert(1)</script>'
    assert page.inline == []


async def test_a_body_that_is_no_form_is_refused(client: Client) -> None:
    async with client.post("/account/reset", data=b"\xff=\xff") as response:
        assert response.status == 400
        assert (await response.json(content_type=None))["type"] == "/problems/bad-request"


async def test_whoever_has_a_file_is_sent_it_again_only_when_it_is_another(client: Client) -> None:
    for path in ("/assets/swagger-ui-bundle.js", "/assets/redoc.standalone.js"):
        async with client.get(path) as response:
            whole, tag = await response.read(), response.headers["ETag"]
            assert int(response.headers["Content-Length"]) == len(whole) > 500_000
        async with client.head(path) as response:
            assert (response.status, await response.read()) == (200, b"")
            assert int(response.headers["Content-Length"]) == len(whole)
        async with client.get(path, headers={"If-None-Match": f'"other", {tag}'}) as response:
            assert (response.status, await response.read()) == (304, b"")
            assert response.headers["ETag"] == tag
        async with client.get(path, headers={"If-None-Match": "*"}) as response:
            assert response.status == 304
        # What cannot be met is ignored: it would have no answer in the one shape of errors.
        for condition in ({"If-None-Match": '"other"'}, {"Range": "bytes=0-9"}, {"If-Match": '"other"'}):
            async with client.get(path, headers=condition) as response:
                assert (response.status, await response.read()) == (200, whole)
