"""The text of service keys: random characters, and a checksum by which a mistyped one is refused without a look-up."""

import re
import secrets
import string
import zlib

# Programs that look for secrets in code and logs know a key by its beginning.
PREFIX = "rsk_"
ALPHABET = string.digits + string.ascii_letters
# 62^43 is more than 2^256.
RANDOM, CHECKSUM = 43, 6
SHAPE = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{RANDOM + CHECKSUM}}}")
# What has as much of a key as nobody writes by chance; a cursor of a page may well have the prefix in it.
_MOST_OF_ONE = re.compile(rf"{PREFIX}[0-9A-Za-z]{{20}}")


def new_key() -> str:
    """A key that nobody can guess."""
    secret = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM))
    return secret + _checksum(secret)


def is_whole(text: str) -> bool:
    """Whether this can be a key: it has the length of one, and its checksum is right."""
    return SHAPE.fullmatch(text) is not None and text[-CHECKSUM:] == _checksum(text[:-CHECKSUM])


def holds_key(text: str) -> bool:
    """Whether a text has a key in it, or most of one."""
    return PREFIX in text and _MOST_OF_ONE.search(text) is not None


def _checksum(text: str) -> str:
    """The CRC-32 of the text in base 62."""
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(CHECKSUM):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
