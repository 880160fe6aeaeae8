"""Users as the product names and describes them: made, and changed, by a call of its own or with an event.

What the product does not say stays as it is. Where two users would have the same address, name or id, the schema refuses it.
"""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from referral.auth.identity import IDENTITY, KEY, caller_of
from referral.clock import SECOND
from referral.config import CONFIG
from referral.contract.problems import Problem, invalid
from referral.database import DATABASE, ConstraintViolation, TransactionConflict
from referral.ids import new_id
from referral.queries import audit, locks, outbox, product_users, users
from referral.queries.product_users import ProductUser
from referral.rules.accounts import check_not_reserved
from referral.rules.enriching import look_profile_up, look_verified_profile_up
from referral.rules.former_addresses import is_known, is_known_id, remember
from referral.rules.mailed_links import end_links
from referral.rules.named_user import no_such_user
from referral.rules.product_tokens import end_product_tokens
from referral.rules.strangers_out import put_stranger_out
from referral.rules.suspecting import suspect_description
from referral.rules.work import Work
from referral.texts import key_of, name_key, optional_email_key

# How far in the future a time may lie that another machine's clock says (ms).
CLOCK_LEEWAY = 300 * SECOND
# The rules of the schema that a description may break.
UNIQUE = ("users_email_key", "users_username_key", "users_external_id")


class Taken(Exception):
    """A user could not get what somebody else has."""

    def __init__(self, constraint: str, wanted: ProductUser) -> None:
        super().__init__(constraint)
        self.constraint = constraint
        self.wanted = wanted


@asynccontextmanager
async def naming_holders(request: web.Request) -> AsyncIterator[None]:
    """Whoever changes users in the block is told who else has what they asked for: a problem with the other's `user_id`."""
    try:
        yield
    except Taken as taken:
        holder = await holder_of(request, taken)
        raise _problem_of(taken.constraint, {"user_id": holder} if holder else {}) from None


async def holder_of(request: web.Request, taken: Taken) -> str | None:
    """The id of the user who has what could not be had. The transaction must be over: PostgreSQL answers nothing more in one
    that broke a rule."""
    wanted = taken.wanted
    async with request.app[DATABASE].reader() as conn:
        return await product_users.find_holder(
            conn,
            wanted.id,
            email_key=optional_email_key(wanted.email) if taken.constraint == "users_email_key" else None,
            username_key=key_of(wanted.username or "") if taken.constraint == "users_username_key" else None,
            external_id=wanted.external_id if taken.constraint == "users_external_id" else None,
        )


def _problem_of(constraint: str, members: dict[str, Any]) -> Problem:
    if constraint == "users_email_key":
        return Problem("email-taken", "Another user has this e-mail address.", **members)
    if constraint == "users_username_key":
        return Problem("username-taken", "Another user has this username.", **members)
    return Problem("external-id-taken", "Another user has this external id.", **members)


async def lock_known(work: Work, user_id: str) -> ProductUser:
    """The user of this id, who is locked. Raises `not-found`."""
    await locks.lock_user(work.conn, user_id)
    found = await product_users.find_product_user(work.conn, user_id)
    if found is None:
        raise no_such_user()
    return found


async def lock_or_make(work: Work, external_id: str) -> tuple[ProductUser, bool]:
    """The user of this external id, who is locked, and whether this transaction made them."""
    user_id = await product_users.lock_user_by_external_id(work.conn, external_id)
    if user_id is None:
        made = ProductUser(new_id(), external_id, work.moment)
        if await product_users.insert_product_user(work.conn, made.id, external_id, work.moment):
            work.announce_user("user.created", made.id)
            if caller_of(work.request):
                await work.record("registered", user=made.id)
            if await is_known_id(work, external_id):
                await users.refuse_attribution(work.conn, made.id, work.moment)
                made = replace(made, unattributable_at=work.moment)
            return made, True
        # Of many requests at once another one made the user.
        user_id = await product_users.lock_user_by_external_id(work.conn, external_id)
    found = await product_users.find_product_user(work.conn, user_id) if user_id is not None else None
    if found is None or found.external_id != external_id:
        raise TransactionConflict("the user has just been erased, or given another external id")
    return found, False


async def lock_named(work: Work, named: dict[str, Any]) -> tuple[ProductUser, bool]:
    """The user whom an event names by `id` or `external_id`, who is locked, and whether this transaction made them. Raises
    `not-found`."""
    if "external_id" in named:
        return await lock_or_make(work, named["external_id"])
    return await lock_known(work, id_of(named)), False


def id_of(named: dict[str, Any]) -> str:
    """Our id of a user whom an event names by it. Raises `not-found` for what is none."""
    try:
        return str(uuid.UUID(named["id"]))
    except ValueError:
        raise no_such_user() from None


async def check_role(work: Work, user_id: str) -> None:
    """Raises as `check_not_admins`; and for an admin's own account, whose calls ask for the password: a stolen token must
    not do without."""
    identity = work.request.get(IDENTITY)
    if identity is not None and identity.user_id == user_id:
        raise Problem("forbidden", "This is your own account: /users/me and /auth have its calls.")
    await check_not_admins(work, user_id)


async def check_not_admins(work: Work, user_id: str) -> None:
    """Raises `forbidden` where a key of a lesser scope would get hold of an admin's account, and so of more than it may."""
    key = work.request.get(KEY)
    if key is None or key.may("admin"):
        return
    found = await users.find_credentials_by_id(work.conn, user_id)
    if found is not None and found.role == "admin":
        raise Problem("forbidden", "This user is an admin: that takes a key of the scope admin.")


