"""What rules cost the events that they reward: events of referred users that two rules reward, in turns with those of a type
that no rule rewards."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.figures import Figure, Setting
from bench.load import CONNECTIONS, Caller, Load, in_turns
from bench.servers import API, Service, new_key, postgres_server, service

# Who comes by whom: so many referrers, and so many people by each.
REFERRERS, REFEREES = 50, 10
# A type that no rule rewards.
PLAIN = "visit"
# What each variant's rules have besides; its name is the type of the events that they reward. Both rules give each time.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "held": ({"hold_days": 30}, {"hold_days": 30}),
    "at-once": ({"hold_days": 0}, {"hold_days": 0}),
    "budgeted": (
        {"hold_days": 30, "limits": {"budget": {"unit": "USD", "amount": 10**12, "period": "month"}}},
        {"hold_days": 30},
    ),
}
WORDS = {
    "held": "that two rules reward",
    "at-once": "that two rules reward at once",
    "budgeted": "that two rules reward, one with a budget",
}


def rewards(folder: Path, setting: Setting) -> Iterator[Figure]:
    """On SQLite and on PostgreSQL, durable."""
    yield from _figures("SQLite", folder, setting)
    beside = folder / "postgres"
    beside.mkdir()
    with postgres_server(beside) as url:
        yield from _figures("PostgreSQL", beside, setting, REFERRAL_DATABASE_URL=url)


def _figures(engine: str, folder: Path, setting: Setting, **more: str) -> Iterator[Figure]:
    # As purchases do, all of them convert: what differs is the rules alone.
    converting = ",".join(("purchase", PLAIN, *VARIANTS))
    with service(folder, REFERRAL_AUTH_BCRYPT_ROUNDS="4", REFERRAL_ATTRIBUTION_CONVERTS_ON=converting, **more) as running:
        key = new_key(folder, "admin", **more)
        referees = asyncio.run(programme(running, key))
        for variant in VARIANTS:
            yield _ratio_figure(f"{engine}: POST /events {WORDS[variant]}", variant, running, key, referees, setting)


async def programme(running: Service, key: str) -> list[str]:
    """Make the rules of all variants, and people who came by others; the external ids of these."""
    caller, run = Caller(running.port), time.time_ns()

    async def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        status, document = await caller.call("POST", f"{API}{path}", body, key)
        assert status == 201, document
        return dict(document)

    for variant, (referrers, referees) in VARIANTS.items():
        percent, fixed = {"kind": "balance", "percent": "20"}, {"kind": "balance", "unit": "USD", "fixed": 500}
        for side, give, members in (("referrer", percent, referrers), ("referee", fixed, referees)):
            rule = {"name": f"{variant} for the {side}", "on": variant, "to": side, "times": None, "give": give}
            await post("/rules", {**rule, **members})
    people = []
    for referrer in range(REFERRERS):
        # Whoever came before the rounds costs none of them.
        name = f"referrer{run}-{referrer}"
        await post("/events", {"id": f"in_{name}", "type": PLAIN, "user": {"external_id": name}})
        code = (await post(f"/users/ext:{name}/codes", {"ttl_days": 30}))["code"]
        for referee in range(REFEREES):
            came = f"referee{run}-{referrer}-{referee}"
            body = {"id": f"in_{came}", "type": PLAIN, "user": {"external_id": came}, "code": code}
            assert (await post("/events", body))["attribution"]["status"] == "attributed"
            people.append(came)
    return people


async def rewarded_events(
    running: Service, key: str, event_type: str, people: list[str], seconds: float, *, rewards: int
) -> Load:
    """32 callers report events of this type, of these people one after the other; each brings so many rewards."""
    numbers, run = itertools.count(), time.time_ns()

    async def turn(caller: Caller) -> None:
        number = next(numbers)
        body = {
            "id": f"in_{run}_{number}",
            "type": event_type,
            "user": {"external_id": people[number % len(people)]},
            "value": {"unit": "USD", "amount": 4900},
        }
        status, document = await caller.call("POST", f"{API}/events", body, key)
        assert status == 201, document
        assert len(document["rewards"]) == rewards, document

    return await in_turns([Caller(running.port) for _ in range(CONNECTIONS)], turn, seconds)


def _ratio_figure(name: str, variant: str, running: Service, key: str, people: list[str], setting: Setting) -> Figure:
    """The rate of a variant's events as a part of that of events that no rule rewards, round by round."""

    def measured(event_type: str) -> Load:
        count = 0 if event_type == PLAIN else 2
        return asyncio.run(rewarded_events(running, key, event_type, people, setting.seconds, rewards=count))

    ratios, loads, plain = [], [], []
    before = measured(PLAIN)
    for _ in range(setting.rounds):
        load = measured(variant)
        after = measured(PLAIN)
        ratios.append(load.rate / ((before.rate + after.rate) / 2))
        loads.append(load)
        plain.append(after.rate)
        before = after
    notes = {
        "requests_per_second": statistics.median(load.rate for load in loads),
        "p99_ms": statistics.median(load.p99 for load in loads),
        "plain_per_second": statistics.median(plain),
    }
    return Figure(name, statistics.median(ratios), "of the rate without rules", "0.5", ratios, notes)
