"""The forms in which texts are compared, and what is taken from texts of others."""

import re
import unicodedata

import idna

# An @ as it is written in texts, in URLs, in xtext and quoted-printable, and in source. The shortest two may be part of a
# number, and so want a domain after them.
_AT = (
    r"(?:[@\uff20\ufe6b]|%(?:25)*40|%EF%BC%A0|&#0*64;|&#x0*40;|&commat;|\\u0040|\\x40|"
    r"[=+]40(?=[\w=-]{1,63}\.[^\W\d]))"
)
# Whatever an address is set apart by does not belong to it. A local part may be in quotation marks, a domain in brackets.
_OF_ADDRESS = r'[^\s<>()\[\]{},;"]'
_QUOTED = r'(?:"(?:[^"\\]|\\.){1,64}"|\\"[^"\\]{1,64}\\")'
_ADDRESS = re.compile(
    rf"(?:{_QUOTED}|(?<!{_OF_ADDRESS}){_OF_ADDRESS}+?)?[ \t]{{0,2}}{_AT}[ \t]{{0,2}}(?:\[[^\]\s]*\]|{_OF_ADDRESS}*)",
    re.IGNORECASE,
)


def key_of(text: str) -> str:
    """The form in which usernames and passwords are compared: without case and without look-alike forms, in any script."""
    # Before the case, too: many letter-like signs have no small form until they are the letter.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


# Characters of a folded name that are compared: of some single characters the form without look-alikes has 18.
LONGEST_NAME_KEY = 200


def name_key(name: str) -> str:
    """The form in which names are looked for, by their beginnings."""
    return key_of(name)[:LONGEST_NAME_KEY]


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


def optional_email_key(address: str | None) -> str | None:
    """As `email_key`; None for no address."""
    return None if address is None else email_key(address)


# What an id of the product's begins with where it stands for a user of ours.
EXTERNAL = "ext:"
# Characters of an id that a product gives to a user or an event.
LONGEST_EXTERNAL_ID = 128


def is_external_id(text: str) -> bool:
    """Whether a product may call a user or an event so: 1 to 128 printable characters of any script."""
    return 1 <= len(text) <= LONGEST_EXTERNAL_ID and text.isprintable()


_CODE = re.compile(r"[A-Z0-9_-]{4,32}")


def code_in(text: str) -> str | None:
    """The code that a text is, in upper case; None for what cannot be one."""
    # ASCII is checked first: upper() would make "SS" of "ß", and so another code.
    if not text.isascii() or not _CODE.fullmatch(text.upper()):
        return None
    return text.upper()


_MISREAD = str.maketrans("OIL", "011")


def fold_code(code: str) -> str:
    """The form in which codes are compared: in upper case, and folded as Crockford's base32 is decoded, O as 0, I and L
    as 1. A hyphen counts. `codes_code_key_folded` in the schema is the same rule."""
    return code.upper().translate(_MISREAD)


def without_addresses(text: str) -> str:
    """The text with `[address]` for whatever looks like an e-mail address, however it is written: what a server, a vendor or
    an exception says may quote one in another spelling than ours. It takes away rather too much. Its time grows with the
    length alone."""
    return _ADDRESS.sub("[address]", text)


def mask(address: str) -> str:
    """`a***@example.com`: enough to recognise an address one knows."""
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}"
