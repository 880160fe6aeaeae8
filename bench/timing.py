"""Whether the time of an answer tells that an account exists."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.figures import Figure, Setting
from bench.load import Caller
from bench.servers import API, PASSWORD, service


def timing(folder: Path, setting: Setting) -> Iterator[Figure]:
    """The time of an answer for an account that exists, against one that does not: a stranger must not tell them apart."""
    with service(folder) as running:

        async def measure() -> dict[str, tuple[list[float], list[float]]]:
            caller = Caller(running.port)
            await caller.call("POST", f"{API}/auth/register", {"email": "known@example.com", "password": PASSWORD})

            def login(email: str) -> tuple[str, dict[str, Any], int]:
                return "token", {"grant_type": "password", "username": email, "password": "a wrong password"}, 400

            def reset(email: str) -> tuple[str, dict[str, Any], int]:
                return "password/reset", {"email": email}, 202

            def register(email: str) -> tuple[str, dict[str, Any], int]:
                return "register", {"email": email, "password": PASSWORD}, 409 if email.startswith("known") else 201

            kinds = {"login": (login, 10), "password reset": (reset, 40), "registration": (register, 10)}
            times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in kinds}
            order = random.Random(1)
            for name, (ask, count) in kinds.items():
                for _ in range(setting.rounds * count):
                    for known in order.sample((0, 1), 2):
                        # Mail that a call before caused is written by now.
                        await asyncio.sleep(0.25)
                        email = "known@example.com" if known else f"nobody{time.time_ns()}@example.com"
                        path, body, expected = ask(email)
                        began = time.perf_counter()
                        status, document = await caller.call("POST", f"{API}/auth/{path}", body)
                        times[name][known].append((time.perf_counter() - began) * 1000)
                        assert status == expected, document
            return times

        for name, (unknown, known) in asyncio.run(measure()).items():
            quarters = statistics.quantiles(unknown, n=4)
            notes = {
                "known_ms": statistics.median(known),
                "unknown_ms": statistics.median(unknown),
                "quartiles_apart_ms": quarters[2] - quarters[0],
                "requests": float(len(known) + len(unknown)),
            }
            ratio = statistics.median(known) / statistics.median(unknown)
            yield Figure(f"{name}: known against unknown account", ratio, "of the time", "1", [ratio], notes)
