"""Load on a server of this machine: wrk for single requests, a bare-bones client of our own for sequences of them."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Load:
    """Answers a second, the 99th percentile of their times in milliseconds, and the core share that making them took."""

    rate: float
    p99: float
    load_share: float = 0.0


def wrk(url: str, seconds: int, *headers: str, core: str | None = None, connections: int = CONNECTIONS) -> Load:
    """Ask `url` on 32 keep-alive connections for some seconds. Raises RuntimeError when an answer is no 2xx."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is missing: make bench installs it, or install Debian's wrk")
    options = [part for header in headers for part in ("-H", header)]
    pinned = ["taskset", "-c", core] if core else []
    command = [*pinned, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *options, url]
    started = time.perf_counter()
    before = _children_seconds()
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    share = (_children_seconds() - before) / (time.perf_counter() - started)
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(text)
    rate, p99 = re.search(r"Requests/sec:\s+([\d.]+)", text), re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    assert rate is not None
    assert p99 is not None
    return Load(float(rate[1]), float(p99[1]) * {"us": 0.001, "ms": 1, "s": 1000}[p99[2]], share)


def _children_seconds() -> float:
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Caller:
    """One keep-alive connection, HTTP/1.1 as this service speaks it: every answer has a Content-Length or no body."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """The status and the JSON document of an answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        payload = b"" if body is None else orjson.dumps(body)
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(payload)}\r\n"
        if body is not None:
            head += "Content-Type: application/json\r\n"
        if token:
            head += f"Authorization: Bearer {token}\r\n"
        writer.write(head.encode() + b"\r\n" + payload)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", answer)
        content = await reader.readexactly(int(length[1])) if length else b""
        status = int(answer[9:12])
        return status, orjson.loads(content) if content and b"json" in answer else None


async def in_turns(callers: list[Any], turn: Callable[[Any], Awaitable[None]], seconds: float) -> Load:
    """Each caller takes one turn after another for some seconds, all at once."""
    end = time.perf_counter() + seconds
    times: list[float] = []

    async def keep_on(caller: Any) -> None:
        while (started := time.perf_counter()) < end:
            await turn(caller)
            times.append(time.perf_counter() - started)

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(keep_on, callers))
    took = time.perf_counter() - began
    times.sort()
    return Load(len(times) / took, times[int(len(times) * 0.99)] * 1000, (time.process_time() - cpu) / took)
