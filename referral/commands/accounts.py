"""Accounts, as an operator changes them: admins are made and demoted, sessions ended, accounts suspended.

Each of these works beside running services, and holds for every request that begins after the command has ended.
"""

import argparse
import asyncio
import getpass
import sys
from contextlib import suppress
from typing import Any

import orjson
from marshmallow import ValidationError

from referral.auth.passwords import PasswordHasher
from referral.changes import announce, user_change
from referral.clock import now, rfc_3339
from referral.commands import Stop, changed, opened
from referral.config import Config, ConfigError
from referral.contract.problems import Problem
from referral.contract.schemas.fields import Email, NewUsername
from referral.database import Connection, ConstraintViolation, TransactionConflict
from referral.database.migrate import migrate
from referral.ids import new_id
from referral.links import Links
from referral.queries import audit, locks, second_factors, sessions, users
from referral.rules import suspension
from referral.rules.accounts import check_new_password, check_not_personal
from referral.rules.mailed_links import end_links
from referral.rules.named_user import id_of_named
from referral.rules.suspension import LONGEST_REASON
from referral.texts import EXTERNAL, email_key, key_of

SOURCE = "the command line"


def create_superuser(config: Config, arguments: argparse.Namespace) -> None:
    """Make an account with the role admin, or give an account that exists this role. The password is asked for, or read from
    standard input; an account that exists keeps its own if none is given. Raises Stop or ConfigError."""
    migrate(config.database.url)
    exists = asyncio.run(_exists(config, arguments.email))
    password = _read_password(optional=exists)
    email = asyncio.run(create_admin(config, arguments.email, arguments.username, password))
    print(f"{email} is an admin now.")


def _read_password(*, optional: bool) -> str | None:
    try:
        if sys.stdin is None:
            raise EOFError
        if sys.stdin.isatty():
            password = getpass.getpass("Password (none: it stays as it is): " if optional else "Password: ")
            if optional and not password:
                return None
            if password != getpass.getpass("Again: "):
                raise Stop("The passwords are not the same.")
            return password
        line = sys.stdin.buffer.readline()
        if not line:
            raise EOFError
        return line.decode().rstrip("\r\n")
    except EOFError:
        if optional:
            return None
        raise Stop("No password was given.") from None
    except UnicodeDecodeError:
        raise Stop("The password is not UTF-8.") from None


async def _exists(config: Config, email: str) -> bool:
    key = _key(email)
    async with opened(config) as database, database.reader() as conn:
        return key is not None and await users.find_contact_by_email(conn, key) is not None


def _key(email: str) -> str | None:
    """The key of an address; None for what is none."""
    try:
        return email_key(Email().deserialize(email))
    except (ValidationError, ValueError):
        return None


async def create_admin(config: Config, email: str, username: str | None, password: str | None) -> str:
    """Give the account of this address the role admin, making it if there is none, and return its address.

    With a password, an account that exists gets that, and its sessions end. Raises ConfigError for input that is not
    allowed, Stop for an account that has to be made without a password, or that is suspended.
    """
    try:
        address = Email().deserialize(email)
        name = NewUsername().deserialize(username) if username else None
        if password is not None:
            check_new_password(password, config, "/password")
            check_not_personal(password, "/password", address, name)
    except ValidationError as error:
        raise ConfigError("email or username", str(error.messages[0]), SOURCE) from None
    except Problem as problem:
        raise ConfigError("password", problem.members["errors"][0]["detail"], "standard input") from None
    new_hash = None
    if password is not None:
        hasher = PasswordHasher(config.auth.bcrypt_rounds)
        try:
            new_hash = await hasher.hash(password)
        finally:
            hasher.close()

    async def make(conn: Connection) -> str:
        contact = await _locked(conn, email_key(address))
        if contact is not None:
            await _promote(conn, contact, name, new_hash)
            return contact.email or address
        if new_hash is None:
            raise Stop("No password was given.")
        await _insert_admin(conn, address, name, new_hash, Links(config))
        return address

    try:
        return await changed(config, make)
    except ConstraintViolation as error:
        taken = "the username" if error.constraint == "users_username_key" else "the e-mail address"
        raise ConfigError("createsuperuser", f"{taken} is taken", SOURCE) from None


