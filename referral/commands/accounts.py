"""What an operator does from the command line."""

import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from marshmallow import ValidationError

from referral import queries
from referral.auth.passwords import PasswordHasher
from referral.clock import now
from referral.config import Config, ConfigError
from referral.contract.problems import Problem
from referral.contract.schemas.fields import Email, Username
from referral.database import ConstraintViolation, Database, open_database
from referral.database.migrate import refuse_unmigrated
from referral.ids import new_id
from referral.queries import audit, outbox, users
from referral.rules.accounts import check_new_password, check_not_personal
from referral.texts import key_of


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
    database = await open_database(config.database.url, queries.records())
    try:
        user = users.NewUser(
            id=new_id(),
            email=address,
            email_key=key_of(address),
            username=name,
            username_key=key_of(name) if name else None,
            password_hash=await hasher.hash(password),
            role="admin",
            created_at=now(),
        )
        async with database.transaction() as conn:
            await users.insert_user(conn, user)
            made = audit.Event(new_id(), now(), "admin-created", None, user.id, None, None, None, "{}")
            await audit.insert_event(conn, made)
    except ConstraintViolation as error:
        taken = "the username" if error.constraint == "users_username_key" else "the e-mail address"
        raise ConfigError("createsuperuser", f"{taken} is taken", source) from None
    finally:
        await database.close()
        hasher.close()
    return address


@asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[Database]:
    refuse_unmigrated(config.database.url)
    database = await open_database(config.database.url, queries.records())
    try:
        yield database
    finally:
        await database.close()


async def list_events(config: Config, event: str | None, user: str | None, since: int, limit: int) -> list[audit.Event]:
    """The latest security events since a time (ms), newest first: of one kind, or of one user by id or e-mail address.

    Raises ConfigError for a user that is neither.
    """
    by_email = user is not None and "@" in user
    if user is not None and not by_email:
        try:
            user = str(uuid.UUID(user))
        except ValueError:
            raise ConfigError("--user", "must be an id or an e-mail address", "the command line") from None
    async with _opened(config) as database, database.reader() as conn:
        if user is None:
            return await audit.find_events(conn, event, since, limit)
        find = users.find_contact_by_email if by_email else users.find_contact
        contact = await find(conn, key_of(user) if by_email else user)
        user_id = contact.user_id if contact else None if by_email else user
        email_key = key_of(contact.email) if contact else key_of(user)
        return await audit.find_events_of_user(conn, user_id, email_key, event, since, limit)


async def list_mail(config: Config) -> list[outbox.QueuedMail]:
    """All mail that waits or failed, oldest first."""
    async with _opened(config) as database, database.reader() as conn:
        return await outbox.find_mail(conn)


async def retry_mail(config: Config, mail_ids: Collection[str]) -> int:
    """Make these mails or, without any, all that failed due again and return how many they are. Raises ConfigError for an
    unknown id, and then none is."""
    async with _opened(config) as database, database.transaction() as conn:
        if not mail_ids:
            return await outbox.retry_failed_mail(conn, now())
        for mail_id in mail_ids:
            if not await outbox.retry_mail(conn, mail_id, now()):
                raise ConfigError("outbox retry", f"there is no mail {mail_id}", "the command line")
        return len(mail_ids)
