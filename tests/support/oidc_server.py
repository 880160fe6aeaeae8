"""A real identity provider, oidc-provider of npm: its keys are files, and it can be stopped and hung."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from tests.support.clients import CLIENTS, INSTALLED, NODE
from tests.support.identity_provider import SigningKey
from tests.support.people import SECRETS
from tests.support.servers import Server


class OIDCServer(Server):
    """Its tokens are those of its client `user-1`; `keys` is what it has from its next start on, the first of them what it
    signs with."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.keys = [SigningKey("first", "RS256")]

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        for needed in (NODE, INSTALLED / "oidc-provider"):
            if not needed.exists():
                raise RuntimeError(f"{needed} is missing: run `make test`, which installs it")
        file = self.folder / "keys.json"
        file.write_text(json.dumps({"keys": [key.private_jwk for key in self.keys]}))
        return [str(NODE), str(CLIENTS / "oidc-provider.mjs"), str(self.port), str(file)]

    def rotate(self, *keys: SigningKey) -> None:
        """Start again with other keys."""
        self.stop()
        self.keys = list(keys)
        self.start()

    def token(self, audience: str) -> str:
        """An access token for this audience, by its token endpoint."""
        form = {"grant_type": "client_credentials", "resource": audience, "scope": "codes"}
        request = Request(f"{self.issuer}/token", urlencode(form).encode())
        # user-1:secret
        request.add_header("Authorization", "Basic dXNlci0xOnNlY3JldA==")
        with urlopen(request, timeout=20) as response:
            token: str = json.load(response)["access_token"]
        SECRETS.add(token)
        return token