async def _insert_admin(conn: Connection, email: str, username: str | None, password_hash: str, links: Links) -> None:
    user = users.NewUser(
        id=new_id(),
        email=email,
        email_key=email_key(email),
        username=username,
        username_key=key_of(username) if username else None,
        password_hash=password_hash,
        role="admin",
        created_at=now(),
    )
    await users.insert_user(conn, user)
    # The operator vouches for the address, which no mail to it may take back.
    await users.verify_email(conn, user.id, None, user.created_at)
    await announce(conn, [await user_change(conn, "user.created", user.id, user.created_at, links)], user.created_at)
    await _record(conn, "admin-created", user.id)


async def _promote(conn: Connection, contact: users.Contact, username: str | None, new_hash: str | None) -> None:
    if contact.suspended_at is not None:
        raise Stop(f"{contact.email} is suspended: `python run.py users unsuspend` comes first.")
    if contact.email_verified_at is None and new_hash is None:
        raise Stop(
            f"{contact.email} is not verified, so that whoever made the account may be a stranger: give a password, which "
            "ends the sessions of whoever has the one of now."
        )
    if username is not None:
        await users.update_username(conn, contact.user_id, username, key_of(username))
        await _record(conn, "username-changed", contact.user_id)
    if new_hash is not None:
        found = await users.find_credentials_by_id(conn, contact.user_id)
        if found is None or not await users.update_password(conn, contact.user_id, found.password_hash, new_hash):
            raise Stop(f"{contact.email} has just been erased.")
        await end_links(conn, contact)
        await sessions.delete_sessions_of_user(conn, contact.user_id)
        await users.verify_email(conn, contact.user_id, None, now())
        await _record(conn, "password-changed", contact.user_id)
    if await users.update_role(conn, contact.user_id, "admin"):
        await _record(conn, "admin-promoted", contact.user_id)


def list_admins(config: Config, arguments: argparse.Namespace) -> None:
    """List the accounts with the role admin."""
    found = asyncio.run(find_admins(config))
    if not found:
        print("Nobody is an admin.")
        return
    line = "{:36}  {:20}  {:9}  {:20}  {}"
    print(line.format("ID", "SINCE", "STATUS", "USERNAME", "E-MAIL"))
    for admin in found:
        status = "suspended" if admin.suspended_at is not None else "active"
        print(line.format(admin.id, rfc_3339(admin.created_at), status, admin.username or "", admin.email))


async def find_admins(config: Config) -> list[users.Admin]:
    """All admins, the oldest account first."""
    async with opened(config) as database, database.reader() as conn:
        return await users.list_admins(conn)


def demote_admin(config: Config, arguments: argparse.Namespace) -> None:
    """Take the role admin from an account. Raises ConfigError for an unknown address."""

    async def demote(conn: Connection) -> str:
        contact = await _account(conn, arguments.email)
        if not await users.update_role(conn, contact.user_id, "user"):
            return f"{contact.email} is no admin."
        await _record(conn, "admin-demoted", contact.user_id)
        return f"{contact.email} is no admin any more."

    print(asyncio.run(changed(config, demote)))


def reset_second_factor(config: Config, arguments: argparse.Namespace) -> None:
    """Switch off the second factor of an account whose owner has lost it, and end the account's sessions. Raises ConfigError
    for an unknown address."""

    async def reset(conn: Connection) -> str:
        contact = await _account(conn, arguments.email)
        if await second_factors.delete_second_factor(conn, contact.user_id) is None:
            return f"{contact.email} has no second factor."
        await sessions.delete_sessions_of_user(conn, contact.user_id)
        await _record(conn, "second-factor-reset", contact.user_id)
        return f"{contact.email} has no second factor any more. All sessions of the account have ended."

    print(asyncio.run(changed(config, reset)))


