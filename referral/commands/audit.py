"""The record of security events, printed."""

import argparse
import asyncio
import uuid
from dataclasses import asdict
from datetime import UTC, datetime

import orjson
from marshmallow import ValidationError

from referral.commands import opened
from referral.config import Config, ConfigError
from referral.contract.schemas.fields import Email
from referral.queries import audit, product_users, users
from referral.texts import EXTERNAL, email_key, optional_email_key


def print_audit(config: Config, arguments: argparse.Namespace) -> None:
    """Print the security events, newest first: who did what to whose account, when and from where."""
    found = asyncio.run(list_events(config, arguments.event, arguments.user, arguments.since, arguments.limit))
    for event in found:
        at = datetime.fromtimestamp(event.at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if arguments.json:
            print(orjson.dumps({**asdict(event), "at": at, "detail": orjson.loads(event.detail)}).decode())
            continue
        by = None if event.actor_id == event.user_id else event.actor_id
        facts = {
            "user": event.user_id,
            "by": by,
            "email": event.email,
            "address": event.address,
            "request": event.request_id,
        }
        words = [f"{name}={value}" for name, value in {**facts, **orjson.loads(event.detail)}.items() if value is not None]
        print(f"{at}  {event.event:23}", *words)
    if not found and not arguments.json:
        print("Nothing such was recorded.")


async def list_events(config: Config, event: str | None, user: str | None, since: int, limit: int) -> list[audit.Event]:
    """The latest security events since a time (ms), newest first: of one kind, or of one user by id, e-mail address, or
    `ext:` and external id.

    Raises ConfigError for a user that is none of these.
    """
    by_external_id = user is not None and user.startswith(EXTERNAL)
    by_email, key = user is not None and not by_external_id and "@" in user, None
    try:
        if by_email:
            key = email_key(Email().deserialize(user))
        elif user is not None and not by_external_id:
            user = str(uuid.UUID(user))
    except (ValueError, ValidationError):
        raise ConfigError(
            "--user", "must be an id, an e-mail address, or ext: and an external id", "the command line"
        ) from None
    async with opened(config) as database, database.reader() as conn:
        if user is None:
            return await audit.find_events(conn, event, since, limit)
        if by_external_id:
            user = await product_users.find_user_id_by_external_id(conn, user.removeprefix(EXTERNAL))
            if user is None:
                raise ConfigError("--user", "nobody has this external id", "the command line")
        find = users.find_contact_by_email if by_email else users.find_contact
        contact = await find(conn, key or user)
        user_id = contact.user_id if contact else None if by_email else user
        if contact:
            key = optional_email_key(contact.email)
        return await audit.find_events_of_user(conn, user_id, key or user, event, since, limit)
