"""Access tokens (JWT, RFC 9068) and opaque tokens (refresh tokens, one-time links)."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import jwt
from aiohttp import web

from referral.auth.signing_keys import Key, open_keys
from referral.clock import SECOND
from referral.config import Config, ConfigError
from referral.ids import new_id

AUDIENCE = "referral"
# RFC 9068 section 2.2 wants to know for whom a token was issued. Clients do not register here, and so are all the same one.
CLIENT_ID = "public"
# RFC 9068 section 2.1: keeps an ID token or any other JWT of the same key from being taken for an access token.
TYPE = "at+jwt"

# Seconds by which the clocks of two machines may differ. A token from further in the future was signed while a clock was
# wrong, and may be good for years.
LEEWAY = 60

# Seconds between two looks for a new key: anybody can send tokens that name unknown keys.
READ_PAUSE = 5.0

# Verified tokens that are cached: verifying one costs more than the rest of a look-up. About 10 MB when full.
VERIFIED_TOKENS = 10_000

# Characters of a refresh token's hash that its access token names it by. They tell nothing of the token.
REFRESH_NAME = 16


class Verified(NamedTuple):
    """What counts of a token whose signature and claims are good: its session and the generation of it, when the token
    expires (s), and the name of the refresh token of its pair."""

    session_id: str
    expires_at: int
    generation: int
    refresh: str


class InvalidToken(Exception):
    """The access token is malformed, not ours, or expired."""


class Signer:
    """Signs access tokens with the first of its keys, and verifies those of any of them; `ttl` is in seconds.

    A token may be signed by a key that is not among them: during a rotation, some workers sign with the new key while
    others still have the old one. `read_keys` is asked for such keys.
    """

    def __init__(self, keys: list[Key], issuer: str, ttl: int, read_keys: Callable[[], list[Key]]) -> None:
        self.keys = keys
        self.issuer = issuer
        self.ttl = ttl
        self._by_id = {key.id: key for key in keys}
        self._read_keys = read_keys
        self._read_again_at = 0.0
        self._verified = lru_cache(VERIFIED_TOKENS)(self._verify)

    def sign(
        self,
        user_id: str,
        session_id: str,
        role: str,
        now: int,
        ttl: int | None = None,
        *,
        generation: int = 0,
        refresh_hash: str = "",
    ) -> str:
        """An access token of a session that was live at `now` (ms) in this generation, good for `ttl` seconds, or the usual
        time; it names the refresh token that it is issued with."""
        issued_at = now // SECOND
        claims = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "client_id": CLIENT_ID,
            "sub": user_id,
            "sid": session_id,
            "gen": generation,
            "rth": refresh_hash[:REFRESH_NAME],
            "role": role,
            "jti": new_id(),
            "iat": issued_at,
            "exp": issued_at + (self.ttl if ttl is None else ttl),
        }
        key = self.keys[0]
        return jwt.encode(claims, key.private, key.algorithm, headers={"typ": TYPE, "kid": key.id})

    def verify(self, token: str, *, expired: bool = False) -> Verified:
        """What an access token says of itself. Raises InvalidToken; an expired one passes if `expired`."""
        verified = self._verified(token)
        if verified.expires_at <= time.time() and not expired:
            raise InvalidToken("expired")
        return verified

    def _verify(self, token: str) -> Verified:
        # RFC 8725: the key says the algorithm, never the token; the type, the issuer and the audience must be ours.
        try:
            header = jwt.get_unverified_header(token)
            key = self._key(header.get("kid", ""))
            if key is None or header.get("typ") != TYPE:
                raise InvalidToken("not an access token of this service")
            claims: dict[str, Any] = jwt.decode(
                token,
                key.public,
                algorithms=[key.algorithm],
                audience=AUDIENCE,
                issuer=self.issuer,
                leeway=LEEWAY,
                options={"require": ["exp", "iat", "sub", "sid", "jti"], "verify_exp": False},
            )
        except (jwt.InvalidTokenError, UnicodeEncodeError) as error:
            # UnicodeEncodeError: bytes of the header that are no UTF-8 arrive as lone surrogates.
            raise InvalidToken(str(error)) from None
        verified = Verified(claims["sid"], claims["exp"], claims.get("gen", 0), claims.get("rth", ""))
        if tuple(map(type, verified)) != (str, int, int, str):
            raise InvalidToken("claims of a wrong type")
        return verified

    def _key(self, key_id: str) -> Key | None:
        if key_id not in self._by_id and time.monotonic() >= self._read_again_at:
            self._read_again_at = time.monotonic() + READ_PAUSE
            with suppress(ConfigError):
                self._by_id |= {key.id: key for key in self._read_keys()}
        return self._by_id.get(key_id)

    def keyed_hashes(self, purpose: bytes, text: str) -> tuple[str, str]:
        """The HMACs of a text by two keys of this purpose, made from the signing key and from the one before it (or from the
        same, if there is none)."""
        keys = (hmac.digest(key.secret, purpose, hashlib.sha256) for key in (self.keys[0], self.keys[-1]))
        current, previous = (hmac.digest(key, text.encode(), hashlib.sha256).hex() for key in keys)
        return current, previous

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JWK Set (RFC 7517); empty for HS256, whose key is nobody else's."""
        return {"keys": [key.jwk for key in self.keys if key.jwk]}


def open_signer(config: Config) -> Signer:
    """The signer of the configured keys. Raises ConfigError when they cannot be read or made."""
    keys = open_keys(config.auth)
    return Signer(keys, config.server.public_url, config.auth.access_token_ttl, lambda: open_keys(config.auth))


def new_token() -> str:
    """An opaque token of 256 random bits."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """What is kept of an opaque token. It is random, so a plain hash tells nothing and needs no salt."""
    return hashlib.sha256(token.encode()).hexdigest()


SIGNER = web.AppKey("signer", Signer)
