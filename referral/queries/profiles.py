"""Profiles, and the look-ups that wait to be made: statements of `sql/profiles.sql`."""

from dataclasses import dataclass

from referral.database import Connection


@dataclass(frozen=True, slots=True)
class Lookup:
    """A look-up to be made; `created_at` is in ms, `attempts` counts this one."""

    user_id: str
    created_at: int
    attempts: int


async def insert_lookup(conn: Connection, user_id: str, now: int) -> None:
    """Queue a look-up in the caller's transaction: it is made if and only if that is committed. It replaces one that
    waits."""
    await conn.run("insert_lookup", user_id=user_id, now=now)


async def claim_lookups(conn: Connection, now: int, lease_until: int, batch_size: int) -> list[Lookup]:
    """Take what is due until `lease_until` (ms), when it is due again unless it was deleted or postponed."""
    return await conn.all("claim_lookups", Lookup, now=now, lease_until=lease_until, batch_size=batch_size)


async def postpone_lookup(conn: Connection, user_id: str, next_attempt_at: int) -> None:
    await conn.run("postpone_lookup", user_id=user_id, next_attempt_at=next_attempt_at)


async def delete_lookup(conn: Connection, user_id: str, created_at: int | None = None) -> bool:
    """Take the look-up away that was queued then (ms), or any. False when it is gone: another worker made it, the address
    was changed, or the account was erased. Only a True allows `insert_profile`."""
    return await conn.value("delete_lookup", str, user_id=user_id, created_at=created_at) is not None


async def find_next_lookup_time(conn: Connection) -> int | None:
    """When the next look-up is due (ms); None when none waits."""
    return await conn.value("find_next_lookup_time", int)


async def insert_profile(conn: Connection, user_id: str, provider: str, profile: str, now: int) -> None:
    """Keep what the provider knows of a user, as JSON text. Call it after `delete_lookup`, in the same transaction."""
    await conn.run("insert_profile", user_id=user_id, provider=provider, profile=profile, now=now)


async def delete_profile(conn: Connection, user_id: str) -> None:
    """After `delete_lookup` or `insert_lookup`: no look-up that was queued before stores one any more."""
    await conn.run("delete_profile", user_id=user_id)
