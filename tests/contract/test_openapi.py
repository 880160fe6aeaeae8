"""The OpenAPI document: valid, complete, true of what the service really answers, and fit to make a client from."""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from referral.app import create_app
from referral.clock import now
from referral.contract.catalogue import CATALOGUE
from referral.contract.openapi import OPTIONAL_HEADERS, TRANSPORT_PROBLEMS, build_openapi
from referral.contract.problems import CONTENT_TYPE
from referral.contract.schemas.changes import TYPES
from referral.database import DATABASE
from referral.queries.outbox import insert_mail
from tests.conftest import Client, Eventually, MakeClient, MakeConfig
from tests.support.endpoints import OAUTH, operations
from tests.support.endpoints import PAGES_CALL as PAGES
from tests.support.people import API, PASSWORD, SECRETS, UNKNOWN, Answer, Person, Product, read_mails, token_in
from tests.support.programme import SHARE, usd
from tests.support.receivers import answer, running_receiver
from tests.support.second_factors import App

Document = dict[str, Any]


@pytest.fixture
def engine() -> str:
    """The document does not depend on the database."""
    return "sqlite"


@pytest.fixture
def app(make_config: MakeConfig) -> web.Application:
    return create_app(make_config())


@pytest.fixture
def document(app: web.Application, make_config: MakeConfig) -> Document:
    return build_openapi(app, make_config())


def problems_of(operation: dict[str, Any]) -> set[str]:
    """The names of the problems that an operation is documented to answer with."""
    return {
        name
        for response in operation["responses"].values()
        for name in response.get("content", {}).get(CONTENT_TYPE, {}).get("examples", {})
    }


def test_the_document_is_valid_openapi_3_1(document: Document) -> None:
    assert document["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_route_of_the_application_is_in_it_or_declares_why_it_is_not(app: web.Application, document: Document) -> None:
    documented = {(method, path) for method, path, _ in operations(document)}
    left_out = {}
    for route in app.router.routes():
        if route.resource and route.method != "HEAD":
            where = route.method, route.resource.canonical
            reason = getattr(route.handler, "__undocumented__", "")
            assert (where in documented) != bool(reason), where
            if reason:
                left_out[where] = reason
    assert len(documented) > 25
    # What a client calls is never left out.
    assert not [path for _, path in left_out if path.startswith((API, "/.well-known"))]
    assert len(left_out) > 12


def test_every_object_has_a_name_and_every_type_is_whole(document: Document) -> None:
    """So that no generator has to invent a name, or leaves a type open."""
    for name, schema in document["components"]["schemas"].items():
        assert schema.get("properties") or schema.get("enum"), name
        assert not {"oneOf", "allOf", "not"} & schema.keys(), name
        # Generators for Go call the constructor of `Code` so.
        assert name.removeprefix("New") not in document["components"]["schemas"].keys() - {name}, name
        for member, described in schema.get("properties", {}).items():
            assert_whole(f"{name}.{member}", described)
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for body in bodies:
            assert len(body["content"]) == 1, where
        for described in (*bodies, *operation["responses"].values()):
            for media in described.get("content", {}).values():
                assert media["schema"].keys() == {"$ref"}, where
        for parameter in operation.get("parameters", ()):
            assert_whole(f"{where} {parameter['name']}", parameter["schema"])


def assert_whole(where: str, schema: Document) -> None:
    """A reference, a plain type, a list of such, or one of these or null."""
    if "anyOf" in schema:
        schema, null = schema["anyOf"]
        assert null == {"type": "null"}, where
    if "$ref" in schema:
        return
    [kind, *null] = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    assert null in ([], ["null"]), where
    # An object without members of ours is what a product keeps, or what another operation describes.
    assert kind in ("string", "integer", "number", "boolean", "array", "object"), where
    assert "enum" not in schema, f"{where}: an enum has a name"
    if kind == "array":
        assert_whole(where, schema["items"])


def test_no_two_enums_share_the_name_of_a_member(document: Document) -> None:
    """Generators for Go make constants of one package of them."""
    seen: set[str] = set()
    for name, schema in document["components"]["schemas"].items():
        names = schema.get("x-enum-varnames", [])
        assert len(names) == len(schema.get("enum", [])), name
        for member in names:
            assert re.fullmatch(r"[A-Z]+(_[A-Z0-9]+)*", member), (name, member)
            assert member not in seen, (name, member)
            seen.add(member)


def test_every_type_of_a_problem_is_told_and_none_is_promised_to_be_the_last(document: Document) -> None:
    described = document["components"]["schemas"]["Problem"]["properties"]["type"]
    assert described["x-extensible-enum"] == [f"/problems/{name}" for name in CATALOGUE]
    assert described["type"] == "string"
    assert "enum" not in described


def test_operation_ids_make_good_client_method_names(document: Document) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    summaries = [operation["summary"] for _, _, operation in operations(document)]
    assert len(set(summaries)) == len(summaries)
    for name in names:
        assert re.fullmatch(r"[a-z]+([A-Z][a-z0-9]+)*", name), name
        assert len(name) <= 40, name
    verbs = {"GET": ("get", "list", "find"), "PATCH": ("update",), "DELETE": ("delete",)}
    for method, _, operation in operations(document):
        assert operation["operationId"].startswith(verbs.get(method, ("",))), operation["operationId"]


def test_every_operation_says_what_it_does_and_what_it_answers(document: Document) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert len(operation["tags"]) == 1, where
        assert set(operation["tags"]) <= tags, where
        assert any(status[0] in "23" for status in operation["responses"]), where
        for status, response in operation["responses"].items():
            assert response["description"], (where, status)
            assert response["headers"]["X-Request-ID"] == {"$ref": "#/components/headers/X-Request-ID"}, (where, status)
            for kind, media in response.get("content", {}).items():
                assert "schema" in media, (where, status, kind)
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], (where, parameter["name"])
            assert parameter["schema"], (where, parameter["name"])
        assert set(re.findall(r"{(\w+)}", path)) == {
            parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "path"
        }, where


