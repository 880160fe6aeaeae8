"""What OAuth clients send beside what is needed, and how people write their names: RFC 6749 sections 2.3, 3.2 and 5.1."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from tests.conftest import Client, MakeClient
from tests.support.people import PASSWORD, Answer, Person

FORM = "application/x-www-form-urlencoded"
BY_PASSWORD = {"grant_type": "password", "username": "alice", "password": PASSWORD}


@pytest.fixture
def engine() -> str:
    """What a request may hold does not depend on the database."""
    return "sqlite"


@pytest.fixture
async def alice(client: Client) -> Person:
    return await Person.register(client, "alice")


async def post(client: Client, path: str, pairs: Any, kind: str = FORM, **headers: str) -> Answer:
    """Post pairs as a form, a repeated name included."""
    return await Person(client, "").call("POST", path, data=urlencode(pairs), headers={"Content-Type": kind, **headers})


# What clients add to a request, or write otherwise, without meaning anything by it here.
HABITS: dict[str, list[tuple[str, str]]] = {
    "a client id": [("client_id", "mobile-app")],
    "a client id and a secret": [("client_id", "mobile-app"), ("client_secret", "x")],
    "an empty client id and secret": [("client_id", ""), ("client_secret", "")],
    "a scope": [("scope", "openid profile offline_access")],
    "what nobody knows, twice": [("x-extra", "1"), ("x-extra", "2")],
    "a resource and an audience": [("resource", "https://example.com"), ("audience", "referral")],
    "members of the other grant, empty": [("refresh_token", ""), ("token", "")],
    "a name without a value": [("", "")],
}


@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.usefixtures("alice")
async def test_what_a_client_adds_is_ignored(client: Client, habit: str) -> None:
    signed_in = await post(client, "/auth/token", [*BY_PASSWORD.items(), *HABITS[habit]])
    assert signed_in.status == 200, signed_in.body
    by_refresh = [("grant_type", "refresh_token"), ("refresh_token", signed_in.body["refresh_token"])]
    extra = [pair for pair in HABITS[habit] if pair[0] != "refresh_token"]
    refreshed = await post(client, "/auth/token", [*by_refresh, *extra])
    assert refreshed.status == 200, refreshed.body
    extra = [pair for pair in HABITS[habit] if pair[0] != "token"]
    revoked = await post(client, "/auth/revoke", [("token", refreshed.body["refresh_token"]), *extra])
    assert (revoked.status, revoked.body) == (200, b"")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Basic bW9iaWxlLWFwcDo="},
        {"Authorization": "Basic bW9iaWxlLWFwcDpzZWNyZXQ="},
        # Of a session that has ended: a client signs in because of it.
        {"Authorization": "Bearer gone"},
        {"Accept": "text/html"},
        {"kind": f"{FORM}; charset=UTF-8"},
        {"kind": f'{FORM};charset="utf-8"'},
        {"kind": FORM.upper()},
    ],
)
@pytest.mark.usefixtures("alice")
async def test_headers_that_clients_send_are_ignored(client: Client, headers: dict[str, str]) -> None:
    """Clients have no secrets here (`token_endpoint_auth_methods_supported` is none): HTTP Basic is not looked at."""
    signed_in = await post(client, "/auth/token", BY_PASSWORD, **headers)
    assert signed_in.status == 200, signed_in.body
    assert (await post(client, "/auth/revoke", {"token": signed_in.body["access_token"]}, **headers)).status == 200


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "id_token", "", "nonsense"])
async def test_a_hint_is_only_a_hint(client: Client, alice: Person, hint: str) -> None:
    for which in ("access_token", "refresh_token"):
        assert (await alice.sign_in()).status == 200
        answer = await post(client, "/auth/revoke", {"token": alice.tokens[which], "token_type_hint": hint})
        assert answer.status == 200
        assert (await alice.get("/users/me")).status == 401, (which, hint)


async def test_known_members_are_not_given_twice(client: Client, alice: Person) -> None:
    for name, value in BY_PASSWORD.items():
        answer = await post(client, "/auth/token", [*BY_PASSWORD.items(), (name, value)])
        assert (answer.status, answer.oauth_error) == (400, "invalid_request"), name
    for name in ("token", "token_type_hint"):
        given = [("token", alice.tokens["refresh_token"]), ("token_type_hint", "refresh_token"), (name, "x")]
        answer = await post(client, "/auth/revoke", given)
        assert (answer.status, answer.oauth_error) == (400, "invalid_request"), name
    assert (await alice.get("/users/me")).status == 200


async def test_bearer_is_written_in_any_case(alice: Person) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {alice.tokens['access_token']}"}
        assert (await alice.get("/users/me", headers=headers)).status == 200


SPACE = [" ", "\t", "\n", "\r\n", " \u00a0", "\u2003", "\u3000"]


@pytest.mark.parametrize("kind", ["form", "json"])
@pytest.mark.parametrize("space", SPACE, ids=ascii)
async def test_white_space_around_a_name_is_dropped(client: Client, alice: Person, space: str, kind: str) -> None:
    for name in ("alice", alice.email, "ALICE"):
        for written in (f"{name}{space}", f"{space}{name}", f"{space}{name}{space}"):
            body = {**BY_PASSWORD, "username": written}
            given: dict[str, Any] = {"data": body} if kind == "form" else {"json": body}
            answer = await Person(client, "").call("POST", "/auth/token", **given)
            assert answer.status == 200, (written, answer.body)


async def test_no_other_white_space_is_dropped(client: Client, alice: Person) -> None:
    spaced = await Person.register(client, "spaced", password=f" {PASSWORD} ")
    for name, password in (
        ("ali ce", PASSWORD),
        (alice.email.replace("@", " @"), PASSWORD),
        ("alice", f"{PASSWORD} "),
        ("alice", f" {PASSWORD}"),
        ("spaced", PASSWORD),
    ):
        answer = await post(client, "/auth/token", {**BY_PASSWORD, "username": name, "password": password})
        assert (answer.status, answer.oauth_error) == (400, "invalid_grant"), (name, password)
    assert (await spaced.sign_in()).status == 200
    # A name of nothing but white space is none.
    answer = await post(client, "/auth/token", {**BY_PASSWORD, "username": " \t "})
    assert (answer.status, answer.oauth_error) == (400, "invalid_request")
    padded = {"grant_type": "refresh_token", "refresh_token": f"{alice.tokens['refresh_token']} "}
    assert (await post(client, "/auth/token", padded)).oauth_error == "invalid_grant"


async def test_white_space_does_not_make_another_count_of_guesses(make_client: MakeClient) -> None:
    client = await make_client(limits_enabled="true", limits_login_by_account="2/minute")
    statuses = [
        (await post(client, "/auth/token", {**BY_PASSWORD, "username": f"alice{space}"})).status for space in ("", " ", "\t")
    ]
    assert statuses == [400, 400, 429]
