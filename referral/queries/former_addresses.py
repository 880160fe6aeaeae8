"""Addresses that an account had: statements of `sql/former_addresses.sql`."""

from referral.database import Connection


async def insert_former_address(conn: Connection, address_hash: str, now: int) -> None:
    """Keep the keyed hash of an address that an account has no more, from now on (ms)."""
    await conn.run("insert_former_address", address_hash=address_hash, now=now)


async def find_former_address(conn: Connection, current_hash: str, previous_hash: str, since: int) -> bool:
    """Whether an account had the address, of which these are the hashes by two keys, later than `since` (ms)."""
    found = await conn.value("find_former_address", int, current_hash=current_hash, previous_hash=previous_hash, since=since)
    return found is not None


async def delete_former_addresses(conn: Connection, before: int) -> None:
    """Forget what was left by then (ms)."""
    await conn.run("delete_former_addresses", before=before)
