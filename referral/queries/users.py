"""Accounts: statements of `sql/users.sql`."""

from dataclasses import dataclass

import orjson

from referral.database import Connection
from referral.queries.codes import Code


@dataclass(frozen=True, slots=True)
class NewUser:
    """An account to be made; the keys are the case-folded forms that make it unique."""

    id: str
    email: str
    email_key: str
    username: str | None
    username_key: str | None
    password_hash: str
    role: str
    created_at: int


@dataclass(frozen=True, slots=True)
class Account:
    """A user's own view; times in ms, `profile` and `metadata` as JSON texts. `signed_up_at` is the user's age as the
    product tells it."""

    id: str
    email: str | None
    email_verified_at: int | None
    username: str | None
    role: str
    created_at: int
    referral_count: int
    referrer_id: str | None
    referrer_username: str | None
    referrer_name: str | None
    code_text: str | None
    code_created_at: int | None
    code_expires_at: int | None
    code_revoked_at: int | None
    code_max_uses: int | None
    code_uses: int | None
    profile: str | None
    external_id: str | None
    name: str | None
    metadata: str | None
    signed_up_at: int | None
    suspended_at: int | None

    @property
    def code(self) -> Code | None:
        """The current code: neither revoked nor expired."""
        if self.code_text is None or self.code_created_at is None or self.code_expires_at is None or self.code_uses is None:
            return None
        return Code(
            self.code_text,
            self.code_created_at,
            self.code_expires_at,
            self.code_revoked_at,
            self.code_max_uses,
            self.code_uses,
        )


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a password is checked against. Whoever is put out of the account, by another password or by its operator, was
    there in a former `generation`. `has_second_factor` is 1 for one that is switched on, else 0."""

    user_id: str
    role: str
    password_hash: str | None
    generation: int = 0
    suspended_at: int | None = None
    has_second_factor: int = 0


@dataclass(frozen=True, slots=True)
class Contact:
    user_id: str
    email: str | None
    username: str | None
    email_verified_at: int | None
    suspended_at: int | None
    external_id: str | None = None


@dataclass(frozen=True, slots=True)
class Admin:
    """What the operator is shown of an admin; times in ms."""

    id: str
    email: str
    username: str | None
    created_at: int
    suspended_at: int | None


async def insert_user(conn: Connection, user: NewUser) -> None:
    """Make an account. Violates users_email_key or users_username_key when one of them is taken."""
    await conn.run(
        "insert_user",
        id=user.id,
        email=user.email,
        email_key=user.email_key,
        username=user.username,
        username_key=user.username_key,
        password_hash=user.password_hash,
        role=user.role,
        created_at=user.created_at,
    )


async def refuse_attribution(conn: Connection, user_id: str, now: int) -> None:
    """The user comes by nobody, now (ms) and later."""
    await conn.run("refuse_attribution", user_id=user_id, now=now)


async def is_attributable(conn: Connection, user_id: str) -> bool:
    """Whether the user can come by somebody."""
    return await conn.value("is_attributable", str, user_id=user_id) is not None


async def find_account(conn: Connection, user_id: str, now: int) -> Account | None:
    return await conn.one("find_account", Account, user_id=user_id, now=now)


async def find_accounts(conn: Connection, user_ids: list[str], now: int) -> list[Account]:
    """The accounts of these ids, in any order; those that are no more are left out."""
    return await conn.page("find_accounts", Account, user_ids=orjson.dumps(user_ids).decode(), now=now)


async def find_credentials_by_email(conn: Connection, email_key: str) -> Credentials | None:
    return await conn.one("find_credentials_by_email", Credentials, email_key=email_key)


async def find_credentials_by_username(conn: Connection, username_key: str) -> Credentials | None:
    return await conn.one("find_credentials_by_username", Credentials, username_key=username_key)


async def find_credentials_by_id(conn: Connection, user_id: str) -> Credentials | None:
    return await conn.one("find_credentials_by_id", Credentials, user_id=user_id)


async def find_contact(conn: Connection, user_id: str) -> Contact | None:
    return await conn.one("find_contact", Contact, user_id=user_id)


async def find_contact_by_email(conn: Connection, email_key: str) -> Contact | None:
    return await conn.one("find_contact_by_email", Contact, email_key=email_key)


async def find_referral_count(conn: Connection, user_id: str) -> int | None:
    """How many came by the user; None when there is no such user."""
    return await conn.value("find_referral_count", int, user_id=user_id)


async def update_username(conn: Connection, user_id: str, username: str | None, username_key: str | None) -> None:
    """Set or, with None, take away the username. Violates users_username_key when it is taken."""
    await conn.run("update_username", user_id=user_id, username=username, username_key=username_key)


async def update_password(conn: Connection, user_id: str, old_hash: str | None, new_hash: str) -> bool:
    """False when the password is no longer the one that was checked, or, with None, when there is one."""
    return await conn.value("update_password", str, user_id=user_id, old_hash=old_hash, new_hash=new_hash) is not None


async def reset_password(conn: Connection, user_id: str, email_key: str | None, new_hash: str, now: int) -> bool:
    """Set the password and take the address for verified: the link was read there. False when the account is no more, or has
    another address than the one of this key, unless that is None."""
    found = await conn.value("reset_password", str, user_id=user_id, email_key=email_key, new_hash=new_hash, now=now)
    return found is not None


async def verify_email(conn: Connection, user_id: str, email_key: str | None, now: int) -> bool:
    """Take the address for verified. False as `reset_password`."""
    return await conn.value("verify_email", str, user_id=user_id, email_key=email_key, now=now) is not None


async def take_address(conn: Connection, user_id: str) -> bool:
    """The account has no address from here on. False when it is verified, or the account is no more."""
    return await conn.value("take_address", str, user_id=user_id) is not None


async def take_password(conn: Connection, user_id: str) -> None:
    """The account has no password from here on."""
    await conn.run("take_password", user_id=user_id)


async def begin_account_generation(conn: Connection, user_id: str) -> None:
    """Whoever asked for a change of the account's address until now has asked in vain."""
    await conn.run("begin_account_generation", user_id=user_id)


