"""Accounts made from the command line."""

import argparse
import asyncio
import getpass
import sys

from marshmallow import ValidationError

from referral.auth.passwords import PasswordHasher
from referral.clock import now
from referral.commands import Stop, opened
from referral.config import Config, ConfigError
from referral.contract.problems import Problem
from referral.contract.schemas.fields import Email, Username
from referral.database import ConstraintViolation
from referral.database.migrate import migrate
from referral.ids import new_id
from referral.queries import audit, users
from referral.rules.accounts import check_new_password, check_not_personal
from referral.texts import email_key, key_of


def create_superuser(config: Config, arguments: argparse.Namespace) -> None:
    """Make an account with the role admin. The password is asked for, or read from standard input. Raises Stop or
    ConfigError."""
    try:
        if sys.stdin is None:
            raise EOFError
        if sys.stdin.isatty():
            password = getpass.getpass("Password: ")
            if password != getpass.getpass("Again: "):
                raise Stop("The passwords are not the same.")
        else:
            line = sys.stdin.buffer.readline()
            if not line:
                raise EOFError
            password = line.decode().rstrip("\r\n")
    except EOFError:
        raise Stop("No password was given.") from None
    except UnicodeDecodeError:
        raise Stop("The password is not UTF-8.") from None
    migrate(config.database.url)
    email = asyncio.run(create_admin(config, arguments.email, arguments.username, password))
    print(f"{email} is an admin now.")


async def create_admin(config: Config, email: str, username: str | None, password: str) -> str:
    """Make an account with the role admin and return its address. Raises ConfigError for input that is not allowed."""
    source = "the command line"
    try:
        address = Email().deserialize(email)
        name = Username().deserialize(username) if username else None
        check_new_password(password, config, "/password")
        check_not_personal(password, "/password", address, name)
    except ValidationError as error:
        raise ConfigError("email or username", str(error.messages[0]), source) from None
    except Problem as problem:
        raise ConfigError("password", problem.members["errors"][0]["detail"], "standard input") from None
    hasher = PasswordHasher(config.auth.bcrypt_rounds)
    try:
        user = users.NewUser(
            id=new_id(),
            email=address,
            email_key=email_key(address),
            username=name,
            username_key=key_of(name) if name else None,
            password_hash=await hasher.hash(password),
            role="admin",
            created_at=now(),
        )
        async with opened(config) as database, database.transaction() as conn:
            await users.insert_user(conn, user)
            made = audit.Event(new_id(), now(), "admin-created", None, user.id, None, None, None, "{}")
            await audit.insert_event(conn, made)
    except ConstraintViolation as error:
        taken = "the username" if error.constraint == "users_username_key" else "the e-mail address"
        raise ConfigError("createsuperuser", f"{taken} is taken", source) from None
    finally:
        hasher.close()
    return address
