"""Errors of the OAuth 2.0 endpoints, whose shape RFC 6749 prescribes."""

import re
from typing import Any

# RFC 6749 section 5.2: what an error_description cannot have.
UNSPEAKABLE = re.compile(r"[^ !#-\[\]-~]")


class OAuthError(Exception):
    """An error of the token endpoint, answered in the words of RFC 6749 section 5.2."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error)
        self.document: dict[str, Any] = {"error": error, "error_description": UNSPEAKABLE.sub("?", description)}
