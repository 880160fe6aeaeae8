"""The public keys of identity providers: where they are found, how long they are used, and what an outage costs.

No issuer is trusted to be there, to be short, or to make sense. Whatever is no JWK Set (RFC 7517), in time and within
MAX_ANSWER, is an outage.
"""

import asyncio
import logging
import math
from collections.abc import Mapping
from time import monotonic
from typing import Any

import jwt
import orjson
from aiohttp import ClientError, ClientSession

from referral.config.issuers import is_safe_to_fetch

log = logging.getLogger(__name__)

# Seconds for which keys are used unasked, between two fetches, for which old keys are used while their issuer is out, and
# which a fetch may take.
KEPT = 600.0
PAUSE = 30.0
OUTAGE = 86_400.0
TIMEOUT = 5.0

# Bytes. A large issuer has ten keys with certificates, some 20 KB.
MAX_ANSWER = 65_536
CHUNK = 8_192

# The algorithms (RFC 7518 section 3.1, RFC 8037) that a key is good for, by its type and curve. None of them is symmetric.
ALGORITHMS = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256"),
    ("EC", "P-256"): ("ES256",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
LEAST_RSA_BITS = 2048

# The usable keys by name (`kid`) and algorithm, as a rule one of each.
Keys = Mapping[tuple[str, str], list[jwt.PyJWK]]


class IssuerUnavailable(Exception):
    """The keys of an issuer cannot be had, and there are none yet, or none that are younger than OUTAGE."""


class IssuerKeys:
    """The keys of one issuer, fetched when they are first needed, from `jwks_url` or where the issuer's metadata says.

    After KEPT they are fetched anew before they are used again: a key that has left the issuer's set is good for KEPT and
    the time of a fetch at most. An issuer that is out is asked again after PAUSE, and the old keys are used meanwhile, for
    OUTAGE. Nobody waits for it if the last answer failed less than KEPT ago, so that a key which left during the outage may
    be good for KEPT after its end.
    """

    def __init__(self, issuer: str, jwks_url: str, session: ClientSession) -> None:
        # Another object only if the keys are others.
        self.keys: Keys = {}
        self._ids: frozenset[str] = frozenset()
        self._body: bytes | None = None
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._session = session
        self._fetched_at = self._tried_at = -math.inf
        self._failed = False
        self._fetching: asyncio.Task[None] | None = None

    def are_fresh(self) -> bool:
        """Whether the keys may be used without `refresh`."""
        age = monotonic() - self._fetched_at
        return age < KEPT or (age < OUTAGE and not self._may_try())

    async def refresh(self) -> None:
        """Return when there are keys to use. Raises IssuerUnavailable."""
        if not self.are_fresh() and self._may_try():
            fetching = self._fetch()
            is_out = self._failed and monotonic() - self._tried_at < KEPT
            if not (is_out and self._are_usable()):
                await asyncio.shield(fetching)
        if not self._are_usable():
            raise IssuerUnavailable(self._issuer)

    def has(self, key_id: str) -> bool:
        """Whether the issuer has a key of this name, usable or not."""
        return key_id in self._ids

    async def fetch_anew(self) -> bool:
        """Fetch the keys, unless that was tried less than PAUSE ago. Whether the issuer has answered."""
        if not self._may_try():
            return False
        await asyncio.shield(self._fetch())
        return not self._failed

    async def close(self) -> None:
        """Give up a fetch."""
        if self._fetching:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _are_usable(self) -> bool:
        return monotonic() - self._fetched_at < OUTAGE

    def _may_try(self) -> bool:
        return monotonic() - self._tried_at >= PAUSE

    def _fetch(self) -> asyncio.Task[None]:
        """The one fetch for all who wait (single flight)."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch_keys())
        return self._fetching

    async def _fetch_keys(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                self._take(await self._get(self._jwks_url or await self._discovered()))
            self._failed, self._fetched_at = False, monotonic()
        except (ClientError, OSError, ValueError) as error:
            # OSError: TimeoutError, too. ValueError: also what is no JSON, and hosts that can have no address.
            self._failed = True
            log.warning("The keys of %s cannot be had: %s", self._issuer, str(error) or type(error).__name__)
        finally:
            self._tried_at = monotonic()
            self._fetching = None

    async def _discovered(self) -> str:
        # OpenID Connect Discovery section 4.1: a slash at the end is left out.
        document = orjson.loads(await self._get(f"{self._issuer.removesuffix('/')}/.well-known/openid-configuration"))
        if not isinstance(document, dict) or document.get("issuer") != self._issuer:
            # Section 4.3. It would let the keys of one issuer sign for another.
            raise ValueError("metadata of another issuer")
        url = document.get("jwks_uri")
        if not isinstance(url, str) or not is_safe_to_fetch(url):
            raise ValueError("metadata without an https jwks_uri")
        return url

    async def _get(self, url: str) -> bytes:
        # No compression, so that sizes are what they are.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            body = bytearray()
            async for chunk in response.content.iter_chunked(CHUNK):
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise ValueError(f"an answer of more than {MAX_ANSWER} bytes")
            return bytes(body)

    def _take(self, body: bytes) -> None:
        """Raises ValueError when it is no JWK Set."""
        # Compared as bytes: what is parsed may be too deep for it.
        if body == self._body:
            return
        document = orjson.loads(body)
        entries = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(entries, list):
            raise ValueError("no JWK Set")
        keys: dict[tuple[str, str], list[jwt.PyJWK]] = {}
        named = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("kid"), str)]
        for entry in named:
            for algorithm in _algorithms_of(entry):
                try:
                    key = jwt.PyJWK(entry, algorithm)
                except jwt.PyJWTError:
                    continue
                if entry["kty"] != "RSA" or key.key.key_size >= LEAST_RSA_BITS:
                    keys.setdefault((entry["kid"], algorithm), []).append(key)
        self.keys, self._ids, self._body = keys, frozenset(entry["kid"] for entry in named), body


def _algorithms_of(entry: dict[str, Any]) -> list[str]:
    """The algorithms that a JWK verifies by; none if it is not meant to verify."""
    operations = entry.get("key_ops")
    is_to_verify = operations is None or (isinstance(operations, list) and "verify" in operations)
    # One with "d" is a private key, which everybody knows.
    if entry.get("use") not in (None, "sig") or not is_to_verify or "d" in entry:
        return []
    return [
        name
        for (kind, curve), names in ALGORITHMS.items()
        if entry.get("kty") == kind and curve in (None, entry.get("crv"))
        for name in names
        if entry.get("alg") in (None, name)
    ]
