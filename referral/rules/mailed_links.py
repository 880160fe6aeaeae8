"""What mailed links do, for the API and for the pages that they lead to.

A link speaks for the address that it was mailed to, and for no other. A second press of its button says that it is done.
"""

from aiohttp import web

from referral.auth.passwords import PASSWORDS
from referral.auth.tokens import hash_token
from referral.clock import SECOND, now
from referral.config import CONFIG
from referral.contract.problems import Problem, translated
from referral.database import DATABASE, Connection
from referral.limits import ADDRESS, LIMITER, asker_of
from referral.queries import audit, one_time_tokens, outbox, product_users, sessions, users
from referral.queries.one_time_tokens import CHANGE_EMAIL, RESET_PASSWORD, VERIFY_EMAIL, Link
from referral.rules.accounts import check_new_password, check_not_personal
from referral.rules.enriching import look_profile_up, look_verified_profile_up
from referral.rules.erasure import erase_unverified, leave_nothing, take_referral_back
from referral.rules.former_addresses import is_known, is_vouched_for, remember, speaks_for_address
from referral.rules.own_events import report_own
from referral.rules.resets import leave_resets
from referral.rules.suspecting import suspect_description
from referral.rules.work import Work, work_on
from referral.texts import email_key, mask, optional_email_key

# Within this time a second press of a reset's button, with the same password, says that it is set.
SECOND_PRESS = 10 * SECOND


def email_taken() -> Problem:
    """For whoever wants an address that an account has."""
    return Problem("email-taken", "There is an account with this e-mail address.")


def _refused() -> Problem:
    return Problem("token-invalid", "The link is unknown, was used already or has expired. Ask for another mail.")


async def confirm_email(request: web.Request, token: str) -> None:
    """Use a link to verify its account's address, or to give the account the address that the link was mailed to.

    Raises a problem for a link that is not valid, and for a new address that somebody else has taken meanwhile.
    """
    name = hash_token(token)
    async with work_on(request) as work:
        for purpose, confirm in ((VERIFY_EMAIL, _verify), (CHANGE_EMAIL, _change)):
            link = await one_time_tokens.use_one_time_token(work.conn, name, purpose, work.moment)
            if link:
                return await confirm(work, link)
            used = await one_time_tokens.find_one_time_token(work.conn, name, purpose, work.moment)
            if used and await users.find_contact(work.conn, used.user_id):
                return None
        raise _refused()


async def _verify(work: Work, link: Link) -> None:
    contact = await users.find_contact(work.conn, link.user_id)
    if contact is None or not await users.verify_email(work.conn, link.user_id, _key_of(link), work.moment):
        raise _refused()
    if contact.email_verified_at is None:
        await _speak_for_address(work, link.user_id)
    await work.record("email-verified", actor=link.user_id)


async def _speak_for_address(work: Work, user_id: str) -> None:
    """The account's address has just been verified: from here on its code is found by it."""
    await report_own(work, "email-verified", user_id)
    await look_verified_profile_up(work, user_id)
    await work.invalidate_code_of(user_id)


async def _change(work: Work, link: Link) -> None:
    conn, user_id = work.conn, link.user_id
    former = await users.find_contact(conn, user_id)
    if former is None or link.email is None:
        raise _refused()
    former_key, speaks = optional_email_key(former.email), speaks_for_address(work, former)
    is_same = former_key == email_key(link.email)
    # This comes first, because the worker that stores a profile takes the same rows in this order.
    await look_profile_up(work, user_id)
    # Mails before the address, as in `erasure.py`.
    await _delete_changes(conn, user_id)
    if speaks and not is_same and former_key is not None:
        # Whoever reads the former mailbox has no part in the account from here on.
        await _delete_resets(conn, user_id, former_key)
    with translated({"users_email_key": email_taken()}):
        if not await users.update_email(conn, user_id, link.generation, link.email, email_key(link.email), work.moment):
            raise _refused()
    await work.invalidate_code_of(user_id)
    await work.record("email-changed", actor=user_id)
    if not is_same:
        if not speaks:
            await leave_resets(work, former)
        await remember(work, former, lives_on=True)
        if await is_known(work, link.email, user_id):
            # Whoever had the other account has counted already.
            await take_referral_back(work, user_id)
            await users.refuse_attribution(conn, user_id, work.moment)
        user = await product_users.find_product_user(conn, user_id)
        if user is not None:
            await suspect_description(work, user)
    await report_own(work, "email-verified", user_id)
    if former_key is not None:
        await audit.adopt_events(conn, user_id, former_key)
    if former.email is not None and former.email_verified_at is not None:
        await work.queue_mail(outbox.EMAIL_CHANGED, user_id, former.email, new=mask(link.email))


async def disown(request: web.Request, token: str) -> None:
    """Use a verification's link to say "it was not me": the account that somebody made with the address ends, and with it
    the referral that it came by. Raises a problem for a link that is not valid, and once the address is verified."""
    ended = await _end_disowned(request, hash_token(token))
    if ended:
        await leave_nothing(request.app, ended)


