"""Codes: statements of `sql/codes.sql`.

A code is given by its text in upper case, or by any other that folds alike (`texts.fold_code`).
"""

from dataclasses import dataclass

from referral.database import Connection


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
    """Everybody's view, and the key of the referrer's e-mail by which it is found, too; None if by none."""

    code: str
    expires_at: int
    referrer_id: str
    referrer_username: str | None
    referrer_name: str | None
    email_key: str | None


@dataclass(frozen=True, slots=True)
class OwnedCode(Code):
    """A code, and whose it is."""

    referrer_id: str


@dataclass(frozen=True, slots=True)
class ToldCode(OwnedCode):
    """A code as it is announced; `suspended_at` (ms) is its owner's."""

    suspended_at: int | None


@dataclass(frozen=True, slots=True)
class CodeChange:
    """What an edit sets: an expiry in ms unless None, and the limit of uses (None: no limit) if `set_max_uses`."""

    expires_at: int | None
    set_max_uses: bool
    max_uses: int | None


async def insert_code(
    conn: Connection, code: str, referrer_id: str, created_at: int, expires_at: int, max_uses: int | None
) -> Code | None:
    """Make a code; None when its text, or one that folds alike, is taken, when the user has an unrevoked code, and when the
    user is no more. `users.increment_code_count` belongs into the same transaction."""
    return await conn.one(
        "insert_code",
        Code,
        code=code,
        referrer_id=referrer_id,
        created_at=created_at,
        expires_at=expires_at,
        max_uses=max_uses,
    )


async def revoke_codes_in_the_way(conn: Connection, referrer_id: str, now: int, *, replace: bool) -> list[Code]:
    """Revoke what a new code replaces, and return it: an expired or used-up code and, with `replace`, the current one."""
    return await conn.all("revoke_codes_in_the_way", Code, referrer_id=referrer_id, now=now, replace=int(replace))


async def find_active_code(conn: Connection, code: str, now: int, *, limited: bool) -> ActiveCode | None:
    """The active code of this text. If unverified addresses are `limited`, it is not found by one."""
    return await conn.one("find_active_code", ActiveCode, code=code, now=now, limited=int(limited))


async def find_active_code_by_email(conn: Connection, email_key: str, now: int, *, limited: bool) -> ActiveCode | None:
    """The active code of whoever has this address; if unverified ones are `limited`, of nobody with such a one."""
    return await conn.one("find_active_code_by_email", ActiveCode, email_key=email_key, now=now, limited=int(limited))


async def find_code(conn: Connection, code: str) -> OwnedCode | None:
    """Any code, whatever became of it."""
    return await conn.one("find_code", OwnedCode, code=code)


async def find_told_code(conn: Connection, code: str) -> ToldCode | None:
    """Any code, whatever became of it and of its owner."""
    return await conn.one("find_told_code", ToldCode, code=code)


async def find_current_code(conn: Connection, referrer_id: str, now: int) -> Code | None:
    return await conn.one("find_current_code", Code, referrer_id=referrer_id, now=now)


async def list_codes(conn: Connection, referrer_id: str, before: tuple[int, str], limit: int) -> list[Code]:
    """The user's codes made before the cursor (time in ms, text), newest first."""
    return await conn.page(
        "list_codes", Code, referrer_id=referrer_id, before_time=before[0], before_code=before[1], page_size=limit
    )


async def find_code_count(conn: Connection, referrer_id: str) -> int:
    """How many codes the user ever made."""
    return await conn.value("find_code_count", int, referrer_id=referrer_id) or 0


async def update_code(conn: Connection, code: str, owner_id: str | None, change: CodeChange) -> OwnedCode | None:
    """Edit an unrevoked code of the owner, or of anybody when `owner_id` is None. May violate codes_uses or codes_expiry."""
    return await conn.one("update_code", OwnedCode, code=code, owner_id=owner_id, **_parameters(change))


async def update_current_code(conn: Connection, referrer_id: str, now: int, change: CodeChange) -> Code | None:
    return await conn.one("update_current_code", Code, referrer_id=referrer_id, now=now, **_parameters(change))


def _parameters(change: CodeChange) -> dict[str, int | None]:
    return {
        "set_expiry": int(change.expires_at is not None),
        "expires_at": change.expires_at,
        "set_max_uses": int(change.set_max_uses),
        "max_uses": change.max_uses,
    }


async def revoke_code(conn: Connection, code: str, owner_id: str | None, now: int) -> OwnedCode | None:
    """End a code of the owner, or of anybody when `owner_id` is None. One that had ended before keeps its `revoked_at`."""
    return await conn.one("revoke_code", OwnedCode, code=code, owner_id=owner_id, now=now)


async def revoke_current_code(conn: Connection, referrer_id: str, now: int) -> Code | None:
    """End the user's current code and return it."""
    return await conn.one("revoke_current_code", Code, referrer_id=referrer_id, now=now)


async def revoke_any_code(conn: Connection, referrer_id: str, now: int) -> str | None:
    """End whatever code of the user is unrevoked, expired or not, and return its text."""
    return await conn.value("revoke_any_code", str, referrer_id=referrer_id, now=now)


@dataclass(frozen=True, slots=True)
class UsedCode(OwnedCode):
    """A code after one more use of it."""

    @property
    def is_exhausted(self) -> bool:
        return self.uses == self.max_uses


async def use_code(conn: Connection, code: str, now: int) -> UsedCode | None:
    """Count one use of an active code; None when it is not active."""
    return await conn.one("use_code", UsedCode, code=code, now=now)


async def take_use_back(conn: Connection, user_id: str) -> str | None:
    """Uncount the use of the code that the user came by, and return its text."""
    return await conn.value("take_use_back", str, user_id=user_id)
