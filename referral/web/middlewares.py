"""Around every handler: request id, log and metrics; problems; authentication, limits and validation."""

import logging
import re
import time
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler

from referral.auth.fair_queue import Overloaded
from referral.auth.identity import callers_of
from referral.auth.service_keys import holds_key
from referral.config import CONFIG
from referral.config.public_url import PUBLIC_URL
from referral.contract.access import OAUTH_PATHS, UNROUTED, Declaration, Errors, declaration_of
from referral.contract.catalogue import BY_STATUS
from referral.contract.oauth import OAuthError, oauth_response
from referral.contract.problems import Problem
from referral.database import ConnectionLost, DatabaseUnavailable, TransactionConflict
from referral.database.retries import RETRIES, Retries
from referral.ids import OWN_REQUEST_ID, REQUEST_ID, new_id
from referral.limits import ADDRESS, LIMITER, PROXIES, client_address
from referral.log import LOG_REQUEST, REQUESTS
from referral.metrics import METRICS
from referral.web.admin_pages import error_page, is_page
from referral.web.admin_sessions import prepare_page
from referral.web.answers import NO_STORE, answer
from referral.web.bodies import BODY, QUERY, load, load_query, read_json, refuse_unreadable, too_large
from referral.web.callers import check_page, identify, refuse_secrets_in_address

log = logging.getLogger(REQUESTS)
errors = logging.getLogger("referral.errors")

# A request id that does no harm in any program's log.
SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
# RFC 3986 section 3.2.2: a name or an address, and a port. RFC 9112 section 3.2 requires that all else is refused.
HOST = re.compile(r"([A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-fv:.]+\])(:\d*)?")
# The label of requests that match no route. Their paths are no labels: anybody could make them, and labels stay for ever.
NO_ROUTE = "(none)"
METHODS = frozenset(("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"))
# Seconds after which a client should try again: a database that restarts, a queue of passwords that drains.
RETRY_AFTER = "2"


def meeting_expectations(route: web.AbstractRouteDef) -> web.RouteDef:
    """The route with `Expect` (RFC 9110 section 10.1.1) answered by a problem where aiohttp's own handler knows none."""
    assert isinstance(route, web.RouteDef)
    return web.RouteDef(route.method, route.path, route.handler, {**route.kwargs, "expect_handler": _meet_expectation})


async def _meet_expectation(request: web.Request) -> web.StreamResponse | None:
    if request.headers["Expect"].lower() == "100-continue":
        try:
            refuse_unreadable(request)
        except Problem:
            # The middleware answers with it. Whoever is told to go on would send what nobody reads.
            return None
        if request.version >= HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # aiohttp takes this for the beginning of the answer.
            request.writer.output_size = 0
        return None
    request[REQUEST_ID] = new_id()
    problem = Problem("expectation-failed", "Expect can only be 100-continue.", headers={"Connection": "close"})
    return _response(request, problem)


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, count it, time it and log it."""
    app, given = request.app, request.headers.get("X-Request-ID")
    own_id = request[OWN_REQUEST_ID] = new_id()
    is_sane = given and SANE_REQUEST_ID.fullmatch(given) and not holds_key(given)
    request_id = request[REQUEST_ID] = given if given and is_sane else own_id
    request[ADDRESS] = client_address(request, app[PROXIES])
    metrics = app[METRICS]
    started = time.perf_counter()
    status = 499  # the client hung up, as nginx counts it
    metrics.began()
    try:
        response = await handler(request)
        status = response.status
        return response
    finally:
        ended = time.perf_counter()
        seconds = ended - started
        resource = request.match_info.route.resource
        route = NO_ROUTE if resource is None else resource.canonical
        method = request.method if request.method in METHODS else "(other)"
        metrics.answered(method, route, status, seconds)
        log_request = app[LOG_REQUEST]
        if log_request:
            # Looking for an identity that is missing costs an exception, which takes longer than everything else here.
            says_who = "Authorization" in request.headers or "Cookie" in request.headers
            identity, key = callers_of(request) if says_who else (None, None)
            user_id, key_id = identity.user_id if identity else None, key.id if key else None
            kept_as = None if request_id is own_id else own_id
            log_request((ended, method, route, status, seconds, request_id, user_id, key_id, kept_as))


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer whatever goes wrong below in the shape that the route declares. What nobody foresaw is logged and masked."""
    try:
        if not _names_host(request.headers.get("Host", "")):
            raise Problem("bad-request", "The header Host names no host.", headers={"Connection": "close"})
        refuse_unreadable(request)
        return await handler(request)
    except OAuthError as error:
        return answer(error.document, 400, NO_STORE)
    except Problem as problem:
        found = problem
    except web.HTTPRequestEntityTooLarge:
        found = too_large()
    except web.HTTPException as error:
        if error.status < 400:
            raise
        found = _of_aiohttp(error)
    except DatabaseUnavailable as error:
        errors.error("database unavailable: %s", error, extra={"request_id": request[REQUEST_ID]})
        # The database was there, when what undid this request was another one, again and again.
        headers = {"Retry-After": RETRY_AFTER}
        if isinstance(error, TransactionConflict) and not isinstance(error, ConnectionLost):
            found = Problem(
                "conflict", "Others change the same at once, again and again. Nothing was done.", headers=headers
            )
        else:
            found = Problem("unavailable", "The database cannot be used at the moment.", headers=headers)
    except Overloaded:
        found = Problem("overloaded", "Too many passwords are being checked.", headers={"Retry-After": RETRY_AFTER})
    except Exception:
        errors.exception("unforeseen error", extra={"request_id": request[REQUEST_ID]})
        found = Problem("internal-error", "The service failed; the fault was logged under this request's id.")
    return _response(request, found)


