"""Signing in at the back office, the session that a cookie holds, and who gets no further."""

from __future__ import annotations

import asyncio

import pytest

from referral.clock import now
from referral.web.admin_pages import is_next
from referral.web.admin_sessions import COOKIE, IDLE_TTL
from tests.conftest import Client, Command, MakeClient
from tests.support.admin import AdminBrowser, signed_in
from tests.support.people import PASSWORD, Person
from tests.support.rows import count, make_admin, sql


async def test_an_admin_signs_in_and_out(client: Client, database_url: str) -> None:
    browser, boss = await signed_in(client, database_url)
    page = await browser.get("/admin")
    assert page.status == 200
    assert "Overview" in page.words
    headers = page.headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'")
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    # It is a session like any other.
    listed = (await boss.get("/auth/sessions")).body["items"]
    assert len(listed) == 2
    assert (await browser.post("/admin/logout")).location == "/admin/login?said=signed-out"
    assert COOKIE not in browser.cookies
    assert len((await boss.get("/auth/sessions")).body["items"]) == 1
    assert await count(database_url, "session_cookies") == 0
    assert (await browser.get("/admin")).location == "/admin/login?next=%2Fadmin"
    assert "You are signed out." in (await browser.get("/admin/login?said=signed-out")).words
    events = [row[0] for row in await sql(database_url, "SELECT event FROM audit_events ORDER BY at, id")]
    assert events[-2:] == ["signed-in", "signed-out"]


async def test_the_cookie_is_for_this_host_and_no_script(client: Client, database_url: str) -> None:
    boss = await Person.register(client, "boss")
    await make_admin(database_url, boss.id)
    page = await AdminBrowser(client).sign_in("boss@example.com")
    cookie = page.headers["Set-Cookie"]
    name, _, rest = cookie.partition("=")
    assert name == "__Host-referral-admin"
    assert {part.strip() for part in rest.split(";")[1:]} == {"HttpOnly", "Path=/", "SameSite=Strict", "Secure"}
    text = rest.split(";")[0]
    assert len(text) >= 43
    (kept,) = await sql(database_url, "SELECT token_hash FROM session_cookies")
    assert text not in kept[0]


async def test_nobody_else_signs_in_and_all_are_told_the_same(client: Client, database_url: str) -> None:
    await Person.register(client, "alice")
    boss, gone = await Person.register(client, "boss"), await Person.register(client, "gone")
    for person in (boss, gone):
        await make_admin(database_url, person.id)
    await sql(database_url, f"UPDATE users SET suspended_at = 1, suspended_reason = 'x' WHERE id = '{gone.id}'")
    told = set()
    for name, password in (
        ("alice", PASSWORD),
        ("nobody", PASSWORD),
        ("boss", "another password"),
        ("gone", PASSWORD),
        ("", PASSWORD),
        ("boss", ""),
        ("b\0ss", "x\0y"),
        ("<script>", "x" * 4000),
    ):
        browser = AdminBrowser(client)
        page = await browser.sign_in(name, password)
        assert page.status == 401, name
        assert COOKIE not in browser.cookies
        told.add(page.text.replace(f'value="{name}"', "").replace('value="&lt;script&gt;"', ""))
        assert password not in page.text or not password
    # The name that was given is shown again; all else is the same.
    assert len({page.replace('value=""', "") for page in told}) == 1
    assert "No admin has this name and this password." in told.pop()
    assert await count(database_url, "session_cookies") == 0
    refused = await count(database_url, "audit_events", "event = 'sign-in-refused'")
    assert refused == 6


@pytest.mark.parametrize("cookie", [b"\xff", b"\xed\xa0\x80", "жук".encode(), b"x" * 4000, b'"\\377\\000"'])
async def test_what_is_no_cookie_of_the_service_leads_to_the_sign_in(client: Client, cookie: bytes) -> None:
    # By hand: the client of the tests sends no bytes that are no UTF-8.
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    head = b"GET /admin/users HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: "
    writer.write(head + COOKIE.encode() + b"=" + cookie + b"\r\n\r\n")
    answered = await reader.read()
    writer.close()
    assert answered.startswith(b"HTTP/1.1 303 ")
    assert b"Location: /admin/login?next=%2Fadmin%2Fusers\r\n" in answered


async def test_a_cookie_opens_no_call_and_a_token_no_page(client: Client, database_url: str) -> None:
    browser, boss = await signed_in(client, database_url)
    me = await Person(client, "").get("/users/me", headers={"Cookie": f"{COOKIE}={browser.cookies[COOKIE]}"})
    assert me.problem == "unauthorized"
    bearer = {"Authorization": f"Bearer {boss.tokens['access_token']}"}
    assert (await AdminBrowser(client).get("/admin", headers=bearer)).location.startswith("/admin/login")
    assert (await boss.get("/users/me", headers={"Authorization": f"Bearer {browser.cookies[COOKIE]}"})).status == 401


@pytest.mark.parametrize("how", ["deleted", "password", "suspended", "erased", "expired"])
async def test_what_ends_a_session_ends_it_at_the_next_page(client: Client, database_url: str, how: str) -> None:
    browser, boss = await signed_in(client, database_url)
    token = (await browser.get("/admin")).form_token
    if how == "deleted":
        (other,) = [one for one in (await boss.get("/auth/sessions")).body["items"] if not one["current"]]
        assert (await boss.delete(f"/auth/sessions/{other['id']}")).status == 204
    elif how == "password":
        change = {"current_password": PASSWORD, "new_password": "another long password"}
        assert (await boss.post("/auth/password/change", change)).status == 204
    elif how == "suspended":
        await sql(database_url, f"UPDATE users SET suspended_at = 1, suspended_reason = 'x' WHERE id = '{boss.id}'")
    elif how == "erased":
        assert (await boss.delete("/users/me", {"password": PASSWORD})).status == 204
    else:
        await sql(database_url, "UPDATE sessions SET expires_at = 1 WHERE id IN (SELECT session_id FROM session_cookies)")
    assert (await browser.get("/admin/account")).location == "/admin/login?next=%2Fadmin%2Faccount"
    browser.cookies[COOKIE] = "x"
    assert (await browser.post("/admin/account/sessions/end", token=token)).location == "/admin/login"


