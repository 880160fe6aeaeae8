"""The second factor at the back office: a second page of the sign-in, its pages, and where it is needed."""

from __future__ import annotations

import asyncio
import re

import pytest

from referral.web.admin_sessions import COOKIE
from tests.conftest import Client, MakeClient
from tests.support.admin import AdminBrowser, Page, admin_routes, signed_in
from tests.support.people import PASSWORD, Person
from tests.support.rows import count, make_admin, sql
from tests.support.second_factors import App, switch_on

PATH = "/admin/account/second-factor"


async def boss_with_app(client: Client, database_url: str) -> tuple[Person, App]:
    boss = await Person.register(client, "boss")
    await make_admin(database_url, boss.id)
    return boss, await switch_on(boss)


def proof_in(page: Page) -> str:
    found = re.search(r'name="proof" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


async def send_code(browser: AdminBrowser, proof: str, code: str, **form: str) -> Page:
    return await browser.call("POST", "/admin/login/code", data={"proof": proof, "code": code, **form})


async def test_a_sign_in_takes_both(client: Client, database_url: str) -> None:
    _, app = await boss_with_app(client, database_url)
    browser = AdminBrowser(client)
    page = await browser.sign_in("boss", next="/admin/account")
    assert page.status == 200
    assert "authenticator app" in page.words
    assert COOKIE not in browser.cookies
    proof = proof_in(page)
    wrong = await send_code(browser, proof, "000000")
    assert wrong.status == 401
    assert "was used already" in wrong.words
    code = app.code()
    browsers = [AdminBrowser(client) for _ in range(8)]
    pages = await asyncio.gather(*(send_code(one, proof, code, next="/admin/account") for one in browsers))
    assert sorted(found.status for found in pages) == [303] + 7 * [401]
    (inside,) = [one for one in browsers if COOKIE in one.cookies]
    assert next(found for found in pages if found.status == 303).location == "/admin/account"
    assert "recovery codes are left" in (await inside.get("/admin/account")).words
    assert (await send_code(AdminBrowser(client), proof_in(wrong), app.recovery_codes[0])).location == "/admin"
    assert "9 recovery codes are left" in (await inside.get("/admin/account")).words


async def test_the_password_that_was_shown_counts_for_five_minutes_and_as_long_as_it_is_one(
    client: Client, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    boss, app = await boss_with_app(client, database_url)
    browser = AdminBrowser(client)
    proof = proof_in(await browser.sign_in("boss"))
    for nothing in ("", "x", proof[:-2], (await sql(database_url, "SELECT secret FROM second_factors"))[0][0]):
        page = await send_code(browser, nothing, app.code())
        assert page.status == 401
        assert "Sign in again" in page.words
    with monkeypatch.context() as patch:
        patch.setattr("referral.rules.credentials.now", lambda: 2**60)
        assert "took too long" in (await send_code(browser, proof, app.code())).words
    await sql(database_url, f"UPDATE users SET role = 'user' WHERE id = '{boss.id}'")
    assert (await send_code(browser, proof, app.recovery_codes[0])).status == 401
    await make_admin(database_url, boss.id)
    change = {"current_password": PASSWORD, "new_password": "another long password"}
    assert (await boss.post("/auth/password/change", change)).status == 204
    assert (await send_code(browser, proof, app.recovery_codes[0])).status == 401
    assert await count(database_url, "session_cookies") == 0


async def test_it_is_switched_on_and_off_by_pages(client: Client, database_url: str) -> None:
    browser, _ = await signed_in(client, database_url)
    assert (await browser.get(PATH)).status == 200
    wrong = await browser.post(PATH, {"password": "wrong"})
    assert wrong.status == 422
    assert "The password is not the account's." in wrong.words
    assert (await browser.post(PATH, {"password": PASSWORD})).location == PATH
    page = await browser.get(PATH)
    assert 'src="data:image/svg+xml;base64,' in page.text
    found = re.search(r"<code class=\"code\">([A-Z2-7 ]+)</code>", page.text)
    assert found
    app = App(found[1].replace(" ", ""), [])
    wrong = await browser.post(f"{PATH}/confirm", {"code": "000000"})
    assert wrong.status == 422
    assert "The code is wrong" in wrong.words
    page = await browser.post(f"{PATH}/confirm", {"code": app.code()})
    assert page.status == 200
    codes = re.findall(r"[0-9A-Z]{4}(?:-[0-9A-Z]{4}){3}", page.text)
    assert len(codes) == 10
    # They are shown once.
    assert codes[0] not in (await browser.get("/admin/account")).text
    assert (await browser.get(PATH)).location == "/admin/account"
    assert (await browser.post(f"{PATH}/off", {"password": PASSWORD, "code": "x"})).status == 422
    assert (await browser.post(f"{PATH}/off", {"password": "x", "code": codes[0]})).status == 422
    off = await browser.post(f"{PATH}/off", {"password": PASSWORD, "code": codes[0]})
    assert off.location == "/admin/account?said=second-factor-off"
    assert "The second factor is switched off." in (await browser.get(off.location)).words


async def test_where_admins_need_one_all_other_pages_lead_to_it(make_client: MakeClient, database_url: str) -> None:
    client = await make_client(admin_require_totp="true")
    browser, boss = await signed_in(client, database_url)
    led = "/admin/account?said=second-factor-required"
    own = ("/admin/account", "/admin/logout")
    for path in admin_routes("GET"):
        page = await browser.get(path)
        assert page.status in (200, 404) if path.startswith(own) else page.location == led, path
    for path in admin_routes("POST"):
        if not path.startswith(own):
            assert (await browser.post(path)).status == 403, path
    assert "Admins need a second factor here." in (await browser.get(led)).words
    await switch_on(boss)
    assert (await browser.get("/admin")).status == 200
