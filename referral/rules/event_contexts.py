"""The context of an event, kept as HMACs: whether two users have the same address, agent, device or means of payment can be
seen for as long as the key is kept. None of them can be had again."""

import hashlib
import hmac
import ipaddress
import secrets

from referral.clock import DAY
from referral.config import CONFIG
from referral.ids import new_id
from referral.queries import event_contexts
from referral.queries.event_contexts import ContextKey
from referral.rules.work import Work

# A key is used for a third of the time that it is kept, so that what it made can be compared for two thirds at least.
USED_FOR = 3


async def keep_context(work: Work, event_id: str, user_id: str, context: dict[str, str | None]) -> None:
    """Keep the HMAC of each text of the context; empty ones say nothing."""
    given = {kind: text for kind, text in context.items() if text}
    if not given:
        return
    key = await _key(work)
    for kind, text in given.items():
        spelled = _network(text) if kind == "ip" else text
        digest = hmac.digest(bytes.fromhex(key.secret), f"{kind}\n{spelled}".encode(), hashlib.sha256).hex()
        await event_contexts.insert_event_context(work.conn, event_id, kind, user_id, key.id, digest)


async def _key(work: Work) -> ContextKey:
    key = await event_contexts.find_context_key(work.conn)
    kept = work.request.app[CONFIG].context.keep_days * DAY
    # A clock that is set back makes no difference: the key is younger than it seems.
    if key is None or work.moment - key.created_at >= kept // USED_FOR:
        key = ContextKey(new_id(), secrets.token_hex(32), work.moment)
        await event_contexts.insert_context_key(work.conn, key)
    return key


def _network(text: str) -> str:
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
