"""Referrals: who came by whom."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp_apispec import docs, json_schema, querystring_schema, response_schema

from referral.auth.identity import IDENTITY, is_operator
from referral.config import CONFIG
from referral.contract.access import Access, allow
from referral.contract.paging import Key
from referral.contract.problems import Problem
from referral.contract.schemas.pages import ListQuerySchema, PageQuerySchema
from referral.contract.schemas.people import person
from referral.contract.schemas.referrals import (
    CodeUseSchema,
    ReferralPageSchema,
    ReferralSchema,
    ReferrerSetSchema,
    operators_referral_view,
    own_referral_view,
    referral_view,
)
from referral.database import Connection
from referral.handlers import API, USER_PATH
from referral.queries import referrals, users
from referral.queries.referrals import Referral
from referral.rules.named_user import named_user, no_such_user
from referral.rules.referring import come_by
from referral.rules.work import work_on
from referral.web.answers import answer
from referral.web.bodies import BODY
from referral.web.csv_answers import answer_list

routes = web.RouteTableDef()


@routes.post(f"{API}/users/me/referrer")
@allow(Access.USER)
@docs(
    tags=["Me"],
    operationId="setReferrer",
    summary="Use a code after registration",
    description="The caller comes by the code's owner from now on, and for good.",
    problems=("referrer-already-set", "referral-cycle", "known-address", "own-code", "referral-code-invalid"),
)
@json_schema(CodeUseSchema, example={"code": "8ZK4M2QA"})
@response_schema(ReferrerSetSchema, 201, description="By whom the caller came")
async def set_referrer(request: web.Request) -> web.Response:
    async with work_on(request) as work:
        used = await come_by(work, request[IDENTITY].user_id, request[BODY]["code"])
        await work.record("referrer-set", code=used.code, referrer_id=used.referrer_id)
        referrer = await referrals.find_referrer(work.conn, used.referrer_id)
    assert referrer is not None
    return answer({"referrer": person(referrer.id, referrer.username, referrer.name), "code": used.code}, 201)


@routes.get(f"{API}/users/me/referrals")
@allow(Access.USER)
@docs(
    tags=["Me"],
    operationId="listMyReferrals",
    summary="Who came by me",
    description="Newest first.",
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(PageQuerySchema)
@response_schema(ReferralPageSchema, 200, description="A page of referrals, with their addresses")
async def list_my_referrals(request: web.Request) -> web.StreamResponse:
    async def me(conn: Connection) -> str:
        return request[IDENTITY].user_id

    return await _list(request, me)


@routes.get(f"{USER_PATH}/referrals")
@allow(Access.USER_OR_READ)
@docs(
    tags=["Users"],
    operationId="listReferrals",
    summary="Who came by a user",
    description="Newest first. Addresses are shown to the user in question, to an admin and to a service key only. Where "
    "`privacy.referrals` is `own`, users see their own list alone.",
    problems=("not-found",),
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(ListQuerySchema)
@response_schema(ReferralPageSchema, 200, description="A page of referrals")
async def list_referrals(request: web.Request) -> web.StreamResponse:
    me = request.get(IDENTITY)

    async def whose(conn: Connection) -> str:
        user_id = await named_user(request, conn)
        is_own = me is not None and me.user_id == user_id
        if request.app[CONFIG].privacy.referrals == "own" and not (is_own or is_operator(request)):
            raise Problem("forbidden", "Everybody sees by themselves alone who came by them.")
        return user_id

    return await _list(request, whose)


async def _list(request: web.Request, whose: Callable[[Connection], Awaitable[str]]) -> web.StreamResponse:
    me = request.get(IDENTITY)
    is_own = False

    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[Referral], int]:
        nonlocal is_own
        user_id = await whose(conn)
        is_own = me is not None and me.user_id == user_id
        with_email = is_own or is_operator(request)
        found = await referrals.list_referrals(conn, user_id, before, limit, with_email=with_email)
        total = found[0].total if found else await users.find_referral_count(conn, user_id)
        if total is None:
            raise no_such_user()
        return found, total

    def view(referral: Referral) -> dict[str, Any]:
        if is_operator(request):
            return operators_referral_view(referral)
        return own_referral_view(referral) if is_own else referral_view(referral)

    return await answer_list(
        request,
        "referrals",
        ReferralSchema,
        read,
        key=lambda referral: (referral.joined_at, referral.user_id),
        view=view,
    )
