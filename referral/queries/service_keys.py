"""Service keys: statements of `sql/service_keys.sql`."""

from dataclasses import dataclass
from typing import Literal, get_args

from referral.clock import NEVER
from referral.database import Connection

# What a key may; each scope may what the ones before it may, too.
Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True, slots=True)
class LiveKey:
    """A key that has not been revoked, and so who makes a request; `last_used_at` in ms."""

    id: str
    name: str
    scope: str
    key_hash: str
    last_used_at: int | None

    @property
    def expires_at(self) -> int:
        return NEVER

    def may(self, scope: Scope) -> bool:
        """Whether the key has this scope, or one that comprises it."""
        return self.scope in SCOPES[SCOPES.index(scope) :]


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """What admins are shown of a key; times in ms."""

    id: str
    name: str
    scope: str
    created_at: int
    last_used_at: int | None


@dataclass(frozen=True, slots=True)
class DeletedKey(ServiceKey):
    key_hash: str


async def insert_service_key(conn: Connection, key_id: str, name: str, scope: Scope, key_hash: str, now: int) -> bool:
    """False where there is one of this id."""
    made = await conn.value("insert_service_key", str, id=key_id, name=name, scope=scope, key_hash=key_hash, now=now)
    return made is not None


async def find_service_key(conn: Connection, key_id: str) -> ServiceKey | None:
    return await conn.one("find_service_key", ServiceKey, id=key_id)


async def find_live_key(conn: Connection, key_hash: str) -> LiveKey | None:
    return await conn.one("find_live_key", LiveKey, key_hash=key_hash)


async def find_held_key(conn: Connection, key_id: str) -> bool:
    """Whether the key that makes a change is still there, at the change's end."""
    return await conn.value("find_held_key", str, id=key_id) is not None


async def list_service_keys(conn: Connection, before: tuple[int, str], limit: int) -> list[ServiceKey]:
    """The keys made before the cursor (time in ms, id), newest first."""
    return await conn.page("list_service_keys", ServiceKey, before_time=before[0], before_id=before[1], page_size=limit)


async def count_service_keys(conn: Connection) -> int:
    return await conn.value("count_service_keys", int) or 0


async def delete_service_key(conn: Connection, key_id: str) -> DeletedKey | None:
    """Revoke the key, and return what it was; None when there is none of this id."""
    return await conn.one("delete_service_key", DeletedKey, id=key_id)


async def touch_service_key(conn: Connection, key_id: str, now: int) -> None:
    """The key was used at this time (ms)."""
    await conn.run("touch_service_key", id=key_id, now=now)
