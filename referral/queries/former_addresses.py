"""Addresses that an account had: statements of `sql/former_addresses.sql`."""

from referral.database import Connection


async def insert_former_address(conn: Connection, address_hash: str, user_id: str | None, now: int) -> None:
    """Keep the keyed hash of an address that an account has no more, from now on (ms); `user_id` is the account if it lives
    on."""
    await conn.run("insert_former_address", address_hash=address_hash, user_id=user_id, now=now)


async def find_former_address(conn: Connection, current_hash: str, previous_hash: str, user_id: str, since: int) -> bool:
    """Whether an account but this user's had the address, of which these are the hashes by two keys, later than `since`
    (ms)."""
    found = await conn.value(
        "find_former_address",
        int,
        current_hash=current_hash,
        previous_hash=previous_hash,
        user_id=user_id,
        since=since,
    )
    return found is not None


async def disown_former_addresses(conn: Connection, user_id: str) -> None:
    """Forget which account left its former addresses: it ends."""
    await conn.run("disown_former_addresses", user_id=user_id)


async def delete_former_addresses(conn: Connection, before: int) -> None:
    """Forget what was left by then (ms)."""
    await conn.run("delete_former_addresses", before=before)
