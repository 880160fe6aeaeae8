"""The end of an account: what goes with it, and what stays of it for the sake of others."""

import logging

from aiohttp import web

from referral import clock
from referral.background.mailer import MAILER
from referral.changes import PERSONAL, erased_user_change, taken_referral_change
from referral.database import DATABASE, Connection, DatabaseUnavailable
from referral.queries import (
    audit,
    changes,
    codes,
    deliveries,
    event_contexts,
    events,
    former_addresses,
    identities,
    ledger,
    locks,
    one_time_tokens,
    outbox,
    product_users,
    profiles,
    referrals,
    reviews,
    rewards,
    second_factors,
    sessions,
    users,
)
from referral.rules.former_addresses import identity_key, is_vouched_for, remember, remember_id, speaks_for_address
from referral.rules.product_tokens import end_product_tokens
from referral.rules.resets import leave_resets
from referral.rules.rewards import RETRACTED, retract
from referral.rules.work import Work
from referral.texts import optional_email_key

log = logging.getLogger(__name__)

# Of a user with very many, all at once would outlast the time that a statement has.
EVENTS_AT_A_TIME = 5_000


async def erase(work: Work, user_id: str, password_hash: str | None, *, by_oneself: bool = False) -> bool:
    """Erase the account, whose password has this hash, if one was asked for. If it does not speak for its address, and the
    product does not speak for it, the referral that it came by is taken back. False when it is no more, or has no such
    password any more: then the transaction must be rolled back."""
    contact = await _begin(work, user_id, by_oneself=by_oneself)
    if contact is None:
        return False
    await _end_product_data(work, user_id)
    if contact.email is not None and not is_vouched_for(work, contact):
        await take_referral_back(work, user_id)
    if not await users.erase_user(work.conn, user_id, password_hash, work.moment):
        return False
    await remember(work, contact, lives_on=False)
    await _erase_rest(work, contact, "account-erased")
    return True


async def erase_unverified(work: Work, user_id: str) -> bool:
    """Erase an account whose address was not verified, because its owner disowns it, and take back the referral that it came
    by, as if it had never been. False when the address is verified or the account is no more: then the transaction must be
    rolled back."""
    contact = await _begin(work, user_id)
    if contact is None:
        return False
    # What is taken back is announced as it is then: without what is personal.
    await _end_product_data(work, user_id)
    await take_referral_back(work, user_id)
    if not await users.erase_unverified_user(work.conn, user_id, work.moment):
        return False
    await _erase_rest(work, contact, "account-disowned")
    return True


async def _end_product_data(work: Work, user_id: str) -> None:
    """What the product said of the user goes, and the tokens by which it speaks for them end. Comes before the account's own
    data goes."""
    user = await product_users.find_product_user(work.conn, user_id)
    if user is None:
        return
    await end_product_tokens(work, user_id, user.external_id)
    if user.external_id is not None:
        await remember_id(work, user.external_id)
    for identity in await identities.list_identities(work.conn, user_id):
        await remember_id(work, identity_key(identity.issuer, identity.subject))
    await identities.delete_identities(work.conn, user_id)
    await rewards.forget_rewards_of_user(work.conn, user_id)
    await rewards.forget_reversals_of_user(work.conn, user_id)
    await ledger.forget_redemptions_of_user(work.conn, user_id)
    await reviews.forget_signals_of_user(work.conn, user_id)
    await reviews.forget_reason_of_review(work.conn, user_id)
    await _forget_events(work.conn, user_id)


async def _forget_events(conn: Connection, user_id: str) -> None:
    before: tuple[int, str] = (clock.NEVER, "")
    while forgotten := await events.forget_events_of_user(conn, user_id, before, EVENTS_AT_A_TIME):
        before = min((event.received_at, event.id) for event in forgotten)
    while await event_contexts.delete_contexts_of_user(conn, user_id, EVENTS_AT_A_TIME) == EVENTS_AT_A_TIME:
        pass


