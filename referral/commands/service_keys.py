"""Service keys, as an operator makes, lists and revokes them; beside running services, too."""

import argparse
import asyncio
import uuid

import orjson

from referral.auth.service_keys import new_key
from referral.auth.tokens import hash_token
from referral.clock import NEVER, now, rfc_3339
from referral.commands import Stop, changed, opened
from referral.config import Config, ConfigError
from referral.contract.schemas.service_keys import LONGEST_NAME
from referral.database import Connection, committed
from referral.database.migrate import migrate
from referral.ids import new_id
from referral.queries import audit, service_keys


def create_key(config: Config, arguments: argparse.Namespace) -> None:
    """Make a key of this name and scope, and print it alone: a script reads it. Raises ConfigError for a name that is
    none."""
    name = str(arguments.name).strip()
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise ConfigError("NAME", f"must be a line of 1 to {LONGEST_NAME} characters", "the command line")
    migrate(config.database.url)
    text, key_id = new_key(), new_id()

    async def create(conn: Connection) -> None:
        await service_keys.insert_service_key(conn, key_id, name, arguments.scope, hash_token(text), now())
        await _record(conn, "key-made", key_id=key_id, name=name, scope=arguments.scope)

    async def run() -> None:
        async with opened(config) as database:
            await committed(database, create)

    asyncio.run(run())
    print(text)


def list_keys(config: Config, arguments: argparse.Namespace) -> None:
    """List the keys that are not revoked, newest first."""

    async def find() -> list[service_keys.ServiceKey]:
        async with opened(config) as database, database.reader() as conn:
            return await service_keys.list_service_keys(conn, (NEVER, ""), await service_keys.count_service_keys(conn))

    found = asyncio.run(find())
    if not found:
        print("There is no service key.")
        return
    line = "{:36}  {:5}  {:20}  {:20}  {}"
    print(line.format("ID", "SCOPE", "SINCE", "LAST USED", "NAME"))
    for key in found:
        used = "never" if key.last_used_at is None else rfc_3339(key.last_used_at)
        print(line.format(key.id, key.scope, rfc_3339(key.created_at), used, key.name))


def revoke_key(config: Config, arguments: argparse.Namespace) -> None:
    """Revoke the key of this id: it is refused at its next request. Raises Stop for an unknown one."""

    async def revoke(conn: Connection) -> str:
        try:
            key = await service_keys.delete_service_key(conn, str(uuid.UUID(arguments.id)))
        except ValueError:
            key = None
        if key is None:
            raise Stop("There is no key with this id: `python run.py keys list` shows them.")
        await _record(conn, "key-revoked", key_id=key.id, name=key.name)
        return key.name

    print(f"The key {asyncio.run(changed(config, revoke))} is revoked.")


async def _record(conn: Connection, event: audit.EventName, **detail: str) -> None:
    facts = orjson.dumps(detail).decode()
    await audit.insert_event(conn, audit.Event(new_id(), now(), event, None, None, None, None, None, facts))