def test_every_member_of_every_schema_is_described(document: Document) -> None:
    for name, schema in document["components"]["schemas"].items():
        for member, described in schema.get("properties", {}).items():
            nested = "$ref" in described or "$ref" in described.get("items", {})
            assert nested or described.get("description"), f"{name}.{member}"


def test_every_operation_can_fail_as_the_catalogue_says(document: Document) -> None:
    for method, path, operation in operations(document):
        documented = problems_of(operation)
        assert documented <= CATALOGUE.keys(), (method, path)
        is_oauth = path in OAUTH
        assert ("internal-error" in documented) != is_oauth, (method, path)
        assert bool(documented) != is_oauth, (method, path)
        for response in operation["responses"].values():
            media = response.get("content", {}).get(CONTENT_TYPE)
            for name, example in media["examples"].items() if media else ():
                kind = CATALOGUE[name]
                assert operation["responses"][str(kind.status)] is response
                assert example["value"]["type"] == f"/problems/{name}"
                assert example["value"]["status"] == kind.status
                assert re.sub(r"{\w+}", "", path).split("/")[1] == example["value"]["instance"].split("/")[1]
                assert_conforms(document, media["schema"], example["value"])


def test_the_oauth_operations_fail_in_the_shape_of_rfc_6749_whatever_the_reason(document: Document) -> None:
    for path in OAUTH:
        operation = document["paths"][path]["post"]
        failures = {status: found for status, found in operation["responses"].items() if status[0] in "45"}
        assert failures.keys() >= {"400", "408", "413", "415", "429", "500", "503"}
        for status, failure in failures.items():
            [(kind, media)] = failure["content"].items()
            assert (kind, media["schema"]) == ("application/json", {"$ref": "#/components/schemas/OAuthError"}), status
            assert ("Retry-After" in failure["headers"]) == (status in ("429", "503"))
            for example in media.get("examples", {}).values():
                assert_conforms(document, media["schema"], example["value"])


def test_every_problem_of_the_catalogue_is_documented_somewhere(document: Document) -> None:
    documented: set[str] = set().union(*(problems_of(operation) for _, _, operation in operations(document)))
    assert documented | set(TRANSPORT_PROBLEMS) == CATALOGUE.keys()
    for name in TRANSPORT_PROBLEMS:
        assert f"/problems/{name}" in document["info"]["description"]


@pytest.mark.parametrize("public_lookup", ["true", "false"])
async def test_security_stands_at_exactly_the_routes_that_answer_401(make_client: MakeClient, public_lookup: str) -> None:
    client = await make_client(codes_public_lookup=public_lookup)
    document = await (await client.get("/openapi.json")).json()
    for method, path, operation in operations(document):
        url = path
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path":
                url = url.replace(f"{{{parameter['name']}}}", parameter["example"])
        async with client.request(method, url, allow_redirects=False) as response:
            refused = response.status == 401
        if path == PAGES:
            # A page of the product needs nothing, and whoever else calls needs a key.
            assert (response.status, operation["security"]) == (403, [{}, {"ServiceKey": []}])
            continue
        assert operation["security"][:1] == ([{"OAuth2": []}] if refused else []), (method, path)
        assert len(operation["security"]) <= (2 if refused else 0)
        assert refused == ("unauthorized" in problems_of(operation)), (method, path)
    assert bool(document["paths"][f"{API}/codes/by-email"]["get"]["security"]) == (public_lookup == "false")


def test_the_limits_of_an_installation_are_in_its_document(make_config: MakeConfig) -> None:
    config = make_config(auth_password_min_length="12", codes_max_ttl_days="7", server_public_url="https://r.example.com")
    document = build_openapi(create_app(config), config)
    bodies = document["components"]["schemas"]
    assert bodies["Registration"]["properties"]["password"]["minLength"] == 12
    assert bodies["CodeCreation"]["properties"]["ttl_days"]["maximum"] == 7
    # And its examples can be sent there.
    for _, path, operation in operations(document):
        for media in operation.get("requestBody", {"content": {}})["content"].values():
            if "example" in media:
                assert_conforms(document, media["schema"], media["example"])
                assert media["example"].get("ttl_days", 7) == 7, path


@pytest.mark.parametrize("end", ["", "/"])
def test_a_client_finds_the_service_and_its_token_endpoint_by_the_document_alone(make_config: MakeConfig, end: str) -> None:
    config = make_config(server_public_url=f"https://example.com/referral{end}")
    document = build_openapi(create_app(config), config)
    assert document["servers"] == [{"url": "https://example.com/referral"}]
    flow = document["components"]["securitySchemes"]["OAuth2"]["flows"]["password"]
    assert flow["tokenUrl"] == flow["refreshUrl"] == f"https://example.com/referral{API}/auth/token"
    assert document["info"]["contact"]["url"] == "https://example.com/referral/docs"


def strict(document: Document) -> Document:
    """The document with every object closed: nothing may be answered that is not documented."""
    closed = copy.deepcopy(document)
    for schema in closed["components"]["schemas"].values():
        schema.setdefault("additionalProperties", False)
    return closed


def assert_conforms(document: Document, schema: Document, instance: Any) -> None:
    validator = Draft202012Validator(
        {**schema, "components": document["components"]}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(instance)] == []