async def test_a_demoted_admin_sees_and_does_nothing_more(client: Client, database_url: str, command: Command) -> None:
    browser, boss = await signed_in(client, database_url)
    token = (await browser.get("/admin")).form_token
    assert "no admin any more" in await command("admins", "demote", boss.email)
    page = await browser.get("/admin")
    assert page.status == 403
    assert "is none any more" in page.words
    assert (await browser.post("/admin/account/sessions/end", token=token)).status == 403
    assert len((await boss.get("/auth/sessions")).body["items"]) == 2


async def test_a_session_goes_on_while_it_is_used_and_writes_once_a_minute(client: Client, database_url: str) -> None:
    browser, _ = await signed_in(client, database_url)
    held = "id IN (SELECT session_id FROM session_cookies)"
    (first,) = await sql(database_url, f"SELECT last_used_at, expires_at FROM sessions WHERE {held}")
    assert abs(first[1] - now() - IDLE_TTL) < 60_000
    await browser.get("/admin")
    assert [first] == await sql(database_url, f"SELECT last_used_at, expires_at FROM sessions WHERE {held}")
    await sql(database_url, f"UPDATE sessions SET last_used_at = 1, expires_at = expires_at - 3600000 WHERE {held}")
    await asyncio.gather(*(browser.get("/admin") for _ in range(8)))
    (later,) = await sql(database_url, f"SELECT last_used_at, expires_at FROM sessions WHERE {held}")
    assert later[0] >= first[0]
    assert later[1] >= first[1]


async def test_no_session_outlives_the_longest(make_client: MakeClient, database_url: str) -> None:
    client = await make_client(auth_session_ttl="3600")
    browser, _ = await signed_in(client, database_url)
    held = "id IN (SELECT session_id FROM session_cookies)"
    await sql(database_url, f"UPDATE sessions SET last_used_at = 1 WHERE {held}")
    await browser.get("/admin")
    ((lasts,),) = await sql(database_url, f"SELECT expires_at - created_at FROM sessions WHERE {held}")
    assert lasts == 3_600_000


NEXT = {
    "/admin": True,
    "/admin/users?status=active&cursor=a-b_c%3D": True,
    "/admin/users/ext:42": True,
    "/administrator": False,
    "//evil.example.com/admin": False,
    "https://evil.example.com/admin": False,
    "/\\evil.example.com": False,
    "/admin/\\evil.example.com": False,
    "/admin/../r/CODE": False,
    "/admin/%2e%2e/r/CODE": False,
    "/admin/.%2E/r/CODE": False,
    "/admin/..": False,
    "/admin\n/users": False,
    "/admin/\u2028": False,
    "/r/CODE": False,
    "/admin/login?next=/admin": False,
    "/admin/logout": False,
    "javascript:alert(1)": False,
    "": False,
    f"/admin/{'x' * 2000}": False,
}


@pytest.mark.parametrize("target", NEXT)
def test_only_pages_of_the_back_office_are_followed(target: str) -> None:
    assert is_next(target) == NEXT[target]


async def test_the_sign_in_leads_back_and_nowhere_else(client: Client, database_url: str) -> None:
    boss = await Person.register(client, "boss")
    await make_admin(database_url, boss.id)
    for target, followed in NEXT.items():
        page = await AdminBrowser(client).sign_in("boss", next=target)
        assert page.location == (target if followed else "/admin"), target
    asked = await AdminBrowser(client).get("/admin/login", params={"next": "//evil.example.com"})
    assert 'name="next" value=""' in asked.text


async def test_wrong_passwords_are_counted_as_the_token_endpoint_counts_them(
    make_client: MakeClient, database_url: str
) -> None:
    client = await make_client(limits_enabled="true", limits_login_by_account="3/hour", limits_login_by_address="100/hour")
    boss = await Person.register(client, "boss")
    await make_admin(database_url, boss.id)
    browser = AdminBrowser(client)
    for _ in range(2):
        assert (await browser.sign_in("boss", "another password")).status == 401
    form = {"grant_type": "password", "username": "boss", "password": "another password"}
    assert (await boss.call("POST", "/auth/token", data=form, headers={"Authorization": ""})).status == 400
    page = await browser.sign_in("boss")
    assert page.status == 429
    assert page.headers["Retry-After"]
    assert "try again in" in page.words
    assert page.text.startswith("<!doctype html>")


async def test_over_plain_http_the_page_says_why_nobody_can_sign_in(make_client: MakeClient, database_url: str) -> None:
    client = await make_client(server_public_url="http://admin.example.com")
    boss = await Person.register(client, "boss")
    await make_admin(database_url, boss.id)
    browser = AdminBrowser(client)
    there = {"Host": "admin.example.com"}
    page = await browser.get("/admin/login", headers=there)
    assert "server.public_url" in page.words
    assert "<form" not in page.text
    form = {"username": "boss", "password": PASSWORD}
    assert (await browser.call("POST", "/admin/login", data=form, headers=there)).status == 401
    for host in ("localhost:8000", "127.0.0.1:1", "[::1]:8000"):
        assert "<form" in (await browser.get("/admin/login", headers={"Host": host})).text
