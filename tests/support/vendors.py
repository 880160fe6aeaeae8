"""A local vendor that answers in Hunter's and Clearbit's documented ways, and in every bad way there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    path: str
    raw_query: str
    query: dict[str, str]
    headers: dict[str, str]


class Vendor:
    """`replies_with(a, b)`: the next requests are answered with these, all further ones with the last."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.url = ""
        self.released = asyncio.Event()
        self._replies: list[Reply] = []

    def replies_with(self, *replies: Reply) -> None:
        self._replies = list(replies)

    @property
    def emails(self) -> list[str]:
        """The addresses that were asked about, one a request."""
        return [seen.query["email"] for seen in self.seen]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.path, request.rel_url.raw_query_string, dict(request.query), headers))
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        return await reply(request)

    def held(self, reply: Reply) -> Reply:
        """This answer, once `released` is set."""

        async def answer(request: web.Request) -> web.StreamResponse:
            await self.released.wait()
            return await reply(request)

        return answer


@asynccontextmanager
async def running_vendor() -> AsyncIterator[Vendor]:
    vendor = Vendor()
    app = web.Application()
    app.router.add_get("/{path:.*}", vendor.answer)
    async with TestServer(app) as server:
        vendor.url = str(server.make_url("")).rstrip("/")
        yield vendor
        vendor.released.set()


# --- answers, documented ---


def status(code: int, document: Any = None) -> Reply:
    """This status, with the document as JSON or else with the vendors' way of saying what went wrong."""
    body = document if document is not None else {"errors": [{"id": "error", "code": code, "details": "It did not work."}]}
    return raw(orjson.dumps(body), code)


def verdict(word: str) -> Reply:
    """Hunter's Email Verifier, done."""
    return status(
        200,
        {
            "data": {
                "status": word,
                "result": "risky",
                "score": 50,
                "email": "alice@example.com",
                "regexp": True,
                "gibberish": False,
                "disposable": word == "disposable",
                "webmail": word == "webmail",
                "mx_records": True,
                "smtp_server": True,
                "smtp_check": word == "valid",
                "accept_all": word == "accept_all",
                "block": False,
                "sources": [],
            },
            "meta": {"params": {"email": "alice@example.com"}},
        },
    )


PERSON: dict[str, Any] = {
    "id": "d54c54ad-40be-4305-8a34-0ab44710b90d",
    "name": {"fullName": "Alice Archer", "givenName": "Alice", "familyName": "Archer"},
    "email": "alice@example.com",
    "location": "San Francisco, CA, US",
    "timeZone": "America/Los_Angeles",
    "utcOffset": -8,
    "geo": {"city": "San Francisco", "country": "United States", "countryCode": "US", "lat": 37.77, "lng": -122.42},
    "bio": "O'Reilly author & programmer",
    "site": "http://alice.example.com",
    "avatar": "https://pictures.example.com/v1/avatars/alice",
    "employment": {
        "domain": "example.com",
        "name": "Example",
        "title": "CEO",
        "role": "leadership",
        "seniority": "executive",
    },
    "facebook": {"handle": "alice.archer"},
    "github": {"handle": "aarcher", "id": 2179, "followers": 2932, "avatar": None},
    "twitter": {"handle": "alice_archer", "id": "2006261", "followers": 15248},
    "linkedin": {"handle": "in/alicearcher"},
    "fuzzy": False,
    "emailProvider": False,
}

COMPANY: dict[str, Any] = {
    "id": "c5a6a9c5-303a-455a-935c-9dffcd2ed756",
    "name": "Example Ltd",
    "domain": "example.net",
    "tags": ["Software"],
    "metrics": {"employees": 10, "raised": None},
}


def raw(body: bytes, code: int = 200, headers: dict[str, str] | None = None) -> Reply:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.Response(body=body, content_type="application/json", headers=headers)
        response.set_status(code, "Whatever")
        return response

    return answer


# --- answers, bad ---


def redirect(location: str) -> Reply:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": location})

    return answer


def padded(document: Any, size: int) -> Reply:
    """A right answer, made `size` bytes long by spaces; without a Content-Length."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        body = orjson.dumps(document)
        await response.write(body + b" " * (size - len(body)))
        return response

    return answer


async def hangs(request: web.Request) -> web.StreamResponse:
    """No answer for as long as the client waits."""
    while request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(0.02)
    return web.Response()


async def drips(request: web.Request) -> web.StreamResponse:
    """An answer that comes byte by byte and never ends."""
    response = web.StreamResponse()
    await response.prepare(request)
    while request.transport is not None and not request.transport.is_closing():
        await response.write(b" ")
        await asyncio.sleep(0.02)
    return response


async def hangs_up(request: web.Request) -> web.StreamResponse:
    """The connection is closed instead of an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hangs_up_half_way(request: web.Request) -> web.StreamResponse:
    """The connection is closed in the middle of the body."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"data": {"status": "valid"')
    assert request.transport is not None
    request.transport.abort()
    return response