class Tour:
    """Calls the service as the document says and holds every answer against it."""

    def __init__(self, document: Document) -> None:
        self.document = strict(document)
        self.seen: set[tuple[str, str]] = set()

    async def call(self, person: Person, method: str, path: str, status: int, body: Any = None, **options: Any) -> Answer:
        answer = await person.call(method, path, body, **options)
        assert answer.status == status, (method, path, answer.status, answer.body)
        operation = self.operation(method, path)
        self.seen.add((operation["operationId"], str(status)))
        documented = operation["responses"].get(str(status))
        assert documented, f"{method} {path} answers {status}, which is not documented"
        for name, header in documented["headers"].items():
            if "$ref" in header:
                header = self.document["components"]["headers"][header["$ref"].rpartition("/")[2]]
            assert name in answer.headers or name in OPTIONAL_HEADERS, (method, path, status, name)
            assert header["required"] == (name not in OPTIONAL_HEADERS)
        content = documented.get("content")
        if not content:
            assert not answer.body, (method, path, status)
            return answer
        kind = answer.headers["Content-Type"].partition(";")[0]
        assert kind in content, (method, path, status, kind)
        assert_conforms(self.document, content[kind]["schema"], answer.body)
        if kind == CONTENT_TYPE:
            assert answer.problem in content[kind]["examples"], (method, path, answer.problem)
        return answer

    def operation(self, method: str, path: str) -> dict[str, Any]:
        path = path.partition("?")[0]
        full = path if path.startswith("/.well") else f"{API}{path}"
        # Fixed words come before parameters, as in the router.
        for template in sorted(self.document["paths"], key=lambda template: template.count("{")):
            if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), full):
                found: dict[str, Any] = self.document["paths"][template][method.lower()]
                return found
        raise AssertionError(f"{path} is not documented")


def message_of(document: Document, kind: str) -> Document:
    """What the document says of the message of this type."""
    content: Document = document["webhooks"][kind]["post"]["requestBody"]["content"]["application/json"]
    return content


def test_every_type_of_change_is_described_with_an_example(document: Document) -> None:
    assert set(document["webhooks"]) == set(TYPES)
    for kind in TYPES:
        described = message_of(strict(document), kind)
        assert_conforms(strict(document), described["schema"], described["example"])
        assert described["example"]["type"] == kind


