"""The forms in which texts are compared."""

import unicodedata

import idna


def key_of(text: str) -> str:
    """The form in which usernames and passwords are compared: without case and without look-alike forms, in any script."""
    # Before the case, too: many letter-like signs have no small form until they are the letter.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def email_key(address: str) -> str:
    """The form in which addresses are compared, of one in its normal form (`contract/schemas/fields.py`): the local part in
    lower case, the domain as its A-label (RFC 5890), which is where mail goes.

    Nothing else is folded. What mail tells apart, such as the domains straße.de and strasse.de, would be one account, and
    whoever came first would hold the address of the other. Raises ValueError for a domain that is none.
    """
    local, _, domain = address.rpartition("@")
    if not domain.isascii():
        domain = idna.encode(domain).decode()
    return f"{unicodedata.normalize('NFC', local.lower())}@{domain.lower()}"


_MISREAD = str.maketrans("OIL", "011")


def fold_code(code: str) -> str:
    """The form in which codes are compared: in upper case, and folded as Crockford's base32 is decoded, O as 0, I and L
    as 1. A hyphen counts. `codes_code_key_folded` in the schema is the same rule."""
    return code.upper().translate(_MISREAD)
