"""The context of an event, kept as HMACs: whether two users have the same address, agent, device or means of payment can be
seen for as long as the key is kept. None of them can be had again."""

import hashlib
import hmac
import ipaddress
import secrets
import uuid

from referral.clock import DAY
from referral.config import CONFIG
from referral.database import TransactionConflict
from referral.queries import event_contexts
from referral.rules.work import Work

# A key is used for a third of the time that it is kept, so that what it made can be compared for two thirds at least.
USED_FOR = 3


async def keep_context(work: Work, event_id: str, user_id: str, context: dict[str, str | None]) -> None:
    """Keep the HMAC of each text of the context; empty ones say nothing."""
    given = {kind: text for kind, text in context.items() if text}
    if not given:
        return
    key_id, secret = await _key(work)
    for kind, text in given.items():
        spelled = network_in(text) if kind == "ip" else text
        digest = hmac.digest(bytes.fromhex(secret), f"{kind}\n{spelled}".encode(), hashlib.sha256).hex()
        await event_contexts.insert_event_context(work.conn, event_id, kind, user_id, key_id, digest)


async def _key(work: Work) -> tuple[str, str]:
    """The id and the secret of the key to use."""
    key = await event_contexts.find_context_key(work.conn)
    used_for = work.request.app[CONFIG].context.keep_days * DAY // USED_FOR
    # A clock that is set back makes no difference: the key is younger than it seems.
    if key is not None and key.secret is not None and work.moment - key.created_at < used_for:
        return key.id, key.secret
    # Of many events at once each makes the successor, which has one id, and one of these is kept.
    successor = str(uuid.uuid5(uuid.NAMESPACE_OID, key.id if key else ""))
    await event_contexts.insert_context_key(work.conn, successor, secrets.token_hex(32), work.moment)
    made = await event_contexts.find_context_key(work.conn)
    if made is None or made.id != successor or made.secret is None:
        raise TransactionConflict("another transaction has just made a key, which this one does not see")
    return made.id, made.secret


def network_in(text: str) -> str:
    """An address in one spelling; of IPv6 the /64 network, of which the client chooses the rest. Other texts as they are."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(address)