async def test_live_answers_are_as_documented(
    make_client: MakeClient, document: Document, mail_folder: Path, eventually: Eventually
) -> None:
    client, tour = await make_client(webhooks_allowed_networks="127.0.0.0/8"), Tour(document)
    alice, bob, carol = (Person(client, f"{name}@example.com") for name in ("alice", "bob", "carol"))
    anybody = Person(client, "")

    async def register(person: Person, status: int = 201, **more: Any) -> Answer:
        body = {"email": person.email, "password": PASSWORD, **more}
        answer = await tour.call(person, "POST", "/auth/register", status, body)
        if status == 201:
            person.tokens, person.id = answer.body, answer.body["user"]["id"]
        return answer

    # Everything that can be null is.
    assert (await register(alice)).body["user"].items() >= {
        "username": None,
        "referrer": None,
        "code": None,
        "profile": None,
    }.items()
    await register(Person(client, "ALICE@example.com"), 409)
    await register(Person(client, "nobody"), 422)
    await register(Person(client, "dora@example.com"), 422, referral_code="NOT-THERE")
    await tour.call(alice, "GET", "/codes/current", 404)
    code = (await tour.call(alice, "POST", "/codes", 201, {"ttl_days": 30})).body
    assert code["max_uses"] is None
    await tour.call(alice, "POST", "/codes", 409, {"ttl_days": 30})
    await tour.call(alice, "POST", "/codes", 422, {})
    await register(bob, username="bob", referral_code=code["code"])
    await register(carol, username="carol")
    await register(Person(client, "dora@example.com"), 409, username="Bob")
    await tour.call(carol, "POST", "/users/me/referrer", 201, {"code": code["code"]})
    await tour.call(carol, "POST", "/users/me/referrer", 409, {"code": code["code"]})
    await tour.call(alice, "POST", "/users/me/referrer", 422, {"code": code["code"]})
    assert (await tour.call(bob, "GET", "/users/me", 200)).body["referrer"] == {
        "id": alice.id,
        "username": None,
        "name": None,
    }
    assert (await tour.call(alice, "GET", "/users/me", 200)).body["code"]["uses"] == 2
    await tour.call(alice, "PATCH", "/users/me", 200, {"username": "alice"})
    await tour.call(alice, "PATCH", "/users/me", 409, {"username": "bob"})
    first = await tour.call(alice, "GET", "/users/me/referrals?limit=1", 200)
    assert first.body["next_cursor"]
    assert "Link" in first.headers
    await tour.call(alice, "GET", f"/users/me/referrals?cursor={first.body['next_cursor']}", 200)
    await tour.call(alice, "GET", "/users/me/referrals?limit=0", 422)
    others = await tour.call(bob, "GET", f"/users/{alice.id}/referrals", 200)
    assert "email" not in others.body["items"][0]
    await tour.call(bob, "GET", f"/users/{'0' * 8}-0000-7000-8000-{'0' * 12}/referrals", 404)
    await tour.call(alice, "GET", "/codes", 200)
    await tour.call(alice, "GET", "/codes/current", 200)
    await tour.call(alice, "PATCH", "/codes/current", 200, {"max_uses": 2})
    await tour.call(alice, "PATCH", "/codes/current", 422, {"max_uses": 1})
    await tour.call(anybody, "GET", f"/codes/{code['code']}", 404)
    await tour.call(alice, "PATCH", f"/codes/{code['code']}", 200, {"max_uses": None})
    await tour.call(bob, "PATCH", f"/codes/{code['code']}", 403, {"max_uses": 5})
    await tour.call(anybody, "GET", f"/codes/{code['code']}", 200)
    await tour.call(bob, "GET", "/codes/by-email?email=alice@example.com", 200)
    await tour.call(bob, "GET", "/codes/by-email?email=bob@example.com", 404)
    await tour.call(anybody, "GET", "/codes/by-email?email=bob@example.com", 401)
    await tour.call(alice, "POST", "/codes/current/email", 202)
    await tour.call(bob, "POST", "/codes/current/email", 404)
    await tour.call(bob, "DELETE", f"/codes/{code['code']}", 403)
    await tour.call(alice, "DELETE", "/codes/current", 204)
    await tour.call(alice, "DELETE", f"/codes/{code['code']}", 204)
    await tour.call(alice, "PATCH", f"/codes/{code['code']}", 409, {"max_uses": 5})

    await tour.call(alice, "POST", "/auth/email/verify/resend", 202)
    mails = await eventually(lambda: read_mails(mail_folder, "bob@example.com"))
    await tour.call(anybody, "POST", "/auth/email/verify", 204, {"token": token_in(mails[0])})
    await tour.call(anybody, "POST", "/auth/email/verify", 422, {"token": "x"})
    await tour.call(anybody, "POST", "/auth/email/disown", 422, {"token": token_in(mails[0])})
    await Person.register(client, "dora")
    mails = await eventually(lambda: read_mails(mail_folder, "dora@example.com"))
    await tour.call(anybody, "POST", "/auth/email/disown", 204, {"token": token_in(mails[0])})
    change = {"email": "alice@example.org", "current_password": alice.password}
    await tour.call(alice, "POST", "/auth/email/change", 403, {**change, "current_password": "wrong"})
    await tour.call(alice, "POST", "/auth/email/change", 409, {**change, "email": "bob@example.com"})
    await tour.call(alice, "POST", "/auth/email/change", 202, change)
    await tour.call(anybody, "POST", "/auth/password/reset", 202, {"email": "bob@example.com"})
    mails = await eventually(lambda: read_mails(mail_folder, "bob@example.com")[1:])
    reset = {"token": token_in(mails[0]), "new_password": "another password"}
    await tour.call(anybody, "POST", "/auth/password/reset/confirm", 204, reset)
    await tour.call(anybody, "POST", "/auth/password/reset/confirm", 422, {**reset, "token": "x"})
    await tour.call(bob, "GET", "/users/me", 401)
    grant = {"grant_type": "password", "username": "bob", "password": "another password"}
    bob.tokens = (await tour.call(anybody, "POST", "/auth/token", 200, data=grant)).body
    refresh = {"grant_type": "refresh_token", "refresh_token": bob.tokens["refresh_token"]}
    bob.tokens = (await tour.call(anybody, "POST", "/auth/token", 200, refresh)).body
    await tour.call(anybody, "POST", "/auth/token", 400, {"grant_type": "client_credentials"})
    await tour.call(anybody, "POST", "/auth/token", 400, grant | {"password": "wrong"})
    await tour.call(anybody, "POST", "/auth/token", 200, data=grant)
    [other, _] = (await tour.call(bob, "GET", "/auth/sessions", 200)).body["items"]
    await tour.call(bob, "DELETE", f"/auth/sessions/{other['id']}", 204)
    await tour.call(bob, "DELETE", f"/auth/sessions/{other['id']}", 404)
    change = {"current_password": "another password", "new_password": PASSWORD}
    await tour.call(bob, "POST", "/auth/password/change", 204, change)
    await tour.call(bob, "POST", "/auth/password/change", 403, change)
    await tour.call(bob, "POST", "/auth/password/change", 422, {**change, "new_password": "short"})
    factor, wrong = "/users/me/second-factor", {"password": "wrong"}
    await tour.call(carol, "GET", factor, 200)
    await tour.call(carol, "POST", factor, 403, wrong)
    app = App((await tour.call(carol, "POST", factor, 201, {"password": PASSWORD})).body["secret"], [])
    await tour.call(carol, "POST", f"{factor}/confirm", 403, {"code": "0"})
    kept = (await tour.call(carol, "POST", f"{factor}/confirm", 200, {"code": app.code()})).body["recovery_codes"]
    await tour.call(carol, "POST", f"{factor}/confirm", 409, {"code": "0"})
    await tour.call(carol, "POST", factor, 409, {"password": PASSWORD})
    grant_with_code = {"grant_type": "password", "username": "carol", "password": PASSWORD, "otp": app.code()}
    await tour.call(anybody, "POST", "/auth/token", 200, data=grant_with_code)
    await tour.call(anybody, "POST", "/auth/token", 400, data=grant_with_code)
    await tour.call(carol, "DELETE", factor, 403, wrong | {"code": kept[0]})
    await tour.call(carol, "DELETE", factor, 204, {"password": PASSWORD, "code": kept[0]})
    await tour.call(carol, "DELETE", factor, 409, {"password": PASSWORD, "code": kept[0]})
    await tour.call(carol, "DELETE", "/users/me", 403, {"password": "wrong"})
    await tour.call(carol, "DELETE", "/users/me", 204, {"password": PASSWORD})
    erased = await tour.call(alice, "GET", "/users/me/referrals", 200)
    assert {item["email"] for item in erased.body["items"]} == {"bob@example.com", None}
    await tour.call(anybody, "POST", "/auth/revoke", 200, {"token": bob.tokens["access_token"]})
    await tour.call(anybody, "POST", "/auth/revoke", 400, {})
    await tour.call(alice, "POST", "/codes", 400, data=b"{", headers={"Content-Type": "application/json"})
    await tour.call(alice, "POST", "/codes", 415, data=b"{}", headers={"Content-Type": "text/plain"})
    large = b'"' + b"x" * 70_000 + b'"'
    await tour.call(alice, "POST", "/codes", 413, data=large, headers={"Content-Type": "application/json"})
    for path in ("/auth/token", "/auth/revoke"):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        await tour.call(anybody, "POST", path, 413, data=large, headers=form)
    for path in ("/.well-known/jwks.json", "/.well-known/oauth-authorization-server"):
        await tour.call(anybody, "GET", path, 200)

    await tour_of_a_product(tour, client, bob)
    await tour_of_rewards(tour, client)
    called = {name for name, status in tour.seen if status[0] == "2"}
    assert called == {operation["operationId"] for _, _, operation in operations(document)}


