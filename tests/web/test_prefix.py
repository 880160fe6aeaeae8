"""A path in `server.public_url`: what is answered, counted, logged and allowed, whether the proxy takes the path off or not.

`tests/handlers/test_browser.py` has the same behind a real proxy.
"""

from __future__ import annotations

import asyncio
import re

import pytest

from referral.config import ROOT
from referral.config.public_url import parse_public_url
from referral.web.prefix import stripping
from tests.conftest import Client, MakeClient
from tests.support.people import API, PASSWORD, Person

PREFIX = "/our-shop/referrals"
PUBLIC_URL = f"https://example.com{PREFIX}"

ROUTES = (
    "/",
    "/docs",
    "/assets/{asset}",
    "/health/live",
    "/problems/{problem}",
    "/account/verify",
    f"{API}/codes",
    f"{API}/codes/{{code}}",
    "/.well-known/oauth-authorization-server",
)


@pytest.fixture
def engine() -> str:
    """Addresses do not depend on the database."""
    return "sqlite"


@pytest.fixture
async def client(make_client: MakeClient) -> Client:
    return await make_client(server_public_url=PUBLIC_URL)


@pytest.mark.parametrize(
    ("prefix", "asked", "served"),
    [
        (PREFIX, f"{PREFIX}{API}/codes/A%2Fb", f"{API}/codes/A%2Fb"),
        (PREFIX, f"{PREFIX}/docs", "/docs"),
        (PREFIX, f"{PREFIX}/", "/"),
        (PREFIX, PREFIX, "/"),
        (PREFIX, "/docs", "/docs"),
        (PREFIX, f"{PREFIX}/docs/", "/docs/"),
        (PREFIX, f"{PREFIX}/nowhere", "/nowhere"),
        # Once only, and only as whole segments from the beginning on.
        (PREFIX, f"{PREFIX}{PREFIX}/docs", f"{PREFIX}/docs"),
        (PREFIX, f"{PREFIX}x/docs", f"{PREFIX}x/docs"),
        (PREFIX, "/our-shop/docs", "/our-shop/docs"),
        (PREFIX, f"/x{PREFIX}/docs", f"/x{PREFIX}/docs"),
        (PREFIX, f"/{PREFIX}/docs", f"/{PREFIX}/docs"),
        (PREFIX, f"{PREFIX}//docs", "//docs"),
        (PREFIX, f"{PREFIX}//elsewhere.example/docs", "//elsewhere.example/docs"),
        (PREFIX, "*", "*"),
        # However it is percent-encoded.
        ("/~us", "/%7Eus/docs", "/docs"),
        ("/%D1%8F", "/%d1%8f/docs", "/docs"),
        ("/a%2Fb", "/a%2fb/docs", "/docs"),
        ("/a%2Fb", "/a/b/docs", "/a/b/docs"),
        # RFC 8414 section 3.1: before the path.
        (PREFIX, f"/.well-known/oauth-authorization-server{PREFIX}", "/.well-known/oauth-authorization-server"),
        (PREFIX, "/.well-known/oauth-authorization-server/x", "/.well-known/oauth-authorization-server/x"),
        (PREFIX, f"/.well-known/jwks.json{PREFIX}", f"/.well-known/jwks.json{PREFIX}"),
        # A prefix that looks like a path of the service: first as it comes from a proxy that has taken it off.
        ("/api", f"{API}/codes", f"{API}/codes"),
        ("/api", f"/api{API}/codes", f"{API}/codes"),
        ("/api", "/api/docs", "/docs"),
        ("/api", "/api/", "/"),
        ("/api/v1", f"{API}/codes", f"{API}/codes"),
        ("/api/v1", f"/api/v1{API}/codes", f"{API}/codes"),
        ("/docs", "/docs", "/docs"),
        ("/docs", "/docs/docs", "/docs"),
        ("/docs", "/docs/", "/"),
        ("/assets", "/assets/page.css", "/assets/page.css"),
        ("/assets", "/assets/assets/page.css", "/assets/page.css"),
        ("/problems", "/problems/docs", "/docs"),
        ("/problems", "/problems/not-found", "/problems/not-found"),
        ("/account", "/account/verify", "/account/verify"),
        ("/account", "/account/account/verify", "/account/verify"),
        ("/health", "/health/health/live", "/health/live"),
    ],
)
def test_the_prefix_is_taken_off_where_it_was_left(prefix: str, asked: str, served: str) -> None:
    assert stripping(parse_public_url(f"https://example.com{prefix}/"), ROUTES)(asked) == served


@pytest.mark.parametrize("before", ["", PREFIX], ids=["taken off", "left"])
async def test_every_problem_has_its_address_under_the_path(client: Client, before: str) -> None:
    for method, path, name in (
        ("GET", "/nowhere", "not-found"),
        ("GET", "/%D1%8F", "not-found"),
        ("PUT", "/docs", "method-not-allowed"),
        ("GET", f"{API}/users/me", "unauthorized"),
        ("GET", f"{API}/codes/by-email?email=%41", "unauthorized"),
        ("POST", f"{API}/auth/register?x=%41", "unsupported-media-type"),
    ):
        async with client.request(method, f"{before}{path}") as response:
            problem = await response.json(content_type=None)
        assert problem["type"] == f"{PREFIX}/problems/{name}"
        assert problem["instance"].lower() == f"{PREFIX}{path.partition('?')[0]}".lower()
    async with client.get(f"{before}/docs", headers={"Expect": "miracles"}) as response:
        assert (await response.json(content_type=None))["type"] == f"{PREFIX}/problems/expectation-failed"


