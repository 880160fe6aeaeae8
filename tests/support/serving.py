"""An application and a client of it, in the process of the test."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from referral.web.server import Runner


class _Runner(Runner):
    async def setup(self) -> None:
        # Without its last step: to go through all that a run of tests has made, for each of them, takes minutes.
        await web.AppRunner.setup(self)

    async def drain(self) -> None:
        """The test has no client left; to look for one takes a twentieth of a second, for each of some thousands."""


class _Server(TestServer):
    async def _make_runner(self, **options: Any) -> web.AppRunner:
        return _Runner(self.app, **options)


def client_of(app: web.Application) -> TestClient[web.Request, web.Application]:
    """A client of the application on the service's own server; a request whose client hangs up is cancelled."""
    return TestClient(_Server(app))
