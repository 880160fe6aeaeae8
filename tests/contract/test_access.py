"""Who may call an endpoint: declared on it, enforced, documented, and checked at the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp_apispec import docs

from referral import app as app_module
from referral.config import CONFIG
from referral.contract.access import Access, Limit, UndeclaredAccess, allow, declaration_of
from referral.contract.openapi import build_openapi
from referral.handlers import service
from tests.conftest import Client, MakeClient, MakeConfig
from tests.support.endpoints import PAGES_CALL
from tests.support.people import Person
from tests.support.rows import make_admin


@pytest.fixture(params=["sqlite"])
def engine(request: pytest.FixtureRequest) -> str:
    """Access does not depend on the database."""
    return str(request.param)


AddRoute = Callable[[Any], None]


@pytest.fixture
def add_route(monkeypatch: pytest.MonkeyPatch) -> AddRoute:
    """`add_route(handler)`: every application made from now on has it at /extra."""

    def add(handler: Any) -> None:
        routes = web.RouteTableDef()
        routes.get("/extra")(handler)
        monkeypatch.setattr(service, "routes", [*service.routes, *routes])

    return add


async def test_an_endpoint_without_a_declaration_stops_the_start(make_config: MakeConfig, add_route: AddRoute) -> None:
    # What a handler's documentation says is no declaration.
    @docs(access="admin")
    async def forgotten(request: web.Request) -> web.Response:
        return web.Response()

    add_route(forgotten)
    with pytest.raises(UndeclaredAccess, match=r"GET /extra: .*forgotten lacks @allow"):
        app_module.create_app(make_config())


async def test_a_class_of_handlers_and_a_folder_of_files_stop_it_too(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    class View(web.View):
        async def get(self) -> web.Response:
            return web.Response()

    @allow(Access.ANYBODY)
    class Declared(web.View):
        pass

    class Heir(Declared):
        pass

    for route in (web.view("/view", View), web.view("/heir", Heir), web.static("/files", tmp_path)):
        monkeypatch.setattr(app_module, "meeting_expectations", lambda found: found)
        monkeypatch.setattr(service, "routes", [route])
        with pytest.raises(UndeclaredAccess):
            app_module.create_app(make_config())


@pytest.mark.parametrize("word", ["admin", "signed-in", None, Limit.EXEMPT, True])
def test_a_made_up_word_is_refused_where_it_stands(word: Any) -> None:
    with pytest.raises(TypeError, match="members of Access, Limit and Errors"):
        allow(word)
    with pytest.raises(TypeError, match="members of Access, Limit and Errors"):
        allow(Access.ADMIN, word if word is not Limit.EXEMPT else Access.ANYBODY)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="members of Access, Limit and Errors"):
        allow(Access.ADMIN, errors=word)


async def test_a_handler_that_slipped_past_the_start_is_not_called(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, add_route: AddRoute
) -> None:
    called = []

    async def forgotten(request: web.Request) -> web.Response:
        called.append(True)
        return web.Response()

    add_route(forgotten)
    monkeypatch.setattr(app_module, "refuse_undeclared", lambda routes: None)
    monkeypatch.setattr(app_module, "paths_of", lambda errors, routes: frozenset())
    client = await make_client()
    async with client.get("/extra") as response:
        assert response.status == 500
    assert called == []


async def test_what_is_for_admins_is_refused_to_everybody_else(
    make_client: MakeClient, add_route: AddRoute, database_url: str
) -> None:
    @docs(operationId="getExtra", summary="For admins", responses={200: {"description": "It is"}})
    @allow(Access.ADMIN)
    async def extra(request: web.Request) -> web.Response:
        return web.json_response({"for": "admins"})

    add_route(extra)
    client = await make_client()
    alice, admin = await Person.register(client, "alice"), await Person.register(client, "admin")
    await make_admin(database_url, admin.id)

    async def status_for(person: Person) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {person.tokens['access_token']}"} if person.tokens else {}
        async with client.get("/extra", headers=headers) as response:
            text = await response.text()
            return response.status, text

    assert (await status_for(Person(client, "")))[0] == 401
    status, text = await status_for(alice)
    assert status == 403
    assert "/problems/forbidden" in text
    assert "admins" in text
    assert (await status_for(admin))[0] == 200
    assert client.app
    operation = build_openapi(client.app, client.app[CONFIG])["paths"]["/extra"]["get"]
    assert operation["security"] == [{"OAuth2": []}, {"ServiceKey": []}]
    assert operation["x-required-scope"] == "admin"
    assert {"401", "403"} <= operation["responses"].keys()


@pytest.mark.parametrize("public_lookup", ["false", "true"])
async def test_each_route_asks_for_a_token_as_it_declares_and_as_is_documented(
    make_client: MakeClient, public_lookup: str
) -> None:
    client = await make_client(codes_public_lookup=public_lookup)
    assert client.app
    config, paths = client.app[CONFIG], build_openapi(client.app, client.app[CONFIG])["paths"]
    asked: dict[bool, int] = {True: 0, False: 0}
    for route in client.app.router.routes():
        assert route.resource
        if route.method == "HEAD":
            continue
        wanted = declaration_of(route.handler).wants_identity(config)
        path = route.resource.canonical
        url = client.make_url(path.replace("{", "").replace("}", ""))
        async with client.session.request(route.method, url, allow_redirects=False) as response:
            if path == PAGES_CALL:
                assert response.status == 403
                continue
            if declaration_of(route.handler).access is Access.ADMIN_PAGE:
                # Its pages lead to the sign-in; what comes from nowhere is refused before anybody asks who sent it.
                assert response.status == (303 if route.method == "GET" else 403), (route.method, path)
                continue
            assert (response.status == 401) == wanted, (route.method, path, response.status)
        if not hasattr(route.handler, "__undocumented__"):
            assert bool(paths[path][route.method.lower()]["security"]) == wanted, (route.method, path)
        asked[wanted] += 1
    assert asked[True] > 15
    assert asked[False] > 15


async def test_an_address_without_a_route_needs_no_token(client: Client) -> None:
    for method, path, expected in (("GET", "/nowhere", 404), ("PUT", "/api/v1/codes/current", 405)):
        async with client.request(method, path) as response:
            assert response.status == expected
