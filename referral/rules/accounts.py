"""Rules of accounts that more than one endpoint applies: the API and the pages of mailed links."""

from aiohttp import web

from referral.auth.common_passwords import is_common
from referral.auth.identity import IDENTITY
from referral.auth.passwords import MAX_LENGTH, PASSWORDS
from referral.auth.tokens import hash_token
from referral.clock import now
from referral.config import CONFIG, Config
from referral.contract.problems import Problem, invalid
from referral.database import DATABASE, Connection
from referral.limits import ADDRESS, LIMITER
from referral.queries import one_time_tokens, outbox, sessions, users
from referral.queries.audit import EventName
from referral.rules.audit import record_refusal
from referral.rules.work import Work, work_on
from referral.texts import email_key, key_of

# A shorter name may well be part of a word that has nothing to do with it.
LEAST_NAME = 4


def check_new_password(password: str, config: Config, pointer: str) -> None:
    """Raises a problem for a password that is too short, is among the most common ones or, from a page's form, too long."""
    if len(password) < config.auth.password_min_length:
        raise invalid(pointer, f"Must have at least {config.auth.password_min_length} characters.")
    if len(password) > MAX_LENGTH:
        raise invalid(pointer, f"Must have at most {MAX_LENGTH} characters.")
    if is_common(password):
        raise invalid(pointer, "Must not be one of the passwords that everybody tries first.")


def check_not_personal(password: str, pointer: str, email: str, username: str | None) -> None:
    """Raises a problem for a password that holds, in any case, the username, the e-mail address or what is before its @."""
    for name in (email, email.rpartition("@")[0], username or ""):
        if len(name) >= LEAST_NAME and key_of(name) in key_of(password):
            raise invalid(pointer, "Must not hold the username or the e-mail address.")


def wrong_password() -> Problem:
    """For whoever is signed in and does not know the account's password."""
    return Problem("wrong-password", "The password is not the account's.")


async def check_own_password(request: web.Request, password: str, refusal: EventName) -> tuple[users.Contact, str]:
    """The contact of whoever is signed in, and the hash of their password, which is the one given.

    Raises a problem for a wrong password, which is recorded as `refusal` and counted by user from wherever it comes: a
    stolen access token must not help to find the password out. Right ones are not counted, nor is the owner's sign-in.
    """
    app, me = request.app, request[IDENTITY]
    async with app[LIMITER].guess("login_by_account", me.user_id) as was_wrong:
        async with app[DATABASE].reader() as conn:
            contact = await users.find_contact(conn, me.user_id)
            found = await users.find_credentials_by_id(conn, me.user_id)
        if contact is None or found is None:
            raise erased()
        if not await app[PASSWORDS].check(password, found.password_hash, request[ADDRESS]):
            await was_wrong()
            await record_refusal(request, refusal)
            raise wrong_password()
    return contact, found.password_hash


def erased() -> Problem:
    """For whoever is signed in to an account that is no more: it has ended since the session was looked up."""
    return Problem("unauthorized", "The account has just been erased.", headers={"WWW-Authenticate": "Bearer"})


def _link_refused() -> Problem:
    return Problem("token-invalid", "The link is unknown, was used already or has expired. Ask for another mail.")


async def confirm_email(request: web.Request, token: str) -> None:
    """Use the token of a mailed link to verify its account's address. Raises a problem for one that is not valid."""
    async with work_on(request) as work:
        user_id = await _use(work, token, one_time_tokens.VERIFY_EMAIL)
        if user_id is None or not await users.verify_email(work.conn, user_id, work.moment):
            raise _link_refused()
        await work.record("email-verified", actor=user_id)


async def _use(work: Work, token: str, purpose: one_time_tokens.Purpose) -> str | None:
    return await one_time_tokens.use_one_time_token(work.conn, hash_token(token), purpose, work.moment)


async def end_reset_links(conn: Connection, user_id: str, email: str) -> None:
    """From here on no link that was mailed, or waits to be, sets the account's password."""
    await one_time_tokens.delete_one_time_tokens(conn, user_id, one_time_tokens.RESET_PASSWORD)
    await outbox.delete_resets(conn, email_key(email))


async def confirm_reset(request: web.Request, token: str, new_password: str) -> None:
    """Use the token of a mailed link to set a password; every session of the account ends.

    Raises a problem when the token is not valid or the password is not allowed. The token can still be used then.
    """
    app = request.app
    check_new_password(new_password, app[CONFIG], "/new_password")
    await app[LIMITER].hit("login_by_address", request[ADDRESS])
    # The token is looked at first: hashing a password for any token at all would be work that anybody can cause.
    async with app[DATABASE].reader() as conn:
        if not await one_time_tokens.find_one_time_token(conn, hash_token(token), one_time_tokens.RESET_PASSWORD, now()):
            raise _link_refused()
    new_hash = await app[PASSWORDS].hash(new_password, request[ADDRESS])
    async with work_on(request) as work:
        user_id = await _use(work, token, one_time_tokens.RESET_PASSWORD)
        if user_id is None or not await users.reset_password(work.conn, user_id, new_hash, work.moment):
            raise _link_refused()
        # From here on the answer depends on the account: only the holder of a valid link comes this far.
        contact = await users.find_contact(work.conn, user_id)
        assert contact is not None
        check_not_personal(new_password, "/new_password", contact.email, contact.username)
        await end_reset_links(work.conn, user_id, contact.email)
        work.ends_sessions(*await sessions.delete_sessions_of_user(work.conn, user_id))
        await work.record("password-reset", actor=user_id)
