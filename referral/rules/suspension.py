"""Suspension: an account signs in nowhere, its sessions and links end, and its code is not active."""

from referral.background.relay import RELAY
from referral.changes import announce, found_code_change, user_change
from referral.clock import SECOND
from referral.contract.problems import Problem
from referral.database import Connection
from referral.links import LINKS, Links
from referral.queries import codes, one_time_tokens, outbox, rewards, sessions, users
from referral.queries.changes import ChangeType
from referral.rules.product_tokens import end_product_tokens
from referral.rules.work import Work
from referral.texts import optional_email_key

# What is due within an hour may be due already by another machine's clock (ms).
SOON = 3_600 * SECOND
# Characters of a reason.
LONGEST_REASON = 500


def suspended() -> Problem:
    """For what is asked for a user who is suspended."""
    return Problem("user-suspended", "The user is suspended.")


async def suspend(conn: Connection, contact: users.Contact, reason: str, moment: int, links: Links) -> list[str] | None:
    """Suspend the account, which is locked, at `moment` (ms), and return the ids of the sessions that end. None for one that
    is suspended already: the first time and reason stay."""
    if not await users.suspend_user(conn, contact.user_id, reason, moment):
        return None
    ended = await sessions.delete_sessions_of_user(conn, contact.user_id)
    await _end_links(conn, contact)
    await _announce(conn, contact.user_id, "user.suspended", "code.ended", moment, links)
    return ended


async def suspend_known(work: Work, contact: users.Contact, external_id: str | None, reason: str) -> None:
    """As `suspend`, by a request, which is recorded; the user has this id of the product's, if any."""
    ended = await suspend(work.conn, contact, reason, work.moment, work.request.app[LINKS])
    if ended is not None:
        work.ends_sessions(*ended)
        await end_product_tokens(work, contact.user_id, external_id)
        await work.invalidate_code_of(contact.user_id)
        work.wakes(work.request.app[RELAY])
        await work.record("account-suspended", user=contact.user_id, reason=reason)


async def unsuspend(conn: Connection, contact: users.Contact, moment: int, links: Links) -> bool:
    """End the account's suspension; its tokens do not come back. False when it is not suspended."""
    if not await users.unsuspend_user(conn, contact.user_id, moment):
        return False
    await rewards.resume_rewards_of_user(conn, contact.user_id, moment + SOON)
    # A mail that was on its way when the account was suspended has a link, too.
    await _end_links(conn, contact)
    await _announce(conn, contact.user_id, "user.unsuspended", "code.updated", moment, links)
    return True


async def unsuspend_known(work: Work, contact: users.Contact, external_id: str | None) -> None:
    """As `unsuspend`, by a request, which is recorded."""
    if await unsuspend(work.conn, contact, work.moment, work.request.app[LINKS]):
        await end_product_tokens(work, contact.user_id, external_id)
        await work.invalidate_code_of(contact.user_id)
        work.wakes(work.request.app[RELAY])
        await work.record("account-unsuspended", user=contact.user_id)


async def _announce(
    conn: Connection, user_id: str, of_user: ChangeType, of_code: ChangeType, moment: int, links: Links
) -> None:
    told = [await user_change(conn, of_user, user_id, moment, links)]
    code = await codes.find_current_code(conn, user_id, moment)
    if code is not None and code.status(moment) == "active":
        told.append(await found_code_change(conn, of_code, code.code, moment))
    await announce(conn, told, moment)


async def _end_links(conn: Connection, contact: users.Contact) -> None:
    await users.begin_account_generation(conn, contact.user_id)
    await one_time_tokens.delete_one_time_tokens_of_user(conn, contact.user_id)
    await outbox.delete_mail_of_user(conn, contact.user_id, optional_email_key(contact.email))
