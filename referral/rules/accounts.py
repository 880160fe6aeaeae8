"""Rules of accounts that more than one endpoint applies."""

from typing import NamedTuple

from aiohttp import web

from referral.auth.common_passwords import is_common
from referral.auth.identity import IDENTITY
from referral.auth.passwords import MAX_LENGTH, PASSWORDS
from referral.config import Config
from referral.contract.problems import Problem, invalid
from referral.database import DATABASE
from referral.limits import LIMITER, asker_of
from referral.queries import referrals, users
from referral.queries.audit import EventName
from referral.rules.audit import record_refusal
from referral.texts import key_of

# A shorter name may well be part of a word that has nothing to do with it.
LEAST_NAME = 4

_SEPARATORS = str.maketrans("", "", "._-")


def check_new_password(password: str, config: Config, pointer: str) -> None:
    """Raises a problem for a password that is too short, is among the most common ones or, from a page's form, too long."""
    if len(password) < config.auth.password_min_length:
        raise invalid(pointer, f"Must have at least {config.auth.password_min_length} characters.")
    if len(password) > MAX_LENGTH:
        raise invalid(pointer, f"Must have at most {MAX_LENGTH} characters.")
    if is_common(password):
        raise invalid(pointer, "Must not be one of the passwords that everybody tries first.")


def check_not_personal(password: str, pointer: str, email: str | None, username: str | None) -> None:
    """Raises a problem for a password that holds, in any case, the username, the e-mail address or what is before its @."""
    for name in (email or "", (email or "").rpartition("@")[0], username or ""):
        if len(name) >= LEAST_NAME and key_of(name) in key_of(password):
            raise invalid(pointer, "Must not hold the username or the e-mail address.")


def wrong_password() -> Problem:
    """For whoever is signed in and does not know the account's password."""
    return Problem("wrong-password", "The password is not the account's.")


def account_of(user: users.NewUser, owner: referrals.Owner | None = None) -> users.Account:
    """An account that was just made, as its owner sees it, who came by the owner of a code or by nobody."""
    return users.Account(
        id=user.id,
        email=user.email,
        email_verified_at=None,
        username=user.username,
        role=user.role,
        created_at=user.created_at,
        referral_count=0,
        referrer_id=owner.id if owner else None,
        referrer_username=owner.username if owner else None,
        referrer_name=owner.name if owner else None,
        code_text=None,
        code_created_at=None,
        code_expires_at=None,
        code_revoked_at=None,
        code_max_uses=None,
        code_uses=None,
        profile=None,
        external_id=None,
        name=None,
        metadata=None,
        signed_up_at=None,
        suspended_at=None,
    )


async def own_contact(request: web.Request) -> users.Contact:
    """The contact of whoever is signed in. Raises a problem when the account has just been erased."""
    async with request.app[DATABASE].reader() as conn:
        contact = await users.find_contact(conn, request[IDENTITY].user_id)
    if contact is None:
        raise erased()
    return contact


class Proved(NamedTuple):
    """An account whose password somebody has just shown: the hash of it, and the account's generation then."""

    contact: users.Contact
    password_hash: str
    generation: int


async def check_own_password(request: web.Request, password: str, refusal: EventName) -> Proved:
    """The account of whoever is signed in, whose password is the one given.

    Raises a problem for a wrong password, which is recorded as `refusal` and counted by user from wherever it comes: a
    stolen access token must not help to find the password out. Right ones are not counted, nor is the owner's sign-in. An
    account without a password has none that is right.
    """
    app, me = request.app, request[IDENTITY]
    async with app[LIMITER].guess("login_by_account", me.user_id) as was_wrong:
        async with app[DATABASE].reader() as conn:
            contact = await users.find_contact(conn, me.user_id)
            found = await users.find_credentials_by_id(conn, me.user_id)
        if contact is None or found is None:
            raise erased()
        known = found.password_hash
        if not await app[PASSWORDS].check(password, known, asker_of(request)) or known is None:
            await was_wrong()
            await record_refusal(request, refusal)
            raise wrong_password()
    return Proved(contact, known, found.generation)


def check_not_reserved(username: str, config: Config, pointer: str = "/username") -> None:
    """Raises a problem for a username that is reserved, in any case, or with '.', '_' or '-' anywhere in it."""
    if is_reserved(username, config):
        raise invalid(pointer, "This name is reserved.")


def is_reserved(username: str, config: Config) -> bool:
    """Whether nobody may have this username."""
    return _bare(username) in map(_bare, config.auth.reserved_usernames)


def _bare(username: str) -> str:
    return key_of(username).translate(_SEPARATORS)


def erased() -> Problem:
    """For whoever is signed in to an account that is no more: it has ended since the session was looked up."""
    return Problem("unauthorized", "The account has just been erased.", headers={"WWW-Authenticate": "Bearer"})
