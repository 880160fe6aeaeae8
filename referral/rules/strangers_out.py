"""Whoever may have made an account with somebody's address is put out of it, once the address is known to be somebody
else's.

A stranger may register with an address that is not theirs, and wait for its owner (pre-hijacking). The account is the
owner's from here on, and whatever the stranger may have left there ends.
"""

from referral.queries import codes, identities, sessions, users
from referral.rules.erasure import take_referral_back
from referral.rules.former_addresses import is_vouched_for
from referral.rules.mailed_links import end_links
from referral.rules.product_tokens import end_product_tokens
from referral.rules.work import Work


async def put_stranger_out(work: Work, contact: users.Contact) -> None:
    """End the ways into the account, which is locked: password, sessions, links, identities, and the current code. If
    neither the address nor the product has spoken for it, the referral that it came by is taken back."""
    conn, user_id = work.conn, contact.user_id
    await end_links(conn, contact)
    if not is_vouched_for(work, contact):
        await take_referral_back(work, user_id)
    await users.take_password(conn, user_id)
    work.ends_sessions(*await sessions.delete_sessions_of_user(conn, user_id))
    await end_product_tokens(work, user_id, contact.external_id)
    await identities.delete_identities(conn, user_id)
    ended = await codes.revoke_any_code(conn, user_id, work.moment)
    if ended:
        work.announce_code("code.ended", ended)
    if ended:
        work.invalidates_code(ended)
    await work.record("stranger-put-out", user=user_id, code=ended)
