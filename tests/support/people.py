"""Somebody who uses the service: signs in, calls it, and reads their mail."""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient
from multidict import CIMultiDict

from referral.auth.service_keys import new_key
from referral.auth.tokens import hash_token
from referral.clock import now
from referral.database import DATABASE
from referral.ids import new_id
from referral.queries import service_keys
from referral.queries.service_keys import Scope

API = "/api/v1"
PASSWORD = "correct horse battery staple"
# An id that nobody has.
UNKNOWN = "01a1fc33-b15e-7485-b662-a53a843b9176"

# What the running test must not find in any log: its passwords and the tokens that it was given (`conftest.py`).
SECRETS: set[str] = set()


@dataclass
class Answer:
    """A finished response: `status`, `headers` and, for JSON, `body`."""

    status: int
    headers: Any
    body: Any

    @classmethod
    async def of(cls, response: ClientResponse) -> Answer:
        raw = await response.read()
        is_json = response.content_type.endswith("json")
        return cls(response.status, response.headers, await response.json(content_type=None) if is_json else raw)

    @property
    def problem(self) -> str:
        """The name of the problem, having checked that it is a whole one."""
        assert self.headers["Content-Type"] == "application/problem+json", (self.status, self.body)
        assert self.body.keys() >= {"type", "title", "status", "detail", "instance", "request_id"}
        assert self.body["status"] == self.status
        assert self.body["request_id"] == self.headers["X-Request-ID"]
        return str(self.body["type"]).removeprefix("/problems/")

    @property
    def oauth_error(self) -> str:
        """The `error` of RFC 6749, having checked that the answer is a whole and clean one."""
        assert self.headers["Content-Type"].partition(";")[0] == "application/json", (self.status, self.body)
        assert self.body.keys() == {"error", "error_description"}, self.body
        assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", self.body["error_description"]), self.body
        assert "?" not in self.body["error_description"], self.body
        assert self.headers["Cache-Control"] == "no-store"
        return str(self.body["error"])

    @property
    def pointers(self) -> list[str]:
        """Where the members are that a validation error is about."""
        assert self.problem == "validation-error", self.body
        return [error["pointer"] for error in self.body["errors"]]


@dataclass
class Person:
    client: TestClient[web.Request, web.Application]
    email: str
    id: str = ""
    password: str = PASSWORD
    tokens: dict[str, Any] = field(default_factory=dict)

    @classmethod
    async def register(cls, client: TestClient[web.Request, web.Application], name: str, **registration: Any) -> Person:
        body = {"email": f"{name}@example.com", "password": PASSWORD, "username": name, **registration}
        person = cls(client, body["email"], password=body["password"])
        answer = await person.post("/auth/register", body)
        assert answer.status == 201, answer.body
        person.id = answer.body["user"]["id"]
        person.tokens = {key: value for key, value in answer.body.items() if key not in ("user", "attribution")}
        return person

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """Call the API, signed in if the person is; `path` is below /api/v1 unless it is a path of the service itself."""
        headers = CIMultiDict(options.pop("headers", {}))
        if self.tokens and "Authorization" not in headers:
            headers["Authorization"] = f"Bearer {self.tokens['access_token']}"
        url = path if path.startswith(("/api/", "/health", "/docs", "/account", "/.well")) else f"{API}{path}"
        if body is not None:
            options["json"] = body
        async with self.client.request(method, url, headers=headers, allow_redirects=False, **options) as response:
            answer = await Answer.of(response)
        if isinstance(answer.body, dict):
            SECRETS.update(answer.body[name] for name in ("access_token", "refresh_token") if name in answer.body)
        return answer

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        return await self.call("POST", path, body, **options)

    async def put(self, path: str, body: Any = None, **options: Any) -> Answer:
        return await self.call("PUT", path, body, **options)

    async def patch(self, path: str, body: Any = None, **options: Any) -> Answer:
        return await self.call("PATCH", path, body, **options)

    async def delete(self, path: str, body: Any = None, **options: Any) -> Answer:
        return await self.call("DELETE", path, body, **options)

    async def make_code(self, **members: Any) -> str:
        """Make a code, good for 30 days unless said otherwise, and return its text."""
        if "expires_at" not in members:
            members.setdefault("ttl_days", 30)
        answer = await self.post("/codes", members)
        assert answer.status == 201, answer.body
        return str(answer.body["code"])

    async def me(self) -> dict[str, Any]:
        answer = await self.get("/users/me")
        assert answer.status == 200, answer.body
        return dict(answer.body)

    async def sign_in(self, password: str | None = None, name: str | None = None) -> Answer:
        """Ask the token endpoint; the person's tokens become the new ones when it grants them."""
        form = {"grant_type": "password", "username": name or self.email, "password": password or self.password}
        answer = await self.call("POST", "/auth/token", data=form, headers={"Authorization": ""})
        if answer.status == 200:
            self.tokens = answer.body
        return answer

    async def refresh(self, refresh_token: str | None = None) -> Answer:
        """Present a refresh token, the person's own unless said otherwise; the person's tokens stay as they are."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token or self.tokens["refresh_token"]}
        return await self.call("POST", "/auth/token", data=form, headers={"Authorization": ""})


@dataclass
class Product(Person):
    """A product's back end, which calls by a service key."""

    @classmethod
    async def with_key(cls, client: TestClient[web.Request, web.Application], scope: Scope = "write") -> Product:
        """A product whose key of this scope is made as `run.py keys create` makes it."""
        text = new_key()
        SECRETS.add(text)
        async with client.app[DATABASE].transaction() as conn:
            await service_keys.insert_service_key(conn, new_id(), f"a {scope} key", scope, hash_token(text), now())
        return cls(client, "", tokens={"access_token": text})

    async def user(self, external_id: str, **members: Any) -> dict[str, Any]:
        """Make or change a user, and return it."""
        answer = await self.put(f"/users/ext:{quote(external_id, safe='')}", members)
        assert answer.status in (200, 201), answer.body
        return dict(answer.body)

    async def report(self, event_id: str, kind: str = "purchase", external_id: str = "42", **members: Any) -> Answer:
        """Report an event of the user of this external id, unless `user` says otherwise."""
        return await self.post("/events", {"id": event_id, "type": kind, "user": {"external_id": external_id}, **members})


def read_mails(folder: Path, recipient: str | None = None) -> list[EmailMessage]:
    """The mails in a folder of .eml files, oldest first; only those to `recipient`, if given."""
    files = sorted(folder.glob("[!.]*.eml")) if folder.exists() else []
    mails = [email.message_from_bytes(file.read_bytes(), policy=email.policy.default) for file in files]
    return [mail for mail in mails if recipient is None or mail["To"] == recipient]


def text_of(mail: EmailMessage) -> str:
    """The text part of a mail."""
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def token_in(mail: EmailMessage) -> str:
    """The one-time token of a mail's link."""
    token = text_of(mail).partition("?token=")[2].split()[0]
    SECRETS.add(token)
    return token


def refused(answer: Answer) -> str:
    """The error of RFC 6749 section 5.2."""
    assert answer.status == 400, answer.body
    return answer.oauth_error


async def works(person: Person, tokens: dict[str, Any] | None = None) -> bool:
    """Whether an access token is accepted; when not, that it is refused as RFC 6750 says."""
    headers = {"Authorization": f"Bearer {(tokens or person.tokens)['access_token']}"}
    answer = await person.get("/users/me", headers=headers)
    if answer.status == 200:
        return True
    assert answer.problem == "unauthorized"
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    return False
