"""Errors of the OAuth endpoints: whatever the reason and wherever it is found, their shape is that of RFC 6749."""

from __future__ import annotations

import json
from typing import Any

import pytest

from referral.app import create_app
from referral.auth.fair_queue import Overloaded
from referral.auth.passwords import PasswordHasher
from referral.contract.access import Errors, paths_of
from referral.contract.catalogue import CATALOGUE
from referral.contract.oauth import oauth_response, word_for
from referral.contract.problems import Problem
from referral.database import DATABASE, DatabaseUnavailable
from referral.handlers import tokens
from tests.conftest import Client, MakeClient, MakeConfig
from tests.support.endpoints import OAUTH
from tests.support.people import PASSWORD, Person
from tests.support.wire import raw

FORM = "application/x-www-form-urlencoded"
TOKEN, REVOKE = OAUTH
BODIES = {
    TOKEN: {"grant_type": "password", "username": "alice", "password": PASSWORD},
    REVOKE: {"token": "a token of nobody"},
}


@pytest.fixture
def engine() -> str:
    """Shapes do not depend on the database."""
    return "sqlite"


def test_the_oauth_endpoints_are_declared_and_nothing_else_is(make_config: MakeConfig) -> None:
    routes = create_app(make_config()).router.routes()
    assert paths_of(Errors.OAUTH, routes) == set(OAUTH)


def test_every_problem_has_a_word_and_keeps_its_status_and_headers() -> None:
    for name, kind in CATALOGUE.items():
        response = oauth_response(Problem(name, 'It says "née \\".', headers={"Retry-After": "7"}))
        assert (response.status, response.headers["Retry-After"]) == (kind.status, "7")
        assert isinstance(response.body, bytes)
        document = json.loads(response.body)
        assert document == {"error": word_for(kind.status), "error_description": "It says ?n?e ??."}
    words = {status: word_for(status) for status in (400, 405, 408, 413, 415, 417, 422, 429, 500, 503)}
    later, fault = "temporarily_unavailable", "server_error"
    assert {status: word for status, word in words.items() if word != "invalid_request"} == {
        **dict.fromkeys((408, 429, 503), later),
        500: fault,
    }


@pytest.mark.parametrize("path", OAUTH)
async def test_too_many_requests(make_client: MakeClient, path: str) -> None:
    client = await make_client(limits_enabled="true", limits_request_by_address="1/minute")
    nobody = Person(client, "")
    await nobody.call("POST", path, data=BODIES[path])
    # The limit is found before the body is read, and before the method is looked at.
    for method in ("POST", "GET"):
        answer = await nobody.call(method, path, data=BODIES[path])
        assert (answer.status, answer.oauth_error) == (429, "temporarily_unavailable")
        assert 0 < int(answer.headers["Retry-After"]) <= 60
        assert answer.headers["RateLimit-Policy"] == '"request_by_address";q=1;w=60'


@pytest.mark.parametrize("limit", ["login_by_address", "login_by_account"])
async def test_too_many_sign_ins(make_client: MakeClient, limit: str) -> None:
    client = await make_client(limits_enabled="true", **{f"limits_{limit}": "1/minute"})
    wrong = {**BODIES[TOKEN], "password": "a guess"}
    answers = [await Person(client, "").call("POST", TOKEN, data=wrong) for _ in range(2)]
    assert [(answer.status, answer.oauth_error) for answer in answers] == [
        (400, "invalid_grant"),
        (429, "temporarily_unavailable"),
    ]
    assert int(answers[1].headers["Retry-After"]) > 0


@pytest.mark.parametrize("path", OAUTH)
async def test_a_body_that_is_too_large(client: Client, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n"
    declared = "Content-Length: 70000\r\n\r\n" + "a" * 70_000
    chunked = "Transfer-Encoding: chunked\r\n\r\nfff0\r\n" + "a" * 65_520 + "\r\n20\r\n" + "a" * 32
    for rest in (declared, chunked):
        answer = await raw(client, head + rest)
        assert (answer.status, answer.oauth_error) == (413, "invalid_request")
        assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize("path", OAUTH)
async def test_a_body_that_does_not_arrive_or_breaks_off(client: Client, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("referral.web.bodies.BODY_TIMEOUT", 0.2)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n"
    for framing in ("Content-Length: 100", "Transfer-Encoding: chunked"):
        answer = await raw(client, f"{head}{framing}\r\n\r\n5\r\ntoken")
        assert (answer.status, answer.oauth_error) == (408, "temporarily_unavailable"), framing
        assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize("path", OAUTH)
async def test_what_the_service_does_not_take(client: Client, path: str) -> None:
    nobody = Person(client, "")
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"):
        answer = await nobody.call(method, path)
        assert (answer.status, answer.oauth_error, answer.headers["Allow"]) == (405, "invalid_request", "POST"), method
    answer = await nobody.call("HEAD", path)
    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (405, "application/json")
    # Another writing of the same path.
    encoded = path.replace("auth", "%61uth")
    answer = await raw(client, f"GET {encoded} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (answer.status, answer.oauth_error) == (405, "invalid_request")
    post = f"POST {path} HTTP/1.1\r\nContent-Type: {FORM}\r\nContent-Length: 0\r\n"
    assert (await raw(client, f"{post}Host: a/b\r\n\r\n")).oauth_error == "invalid_request"
    answer = await raw(client, f"{post}Host: x\r\nExpect: miracles\r\n\r\n")
    assert (answer.status, answer.oauth_error) == (417, "invalid_request")
    answer = await nobody.call("POST", path, data=b"\x1f\x8b", headers={"Content-Type": FORM, "Content-Encoding": "gzip"})
    assert (answer.status, answer.oauth_error) == (415, "invalid_request")


async def test_addresses_beside_the_oauth_endpoints_answer_problems(client: Client) -> None:
    for path in ("/auth/token/", "/auth/tokens", "/auth", "/auth/revoke/x"):
        assert (await Person(client, "").call("POST", path, data=BODIES[TOKEN])).problem == "not-found"


@pytest.mark.parametrize("path", OAUTH)
async def test_a_database_that_is_out(client: Client, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def out(*_: Any) -> None:
        raise DatabaseUnavailable("gone")

    assert client.app
    monkeypatch.setattr(type(client.app[DATABASE]), "transaction", out)
    monkeypatch.setattr(type(client.app[DATABASE]), "reader", out)
    answer = await Person(client, "").call("POST", path, data=BODIES[path])
    assert (answer.status, answer.oauth_error) == (503, "temporarily_unavailable")
    assert int(answer.headers["Retry-After"]) > 0


async def test_too_many_passwords_at_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(*_: Any) -> bool:
        raise Overloaded

    monkeypatch.setattr(PasswordHasher, "check", check)
    answer = await Person(client, "").call("POST", TOKEN, data=BODIES[TOKEN])
    assert (answer.status, answer.oauth_error) == (503, "temporarily_unavailable")
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("path", OAUTH)
async def test_a_fault_of_the_service(client: Client, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(body: bytes) -> list[tuple[str, str]]:
        raise ZeroDivisionError

    monkeypatch.setattr(tokens, "parse_form", fail)
    answer = await Person(client, "").call("POST", path, data=BODIES[path])
    assert (answer.status, answer.oauth_error) == (500, "server_error")
    assert "Zero" not in answer.body["error_description"]