async def _forget_changes(conn: Connection, user_id: str) -> None:
    # First what waits for its place: whatever gets it meanwhile is found behind.
    await changes.forget_announcements_of_user(conn, user_id, PERSONAL)
    after: int | None = 0
    while after is not None:
        forgotten = await changes.forget_changes_of_user(conn, user_id, PERSONAL, after, EVENTS_AT_A_TIME)
        after = max(forgotten, default=None)
    # Whatever is marked before this is found, and whatever is marked behind it finds that the change is another one.
    await locks.lock_webhooks(conn)
    await deliveries.forget_answers_about_user(conn, user_id)
    await deliveries.forget_failures_about_user(conn, user_id)


async def _begin(work: Work, user_id: str, *, by_oneself: bool = False) -> users.Contact | None:
    # Events hold the rules before they lock their user.
    await locks.hold_rules(work.conn)
    # This comes first, because the worker that stores a profile does so, too: in another order the two could deadlock.
    await profiles.delete_lookup(work.conn, user_id)
    if by_oneself:
        # Whoever was suspended meanwhile erases nothing.
        await work.hold_caller()
    # Whoever uses a code for this user takes the same lock, so that no referral comes behind what is taken back.
    await locks.lock_user(work.conn, user_id)
    contact = await users.find_contact(work.conn, user_id)
    if contact is not None:
        # Before the address goes: a mail that is being sent holds its row until its link is kept, and a link of this user
        # waits for whoever takes the address. Resets are queued by address, and not the account's to end if it does not
        # speak for that.
        key = optional_email_key(contact.email) if speaks_for_address(work, contact) else None
        await outbox.delete_mail_of_user(work.conn, user_id, key)
    return contact


async def take_referral_back(work: Work, user_id: str) -> None:
    """Take back the referral that the user came by, if there is one, as if it had never been, with what it earned. The user
    is locked."""
    conn = work.conn
    await locks.hold_rules(conn)
    referral = await referrals.find_referral(conn, user_id)
    # In the order of `come_by`: the owner's row, the code, the referral.
    if await users.decrement_referral_count(conn, user_id):
        code = await codes.take_use_back(conn, user_id)
        gone = await referrals.delete_referral(conn, user_id)
        if gone is not None and referral is not None:
            work.announce(taken_referral_change(referral, gone.referrer_id))
        if gone is not None and gone.conversions > 0:
            await referrals.decrement_converted_count(conn, gone.referrer_id)
        await events.forget_conversions(conn, user_id)
        await retract(work, user_id, RETRACTED)
        if code:
            # It may have been used up until now.
            work.invalidates_code(code)
            work.announce_code("code.updated", code)


async def _erase_rest(work: Work, contact: users.Contact, event: audit.EventName) -> None:
    conn, user_id, key = work.conn, contact.user_id, optional_email_key(contact.email)
    ended = await codes.revoke_any_code(conn, user_id, work.moment)
    if ended:
        work.invalidates_code(ended)
        work.announce_code("code.ended", ended)
    await _forget_changes(conn, user_id)
    work.announce(erased_user_change(user_id))
    work.ends_sessions(*await sessions.delete_sessions_of_user(conn, user_id))
    if not speaks_for_address(work, contact):
        await leave_resets(work, contact)
    await one_time_tokens.delete_one_time_tokens_of_user(conn, user_id)
    await profiles.delete_profile(conn, user_id)
    await second_factors.delete_second_factor(conn, user_id)
    await former_addresses.disown_former_addresses(conn, user_id)
    await work.record(event, user=user_id, code=ended)
    await audit.erase_addresses(conn, user_id)
    if key is not None:
        await audit.erase_email(conn, key)


async def leave_nothing(app: web.Application, user_id: str) -> None:
    """Take an erased account's data from where its transaction does not reach: mails in files, and the database's free
    space.

    The account is erased: a failure here is logged, and fails no request.
    """
    try:
        await app[MAILER].forget(user_id)
        await app[DATABASE].purge()
    except (OSError, DatabaseUnavailable) as error:
        log.error("something of an erased account is left behind: %s", error)