async def _end_disowned(request: web.Request, name: str) -> str | None:
    """The id of the account that ends; None if it has ended before. Raises a problem as `disown`."""
    async with work_on(request) as work:
        link = await one_time_tokens.use_one_time_token(work.conn, name, VERIFY_EMAIL, work.moment)
        contact = await users.find_contact(work.conn, link.user_id) if link else None
        key = optional_email_key(contact.email) if contact else None
        if link and contact and key is not None and key == (_key_of(link) or key):
            # It outlives the account without the address, for the sake of a second press.
            await one_time_tokens.forget_address_of_token(work.conn, name)
            if contact.external_id is not None:
                # The product knows somebody by this account, and has the wrong address of them.
                await _take_address(work, contact)
                return None
            if await erase_unverified(work, contact.user_id):
                return contact.user_id
        elif link is None:
            used = await one_time_tokens.find_one_time_token(work.conn, name, VERIFY_EMAIL, work.moment)
            if used and await users.find_contact(work.conn, used.user_id) is None:
                return None
        raise _refused()


async def _take_address(work: Work, contact: users.Contact) -> None:
    """The user of the product has no address any more. Raises a problem where it is verified."""
    await end_links(work.conn, contact)
    if contact.email_verified_at is not None or not await users.take_address(work.conn, contact.user_id):
        raise _refused()
    await work.record("email-disowned", user=contact.user_id)
    await work.invalidate_code_of(contact.user_id)


async def end_links(conn: Connection, contact: users.Contact) -> None:
    """From here on no link that was mailed, or waits to be, sets the account's password or gives it another address.

    Mails come first. One that is being sent holds its row until its link is kept (`Mailer`), and so is waited for here.
    """
    key = optional_email_key(contact.email)
    if key is not None:
        await _delete_resets(conn, contact.user_id, key)
    await end_changes(conn, contact.user_id)


async def _delete_resets(conn: Connection, user_id: str, key: str) -> None:
    await outbox.delete_resets(conn, key)
    await one_time_tokens.delete_one_time_tokens(conn, user_id, RESET_PASSWORD)


async def end_changes(conn: Connection, user_id: str) -> None:
    """From here on no link gives the account an address that was asked for until now, nor does one that a request under way
    is about to ask for: whoever asks may be the one that is being put out."""
    await _delete_changes(conn, user_id)
    await users.begin_account_generation(conn, user_id)


async def _delete_changes(conn: Connection, user_id: str) -> None:
    await outbox.delete_mail_of_kind(conn, user_id, outbox.CHANGE_EMAIL)
    await one_time_tokens.delete_one_time_tokens(conn, user_id, CHANGE_EMAIL)


async def confirm_reset(request: web.Request, token: str, new_password: str) -> None:
    """Use a link to set a password; every session of the account ends.

    Raises a problem when the link is not valid or the password is not allowed. The link can still be used then.
    """
    app, name = request.app, hash_token(token)
    check_new_password(new_password, app[CONFIG], "/new_password")
    await app[LIMITER].hit("login_by_address", request[ADDRESS])
    # The link is looked at first: hashing a password for any token at all would be work that anybody can cause.
    link = await _find_reset(app, name)
    if link and link.used_at is None and not await _set_password(request, name, new_password):
        # Another press of the button was quicker.
        link = await _find_reset(app, name)
    if link is None or (link.used_at is not None and not await _is_second_press(request, link, new_password)):
        raise _refused()


async def _find_reset(app: web.Application, name: str) -> Link | None:
    async with app[DATABASE].reader() as conn:
        return await one_time_tokens.find_one_time_token(conn, name, RESET_PASSWORD, now())


async def _set_password(request: web.Request, name: str, new_password: str) -> bool:
    """False when the link has been used meanwhile."""
    new_hash = await request.app[PASSWORDS].hash(new_password, asker_of(request))
    async with work_on(request) as work:
        link = await one_time_tokens.use_one_time_token(work.conn, name, RESET_PASSWORD, work.moment)
        if link is None:
            return False
        contact = await users.find_contact(work.conn, link.user_id)
        if contact is None:
            raise _refused()
        # Before the account's row: in another order this and a change of the password could deadlock.
        await end_links(work.conn, contact)
        if not await users.reset_password(work.conn, link.user_id, _key_of(link), new_hash, work.moment):
            raise _refused()
        # From here on the answer depends on the account: only the holder of a valid link comes this far.
        check_not_personal(new_password, "/new_password", contact.email, contact.username)
        if contact.email_verified_at is None:
            if not is_vouched_for(work, contact):
                # A stranger may have made the account, and said by whom it comes.
                await take_referral_back(work, link.user_id)
            await _speak_for_address(work, link.user_id)
        work.ends_sessions(*await sessions.delete_sessions_of_user(work.conn, link.user_id))
        await work.record("password-reset", actor=link.user_id)
        return True


async def _is_second_press(request: web.Request, link: Link, new_password: str) -> bool:
    if link.used_at is None or now() - link.used_at > SECOND_PRESS:
        return False
    async with request.app[DATABASE].reader() as conn:
        account = await users.find_credentials_by_id(conn, link.user_id)
    known = account.password_hash if account else None
    return await request.app[PASSWORDS].check(new_password, known, asker_of(request))


def _key_of(link: Link) -> str | None:
    return optional_email_key(link.email)
