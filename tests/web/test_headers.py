"""Headers of every kind of answer: what keeps browsers and caches from doing harm, and what lets other origins' pages in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from referral.web.cors import MAX_AGE
from referral.web.pages import FORM_POLICY
from tests.conftest import Client, MakeClient
from tests.support.people import API, Person

HERE, ELSEWHERE = "https://app.example.com", "https://elsewhere.example.com"
TRANSPORT_SECURITY = "Strict-Transport-Security"

# One of each kind: method, address, whether the caller is signed in, what is sent, and the status.
ANSWERS: list[tuple[str, str, bool, dict[str, Any], int]] = [
    ("GET", "/", False, {}, 302),
    ("GET", "/docs", False, {}, 200),
    ("GET", "/redoc", False, {}, 200),
    ("GET", "/account/verify", False, {}, 200),
    ("GET", "/account/reset", False, {}, 200),
    ("POST", "/account/verify", False, {"data": {"token": "x"}}, 422),
    ("GET", "/problems/not-found", False, {}, 200),
    ("GET", "/assets/page.css", False, {}, 200),
    ("GET", "/assets/page.css", False, {"headers": {"Range": "bytes=9-1"}}, 200),
    ("GET", "/openapi.json", False, {}, 200),
    ("GET", "/health/live", False, {}, 200),
    ("GET", "/health/ready", False, {}, 200),
    ("HEAD", "/health/ready", False, {}, 200),
    ("GET", "/metrics", False, {}, 200),
    ("GET", "/.well-known/oauth-authorization-server", False, {}, 200),
    ("GET", "/.well-known/jwks.json", False, {}, 200),
    ("GET", "/nowhere", False, {}, 404),
    ("GET", "/nowhere", False, {"headers": {"Expect": "miracles"}}, 417),
    ("PUT", "/docs", False, {}, 405),
    ("POST", f"{API}/auth/token", False, {"data": {"grant_type": "password"}}, 400),
    ("POST", f"{API}/auth/revoke", False, {"data": {"token": "x"}}, 200),
    ("POST", f"{API}/auth/register", False, {"json": {}}, 422),
    ("POST", f"{API}/auth/register", False, {"data": b"x" * 70_000, "headers": {"Content-Type": "application/json"}}, 413),
    ("POST", f"{API}/auth/password/reset", False, {"json": {"email": "nobody@example.com"}}, 202),
    ("GET", f"{API}/users/me", False, {}, 401),
    ("GET", f"{API}/users/me", True, {}, 200),
    ("GET", f"{API}/users/me/referrals", True, {}, 200),
    ("GET", f"{API}/codes", True, {}, 200),
    ("GET", f"{API}/codes/current", True, {}, 404),
    ("GET", f"{API}/codes/ALICE-1", False, {}, 404),
]
# What holds nothing of anybody may be kept; nothing else.
KEPT = {"/assets/page.css", "/.well-known/oauth-authorization-server", "/.well-known/jwks.json"}
PAGES = {"/docs", "/redoc", "/account/verify", "/account/reset", "/account/disown", "/problems/not-found"}


@pytest.fixture(params=["sqlite"])
def engine(request: pytest.FixtureRequest) -> str:
    """Headers do not depend on the database."""
    return str(request.param)


async def answers(client: Client) -> list[tuple[str, Any]]:
    """(address, headers) of each of ANSWERS."""
    alice, found = await Person.register(client, "alice"), []
    for method, path, signed_in, options, status in ANSWERS:
        headers = {**options.get("headers", {}), "Origin": HERE}
        if signed_in:
            headers["Authorization"] = f"Bearer {alice.tokens['access_token']}"
        async with client.request(method, path, **{**options, "headers": headers}, allow_redirects=False) as response:
            assert response.status == status, (method, path, await response.text())
            found.append((path, response.headers))
    return found


async def test_every_answer_is_safe_in_a_browser(client: Client) -> None:
    for path, headers in await answers(client):
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Referrer-Policy"] == "no-referrer", path
        policy = headers.getall("Content-Security-Policy")
        assert len(policy) == 1, path
        assert policy[0].startswith("default-src 'none'; "), path
        # Nobody frames it, and nothing runs but what this service serves.
        assert "frame-ancestors 'none'" in policy[0], path
        assert "'unsafe-eval'" not in policy[0], path
        assert "script-src 'unsafe" not in policy[0], path
        if path not in PAGES:
            assert policy[0] == "default-src 'none'; frame-ancestors 'none'", path


async def test_pages_with_a_form_run_no_script_and_post_to_the_service_alone(client: Client) -> None:
    found = dict(await answers(client))
    assert found["/account/reset"]["Content-Security-Policy"] == FORM_POLICY
    assert "script-src" not in FORM_POLICY
    assert "form-action 'self'" in FORM_POLICY
    assert "base-uri 'none'" in FORM_POLICY


async def test_no_cache_keeps_what_is_anybodys(client: Client) -> None:
    for path, headers in await answers(client):
        if path in KEPT:
            assert headers["Cache-Control"].startswith("public, max-age="), path
        else:
            assert headers["Cache-Control"] == "no-store", path


async def test_tokens_and_accounts_are_kept_by_no_cache(client: Client) -> None:
    body = {"email": "bob@example.com", "password": "correct horse battery staple"}
    async with client.post(f"{API}/auth/register", json=body) as response:
        assert response.status == 201
        assert response.headers["Cache-Control"] == "no-store"
        tokens = await response.json()
    async with client.post(
        f"{API}/auth/token", data={"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    ) as response:
        assert response.status == 200
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Pragma"] == "no-cache"


async def test_no_answer_tells_which_versions_run(client: Client) -> None:
    for path, headers in await answers(client):
        assert headers.getall("Server") == ["referral"], path
        assert "X-Powered-By" not in headers


async def test_https_is_insisted_on_where_the_service_is_reached_by_it(make_client: MakeClient) -> None:
    for path, headers in await answers(await make_client(server_public_url="https://r.example.com")):
        assert headers[TRANSPORT_SECURITY] == "max-age=31536000", path


async def test_https_is_insisted_on_in_answers_to_what_is_no_http_too(make_client: MakeClient) -> None:
    client = await make_client(server_public_url="https://r.example.com")
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"what is this\r\n\r\n")
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 400 ")
    assert head.count(b"\r\nStrict-Transport-Security: max-age=31536000\r\n") == 1
    writer.close()


async def test_https_is_not_insisted_on_elsewhere(client: Client) -> None:
    for path, headers in await answers(client):
        assert TRANSPORT_SECURITY not in headers, path


def cors_headers(headers: Any) -> set[str]:
    return {name for name in headers if name.startswith("Access-Control-")}


async def preflight(client: Client, path: str, origin: str | None, method: str = "POST") -> Any:
    """The answer to what a browser asks before it sends a page's request."""
    headers = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization,content-type"}
    if origin:
        headers["Origin"] = origin
    async with client.options(path, headers=headers) as response:
        return response


