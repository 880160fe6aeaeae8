"""What the pages of the back office are looked at with: an admin, their browser, and something of each sort to be seen."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import ClientSession
from playwright.async_api import Browser

from tests.support.commands import ENVIRON
from tests.support.people import API, PASSWORD
from tests.support.service import run_py

ADMIN = "boss"
# What people write, wherever they may: markup, a text that turns the direction of writing, and a long word.
HOSTILE = '<b onclick="alert(1)">&amp;"\'</b>'
LONG = "W" * 60


def make_boss(folder: Path) -> None:
    """Make the admin of a project that lies in the folder, as its operator does."""
    line = [*run_py(folder), "createsuperuser", f"{ADMIN}@example.com", "--username", ADMIN]
    subprocess.run(line, input=f"{PASSWORD}\n{PASSWORD}\n", text=True, cwd=folder, env=ENVIRON, check=True, timeout=60)


async def sign_in(browser: Browser, address: str) -> Any:
    """Sign the admin in as a person does, and return the state of the browser, for further contexts."""
    context = await browser.new_context(base_url=address)
    page = await context.new_page()
    await page.goto(f"{address}/admin")
    await page.get_by_label("E-mail or username").fill(ADMIN)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(f"{address}/admin")
    state = await context.storage_state()
    await context.close()
    return state


async def fill(address: str) -> dict[str, str]:
    """Make something of each sort that a page shows, and return what stands for the names in paths.

    Whoever makes a page adds to it what the page shows at its fullest."""
    async with ClientSession(f"{address}{API}/") as client:
        form = {"grant_type": "password", "username": ADMIN, "password": PASSWORD}
        async with client.post("auth/token", data=form) as response:
            headers = {"Authorization": f"Bearer {(await response.json())['access_token']}"}
        async with client.get("auth/sessions", headers=headers) as response:
            sessions = (await response.json())["items"]
        async with client.post("users/me/second-factor", json={"password": PASSWORD}, headers=headers) as response:
            assert response.status == 201
        user_id = await _fill_users(client, headers)
        rewards = await _rewards(client, headers)
        hooks = await fill_hooks(client, headers)
        reviews = await _reviews(client, headers)
        rule_id = await make_rules(client, headers)
    return {"session_id": sessions[0]["id"], "user_id": user_id, **rewards, **hooks, **reviews, "rule_id": rule_id}


async def _fill_users(client: ClientSession, headers: dict[str, str]) -> str:
    """Users with all that may befall them, and the id of the one whom most of it did: he came by a click, brought somebody,
    bought, and was suspended for a time."""

    async def call(method: str, path: str, body: Any = None) -> Any:
        async with client.request(method, path, json=body, headers=headers) as response:
            assert response.status < 300, (path, await response.text())
            return await response.json()

    give = {"kind": "balance", "percent": "20"}
    for to, given, hold in (
        ("referrer", give, 0),
        ("referrer", give, 14),
        ("referee", {"kind": "coupon", "label": HOSTILE}, 1),
    ):
        rule = {"name": f"{to} {HOSTILE}", "on": "purchase", "to": to, "give": given, "hold_days": hold, "times": None}
        await call("POST", "rules", rule)
    # Whoever it is that brings others.
    await call("PUT", "users/ext:alice", {"name": "Alice Archer", "email": "alice@example.com"})
    code = (await call("POST", "users/ext:alice/codes", {"ttl_days": 30}))["code"]
    click = (await call("POST", "clicks", {"code": code}))["click_id"]
    described = {"name": HOSTILE, "email": "bob@example.com", "metadata": {"plan": HOSTILE, "long": LONG}}
    event = {"id": "seen bob", "type": "signup", "user": {"external_id": "bob", **described}, "click_id": click}
    bob = (await call("POST", "events", event))["user_id"]
    await call("POST", "users/ext:bob/codes", {"ttl_days": 30, "max_uses": 5})
    code = (await call("GET", "users/ext:bob"))["code"]["code"]
    carol = {"external_id": LONG, "name": LONG}
    await call("POST", "events", {"id": f"carol {HOSTILE}", "type": "came", "user": carol, "code": code})
    for number, (user, amount) in enumerate(((carol, 10_000), (carol, 5_000), ({"external_id": "bob"}, 4_900))):
        value = {"unit": "USD", "amount": amount}
        await call(
            "POST", "events", {"id": f"bought {number}", "type": "purchase", "user": user, "value": value, "code": "NOBODYS"}
        )
    spent = {"unit": "USD", "amount": 2_500, "id": "spent", "reference": HOSTILE, "note": LONG}
    await call("POST", "users/ext:bob/redemptions", spent)
    await call("POST", "events", {"id": "refund", "type": "refund", "refunds": "bought 0"})
    rewards = (await call("GET", f"rewards?user={bob}&status=approved"))["items"]
    await call("POST", f"rewards/{rewards[0]['id']}/reverse", {"id": "back", "amount": 10, "reason": HOSTILE})
    by_hand = {"id": "hand", "user": {"id": bob}, "kind": "custom", "label": LONG, "reason": HOSTILE}
    made = await call("POST", "rewards", by_hand)
    await call("POST", f"rewards/{made['id']}/fulfil", {"reference": HOSTILE})
    await call("POST", "users/ext:bob/suspend", {"reason": HOSTILE})
    await call("POST", "users/ext:bob/unsuspend")
    await call("POST", f"users/ext:{quote(LONG)}/suspend", {"reason": LONG})
    return str(bob)


async def _send(client: ClientSession, headers: dict[str, str], method: str, path: str, body: Any) -> Any:
    async with client.request(method, path, json=body, headers=headers) as response:
        assert response.status in (200, 201), await response.text()
        return await response.json()


async def _rewards(client: ClientSession, headers: dict[str, str]) -> dict[str, str]:
    """Rewards in each state, of people with all sorts of names."""

    async def send(method: str, path: str, body: Any) -> Any:
        return await _send(client, headers, method, path, body)

    give = {"kind": "balance", "percent": "20"}
    coupon = {"kind": "coupon", "label": f"A month of {LONG}"}
    for rule in (
        {"name": HOSTILE, "to": "referrer", "give": give, "hold_days": 14},
        {"name": "Ten dollars for a friend", "to": "referee", "give": {"kind": "balance", "unit": "USD", "fixed": 1000}},
        {"name": "A coupon", "to": "referrer", "give": coupon, "approval": "manual"},
    ):
        await send("POST", "rules", {"on": "purchase", "hold_days": 0, "times": None, **rule})
    await send("PUT", "users/ext:reward-alice", {"name": f"Alice {HOSTILE}"})
    await send("PUT", "users/ext:reward-bob", {"name": LONG})
    code = (await send("POST", "users/ext:reward-alice/codes", {"ttl_days": 30}))["code"]
    user = {"external_id": "reward-bob"}
    await send("POST", "events", {"id": "reward-came", "type": "signup", "user": user, "code": code})
    value = {"unit": "USD", "amount": 4900}
    bought = await send("POST", "events", {"id": "reward-order", "type": "purchase", "user": user, "value": value})
    # What was earned can be taken back, so that it has a page for that; another one is void.
    earned = next(one for one in bought["rewards"] if one["status"] == "approved")
    await send("POST", f"rewards/{earned['id']}/reverse", {"id": "reward-1", "amount": 250, "reason": HOSTILE})
    waiting = next(one for one in bought["rewards"] if one["kind"] == "coupon")
    await send("POST", f"rewards/{waiting['id']}/reject", {"reason": LONG})
    return {"reward_id": earned["id"]}


async def fill_hooks(client: ClientSession, headers: dict[str, str]) -> dict[str, str]:
    """A webhook whose receiver has no address, with a delivery that has failed, and a disabled one."""
    for url in ("https://shop.invalid/disabled", f"https://shop.invalid/hooks?key={LONG}&next={HOSTILE.replace(' ', '')}"):
        async with client.post("webhooks", json={"url": url, "types": ["reward.*", "user.*"]}, headers=headers) as response:
            assert response.status == 201, await response.text()
            webhook_id = (await response.json())["id"]
        if url.endswith("disabled"):
            await client.patch(f"webhooks/{webhook_id}", json={"status": "disabled"}, headers=headers)
    # A mail for the outbox.
    newcomer = {"email": "newcomer@example.com", "password": PASSWORD}
    async with client.post("auth/register", json=newcomer) as response:
        assert response.status in (201, 202), await response.text()
    async with client.post("keys", json={"name": HOSTILE, "scope": "write"}, headers=headers) as response:
        key = await response.json()
    as_key = {"Authorization": f"Bearer {key['key']}"}
    async with client.put(
        "users/ext:hooks", json={"name": HOSTILE, "metadata": {"note": f"\u202e{LONG}"}}, headers=as_key
    ) as response:
        assert response.status == 201, await response.text()
    async with asyncio.timeout(30):
        while True:
            async with client.get(f"webhooks/{webhook_id}/deliveries", headers=headers) as response:
                failed = [one for one in (await response.json())["items"] if one["last_error"]]
            if failed:
                return {"webhook_id": webhook_id, "change_id": failed[0]["change_id"], "key_id": key["id"]}
            await asyncio.sleep(0.1)


async def _reviews(client: ClientSession, headers: dict[str, str]) -> dict[str, str]:
    """A referral under review, of which the referrer has spent what it brought; and blocks."""

    async def send(method: str, path: str, body: Any) -> Any:
        return await _send(client, headers, method, path, body)

    await send("PUT", "users/ext:review-mallory", {"name": "Mallory", "email": "mallory@example.com"})
    code = (await send("POST", "users/ext:review-mallory/codes", {"ttl_days": 30}))["code"]
    rule = {"name": "Five dollars", "on": "renewal", "to": "referrer", "hold_days": 0}
    await send("POST", "rules", {**rule, "give": {"kind": "balance", "unit": "USD", "fixed": 500}})
    user = {"external_id": "review-malory", "name": f"Malory {HOSTILE}", "email": "other@inbox.example"}
    await send("POST", "events", {"id": "review-came", "type": "signup", "user": user, "code": code})
    value = {"unit": "USD", "amount": 4900}
    bought = {"user": {"external_id": "review-malory"}, "value": value}
    await send("POST", "events", {"id": "review-renewal", "type": "renewal", **bought})
    await send("POST", "events", {"id": "review-order", "type": "purchase", **bought})
    spent = {"id": "review-spent", "unit": "USD", "amount": 400}
    await send("POST", "users/ext:review-mallory/redemptions", spent)
    for note in (HOSTILE, LONG):
        await send("POST", "referrals/ext:review-malory/signals", {"weight": 60, "note": note})
    for kind, blocked in (("email-domain", "mail.example"), ("email", "mallory@example.com"), ("external-id", LONG)):
        await send("PUT", f"blocks/{kind}/{blocked}", {"note": HOSTILE})
    malory = await _send(client, headers, "GET", "users/ext:review-malory", None)
    return {"referee_id": malory["id"]}


async def make_rules(client: ClientSession, headers: dict[str, str]) -> str:
    """Make rules in several states, of which one has many versions and all that a rule may say; return its id."""
    share = {"kind": "balance", "percent": "20", "max": 2500}
    fixed = {"kind": "balance", "unit": "USD", "fixed": 500}
    whole = {
        "name": f"{HOSTILE} {LONG}",
        "on": "purchase",
        "to": "referrer",
        "give": share,
        "tiers": [{"from": 5, "percent": "22.5"}, {"from": 10, "percent": "25"}],
        "if": {"min_amount": {"unit": "USD", "amount": 2000}, "within_days": 90, "metadata": {LONG[:40]: HOSTILE, "n": 5}},
        "hold_days": 14,
        "limits": {
            "per_referrer": {"count": 10, "period": "month"},
            "budget": {"unit": "USD", "amount": 1_000_000, "period": "month"},
        },
        "ends_at": "2038-01-01T00:00:00Z",
    }
    others = (
        {"name": "Welcome", "on": "signup", "to": "referee", "give": fixed, "hold_days": 0},
        {"name": "Off", "on": "trial-started", "to": "referrer", "give": fixed, "enabled": False, "times": 3},
        {"name": "Past", "on": "purchase", "to": "referee", "give": fixed, "ends_at": "2020-01-01T00:00:00Z", "times": None},
        {
            "name": "Month",
            "on": "purchase",
            "to": "referee",
            "give": {"kind": "coupon", "label": HOSTILE},
            "approval": "manual",
        },
    )
    made = []
    for body in (whole, *others):
        async with client.post("rules", json=body, headers=headers) as response:
            assert response.status == 201, await response.text()
            made.append((await response.json())["id"])
    for change in ({"enabled": False}, {"enabled": True, "hold_days": 30}, {"name": f"Give 20 % {HOSTILE}"}):
        async with client.patch(f"rules/{made[0]}", json=change, headers=headers) as response:
            assert response.status == 200, await response.text()
    return str(made[0])
