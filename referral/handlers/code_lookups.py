"""Look-ups of active codes, by their text and by the referrer's e-mail: the busiest calls, which the cache answers.

Redis is asked for the code before anybody knows who calls, so that both share one round trip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from aiohttp import web
from aiohttp_apispec import docs, querystring_schema, response_schema

from referral.cache.codes import CODE_CACHE
from referral.clock import now
from referral.config import CONFIG
from referral.contract.access import Access, Limit, allow
from referral.contract.problems import Problem
from referral.contract.schemas.codes import ActiveCodeSchema, EmailQuerySchema, active_code_view
from referral.database import DATABASE
from referral.handlers import API, CODE_PATH
from referral.queries import codes
from referral.rules.codes import loading
from referral.texts import code_in, email_key
from referral.web.answers import answer
from referral.web.bodies import QUERY

if TYPE_CHECKING:
    from referral.cache.redis.client import Question

routes = web.RouteTableDef()

# The question that Redis was asked about the code that is looked up, and by what.
ASKED: web.RequestKey[tuple[str, Question | None]] = web.RequestKey("asked", tuple)
# A query that is asked for before it was checked, and how many characters it has at most.
BY_EMAIL, SHORT = "email=", 260


def _ask_by_email(request: web.Request) -> None:
    given = request.rel_url.raw_query_string
    # The query is parsed once, where it is checked. What is not so simple is asked for then.
    if given.startswith(BY_EMAIL) and len(given) <= SHORT and "&" not in given:
        key = unquote(given.removeprefix(BY_EMAIL)).lower()
        request[ASKED] = key, request.app[CODE_CACHE].ask_by_email(key)


@routes.get(f"{API}/codes/by-email")
@allow(Access.PUBLIC_LOOKUP, Limit.LOOKUP, ahead=_ask_by_email)
@docs(
    tags=["Codes"],
    operationId="findCodeByEmail",
    summary="Look a code up by its owner's e-mail",
    description="For whoever is signed in, and for anybody where `codes.public_lookup` is on.",
    problems=("not-found",),
)
@querystring_schema(EmailQuerySchema)
@response_schema(ActiveCodeSchema, 200, description="The owner's active code")
async def find_code_by_email(request: web.Request) -> web.Response:
    app, key = request.app, email_key(request[QUERY]["email"])

    async def load() -> codes.ActiveCode | None:
        async with app[DATABASE].reader() as conn:
            return await codes.find_active_code_by_email(conn, key, now(), limited=app[CONFIG].limits_unverified)

    active = await app[CODE_CACHE].by_email(key, load, _asked(request, key))
    if active is None:
        raise Problem("not-found", "Nobody with this e-mail address has an active code.")
    return answer(active_code_view(active))


def _ask_by_code(request: web.Request) -> None:
    text = code_in(request.match_info["code"])
    if text is not None:
        request[ASKED] = text, request.app[CODE_CACHE].ask_by_code(text)


def _asked(request: web.Request, key: str) -> Question | None:
    """The question that was asked ahead by this very key."""
    asked_by, question = request.get(ASKED, (None, None))
    return question if asked_by == key else None


@routes.get(CODE_PATH)
@allow(Access.ANYBODY, Limit.LOOKUP, ahead=_ask_by_code)
@docs(
    tags=["Codes"],
    operationId="getCode",
    summary="Look a code up",
    description="Codes compare without case, O is taken for 0, and I and L for 1.",
    problems=("not-found",),
)
@response_schema(ActiveCodeSchema, 200, description="The active code")
async def get_code(request: web.Request) -> web.Response:
    text = code_in(request.match_info["code"])
    if text is None:
        raise Problem("not-found", "There is no such code.")
    active = await request.app[CODE_CACHE].by_code(text, loading(request.app, text), _asked(request, text))
    if active is None:
        raise Problem("not-found", "There is no such active code.")
    return answer(active_code_view(active))
