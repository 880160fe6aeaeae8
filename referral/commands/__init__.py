"""What the commands of `run.py` do: each is a function of the settings and the arguments, in the module of its subject."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from referral import queries
from referral.config import Config
from referral.database import Connection, Database, committed
from referral.database.migrate import refuse_unmigrated
from referral.database.opening import open_database
from referral.queries import cache_epoch

T = TypeVar("T")


class Stop(Exception):
    """The command cannot go on; the message is one line for the person who called it."""


class Failed(Exception):
    """The command did its work, and what it was asked to check is not so; the message says in one line what was found."""


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Database]:
    """The database of these settings. Raises MigrationError unless it has this version's schema, DatabaseUnavailable."""
    refuse_unmigrated(config.database.url)
    database = await open_database(
        config.database.url, queries.records(), pooler_keeps_statements=config.database.pooler_keeps_statements
    )
    try:
        yield database
    finally:
        await database.close()


async def changed(config: Config, change: Callable[[Connection], Awaitable[T]]) -> T:
    """The result of a change of accounts, made in one transaction beside running services.

    The transaction advances the epoch, which makes void what any worker caches. When this returns, no worker takes the
    former state for true. `change` is called again if another transaction undid it. Raises what `change` and `opened`
    raise.
    """
    # Imported here: the caches bring the metrics along, which workers must not import before they are told to share them.
    from referral.cache.epoch import EPOCH_WAIT

    async def change_for_all(conn: Connection) -> T:
        result = await change(conn)
        await cache_epoch.advance_epoch(conn)
        return result

    async with opened(config) as database:
        result = await committed(database, change_for_all)
        await asyncio.sleep(EPOCH_WAIT)
        return result
