"""A local identity provider in the test's own loop: its metadata, its keys, which it may rotate, and its tokens. It answers
in every bad way that `vendors.py` has, too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from tests.support.people import SECRETS
from tests.support.vendors import Reply

AUDIENCE = "referral"
LEFT_OUT = object()


@cache
def private_key(kind: str, number: int = 0) -> Any:
    """The key of this kind (`RSA`, `RSA-1024`, `EC`, `EC-384`, `OKP`, `OKP-448`) and number, made once: making one of RSA
    takes longer than most tests."""
    if kind.startswith("RSA"):
        return rsa.generate_private_key(65537, int(kind.partition("-")[2] or 2048))
    if kind.startswith("OKP"):
        return (ed448.Ed448PrivateKey if kind == "OKP-448" else ed25519.Ed25519PrivateKey).generate()
    return ec.generate_private_key(ec.SECP384R1() if kind == "EC-384" else ec.SECP256R1())


KINDS = {"ES256": "EC", "ES384": "EC-384", "EdDSA": "OKP"}


class SigningKey:
    """A key of the provider's: what it publishes of it (`jwk`), and the tokens that it signs."""

    def __init__(self, key_id: str, algorithm: str = "ES256", number: int = 0, kind: str = "", **members: Any) -> None:
        self.id = key_id
        self.algorithm = algorithm
        self.private = private_key(kind or KINDS.get(algorithm, "RSA"), number)
        jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(self.private.public_key(), as_dict=True)
        self.jwk: dict[str, Any] = {"kty": jwk.pop("kty"), "kid": key_id, "use": "sig", "alg": algorithm, **jwk, **members}
        # PyJWT adds them to keys of RSA.
        if "key_ops" not in members:
            self.jwk.pop("key_ops", None)

    @property
    def private_jwk(self) -> dict[str, Any]:
        members = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private, as_dict=True)
        return {**{name: value for name, value in members.items() if name != "key_ops"}, **self.jwk}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """A token of these claims, with these members of the header; None leaves `typ` out, and only that."""
        token = jwt.encode(claims, self.private, self.algorithm, headers={"kid": self.id, **header})
        SECRETS.add(token)
        return token


class IdentityProvider:
    """`keys` is what it publishes, the last of them what it signs with; `path` is that of its issuer. `jwks` and `metadata`
    are answers in place of the right ones; it answers once `answering` is set. `fetches` counts the requests for keys."""

    def __init__(self) -> None:
        self.url = ""
        self.path = ""
        self.keys: list[SigningKey] = [SigningKey("first")]
        self.jwks: Reply | None = None
        self.metadata: Reply | None = None
        self.answering = asyncio.Event()
        self.answering.set()
        self.seen: list[str] = []

    @property
    def issuer(self) -> str:
        return f"{self.url}{self.path}"

    @property
    def fetches(self) -> int:
        return self.seen.count("/keys")

    def claims(self, **claims: Any) -> dict[str, Any]:
        """The claims of a good token, with these in place of its own; LEFT_OUT leaves one out."""
        now = int(time.time())
        whole = {"iss": self.issuer, "aud": AUDIENCE, "sub": "user-1", "iat": now, "exp": now + 300, **claims}
        return {name: value for name, value in whole.items() if value is not LEFT_OUT}

    def token(self, **claims: Any) -> str:
        return self.keys[-1].sign(self.claims(**claims))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request.path)
        await self.answering.wait()
        reply = self.jwks if request.path == "/keys" else self.metadata
        if reply:
            return await reply(request)
        if request.path == "/keys":
            return web.json_response({"keys": [key.jwk for key in self.keys]})
        assert request.path == f"{self.path.rstrip('/')}/.well-known/openid-configuration"
        return web.json_response({"issuer": self.issuer, "jwks_uri": f"{self.url}/keys"})


@asynccontextmanager
async def running_provider() -> AsyncIterator[IdentityProvider]:
    provider = IdentityProvider()
    app = web.Application()
    app.router.add_get("/{path:.*}", provider.answer)
    async with TestServer(app) as server:
        provider.url = str(server.make_url("")).rstrip("/")
        yield provider
        provider.answering.set()