async def test_no_other_origin_is_let_in_unless_the_settings_say_so(client: Client) -> None:
    for path, headers in await answers(client):
        assert cors_headers(headers) == set(), path
        assert "Origin" not in headers.get("Vary", ""), path
    refused = await preflight(client, f"{API}/codes", HERE)
    assert refused.status == 405
    assert cors_headers(refused.headers) == set()


async def test_pages_of_listed_origins_read_every_answer_and_the_headers_they_need(make_client: MakeClient) -> None:
    client = await make_client(server_cors_origins=f"http://localhost:3000, {HERE}")
    for path, headers in await answers(client):
        assert headers.getall("Access-Control-Allow-Origin") == [HERE], path
        exposed = set(headers["Access-Control-Expose-Headers"].split(", "))
        assert exposed >= {"X-Request-ID", "Link", "Location", "Retry-After", "RateLimit", "RateLimit-Policy"}, path
        assert "Origin" in headers["Vary"], path
        # Tokens travel in a header; cookies there are none.
        assert "Access-Control-Allow-Credentials" not in headers, path


# What WebViews and extensions send. Hosts of schemes that are not the web's keep their case.
APP_ORIGINS = [
    "capacitor://localhost",
    "ionic://localhost",
    "https://localhost",
    "tauri://localhost",
    "http://tauri.localhost",
    "app://.",
    "app://obsidian.md",
    "app://acme_example_com",
    "vscode-webview://1c7f0q9k2m5t8v3x6z4b0n1d2f5h7j9l",
    "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
    "moz-extension://0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0",
    "safari-web-extension://5A0C31B7-9D2E-4F60-8A11-0C2D3E4F5A6B",
]


