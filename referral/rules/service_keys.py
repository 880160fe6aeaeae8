"""Service keys, as admins make and revoke them."""

from aiohttp import web

from referral.auth.service_keys import new_key
from referral.auth.tokens import hash_token
from referral.contract.parameters import id_in_path
from referral.contract.problems import Problem
from referral.queries import service_keys
from referral.queries.service_keys import Scope, ServiceKey
from referral.rules.work import Work


class KeyMadeBefore(Exception):
    """There is a key of this id: the same form was sent twice."""


def no_such_key() -> Problem:
    return Problem("not-found", "There is no such key.")


def key_id_of(request: web.Request) -> str:
    """The id that the path names. Raises `not-found` for what is none."""
    return id_in_path(request, "key_id", no_such_key())


async def make_key(work: Work, key_id: str, name: str, scope: Scope) -> tuple[ServiceKey, str]:
    """Make a key of this id, and return it with its text, of which the service keeps a hash. Raises KeyMadeBefore."""
    await work.hold_caller()
    text = new_key()
    key = ServiceKey(key_id, name, scope, work.moment, None)
    if not await service_keys.insert_service_key(work.conn, key.id, name, scope, hash_token(text), work.moment):
        raise KeyMadeBefore
    await work.record("key-made", key_id=key.id, name=name, scope=scope)
    return key, text


async def revoke_key(work: Work, key_id: str) -> None:
    """Revoke a key: its next request is refused. Raises `not-found`."""
    await work.hold_caller()
    key = await service_keys.delete_service_key(work.conn, key_id)
    if key is None:
        raise no_such_key()
    work.ends_key(key.id)
    work.ends_sessions(key.key_hash)
    await work.record("key-revoked", key_id=key.id, name=key.name)
