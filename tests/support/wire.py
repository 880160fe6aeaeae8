"""Requests as bytes, which no client would make."""

from __future__ import annotations

import asyncio

import orjson
from aiohttp import web
from aiohttp.test_utils import TestClient

from tests.support.people import Answer


async def raw(client: TestClient[web.Request, web.Application], request: str | bytes, *, closes: bool = False) -> Answer:
    """Send bytes as they are and read the first answer; `closes` says that it must be the connection's last."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    try:
        writer.write(request if isinstance(request, bytes) else request.encode())
        async with asyncio.timeout(10):
            status = int((await reader.readline()).split()[1])
            headers = {}
            while (line := (await reader.readline()).decode().strip()) != "":
                name, _, value = line.partition(": ")
                headers[name] = value
            body = await reader.readexactly(int(headers["Content-Length"]))
            if closes:
                assert headers["Connection"] == "close"
                assert await reader.read() == b""
        return Answer(status, headers, orjson.loads(body) if "json" in headers.get("Content-Type", "") else body)
    finally:
        writer.close()
