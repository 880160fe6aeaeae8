"""Fixtures of the tests of databases: somebody else, who is connected to PostgreSQL, too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Any]:
    """Somebody else's connection to the test's database."""
    connection = await asyncpg.connect(database_url)
    # It waits without ever being the victim of a deadlock.
    await connection.execute("SET deadlock_timeout = '60s'")
    yield connection
    await connection.close()
