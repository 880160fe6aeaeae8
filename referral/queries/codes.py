"""Codes: statements of `sql/codes.sql`."""

from collections.abc import Sequence
from dataclasses import dataclass

from referral.database import Connection, Row


@dataclass(frozen=True, slots=True)
class Code:
    """The owner's view. Times are in ms; `max_uses` is None for a code without a limit."""

    code: str
    created_at: int
    expires_at: int
    revoked_at: int | None
    max_uses: int | None
    uses: int

    def status(self, now: int) -> str:
        """active, expired, revoked or exhausted; what was ended stays revoked whatever else befalls it."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at <= now:
            return "expired"
        return "exhausted" if self.max_uses is not None and self.uses >= self.max_uses else "active"


@dataclass(frozen=True, slots=True)
class ActiveCode:
    """Everybody's view, and the key of the referrer's e-mail by which it is found, too."""

    code: str
    expires_at: int
    referrer_id: str
    referrer_username: str | None
    email_key: str


@dataclass(frozen=True, slots=True)
class OwnedCode:
    code: Code
    referrer_id: str


@dataclass(frozen=True, slots=True)
class CodeChange:
    """What an edit sets: an expiry in ms unless None, and the limit of uses (None: no limit) if `set_max_uses`."""

    expires_at: int | None
    set_max_uses: bool
    max_uses: int | None


async def insert_code(
    conn: Connection, code: str, referrer_id: str, created_at: int, expires_at: int, max_uses: int | None
) -> Code | None:
    """Make a code; None when its text is taken. Violates codes_one_unrevoked when the user has an unrevoked one."""
    row = await conn.one(
        "insert_code",
        code=code,
        referrer_id=referrer_id,
        created_at=created_at,
        expires_at=expires_at,
        max_uses=max_uses,
    )
    return Code(*row) if row else None


async def revoke_codes_in_the_way(conn: Connection, referrer_id: str, now: int, *, replace: bool) -> Sequence[Row]:
    """End what a new code puts aside: an expired or used-up one and, with `replace`, the current one. A row with the text of
    each, to be read when the transaction's next statement has run."""
    return await conn.later("revoke_codes_in_the_way", referrer_id=referrer_id, now=now, replace=int(replace))


async def find_active_code(conn: Connection, code: str, now: int) -> ActiveCode | None:
    row = await conn.one("find_active_code", code=code, now=now)
    return ActiveCode(*row) if row else None


async def find_active_code_by_email(conn: Connection, email_key: str, now: int) -> ActiveCode | None:
    row = await conn.one("find_active_code_by_email", email_key=email_key, now=now)
    return ActiveCode(*row) if row else None


async def find_code(conn: Connection, code: str) -> OwnedCode | None:
    """Any code, whatever became of it."""
    row = await conn.one("find_code", code=code)
    return OwnedCode(Code(*row[:-1]), row[-1]) if row else None


async def find_current_code(conn: Connection, referrer_id: str, now: int) -> Code | None:
    row = await conn.one("find_current_code", referrer_id=referrer_id, now=now)
    return Code(*row) if row else None


async def list_codes(conn: Connection, referrer_id: str, before: tuple[int, str], limit: int) -> list[Code]:
    """The user's codes made before the cursor (time in ms, text), newest first."""
    rows = await conn.all(
        "list_codes", referrer_id=referrer_id, before_time=before[0], before_code=before[1], page_size=limit
    )
    return [Code(*row) for row in rows]


async def count_codes(conn: Connection, referrer_id: str) -> int:
    row = await conn.one("count_codes", referrer_id=referrer_id)
    return int(row[0]) if row else 0


async def update_code(conn: Connection, code: str, owner_id: str | None, change: CodeChange) -> OwnedCode | None:
    """Edit an unrevoked code of the owner, or of anybody when `owner_id` is None. May violate codes_uses or codes_expiry."""
    row = await conn.one("update_code", code=code, owner_id=owner_id, **_parameters(change))
    return OwnedCode(Code(*row[:-1]), row[-1]) if row else None


async def update_current_code(conn: Connection, referrer_id: str, now: int, change: CodeChange) -> Code | None:
    row = await conn.one("update_current_code", referrer_id=referrer_id, now=now, **_parameters(change))
    return Code(*row) if row else None


def _parameters(change: CodeChange) -> dict[str, int | None]:
    return {
        "set_expiry": int(change.expires_at is not None),
        "expires_at": change.expires_at,
        "set_max_uses": int(change.set_max_uses),
        "max_uses": change.max_uses,
    }


async def revoke_code(conn: Connection, code: str, owner_id: str | None, now: int) -> OwnedCode | None:
    """End a code of the owner, or of anybody when `owner_id` is None. One that had ended before keeps its `revoked_at`."""
    row = await conn.one("revoke_code", code=code, owner_id=owner_id, now=now)
    return OwnedCode(Code(*row[:-1]), row[-1]) if row else None


async def revoke_current_code(conn: Connection, referrer_id: str, now: int) -> str | None:
    """End the user's current code and return its text."""
    return _text(await conn.one("revoke_current_code", referrer_id=referrer_id, now=now))


async def revoke_any_code(conn: Connection, referrer_id: str, now: int) -> str | None:
    """End whatever code of the user is unrevoked, expired or not, and return its text."""
    return _text(await conn.one("revoke_any_code", referrer_id=referrer_id, now=now))


def _text(row: Row | None) -> str | None:
    return row[0] if row else None


@dataclass(frozen=True, slots=True)
class UsedCode:
    code: str
    referrer_id: str
    exhausted: bool


async def use_code(conn: Connection, code: str, now: int) -> UsedCode | None:
    """Count one use of an active code; None when it is not active."""
    row = await conn.one("use_code", code=code, now=now)
    return UsedCode(row[0], row[1], row[2] == row[3]) if row else None
