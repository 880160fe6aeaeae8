"""Which endpoints are of a kind of their own, and the operations of an OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support.people import API

# RFC 6749 and 7009 prescribe the shape of these calls' errors.
OAUTH = (f"{API}/auth/token", f"{API}/auth/revoke")
# What pages of the product call without any token.
PAGES_CALL = f"{API}/clicks"
# Forms in a browser, to which mailed links lead and which are answered with pages.
PAGES = ("/account/verify", "/account/reset", "/account/disown")


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(METHOD, path, operation) of everything documented."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation
