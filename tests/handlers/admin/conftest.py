"""A service with an admin, seen in a real browser."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.support.admin_world import fill, make_boss, sign_in
from tests.support.browsing import chromium
from tests.support.service import serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("admin")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """A service with an admin and nothing else."""
    # Nobody takes mail there, so that some waits.
    with serving(folder, REFERRAL_MAIL_URL="smtp://127.0.0.1:9") as address:
        make_boss(folder)
        yield address


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def state(browser: Browser, address: str) -> Any:
    """What a browser keeps in which the admin is signed in."""
    return await sign_in(browser, address)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def examples(address: str, state: Any) -> dict[str, str]:
    """What stands for the names in paths, once there is something of each sort."""
    return await fill(address)
