"""OAuth clients as they come, Authlib and oauth4webapi: they sign in, are refused and told to come back, and verify
tokens."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc6750.errors import InvalidTokenError
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from authlib.oauth2.rfc9068.claims import JWTAccessTokenClaims
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from requests import HTTPError

from referral.auth.tokens import AUDIENCE
from referral.handlers.discovery import metadata
from tests.clients.conftest import GUESSES, Service
from tests.conftest import MakeConfig
from tests.support.clients import CLIENTS, run_node
from tests.support.people import API, PASSWORD, SECRETS
from tests.support.servers import free_port
from tests.support.service import is_ready, run_py, started

TOKENS = {"access_token", "token_type", "expires_in", "refresh_token"}
METADATA = "/.well-known/oauth-authorization-server"


# Two services that all of these tests use.
pytestmark = pytest.mark.xdist_group("oauth-clients")


@pytest.fixture
def engine() -> str:
    """The services are those of a folder."""
    return "sqlite"


def keep_secret(tokens: dict[str, Any]) -> dict[str, Any]:
    """The tokens, which no log of this test may have."""
    SECRETS.update((tokens["access_token"], tokens["refresh_token"]))
    return tokens


@contextmanager
def writing_held_up(service: Service) -> Iterator[None]:
    """Another process keeps the database from being written, for longer than the service waits."""
    with closing(sqlite3.connect(service.folder / "var" / "referral.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


# oauth4webapi


def oauth4webapi(command: str, service: Service, name: str, folder: Path, *more: str) -> Any:
    done = run_node(CLIENTS / "oauth4webapi.mjs", command, service.address, name, PASSWORD, *more, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_oauth4webapi_signs_in_refreshes_revokes_and_verifies(service: Service, tmp_path: Path) -> None:
    alice = service.register("alice-of-oauth4webapi")["user"]
    tour = oauth4webapi("tour", service, alice["username"], tmp_path)
    first, second = keep_secret(tour["first"]), keep_secret(tour["second"])
    assert tour["server"] == service.get(METADATA)
    assert first.keys() == second.keys() == TOKENS
    assert first["refresh_token"] != second["refresh_token"]
    claims = tour["claims"]
    assert (claims["iss"], claims["aud"], claims["sub"]) == (service.address, AUDIENCE, alice["id"])
    assert tour["me"]["id"] == alice["id"]
    assert 'unexpected JWT "aud"' in tour["forOthers"]["message"]
    assert "Invalid JWT" in tour["noJwt"]["message"]
    for refused in (tour["wrong"], tour["revoked"]):
        assert (refused["name"], refused["status"], refused["error"]) == ("ResponseBodyError", 400, "invalid_grant")
        assert refused["description"].endswith(".")
    assert (tour["ended"]["name"], tour["ended"]["status"]) == ("WWWAuthenticateChallengeError", 401)


def test_oauth4webapi_is_told_to_come_back(service: Service, tmp_path: Path) -> None:
    found = oauth4webapi("attempt", service, "nobody-of-oauth4webapi", tmp_path, str(GUESSES + 1))["signIn"]
    assert (found["name"], found["status"], found["error"]) == ("ResponseBodyError", 429, "temporarily_unavailable")
    assert int(found["retryAfter"]) > 0
    assert found["description"].startswith("Too many requests")


# Authlib


@contextmanager
def authlib(service: Service) -> Iterator[OAuth2Session]:
    with OAuth2Session(client_id="tests", token_endpoint_auth_method="none") as session:
        # As a product configures its client: by the addresses of the discovery document.
        session.metadata.update(service.get(METADATA))
        yield session


def sign_in(session: OAuth2Session, name: str, password: str = PASSWORD) -> dict[str, Any]:
    return keep_secret(session.fetch_token(session.metadata["token_endpoint"], username=name, password=password))


class Verifier(JWTBearerTokenValidator):  # type: ignore[misc]
    """The resource server next door, which has the public keys."""

    def __init__(self, service: Service, audience: str = AUDIENCE) -> None:
        super().__init__(issuer=service.address, resource_server=audience)
        self._keys = KeySet.import_key_set(service.get("/.well-known/jwks.json"))

    def get_jwks(self) -> KeySet:
        return self._keys

    def claims_of(self, token: str) -> dict[str, Any]:
        claims = self.authenticate_token(token)
        self.validate_token(claims, None, None)
        return dict(claims)


class EdDSAVerifier(Verifier):
    """The same for EdDSA, which joserfc, on which Authlib builds, takes only from whoever names it. Authlib does not."""

    def authenticate_token(self, token_string: str) -> JWTAccessTokenClaims:
        try:
            token = jwt.decode(token_string, self.get_jwks(), algorithms=["EdDSA"])
        except JoseError as error:
            raise InvalidTokenError from error
        required = {name: {"essential": True} for name in ("exp", "iat", "sub", "client_id", "jti")}
        ours = {"iss": {"essential": True, "value": self.issuer}, "aud": {"essential": True, "value": self.resource_server}}
        return JWTAccessTokenClaims(token.claims, token.header, {**required, **ours})


def test_authlib_signs_in_refreshes_and_revokes(service: Service) -> None:
    alice = service.register("alice-of-authlib")["user"]
    with authlib(service) as session:
        first = dict(sign_in(session, alice["email"]))
        assert first.keys() >= TOKENS
        assert session.get(f"{service.address}{API}/users/me").json()["id"] == alice["id"]
        second = keep_secret(session.refresh_token(session.metadata["token_endpoint"]))
        assert second["refresh_token"] != first["refresh_token"]
        assert session.get(f"{service.address}{API}/users/me").json()["id"] == alice["id"]
        for hint in ("refresh_token", "access_token"):
            token = second[hint]
            revoked = session.revoke_token(session.metadata["revocation_endpoint"], token=token, token_type_hint=hint)
            assert (revoked.status_code, revoked.content) == (200, b"")
        assert session.get(f"{service.address}{API}/users/me").status_code == 401
        with pytest.raises(OAuthError) as caught:
            session.refresh_token(session.metadata["token_endpoint"])
        assert caught.value.error == "invalid_grant"


def test_authlib_is_refused_and_told_to_come_back(service: Service) -> None:
    with authlib(service) as session:
        for _ in range(GUESSES):
            with pytest.raises(OAuthError) as caught:
                sign_in(session, "nobody-of-authlib")
            assert caught.value.error == "invalid_grant"
            assert caught.value.description == "The username or the password is wrong."
        with pytest.raises(OAuthError) as caught:
            sign_in(session, "nobody-of-authlib")
        assert caught.value.error == "temporarily_unavailable"
        assert caught.value.description.startswith("Too many requests")
        assert not session.token


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")
def test_authlib_verifies_an_access_token(service: Service) -> None:
    alice = service.register("verified-by-authlib")
    [key] = service.get("/.well-known/jwks.json")["keys"]
    verifier_of = EdDSAVerifier if key["alg"] == "EdDSA" else Verifier
    claims = verifier_of(service).claims_of(alice["access_token"])
    assert (claims["iss"], claims["aud"], claims["sub"]) == (service.address, AUDIENCE, alice["user"]["id"])
    for verifier, token in (
        (verifier_of(service, "somebody else"), alice["access_token"]),
        (verifier_of(service), alice["access_token"][:-8] + "AAAAAAAA"),
        (verifier_of(service), alice["refresh_token"]),
    ):
        with pytest.raises(InvalidTokenError):
            verifier.claims_of(token)


@pytest.mark.parametrize("public_url", ["https://referrals.example.com", "https://example.com/referrals"])
def test_authlib_finds_the_metadata_whole(make_config: MakeConfig, public_url: str) -> None:
    found = AuthorizationServerMetadata(metadata(make_config(server_public_url=public_url)))
    found.validate()
    exchange = "urn:ietf:params:oauth:grant-type:token-exchange"
    assert set(found.grant_types_supported) == {"password", "refresh_token", exchange}


# Both


# `run.py` that waits for a database which others hold up for a second; as shipped, each of two requests takes five.
HASTY = (
    "import sys; sys.argv[0] = {run!r}; sys.path.insert(0, {root!r})\n"
    "import referral.database.sqlite as sqlite\n"
    "sqlite.BUSY_TIMEOUT_MS = 1_000\n"
    "import run; sys.exit(run.main())"
)


@pytest.fixture
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder, port = tmp_path_factory.mktemp("hasty"), free_port()
    address = f"http://127.0.0.1:{port}"
    settings = {
        "REFERRAL_SERVER_PORT": str(port),
        "REFERRAL_SERVER_PUBLIC_URL": address,
        "REFERRAL_AUTH_BCRYPT_ROUNDS": "4",
    }
    command = [sys.executable, "-c", HASTY.format(run=run_py(folder)[1], root=str(folder))]
    with started(folder, lambda: is_ready(address), settings, command):
        yield Service(address, folder)


def test_a_service_that_cannot_answer_is_an_error_and_no_token(hasty: Service, tmp_path: Path) -> None:
    service = hasty
    name = service.register("alice-without-a-database")["user"]["username"]
    found: dict[str, Any] = {}
    with writing_held_up(service):
        other = threading.Thread(target=lambda: found.update(oauth4webapi("attempt", service, name, tmp_path, "1")))
        other.start()
        with authlib(service) as session:
            with pytest.raises(HTTPError) as caught:
                sign_in(session, name)
            refused = caught.value.response
            assert refused is not None
            assert (refused.status_code, refused.json()["error"]) == (503, "temporarily_unavailable")
            assert int(refused.headers["Retry-After"]) > 0
            assert not session.token
        other.join()
    for attempt in (found["signIn"], found["revoke"]):
        # It keeps the answer, of which it looks at the status alone.
        assert (attempt["name"], attempt["status"]) == ("OperationProcessingError", 503)
        assert int(attempt["retryAfter"]) > 0
