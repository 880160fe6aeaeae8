"""Whom a token of the product's own names: found, made at their first call, or joined to the account that has their address.

An identity provider that has verified an address speaks for it. If the account with this address has verified it, too, it
is the same person's. If it has not, a stranger may have made it to wait for its owner (pre-hijacking): it is joined, but
whatever the stranger may have left there ends.
"""

from dataclasses import replace
from typing import Any

from aiohttp import web
from marshmallow import ValidationError

from referral.auth.issuers import Claims
from referral.config import CONFIG
from referral.contract.problems import Problem
from referral.contract.schemas.fields import NewEmail
from referral.contract.schemas.product_users import LONGEST_NAME
from referral.database import DATABASE, Connection, TransactionConflict
from referral.ids import new_id
from referral.queries import identities, locks, product_users, users
from referral.queries.identities import LiveIdentity
from referral.queries.product_users import ProductUser
from referral.rules.event_contexts import own_context, traces_of
from referral.rules.former_addresses import identity_key, is_known_id
from referral.rules.mailed_links import end_links
from referral.rules.own_events import report_own
from referral.rules.product_users import Taken, describe, lock_known, lock_or_make
from referral.rules.strangers_out import put_stranger_out
from referral.rules.work import Work, work_on
from referral.texts import email_key

# Seconds for another try, when an issuer is out.
RETRY_AFTER = "30"


def issuer_unavailable() -> Problem:
    """For a token whose issuer's keys cannot be had."""
    return Problem(
        "issuer-unavailable", "The keys of the token's issuer cannot be had now.", headers={"Retry-After": RETRY_AFTER}
    )


async def find_live(conn: Connection, claims: Claims) -> LiveIdentity | None:
    """The user whom the claims name, unless they are suspended or nobody."""
    if claims.is_external_id:
        return await identities.find_live_external_user(conn, claims.subject)
    return await identities.find_live_identity(conn, claims.issuer, claims.subject)


async def find_or_enrol(request: web.Request, claims: Claims, *, reports: bool = True) -> LiveIdentity | None:
    """The user whom the claims name; None as of `enrol`, and for a token issued before a suspension ended."""
    async with request.app[DATABASE].reader() as conn:
        found = await find_live(conn, claims)
    found = found or await enrol(request, claims, reports=reports)
    return found if found and found.takes(claims.issued_at) else None


async def enrol(request: web.Request, claims: Claims, *, reports: bool = True) -> LiveIdentity | None:
    """The user whom the claims name, of whom no live one is known: made, or joined to an account. One who is made `reports`
    the sign-up, unless the caller does so once a referral is known. None if they are suspended, and where `identity.enrol`
    is off and there is nobody to join."""
    if await _is_known(request, claims):
        # Of many first calls at once another one may have made the user.
        async with request.app[DATABASE].reader() as conn:
            return await find_live(conn, claims)
    email = _email_of(claims)
    try:
        return await _enrol(request, claims, email, reports=reports)
    except Taken:
        if not claims.is_external_id:
            # Whoever has just got the address is found by it, and joined, when this is made again.
            raise TransactionConflict("another request has just taken the address") from None
        # Somebody else has this address: the product says itself who the user is, and needs none for that.
        return await _enrol(request, claims, None, reports=reports)


async def _is_known(request: web.Request, claims: Claims) -> bool:
    """Whether there is such a user. One who is suspended costs no transaction, however often they call."""
    async with request.app[DATABASE].reader() as conn:
        if claims.is_external_id:
            return await product_users.find_user_id_by_external_id(conn, claims.subject) is not None
        return await identities.find_identity(conn, claims.issuer, claims.subject) is not None


async def _enrol(request: web.Request, claims: Claims, email: str | None, *, reports: bool) -> LiveIdentity | None:
    async with work_on(request) as work:
        if claims.is_external_id:
            user = await _external_user(work, claims, email)
        else:
            user = await _identified_user(work, claims, email, reports=reports)
        return await find_live(work.conn, claims) if user else None


