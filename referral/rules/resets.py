"""Links that set a password outlive an account that does not speak for its address.

They are for whoever reads the mailbox. If leaving the account ended them, a stranger who registers with somebody's address,
and leaves and registers again, would keep the owner of the mailbox out for good.
"""

from referral.auth.tokens import SIGNER
from referral.queries import one_time_tokens, users
from referral.queries.one_time_tokens import RESET_PASSWORD
from referral.rules.work import Work
from referral.texts import email_key


async def leave_resets(work: Work, contact: users.Contact) -> None:
    """The account has this address no more, for which it never spoke: the next account with it gets the links."""
    if contact.email is not None:
        current, _ = _hashes(work, contact.email)
        await one_time_tokens.leave_links(work.conn, contact.user_id, RESET_PASSWORD, current)


async def take_resets_over(work: Work, user_id: str, email: str) -> None:
    """The account has this address now, and the links that were left with it."""
    await one_time_tokens.take_links_over(work.conn, user_id, email, *_hashes(work, email))


def _hashes(work: Work, email: str) -> tuple[str, str]:
    return work.request.app[SIGNER].keyed_hashes(b"referral.left-links.v1", email_key(email))
