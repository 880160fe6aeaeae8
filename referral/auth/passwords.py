"""Password hashing: bcrypt in a bounded pool of threads of its own, off the event loop and shared fairly."""

import base64
import hashlib
import hmac
import os
import unicodedata

import bcrypt
from aiohttp import web

from referral.auth.fair_queue import Asker, FairQueue

# bcrypt takes 72 bytes at most and stops at a null byte. Its input is therefore the base64 of an HMAC-SHA-256, 44 bytes
# in which every character of the password counts; the key only separates these hashes from other uses of the password.
_DOMAIN = b"referral.passwords.v1"

# Longer ones are refused when chosen (`contract/schemas/`); nothing is cut.
MAX_LENGTH = 1024

# With all cores busy, a password takes about 0.25 s at 12 rounds. Whoever would wait longer than some seconds is told to
# come back instead.
MAX_WAITING_PER_CORE = 32

# For whom a command asks.
NOBODY = Asker("")


class PasswordHasher:
    """Hashes and checks passwords; `close()` ends its threads. A flood from one asker does not hold the others up."""

    def __init__(self, rounds: int) -> None:
        cores = len(os.sched_getaffinity(0))
        self._rounds = rounds
        self._queue = FairQueue(cores, MAX_WAITING_PER_CORE * cores, "bcrypt")
        self._cost = f"$2b${rounds:02}$"
        # No password has this hash; checking against it costs what checking against a real one does.
        self._nobody = self._cost + "." * 53

    async def hash(self, password: str, asker: Asker = NOBODY) -> str:
        """The bcrypt hash of a password of any length and script. Raises Overloaded."""
        return await self._queue.run(
            asker, lambda: bcrypt.hashpw(_prepared(password), bcrypt.gensalt(self._rounds)).decode()
        )

    async def check(self, password: str, password_hash: str | None, asker: Asker = NOBODY) -> bool:
        """Whether the password has this hash; for None, an unknown user, False after the same work. Raises Overloaded."""
        known = password_hash or self._nobody
        is_right = await self._queue.run(asker, lambda: bcrypt.checkpw(_prepared(password), known.encode()))
        return is_right and password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Whether it was made with other rounds than a new one would be."""
        return not password_hash.startswith(self._cost)

    def close(self) -> None:
        self._queue.close()


def _prepared(password: str) -> bytes:
    # RFC 8265 section 4.2: the same characters typed on another keyboard are the same password. The time of normalising
    # grows with the square of the length, and nobody has a password as long as this.
    normal = unicodedata.normalize("NFC", password) if len(password) <= 2 * MAX_LENGTH else password
    return base64.b64encode(hmac.digest(_DOMAIN, normal.encode(), hashlib.sha256))


PASSWORDS = web.AppKey("passwords", PasswordHasher)
