"""Tokens (JWT, RFC 7519) that the product's own identity providers have issued, ID tokens or access tokens."""

import base64
import time
from typing import Any, NamedTuple

import jwt
import orjson
from aiohttp import ClientSession, web
from cachetools import LRUCache

from referral.auth.issuer_keys import ALGORITHMS, IssuerKeys, IssuerUnavailable, Keys
from referral.auth.tokens import LEEWAY, VERIFIED_TOKENS, InvalidToken, hash_token
from referral.config.issuers import Issuer

__all__ = ["ISSUERS", "Claims", "InvalidToken", "IssuerUnavailable", "Issuers"]

# Characters. A token of more does not fit into a request's head beside anything else.
LONGEST_TOKEN = 8_192
# A user of the product is found by this text; OpenID Connect Core section 2 admits 255 of any other.
LONGEST_EXTERNAL_ID = 128
LONGEST_SUBJECT = 255
LONGEST_EMAIL = 254
LONGEST_NAME = 255
# 9999-12-31; later times can be neither written nor kept.
LATEST = 253_402_300_799

# RFC 8725 section 3.11, in lower case: an issuer also signs logout tokens and other statements by the same keys. Many give
# no type at all.
TYPES = ("jwt", "at+jwt", "application/at+jwt")
USABLE = frozenset(name for names in ALGORITHMS.values() for name in names)

_JWS = jwt.PyJWS()


class Claims(NamedTuple):
    """What counts of a token whose signature and claims are good. `is_external_id`: `subject` is what the product calls the
    user by. Times are in seconds; `email_verified` only with an `email`, of any form."""

    issuer: str
    subject: str
    is_external_id: bool
    email: str | None
    email_verified: bool
    name: str | None
    issued_at: int | None
    expires_at: int


