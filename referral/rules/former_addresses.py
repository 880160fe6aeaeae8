"""Who comes again: an address that had an account before comes by nobody, so that one person counts once.

Only keyed hashes are kept, for `attribution.readdress_days`. Their key is made from the one that signs tokens, which lies
outside the database; two rotations of it within that time make them unreadable.
"""

from referral.auth.tokens import SIGNER
from referral.clock import DAY
from referral.config import CONFIG
from referral.queries import former_addresses, users
from referral.rules.work import Work
from referral.texts import email_key


async def remember(work: Work, contact: users.Contact, *, lives_on: bool) -> None:
    """From the end of this transaction on, nobody has this address any more; whether the account `lives_on` with another
    one. It is kept if the account spoke for it."""
    days = work.request.app[CONFIG].attribution.readdress_days
    if days and contact.email is not None and speaks_for_address(work, contact):
        current, _ = _hashes(work, contact.email)
        await former_addresses.insert_former_address(work.conn, current, contact.user_id if lives_on else None, work.moment)


def speaks_for_address(work: Work, contact: users.Contact) -> bool:
    """Whether the account's address is taken for its owner's. Where it has to be verified for that, a stranger who registers
    with somebody's address must not see to it that this person comes by nobody."""
    return contact.email_verified_at is not None or not work.request.app[CONFIG].limits_unverified


def is_vouched_for(work: Work, contact: users.Contact) -> bool:
    """Whether the account is taken for a person's own: by its address, or because the product calls somebody so."""
    return contact.external_id is not None or speaks_for_address(work, contact)


async def is_known(work: Work, email: str, user_id: str) -> bool:
    """Whether an account but this user's had this address not too long ago. Ask after the address was inserted: until then,
    another transaction may be taking it away from an account."""
    days = work.request.app[CONFIG].attribution.readdress_days
    if not days:
        return False
    return await former_addresses.find_former_address(work.conn, *_hashes(work, email), user_id, work.moment - days * DAY)


def identity_key(issuer: str, subject: str) -> str:
    """What stands for an identity among ids of the product's; none of those has a line break."""
    return f"{issuer}\n{subject}"


async def remember_id(work: Work, external_id: str) -> None:
    """From the end of this transaction on, nobody has this id of the product's any more."""
    if work.request.app[CONFIG].attribution.readdress_days:
        current, _ = _hashes_of_id(work, external_id)
        await former_addresses.insert_former_address(work.conn, current, None, work.moment)


async def is_known_id(work: Work, external_id: str) -> bool:
    """Whether a user who was erased not too long ago had this id of the product's."""
    days = work.request.app[CONFIG].attribution.readdress_days
    if not days:
        return False
    since = work.moment - days * DAY
    return await former_addresses.find_former_address(work.conn, *_hashes_of_id(work, external_id), "", since)


def _hashes(work: Work, email: str) -> tuple[str, str]:
    return work.request.app[SIGNER].keyed_hashes(b"referral.former-addresses.v1", email_key(email))


def _hashes_of_id(work: Work, external_id: str) -> tuple[str, str]:
    return work.request.app[SIGNER].keyed_hashes(b"referral.former-ids.v1", external_id)