def end_sessions(config: Config, arguments: argparse.Namespace) -> None:
    """End all sessions of an account, and the links that would open another or give it another address. Raises ConfigError
    for an unknown user."""

    async def end(conn: Connection) -> str:
        contact = await _user(conn, arguments.user)
        await end_links(conn, contact)
        ended = await sessions.delete_sessions_of_user(conn, contact.user_id)
        if ended:
            await _record(conn, "sessions-ended", contact.user_id, sessions=len(ended))
        return f"{len(ended)} {'session' if len(ended) == 1 else 'sessions'} of {_name(contact)} ended."

    print(asyncio.run(changed(config, end)))


def suspend_user(config: Config, arguments: argparse.Namespace) -> None:
    """Suspend an account: it signs in nowhere, its sessions and mailed links end, and its code is not active. Raises
    ConfigError for an unknown user or a reason that is none."""
    reason = str(arguments.reason).strip()
    if not reason or len(reason) > LONGEST_REASON or not reason.isprintable():
        raise ConfigError("--reason", f"must be a line of 1 to {LONGEST_REASON} characters", SOURCE)

    async def suspend(conn: Connection) -> str:
        contact = await _user(conn, arguments.user)
        if await suspension.suspend(conn, contact, reason, now(), Links(config)) is None:
            return f"{_name(contact)} is suspended already."
        await _record(conn, "account-suspended", contact.user_id, reason=reason)
        return f"{_name(contact)} is suspended."

    print(asyncio.run(changed(config, suspend)))


def unsuspend_user(config: Config, arguments: argparse.Namespace) -> None:
    """End an account's suspension: it may sign in again, and its code is what it was. Raises ConfigError for an unknown
    user."""

    async def unsuspend(conn: Connection) -> str:
        contact = await _user(conn, arguments.user)
        if not await suspension.unsuspend(conn, contact, now(), Links(config)):
            return f"{_name(contact)} is not suspended."
        await _record(conn, "account-unsuspended", contact.user_id)
        return f"{_name(contact)} is not suspended any more."

    print(asyncio.run(changed(config, unsuspend)))


async def _account(conn: Connection, email: str) -> users.Contact:
    """The account of this address, locked. Raises ConfigError."""
    key = _key(email)
    found = await _locked(conn, key) if key is not None else None
    if found is None:
        raise ConfigError("EMAIL", "there is no account with this address", SOURCE)
    return found


async def _user(conn: Connection, text: str) -> users.Contact:
    """The user of this address, id, or `ext:` and external id, locked. Raises ConfigError."""
    found = None
    if "@" in text and not text.startswith(EXTERNAL):
        key = _key(text)
        found = await _locked(conn, key) if key is not None else None
    else:
        with suppress(Problem):
            user_id = await id_of_named(conn, text)
            await locks.lock_user(conn, user_id)
            found = await users.find_contact(conn, user_id)
    if found is None:
        raise ConfigError("USER", "there is no such user", SOURCE)
    return found


def _name(contact: users.Contact) -> str:
    """What an operator calls the user."""
    return contact.email or contact.user_id


async def _locked(conn: Connection, key: str) -> users.Contact | None:
    """The account that has this address until the end of the transaction; None if there is none. Raises
    TransactionConflict."""
    found = await users.find_contact_by_email(conn, key)
    if found is None:
        return None
    await locks.lock_user(conn, found.user_id)
    contact = await users.find_contact_by_email(conn, key)
    if contact is None or contact.user_id != found.user_id:
        raise TransactionConflict("the address has just become another account's")
    return contact


async def _record(conn: Connection, event: audit.EventName, user_id: str, **detail: Any) -> None:
    facts = orjson.dumps(detail).decode()
    await audit.insert_event(conn, audit.Event(new_id(), now(), event, None, user_id, None, None, None, facts))
