"""Time-based one-time passwords (RFC 6238), as authenticator apps make them, and the codes for whoever has lost the app."""

import hmac
import secrets

import pyotp

from referral.auth.tokens import hash_token
from referral.clock import SECOND

# Seconds of a time step.
STEP = 30
# Steps by which the clocks of a phone and of this machine may differ, in either direction.
TOLERANCE = 1
RECOVERY_CODES = 10
# Crockford's base32, which nobody misreads; 80 bits in four groups.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MISREAD = str.maketrans("OIL", "011", " -")
_LENGTH = 16


def new_secret() -> str:
    """A secret of 160 random bits, in base32."""
    return pyotp.random_base32()


def uri_of(secret: str, account: str, issuer: str) -> str:
    """What an authenticator app reads off a QR code."""
    return pyotp.TOTP(secret, interval=STEP).provisioning_uri(name=account, issuer_name=issuer)


def step_of(secret: str, code: str, moment: int) -> int | None:
    """The time step around this moment (ms) whose code this is; None for a wrong one."""
    given = "".join(code.split()).encode()
    now = moment // SECOND // STEP
    found = None
    totp = pyotp.TOTP(secret, interval=STEP)
    for step in range(now - TOLERANCE, now + TOLERANCE + 1):
        # Each is compared, however the others turn out.
        if hmac.compare_digest(totp.at(step * STEP).encode(), given):
            found = step
    return found


def new_recovery_codes() -> list[str]:
    """Random codes, as they are shown once: `7QK2-0R9T-…`."""
    texts = ("".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)) for _ in range(RECOVERY_CODES))
    return ["-".join(text[start : start + 4] for start in range(0, _LENGTH, 4)) for text in texts]


def recovery_hash(code: str) -> str | None:
    """What is kept of a recovery code, however it is typed; None for what cannot be one."""
    text = code.upper().translate(_MISREAD)
    return hash_token(text) if len(text) == _LENGTH and set(text) <= set(_ALPHABET) else None
