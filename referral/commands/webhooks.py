"""Following the feed of changes on a developer's machine."""

import argparse
import asyncio
import base64
import hashlib
import hmac
from ipaddress import ip_network

from referral import clock
from referral.auth.signing_keys import open_keys
from referral.background.webhooks import post_change
from referral.commands import opened
from referral.config import Config, ConfigError
from referral.contract.schemas.changes import LARGEST_SEQ, PATTERNS, matches
from referral.queries import changes
from referral.queries.changes import ToldChange
from referral.webhooks.guard import Guard, url_error
from referral.webhooks.sending import Sender

SOURCE = "command line"
# Seconds between two looks at the feed, and for an answer.
PAUSE = 0.5
TIMEOUT = 30.0
BATCH = 100
# What the signing key is asked to sign for the secret. No token has this text.
SECRET_OF = b"the secret of webhooks listen"


def listen(config: Config, arguments: argparse.Namespace) -> None:
    """Post each change from now on to an address, signed as webhooks are, until Ctrl+C. What the receiver refuses is shown,
    and not sent again. Raises ConfigError."""
    error = url_error(arguments.to)
    if error is not None:
        raise ConfigError("--to", error, SOURCE)
    patterns = arguments.types.split(",")
    if unknown := [pattern for pattern in patterns if pattern not in PATTERNS]:
        raise ConfigError("--types", f"has no type or group {', '.join(unknown)}", SOURCE)
    # The same each time, so that the receiver's settings can stay.
    digest = hmac.digest(open_keys(config.auth)[0].secret, SECRET_OF, hashlib.sha256)
    secret = f"whsec_{base64.b64encode(digest).decode()}"
    asyncio.run(_listen(config, arguments.to, patterns, secret))


async def _listen(config: Config, url: str, patterns: list[str], secret: str) -> None:
    # Whoever types the address may reach whatever they can reach without this.
    guard = Guard([ip_network("0.0.0.0/0"), ip_network("::/0")])
    sender = Sender(guard, TIMEOUT)
    try:
        async with opened(config) as database:
            async with database.reader() as conn:
                last_seq = (await changes.find_feed(conn)).last_seq
            print(f"Changes from now on are posted to {url}, signed by {secret} (Ctrl+C stops).", flush=True)
            while True:
                async with database.reader() as conn:
                    found = await changes.list_changes(conn, last_seq, LARGEST_SEQ, BATCH)
                for change in found:
                    last_seq = change.seq
                    if matches(patterns, change.type):
                        await _post(sender, url, secret, change)
                if len(found) < BATCH:
                    await asyncio.sleep(PAUSE)
    finally:
        await sender.close()
        await guard.close()


async def _post(sender: Sender, url: str, secret: str, change: ToldChange) -> None:
    sent = await post_change(sender, url, [secret], change)
    outcome = sent.status if sent.status is not None else sent.error
    print(f"{clock.rfc_3339(clock.now())}  {change.type:20}  {change.id}  {outcome}", flush=True)
