"""Seals secrets that lie in the database and have to be read again: authenticated encryption (Fernet) by a key that is made
of the signing key, which lies elsewhere."""

import base64
import hashlib
import hmac
from functools import cached_property
from typing import Any

from aiohttp import web

from referral.auth.signing_keys import Key, open_keys
from referral.config.sections import Auth

# What the signing key is asked to sign for the key of the seal. No token has this text.
SEAL_OF = b"the key that seals secrets in the database"


class SealBroken(Exception):
    """A secret was sealed by a key that is not accepted any more, or is no sealed secret."""


class Seal:
    """Seals by the current signing key, and opens what the one before has sealed, too."""

    def __init__(self, keys: list[Key]) -> None:
        self._keys = keys

    @cached_property
    def _fernets(self) -> list[Any]:
        # Imported where it is needed: without webhooks, the service does without.
        from cryptography.fernet import Fernet

        derived = [hmac.digest(key.secret, SEAL_OF, hashlib.sha256) for key in self._keys]
        return [Fernet(base64.urlsafe_b64encode(key)) for key in derived]

    def seal(self, secret: str) -> str:
        sealed: bytes = self._fernets[0].encrypt(secret.encode())
        return sealed.decode()

    def open(self, sealed: str) -> str:
        """The secret. Raises SealBroken."""
        from cryptography.fernet import InvalidToken, MultiFernet

        try:
            secret: bytes = MultiFernet(self._fernets).decrypt(sealed.encode())
        except InvalidToken:
            raise SealBroken from None
        return secret.decode()

    def renewed(self, sealed: str) -> str | None:
        """The same secret sealed by the current key; None where it is that already, and where nobody can open it."""
        from cryptography.fernet import InvalidToken

        try:
            self._fernets[0].decrypt(sealed.encode())
        except InvalidToken:
            try:
                return self.seal(self.open(sealed))
            except SealBroken:
                return None
        return None


def open_seal(config: Auth) -> Seal:
    """The seal of these settings. Raises ConfigError."""
    return Seal(open_keys(config))


SEAL = web.AppKey("seal", Seal)