async def tour_of_a_product(tour: Tour, client: Client, bob: Person) -> None:
    """What a back end calls."""
    admin = await Product.with_key(client, "admin")
    reader = await Product.with_key(client, "read")
    key = (await tour.call(admin, "POST", "/keys", 201, {"name": "shop", "scope": "write"})).body
    await tour.call(reader, "POST", "/keys", 403, {"name": "shop", "scope": "write"})
    await tour.call(admin, "POST", "/keys", 422, {"name": "shop"})
    product = Product(client, "", tokens={"access_token": key["key"]})
    SECRETS.add(key["key"])
    user = {"email": "erin@example.com", "name": "Erin", "metadata": {"plan": "pro"}, "code": {"ttl_days": 3}}
    made = (await tour.call(product, "PUT", "/users/ext:42", 201, user)).body
    await tour.call(product, "PUT", "/users/ext:42", 200, {"name": None})
    taken = await tour.call(product, "PUT", "/users/ext:43", 409, {"email": "bob@example.com"})
    assert taken.body["user_id"] == bob.id
    await tour.call(product, "PUT", f"/users/{UNKNOWN}", 404, {})
    await tour.call(product, "PUT", "/users/ext:43", 422, {"email": 7})
    await tour.call(reader, "GET", "/users/ext:42", 200)
    await tour.call(reader, "GET", "/users/ext:43", 404)
    await tour.call(reader, "GET", "/users?limit=1", 200)
    await tour.call(reader, "GET", "/users?q=erin", 200)
    await tour.call(reader, "GET", "/users?status=no", 422)
    await tour.call(reader, "GET", "/users/ext:42/codes", 200)
    await tour.call(product, "POST", "/users/ext:42/codes", 409, {"ttl_days": 3})
    await tour.call(product, "POST", "/users/ext:42/codes", 201, {"ttl_days": 3, "replace": True})
    browser = (await tour.call(product, "POST", "/users/ext:42/token", 200, {"ttl_seconds": 60})).body
    erin = Person(client, "", tokens=browser)
    await tour.call(erin, "GET", "/users/me/export", 200)
    await tour.call(erin, "GET", f"/users/{bob.id}", 403)
    code = (await tour.call(erin, "GET", "/users/me", 200)).body["code"]["code"]
    assert code != made["code"]["code"]
    purchase = {"id": "e1", "type": "purchase", "user": {"external_id": "44"}, "value": {"unit": "USD", "amount": 5}}
    await tour.call(product, "POST", "/events", 201, {**purchase, "code": code, "metadata": {"size": 1.5}})
    await tour.call(product, "POST", "/events", 200, {**purchase, "code": code, "metadata": {"size": 1.5}})
    await tour.call(product, "POST", "/events", 409, purchase)
    await tour.call(product, "POST", "/events", 422, {**purchase, "id": "e2", "value": {"unit": "CHF", "amount": 5}})
    await tour.call(product, "POST", "/events/batch", 200, {"events": [purchase, {**purchase, "id": "e3"}, 7]})
    await tour.call(product, "POST", "/events/batch", 422, {"events": []})
    await tour.call(reader, "GET", "/events/e1", 200)
    await tour.call(reader, "GET", "/events/none", 404)
    await tour.call(reader, "GET", "/events?user=ext:44&limit=1", 200)
    clicked = await tour.call(product, "POST", "/clicks", 201, {"code": code, "context": {"ip": "192.0.2.1"}})
    await tour.call(product, "POST", "/clicks", 404, {"code": "NOT-THERE"})
    await tour.call(product, "POST", "/clicks", 422, {"code": "?"})
    await tour.call(reader, "POST", "/clicks", 403, {"code": code})
    signup = {"id": "e4", "type": "signup", "user": {"external_id": "45"}, "click_id": clicked.body["click_id"]}
    assert (await tour.call(product, "POST", "/events", 201, signup)).body["referral"]["source"] == "click"
    assert (await tour.call(reader, "GET", "/users/ext:42/stats", 200)).body["totals"]["clicks"] == 1
    await tour.call(erin, "GET", f"/users/me/stats?interval=month&from=2026-01-01&code={code}", 200)
    await tour.call(erin, "GET", "/users/me/stats?from=yesterday", 422)
    await tour.call(erin, "GET", "/users/me/stats?code=NOT-THERE", 404)
    found = (await tour.call(reader, "GET", "/stats", 200)).body
    assert (found["totals"]["purchases"], found["totals"]["revenue"]) != (0, [])
    await tour.call(reader, "GET", "/stats?interval=hour", 422)
    assert (await tour.call(reader, "GET", "/leaderboard?by=referrals", 200)).body["items"]
    await tour.call(reader, "GET", "/leaderboard?by=revenue&period=month&unit=USD", 200)
    await tour.call(reader, "GET", "/leaderboard?by=revenue&unit=STARS", 422)
    await tour.call(admin, "POST", "/users/ext:44/suspend", 200, {"reason": "a test"})
    await tour.call(product, "POST", "/users/ext:44/token", 409)
    await tour.call(admin, "POST", "/users/ext:44/unsuspend", 200)
    await tour.call(product, "POST", "/users/ext:44/unsuspend", 403)
    await tour.call(admin, "DELETE", "/users/ext:44/sessions", 204)
    await tour.call(admin, "DELETE", "/users/ext:none/sessions", 404)
    await tour.call(product, "DELETE", "/users/ext:44/sessions", 403)
    await tour.call(product, "DELETE", "/users/ext:44", 204)
    await tour.call(product, "DELETE", "/users/ext:44", 404)
    await tour.call(admin, "GET", "/keys", 200)
    await tour.call(admin, "DELETE", f"/keys/{key['id']}", 204)
    await tour.call(admin, "DELETE", f"/keys/{key['id']}", 404)
    await tour.call(product, "GET", "/users", 401)


