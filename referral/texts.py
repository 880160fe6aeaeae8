"""The form in which texts are compared."""

import unicodedata


def key_of(text: str) -> str:
    """The form in which e-mail addresses and usernames are compared: without case, in any script."""
    # Before the case, too: many letter-like signs have no small form until they are the letter.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
