"""Errors of the OAuth 2.0 endpoints, whose shape RFC 6749 prescribes."""

import re
from typing import Any

from aiohttp import web

from referral.contract.problems import Problem

# RFC 6749 section 5.2: what an error_description cannot have.
UNSPEAKABLE = re.compile(r"[^ !#-\[\]-~]")
# The words for problems by their status; others are the request's own fault. Section 5.2 has none for a service that cannot
# answer now: these two are of section 4.1.2.1.
TEMPORARILY_UNAVAILABLE, SERVER_ERROR = "temporarily_unavailable", "server_error"
WORDS = {
    408: TEMPORARILY_UNAVAILABLE,
    429: TEMPORARILY_UNAVAILABLE,
    500: SERVER_ERROR,
    503: TEMPORARILY_UNAVAILABLE,
}


class OAuthError(Exception):
    """An error of the token endpoint, answered in the words of RFC 6749 section 5.2."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error)
        self.document = _document(error, description)


def word_for(status: int) -> str:
    """The `error` of a problem with this status."""
    return WORDS.get(status, "invalid_request")


def oauth_response(problem: Problem) -> web.Response:
    """The problem in the shape of RFC 6749: its status and headers, such as `Retry-After`, stay."""
    document = _document(word_for(problem.kind.status), problem.detail)
    return problem.response_with(document, "application/json")


def _document(error: str, description: str) -> dict[str, Any]:
    return {"error": error, "error_description": UNSPEAKABLE.sub("?", description)}