async def test_what_is_no_http_gets_such_an_address_too(client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"what is this\r\n\r\n")
    async with asyncio.timeout(10):
        answer = await reader.read()
    assert f'"type":"{PREFIX}/problems/bad-request"'.encode() in answer
    writer.close()


async def test_a_whole_address_as_proxies_ask_for_it_is_served(client: Client) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(
        f"GET http://example.com{PREFIX}/health/live?x=1 HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n".encode()
    )
    async with asyncio.timeout(10):
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_routes_are_counted_and_logged_as_the_service_s_own(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    for before in ("", PREFIX):
        async with client.get(f"{before}{API}/codes/NO-SUCH-1") as response:
            assert response.status == 404
    async with client.get("/metrics") as response:
        counted = [line for line in (await response.text()).splitlines() if "route=" in line]
    routes = {route for line in counted for route in re.findall(r'route="([^"]+)"', line)}
    assert f"{API}/codes/{{code}}" in routes
    assert not [route for route in routes if "our-shop" in route]
    logged = [record.getMessage() for record in caplog.records if record.name == "referral.requests"]
    assert logged[:2] == [f"GET {API}/codes/{{code}} 404"] * 2


async def test_limits_count_both_spellings_together(make_client: MakeClient) -> None:
    client = await make_client(server_public_url=PUBLIC_URL, limits_enabled="true", limits_lookup_by_address="2/hour")
    statuses = []
    for before in ("", PREFIX, "", PREFIX):
        async with client.get(f"{before}{API}/codes/NO-SUCH-1") as response:
            statuses.append(response.status)
    assert statuses == [404, 404, 429, 429]


async def test_who_may_call_is_asked_under_the_path_too(client: Client) -> None:
    alice = await Person.register(client, "alice")
    for before in ("", PREFIX):
        async with client.get(f"{before}{API}/users/me/referrals") as response:
            assert response.status == 401
        headers = {"Authorization": f"Bearer {alice.tokens['access_token']}"}
        async with client.get(f"{before}{API}/users/me/referrals", headers=headers) as response:
            assert response.status == 200


async def test_browsers_ask_for_permission_under_the_path_too(make_client: MakeClient) -> None:
    client = await make_client(server_public_url=PUBLIC_URL, server_cors_origins="https://app.example.com")
    asked = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"}
    async with client.options(f"{PREFIX}{API}/codes", headers=asked) as response:
        assert (response.status, response.headers["Access-Control-Allow-Methods"]) == (204, "GET, HEAD, POST")


def test_no_page_and_no_script_names_a_path_without_the_prefix() -> None:
    sources = [*(ROOT / "referral" / "templates").rglob("*.html"), *(ROOT / "referral" / "assets").iterdir()]
    assert len(sources) > 15
    for source in sources:
        if source.name == "widget.js":
            # It puts the service's whole address before its paths, which test_widget.py holds of one with a path.
            continue
        # Pages of the back office give paths to macros, which put the prefix before them.
        wrong = (
            r"""(href|src|action)=["']/""" if source.parent.name == "admin" else r"""(href|src|action)=["']/|["'`(]/[a-z]"""
        )
        assert not re.search(wrong, re.sub(r"path\('/", "path('", source.read_text())), source


async def test_forms_post_to_the_path_and_links_of_mails_lead_there(client: Client) -> None:
    for page in ("/account/verify", "/account/disown", "/account/reset"):
        async with client.get(f"{PREFIX}{page}?token=x") as response:
            assert f'<form method="post" action="{PREFIX}{page}">' in await response.text()
            assert "form-action 'self'" in response.headers["Content-Security-Policy"]
        async with client.post(f"{PREFIX}{page}", data={"token": "x", "new_password": PASSWORD}) as response:
            assert response.status == 422
            assert f'href="{PREFIX}/assets/page.css"' in await response.text()


async def test_a_slash_at_the_end_of_the_url_is_not_doubled(make_client: MakeClient) -> None:
    client = await make_client(server_public_url=f"{PUBLIC_URL}/")
    async with client.get("/.well-known/oauth-authorization-server") as response:
        metadata = await response.json()
    # The issuer is compared as a text with that of tokens (RFC 8414 section 3.3): it is what the settings say.
    assert metadata["issuer"] == f"{PUBLIC_URL}/"
    assert metadata["token_endpoint"] == f"{PUBLIC_URL}{API}/auth/token"
    async with client.get("/openapi.json") as response:
        assert (await response.json())["servers"] == [{"url": PUBLIC_URL}]


async def test_the_document_s_problems_and_examples_have_their_addresses_under_the_path(client: Client) -> None:
    async with client.get("/openapi.json") as response:
        document = await response.json()
    assert f"{API}/codes" in document["paths"]
    [example] = [
        found["value"]
        for found in document["paths"][f"{API}/users/me"]["get"]["responses"]["401"]["content"]["application/problem+json"][
            "examples"
        ].values()
    ]
    assert (example["type"], example["instance"]) == (f"{PREFIX}/problems/unauthorized", f"{PREFIX}{API}/users/me")
    assert "(/problems/" not in document["info"]["description"]
