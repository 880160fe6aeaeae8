"""Problems: how an error of the catalogue is raised, and what document answers it (RFC 9457)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
from aiohttp import web
from yarl import URL

from referral.config.public_url import PublicURL
from referral.contract.catalogue import CATALOGUE
from referral.database import ConstraintViolation

CONTENT_TYPE = "application/problem+json"
# Errors of one body that are listed at most.
MOST_ERRORS = 100


def type_of(name: str) -> str:
    """The `type` of a problem's document: the address of the page that explains it."""
    return f"/problems/{name}"


class Problem(Exception):
    """Raised anywhere below the error middleware, which answers with it.

    `members` are further members of the document, such as `errors` or `reason`. Raises KeyError for a name that is not
    in the catalogue.
    """

    def __init__(self, name: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(name, detail)
        self.kind = CATALOGUE[name]
        self.detail = detail
        self.headers = headers or {}
        self.members = members

    def response(self, request: web.BaseRequest, request_id: str, public: PublicURL) -> web.Response:
        """The problem document (RFC 9457), not to be kept by any cache.

        Its addresses are relative but have the full path, as section 3.1.1 wants it, so that a client resolves them whatever
        it calls this host.
        """
        return self.response_with(self.document(request, request_id, public), CONTENT_TYPE)

    def document(self, request: web.BaseRequest, request_id: str, public: PublicURL) -> dict[str, Any]:
        """The document alone, for an answer that has several."""
        return {
            "type": public.path(type_of(self.kind.name)),
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            # RFC 9457 wants a URI reference, which a decoded path is not.
            "instance": public.path(URL.build(path=request.path).raw_path),
            "request_id": request_id,
            **self.members,
        }

    def response_with(self, document: dict[str, Any], content_type: str) -> web.Response:
        """This document with the problem's status and headers, not to be kept by any cache."""
        response = web.Response(
            status=self.kind.status,
            body=orjson.dumps(document),
            headers={"Cache-Control": "no-store", **self.headers},
            content_type=content_type,
        )
        if "Connection" in self.headers:
            # aiohttp ignores the header: it would answer requests that the client takes for lost.
            response.force_close()
        return response


def invalid(pointer: str, detail: str) -> Problem:
    """A `validation-error` of one member; `pointer` is its JSON Pointer (RFC 6901)."""
    return invalid_members([(pointer, detail)])


def invalid_members(errors: list[tuple[str, str]]) -> Problem:
    """A `validation-error` of several members, each with its JSON Pointer."""
    first = f"{errors[0][0].removeprefix('/')}: {errors[0][1]}" if errors[0][0] else errors[0][1]
    more = f" And {len(errors) - 1} more, see errors." if len(errors) > 1 else ""
    # The answer to a body of nothing but unknown members must not be bigger than that body.
    told = [{"pointer": pointer, "detail": detail} for pointer, detail in errors[:MOST_ERRORS]]
    return Problem("validation-error", first + more, errors=told)


@contextmanager
def translated(violations: Mapping[str, Problem]) -> Iterator[None]:
    """Turn the violation of a rule of the schema into the problem it means to a client."""
    try:
        yield
    except ConstraintViolation as error:
        if error.constraint in violations:
            raise violations[error.constraint] from None
        raise
