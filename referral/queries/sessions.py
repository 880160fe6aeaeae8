"""Sessions and their refresh tokens: statements of `sql/sessions.sql`."""

from dataclasses import dataclass
from typing import Any

from referral.database import Connection


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session that has not ended, and so who makes a request; `expires_at` in ms.

    A password change begins another generation. Of the former ones, the access tokens go on that came with the refresh token
    of the name `kept_refresh`.
    """

    user_id: str
    role: str
    session_id: str
    expires_at: int
    generation: int = 0
    kept_refresh: str = ""

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"

    def takes(self, generation: int, refresh: str) -> bool:
        """Whether an access token of this generation, issued with the refresh token of this name, is still good."""
        return generation == self.generation or (bool(refresh) and refresh == self.kept_refresh)

    def keeps(self, refresh_hash: str) -> bool:
        """Whether the refresh token with this hash is the one that went on after the latest change of the password."""
        return bool(self.kept_refresh) and refresh_hash.startswith(self.kept_refresh)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a session was last used from: an address, and what the client says of itself; None where nobody knows."""

    address: str | None
    client: str | None


@dataclass(frozen=True, slots=True)
class Session:
    """What its owner is shown of a session; times in ms."""

    id: str
    created_at: int
    last_used_at: int
    expires_at: int
    address: str | None
    client: str | None


@dataclass(frozen=True, slots=True)
class UsedRefreshToken:
    """`used_at` (ms) is the time of its first use, and `uses` how many there were, this one included."""

    session_id: str
    used_at: int
    uses: int


async def insert_session(
    conn: Connection, session_id: str, user_id: str, password_hash: str, now: int, expires_at: int, origin: Origin
) -> bool:
    """False when the account, or the password that was checked, is no more. The user is locked from here on."""
    inserted = await conn.value(
        "insert_session",
        str,
        password_hash=password_hash,
        **_session(session_id, user_id, now, expires_at, origin),
    )
    return inserted is not None


async def insert_first_session(
    conn: Connection, session_id: str, user_id: str, now: int, expires_at: int, origin: Origin
) -> None:
    """The session of an account that this transaction makes. This is deferred."""
    conn.defer("insert_first_session", **_session(session_id, user_id, now, expires_at, origin))


async def insert_session_of_user(
    conn: Connection, session_id: str, user_id: str, now: int, expires_at: int, origin: Origin
) -> bool:
    """False when the user is suspended or no more."""
    inserted = await conn.value("insert_session_of_user", str, **_session(session_id, user_id, now, expires_at, origin))
    return inserted is not None


def _session(session_id: str, user_id: str, now: int, expires_at: int, origin: Origin) -> dict[str, Any]:
    """What every statement that inserts a session is given."""
    return {
        "id": session_id,
        "user_id": user_id,
        "now": now,
        "expires_at": expires_at,
        "address": origin.address,
        "client": origin.client,
    }


async def find_live_session(conn: Connection, session_id: str, now: int) -> LiveSession | None:
    return await conn.one("find_live_session", LiveSession, session_id=session_id, now=now)


async def hold_live_session(conn: Connection, session_id: str, now: int) -> LiveSession | None:
    """As `find_live_session`, and lock the user: until the end of the transaction nobody else changes them or their code, or
    ends their sessions."""
    return await conn.one("hold_live_session", LiveSession, session_id=session_id, now=now)


async def extend_session(
    conn: Connection, token_hash: str, now: int, idle_ttl: int, session_ttl: int, origin: Origin
) -> LiveSession | None:
    """Move the expiry of a refresh token's live session; None when it has ended.

    It expires `idle_ttl` from now, at the latest `session_ttl` after it began; all in ms.
    """
    return await conn.one(
        "extend_session",
        LiveSession,
        token_hash=token_hash,
        now=now,
        idle_ttl=idle_ttl,
        session_ttl=session_ttl,
        address=origin.address,
        client=origin.client,
    )


async def list_sessions(conn: Connection, user_id: str, now: int, before: tuple[int, str], limit: int) -> list[Session]:
    """The user's live sessions begun before the cursor (time in ms, id), newest first."""
    return await conn.page(
        "list_sessions", Session, user_id=user_id, now=now, before_time=before[0], before_id=before[1], page_size=limit
    )


async def count_sessions(conn: Connection, user_id: str, now: int) -> int:
    return await conn.value("count_sessions", int, user_id=user_id, now=now) or 0


async def delete_session(conn: Connection, session_id: str) -> str | None:
    """End the session and return whose it was; None when there is none."""
    return await conn.value("delete_session", str, session_id=session_id)


async def delete_own_session(conn: Connection, user_id: str, session_id: str) -> bool:
    """False when the user has no such session."""
    return await conn.value("delete_own_session", str, user_id=user_id, session_id=session_id) is not None


async def delete_sessions_of_user(conn: Connection, user_id: str) -> list[str]:
    """End all of the user's sessions and return their ids."""
    return await conn.values("delete_sessions_of_user", str, user_id=user_id)


async def delete_other_sessions(conn: Connection, user_id: str, session_id: str) -> list[str]:
    """End the user's sessions but this one and return their ids."""
    return await conn.values("delete_other_sessions", str, user_id=user_id, session_id=session_id)


async def delete_expired_sessions(conn: Connection, now: int) -> None:
    await conn.run("delete_expired_sessions", now=now)


async def insert_refresh_token(conn: Connection, token_hash: str, session_id: str, now: int) -> None:
    """Of a session that this transaction has begun or extended. This is deferred."""
    conn.defer("insert_refresh_token", token_hash=token_hash, session_id=session_id, now=now)


async def use_refresh_token(conn: Connection, token_hash: str, now: int) -> UsedRefreshToken | None:
    """Mark the token used and tell when it first was; None for an unknown one."""
    return await conn.one("use_refresh_token", UsedRefreshToken, token_hash=token_hash, now=now)


async def begin_generation(conn: Connection, session_id: str, kept: str) -> None:
    """End the access tokens of the session but the one issued with the refresh token whose hash begins with these 16
    characters."""
    await conn.run("begin_generation", session_id=session_id, kept=kept)


async def delete_other_refresh_tokens(conn: Connection, session_id: str, kept: str) -> None:
    """End the refresh tokens of the session but the one whose hash begins with these 16 characters."""
    await conn.run("delete_other_refresh_tokens", session_id=session_id, kept=kept)


async def delete_used_refresh_tokens(conn: Connection, before: int) -> None:
    """Forget the tokens that were used before this time (ms)."""
    await conn.run("delete_used_refresh_tokens", before=before)


async def find_session_of_refresh_token(conn: Connection, token_hash: str) -> str | None:
    return await conn.value("find_session_of_refresh_token", str, token_hash=token_hash)
