"""What people do: many at once make pairs of writes, log in and register; one looks codes up."""

from __future__ import annotations

import asyncio
import itertools
import time

from bench.load import CONNECTIONS, Caller, Load, in_turns
from bench.servers import API, PASSWORD, Service


async def signed_in_people(running: Service, count: int) -> list[tuple[Caller, str]]:
    """So many people, registered and signed in, each on a connection of their own."""

    async def join(number: int) -> tuple[Caller, str]:
        caller = Caller(running.port)
        email = f"person{number}.{time.time_ns()}@example.com"
        status, document = await caller.call("POST", f"{API}/auth/register", {"email": email, "password": PASSWORD})
        assert status == 201, document
        return caller, document["access_token"]

    return list(await asyncio.gather(*map(join, range(count))))


async def pairs_of_writes(running: Service, seconds: float) -> Load:
    """Each of 32 people makes a code and ends it, again and again."""
    people = await signed_in_people(running, CONNECTIONS)

    async def turn(who: tuple[Caller, str]) -> None:
        caller, token = who
        status, document = await caller.call("POST", f"{API}/codes", {"ttl_days": 1}, token)
        assert status == 201, document
        status, document = await caller.call("DELETE", f"{API}/codes/current", None, token)
        assert status == 204, document

    return await in_turns(people, turn, seconds)


async def logins(running: Service, seconds: float) -> Load:
    """32 clients sign in to eight accounts, again and again: an account's passwords are checked one after the other."""
    callers = [Caller(running.port) for _ in range(CONNECTIONS)]
    emails = [f"login{time.time_ns()}-{number}@example.com" for number in range(8)]
    for email in emails:
        await callers[0].call("POST", f"{API}/auth/register", {"email": email, "password": PASSWORD})
    bodies = itertools.cycle({"grant_type": "password", "username": email, "password": PASSWORD} for email in emails)

    async def turn(caller: Caller) -> None:
        status, document = await caller.call("POST", f"{API}/auth/token", next(bodies))
        assert status == 200, document

    return await in_turns(callers, turn, seconds)


async def registrations(running: Service, seconds: float, code: str | None = None) -> Load:
    """32 clients register, each time as somebody new; by a code if one is given."""

    async def turn(caller: Caller) -> None:
        body = {"email": f"new{time.time_ns()}@example.com", "password": PASSWORD}
        if code:
            body["referral_code"] = code
        status, document = await caller.call("POST", f"{API}/auth/register", body)
        assert status == 201, document

    return await in_turns([Caller(running.port) for _ in range(CONNECTIONS)], turn, seconds)


async def gentle_lookups(running: Service, seconds: float) -> Load:
    """One client looks a code up, up to two hundred times a second."""
    caller, path = Caller(running.port), f"{API}/codes/{running.code}"
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        status, _ = await caller.call("GET", path)
        times.append(time.perf_counter() - started)
        assert status == 200
        await asyncio.sleep(0.005)
    times.sort()
    return Load(len(times) / seconds, times[int(len(times) * 0.99)] * 1000)
