"""The keys of access tokens, and the database's claim by one of them."""

import argparse
import asyncio
from contextlib import suppress

from referral.auth.key_claim import accept_key, claim_database
from referral.auth.sealing import open_seal
from referral.auth.signing_keys import open_keys, rotate_keys
from referral.background.sealing import seal_all_anew
from referral.commands import opened
from referral.config import Config
from referral.database import DatabaseUnavailable
from referral.database.migrate import MigrationError


def rotate_signing_keys(config: Config, arguments: argparse.Namespace) -> None:
    """Make a new key that signs access tokens; the one before is accepted until the next time. Raises ConfigError,
    also when the database belongs to a key that is neither of the two."""
    # What the key before this one has sealed could not be opened any more.
    with suppress(DatabaseUnavailable, MigrationError):
        asyncio.run(_seal_anew(config))
    file = rotate_keys(config.auth)
    print(
        f"{file} is a new key. Restart the service or, with several workers, send it SIGHUP to take it up. "
        "Tokens of the key before stay valid until the next rotation."
    )
    # The database is told now, and not only by the next start: there may be another rotation before that. Where there is no
    # database yet, the first start claims it.
    with suppress(DatabaseUnavailable, MigrationError):
        asyncio.run(claim(config))


def accept_signing_key(config: Config, arguments: argparse.Namespace) -> None:
    """Let the database belong to the key of these settings, whichever it belonged to. Raises ConfigError."""
    asyncio.run(_accept(config))
    print("The database belongs to the key of these settings now. Access tokens of another one have ended; sessions go on.")


async def _seal_anew(config: Config) -> None:
    async with opened(config) as database:
        await seal_all_anew(database, open_seal(config.auth))


async def claim(config: Config) -> None:
    """Claim the database for the key of these settings. Raises ConfigError when it belongs to another one,
    DatabaseUnavailable when it takes no writes."""
    async with opened(config) as database:
        await database.check_writable()
        await claim_database(database, open_keys(config.auth), config.auth)


async def _accept(config: Config) -> None:
    async with opened(config) as database:
        await accept_key(database, open_keys(config.auth))