def _response(request: web.Request, problem: Problem) -> web.Response:
    """The problem in the shape that the path's route declares."""
    # As the router compares paths.
    path = request.rel_url.path_safe
    if path in request.app[OAUTH_PATHS]:
        return oauth_response(problem)
    if is_page(path):
        return error_page(request, problem)
    return problem.response(request, request[REQUEST_ID], request.app[PUBLIC_URL])


@lru_cache(maxsize=100)  # Most requests name the same one.
def _names_host(value: str) -> bool:
    return HOST.fullmatch(value) is not None


def _of_aiohttp(error: web.HTTPException) -> Problem:
    if error.status == 404:
        return Problem("not-found", "There is nothing at this address.")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Problem(
            "method-not-allowed", f"This address answers {allowed} only.", headers={"Allow": error.headers["Allow"]}
        )
    return Problem(BY_STATUS.get(error.status, "bad-request"), f"{error.reason}.")


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be seen to before a handler is called."""

    declared: Declaration
    limits: tuple[str, str] | None
    schemas: tuple[dict[str, Any], ...]


@cache
def needs_of(handler: Any) -> Needs:
    """The needs of a handler, read off its decorators once. Raises UndeclaredAccess."""
    return _needs(declaration_of(handler), tuple(getattr(handler, "__schemas__", ())))


def _needs(declared: Declaration, schemas: tuple[dict[str, Any], ...] = ()) -> Needs:
    return Needs(declared, declared.limit.settings, schemas)


NEEDS_OF_NO_ROUTE = _needs(UNROUTED)


@web.middleware
async def prepare(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Authenticate, limit and validate as the handler declares it, and call the handler.

    This is one middleware for all four, because each further middleware costs every request as much as a look-up in the
    cache. If another transaction, or the loss of a connection, undid the request's transaction, the request is made again:
    everything it did was rolled back, and the request keeps the body that was read.
    """
    retries = request[RETRIES] = Retries()
    while True:
        try:
            return await _prepared(request, handler)
        except TransactionConflict as conflict:
            log.info("attempt %d: %s", retries.attempt, conflict, extra={"request_id": request[REQUEST_ID]})
            if not await retries.pause():
                raise


async def _prepared(request: web.Request, handler: Handler) -> web.StreamResponse:
    app, match = request.app, request.match_info
    refuse_secrets_in_address(request)
    needs = needs_of(match.handler) if match.http_exception is None else NEEDS_OF_NO_ROUTE
    if needs.declared.ahead is not None:
        needs.declared.ahead(request)
    is_for_pages = needs.declared.access.admits_pages
    if needs.declared.errors is Errors.HTML:
        await prepare_page(request, needs.declared, needs.limits)
    elif needs.declared.wants_identity(app[CONFIG]) or (is_for_pages and "Authorization" in request.headers):
        await identify(request, needs.declared, needs.limits[0] if needs.limits else None)
    elif needs.limits:
        await app[LIMITER].hit(needs.limits[1], request[ADDRESS])
        if is_for_pages:
            check_page(request)
    for described in needs.schemas:
        # aiohttp-apispec's own middleware would do this through webargs: that costs a look-up half of its rate, knows
        # neither 415 nor JSON Pointers, and leaves its results under untyped keys.
        if described["location"] == "json":
            is_left_out = getattr(described["schema"], "is_optional", False) and not request.body_exists
            request[BODY] = load(described["schema"], {} if is_left_out else await read_json(request))
        else:
            request[QUERY] = load_query(described["schema"], request.rel_url.raw_query_string)
    return await handler(request)
