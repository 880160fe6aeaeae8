"""The tokens of mailed links: statements of `sql/one_time_tokens.sql`."""

from dataclasses import dataclass
from typing import Literal

from referral.database import Connection

Purpose = Literal["verify-email", "change-email", "reset-password"]

VERIFY_EMAIL: Purpose = "verify-email"
CHANGE_EMAIL: Purpose = "change-email"
RESET_PASSWORD: Purpose = "reset-password"


@dataclass(frozen=True, slots=True)
class Link:
    """A mailed link that has not expired: whose it is, to which address it was mailed (None: to the account's own), when it
    was used (ms; None: not yet), and in which generation of the account it was asked for (None: that does not matter)."""

    user_id: str
    email: str | None
    used_at: int | None
    generation: int | None


@dataclass(frozen=True, slots=True)
class KeptLink:
    """What an export tells of a mailed link; times in ms."""

    purpose: str
    email: str | None
    created_at: int
    expires_at: int
    used_at: int | None


async def list_links(conn: Connection, user_id: str) -> list[KeptLink]:
    """The links of the account, used ones included."""
    return await conn.all("list_links", KeptLink, user_id=user_id)


async def insert_one_time_token(
    conn: Connection,
    token_hash: str,
    user_id: str,
    purpose: Purpose,
    email: str,
    generation: int | None,
    now: int,
    expires_at: int,
) -> None:
    """Keep the token of a link that is mailed to `email`, good until `expires_at` (ms)."""
    await conn.run(
        "insert_one_time_token",
        token_hash=token_hash,
        user_id=user_id,
        purpose=purpose,
        email=email,
        generation=generation,
        now=now,
        expires_at=expires_at,
    )


async def use_one_time_token(conn: Connection, token_hash: str, purpose: Purpose, now: int) -> Link | None:
    """Use the link of this token, once and for all; None when it is unknown, used or expired."""
    return await conn.one("use_one_time_token", Link, token_hash=token_hash, purpose=purpose, now=now)


async def find_one_time_token(conn: Connection, token_hash: str, purpose: Purpose, now: int) -> Link | None:
    """The link of this token, used or not; None when it is unknown or expired."""
    return await conn.one("find_one_time_token", Link, token_hash=token_hash, purpose=purpose, now=now)


async def forget_address_of_token(conn: Connection, token_hash: str) -> None:
    """Take the address off a link, which then can outlive its account's erasure."""
    await conn.run("forget_address_of_token", token_hash=token_hash)


async def delete_one_time_tokens(conn: Connection, user_id: str, purpose: Purpose) -> None:
    """Delete the user's links of this purpose that are not used."""
    await conn.run("delete_one_time_tokens", user_id=user_id, purpose=purpose)


async def leave_links(conn: Connection, user_id: str, purpose: Purpose, address_hash: str) -> None:
    """Leave the user's unused links of this purpose, all mailed to one address, to the next account that has the address
    with this keyed hash."""
    await conn.run("leave_links", user_id=user_id, purpose=purpose, address_hash=address_hash)


async def take_links_over(conn: Connection, user_id: str, email: str, current_hash: str, previous_hash: str) -> None:
    """Make the links the user's that were left under one of these hashes of their address. This is deferred."""
    conn.defer("take_links_over", user_id=user_id, email=email, current_hash=current_hash, previous_hash=previous_hash)


async def delete_one_time_tokens_of_user(conn: Connection, user_id: str) -> None:
    """Delete all links of the user that can be used, or that hold an address, but those that were left."""
    await conn.run("delete_one_time_tokens_of_user", user_id=user_id)


async def delete_expired_one_time_tokens(conn: Connection, now: int) -> None:
    await conn.run("delete_expired_one_time_tokens", now=now)
