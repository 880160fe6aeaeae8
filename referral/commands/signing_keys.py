"""The keys of access tokens."""

import argparse

from referral.auth.signing_keys import rotate_keys
from referral.config import Config


def rotate_signing_keys(config: Config, arguments: argparse.Namespace) -> None:
    """Make a new key that signs access tokens; the one before is accepted until the next time. Raises ConfigError."""
    file = rotate_keys(config.auth)
    print(
        f"{file} is a new key. Restart the service or, with several workers, send it SIGHUP to take it up. "
        "Tokens of the key before stay valid until the next rotation."
    )