async def describe(work: Work, user: ProductUser, members: dict[str, Any], pointer: str = "") -> ProductUser:
    """Change what the product says of a user, who is locked, and return them as they are then.

    `members` are those of UserDescriptionSchema that were given; `pointer` is where they lie in the request's body. Raises a
    problem for what cannot be so, and Taken.
    """
    wanted = _described(work, user, members, pointer)
    if wanted == user:
        return user
    if wanted.username is not None and wanted.username != user.username:
        check_not_reserved(wanted.username, work.request.app[CONFIG], f"{pointer}/username")
    await check_role(work, user.id)
    key, former_key = optional_email_key(wanted.email), optional_email_key(user.email)
    if key != former_key and user.email is not None:
        # Links first, as wherever an account's address goes (`mailed_links.py`).
        await _leave_address(work, user)
    elif await _is_spoken_for(work, user, wanted):
        await put_stranger_out(work, contact_of(user))
        left = await product_users.find_product_user(work.conn, user.id)
        if left is not None:
            wanted = replace(
                wanted, referrer_id=left.referrer_id, referral_code=left.referral_code, joined_at=left.joined_at
            )
    try:
        await product_users.update_product_user(
            work.conn,
            wanted,
            key,
            key_of(wanted.username) if wanted.username is not None else None,
            name_key(wanted.name) if wanted.name is not None else None,
        )
    except ConstraintViolation as violation:
        if violation.constraint in UNIQUE:
            raise Taken(violation.constraint, wanted) from None
        raise
    if wanted.external_id != user.external_id:
        await end_product_tokens(work, user.id, user.external_id)
    await _record_changes(work, user, wanted)
    if key != former_key:
        wanted = await _begin_address(work, wanted)
    elif wanted.email_verified_at is not None and user.email_verified_at is None:
        await look_verified_profile_up(work, user.id)
    if key != former_key or wanted.external_id != user.external_id:
        await suspect_description(work, wanted)
    if _shown(wanted) != _shown(user):
        await work.invalidate_code_of(user.id)
    return wanted


async def _is_spoken_for(work: Work, user: ProductUser, wanted: ProductUser) -> bool:
    """Whether the product says for the first time whose account this is. Whoever has the password of an account may have
    made it with an address that is not theirs, until the address is verified."""
    if user.email_verified_at is not None:
        return False
    is_named = user.external_id is None and wanted.external_id is not None
    if not is_named and wanted.email_verified_at is None:
        return False
    account = await users.find_credentials_by_id(work.conn, user.id)
    return account is not None and account.password_hash is not None


async def _record_changes(work: Work, former: ProductUser, user: ProductUser) -> None:
    if user.external_id != former.external_id:
        await work.record("external-id-changed", user=user.id)
    if former.username is not None and user.username != former.username:
        await work.record("username-changed", user=user.id)
    if former.email is not None and former.email_verified_at is None and user.email_verified_at is not None:
        await work.record("email-verified", user=user.id)


def contact_of(user: ProductUser) -> users.Contact:
    """What suspensions, mails and erasures ask of the user."""
    return users.Contact(user.id, user.email, user.username, user.email_verified_at, user.suspended_at, user.external_id)


def _shown(user: ProductUser) -> tuple[str | int | None, ...]:
    """What decides how the user's code is found, and what everybody sees with it."""
    return user.email, user.email_verified_at, user.username, user.name


def _described(work: Work, user: ProductUser, members: dict[str, Any], pointer: str) -> ProductUser:
    email = members.get("email", user.email)
    is_same = optional_email_key(email) == optional_email_key(user.email)
    verified_at = user.email_verified_at if is_same else None
    if "email_verified" in members:
        verified_at = (verified_at or work.moment) if members["email_verified"] else None
        if email is None and verified_at is not None:
            raise invalid(f"{pointer}/email_verified", "There is no e-mail address that could be verified.")
    signed_up_at = members.get("created_at", user.signed_up_at)
    if signed_up_at is not None and not 0 <= signed_up_at <= work.moment + CLOCK_LEEWAY:
        raise invalid(f"{pointer}/created_at", "Must not be in the future, nor before 1970.")
    metadata = user.metadata
    if "metadata" in members:
        metadata = orjson.dumps(members["metadata"]).decode() if members["metadata"] else None
    return replace(
        user,
        external_id=members.get("external_id", user.external_id),
        email=email,
        email_verified_at=verified_at,
        username=members.get("username", user.username),
        name=members.get("name", user.name),
        metadata=metadata,
        signed_up_at=signed_up_at,
    )


async def _leave_address(work: Work, user: ProductUser) -> None:
    """The user has this address no more."""
    contact = contact_of(user)
    # What waits to be mailed there is not for the user any more.
    await outbox.delete_mail_of_kind(work.conn, user.id, outbox.VERIFY_EMAIL)
    await end_links(work.conn, contact)
    await remember(work, contact, lives_on=True)
    former_key = optional_email_key(user.email)
    if former_key is not None:
        await audit.adopt_events(work.conn, user.id, former_key)
    await work.record("email-changed", user=user.id)


async def _begin_address(work: Work, user: ProductUser) -> ProductUser:
    """The user has another address now, or none."""
    if user.email is None:
        return user
    if user.email_verified_at is not None or not work.request.app[CONFIG].limits_unverified:
        await look_profile_up(work, user.id)
    is_free = user.referrer_id is None and user.unattributable_at is None
    if is_free and await is_known(work, user.email, user.id):
        await users.refuse_attribution(work.conn, user.id, work.moment)
        return replace(user, unattributable_at=work.moment)
    return user
