"""A programme of rewards: rules, people who come by others, what they buy, and what is left of it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from referral.database import Database
from referral.rules.verification import Verification
from tests.support.people import Answer, Product

# A rule that gives at once.
AT_ONCE: dict[str, Any] = {"hold_days": 0}
DOLLARS = {"kind": "balance", "unit": "USD", "fixed": 500}
COUPON = {"kind": "coupon", "label": "A month"}
SHARE = {"kind": "balance", "percent": "20"}


def usd(amount: int) -> dict[str, Any]:
    return {"unit": "USD", "amount": amount}


@dataclass
class Programme:
    """The product's back end as an admin, and the codes of its users."""

    admin: Product
    codes: dict[str, str] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def rule(self, to: str = "referrer", give: dict[str, Any] = DOLLARS, **members: Any) -> dict[str, Any]:
        """Make a rule on purchases, which gives at once unless it says otherwise."""
        body = {"name": f"a rule for the {to}", "on": "purchase", "to": to, "give": give, **AT_ONCE, **members}
        answer = await self.admin.post("/rules", body)
        assert answer.status == 201, answer.body
        return dict(answer.body)

    async def change(self, rule: dict[str, Any], **members: Any) -> dict[str, Any]:
        answer = await self.admin.patch(f"/rules/{rule['id']}", members)
        assert answer.status == 200, answer.body
        return dict(answer.body)

    async def code_of(self, referrer: str) -> str:
        """The code of a user of the product's, who is made if there is none."""
        if referrer not in self.codes:
            await self.admin.user(referrer)
            answer = await self.admin.post(f"/users/ext:{referrer}/codes", {"ttl_days": 30})
            assert answer.status == 201, answer.body
            self.codes[referrer] = answer.body["code"]
        return self.codes[referrer]

    async def come(self, referee: str = "bob", referrer: str = "alice") -> None:
        """Let somebody come by a referrer."""
        answer = await self.admin.report(f"came {referee}", "came", referee, code=await self.code_of(referrer))
        assert answer.body["attribution"]["status"] == "attributed", answer.body

    async def buy(self, amount: int = 4900, referee: str = "bob", event: str | None = None, **members: Any) -> Answer:
        """Report a purchase; with a unit of None, one without a value."""
        unit = members.pop("unit", "USD")
        value = {"value": {"unit": unit, "amount": amount}} if unit else {}
        return await self.admin.report(event or f"bought {next(self.numbers)}", "purchase", referee, **value, **members)

    async def refund(self, event: str, amount: int | None = None, refund: str | None = None) -> Answer:
        body = {"id": refund or f"refunded {next(self.numbers)}", "type": "refund", "refunds": event}
        return await self.admin.post("/events", body if amount is None else {**body, "value": usd(amount)})

    async def give(self, user: str, amount: int, **members: Any) -> dict[str, Any]:
        """A reward by hand."""
        body = {
            "id": f"given {next(self.numbers)}",
            "user": {"external_id": user},
            "kind": "balance",
            "value": usd(amount),
            "reason": "For the trouble",
            **members,
        }
        answer = await self.admin.post("/rewards", body)
        assert answer.status == 201, answer.body
        return dict(answer.body)

    async def redeem(self, user: str, amount: int, redemption: str | None = None, **members: Any) -> Answer:
        body = {"id": redemption or f"redeemed {next(self.numbers)}", **usd(amount), **members}
        return await self.admin.post(f"/users/ext:{user}/redemptions", body)

    async def suspect(self, user: str = "bob", weight: int = 50, note: str = "Odd") -> dict[str, Any]:
        """Report a user's referral; at 50 in all, its review opens."""
        answer = await self.admin.post(f"/referrals/ext:{user}/signals", {"weight": weight, "note": note})
        assert answer.status == 201, answer.body
        return dict(answer.body)

    async def review(self, user: str = "bob") -> dict[str, Any]:
        answer = await self.admin.get(f"/reviews/ext:{user}")
        assert answer.status == 200, answer.body
        return dict(answer.body)

    async def foretold(self, user: str = "bob") -> dict[str, Any]:
        """What a rejection would do."""
        answer = await self.admin.get(f"/reviews/ext:{user}/preview")
        assert answer.status == 200, answer.body
        return dict(answer.body)

    async def decide(self, step: str, user: str = "bob", **members: Any) -> Answer:
        return await self.admin.post(f"/reviews/ext:{user}/{step}", {"reason": "Looked at", **members})

    async def reward(self, reward_id: str) -> dict[str, Any]:
        answer = await self.admin.get(f"/rewards/{reward_id}")
        assert answer.status == 200, answer.body
        return dict(answer.body)

    async def step(self, reward: dict[str, Any], step: str, **members: Any) -> Answer:
        return await self.admin.post(f"/rewards/{reward['id']}/{step}", members)

    async def rewards(self, **query: str) -> list[dict[str, Any]]:
        """All rewards, the oldest first."""
        answer = await self.admin.get("/rewards", params={"limit": "100", **query})
        assert answer.status == 200, answer.body
        assert answer.body["total"] == len(answer.body["items"])
        return list(reversed(answer.body["items"]))

    async def balance(self, user: str, unit: str = "USD") -> dict[str, int]:
        """The user's balance in the unit, all zero if there is none."""
        answer = await self.admin.get(f"/users/ext:{user}/balances")
        assert answer.status == 200, answer.body
        names = ("pending", "available", "reserved", "earned", "spent", "reversed")
        found = [item for item in answer.body["items"] if item["unit"] == unit]
        return {name: found[0][name] if found else 0 for name in names}

    async def available(self, user: str) -> int:
        return (await self.balance(user))["available"]

    async def statement(self, user: str, unit: str = "USD") -> list[tuple[str, int, int]]:
        """Kind, amount and balance after each line, the oldest first."""
        answer = await self.admin.get(f"/users/ext:{user}/statement", params={"unit": unit, "limit": "100"})
        assert answer.status == 200, answer.body
        return [(line["kind"], line["amount"], line["balance_after"]) for line in reversed(answer.body["items"])]


async def differences(database: Database) -> list[str]:
    """What `run.py verify` would name."""
    async with database.snapshot() as conn:
        return [difference async for difference in Verification(conn).differences()]
