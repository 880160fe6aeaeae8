"""The tokens of mailed links: statements of `sql/one_time_tokens.sql`."""

from typing import Literal

from referral.database import Connection

Purpose = Literal["verify-email", "reset-password"]

VERIFY_EMAIL: Purpose = "verify-email"
RESET_PASSWORD: Purpose = "reset-password"


async def insert_one_time_token(
    conn: Connection, token_hash: str, user_id: str, purpose: Purpose, now: int, expires_at: int
) -> None:
    await conn.run(
        "insert_one_time_token",
        token_hash=token_hash,
        user_id=user_id,
        purpose=purpose,
        now=now,
        expires_at=expires_at,
    )


async def use_one_time_token(conn: Connection, token_hash: str, purpose: Purpose, now: int) -> str | None:
    """The id of the user whose token it was; it is gone after this. None when it is unknown, used or expired."""
    return await conn.value("use_one_time_token", str, token_hash=token_hash, purpose=purpose, now=now)


async def find_one_time_token(conn: Connection, token_hash: str, purpose: Purpose, now: int) -> bool:
    """Whether there is such a token that is neither used nor expired."""
    return await conn.value("find_one_time_token", str, token_hash=token_hash, purpose=purpose, now=now) is not None


async def delete_one_time_tokens(conn: Connection, user_id: str, purpose: Purpose) -> None:
    await conn.run("delete_one_time_tokens", user_id=user_id, purpose=purpose)


async def delete_one_time_tokens_of_user(conn: Connection, user_id: str) -> None:
    await conn.run("delete_one_time_tokens_of_user", user_id=user_id)


async def delete_expired_one_time_tokens(conn: Connection, now: int) -> None:
    await conn.run("delete_expired_one_time_tokens", now=now)