async def tour_of_rewards(tour: Tour, client: Client) -> None:
    """Rules, what they give, and what becomes of it."""
    admin, reader = await Product.with_key(client, "admin"), await Product.with_key(client, "read")
    rule = {"name": "All", "on": "purchase", "to": "referrer", "times": None, "give": SHARE, "hold_days": 1}
    limits = {"per_referrer": {"count": 9, "period": "day"}, "budget": {"unit": "USD", "amount": 9000, "period": "ever"}}
    conditions = {"min_amount": {"unit": "USD", "amount": 1}, "within_days": 9, "metadata": {"plan": "pro"}}
    whole = {**rule, "limits": limits, "if": conditions, "tiers": [{"from": 2, "percent": "30"}]}
    made = (await tour.call(admin, "POST", "/rules", 201, whole)).body
    await tour.call(reader, "POST", "/rules", 403, whole)
    await tour.call(admin, "POST", "/rules", 422, {**whole, "times": 0})
    await tour.call(admin, "PATCH", f"/rules/{made['id']}", 200, {"if": None, "tiers": []})
    await tour.call(admin, "PATCH", f"/rules/{UNKNOWN}", 404, {})
    coupon = {"name": "A month", "on": "purchase", "to": "referee", "give": {"kind": "coupon", "label": "A month"}}
    await tour.call(admin, "POST", "/rules", 201, {**coupon, "hold_days": 0})
    await tour.call(admin, "POST", "/rules", 201, {**coupon, "enabled": False})
    await tour.call(reader, "GET", "/rules?limit=1", 200)
    await tour.call(reader, "GET", f"/rules/{made['id']}", 200)
    await tour.call(reader, "GET", f"/rules/{UNKNOWN}", 404)
    await tour.call(reader, "GET", f"/rules/{made['id']}/versions?limit=1", 200)
    await admin.user("ref")
    code = (await tour.call(admin, "POST", "/users/ext:ref/codes", 201, {"ttl_days": 3})).body["code"]
    bought = {"id": "r1", "type": "purchase", "user": {"external_id": "new"}, "code": code}
    bought["value"] = {"unit": "USD", "amount": 1000}
    earned = (await tour.call(admin, "POST", "/events", 201, bought)).body
    assert ([one["kind"] for one in earned["rewards"]], len(earned["skipped"])) == (["balance", "coupon"], 1)
    await tour.call(admin, "POST", "/events", 201, {"id": "r2", "type": "refund", "refunds": "r1", "value": usd(10)})
    await tour.call(admin, "POST", "/rules/preview", 200, {"rule": whole, "since": "2020-01-01T00:00:00Z"})
    await tour.call(admin, "POST", "/rules/preview", 422, {"rule": whole, "since": 7})
    balance, delivered = (f"/rewards/{reward['id']}" for reward in earned["rewards"])
    await tour.call(admin, "POST", f"{balance}/fulfil", 409, {})
    await tour.call(admin, "POST", f"{balance}/approve", 200, {"now": True})
    await tour.call(admin, "POST", f"{balance}/reject", 409, {"reason": "late"})
    await tour.call(admin, "POST", f"{balance}/reverse", 200, {"id": "v1", "amount": 5, "reason": "a test"})
    await tour.call(admin, "POST", f"{balance}/reverse", 200, {"id": "v1", "amount": 5, "reason": "a test"})
    await tour.call(admin, "POST", f"{balance}/reverse", 409, {"id": "v1", "reason": "a test"})
    await tour.call(admin, "POST", f"{balance}/reverse", 422, {"id": "v2", "amount": 500, "reason": "a test"})
    await tour.call(admin, "POST", f"{delivered}/fulfil", 200, {"reference": "c-1"})
    await tour.call(reader, "POST", f"{delivered}/fulfil", 403, {})
    given = {"id": "g1", "user": {"external_id": "ref"}, "kind": "balance", "value": usd(9), "reason": "a test"}
    await tour.call(admin, "POST", "/rewards", 201, given)
    await tour.call(admin, "POST", "/rewards", 200, given)
    await tour.call(admin, "POST", "/rewards", 409, {**given, "reason": "another"})
    held = (await tour.call(admin, "POST", "/rewards", 201, {**given, "id": "g2", "hold_days": 1})).body
    await tour.call(admin, "POST", f"/rewards/{held['id']}/reject", 200, {"reason": "a test"})
    await tour.call(admin, "POST", f"/rewards/{held['id']}/approve", 409, {})
    for path in ("/rewards?limit=1", "/rewards?user=ext:ref&status=void", "/users/ext:ref/rewards", balance):
        await tour.call(reader, "GET", path, 200)
    await tour.call(reader, "GET", "/rewards?status=lost", 422)
    await tour.call(reader, "GET", f"/rewards/{UNKNOWN}", 404)
    await tour_of_reviews(tour, admin, reader)
    await tour.call(reader, "GET", "/users/ext:ref/balances", 200)
    await tour.call(reader, "GET", "/users/ext:none/balances", 404)
    redemption = {"id": "d1", "unit": "USD", "amount": 50, "reference": "order", "note": "a test"}
    await tour.call(admin, "POST", "/users/ext:ref/redemptions", 201, redemption)
    await tour.call(admin, "POST", "/users/ext:ref/redemptions", 200, redemption)
    await tour.call(admin, "POST", "/users/ext:ref/redemptions", 409, {**redemption, "id": "d2", "amount": 900})
    await tour.call(reader, "GET", "/redemptions/d1", 200)
    await tour.call(reader, "GET", "/redemptions/d9", 404)
    for name in ("d3", "d4"):
        reserved = {"id": name, "unit": "USD", "amount": 5, "hold_seconds": 60}
        await tour.call(admin, "POST", "/users/ext:ref/redemptions", 201, reserved)
    await tour.call(admin, "POST", "/redemptions/d1/cancel", 200)
    await tour.call(admin, "POST", "/redemptions/d3/capture", 200)
    await tour.call(admin, "POST", "/redemptions/d4/release", 200)
    await tour.call(admin, "POST", "/redemptions/d4/capture", 409)
    await tour.call(admin, "POST", "/redemptions/d5/capture", 404)
    await tour.call(reader, "GET", "/users/ext:ref/statement?unit=USD&limit=2", 200)
    await tour.call(reader, "GET", "/users/ext:ref/statement", 422)
    await tour.call(reader, "GET", "/users/ext:ref/referrals", 200)
    await tour.call(admin, "GET", "/users/ext:ref/export", 200)
    told = (await tour.call(reader, "GET", "/changes?wait=5&limit=100", 200)).body
    for change in told["items"]:
        schema = message_of(tour.document, change["type"])["schema"]
        message = {"timestamp": change["at"], **{name: change[name] for name in ("type", "subject_id", "version", "data")}}
        assert_conforms(tour.document, schema, message)
    assert len({change["type"] for change in told["items"]}) > 8
    await tour.call(reader, "GET", f"/changes?after={told['last_seq']}&types=reward.*,balance.changed&limit=1", 200)
    await tour.call(reader, "GET", "/changes?types=rewards", 422)
    beyond = await tour.call(reader, "GET", f"/changes?after={told['last_seq'] + 1_000_000}", 410)
    assert beyond.body["last_seq"] >= told["last_seq"]
    user = await Person.register(client, "frank")
    await tour.call(user, "GET", "/changes", 403)
    await tour_of_webhooks(tour, admin, reader)
    await tour_of_operations(tour, admin, reader)


