"""Blocks: what is blocked makes a referral suspicious; it keeps nobody out, and decides nothing."""

from referral.config import CONFIG
from referral.config.weights import weights_of
from referral.database import Connection, TransactionConflict
from referral.queries import blocks, locks, product_users, referrals, users
from referral.queries.blocks import Block
from referral.rules.reviewing import note_signals
from referral.rules.suspicion import Signal
from referral.rules.work import Work

BLOCKED = "blocked"


async def block(work: Work, kind: str, value: str, note: str | None) -> tuple[Block, bool]:
    """Block a value, which is in the form that is compared, or give its block another note; whether it is new.

    Whoever has the address or the external id is suspected at once, if they came by somebody. A domain may have very many
    users: it counts for what they do from now on.
    """
    made = await blocks.insert_block(work.conn, kind, value, note, work.moment)
    found = made or await blocks.update_block(work.conn, kind, value, note)
    if found is None:
        raise TransactionConflict("the block has just been deleted")
    user_id = await _user_of(work.conn, kind, value)
    if user_id is not None:
        await locks.lock_user(work.conn, user_id)
        standing = await referrals.find_standing(work.conn, user_id)
        if standing is not None:
            weight = weights_of(work.request.app[CONFIG].fraud.weights)[BLOCKED]
            await note_signals(work, user_id, [Signal(BLOCKED, weight, {"blocks": [kind]})], standing.review)
    if made:
        await work.record("block-made", user=user_id, kind=kind)
    return found, made is not None


async def unblock(work: Work, kind: str, value: str) -> bool:
    """Delete a block; what it has made suspicious stays so. False if there is none."""
    if not await blocks.delete_block(work.conn, kind, value):
        return False
    await work.record("block-deleted", kind=kind)
    return True


async def _user_of(conn: Connection, kind: str, value: str) -> str | None:
    """Who has this value, if one user alone can."""
    if kind == blocks.EMAIL:
        contact = await users.find_contact_by_email(conn, value)
        return contact.user_id if contact is not None else None
    return await product_users.find_user_id_by_external_id(conn, value) if kind == blocks.EXTERNAL_ID else None
