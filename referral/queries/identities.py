"""Who users are at identity providers: statements of `sql/identities.sql`."""

from dataclasses import dataclass

from referral.clock import NEVER, SECOND
from referral.database import Connection


@dataclass(frozen=True, slots=True)
class LiveIdentity:
    """The user whom a token of the product's own names, and so who makes a request. Tokens issued until
    `suspension_ended_at` (ms) are good for nothing."""

    user_id: str
    suspension_ended_at: int | None

    @property
    def expires_at(self) -> int:
        return NEVER

    def takes(self, issued_at: int | None) -> bool:
        """Whether a token that was issued then (s) is still good: after the latest suspension had ended, to the second. One
        that does not say when it was issued may be as old as that."""
        ended_at = self.suspension_ended_at
        return ended_at is None or (issued_at is not None and (issued_at + 1) * SECOND > ended_at)

    @property
    def session_id(self) -> str:
        """Of none of our sessions."""
        return ""

    @property
    def is_admin(self) -> bool:
        # Whoever can sign such tokens must not become an admin here by them.
        return False


@dataclass(frozen=True, slots=True)
class Identity:
    """`created_at` in ms."""

    issuer: str
    subject: str
    created_at: int


async def find_live_identity(conn: Connection, issuer: str, subject: str) -> LiveIdentity | None:
    return await conn.one("find_live_identity", LiveIdentity, issuer=issuer, subject=subject)


async def find_live_external_user(conn: Connection, external_id: str) -> LiveIdentity | None:
    return await conn.one("find_live_external_user", LiveIdentity, external_id=external_id)


async def find_identity(conn: Connection, issuer: str, subject: str) -> str | None:
    """Whose identity it is, whatever became of that user."""
    return await conn.value("find_identity", str, issuer=issuer, subject=subject)


async def insert_identity(conn: Connection, issuer: str, subject: str, user_id: str, now: int) -> bool:
    """False when the subject is somebody already."""
    return (await conn.value("insert_identity", str, issuer=issuer, subject=subject, user_id=user_id, now=now)) is not None


async def list_identities(conn: Connection, user_id: str) -> list[Identity]:
    return await conn.all("list_identities", Identity, user_id=user_id)


async def delete_identities(conn: Connection, user_id: str) -> None:
    await conn.run("delete_identities", user_id=user_id)