async def tour_of_reviews(tour: Tour, admin: Product, reader: Product) -> None:
    """Two who came by `ref`, one of whom is rejected."""
    code = (await admin.get("/users/ext:ref/codes")).body["items"][0]["code"]
    for name in ("odd", "fine"):
        bought = {"id": f"by {name}", "type": "purchase", "user": {"external_id": name}, "code": code, "value": usd(500)}
        await tour.call(admin, "POST", "/events", 201, bought)
        await tour.call(admin, "POST", f"/referrals/ext:{name}/signals", 201, {"weight": 50, "note": "a test"})
    await tour.call(reader, "POST", "/referrals/ext:odd/signals", 403, {"weight": 50, "note": "a test"})
    await tour.call(admin, "POST", "/referrals/ext:ref/signals", 404, {"weight": 50, "note": "a test"})
    await tour.call(admin, "POST", "/referrals/ext:odd/signals", 422, {"weight": 0, "note": "a test"})
    await tour.call(reader, "GET", "/reviews?status=open&limit=1", 200)
    await tour.call(reader, "GET", "/reviews?status=lost", 422)
    await tour.call(reader, "GET", "/reviews/ext:odd", 200)
    await tour.call(reader, "GET", "/reviews/ext:ref", 404)
    assert (await tour.call(reader, "GET", "/reviews/ext:odd/preview", 200)).body["rewards"]
    await tour.call(reader, "POST", "/reviews/ext:odd/reject", 403, {"reason": "a test"})
    await tour.call(admin, "POST", "/reviews/ext:odd/reject", 200, {"reason": "a test", "suspend_referrer": False})
    await tour.call(admin, "POST", "/reviews/ext:odd/clear", 409, {"reason": "a test"})
    await tour.call(admin, "POST", "/reviews/ext:fine/clear", 200, {"reason": "a test"})
    await tour.call(admin, "POST", "/reviews/ext:fine/reject", 409, {"reason": "a test"})
    await tour.call(reader, "GET", "/reviews", 200)
    await tour.call(admin, "PUT", "/blocks/email-domain/Example.com", 201, {"note": "a test"})
    await tour.call(admin, "PUT", "/blocks/email-domain/example.com", 200)
    await tour.call(admin, "PUT", "/blocks/external-id/fine", 201, {})
    await tour.call(admin, "PUT", "/blocks/email/nobody", 422, {})
    await tour.call(reader, "PUT", "/blocks/external-id/fine", 403, {})
    await tour.call(reader, "GET", "/blocks/email-domain/example.com", 200)
    await tour.call(reader, "GET", "/blocks/email/nobody@example.com", 404)
    await tour.call(reader, "GET", "/blocks?limit=1", 200)
    await tour.call(reader, "GET", "/blocks?kind=ip", 422)
    await tour.call(admin, "DELETE", "/blocks/external-id/fine", 204)
    await tour.call(admin, "DELETE", "/blocks/external-id/fine", 404)


