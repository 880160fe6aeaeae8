"""Who comes again: an address that had an account before comes by nobody, so that one person counts once.

Only keyed hashes are kept, for `attribution.readdress_days`. Their key is made from the one that signs tokens, which lies
outside the database; two rotations of it within that time make them unreadable.
"""

from referral.auth.tokens import SIGNER
from referral.clock import DAY
from referral.config import CONFIG
from referral.queries import former_addresses
from referral.rules.work import Work
from referral.texts import email_key


async def remember(work: Work, email: str) -> None:
    """From the end of this transaction on, nobody has this address any more."""
    if work.request.app[CONFIG].attribution.readdress_days:
        current, _ = _hashes(work, email)
        await former_addresses.insert_former_address(work.conn, current, work.moment)


async def is_known(work: Work, email: str) -> bool:
    """Whether an account had this address not too long ago. Ask after the address was inserted: until then, another
    transaction may be taking it away from an account."""
    days = work.request.app[CONFIG].attribution.readdress_days
    if not days:
        return False
    return await former_addresses.find_former_address(work.conn, *_hashes(work, email), work.moment - days * DAY)


def _hashes(work: Work, email: str) -> tuple[str, str]:
    return work.request.app[SIGNER].keyed_hashes(b"referral.former-addresses.v1", email_key(email))