def _email_of(claims: Claims) -> str | None:
    """The address that the issuer has verified, in its normal form."""
    try:
        return NewEmail().deserialize(claims.email) if claims.email and claims.email_verified else None
    except ValidationError:
        return None


async def _external_user(work: Work, claims: Claims, email: str | None) -> ProductUser | None:
    """Who has the subject as external id. None where nobody may be made."""
    if not work.request.app[CONFIG].identity.enrol:
        return await product_users.find_product_user_by_external_id(work.conn, claims.subject)
    user, is_new = await lock_or_make(work, claims.subject)
    if is_new:
        user = await describe(work, user, _description(claims, email))
        await work.record("registered", actor=user.id, issuer=claims.issuer)
    return user


def _description(claims: Claims, email: str | None) -> dict[str, Any]:
    members: dict[str, Any] = {"email": email, "email_verified": True} if email else {}
    # Everybody who knows a user's code sees the name, which is the product's to choose.
    if claims.name and claims.is_external_id:
        members["name"] = claims.name[:LONGEST_NAME]
    return members


async def _identified_user(work: Work, claims: Claims, email: str | None, *, reports: bool) -> ProductUser | None:
    """Who is known as the subject at the issuer. None where nobody may be made."""
    conn = work.conn
    known = await identities.find_identity(conn, claims.issuer, claims.subject)
    if known is not None:
        return await product_users.find_product_user(conn, known)
    holder = await users.find_contact_by_email(conn, email_key(email)) if email else None
    if holder is not None and holder.external_id is not None and holder.email_verified_at is None:
        # The product calls somebody else so, and nobody has verified that the address is theirs.
        await _take_address_of(work, holder)
        holder = None
    if holder is not None:
        user = await _join(work, holder.user_id, email_key(email or ""))
    elif work.request.app[CONFIG].identity.enrol:
        user = await _make(work, claims, email, reports=reports)
    else:
        return None
    if user.suspended_at is None:
        if not await identities.insert_identity(conn, claims.issuer, claims.subject, user.id, work.moment):
            raise TransactionConflict("another request has just made this identity somebody's")
        await work.record("identity-joined", actor=user.id, issuer=claims.issuer)
    return user


async def _make(work: Work, claims: Claims, email: str | None, *, reports: bool) -> ProductUser:
    user = ProductUser(new_id(), None, work.moment)
    await product_users.insert_product_user(work.conn, user.id, None, work.moment)
    work.announce_user("user.created", user.id)
    if await is_known_id(work, identity_key(claims.issuer, claims.subject)):
        await users.refuse_attribution(work.conn, user.id, work.moment)
        user = replace(user, unattributable_at=work.moment)
    user = await describe(work, user, _description(claims, email))
    if reports:
        traces = await traces_of(work, own_context(work.request), work.moment)
        await report_own(work, "signup", user.id, traces=traces)
    if email:
        await report_own(work, "email-verified", user.id)
    await work.record("registered", actor=user.id, issuer=claims.issuer)
    return user


async def _take_address_of(work: Work, holder: users.Contact) -> None:
    """The address is known to be another person's than the one whom the product named with it."""
    await locks.lock_user(work.conn, holder.user_id)
    await end_links(work.conn, holder)
    if not await users.take_address(work.conn, holder.user_id):
        raise TransactionConflict("the address has just been verified, or left")
    await work.record("email-disowned", user=holder.user_id)
    await work.invalidate_code_of(holder.user_id)


async def _join(work: Work, user_id: str, key: str) -> ProductUser:
    """The account that has the verified address. If it has not verified it itself, what a stranger may have left ends."""
    await locks.lock_user(work.conn, user_id)
    contact = await users.find_contact(work.conn, user_id)
    if contact is None or contact.email is None or email_key(contact.email) != key:
        raise TransactionConflict("the account has just left the address")
    if contact.suspended_at is None and contact.email_verified_at is None:
        await put_stranger_out(work, contact)
        await users.verify_email(work.conn, user_id, None, work.moment)
        await report_own(work, "email-verified", user_id)
    return await lock_known(work, user_id)
