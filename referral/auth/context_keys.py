"""Keys of the HMACs that say who has the same address, agent, device or means of payment as somebody else, and nothing more.

A key is used for a third of the time that it is kept (`context.keep_days`): what it made can be compared for two thirds at
least. Then its secret is thrown away, and says nothing to anybody from then on. So whoever looks for the same text looks for
its HMACs by all keys that are kept.
"""

import hashlib
import hmac
import secrets
import uuid
from typing import NamedTuple

from aiohttp import web

from referral.clock import DAY, SECOND
from referral.database import Connection, TransactionConflict
from referral.queries import event_contexts

USED_FOR = 3
# How long (ms) a process uses the keys that it has read. Another one makes a successor no earlier than this one does.
AT_HAND = 60 * SECOND


class LiveKey(NamedTuple):
    """A key that is kept, since a time (ms)."""

    id: str
    secret: bytes
    created_at: int

    def digest(self, kind: str, text: str) -> str:
        """The HMAC of a text of a kind, in 64 hexadecimal digits. A text in no encoding has one, too."""
        return hmac.digest(self.secret, f"{kind}\n{text}".encode(errors="surrogatepass"), hashlib.sha256).hex()


class ContextKeys:
    """The keys, newest first, of which the first one is used. Each process reads them once a minute."""

    def __init__(self, keep_days: int) -> None:
        self._kept_for = keep_days * DAY
        self._read: tuple[LiveKey, ...] = ()
        self._read_at = 0

    def at_hand(self, moment: int) -> tuple[LiveKey, ...] | None:
        """The keys as of a time (ms), if they were read a moment ago."""
        if not 0 <= moment - self._read_at < AT_HAND or not self._has_one_to_use(self._read, moment):
            return None
        return self._kept(self._read, moment)

    async def live(self, conn: Connection, moment: int) -> tuple[LiveKey, ...]:
        """The keys as of a time (ms), in a transaction that makes one where there is none to use.

        Raises TransactionConflict when another one has just made it.
        """
        keys = self.at_hand(moment)
        if keys is not None:
            return keys
        found = await event_contexts.list_context_keys(conn)
        read = _live(found)
        if self._has_one_to_use(read, moment) and found[0].secret is not None:
            # One that this very transaction has made may not come to be.
            if read[0].created_at < moment:
                self._read, self._read_at = read, moment
            return self._kept(read, moment)
        # Of many at once each makes the successor, which has one id, and one of these is kept.
        successor = str(uuid.uuid5(uuid.NAMESPACE_OID, found[0].id if found else ""))
        await event_contexts.insert_context_key(conn, successor, secrets.token_hex(32), moment)
        made = await event_contexts.list_context_keys(conn)
        if not made or made[0].id != successor or made[0].secret is None:
            raise TransactionConflict("another transaction has just made a key, which this one does not see")
        return self._kept(_live(made), moment)

    def _has_one_to_use(self, keys: tuple[LiveKey, ...], moment: int) -> bool:
        # A clock that is set back makes no difference: the key is younger than it seems.
        return bool(keys) and moment - keys[0].created_at < self._kept_for // USED_FOR

    def _kept(self, keys: tuple[LiveKey, ...], moment: int) -> tuple[LiveKey, ...]:
        """Those whose time is not over: it may be some minutes until housekeeping throws them away."""
        return tuple(key for key in keys if moment - key.created_at < self._kept_for)


def _live(keys: list[event_contexts.ContextKey]) -> tuple[LiveKey, ...]:
    return tuple(LiveKey(key.id, bytes.fromhex(key.secret), key.created_at) for key in keys if key.secret is not None)


CONTEXT_KEYS = web.AppKey("context_keys", ContextKeys)
