"""What the commands of `run.py` do: each is a function of the settings and the arguments, in the module of its subject."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from referral import queries
from referral.config import Config
from referral.database import Database
from referral.database.migrate import refuse_unmigrated
from referral.database.opening import open_database


class Stop(Exception):
    """The command cannot go on; the message is one line for the person who called it."""


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Database]:
    """The database of these settings. Raises MigrationError unless it has this version's schema, DatabaseUnavailable."""
    refuse_unmigrated(config.database.url)
    database = await open_database(config.database.url, queries.records())
    try:
        yield database
    finally:
        await database.close()
