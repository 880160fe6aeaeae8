"""Which signing key the database belongs to: statements of `sql/signing_keys.sql`."""

from dataclasses import dataclass

from referral.database import Connection


@dataclass(frozen=True, slots=True)
class ClaimingKey:
    """The fingerprints of the key that the database belongs to, and of the one before it."""

    fingerprint: str
    previous: str | None


async def claim_signing_key(conn: Connection, algorithm: str, fingerprint: str, now: int) -> None:
    """Let the database belong to this key, unless it belongs to one."""
    await conn.run("claim_signing_key", algorithm=algorithm, fingerprint=fingerprint, now=now)


async def find_signing_key(conn: Connection) -> ClaimingKey | None:
    return await conn.one("find_signing_key", ClaimingKey)


async def rotate_signing_key(conn: Connection, fingerprint: str, previous: str, now: int) -> None:
    """Let the database belong to this key if it belongs to `previous`."""
    await conn.run("rotate_signing_key", fingerprint=fingerprint, previous=previous, now=now)


async def accept_signing_key(conn: Connection, algorithm: str, fingerprint: str, now: int) -> None:
    """Let the database belong to this key, whichever it belonged to."""
    await conn.run("accept_signing_key", algorithm=algorithm, fingerprint=fingerprint, now=now)
