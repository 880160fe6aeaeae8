"""The yardstick: an aiohttp handler under uvloop that answers with a small `web.json_response`, and nothing else."""

import sys

import uvloop
from aiohttp import web

DOCUMENT = {
    "code": "8ZK4M2QA",
    "expires_at": "2027-01-31T12:00:00Z",
    "referrer": {"id": "01a1fc33-b15e-7485-b662-a53a843b9176", "username": "alice"},
}


async def answer(request: web.Request) -> web.Response:
    return web.json_response(DOCUMENT)


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/", answer)
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        reuse_port=True,
        loop=uvloop.new_event_loop(),
        access_log=None,
        print=lambda *_: print("ready", flush=True),
    )
