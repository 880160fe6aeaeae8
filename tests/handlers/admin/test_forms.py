"""What every form of the back office is guarded by: each POST route there is, tried as attackers would."""

from __future__ import annotations

import asyncio

import pytest

from referral.contract.access import Access, Errors, declaration_of
from referral.web.admin_pages import LOGIN, LOGIN_CODE, is_page
from referral.web.admin_sessions import FORM_TOKEN
from tests.conftest import Client, Eventually, MakeClient
from tests.support.admin import AdminBrowser, admin_routes, signed_in
from tests.support.people import PASSWORD
from tests.support.rows import count, everything, is_at_rest


@pytest.fixture(params=["sqlite"])
def engine(request: pytest.FixtureRequest) -> str:
    """The guard does not depend on the database."""
    return str(request.param)


CROSS: dict[str, dict[str, str | None]] = {
    "another site": {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example.com"},
    "another site, says the browser alone": {"Sec-Fetch-Site": "cross-site"},
    "another origin of the site": {"Sec-Fetch-Site": "same-site"},
    "another origin": {"Origin": "https://evil.example.com"},
    "another origin, of an old browser": {"Origin": "https://evil.example.com", "Sec-Fetch-Site": None},
    "no origin, of a sandbox": {"Origin": "null", "Sec-Fetch-Site": None},
    "nothing is said": {"Origin": None, "Sec-Fetch-Site": None},
    "a link or a bookmark": {"Origin": None, "Sec-Fetch-Site": "none"},
}


async def test_every_route_below_admin_is_a_page_and_no_other_one(client: Client) -> None:
    assert client.app
    for route in client.app.router.routes():
        assert route.resource
        declared = declaration_of(route.handler)
        assert (declared.errors is Errors.HTML) == is_page(route.resource.canonical), route
        assert hasattr(route.handler, "__undocumented__") or declared.errors is not Errors.HTML
        assert route.method in ("GET", "HEAD", "POST") or declared.errors is not Errors.HTML
        if declared.access is not Access.ADMIN_PAGE and declared.errors is Errors.HTML:
            assert route.resource.canonical in ("/admin/", LOGIN, LOGIN_CODE), "one may see it without having signed in"


@pytest.mark.parametrize("way", CROSS)
async def test_no_form_of_another_site_does_anything(
    client: Client, database_url: str, way: str, eventually: Eventually
) -> None:
    browser, _ = await signed_in(client, database_url)
    token = (await browser.get("/admin")).form_token
    paths = admin_routes("POST", public=True)
    assert len(paths) >= 4
    await eventually(lambda: is_at_rest(database_url))
    before = await everything(database_url)
    for path in paths:
        for sender in (browser, AdminBrowser(client)):
            page = await sender.call("POST", path, data={FORM_TOKEN: token}, headers=CROSS[way])
            assert page.status == 403, (path, way)
            assert "not sent from a page of this service" in page.words
            assert "Set-Cookie" not in page.headers
    assert await everything(database_url) == before


async def test_every_form_wants_the_cookie_and_a_token_of_its_session(
    client: Client, database_url: str, eventually: Eventually
) -> None:
    browser, _ = await signed_in(client, database_url)
    thief, _ = await signed_in(client, database_url, "thief")
    stolen = (await thief.get("/admin")).form_token
    own = (await browser.get("/admin")).form_token
    assert own != stolen
    await eventually(lambda: is_at_rest(database_url))
    before = await everything(database_url)
    for path in admin_routes("POST"):
        # Nobody, who has a form of somebody's.
        assert (await AdminBrowser(client).post(path, token=own)).location == "/admin/login"
        for token in (stolen, "", "x", own[:-1], own.upper() if own.upper() != own else "0" * 64, "\u0436" * 64):
            page = await browser.post(path, token=token)
            assert page.status == 403, (path, token)
            assert "belongs to another session" in page.words
        # Neither is a token looked for in the address.
        page = await browser.call("POST", path, data={}, params={FORM_TOKEN: own})
        assert page.status == 403
    assert await everything(database_url) == before


async def test_a_browser_is_signed_in_to_nobody_elses_account(client: Client, database_url: str) -> None:
    await signed_in(client, database_url, "attacker")
    for headers in CROSS.values():
        victim = AdminBrowser(client)
        form = {"username": "attacker", "password": PASSWORD}
        page = await victim.call("POST", "/admin/login", data=form, headers=headers)
        assert page.status == 403
        assert victim.cookies == {}
    assert await count(database_url, "session_cookies") == 1


@pytest.mark.parametrize(
    ("public", "origin", "is_own"),
    [
        ("https://r.example.com", "https://r.example.com", True),
        ("https://r.example.com/path", "https://r.example.com", True),
        ("https://r.example.com", "http://r.example.com", False),
        ("https://r.example.com", "https://r.example.com:444", False),
        ("https://r.example.com", "https://r.example.com.evil.example.com", False),
        ("https://r.example.com", "http://127.0.0.1", False),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", True),
        ("http://127.0.0.1:8000", "http://localhost", False),
    ],
)
async def test_forms_come_from_the_services_own_origin(
    make_client: MakeClient, public: str, origin: str, is_own: bool
) -> None:
    client = await make_client(server_public_url=public)
    page = await AdminBrowser(client).call("POST", "/admin/login", headers={"Origin": origin}, data={})
    assert (page.status == 401) == is_own, page.words
    assert page.status in (401, 403)


async def test_what_is_no_form_is_a_page_too(client: Client, database_url: str) -> None:
    browser, _ = await signed_in(client, database_url)
    for body, status in ((b"\xff", 400), (b"x" * 70_000, 413), (b"&".join(b"a=1" for _ in range(200)), 400), (b"", 403)):
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        page = await browser.call("POST", "/admin/account/sessions/end", data=body, headers=headers)
        assert page.status == status
        assert page.text.startswith("<!doctype html>")


async def test_an_action_twice_at_once_is_done_once(client: Client, database_url: str) -> None:
    browser, boss = await signed_in(client, database_url)
    token = (await browser.get("/admin")).form_token
    (other,) = [one["id"] for one in (await boss.get("/auth/sessions")).body["items"] if one["current"]]
    path = f"/admin/account/sessions/{other}/end"
    pages = await asyncio.gather(*(browser.post(path, token=token) for _ in range(16)))
    assert sorted(page.status for page in pages) == [303] + 15 * [404]
    assert (await boss.get("/users/me")).status == 401
    assert await count(database_url, "audit_events", "event = 'session-ended'") == 1