class Issuers:
    """Verifies tokens of the configured issuers. Of several audiences that are listed for an issuer and that a token is for,
    the first one says whether its subject is an external id.

    A token that was verified is known for as long as it lives and its issuer's keys are the same: one whose key has left
    the issuer's set is refused as soon as that was fetched anew, after KEPT at most (`IssuerKeys`).
    """

    def __init__(self, issuers: tuple[Issuer, ...], session: ClientSession) -> None:
        self._audiences: dict[str, dict[str, bool]] = {}
        for entry in issuers:
            self._audiences.setdefault(entry.issuer, {})[entry.audience] = entry.subject_is_external_id
        self._keys = {entry.issuer: IssuerKeys(entry.issuer, entry.jwks_url, session) for entry in issuers}
        # With the keys by which each was verified.
        self._verified: LRUCache[str, tuple[Claims, Keys]] = LRUCache(VERIFIED_TOKENS)
        # Hashes of the tokens that have cost a fetch.
        self._asked_for: LRUCache[str, bool] = LRUCache(VERIFIED_TOKENS)

    def claims_issuer(self, token: str) -> bool:
        """Whether the token says, unverified, that one of the issuers made it."""
        if not self._keys or len(token) > LONGEST_TOKEN:
            return False
        try:
            payload = token.split(".")[1]
            claims = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        except (IndexError, ValueError):
            # ValueError: neither base64 nor JSON.
            return False
        return isinstance(claims, dict) and isinstance(claims.get("iss"), str) and claims["iss"] in self._keys

    def known(self, token: str) -> Claims | None:
        """The claims of a token that was verified before, if it is still good and no key has to be fetched for it."""
        claims = self._known(token)
        return claims if claims and self._keys[claims.issuer].are_fresh() else None

    async def verify(self, token: str) -> Claims:
        """What a token says. Raises InvalidToken; IssuerUnavailable when the issuer's keys cannot be had.

        No key is fetched for a token whose claims are wrong, and none a second time for one whose key the issuer did not
        have, though it is accepted when the key comes by another's fetch.
        """
        try:
            algorithm, key_id, claims = self._read(token)
        except (jwt.InvalidTokenError, UnicodeEncodeError) as error:
            # UnicodeEncodeError: bytes of the header that are no UTF-8 arrive as lone surrogates.
            raise InvalidToken(str(error)) from None
        keys = self._keys[claims.issuer]
        await keys.refresh()
        if known := self._known(token):
            return known
        if not keys.has(key_id):
            name = hash_token(token)
            if name not in self._asked_for and await keys.fetch_anew():
                self._asked_for[name] = True
        for key in keys.keys.get((key_id, algorithm), ()):
            try:
                _JWS.decode(token, key, [algorithm])
            except jwt.PyJWTError:
                continue
            self._verified[token] = claims, keys.keys
            return claims
        raise InvalidToken("signed by no key of the issuer")

    async def close(self) -> None:
        """Give up what is still being fetched."""
        for keys in self._keys.values():
            await keys.close()

    def _known(self, token: str) -> Claims | None:
        found = self._verified.get(token)
        if found is None:
            return None
        claims, keys = found
        good = keys is self._keys[claims.issuer].keys and claims.expires_at + LEEWAY > time.time()
        return claims if good else None

    def _read(self, token: str) -> tuple[str, str, Claims]:
        """The algorithm, the key's name and the claims, all of them checked, of a token whose signature is not. Raises
        InvalidToken, jwt.InvalidTokenError or UnicodeEncodeError."""
        if len(token) > LONGEST_TOKEN:
            raise InvalidToken("too long")
        parts = jwt.decode_complete(token, options={"verify_signature": False})
        header, claims = parts["header"], parts["payload"]
        algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", TYPES[0])
        # RFC 7515 section 4.1.11: what is critical has to be understood, and nothing is.
        if not isinstance(algorithm, str) or algorithm not in USABLE or not key_id or "crit" in header:
            raise InvalidToken("a header of no use")
        # RFC 8417 section 2.2: "events" makes it a statement about something else than who somebody is.
        if not isinstance(kind, str) or kind.lower() not in TYPES or "events" in claims:
            raise InvalidToken("another kind of token")
        issuer, subject = claims.get("iss"), claims.get("sub")
        audiences = self._audiences.get(issuer) if isinstance(issuer, str) else None
        if audiences is None:
            raise InvalidToken("of another issuer")
        # RFC 7519 section 4.1.3. `azp` says which client asked for the token, and does not matter to whom it is for.
        given = claims.get("aud")
        given = given if isinstance(given, list) else [given]
        is_external_id = next((external for audience, external in audiences.items() if audience in given), None)
        if is_external_id is None:
            raise InvalidToken("for another audience")
        if not _is_text(subject, LONGEST_EXTERNAL_ID if is_external_id else LONGEST_SUBJECT):
            raise InvalidToken("a subject of no use")
        _check_times(claims)
        email, name = claims.get("email"), claims.get("name")
        email = email if _is_text(email, LONGEST_EMAIL) else None
        name = name if _is_text(name, LONGEST_NAME) else None
        # Apple writes it as a text.
        verified = email is not None and (claims.get("email_verified") is True or claims.get("email_verified") == "true")
        found = Claims(issuer, subject, is_external_id, email, verified, name, claims.get("iat"), claims["exp"])
        return algorithm, key_id, found


def _is_text(value: Any, longest: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()


def _check_times(claims: dict[str, Any]) -> None:
    """Raises InvalidToken unless the times, of which only `exp` has to be there, are whole seconds, and good now."""
    for name in ("exp", "nbf", "iat"):
        if (name in claims or name == "exp") and not (type(claims.get(name)) is int and 0 <= claims[name] <= LATEST):
            raise InvalidToken(f"{name} is no time")
    now = time.time()
    if claims["exp"] + LEEWAY <= now:
        raise InvalidToken("expired")
    if max(claims.get("nbf", 0), claims.get("iat", 0)) > now + LEEWAY:
        raise InvalidToken("not good yet")


ISSUERS = web.AppKey("issuers", Issuers)