@pytest.mark.parametrize("origin", APP_ORIGINS)
async def test_applications_in_a_webview_and_extensions_are_let_in_by_their_origin(
    make_client: MakeClient, origin: str
) -> None:
    client = await make_client(server_cors_origins=f"{HERE}, {origin}")
    async with client.get(f"{API}/codes/ALICE-1", headers={"Origin": origin}) as response:
        assert response.headers["Access-Control-Allow-Origin"] == origin
    allowed = await preflight(client, f"{API}/codes", origin)
    assert (allowed.status, allowed.headers["Access-Control-Allow-Origin"]) == (204, origin)
    for other in (f"{origin}.example.com", origin.partition(":")[0] + "://elsewhere", "null"):
        refused = await preflight(client, f"{API}/codes", other)
        assert cors_headers(refused.headers) == set(), other


@pytest.mark.parametrize("origin", [ELSEWHERE, "null", "*", HERE.upper(), f"{HERE}.evil.example", f"{HERE}/", None])
async def test_pages_of_other_origins_read_nothing(make_client: MakeClient, origin: str | None) -> None:
    client = await make_client(server_cors_origins=HERE)
    headers = {"Origin": origin} if origin else {}
    async with client.get(f"{API}/codes/ALICE-1", headers=headers) as response:
        assert response.status == 404
        assert cors_headers(response.headers) == set()
        # A cache must not hand this answer to a page of a listed origin, nor the other way round.
        assert response.headers["Vary"] == "Origin"
    refused = await preflight(client, f"{API}/codes", origin)
    assert refused.status == 405
    assert cors_headers(refused.headers) == set()


async def test_a_preflight_says_what_the_address_takes(make_client: MakeClient) -> None:
    client = await make_client(server_cors_origins=HERE)
    for path, methods in (
        (f"{API}/codes", "GET, HEAD, POST"),
        (f"{API}/codes/ALICE-1", "DELETE, GET, HEAD, PATCH"),
        (f"{API}/codes/current", "DELETE, GET, HEAD, PATCH"),
        (f"{API}/auth/token", "POST"),
    ):
        allowed = await preflight(client, path, HERE)
        assert allowed.status == 204
        assert allowed.headers["Access-Control-Allow-Origin"] == HERE
        assert allowed.headers["Access-Control-Allow-Methods"] == methods
        assert {"Authorization", "Content-Type"} <= set(allowed.headers["Access-Control-Allow-Headers"].split(", "))
        assert allowed.headers["Access-Control-Max-Age"] == MAX_AGE
        assert allowed.headers["Vary"] == "Origin"
        assert "X-Request-ID" in allowed.headers
    # What is no preflight, or asks for an address that does not exist, is answered as ever.
    assert (await preflight(client, f"{API}/nowhere", HERE)).status == 404
    async with client.options(f"{API}/codes", headers={"Origin": HERE}) as response:
        assert response.status == 405


async def test_allow_lists_what_an_address_answers_and_nothing_of_its_neighbours(client: Client) -> None:
    for path, methods in (
        (f"{API}/codes/by-email", "GET,HEAD"),
        (f"{API}/codes/current", "DELETE,GET,HEAD,PATCH"),
        (f"{API}/codes/current/email", "POST"),
        (f"{API}/users/me/referrals", "GET,HEAD"),
    ):
        async with client.put(path) as response:
            assert response.status == 405
            assert response.headers["Allow"] == methods
