"""Mixed load that records every acknowledged write, and holds each answer against what had been acknowledged before."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientError, ClientSession

from tests.support.people import API, PASSWORD

# A refusal by whoever is in between, and by a service for the time being. Nobody knows what became of the request.
UNKNOWN = {0, 502, 503, 504}
PAUSE = 0.05


@dataclass
class Code:
    """What is known of a code: that it was made, and since when it has been ended."""

    owner: str
    is_ended: bool = False
    # A request that ends it is under way, or got no answer.
    is_in_doubt: bool = False


@dataclass
class Record:
    """What was acknowledged, by ids; and what was answered that must not have been."""

    users: dict[str, str] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    events: dict[str, list[str]] = field(default_factory=dict)
    redemptions: dict[str, str] = field(default_factory=dict)
    ended_tokens: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[Any] = field(default_factory=list)

    @property
    def failures(self) -> int:
        return sum(count for status, count in self.statuses.items() if status in UNKNOWN)

    @property
    def answered(self) -> int:
        return sum(self.statuses.values()) - self.failures


class Load:
    """People and a product's back end, all at once, through one address."""

    def __init__(self, session: ClientSession, address: str, key: str, seed: int) -> None:
        self.record = Record()
        self._session, self._address, self._key = session, address, key
        self._seed = seed
        self._numbers = itertools.count(1)
        self._ended = asyncio.Event()

    async def run(self, people: int) -> None:
        await asyncio.gather(*(self._live(random.Random(f"{self._seed} {number}")) for number in range(people)))

    def end(self) -> None:
        self._ended.set()

    async def ask(
        self, method: str, path: str, body: Any = None, token: str | None = None, form: Any = None
    ) -> tuple[int, Any]:
        """One request; the status is 0 when it got no answer."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            url = f"{self._address}{API}{path}"
            async with self._session.request(method, url, json=body, data=form, headers=headers) as response:
                is_json = "json" in response.content_type
                status, found = response.status, await response.json(content_type=None) if is_json else None
        except (ClientError, OSError, TimeoutError):
            status, found = 0, None
        self.record.statuses[status] += 1
        if status >= 500 and status not in UNKNOWN:
            self.record.wrong.append((method, path, status, found))
        return status, found

    async def insist(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """The first answer that says what became of it: the request is one that may be made twice."""
        while True:
            status, found = await self.ask(method, path, body, token)
            if status not in UNKNOWN:
                return status, found
            await asyncio.sleep(PAUSE)

    def expect(self, what: str, found: tuple[int, Any], *statuses: int) -> bool:
        if found[0] not in statuses:
            self.record.wrong.append((what, *found))
        return found[0] in statuses

    async def _live(self, choose: random.Random) -> None:
        while not self._ended.is_set():
            person = await self._newcomer(choose)
            if person is None:
                continue
            for _ in range(choose.randrange(3, 9)):
                deed = choose.choice((person.renew_code, person.end_code, person.buy, person.redeem, person.come_and_go))
                await deed()
                for _ in range(4):
                    await self._look(choose)
                if self._ended.is_set():
                    return

    async def _newcomer(self, choose: random.Random) -> Person | None:
        name = f"soak{self._seed}n{next(self._numbers)}"
        active = [text for text, code in self.record.codes.items() if not code.is_ended and not code.is_in_doubt]
        body = {"email": f"{name}@example.com", "password": PASSWORD, "username": name}
        if active and choose.random() < 0.7:
            body["referral_code"] = choose.choice(active)
        found = await self.insist("POST", "/auth/register", body)
        if found[0] == 409:
            # An attempt before was kept, although nobody said so.
            found = await self._sign_in(name)
            user = (await self.insist("GET", "/users/me", None, found[1]["access_token"]))[1]
            found = found[0], {**found[1], "user": user}
        elif found[0] == 422:
            # The code has ended in between.
            return None
        if not self.expect("register", found, 200, 201):
            return None
        self.record.users[found[1]["user"]["id"]] = name
        return Person(self, name, found[1]["user"]["id"], found[1]["access_token"])

    async def _sign_in(self, name: str) -> tuple[int, Any]:
        form = {"grant_type": "password", "username": f"{name}@example.com", "password": PASSWORD}
        while True:
            found = await self.ask("POST", "/auth/token", form=form)
            if found[0] not in UNKNOWN:
                return found
            await asyncio.sleep(PAUSE)

    async def _look(self, choose: random.Random) -> None:
        """A look-up of a code, or a request with a token that has ended."""
        if self.record.ended_tokens and choose.random() < 0.2:
            found = await self.ask("GET", "/users/me", None, choose.choice(self.record.ended_tokens[-50:]))
            self.expect("an ended session", found, 401, *UNKNOWN)
            return
        if not self.record.codes:
            return
        text = choose.choice(list(self.record.codes)[-60:])
        code = self.record.codes[text]
        was_ended, was_in_doubt = code.is_ended, code.is_in_doubt
        by_email = choose.random() < 0.3
        path = f"/codes/by-email?email={code.owner}%40example.com" if by_email else f"/codes/{text}"
        status, found = await self.ask("GET", path, None, self._key if by_email else None)
        if status in UNKNOWN:
            return
        shown = found.get("code") if status == 200 else None
        if was_ended and shown == text:
            self.record.wrong.append(("stale", path, found))
        if not (was_ended or was_in_doubt or code.is_ended or code.is_in_doubt) and shown != text:
            self.record.wrong.append(("lost", path, status, found))


class Person:
    def __init__(self, load: Load, name: str, user_id: str, token: str) -> None:
        self._load, self.name, self._id, self._token = load, name, user_id, token
        self._record = load.record
        self._code: str | None = None

    async def renew_code(self) -> None:
        text, former = f"SOAK-{next(self._load._numbers)}", self._former()
        body = {"ttl_days": 30, "code": text, "replace": True}
        status, found = await self._load.ask("POST", "/codes", body, self._token)
        if status in UNKNOWN:
            await self._find_out(former, text)
        elif self._load.expect("a code", (status, found), 201):
            self._became(former, text)

    async def end_code(self) -> None:
        former = self._former()
        status, found = await self._load.ask("DELETE", "/codes/current", None, self._token)
        if status in UNKNOWN:
            await self._find_out(former, None)
        elif self._load.expect("the end of a code", (status, found), *((204,) if former else (204, 404))):
            self._became(former, None)

    def _former(self) -> str | None:
        if self._code:
            self._record.codes[self._code].is_in_doubt = True
        return self._code

    def _became(self, former: str | None, text: str | None) -> None:
        """It was acknowledged that this code took the former one's place."""
        if former:
            self._record.codes[former].is_ended = True
            self._record.codes[former].is_in_doubt = False
        if text:
            self._record.codes[text] = Code(self.name)
        self._code = text

    async def _find_out(self, former: str | None, text: str | None) -> None:
        """End whatever is current, after a request without an answer. That may take place later: a code that it makes stays
        in doubt."""
        while True:
            status, _ = await self._load.insist("DELETE", "/codes/current", None, self._token)
            if status in (204, 404):
                break
        self._became(former, None)
        if text:
            code = self._record.codes.setdefault(text, Code(self.name))
            code.is_in_doubt = True

    async def buy(self) -> None:
        event = f"order-{next(self._load._numbers)}"
        body = {"id": event, "type": "purchase", "user": {"id": self._id}, "value": {"unit": "USD", "amount": 1000}}
        found = await self._load.insist("POST", "/events", body, self._load._key)
        if self._load.expect("an event", found, 200, 201):
            self._record.events[event] = sorted(reward["id"] for reward in found[1]["rewards"])

    async def redeem(self) -> None:
        redemption = f"pay-{next(self._load._numbers)}"
        body = {"id": redemption, "unit": "USD", "amount": 10}
        path = f"/users/{self._id}/redemptions"
        found = await self._load.insist("POST", path, body, self._load._key)
        if found[0] in (200, 201):
            self._record.redemptions[redemption] = self._id
        else:
            # There is nothing to spend.
            self._load.expect("a redemption", found, 409, 422)

    async def come_and_go(self) -> None:
        """One more session, which ends."""
        status, found = await self._load._sign_in(self.name)
        if not self._load.expect("a session", (status, found), 200):
            return
        while True:
            status, _ = await self._load.ask("POST", "/auth/revoke", form={"token": found["refresh_token"]})
            if status not in UNKNOWN:
                break
            await asyncio.sleep(PAUSE)
        if self._load.expect("the end of a session", (status, None), 200):
            self._record.ended_tokens.append(found["access_token"])
