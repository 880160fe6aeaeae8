"""What the pages of the back office are looked at with: an admin, their browser, and something of each sort to be seen."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

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
    return {"session_id": sessions[0]["id"]}