async def update_email(conn: Connection, user_id: str, generation: int | None, email: str, email_key: str, now: int) -> bool:
    """Set an address that a link of this generation has proved. False when the account is in another one, suspended or no
    more. Violates users_email_key when the address is taken."""
    changed = await conn.value(
        "update_email", str, user_id=user_id, generation=generation, email=email, email_key=email_key, now=now
    )
    return changed is not None


async def increment_code_count(conn: Connection, user_id: str) -> None:
    """Count one more code of the user, in the transaction that inserts it. This is deferred."""
    conn.defer("increment_code_count", user_id=user_id)


async def add_to_referral_count(conn: Connection, user_id: str) -> None:
    """Count one more referral of a user who is locked. This is deferred."""
    conn.defer("add_to_referral_count", user_id=user_id)


async def increment_referral_count(conn: Connection, code: str) -> bool:
    """Count one more referral of the code's owner.

    False when there is no such code, or its owner is suspended. The code must not be used then, even if somebody makes it at
    this very moment.
    """
    return await conn.value("increment_referral_count", str, code=code) is not None


async def decrement_referral_count(conn: Connection, user_id: str) -> bool:
    """Take back what the user, who is referred, counts for at their referrer. False when nobody referred them."""
    return await conn.value("decrement_referral_count", str, user_id=user_id) is not None


async def erase_unverified_user(conn: Connection, user_id: str, now: int) -> bool:
    """As `erase_user`; False when the address is verified, or the account is no more."""
    return await conn.value("erase_unverified_user", str, user_id=user_id, now=now) is not None


async def erase_user(conn: Connection, user_id: str, old_hash: str | None, now: int) -> bool:
    """Take the personal data away for good; False when the account is no more, or its password no longer the one that was
    checked, if any was."""
    return await conn.value("erase_user", str, user_id=user_id, old_hash=old_hash, now=now) is not None


async def find_any_user(conn: Connection) -> str | None:
    """The id of somebody; None if there is nobody, nor ever was."""
    return await conn.value("find_any_user", str)


async def list_admins(conn: Connection) -> list[Admin]:
    """All admins, the oldest account first."""
    return await conn.all("list_admins", Admin)


async def update_role(conn: Connection, user_id: str, role: str) -> bool:
    """False when the account has the role already."""
    return await conn.value("update_role", str, user_id=user_id, role=role) is not None


async def suspend_user(conn: Connection, user_id: str, reason: str, now: int) -> bool:
    """False when the account is suspended already; the first time and reason stay."""
    return await conn.value("suspend_user", str, user_id=user_id, reason=reason, now=now) is not None


async def unsuspend_user(conn: Connection, user_id: str, now: int) -> bool:
    """False when the account is not suspended."""
    return await conn.value("unsuspend_user", str, user_id=user_id, now=now) is not None