async def tour_of_webhooks(tour: Tour, admin: Product, reader: Product) -> None:
    async with running_receiver() as receiver:
        made = await tour.call(admin, "POST", "/webhooks", 201, {"url": receiver.url(), "types": ["user.*"]})
        path, sealed = f"/webhooks/{made.body['id']}", made.body["secret"]
        assert sealed.startswith("whsec_")
        await tour.call(reader, "POST", "/webhooks", 403, {"url": receiver.url(), "types": ["*"]})
        await tour.call(admin, "POST", "/webhooks", 422, {"url": receiver.url(), "types": ["users"]})
        await tour.call(admin, "POST", "/webhooks", 422, {"url": "https://10.0.0.5/", "types": ["*"]})
        await tour.call(admin, "GET", "/webhooks", 200)
        await tour.call(admin, "GET", path, 200)
        await tour.call(admin, "PATCH", path, 200, {"types": ["user.created", "code.*"]})
        await tour.call(admin, "POST", f"{path}/rotate", 200)
        assert (await tour.call(admin, "POST", f"{path}/test", 200)).body["status"] == 200
        receiver.replies_with(answer(500, b"no"))
        await tour.call(admin, "PUT", "/users/ext:told", 201, {})
        while not (waiting := (await tour.call(admin, "GET", f"{path}/deliveries?status=waiting", 200)).body["items"]):
            await asyncio.sleep(0.05)
        delivery = f"{path}/deliveries/{waiting[0]['change_id']}"
        while not (await tour.call(admin, "GET", delivery, 200)).body["failures"]:
            await asyncio.sleep(0.05)
        receiver.replies_with(answer(204))
        await tour.call(admin, "POST", f"{delivery}/retry", 200)
        await tour.call(admin, "GET", f"{path}/deliveries/{UNKNOWN}", 404)
        await tour.call(admin, "POST", f"{path}/replay", 202, {"since": "2026-01-31T12:00:00Z"})
        await tour.call(admin, "PATCH", path, 200, {"status": "disabled"})
        await tour.call(admin, "POST", f"{path}/replay", 409, {"since": "2026-01-31T12:00:00Z"})
        await tour.call(admin, "POST", f"{delivery}/retry", 409)
        await tour.call(admin, "DELETE", path, 204)
        await tour.call(admin, "GET", path, 404)


async def tour_of_operations(tour: Tour, admin: Product, reader: Product) -> None:
    await tour.call(admin, "GET", "/audit?limit=2", 200)
    await tour.call(admin, "GET", "/audit?user=ext:nobody", 404)
    await tour.call(reader, "GET", "/audit", 403)
    await tour.call(admin, "GET", "/outbox?status=waiting", 200)
    await tour.call(reader, "GET", "/outbox", 403)
    async with admin.client.app[DATABASE].transaction() as conn:
        await insert_mail(conn, UNKNOWN, "reset-password", None, "nobody@example.com", "en", now() + 86_400_000)
    await tour.call(admin, "GET", "/outbox", 200)
    await tour.call(admin, "POST", f"/outbox/{UNKNOWN}/retry", 200)
    await tour.call(admin, "POST", "/outbox/none/retry", 404)


async def test_examples_of_request_bodies_are_accepted(
    client: Client, document: Document, person: Callable[..., Awaitable[Person]]
) -> None:
    """Each is sent as it stands: what it says may not apply, but nothing is wrong with its members."""
    tried = 0
    for method, path, operation in operations(document):
        for kind, media in operation.get("requestBody", {}).get("content", {}).items():
            examples = [example["value"] for example in media.get("examples", {}).values()]
            examples += [media["example"]] if "example" in media else []
            # Swagger UI fills its form for a call with the examples of the members, before anybody chooses another.
            if kind != "application/json" or not examples:
                examples.append(example_of(document, media["schema"], is_form=kind != "application/json"))
            for example in examples:
                assert_conforms(document, media["schema"], example)
                someone = await person()
                url = path.replace("{code}", await someone.make_code()).replace("{user}", "ext:42")
                if len(operation["security"]) > 1:
                    someone = await Product.with_key(client, "admin")
                    await someone.user("42")
                key = "json" if kind == "application/json" else "data"
                headers = {"Authorization": f"Bearer {someone.tokens['access_token']}"}
                async with client.request(method, url, headers=headers, **{key: example}) as response:
                    text = await response.text()
                assert response.status < 500, (method, path, text)
                assert "validation-error" not in text, (method, path, text)
                assert "invalid_request" not in text or "of no issuer here" in text, (method, path, text)
                assert "unsupported" not in text, (method, path, text)
                tried += 1
    assert tried >= 15


def example_of(document: Document, schema: Document, *, is_form: bool) -> dict[str, Any]:
    """A body made, as Swagger UI makes it, of the examples of its required members, or of all where none is required or it
    is a form."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    members = schema["properties"].keys() if is_form else schema.get("required") or schema["properties"].keys()
    return {member: schema["properties"][member]["example"] for member in members}


async def test_the_served_document_is_the_built_one(client: Client, document: Document) -> None:
    response = await client.get("/openapi.json")
    assert response.content_type == "application/json"
    assert await response.json() == document
