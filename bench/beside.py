"""The service beside a product: events, users brought by a loop, and who calls, each against what it is to keep up with."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import itertools
import json
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from bench.figures import Figure, Setting
from bench.load import CONNECTIONS, Caller, Load, in_turns, wrk
from bench.servers import API, LOAD_CORE, Service, new_key, service
from bench.traffic import pairs_of_writes

AUDIENCE = "bench"


@contextlib.contextmanager
def issuer() -> Iterator[tuple[str, str]]:
    """A product's identity provider: its address, and a token of its user 7, good for an hour."""
    private = ec.generate_private_key(ec.SECP256R1())
    key = {**jwt.get_algorithm_by_name("ES256").to_jwk(private.public_key(), as_dict=True), "kid": "1", "use": "sig"}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"keys": [key], "issuer": address, "jwks_uri": f"{address}/jwks"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    now = int(time.time())
    claims = {"iss": address, "aud": AUDIENCE, "sub": "7", "iat": now, "exp": now + 3600}
    try:
        yield address, jwt.encode(claims, private, "ES256", headers={"kid": "1"})
    finally:
        server.shutdown()


async def events(running: Service, key: str, seconds: float) -> Load:
    """32 callers report purchases of a hundred users, each with an id of its own."""
    numbers, run = itertools.count(), time.time_ns()

    async def turn(caller: Caller) -> None:
        number = next(numbers)
        body = {
            "id": f"in_{run}_{number}",
            "type": "purchase",
            "user": {"external_id": f"buyer{number % 100}"},
            "value": {"unit": "USD", "amount": 4900},
        }
        status, document = await caller.call("POST", f"{API}/events", body, key)
        assert status == 201, document

    return await in_turns([Caller(running.port) for _ in range(CONNECTIONS)], turn, seconds)


async def thousand_users(running: Service, key: str) -> float:
    """Seconds that one loop of 1,000 PUTs takes, each of a new user."""
    caller, run, began = Caller(running.port), time.time_ns(), time.perf_counter()
    for number in range(1_000):
        body = {"email": f"u{run}.{number}@example.com", "name": f"User {number}", "metadata": {"plan": "free"}}
        status, document = await caller.call("PUT", f"{API}/users/ext:{run}-{number}", body, key)
        assert status == 201, document
    return time.perf_counter() - began


def beside(folder: Path, setting: Setting) -> Iterator[Figure]:
    """What a product calls, on SQLite, durable."""
    with issuer() as (address, token):
        issuers = json.dumps([{"issuer": address, "audience": AUDIENCE}])
        with service(folder, REFERRAL_AUTH_BCRYPT_ROUNDS="4", REFERRAL_IDENTITY_ISSUERS=issuers) as running:
            key = new_key(folder)
            yield _events_figure(running, key, setting)
            times = [asyncio.run(thousand_users(running, key)) for _ in range(setting.rounds)]
            yield Figure("1,000 users by one loop of PUT", statistics.median(times), "s", "under 10 s", times, {})
            yield from _caller_figures(running, key, token, setting)


def _events_figure(running: Service, key: str, setting: Setting) -> Figure:
    rates, shares, pairs = [], [], []
    before = asyncio.run(pairs_of_writes(running, setting.seconds)).rate
    for _ in range(setting.rounds):
        load = asyncio.run(events(running, key, setting.seconds))
        after = asyncio.run(pairs_of_writes(running, setting.seconds)).rate
        shares.append(load.rate / ((before + after) / 2))
        rates.append(load.rate)
        pairs.append(after)
        before = after
    notes = {"events_per_second": statistics.median(rates), "pairs_per_second": statistics.median(pairs)}
    return Figure("POST /events", statistics.median(shares), "of the rate of pairs of writes", "0.5", shares, notes)


def _caller_figures(running: Service, key: str, token: str, setting: Setting) -> Iterator[Figure]:
    """The same endpoint, asked by each sort of caller, as a part of the rate with one of our own tokens."""
    url = f"{running.url}/users/{running.user_id}"
    mine = asyncio.run(_first_call(running, token))
    for name, asked, header in (
        ("a service key", url, f"Authorization: Bearer {key}"),
        ("a product's own token", f"{running.url}/users/{mine}", f"Authorization: Bearer {token}"),
    ):
        ratios, rates = [], []
        before = wrk(url, setting.seconds, running.signed_in, core=LOAD_CORE).rate
        for _ in range(setting.rounds):
            rate = wrk(asked, setting.seconds, header, core=LOAD_CORE).rate
            after = wrk(url, setting.seconds, running.signed_in, core=LOAD_CORE).rate
            ratios.append(rate / ((before + after) / 2))
            rates.append(rate)
            before = after
        notes = {"requests_per_second": statistics.median(rates)}
        yield Figure(
            f"GET /users/{{user}} by {name}", statistics.median(ratios), "of our token's rate", "0.9", ratios, notes
        )


async def _first_call(running: Service, token: str) -> str:
    """The id of the user whom the token names, who is made by this call and gets a code as ours has one."""
    caller = Caller(running.port)
    status, document = await caller.call("GET", f"{API}/users/me", None, token)
    assert status == 200, document
    if document["code"] is None:
        status, _ = await caller.call("POST", f"{API}/codes", {"ttl_days": 365}, token)
        assert status == 201
    return str(document["id"])
