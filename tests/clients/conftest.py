"""The service as its clients meet it: a process with an asymmetric key, so that others can verify its tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.support.people import API, PASSWORD, SECRETS
from tests.support.service import serving

# A name may be tried so often in a quarter of an hour; nothing else is limited where one address makes all requests.
GUESSES = 3
SETTINGS = {
    "REFERRAL_LIMITS_LOGIN_BY_ACCOUNT": f"{GUESSES}/15 minutes",
    "REFERRAL_LIMITS_LOGIN_BY_ADDRESS": "1000/minute",
    "REFERRAL_LIMITS_REGISTRATION_BY_ADDRESS": "1000/minute",
    "REFERRAL_LIMITS_REQUEST_BY_ADDRESS": "10000/minute",
}


@dataclass(frozen=True)
class Service:
    """A running service: where it is, and the folder that has its `var/`."""

    address: str
    folder: Path

    def register(self, name: str) -> dict[str, Any]:
        """The answer to the registration of somebody new."""
        body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
        headers = {"Content-Type": "application/json"}
        found: dict[str, Any] = self._ask(Request(f"{self.address}{API}/auth/register", json.dumps(body).encode(), headers))
        SECRETS.update((found["access_token"], found["refresh_token"]))
        return found

    def get(self, path: str) -> Any:
        """A document."""
        return self._ask(Request(f"{self.address}{path}"))

    def _ask(self, request: Request) -> Any:
        with urlopen(request, timeout=20) as response:
            return json.load(response)


ServiceOf = Callable[[str], Service]


@pytest.fixture(scope="session")
def service_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceOf]:
    """`service_of("EdDSA")`: the service whose tokens have this algorithm, started when it is first asked for."""
    running: dict[str, Service] = {}
    with ExitStack() as stack:

        def start(algorithm: str) -> Service:
            if algorithm not in running:
                folder = tmp_path_factory.mktemp(algorithm)
                address = stack.enter_context(serving(folder, REFERRAL_AUTH_ALGORITHM=algorithm, **SETTINGS))
                running[algorithm] = Service(address, folder)
            return running[algorithm]

        yield start


@pytest.fixture(params=["EdDSA", "RS256"])
def service(request: pytest.FixtureRequest, service_of: ServiceOf) -> Service:
    return service_of(request.param)
