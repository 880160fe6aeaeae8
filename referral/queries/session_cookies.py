"""Sessions of the back office, held by a cookie: statements of `sql/session_cookies.sql`."""

from dataclasses import dataclass

from referral.database import Connection
from referral.queries.sessions import LiveSession, Origin


@dataclass(frozen=True, slots=True)
class CookieSession(LiveSession):
    """A live session that a cookie holds; `last_used_at` in ms, to the minute, `has_second_factor` 0 or 1."""

    last_used_at: int = 0
    has_second_factor: int = 0


async def insert_session_cookie(conn: Connection, token_hash: str, session_id: str, now: int) -> None:
    """Let a cookie hold a session that this transaction has begun. This is deferred."""
    conn.defer("insert_session_cookie", token_hash=token_hash, session_id=session_id, now=now)


async def find_session_of_cookie(conn: Connection, token_hash: str, now: int) -> CookieSession | None:
    return await conn.one("find_session_of_cookie", CookieSession, token_hash=token_hash, now=now)


async def touch_session(
    conn: Connection, session_id: str, now: int, before: int, idle_ttl: int, session_ttl: int, origin: Origin
) -> None:
    """The session is used now, by whom the origin says, unless it was used after `before`. It expires `idle_ttl` from now,
    at the latest `session_ttl` after it began; all in ms."""
    await conn.run(
        "touch_session",
        session_id=session_id,
        now=now,
        before=before,
        idle_ttl=idle_ttl,
        session_ttl=session_ttl,
        address=origin.address,
        client=origin.client,
    )
