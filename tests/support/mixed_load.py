"""Mixed load on services as processes: many people who read and write at once, and know what each answer must be."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from aiohttp import ClientError, ClientSession

from tests.support.people import API, PASSWORD, SECRETS


class MixedLoad:
    """People who register, make codes, come by one another's and look, each through any of the services.

    A call is made again while it is answered by 503, or not at all. Whatever is answered must be the caller's own; what was
    acknowledged is in `registered` and `codes`.
    """

    def __init__(self, session: ClientSession, addresses: Sequence[str], name: str = "n") -> None:
        self._session = session
        self._addresses = addresses
        self._name = name
        self._number = 0
        self.statuses: Counter[int] = Counter()
        self.registered: dict[str, str] = {}
        self.codes: dict[str, str] = {}
        self.came: Counter[str] = Counter()
        self.wrong: list[Any] = []

    async def run(self, people: int, ended: asyncio.Event) -> None:
        """So many people at once, until the event is set."""
        await asyncio.gather(*(self._live(ended) for _ in range(people)))

    async def call(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """The first answer that is not 503."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        while True:
            self._number += 1
            address = self._addresses[self._number % len(self._addresses)]
            try:
                async with self._session.request(method, f"{address}{API}{path}", json=body, headers=headers) as response:
                    self.statuses[response.status] += 1
                    if response.status != 503:
                        return response.status, await response.json(content_type=None)
            except (ClientError, OSError, TimeoutError):
                self.statuses[0] += 1
            await asyncio.sleep(0.05)

    async def _expect(self, status: int, *call: Any) -> Any:
        found, body = await self.call(*call)
        if found != status:
            self.wrong.append((call[:2], found, body))
        return body

    async def _live(self, ended: asyncio.Event) -> None:
        code = None
        while not ended.is_set():
            code = await self._one(code)

    async def _one(self, by: str | None) -> str | None:
        """One person's life, who comes by this code; returns theirs."""
        self._number += 1
        name = f"{self._name}{self._number}"
        body = {"email": f"{name}@example.com", "password": PASSWORD, "username": name}
        status, made = await self.call("POST", "/auth/register", {**body, **({"referral_code": by} if by else {})})
        if status == 409:
            # The first attempt was kept, although nobody said so.
            return by
        if status != 201:
            self.wrong.append(("register", status, made))
            return None
        user_id, token = made["user"]["id"], made["access_token"]
        SECRETS.update((token, made["refresh_token"]))
        self.registered[user_id] = name
        if by:
            self.came[by] += 1
        text = f"CODE-{self._name}-{self._number}".upper()
        status, _ = await self.call("POST", "/codes", {"ttl_days": 30, "code": text}, token)
        if status not in (201, 409):
            self.wrong.append(("code", status))
        self.codes[text] = user_id
        for _ in range(3):
            me = await self._expect(200, "GET", "/users/me", None, token)
            if me.get("id") != user_id or me.get("username") != name:
                self.wrong.append(("me", name, me))
            found = await self._expect(200, "GET", "/codes/current", None, token)
            if found.get("code") != text:
                self.wrong.append(("current", text, found))
            found = await self._expect(200, "GET", f"/codes/{text}", None, token)
            if found.get("code") != text:
                self.wrong.append(("code", text, found))
            found = await self._expect(200, "GET", "/users/me/referrals", None, token)
            if "items" not in found:
                self.wrong.append(("referrals", found))
        return text
